-- Events that could not be applied: an operator looks at an event, fixes the cause, and replays or discards the event.
-- And the fields of applied events that could not be stored.

create table clerk_sync.parked_events (
    parked_id bigint generated always as identity primary key,
    svix_id text collate "C" not null unique,
    event_type text,
    entity_id text collate "C",
    user_id text collate "C",
    reason_class text not null,
    reason text not null,
    first_reason text not null,
    attempts integer not null,
    received_at timestamptz not null,
    first_parked_at timestamptz not null default clock_timestamp(),
    last_parked_at timestamptz not null default clock_timestamp(),
    replayed_at timestamptz,
    discarded_at timestamptz,
    discarded_by text,
    body bytea,
    -- Python reads no other years.
    constraint parked_events_received_at_check check (received_at between '1900-01-01+00' and '9999-12-31+00'),
    constraint parked_events_reason_class_check check (reason_class in ('unusable', 'refused', 'exhausted'))
);

comment on column clerk_sync.parked_events.entity_id is 'Null where the body does not say, as with event_type.';
comment on column clerk_sync.parked_events.user_id is
'The user whose personal data is in the body, if the body names one.';
comment on column clerk_sync.parked_events.reason_class is
'unusable: not an event we can read; refused: Postgres does not take the data; exhausted: failed too often.';
comment on column clerk_sync.parked_events.reason is 'The last error; first_reason is the first.';
comment on column clerk_sync.parked_events.attempts is 'How often the event had returned from the dead-letter queue.';
comment on column clerk_sync.parked_events.received_at is 'When ingest accepted the event.';
comment on column clerk_sync.parked_events.replayed_at is
'When an operator sent the event again; null again if parked again.';
comment on column clerk_sync.parked_events.discarded_at is
'When an operator discarded the event; null again if parked again.';
comment on column clerk_sync.parked_events.discarded_by is 'Name of the operator on their machine.';
comment on column clerk_sync.parked_events.body is
'As Clerk sent it, byte for byte; null after a delete of its user or a discard, or after 90 days.';

create index parked_events_entity_idx on clerk_sync.parked_events (entity_id);
create index parked_events_user_idx on clerk_sync.parked_events (user_id) where body is not null;
create index parked_events_age_idx on clerk_sync.parked_events (last_parked_at) where body is not null;

alter table clerk_sync.parked_events enable row level security;

-- Parks a batch: objects with the columns' names, received_at in milliseconds, body in base64. Harmless to repeat: a
-- message parked again keeps its first reason. An event parked after the delete of its user keeps no body.
create function clerk_sync.park(batch jsonb)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Against a delete of the user at the same moment: the second transaction sees the changes of the first.
    lock table clerk_sync.parked_events in share row exclusive mode;

    insert into clerk_sync.parked_events as kept (
        svix_id, event_type, entity_id, user_id, reason_class, reason, first_reason, attempts, received_at, body
    )
    select distinct on (given.svix_id collate "C")
        given.svix_id, given.event_type, given.entity_id, given.user_id, given.reason_class, given.reason, given.reason,
        given.attempts, to_timestamp(given.received_at / 1000.0),
        case when gone.id is null then decode(given.body, 'base64') end
    from jsonb_to_recordset(batch) as given (
        svix_id text, event_type text, entity_id text, user_id text, reason_class text, reason text, attempts integer,
        received_at bigint, body text
    )
    left join clerk_sync.entities as gone
        on gone.kind = 'user' and given.user_id collate "C" = gone.id and gone.deleted_at is not null
    order by given.svix_id collate "C", given.attempts desc
    on conflict (svix_id) do update set
        event_type = excluded.event_type,
        entity_id = excluded.entity_id,
        user_id = coalesce(kept.user_id, excluded.user_id),
        reason_class = excluded.reason_class,
        reason = excluded.reason,
        attempts = excluded.attempts,
        last_parked_at = excluded.last_parked_at,
        replayed_at = null,
        discarded_at = null,
        discarded_by = null,
        -- The same event has the same body: a later message never replaces the body.
        body = coalesce(kept.body, excluded.body);

    -- An unreadable body may name a person, so no body is kept for ever.
    update clerk_sync.parked_events as old set body = null
    where old.body is not null and old.last_parked_at < now() - interval '90 days';
end
$$;

-- Forgets the bodies of parked events about a user just deleted. Runs at the tombstone, because a user whose events
-- were all parked has no row.
create function clerk_sync.scrub_parked_events()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    lock table clerk_sync.parked_events in row exclusive mode;
    update clerk_sync.parked_events as p set body = null
    where p.user_id = new.id and p.body is not null;
    return null;
end
$$;

create trigger entities_scrub_parked_events after insert or update on clerk_sync.entities
for each row when (new.deleted_at is not null and new.kind = 'user')
execute function clerk_sync.scrub_parked_events();

create table clerk_sync.dropped_fields (
    recorded_at timestamptz not null default clock_timestamp(),
    kind text not null,
    entity_id text collate "C" not null,
    svix_id text collate "C" not null,
    fields text[] not null,
    primary key (entity_id, svix_id, kind)
);

comment on table clerk_sync.dropped_fields is
'Fields with parts left out that our parsers or Postgres do not accept; the rest was applied.';
comment on column clerk_sync.dropped_fields.svix_id is
'The svix_id of the change, as in the audit log; empty for an operator.';
comment on column clerk_sync.dropped_fields.fields is 'By their names in Clerk, never with a value.';

alter table clerk_sync.dropped_fields enable row level security;

-- Records the fields left out of the changes of a batch, as listed in "dropped" of its elements, and returns the batch:
-- apply(record_dropped(batch)) does both or nothing. Harmless to repeat.
create function clerk_sync.record_dropped(batch jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into clerk_sync.dropped_fields (kind, entity_id, svix_id, fields)
    select given.kind, given.id, coalesce(given.svix_id, ''), given.dropped
    from jsonb_to_recordset(batch) as given (kind text, id text, svix_id text, dropped text[])
    where given.dropped is not null
    order by given.id collate "C", given.svix_id collate "C", given.kind
    on conflict do nothing;
    return batch;
end
$$;

-- True when this server takes writes; false on a replica and after a failover to one.
create function clerk_sync.takes_writes()
returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    select current_setting('transaction_read_only') = 'off'
$$;

select clerk_sync.revoke_default_rights();
grant execute on function clerk_sync.park(jsonb) to clerk_sync_worker;
grant execute on function clerk_sync.takes_writes() to clerk_sync_worker;
grant execute on function clerk_sync.record_dropped(jsonb) to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0007_create_parked_events');
