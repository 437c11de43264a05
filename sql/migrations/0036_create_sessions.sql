-- The sessions of users. Empty unless the parameter SessionsDays is above 0.

create table clerk.sessions (
    clerk_session_id text primary key,
    clerk_user_id text not null references clerk.users (clerk_id) on delete cascade,
    status text,
    active_until timestamptz,
    ends_at timestamptz,
    is_impersonated boolean not null default false,
    device_type text,
    browser_name text,
    is_mobile boolean not null default false,
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table clerk.sessions is
'One row per session, without addresses and places. Its user reads it. Clerk sends no event when a session expires.';
comment on column clerk.sessions.status is
'What the newest event said: of an active session, active_until says until when.';
comment on column clerk.sessions.active_until is
'The session is active while this moment lies in the future, unless an event ends it before. Null: it is not active.';
comment on column clerk.sessions.ends_at is
'When the session ended or, while it goes on, will end without an event: at its end, or earlier without activity.';
comment on column clerk.sessions.is_impersonated is 'Whether another person acts as the user; who it is is not kept.';

create index sessions_user_idx on clerk.sessions (clerk_user_id);
-- For purge_sessions().
create index sessions_ends_at_idx on clerk.sessions (ends_at);

create trigger sessions_keep_key before update on clerk.sessions
for each row when (old.clerk_session_id <> new.clerk_session_id)
execute function clerk_sync.refuse_new_key();

alter table clerk.sessions enable row level security;
revoke all on clerk.sessions from public, anon, authenticated, service_role;
grant select on clerk.sessions to authenticated;
grant select, insert, update, delete on clerk.sessions to service_role;

create policy sessions_read_own on clerk.sessions
for select to authenticated
using (deleted_at is null and clerk_user_id = (select c.clerk_id from clerk_sync.caller as c));

select clerk_sync.register(
    'session', 12, 'clerk.sessions', 'clerk_session_id', parents => '{"clerk_user_id": "user"}'
);

-- Deletes the rows of sessions that ended longer ago than the time to keep them, at most so many, for a few seconds: to
-- be called until the result is empty; the result is as of purge(). No event writes such a row again. A row that cannot
-- be deleted is scrubbed. Also deletes the entities of sessions purged longer ago than Svix can replay an event. Leaves
-- locked sessions to the next call, because the caller holds other locks.
create function clerk_sync.purge_sessions(keep interval, keep_entities interval, at_most integer default 1000)
returns table (kind text, outcome text, constraint_name text, purged bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    ended_until constant timestamptz := clock_timestamp() - keep;
    of_kind clerk_sync.kinds;
    due text[];
    emptied jsonb;
begin
    select k.* into strict of_kind from clerk_sync.kinds as k where k.kind = 'session';
    perform clerk_sync.set_causes(null);
    due := array(
        select s.clerk_session_id from clerk.sessions as s
        where s.ends_at <= ended_until and not exists (
            select from clerk_sync.not_purged as n
            where n.kind = 'session' and n.id = s.clerk_session_id and n.try_again_at > clock_timestamp()
        )
        order by s.ends_at limit at_most
    );
    due := array(
        select e.id from clerk_sync.entities as e
        where e.kind = 'session' and e.id = any(due) for update skip locked
    );
    -- An event may have come before the entities were locked.
    due := array(
        select s.clerk_session_id from clerk.sessions as s
        where s.clerk_session_id = any(due) and s.ends_at <= ended_until
    );

    emptied := (
        select coalesce(jsonb_agg(e), '[]')
        from clerk_sync.empty_rows(of_kind, due, 'delete', clock_timestamp() + interval '3 seconds') as e
    );
    perform clerk_sync.forget_rest_of(jsonb_build_object('session', (
        select coalesce(jsonb_agg(e -> 'id'), '[]')
        from jsonb_array_elements(emptied) as e where e ->> 'outcome' <> 'kept'
    )));
    return query
    select of_kind.kind, e ->> 'outcome', e ->> 'reason', count(*)
    from jsonb_array_elements(emptied) as e where e ->> 'outcome' <> 'kept'
    group by e ->> 'outcome', e ->> 'reason';
    return query
    select of_kind.kind, case when n.is_new then 'kept' else 'still kept' end, n.reason, count(*)
    from clerk_sync.note_not_purged('session', (
        select coalesce(jsonb_object_agg(e ->> 'id', e -> 'reason'), '{}')
        from jsonb_array_elements(emptied) as e where e ->> 'outcome' = 'kept'
    )) as n
    group by n.is_new, n.reason;

    delete from clerk_sync.not_purged as n
    where n.kind = 'session' and n.id not in (select s.clerk_session_id from clerk.sessions as s);
    delete from clerk_sync.entities as e where e.ctid = any(array(
        select old.ctid from clerk_sync.entities as old
        where old.kind = 'session' and old.purged_at < clock_timestamp() - keep_entities
        limit 10 * at_most for update skip locked
    ));
end
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0036_create_sessions');
