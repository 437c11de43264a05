select
    r.nspname || '.' || quote_ident(i.relname), 'table ' || r.name,
    jsonb_build_object(
        'definition', pg_get_indexdef(x.indexrelid),
        'valid', case when x.indisvalid and x.indisready then 'yes' else 'no' end
    ),
    pg_get_indexdef(x.indexrelid), true
from pg_index as x inner join pg_class as i on i.oid = x.indexrelid inner join relations as r on r.oid = x.indrelid
where not exists (select from pg_constraint as k where k.conindid = x.indexrelid and k.conrelid = x.indrelid)
and r.relkind in ('r', 'p')
order by i.oid
