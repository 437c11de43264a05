select
    g.role || ' on ' || t.target, min(t.name),
    jsonb_object_agg(
        lower((t.given).privilege_type) || t.of_column,
        case when (t.given).is_grantable then 'granted with grant option' else 'granted' end
    ),
    format('grant {} on %%s to %%s;revoke {} on %%1$s from %%2$s', t.target, g.role), true
from (
    select 'schema ' || n.nspname as name, 'schema ' || n.nspname as target, '' as of_column,
        aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as given
    from pg_namespace as n where n.nspname in (%(mirror)s, 'clerk_sync')
    union all
    select 'function ' || f.name, 'function ' || f.name, '',
        aclexplode(coalesce(f.proacl, acldefault('f', f.proowner)))
    from functions as f where f.prokind = 'f'
    union all
    select case r.relkind when 'v' then 'view ' else 'table ' end || r.name, 'table ' || r.name, '',
        aclexplode(coalesce(r.relacl, acldefault('r', r.relowner)))
    from relations as r where r.relkind in ('r', 'p', 'v')
    union all
    select case r.relkind when 'v' then 'view ' else 'table ' end || r.name, 'table ' || r.name,
        ' (' || quote_ident(c.attname) || ')', aclexplode(c.attacl)
    from columns as c inner join relations as r on r.oid = c.attrelid
    where c.attacl is not null and r.relkind in ('r', 'p', 'v')
    union all
    select 'table ' || r.name, 'sequence ' || s.oid::regclass::text, '',
        aclexplode(coalesce(s.relacl, acldefault('s', s.relowner)))
    from relations as r
    inner join pg_depend as d on d.refobjid = r.oid and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
    inner join pg_class as s on s.oid = d.objid and d.classid = 'pg_class'::regclass and s.relkind = 'S'
    union all
    -- Not the row types of tables: pg_dump does not carry over the rights on these.
    select
        'type ' || t.oid::regtype::text, 'type ' || t.oid::regtype::text, '',
        aclexplode(coalesce(t.typacl, acldefault('T', t.typowner)))
    from pg_type as t left join pg_class as r on r.oid = t.typrelid
    where t.typnamespace = to_regnamespace('clerk_sync') and (t.typtype = 'e' or r.relkind = 'c')
) as t
left join pg_roles as r on r.oid = (t.given).grantee
cross join lateral (select case when (t.given).grantee = 0 then 'public' else r.rolname end) as g (role)
where g.role = 'public' or g.role = any(%(roles)s)
group by t.target, g.role order by t.target, g.role
