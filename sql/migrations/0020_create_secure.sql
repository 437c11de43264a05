-- clerk_sync.secure(): protects tables of the app.

-- Who owns each row of a table, and the columns that say so: user_column, organization_column or both.
--   owned_by: 'user', 'organization' or 'user-or-organization'.
--   through, key_column, clerk_column: the app's own table of users or organizations. The owner's column then holds the
--   key of this table, whose clerk_column holds Clerk's id.
create type clerk_sync.ownership as (
    owned_by text,
    user_column name,
    organization_column name,
    through regclass,
    key_column name,
    clerk_column name
);

-- The ownership that the arguments of secure() ask for. through: spelled 'public.users(id, clerk_user_id)'.
create function clerk_sync.ownership_of(owned_by text, owner_column name, organization_column name, through text)
returns clerk_sync.ownership
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    identifier constant text := '("(?:[^"]|"")+"|[[:alpha:]_][[:alnum:]_$]*)';
    parts constant text[] := regexp_match(through, format('^(.+)\(\s*%1$s\s*,\s*%1$s\s*\)\s*$', identifier));
    owner clerk_sync.ownership;
begin
    if owned_by is null or owned_by not in ('user', 'organization', 'user-or-organization') then
        raise invalid_parameter_value
            using message = 'a table belongs to ''user'', ''organization'' or ''user-or-organization''';
    end if;
    if organization_column is not null and owned_by <> 'user-or-organization' then
        raise invalid_parameter_value
            using message = 'organization_column is for ''user-or-organization'': owner_column names the only column';
    end if;
    if through is not null and owned_by = 'user-or-organization' then
        raise invalid_parameter_value using message = 'through is for tables with one kind of owner';
    end if;
    if through is not null and parts is null then
        raise invalid_parameter_value using message = 'through is spelled public.users(id, clerk_user_id)';
    end if;
    owner.owned_by := owned_by;
    if owned_by <> 'organization' then
        owner.user_column := coalesce(owner_column, 'user_id');
    end if;
    if owned_by <> 'user' then
        owner.organization_column := coalesce(
            organization_column, case owned_by when 'organization' then owner_column end, 'organization_id'
        );
    end if;
    if owner.user_column = owner.organization_column then
        raise invalid_parameter_value using message = 'the user and the organization need a column each';
    end if;
    if through is not null then
        owner.through := btrim(parts[1])::regclass;
        owner.key_column := (parse_ident(parts[2]))[1];
        owner.clerk_column := (parse_ident(parts[3]))[1];
    end if;
    return owner;
end
$$;

-- An ownership in words that are equal for equal ownerships.
create function clerk_sync.words_of_ownership(
    owned_by text, columns name[], through regclass, through_columns name[]
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        '%s (%s)', owned_by, (select string_agg(quote_ident(c), ', ' order by c) from unnest(columns) as c)
    ) || case when through is not null then format(
        ' through %s (%s)', through,
        (select string_agg(quote_ident(c), ', ' order by c) from unnest(through_columns) as c)
    ) else '' end
$$;

-- The ownership of a secured table in words; null for any other table. Read from the policy for deletes, which an app
-- has the least reason to alter.
create function clerk_sync.present_ownership(target regclass)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with used as (
        select d.*
        from pg_catalog.pg_policy as p
        inner join pg_catalog.pg_depend as d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
        where p.polrelid = target and p.polname = 'clerk_sync_delete'
    ),

    looked_up as (
        select l.relation, l.column_name from clerk_sync.lookups_of(target) as l
    ),

    asked as (
        select
            bool_or(u.refobjid = 'clerk_sync.caller'::regclass) as is_user,
            bool_or(u.refobjid = 'clerk_sync.active_membership_of_caller'::regclass) as is_organization
        from (
            select u.refclassid, u.refobjid from used as u
            union all
            select d.refclassid, d.refobjid
            from pg_catalog.pg_depend as d
            where d.classid = 'pg_proc'::regclass and d.objid in (select h.id from clerk_sync.helpers_of(target) as h (id))
        ) as u
        where u.refclassid = 'pg_class'::regclass
    )

    select clerk_sync.words_of_ownership(
        case
            when a.is_user and a.is_organization then 'user-or-organization'
            when a.is_user then 'user'
            else 'organization'
        end,
        array(
            select k.attname
            from used as u
            inner join pg_catalog.pg_attribute as k on k.attrelid = target and k.attnum = u.refobjsubid
            where u.refclassid = 'pg_class'::regclass and u.refobjid = target and u.refobjsubid > 0
        ),
        (select l.relation::regclass from looked_up as l limit 1),
        array(select l.column_name from looked_up as l)
    )
    from asked as a
    where a.is_user or a.is_organization
