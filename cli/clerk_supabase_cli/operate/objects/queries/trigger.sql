select
    quote_ident(t.tgname) || ' on ' || r.name, 'table ' || r.name,
    jsonb_build_object(
        'definition', pg_get_triggerdef(t.oid), 'enabled', case when t.tgenabled in ('O', 'A') then 'yes' else 'no' end
    ),
    regexp_replace(pg_get_triggerdef(t.oid), '^CREATE ', 'CREATE OR REPLACE '),
    f.pronamespace = to_regnamespace('clerk_sync')
from pg_trigger as t
inner join relations as r on r.oid = t.tgrelid
inner join pg_proc as f on f.oid = t.tgfoid
where not t.tgisinternal order by t.oid
