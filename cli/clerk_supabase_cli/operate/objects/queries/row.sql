select
    'kind ' || k.kind, 'table clerk_sync.kinds', to_jsonb(k) - 'kind',
    format(
        'insert into clerk_sync.kinds select (jsonb_populate_record(null::clerk_sync.kinds, %%L)).* '
        'on conflict (kind) do update set %%s', to_jsonb(k)::text,
        (
            select string_agg(format('%%1$I = excluded.%%1$I', name), ', ' order by name)
            from jsonb_object_keys(to_jsonb(k) - 'kind') as name
        )
    ), true
from clerk_sync.kinds as k order by k.write_order
