select
    t.name, null, jsonb_build_object('parts', t.parts),
    'create type ' || t.name || ' as ' || case t.typtype when 'e' then 'enum ' else '' end || '(' || t.parts || ')', true
from (
    select
        y.oid, y.oid::regtype::text as name, y.typtype,
        case y.typtype
            when 'e' then (
                select string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
                from pg_enum as e where e.enumtypid = y.oid
            )
            else (
                select string_agg(quote_ident(c.attname) || ' ' || c.type, ', ' order by c.attnum)
                from columns as c where c.attrelid = y.typrelid
            )
        end as parts
    from pg_type as y left join pg_class as r on r.oid = y.typrelid
    where y.typnamespace = to_regnamespace('clerk_sync')
    and (y.typtype = 'e' or (y.typtype = 'c' and r.relkind = 'c'))
) as t
order by t.oid
