-- The canary: an event of our own that passes through every part like any other event and changes nothing, so that an
-- operator can see its arrival.

-- {svix_id, occurred_at, received_at} (milliseconds) -> whether the canary is new. Nothing else is kept of a canary: no
-- user, no tombstone and no version. Security definer: the worker role reads and writes no table.
create function clerk_sync.record_canary(request jsonb)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
    with recorded as (
        insert into clerk_sync.deliveries (occurred_at, received_at, svix_id, event_type, entity_id, outcome)
        values (
            to_timestamp(clerk_sync.past_moment(request, 'occurred_at') / 1000.0),
            to_timestamp(clerk_sync.past_moment(request, 'received_at') / 1000.0),
            request ->> 'svix_id', 'clerk-supabase.canary', 'canary', 'unchanged'
        )
        on conflict do nothing
        returning svix_id
    )

    select to_jsonb(exists (select from recorded))
$$;

select clerk_sync.revoke_default_rights();
grant execute on function clerk_sync.record_canary(jsonb) to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0022_create_canary');