$$;

-- The plans and features for which any policy made by secure() asks; empty for a table that is not secured.
create function clerk_sync.present_entitlements(target regclass)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.entitlements_in(
        string_agg(concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), ' ')
    )
    from pg_catalog.pg_policy as p
    where p.polrelid = target and p.polname like 'clerk\_sync\_%'
$$;

-- The ownership of a table before and after a call of secure() with these arguments, and the number of rows that nobody
-- sees afterwards: their columns name no user and no organization of Clerk. was: null for a table that was not secured.
create function clerk_sync.ownership_change(
    target regclass,
    owned_by text,
    owner_column name default null,
    organization_column name default null,
    through text default null,
    out was text,
    out becomes text,
    out rows_of_nobody bigint
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    owner constant clerk_sync.ownership := clerk_sync.ownership_of(owned_by, owner_column, organization_column, through);
begin
    perform clerk_sync.refuse_to_secure(
        target,
        coalesce(clerk_sync.obstacle_in_lookup(owner), clerk_sync.obstacle_in_columns(target, owner))
    );
    was := clerk_sync.present_ownership(target);
    becomes := clerk_sync.words_of_ownership(
        owned_by, array_remove(array[owner.user_column, owner.organization_column], null),
        owner.through, array[owner.key_column, owner.clerk_column]
    );
    execute format('select count(*) from %s as r where (%s) is not true', target, clerk_sync.has_owner(target, owner))
    into rows_of_nobody;
end
$$;

-- The condition for rows `r` of a table that belong to a user or an organization of Clerk, by the form of their ids.
create function clerk_sync.has_owner(target regclass, owner clerk_sync.ownership)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when (owner).through is null then format(
            case (owner).owned_by
                when 'user' then '%1$s like ''user\_%%'''
                when 'organization' then '%2$s like ''org\_%%'''
                else '%2$s like ''org\_%%'' or (%2$s is null and %1$s like ''user\_%%'')'
            end,
            users.expression, organizations.expression
        )
        else format(
            'exists (select from %s as t where t.%I = r.%I and t.%I like %L)',
            (owner).through, (owner).key_column, coalesce((owner).user_column, (owner).organization_column),
            (owner).clerk_column, case (owner).owned_by when 'user' then 'user\_%' else 'org\_%' end
        )
    end
    from (
        select case when exists (
            select from pg_catalog.pg_attribute as a
            where a.attrelid = target and a.attname = (owner).user_column and not a.attisdropped
        ) then format('r.%I::text', (owner).user_column) else 'null' end
    ) as users (expression)
    cross join (
        select case when exists (
            select from pg_catalog.pg_attribute as a
            where a.attrelid = target and a.attname = (owner).organization_column and not a.attisdropped
        ) then format('r.%I::text', (owner).organization_column) else 'null' end
    ) as organizations (expression)
$$;

-- Whether a column of this type can hold Clerk's ids: text, varchar and citext.
create function clerk_sync.is_like_text(of_type oid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        of_type in ('text'::regtype, 'varchar'::regtype)
        or exists (
            select from pg_catalog.pg_type as t
            inner join pg_catalog.pg_cast as c
                on c.castsource = t.oid and c.casttarget = 'text'::regtype and c.castmethod = 'b'
            where t.oid = of_type and t.typname = 'citext'
        )
$$;

-- Why the columns of the owners cannot be used; null without an obstacle. A missing column is no obstacle.
create function clerk_sync.obstacle_in_columns(target regclass, owner clerk_sync.ownership)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(
        case
            when a.attgenerated <> '' then format('its column %I is generated', a.attname)
            when a.atttypid = key.atttypid then null
            when (owner).through is not null then format(
                'its column %I is %s, and the column %I of %s is %s', a.attname, format_type(a.atttypid, a.atttypmod),
                key.attname, (owner).through, format_type(key.atttypid, key.atttypmod)
            )
            else format(
                'its column %I must be text that is equal only to itself, as Clerk ids are; it is %s%s', a.attname,
                format_type(a.atttypid, a.atttypmod),
                case when a.atttypid not in ('text'::regtype, 'varchar'::regtype) then
                    ': for the key of a table of your own add through => ''public.users(id, clerk_user_id)'''
                end
            )
        end, '; '
    )
    from pg_catalog.pg_attribute as a
    left join pg_catalog.pg_attribute as key
        on key.attrelid = (owner).through and key.attname = (owner).key_column and not key.attisdropped
    where
        a.attrelid = target and not a.attisdropped and a.attname in ((owner).user_column, (owner).organization_column)
        and (
            a.attgenerated <> ''
            or (owner).through is not null
            or not clerk_sync.is_like_text(a.atttypid)
            or exists (
                select from pg_catalog.pg_collation as k where k.oid = a.attcollation and not k.collisdeterministic
            )
        )
$$;

-- Why the app's own table of users or organizations cannot say who owns a row; null without an obstacle.
create function clerk_sync.obstacle_in_lookup(owner clerk_sync.ownership)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with wanted as (
        select w.name, a.attnum, a.atttypid, a.attcollation
        from unnest(array[(owner).key_column, (owner).clerk_column]) as w (name)
        left join pg_catalog.pg_attribute as a
            on a.attrelid = (owner).through and a.attname = w.name and a.attnum > 0 and not a.attisdropped
    ),

    repeated as (
        select w.name
        from wanted as w
        where not exists (
            select from pg_catalog.pg_index as i
            where
                i.indrelid = (owner).through and i.indisunique and i.indisvalid and i.indnkeyatts = 1
                and i.indkey[0] = w.attnum
                and coalesce(pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', w.name), true)
        )
        order by w.name
        limit 1
    )

    select case
        when c.relkind not in ('r', 'p') or c.relpersistence = 't' or not clerk_sync.is_schema_of_app(n.nspname)
            then format('%s is no table of the app', c.oid::regclass)
        when (owner).key_column = (owner).clerk_column then 'through names one column twice'
        when exists (select from wanted as w where w.attnum is null) then format(
            '%s has no column %s', c.oid::regclass,
            (select string_agg(quote_ident(w.name), ', ' order by w.name) from wanted as w where w.attnum is null)
        )
        when exists (
            select from wanted as w
            left join pg_catalog.pg_collation as k on k.oid = w.attcollation
            where w.name = (owner).clerk_column
            and (w.atttypid not in ('text'::regtype, 'varchar'::regtype) or not k.collisdeterministic)
        ) then format(
            'the column %I of %s must be text that is equal only to itself', (owner).clerk_column, c.oid::regclass
        )
        when exists (select from repeated as r) then (
            select format(
                'two rows of %1$s may have the same %2$I (create unique index on %1$s (%2$I))',
                c.oid::regclass, r.name
            )
            from repeated as r
        )
        when
            not has_table_privilege(c.oid, 'select')
            or (c.relrowsecurity and not (me.rolsuper or me.rolbypassrls or (is_owner.so and not c.relforcerowsecurity)))
            then format('%I, who looks the owners up in %s, does not see all its rows', me.rolname, c.oid::regclass)
    end
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    inner join pg_catalog.pg_roles as me on me.rolname = current_user
    cross join lateral (select pg_has_role(me.oid, c.relowner, 'usage') as so) as is_owner
    where c.oid = (owner).through
$$;

-- Why a table cannot be secured; null without an obstacle.
create function clerk_sync.obstacle_to_secure(
    target regclass, owner clerk_sync.ownership, replace_policies boolean
)
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
            where t.tgrelid = c.oid and t.tgname = 'audit_insert' and p.pronamespace = 'clerk_sync'::regnamespace
        ) then 'sync writes it'
        when permissive.names is not null and not replace_policies
            then format(
                'it has policies that would allow more (%s): drop them, or call with replace_policies => true',
                permissive.names
            )
        else coalesce(
            clerk_sync.obstacle_in_lookup(owner),
            clerk_sync.obstacle_in_columns(target, owner),
            (
                select string_agg(format('%s (%s)', d.found, d.todo), '; ' order by d.found)
                from clerk_sync.detours(c.oid) as d
                where d.is_refused
            )
        )
    end
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
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
--   owned_by 'user-or-organization': each row belongs to one of the two. With an active organization in the token the
--   caller sees and writes the rows of this organization, as above, and without one the caller's own rows.
-- owner_column and organization_column name other columns. through, such as 'public.users(id, clerk_user_id)': the
-- column holds the key of the app's own table, whose second column holds Clerk's id.
-- plan, such as 'user:pro', and feature, such as 'org:reports': the caller's token must name these for every access, or
-- with from_mirror the mirrored subscription and the features of its plan.
-- The column is added if missing. Existing rows belong to nobody, until the app sets the column. Restrictive policies
-- of the app stay. A permissive policy of the app would open rows that the new policies close: secure() refuses the
-- table, or with replace_policies drops such policies. secure() also refuses a table whose rows are shown in another
-- way, for example by a view that reads as its owner, and names the statement to end this. Findings that only a person
-- can judge, such as a function, are raised as notices. Returns the executed statements.
create function clerk_sync.secure(
    target regclass,
    owned_by text,
    write_roles text[] default null,
    delete_roles text[] default null,
    replace_policies boolean default false,
    owner_column name default null,
    organization_column name default null,
    through text default null,
    plan text default null,
    feature text default null,
    from_mirror boolean default false
)
returns setof text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    owner constant clerk_sync.ownership := clerk_sync.ownership_of(owned_by, owner_column, organization_column, through);
    entitlements constant text[] := clerk_sync.entitlements_asked(plan, feature, from_mirror);
    lock_timeout_before constant text := current_setting('lock_timeout');
    helpers_before oid[];
    change record;
    statement text;
begin
    perform clerk_sync.check_request_to_secure(target, owned_by, write_roles, delete_roles);
    perform clerk_sync.refuse_to_secure(target, clerk_sync.obstacle_to_secure(target, owner, replace_policies));
    if clerk_sync.present_ownership(target) is not null then
        select c.* into change
        from clerk_sync.ownership_change(target, owned_by, owner_column, organization_column, through) as c;
        if change.was <> change.becomes then
            raise notice using message = format(
                '%s belonged to %s, and belongs to %s now: %s of its rows belong to nobody',
                target, change.was, change.becomes, change.rows_of_nobody
            );
        end if;
        perform clerk_sync.tell_change(target, clerk_sync.present_entitlements(target), entitlements);
    end if;
    -- While this waits for the lock, every later session waits, too.
    if lock_timeout_before = '0' then
        perform set_config('lock_timeout', '5s', true);
    end if;
    execute format('lock table %s in access exclusive mode', target);
    -- Another session may have secured the table, or made a view of the table, during the wait for the lock.
    perform clerk_sync.refuse_to_secure(target, clerk_sync.obstacle_to_secure(target, owner, replace_policies));

    helpers_before := array(select h.id from clerk_sync.helpers_of(target) as h (id));
    -- The policies come last: on Supabase each locks tables of auth, storage and realtime until the transaction ends.
    foreach statement in array
        clerk_sync.helper_statements(target, owner)
        || clerk_sync.column_statements(target, owner)
        || clerk_sync.constraint_statements(target, owner)
        || clerk_sync.grant_statements(target)
        || clerk_sync.policy_statements(target, owner, write_roles, coalesce(delete_roles, write_roles), entitlements)
    loop
        execute statement;
        return next statement;
    end loop;
    for statement in select u.statement from clerk_sync.unused_helper_statements(helpers_before) as u (statement) loop
        execute statement;
        return next statement;
    end loop;
    perform set_config('lock_timeout', lock_timeout_before, true);
    perform clerk_sync.tell_openings(target);
end
$$;

-- Raises a notice for a secured table whose policies will ask for other plans and features.
create function clerk_sync.tell_change(target regclass, entitlements_before text[], entitlements text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if entitlements_before <> entitlements then
        raise notice using message = format(
            '%s asked for %s, and asks for %s now', target,
            coalesce(nullif(array_to_string(entitlements_before, ', '), ''), 'no plan and no feature'),
            coalesce(nullif(array_to_string(entitlements, ', '), ''), 'no plan and no feature')
        );
    end if;
end
$$;

-- Raises an error for arguments of secure() that make no sense.
create function clerk_sync.check_request_to_secure(
    target regclass, owned_by text, write_roles text[], delete_roles text[]
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if target is null then
        raise invalid_parameter_value
            using message = 'a table belongs to ''user'', ''organization'' or ''user-or-organization''';
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
end
$$;

-- Raises an error for ways around the policies, and a notice for each way that only a person can judge.
create function clerk_sync.tell_openings(target regclass)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    opening record;
    reasons text;
begin
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

-- The function in clerk_sync that looks up the caller's key in the app's own table, as its name in a statement. A table
-- keeps its function while the type of the key stays.
create function clerk_sync.helper_name(target regclass, owner clerk_sync.ownership)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with stem as (
        select 'requesting_key_for_' || left(regexp_replace(lower(c.relname), '[^a-z0-9]', '_', 'g'), 36) as name
        from pg_catalog.pg_class as c
        where c.oid = target
    )

    select format('clerk_sync.%I', coalesce(
        (
            select p.proname::text
            from pg_catalog.pg_proc as p
            inner join pg_catalog.pg_attribute as a
                on a.attrelid = (owner).through and a.attname = (owner).key_column and a.atttypid = p.prorettype
            where p.oid in (select h.id from clerk_sync.helpers_of(target) as h (id))
            order by p.proname
            limit 1
        ),
        (
            select free.name
            from stem as s
            -- One number more than there are functions with the stem, so that one is free.
            cross join lateral generate_series(1, 1 + (
                select count(*)
                from pg_catalog.pg_proc as p
                where p.pronamespace = 'clerk_sync'::regnamespace and starts_with(p.proname, s.name)
            )) as n (number)
            cross join lateral (
                select s.name || case when n.number > 1 then '_' || n.number else '' end as name
            ) as free
            where not exists (
                select from pg_catalog.pg_proc as p
                where p.pronamespace = 'clerk_sync'::regnamespace and p.proname = free.name
            )
            order by n.number
            limit 1
        )
    ))
    where (owner).through is not null
$$;

-- Makes the function that looks up the caller's key. Security definer: the caller may see nothing of the app's table.
-- The caller learns only the own key, and cannot name the function, because the schema is closed.
create function clerk_sync.helper_statements(target regclass, owner clerk_sync.ownership)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((
        select array[
            format(
                'create or replace function %s() returns %s language sql stable security definer parallel restricted '
                || 'set search_path = pg_catalog, pg_temp return (select t.%I from %s as t where t.%I = (%s))',
                clerk_sync.helper_name(target, owner), format_type(a.atttypid, null), (owner).key_column,
                (owner).through, (owner).clerk_column,
                case (owner).owned_by
                    when 'user' then 'select c.clerk_id from clerk_sync.caller as c'
                    else 'select m.clerk_org_id from clerk_sync.active_membership_of_caller as m limit 1'
                end
            ),
            format(
                'revoke all on function %s() from public, anon, authenticated, service_role',
                clerk_sync.helper_name(target, owner)
            ),
            format('grant execute on function %s() to authenticated, service_role', clerk_sync.helper_name(target, owner))
        ]
        from pg_catalog.pg_attribute as a
        where a.attrelid = (owner).through and a.attname = (owner).key_column and not a.attisdropped
    ), '{}')
$$;

-- Whether the app gave a column a default that reads the token, by a function or claims of its own.
create function clerk_sync.has_default_by_token(target regclass, attnum smallint)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.pg_attrdef as d
        cross join lateral (select pg_get_expr(d.adbin, d.adrelid) as text) as expression
        where
            d.adrelid = target and d.adnum = has_default_by_token.attnum
            and expression.text ~ 'requesting_(user|org|organization)_id\(\)|auth\.jwt\(\)'
            and expression.text !~ 'clerk_sync\.'
    )
$$;

-- Whether the policies of secure() can find the rows of an owner by an index.
create function clerk_sync.is_indexed(target regclass, attnum smallint)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.pg_index as i
        inner join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = is_indexed.attnum
        inner join pg_catalog.pg_opclass as o on o.oid = i.indclass[0]
        where
            i.indrelid = target and i.indkey[0] = is_indexed.attnum and i.indpred is null and i.indisvalid
            and (o.opcintype <> a.atttypid or o.opcnamespace = 'pg_catalog'::regnamespace)
    )
$$;

-- Drops those of these functions that no policy, default or other object uses.
create function clerk_sync.unused_helper_statements(helpers oid[])
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format('drop function %s', h.id::regprocedure)
    from unnest(helpers) as h (id)
    where not exists (
        select from pg_catalog.pg_depend as d
        where d.refclassid = 'pg_proc'::regclass and d.refobjid = h.id
    )
    order by 1
$$;

-- The columns of the owners, their defaults, and an index on each column. A default of the app that reads the token
-- stays, where each row has one kind of owner.
create function clerk_sync.column_statements(target regclass, owner clerk_sync.ownership)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with owners as (
        select o.column_name, o.caller, a.attnum, a.atttypid, k.atttypid as key_type, o.place
        from (
            values
            (1, (owner).user_column, case
                when (owner).through is not null then clerk_sync.helper_name(target, owner) || '()'
                when (owner).owned_by = 'user' then 'clerk_sync.requesting_user_id()'
                else 'case when clerk_sync.requesting_organization_id() is null then clerk_sync.requesting_user_id() end'
            end),
            (2, (owner).organization_column, case
                when (owner).through is not null then clerk_sync.helper_name(target, owner) || '()'
                else 'clerk_sync.requesting_organization_id()'
            end)
        ) as o (place, column_name, caller)
        left join pg_catalog.pg_attribute as a
            on a.attrelid = target and a.attname = o.column_name and not a.attisdropped
        left join pg_catalog.pg_attribute as k
            on k.attrelid = (owner).through and k.attname = (owner).key_column and not k.attisdropped
        where o.column_name is not null
    )

    select coalesce(array_agg(s.statement order by o.place, s.place), '{}')
    from owners as o
    cross join lateral (
        values
        (1, case when o.attnum is null then format(
            'alter table %s add column %I %s', target, o.column_name,
            coalesce(format_type(o.key_type, null), 'text')
        ) end),
        -- In a statement of its own, so that existing rows do not get the operator as their owner.
        (2, case
            when (owner).owned_by = 'user-or-organization' or not clerk_sync.has_default_by_token(target, o.attnum)
                then format('alter table %s alter column %I set default %s', target, o.column_name, o.caller)
        end),
        (3, case
            when not clerk_sync.is_indexed(target, o.attnum) then format(
                case
                    when coalesce(o.key_type, o.atttypid, 'text'::regtype) in ('text'::regtype, 'varchar'::regtype)
                        or o.key_type is not null then 'create index on %s (%I)'
                    -- citext ignores case, and Clerk's ids do not.
                    else 'create index on %s (%I text_ops)'
                end,
                target, o.column_name
            )
        end)
    ) as s (place, statement)
    where s.statement is not null
$$;

-- The constraint that each row belongs to a user or to an organization; none, where each row has one kind of owner.
-- Rows from before that have no owner or both stay: Postgres checks only what is written from then on.
create function clerk_sync.constraint_statements(target regclass, owner clerk_sync.ownership)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    condition constant text := case
        when (owner).owned_by = 'user-or-organization'
            then format('num_nonnulls(%I, %I) = 1', (owner).user_column, (owner).organization_column)
    end;
    columns_there constant bigint := (
        select count(*) from pg_catalog.pg_attribute as a
        where a.attrelid = target and not a.attisdropped
        and a.attname in ((owner).user_column, (owner).organization_column)
    );
    statements text[] := array(
        select format('alter table %s drop constraint %I', target, c.conname)
        from pg_catalog.pg_constraint as c
        where c.conrelid = target and c.conname = 'clerk_sync_one_owner'
    );
    is_broken boolean;
begin
    if (owner).owned_by <> 'user-or-organization' then
        return statements;
    end if;
    if columns_there = 2 then
        execute format('select exists (select from %s as r where not (%s))', target, condition) into is_broken;
    else
        execute format('select exists (select from %s)', target) into is_broken;
    end if;
    return statements || format(
        'alter table %s add constraint clerk_sync_one_owner check (%s)%s', target, condition,
        case when is_broken then ' not valid' else '' end
    );
end
$$;

create function clerk_sync.policy_statements(
    target regclass, owner clerk_sync.ownership, write_roles text[], delete_roles text[], entitlements text[]
)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    reads constant text := clerk_sync.also_entitled(clerk_sync.owner_condition(target, owner, null), entitlements);
    writes constant text := clerk_sync.also_entitled(
        clerk_sync.owner_condition(target, owner, write_roles), entitlements
    );
    deletes constant text := clerk_sync.also_entitled(
        clerk_sync.owner_condition(target, owner, delete_roles), entitlements
    );
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

-- A condition, and the plans and features that the caller must have as well, in words of entitlements_asked(). In
-- subselects: once per statement.
create function clerk_sync.also_entitled(condition text, entitlements text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case entitlements when '{}' then condition else format('(%s)', condition) end || coalesce((
        select string_agg(
            format(
                ' and (select clerk_sync.requesting_user_%s_%s(%L))',
                case when e.parts[1] is null then 'has' else 'subscribes_to' end, e.parts[2], e.parts[3]
            ), '' order by e.place
        )
        from (
            select regexp_match(w.words, '^(mirrored )?(plan|feature) (.*)$') as parts, w.place
            from unnest(entitlements) with ordinality as w (words, place)
        ) as e
    ), '')
$$;

-- A column as policies compare it with Clerk's ids: citext, which ignores case, as text.
create function clerk_sync.compared_column(target regclass, column_name name)
returns text
language sql
stable
strict
set search_path = pg_catalog, pg_temp
as $$
    select format(
        case when exists (
            select from pg_catalog.pg_attribute as a
            where
                a.attrelid = target and a.attname = column_name and not a.attisdropped
                and a.atttypid not in ('text'::regtype, 'varchar'::regtype)
        ) then '%I::text' else '%I' end,
        column_name
    )
$$;

-- The condition for rows of the caller, or of the caller's organization. roles: the roles that count; null for all.
create function clerk_sync.owner_condition(target regclass, owner clerk_sync.ownership, roles text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with of_roles as (
        select case when roles is not null then format('m.role = any(%L::text[])', roles) end as condition
    ),

    names as (
        select
            clerk_sync.compared_column(target, (owner).user_column) as of_user,
            clerk_sync.compared_column(target, (owner).organization_column) as of_organization
    )

    select case
        when (owner).through is not null then format(
            '%I = (select %s()%s)', coalesce((owner).user_column, (owner).organization_column),
            clerk_sync.helper_name(target, owner),
            ' where exists (select from clerk_sync.active_membership_of_caller as m where ' || r.condition || ')'
        )
        when (owner).owned_by = 'user' then format('%s = (select c.clerk_id from clerk_sync.caller as c)', n.of_user)
        else format(
            '%s = (select m.clerk_org_id from clerk_sync.active_membership_of_caller as m%s limit 1)',
            n.of_organization, ' where ' || r.condition
        )
    end
    || case when (owner).owned_by = 'user-or-organization' then format(
        ' or (%s is null and %s = (select c.clerk_id from clerk_sync.caller as c '
        || 'where clerk_sync.requesting_organization_id() is null))',
        n.of_organization, n.of_user
    ) else '' end
    from names as n
    cross join of_roles as r
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
