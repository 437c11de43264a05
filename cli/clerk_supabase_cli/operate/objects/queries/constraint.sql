select
    quote_ident(k.conname) || ' of ' || r.name, 'table ' || r.name,
    jsonb_build_object(
        'definition', pg_get_constraintdef(k.oid),
        'enforced', case when exists (
            select from pg_trigger as t where t.tgconstraint = k.oid and t.tgenabled not in ('O', 'A')
        ) then 'no' else 'yes' end
    ),
    format('alter table %%s add constraint %%I %%s', r.name, k.conname, pg_get_constraintdef(k.oid)),
    r.nspname = 'clerk_sync' or k.confrelid in (select o.oid from relations as o)
from pg_constraint as k inner join relations as r on r.oid = k.conrelid
where k.contype in ('p', 'u', 'c', 'f', 'x') order by k.oid
