select
    r.name || '.' || quote_ident(c.attname), 'table ' || r.name,
    jsonb_build_object(
        'type', c.type, 'not null', case when c.attnotnull then 'yes' else 'no' end,
        'default', coalesce(c.default_value, 'none'), 'generated', coalesce(c.generated, 'no')
    ),
    'alter table ' || r.name || ' add column ' || d.definition, true
from columns as c
inner join definitions as d on d.attrelid = c.attrelid and d.attnum = c.attnum
inner join relations as r on r.oid = c.attrelid
where r.relkind in ('r', 'p') order by r.oid, c.attnum
