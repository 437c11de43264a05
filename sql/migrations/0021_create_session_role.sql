-- The role of the session function, which applies a read of a user at sign-in, and reads the row as this user. A
-- separate role, because a role with the right to take the role of the API's callers, and to set their claims, can act
-- as any user: sync, which only drains a queue, does not need this right.

do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'clerk_sync_session') then
        create role clerk_sync_session login noinherit;
    end if;
exception
    -- Roles belong to the whole cluster: another database may have created this role a moment ago.
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
-- For the search path of a transaction that acts as a user.
grant execute on function clerk_sync.mirror_schema() to clerk_sync_session;

-- Does not inherit the rights of authenticated: a transaction with the role authenticated is subject to the policies,
-- and any other transaction sees nothing.
grant authenticated to clerk_sync_session;

insert into clerk_sync.migrations (name) values ('0021_create_session_role');
