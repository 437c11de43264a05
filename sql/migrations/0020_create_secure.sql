-- clerk_sync.secure(): protects tables of the app.

-- Why a table cannot be secured; null without an obstacle. owner_column: the owner column of the table, or the column
-- to add.
create function clerk_sync.obstacle_to_secure(target regclass, owner_column name, replace_policies boolean)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when not clerk_sync.is_schema_of_app(n.nspname) then 'it is in a schema that is not the app''s'
        when c.relkind <> 'r' or c.relpersistence = 't' then 'it is no ordinary table'
        when c.oid = 'clerk.users_public'::regclass or c.oid in (
            select to_regclass(k.relation) from clerk_sync.kinds as k
        ) or exists (
            select from pg_catalog.pg_trigger as t
            inner join pg_catalog.pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid = c.oid and p.pronamespace = 'clerk_sync'::regnamespace
        ) then 'sync writes it'
        when a.attname is not null and (
            a.atttypid not in ('text'::regtype, 'varchar'::regtype)
            or a.attgenerated <> ''
            or exists (
                select from pg_catalog.pg_collation as k where k.oid = a.attcollation and not k.collisdeterministic
            )
        ) then format(
            'its column %I must be text that is equal only to itself, as Clerk ids are; it is %s', owner_column,
            case when a.attgenerated <> '' then 'generated' else format_type(a.atttypid, a.atttypmod) end
        )
        when permissive.names is not null and not replace_policies
            then format(
                'it has policies that would allow more (%s): drop them, or call with replace_policies => true',
                permissive.names
            )
        else (
            select string_agg(format('%s (%s)', d.found, d.todo), '; ' order by d.found)
            from clerk_sync.detours(c.oid) as d
            where d.is_refused
        )
    end
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    left join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attname = owner_column and not a.attisdropped
    cross join lateral (
        select string_agg(quote_ident(p.polname), ', ' order by p.polname) as names
        from pg_catalog.pg_policy as p
        where p.polrelid = c.oid and p.polpermissive and p.polname not like 'clerk\_sync\_%'
    ) as permissive
    where c.oid = target
$$;

-- Protects a table of the app. A second call has the same result, and leaves exactly these rights:
--   owned_by 'user': each row belongs to the user in its column user_id, and only this user reads and writes the row.
--   owned_by 'organization': each row belongs to the organization in its column organization_id; members with this
--   organization active in their token read the row. write_roles insert and update, delete_roles delete: lists such as
--   {org:admin,org:editor}, null for every member, empty for nobody; without delete_roles, write_roles delete.
-- The column is added if missing. Existing rows belong to no user, until the app sets the column. Restrictive policies
-- of the app stay. A permissive policy of the app would open rows that the new policies close: secure() refuses the
-- table, or with replace_policies drops such policies. secure() also refuses a table whose rows are shown in another
-- way, for example by a view that reads as its owner, and names the statement to end this. Findings that only a person
-- can judge, such as a function, are raised as notices. Returns the executed statements.
create function clerk_sync.secure(
    target regclass,
    owned_by text,
    write_roles text[] default null,
    delete_roles text[] default null,
    replace_policies boolean default false
)
returns setof text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    owner_column constant name := case owned_by
        when 'user' then 'user_id'
        when 'organization' then 'organization_id'
    end;
    lock_timeout_before constant text := current_setting('lock_timeout');
    statement text;
    opening record;
    reasons text;
begin
    if target is null or owner_column is null then
        raise invalid_parameter_value using message = 'a table belongs to ''user'' or ''organization''';
    end if;
    if owned_by = 'user' and (write_roles is not null or delete_roles is not null) then
        raise invalid_parameter_value using message = 'roles are of organizations: a user has none';
    end if;
    if
        array_position(write_roles || delete_roles, null) is not null
        or exists (select from unnest(write_roles || delete_roles) as role where role !~ '^org:.')
    then
        raise invalid_parameter_value using message = 'a role is spelled org:<role>';
    end if;
    if not exists (select from pg_catalog.pg_class as c where c.oid = target) then
        raise undefined_table using message = format('there is no table %s', target);
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        raise invalid_transaction_state
            using message = 'secure() must see what others committed while it waited: '
            || 'set transaction isolation level read committed';
    end if;

    perform clerk_sync.refuse_to_secure(
        target, clerk_sync.obstacle_to_secure(target, owner_column, replace_policies)
    );
    -- While this waits for the lock, every later session waits, too.
    if lock_timeout_before = '0' then
        perform set_config('lock_timeout', '5s', true);
    end if;
    execute format('lock table %s in access exclusive mode', target);
    -- Another session may have secured the table, or made a view of the table, during the wait for the lock.
    perform clerk_sync.refuse_to_secure(
        target, clerk_sync.obstacle_to_secure(target, owner_column, replace_policies)
    );

    -- The policies come last: on Supabase each locks tables of auth, storage and realtime until the transaction ends.
    foreach statement in array
        clerk_sync.column_statements(target, owner_column)
        || clerk_sync.grant_statements(target)
        || clerk_sync.policy_statements(target, owner_column, write_roles, coalesce(delete_roles, write_roles))
    loop
        execute statement;
        return next statement;
    end loop;
    perform set_config('lock_timeout', lock_timeout_before, true);

    for opening in select o.* from clerk_sync.openings(target) as o loop
        if opening.is_refused then
            reasons := concat_ws('; ', reasons, format('%s (%s)', opening.found, opening.todo));
        else
            raise notice using message = format('%s: %s', target, opening.found), hint = opening.todo;
        end if;
    end loop;
    perform clerk_sync.refuse_to_secure(target, reasons);
