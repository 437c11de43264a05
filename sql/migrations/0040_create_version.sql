-- The version of the database, and a check of the version of its callers. Comes last: functions that meet a database
-- with only a part of the files wait, because the check is missing.

-- Version of this project whose migrations made these objects. The first new file of each later release replaces this
-- function, before the file changes anything else.
create function clerk_sync.version()
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select '1.0.0'
$$;

comment on function clerk_sync.version() is
'Version of clerk-supabase-sync whose migrations made these objects. Functions of another major version wait.';

-- The argument, for a caller of this major version. Raises 42VER for a caller of any other; such a caller waits. Each
-- statement of the functions passes its argument through this function, so that the check costs no round trip, and
-- holds as soon as the database changes.
create function clerk_sync.for_major(argument anyelement, major integer)
returns anyelement
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    own constant integer := split_part(clerk_sync.version(), '.', 1)::integer;
begin
    if major is distinct from own then
        raise exception using
            errcode = '42VER',
            message = format(
                'the database is of version %s, and its caller of version %s', clerk_sync.version(), major
            ),
            hint = case
                when major > own
                    then format('apply the migrations of version %s: clerk-supabase migrate', major)
                else format('deploy the functions of version %s, with the command of that version', own)
            end;
    end if;
    return argument;
end
$$;

select clerk_sync.revoke_default_rights();
grant execute on function
clerk_sync.version(),
clerk_sync.for_major(anyelement, integer)
to clerk_sync_worker;
grant execute on function
clerk_sync.version(),
clerk_sync.for_major(anyelement, integer)
to clerk_sync_session;

insert into clerk_sync.migrations (name) values ('0040_create_version');
