select
    f.name, null,
    jsonb_build_object(
        'arguments', pg_get_function_arguments(f.oid), 'result', coalesce(pg_get_function_result(f.oid), 'none'),
        'language', (select l.lanname from pg_language as l where l.oid = f.prolang),
        'body', coalesce(pg_get_function_sqlbody(f.oid), replace(f.prosrc, e'\r', '')),
        'runs as', case when f.prosecdef then 'its owner' else 'the caller' end,
        'settings', coalesce(array_to_string(f.proconfig, '; '), 'none'),
        'volatility', case f.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
        'parallel', case f.proparallel when 's' then 'safe' when 'r' then 'restricted' else 'unsafe' end,
        'strict', case when f.proisstrict then 'yes' else 'no' end,
        'owner', (select o.name from owners as o where o.oid = f.proowner)
    ),
    case when f.prokind = 'f' then pg_get_functiondef(f.oid) end, true
from functions as f order by f.oid
