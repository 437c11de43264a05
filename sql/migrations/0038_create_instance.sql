-- One Clerk instance for each database: events of another instance are counted, and never applied. An operator moves
-- the database to another instance by `clerk-supabase switch-instance`, which archives the rows of the old instance.

alter table clerk_sync.instance add column first_run bigint not null default 0;

comment on table clerk_sync.instance is
'The Clerk instance that this database mirrors: that of the first event, of the first run, or of a switch. No row: none '
'of the three was there yet.';
comment on column clerk_sync.instance.first_run is
'Comparisons with a smaller number read the instance before a switch: their repairs are not applied.';

create table clerk_sync.wrong_instances (
    instance_id text collate "C" primary key,
    events bigint not null,
    first_at timestamptz not null default clock_timestamp(),
    last_at timestamptz not null default clock_timestamp(),
    last_svix_id text not null
);

comment on table clerk_sync.wrong_instances is
'Events of Clerk instances that this database does not mirror, by instance: counted, and neither applied nor parked. '
'After 100 instances, all others count as one, without an id.';

alter table clerk_sync.wrong_instances enable row level security;

-- The mirrored instance. Without one, the first instance of a batch becomes the mirrored instance. The lock on the table,
-- which a select takes, lasts until the end of the transaction: so a switch waits for each batch that asked before.
create function clerk_sync.mirrored_instance(origins jsonb)
returns clerk_sync.instance
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    mirrored clerk_sync.instance;
begin
    select i.* into mirrored from clerk_sync.instance as i;
    if mirrored.instance_id is null and origins ? 'instances' then
        insert into clerk_sync.instance (instance_id)
        select o.key from jsonb_each(origins -> 'instances') as o order by (o.value ->> 0)::integer limit 1
        on conflict do nothing;
        select i.* into mirrored from clerk_sync.instance as i;
    end if;
    return mirrored;
end
$$;

-- The places of a batch with changes that another instance than the mirrored one told.
create function clerk_sync.wrong_places(origins jsonb, mirrored clerk_sync.instance)
returns integer[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select place::integer
        from (
            select o.value from jsonb_each(origins -> 'instances') as o where o.key <> mirrored.instance_id
            union all
            -- A resync, run 0, asks the database for the instance itself.
            select o.value from jsonb_each(origins -> 'runs') as o
            where o.key::bigint > 0 and o.key::bigint < mirrored.first_run
        ) as wrong (places)
        cross join lateral jsonb_array_elements_text(wrong.places) as place
    );
end
$$;

-- Counts the events of a batch at these places, by instance. A repair of an old run is no event.
create function clerk_sync.count_wrong_events(batch jsonb, origins jsonb, places integer[])
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into clerk_sync.wrong_instances as known (instance_id, events, last_svix_id)
    select named.id, count(*), max(batch -> place::integer ->> 'svix_id')
    from jsonb_each(origins -> 'instances') as o
    cross join lateral jsonb_array_elements_text(o.value) as place
    cross join lateral (
        select case
            when (select count(*) from clerk_sync.wrong_instances) < 100
                or exists (select from clerk_sync.wrong_instances as w where w.instance_id = o.key collate "C")
                then o.key
            else ''
        end as id
    ) as named
    -- Only the main change of an event has a type.
    where place::integer = any(places) and batch -> place::integer ? 'event_type'
    group by named.id
    order by named.id collate "C"
    on conflict (instance_id) do update set
        events = known.events + excluded.events, last_at = excluded.last_at, last_svix_id = excluded.last_svix_id
$$;

-- Applies a batch as apply() does, but for changes of another Clerk instance: their outcome is 'wrong_instance', and
-- nothing of them is written but their number. origins: {"instances": {"ins_...": [place, ...]}, "runs": {"12": [place,
-- ...]}}, the places in the batch by the instance that sent an event, or by the run that made a repair; a change without
-- an origin is applied. records: whether elements name fields that were left out: see record_dropped().
create function clerk_sync.apply_from(batch jsonb, origins jsonb, records boolean default false)
returns table ("position" integer, outcome text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    wrong constant integer[] := clerk_sync.wrong_places(origins, clerk_sync.mirrored_instance(origins));
    own integer[];
    kept jsonb := batch;
begin
    if wrong <> '{}' then
        own := array(select n from generate_series(0, jsonb_array_length(batch) - 1) as n where n <> all(wrong));
        kept := (select coalesce(jsonb_agg(batch -> n order by n), '[]') from unnest(own) as n);
    end if;
    if records then
        perform clerk_sync.record_dropped(kept);
    end if;
    return query select coalesce(own[a."position" + 1], a."position"), a.outcome from clerk_sync.apply(kept) as a;
    if wrong <> '{}' then
        -- Last, because every batch with such events writes the same row.
        perform clerk_sync.count_wrong_events(batch, origins, wrong);
        return query select w, 'wrong_instance' from unnest(wrong) as w;
    end if;
end
$$;

select clerk_sync.revoke_default_rights();
grant execute on function clerk_sync.apply_from(jsonb, jsonb, boolean) to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0038_create_instance');
