select
    r.name, null,
    jsonb_build_object(
        'definition', pg_get_viewdef(r.oid), 'options', coalesce(array_to_string(r.reloptions, ', '), 'none'),
        'owner', (select o.name from owners as o where o.oid = r.relowner)
    ),
    'create or replace view ' || r.name || coalesce(' with (' || array_to_string(r.reloptions, ', ') || ')', '')
    || ' as ' || rtrim(pg_get_viewdef(r.oid), ';'), true
from relations as r where r.relkind = 'v' order by r.oid