end
$$;

-- Raises an error that names the reason; does nothing without one.
create function clerk_sync.refuse_to_secure(target regclass, reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if reason is not null then
        raise wrong_object_type using message = format('%s cannot be secured: %s', target, reason);
    end if;
end
$$;

-- The owner column of a table, and an index on this column.
create function clerk_sync.column_statements(target regclass, owner_column name)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array_remove(array[
        case when a.attnum is null then format('alter table %s add column %I text', target, owner_column) end,
        -- In a statement of its own, so that existing rows do not get the operator as their owner.
        format(
            'alter table %s alter column %I set default clerk_sync.%I()', target, owner_column,
            'requesting_' || owner_column
        ),
        case
            when not exists (
                select from pg_catalog.pg_index as i
                where i.indrelid = target and i.indkey[0] = a.attnum and i.indpred is null and i.indisvalid
            ) then format('create index on %s (%I)', target, owner_column)
        end
    ], null)
    from (select) as always
    left join pg_catalog.pg_attribute as a on a.attrelid = target and a.attname = owner_column and not a.attisdropped
$$;

create function clerk_sync.policy_statements(
    target regclass, owner_column name, write_roles text[], delete_roles text[]
)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    reads constant text := clerk_sync.owner_condition(owner_column, null);
    writes constant text := clerk_sync.owner_condition(owner_column, write_roles);
    deletes constant text := clerk_sync.owner_condition(owner_column, delete_roles);
begin
    return array[format('alter table %s enable row level security', target)]
    || array(
        select format('drop policy %I on %s', p.polname, target)
        from pg_catalog.pg_policy as p
        where p.polrelid = target and p.polpermissive
        order by p.polname
    )
    || array[
        format('create policy clerk_sync_select on %s for select to authenticated using (%s)', target, reads),
        format('create policy clerk_sync_insert on %s for insert to authenticated with check (%s)', target, writes),
        format('create policy clerk_sync_update on %s for update to authenticated using (%s)', target, writes),
        format('create policy clerk_sync_delete on %s for delete to authenticated using (%s)', target, deletes)
    ];
end
$$;

-- The condition for rows of the caller, or of the caller's organization. roles: the roles that count; null for all.
create function clerk_sync.owner_condition(owner_column name, roles text[])
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case owner_column
        when 'user_id' then 'user_id = (select c.clerk_id from clerk_sync.caller as c)'
        else format(
            'organization_id = (select m.clerk_org_id from clerk_sync.active_membership_of_caller as m%s limit 1)',
            case when roles is not null then format(' where m.role = any(%L::text[])', roles) end
        )
    end
$$;

-- Supabase's older default privileges grant everything on a new table and its sequences to the API's roles, and the
-- newer default privileges still grant the right to truncate: so the statements first revoke everything.
create function clerk_sync.grant_statements(target regclass)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with sequences as (
        select d.objid::regclass as its_name, d.deptype = 'a' as is_serial
        from pg_catalog.pg_depend as d
        inner join pg_catalog.pg_class as c on c.oid = d.objid and c.relkind = 'S'
        where d.classid = 'pg_class'::regclass and d.refobjid = target and d.deptype in ('a', 'i')
    )

    select array[
        format('revoke all on %s from public, anon, authenticated, service_role', target),
        format('grant select, insert, update, delete on %s to authenticated, service_role', target)
    ]
    || array(
        select format('revoke all on sequence %s from public, anon, authenticated, service_role', s.its_name)
        from sequences as s
        order by s.its_name::text
    )
    -- Only sequences of serial columns; identity columns need no grant.
    || array(
        select format('grant usage on sequence %s to authenticated, service_role', s.its_name)
        from sequences as s
        where s.is_serial
        order by s.its_name::text
    )
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0020_create_secure');
