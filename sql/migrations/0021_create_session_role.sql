-- The role the session function logs in with: it applies what it read of a user who signs in, and reads the row as that
-- user. It is a role of its own, because a role that can take the role of the API's callers, and sets their claims, can
-- act as any user: sync, which only drains a queue, does not need that.

do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'clerk_sync_session') then
        create role clerk_sync_session login noinherit;
    end if;
exception
    -- Roles belong to the whole cluster: another database may have created it a moment ago.
    when duplicate_object or unique_violation then null;
end
$$;

-- A user is waiting for the answer.
alter role clerk_sync_session set statement_timeout = '5s';
alter role clerk_sync_session set lock_timeout = '3s';
alter role clerk_sync_session set idle_in_transaction_session_timeout = '5s';

grant usage on schema clerk_sync to clerk_sync_session;
grant execute on function clerk_sync.apply(jsonb) to clerk_sync_session;
grant execute on function clerk_sync.record_dropped(jsonb) to clerk_sync_session;

-- It does not inherit the rights of authenticated: a transaction that takes that role is subject to the policies, and
-- any other transaction sees nothing.
grant authenticated to clerk_sync_session;

insert into clerk_sync.migrations (name) values ('0021_create_session_role');
