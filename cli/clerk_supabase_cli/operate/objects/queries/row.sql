select
    'kind ' || k.kind, 'table clerk_sync.kinds', to_jsonb(k) - 'kind',
    format(
        'insert into clerk_sync.kinds select (jsonb_populate_record(null::clerk_sync.kinds, %%L)).* '
        'on conflict (kind) do update set write_order = excluded.write_order, relation = excluded.relation, '
        'key_column = excluded.key_column, mirrored_columns = excluded.mirrored_columns, '
        'parents = excluded.parents', to_jsonb(k)::text
    ), true
from clerk_sync.kinds as k order by k.write_order
