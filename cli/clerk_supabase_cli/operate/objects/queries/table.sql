select
    r.name, null,
    jsonb_build_object(
        'row-level security', case when r.relrowsecurity then 'on' else 'off' end,
        'row-level security for the owner', case when r.relforcerowsecurity then 'on' else 'off' end,
        'written to the log', case r.relpersistence when 'p' then 'yes' else 'no' end,
        'owner', (select o.name from owners as o where o.oid = r.relowner)
    ),
    'create table ' || r.name || ' ('
    || (select string_agg(d.definition, ', ' order by d.attnum) from definitions as d where d.attrelid = r.oid) || ')'
    || coalesce(' with (' || array_to_string(r.reloptions, ', ') || ')', ''), true
from relations as r where r.relkind in ('r', 'p') order by r.oid
