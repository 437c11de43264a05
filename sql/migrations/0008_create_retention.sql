-- The retention of records: how long each sort is kept, and the deletion of older records.

create table clerk_sync.retention (
    is_only boolean primary key default true,
    hold_back_days integer not null default 30,
    purge_by text not null default 'scrub',
    deliveries_days integer not null default 100,
    audit_days integer not null default 365,
    runs_days integer not null default 90,
    sessions_days integer not null default 0,
    constraint retention_is_only_check check (is_only),
    constraint retention_days_check check (
        hold_back_days between 0 and 36500 and deliveries_days between 0 and 36500
        and audit_days between 0 and 36500 and runs_days between 0 and 36500 and sessions_days between 0 and 36500
    ),
    constraint retention_purge_by_check check (purge_by in ('scrub', 'delete'))
);

comment on table clerk_sync.retention is
'Least times that the owner of the database allows: keep_house() keeps records at least so long, whatever the '
'stack asks. '
'Only the owner writes it: clerk-supabase retention.';
comment on column clerk_sync.retention.purge_by is 'delete: the stack may choose between delete and scrub.';

alter table clerk_sync.retention enable row level security;

-- The only row of clerk_sync.retention, made with its defaults if missing: a schema may be restored without rows.
create function clerk_sync.allowed_retention()
returns clerk_sync.retention
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    allowed clerk_sync.retention;
begin
    insert into clerk_sync.retention default values on conflict do nothing;
    select r.* into strict allowed from clerk_sync.retention as r;
    return allowed;
end
$$;

-- Deletes old records, at most so many of each sort, and returns their numbers: to be called until all are 0. Locked
-- rows are left for the next call, so this function waits for no other session. Keep deliveries for longer than Svix
-- can replay them.
create function clerk_sync.prune(keep_deliveries interval, keep_audit_log interval, at_most integer default 10000)
returns table (deliveries bigint, audit_entries bigint, parked_events bigint)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    deliveries_until constant timestamptz := now() - keep_deliveries;
begin
    -- Parked events come first, because only the delivery of a parked event shows whether the event is settled.
    delete from clerk_sync.parked_events as p where p.ctid = any(array(
        select old.ctid from clerk_sync.parked_events as old
        where old.discarded_at < deliveries_until
        or exists (
            select from clerk_sync.deliveries as d where d.svix_id = old.svix_id and d.applied_at < deliveries_until
        )
        limit at_most for update of old skip locked
    ));
    get diagnostics parked_events = row_count;
    delete from clerk_sync.deliveries as d where d.ctid = any(array(
        select old.ctid from clerk_sync.deliveries as old where old.applied_at < deliveries_until
        and not exists (select from clerk_sync.parked_events as p where p.svix_id = old.svix_id)
        limit at_most for update of old skip locked
    ));
    get diagnostics deliveries = row_count;
    delete from clerk_sync.dropped_fields as f where f.ctid = any(array(
        select old.ctid from clerk_sync.dropped_fields as old where old.recorded_at < deliveries_until
        limit at_most for update of old skip locked
    ));
    delete from clerk_sync.audit_log as a where a.ctid = any(array(
        select old.ctid from clerk_sync.audit_log as old where old.recorded_at < now() - keep_audit_log
        limit at_most for update of old skip locked
    ));
    get diagnostics audit_entries = row_count;
    return next;
end
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0008_create_retention');
