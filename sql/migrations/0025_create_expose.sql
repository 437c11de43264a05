-- Ways from the app to the tables: relationships for embedding through PostgREST, and views in a schema of the app.

-- Computed relationships: PostgREST takes a function of a row that returns rows of another table as a relationship of
-- the two. With the rights of the caller, so that the policies hold. Without a search path of its own, because Postgres
-- inlines no function with settings; each name in the body has its schema.
create function clerk.profile(clerk.organization_memberships)
returns setof clerk.users_public
rows 1
language sql
stable
parallel safe
as $$
    select p.* from clerk.users_public as p where p.clerk_id operator(pg_catalog.=) $1.clerk_user_id
$$;

comment on function clerk.profile(clerk.organization_memberships) is
'The public profile of the member. For PostgREST: organization_memberships?select=role,profile(first_name).';

create function clerk.organization(clerk.organization_memberships)
returns setof clerk.organizations
rows 1
language sql
stable
parallel safe
as $$
    select o.* from clerk.organizations as o where o.clerk_org_id operator(pg_catalog.=) $1.clerk_org_id
$$;

create function clerk.organization(clerk.organization_invitations)
returns setof clerk.organizations
rows 1
language sql
stable
parallel safe
as $$
    select o.* from clerk.organizations as o where o.clerk_org_id operator(pg_catalog.=) $1.clerk_org_id
$$;

create function clerk.organization(clerk.organization_domains)
returns setof clerk.organizations
rows 1
language sql
stable
parallel safe
as $$
    select o.* from clerk.organizations as o where o.clerk_org_id operator(pg_catalog.=) $1.clerk_org_id
$$;

create function clerk.inviter(clerk.organization_invitations)
returns setof clerk.users_public
rows 1
language sql
stable
parallel safe
as $$
    select p.* from clerk.users_public as p where p.clerk_id operator(pg_catalog.=) $1.inviter_id
$$;

create function clerk.creator(clerk.organizations)
returns setof clerk.users_public
rows 1
language sql
stable
parallel safe
as $$
    select p.* from clerk.users_public as p where p.clerk_id operator(pg_catalog.=) $1.created_by
$$;

-- Only the memberships that the caller may read: those in the caller's own organizations.
create function clerk.memberships(clerk.users_public)
returns setof clerk.organization_memberships
language sql
stable
parallel safe
as $$
    select m.* from clerk.organization_memberships as m where m.clerk_user_id operator(pg_catalog.=) $1.clerk_id
$$;

revoke all on function
clerk.profile(clerk.organization_memberships),
clerk.organization(clerk.organization_memberships),
clerk.organization(clerk.organization_invitations),
clerk.organization(clerk.organization_domains),
clerk.inviter(clerk.organization_invitations),
clerk.creator(clerk.organizations),
clerk.memberships(clerk.users_public)
from public, anon, authenticated, service_role;
grant execute on function
clerk.profile(clerk.organization_memberships),
clerk.organization(clerk.organization_memberships),
clerk.organization(clerk.organization_invitations),
clerk.organization(clerk.organization_domains),
clerk.inviter(clerk.organization_invitations),
clerk.creator(clerk.organizations),
clerk.memberships(clerk.users_public)
to authenticated, service_role;

-- The views and functions that expose() made in schemas of the app, so that unexpose() removes exactly these.
create table clerk_sync.exposed (
    name text primary key,
    schema_name name not null,
    kind text not null check (kind in ('view', 'function')),
    source text not null,
    columns text[],
    definition text
);

comment on column clerk_sync.exposed.source is 'The table or function of the mirror''s schema.';
comment on column clerk_sync.exposed.columns is 'Columns of a view, in their order.';
comment on column clerk_sync.exposed.definition is 'Statement of a function, as Postgres printed it.';

alter table clerk_sync.exposed enable row level security;

-- The objects of the mirror's schema for expose(), in the order in which expose() makes their counterparts.
create function clerk_sync.exposable()
returns table (place bigint, kind text, source text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select v.place, 'view', v.name
    from unnest(
        '{clerk.users,clerk.users_public,clerk.organizations,clerk.organization_memberships,'
        'clerk.organization_invitations,clerk.organization_domains,clerk.permissions,clerk.roles,clerk.subscriptions,'
        'clerk.subscription_items,clerk.payment_attempts,clerk.sessions,clerk.plans}'::text []
    ) with ordinality as v (name, place)
    union all
    select 100 + f.place, 'function', f.name
    from unnest(
        '{clerk.requesting_claims(),clerk.requesting_user_id(),clerk.requesting_organization_id(),'
        'clerk.requesting_organization_role(),clerk.requesting_permissions(),'
        'clerk.requesting_user_has_permission(text),clerk.requesting_plan(),clerk.requesting_user_has_plan(text),'
        'clerk.requesting_user_has_feature(text),clerk.requesting_user_subscribes_to(text),'
        'clerk.requesting_user_subscribes_to_feature(text),'
        'clerk.profile(clerk.organization_memberships),clerk.organization(clerk.organization_memberships),'
        'clerk.organization(clerk.organization_invitations),clerk.organization(clerk.organization_domains),'
        'clerk.inviter(clerk.organization_invitations),clerk.creator(clerk.organizations),'
        'clerk.memberships(clerk.users_public)}'::text []
    ) with ordinality as f (name, place)
    order by 1
$$;

-- A text with the names of exposable objects in another schema. An alias that equals the name of the mirror's schema
-- stays, because a column follows.
create function clerk_sync.in_schema(of_mirror text, target name)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select regexp_replace(
        of_mirror,
        '\m' || clerk_sync.mirror_schema() || '\.(?=(users|users_public|organizations|requesting_[a-z_]+|profile'
        || '|organization|organization_(memberships|invitations|domains)|inviter|creator|memberships|permissions|roles'
        || '|subscriptions|subscription_items|payment_attempts|sessions|plans)\M)',
        replace(quote_ident(target), '\', '\\') || '.',
        'g'
    )
$$;

-- The rights of PUBLIC and of the API's roles on a relation or a function.
create function clerk_sync.rights_given(class_id oid, object_id oid)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(r.role_name || ' ' || g.privilege order by r.role_name || ' ' || g.privilege), '{}')
    from (
        select a.grantee, a.privilege_type as privilege
        from pg_catalog.pg_class as c
        cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as a
        where class_id = 'pg_class'::regclass and c.oid = object_id
        union all
        select a.grantee, format('%s (%I)', a.privilege_type, t.attname)
        from pg_catalog.pg_attribute as t cross join lateral aclexplode(t.attacl) as a
        where class_id = 'pg_class'::regclass and t.attrelid = object_id and not t.attisdropped
        union all
        select a.grantee, a.privilege_type
        from pg_catalog.pg_proc as p
        cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
        where class_id = 'pg_proc'::regclass and p.oid = object_id
    ) as g
    cross join lateral (
        select case when g.grantee = 0 then 'public' else g.grantee::regrole::text end
    ) as r (role_name)
    where r.role_name in ('public', 'anon', 'authenticated', 'service_role')
$$;

-- A view or function by its name with schema and arguments; null when there is none. Not to_regprocedure(): until
-- Postgres 15, an unknown type of an argument is an error.
create function clerk_sync.object_exposed(of_kind text, own_name text)
returns oid
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case of_kind
        when 'view' then to_regclass(own_name)::oid
        else (
            select p.oid from pg_catalog.pg_proc as p
            where p.proname = regexp_replace(own_name, '^[^(]*\.([a-z_]+)\(.*$', '\1')
            and p.oid::regprocedure::text = own_name
        )
    end
$$;

-- The statement of a view as Postgres prints it, without blanks: the named columns of its table.
create function clerk_sync.is_projection(view_id oid, source text, columns text[])
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with texts as (
        select
            -- Until Postgres 15, the name of the table is before each column.
            regexp_replace(
                pg_get_viewdef(c.oid), '(?<=[ ,])' || split_part(source, '.', 2) || '\.', '', 'g'
            ) as printed,
            (
                select string_agg(quote_ident(k.name), ',' order by k.place)
                from unnest(columns) with ordinality as k (name, place)
            ) as listed,
            array(
                select a.attname::text from pg_catalog.pg_attribute as a
                where a.attrelid = c.oid and a.attnum > 0 order by a.attnum
            ) as named
        from pg_catalog.pg_class as c where c.oid = view_id and c.relkind = 'v'
    )

    select t.named = columns
    and translate(t.printed, e' \n', '') = translate(format('SELECT%sFROM%s;', t.listed, source), e' \n', '')
    from texts as t
$$;

-- Whether a view or function is there as expose() made it, whatever its rights and options.
create function clerk_sync.is_as_made(made clerk_sync.exposed)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        case made.kind
            when 'view'
                then clerk_sync.is_projection(
                    clerk_sync.object_exposed(made.kind, made.name), made.source, made.columns
                )
            else pg_get_functiondef(clerk_sync.object_exposed(made.kind, made.name)) in (
                made.definition,
                clerk_sync.in_schema(pg_get_functiondef(to_regprocedure(made.source)), made.schema_name)
            )
        end,
        false
    )
$$;

-- The columns for a view: its present columns, which must stay in their places, then all others that the API's users
-- may read. A view with a column that they may not read would be closed to them.
create function clerk_sync.columns_to_expose(relation regclass, known text[])
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array_agg(a.attname::text order by array_position(known, a.attname::text), a.attnum)
    from pg_catalog.pg_attribute as a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
    and (has_column_privilege('authenticated', relation, a.attnum, 'select') or a.attname::text = any(known))
$$;

-- The rights that a view or function gets: as its source, without the writes of servers.
create function clerk_sync.rights_to_give(of_kind text, source text)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when of_kind = 'function' then clerk_sync.rights_given('pg_proc'::regclass, source::regprocedure)
        when split_part(source, '.', 2) = 'users'
            then '{authenticated INSERT (clerk_id),authenticated SELECT,service_role SELECT}'
        else '{authenticated SELECT,service_role SELECT}'
    end
$$;

-- The reason why a name is not free for a new view or function; null when it is free.
create function clerk_sync.why_not_free(of_kind text, source text, target name)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    bare constant text := regexp_replace(source, '^[^.]+\.([a-z_]+).*$', '\1');
    found text;
begin
    if of_kind = 'view' then
        select pg_describe_object('pg_class'::regclass, c.oid, 0) into found
        from pg_catalog.pg_class as c inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = target and c.relname = bare;
        found := coalesce(found, (
            select pg_describe_object('pg_type'::regclass, t.oid, 0)
            from pg_catalog.pg_type as t inner join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
            where n.nspname = target and t.typname = bare
        ));
    else
        -- Another function of the same name, whatever its arguments, could be meant by a call.
        select pg_describe_object('pg_proc'::regclass, p.oid, 0) into found
        from pg_catalog.pg_proc as p inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = target and p.proname = bare
        and not exists (
            select from clerk_sync.exposed as e where clerk_sync.object_exposed(e.kind, e.name) = p.oid
        )
        order by p.oid limit 1;
    end if;
    if found is not null then
        return format('the app has the %s', found);
    end if;

    select format('%I.%I', target, c.relname) into found
    from pg_catalog.pg_proc as p
    inner join pg_catalog.pg_type as t on t.oid = p.prorettype or t.oid = any(p.proargtypes::oid [])
    inner join pg_catalog.pg_class as c on c.oid = t.typrelid
    where of_kind = 'function' and p.oid = to_regprocedure(source)
    and not exists (
        select from clerk_sync.exposed as e
        where e.name = format('%I.%I', target, c.relname) and clerk_sync.is_as_made(e)
    )
    order by 1 limit 1;
    return 'it needs the view ' || found;
end
$$;

-- What is wrong with a view or function as expose() made it. fail: a caller sees too much, or too little.
create function clerk_sync.faults_of_exposed(made clerk_sync.exposed)
returns table (verdict text, found text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with rights as (
        select
            clerk_sync.rights_to_give(made.kind, made.source) as wanted,
            clerk_sync.rights_given(
                case made.kind when 'view' then 'pg_class'::regclass else 'pg_proc'::regclass end,
                clerk_sync.object_exposed(made.kind, made.name)
            ) as given
    )

    select 'fail', made.name || ' reads with the rights of its owner: its callers see every row'
    from pg_catalog.pg_class as c
    where made.kind = 'view' and c.oid = clerk_sync.object_exposed(made.kind, made.name)
    and not coalesce(c.reloptions, '{}') && '{security_invoker=true,security_invoker=on,security_invoker=1}'
    union all
    select 'fail', format('rights on %s: %s, which expose() does not give', made.name, g.extra)
    from rights as r cross join unnest(r.given) as g (extra) where g.extra <> all(r.wanted)
    union all
    select 'warn', format('rights on %s: %s is missing', made.name, w.missing)
    from rights as r cross join unnest(r.wanted) as w (missing) where w.missing <> all(r.given)
    union all
    select 'warn', format('%s lacks the column %I of its table', made.name, k.name)
    from unnest(
        clerk_sync.columns_to_expose(case made.kind when 'view' then to_regclass(made.source) end, made.columns)
    ) as k (name)
    where k.name <> all(made.columns)
    union all
    select 'fail', format('authenticated may not read the column %I, so no user reads %s', k.name, made.name)
    from unnest(made.columns) as k (name)
    where not has_column_privilege('authenticated', to_regclass(made.source), k.name, 'select')
    union all
    select 'warn', format('%s is of an older version', made.name)
    where made.kind = 'function'
    and pg_get_functiondef(clerk_sync.object_exposed(made.kind, made.name))
    <> clerk_sync.in_schema(pg_get_functiondef(to_regprocedure(made.source)), made.schema_name)
$$;

-- Makes a view or function, or sets its columns, options and rights right.
create function clerk_sync.expose_one(of_kind text, source text, target name)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    own_name constant text := clerk_sync.in_schema(source, target);
    what constant text := case of_kind when 'view' then own_name else 'function ' || own_name end;
    columns text [];
    definition text;
    given text;
begin
    if of_kind = 'view' then
        columns := clerk_sync.columns_to_expose(
            source::regclass, coalesce((select e.columns from clerk_sync.exposed as e where e.name = own_name), '{}')
        );
        execute format(
            'create or replace view %s with (security_invoker = true) as select %s from %s',
            own_name,
            (
                select string_agg(quote_ident(c.name), ', ' order by c.place)
                from unnest(columns) with ordinality as c (name, place)
            ),
            source
        );
    else
        definition := clerk_sync.in_schema(pg_get_functiondef(source::regprocedure), target);
        execute definition;
        definition := pg_get_functiondef(clerk_sync.object_exposed(of_kind, own_name));
    end if;
    -- The default privileges of the app may have given more.
    execute format('revoke all on %s from public, anon, authenticated, service_role', what);
    foreach given in array clerk_sync.rights_to_give(of_kind, source) loop
        execute format('grant %s on %s to %s', regexp_replace(given, '^\w+ ', ''), what, split_part(given, ' ', 1));
    end loop;
    insert into clerk_sync.exposed as e (name, schema_name, kind, source, columns, definition)
    values (own_name, target, of_kind, source, columns, definition)
    on conflict (name) do update set columns = excluded.columns, definition = excluded.definition;
end
$$;

-- Makes a counterpart of each table and function of the mirror in a schema of the app, where the name is free: a view
-- with the rights of its caller, and a function. outcome: made, there (since an earlier call), corrected, or left, with
-- the reason. Changes nothing that the app made or replaced.
create function clerk_sync.expose(target name default 'public')
returns table (kind text, name text, outcome text, reason text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_mirror text;
    made clerk_sync.exposed;
begin
    if
        not exists (select from pg_catalog.pg_namespace as n where n.nspname = target)
        or not clerk_sync.is_schema_of_app(target) or target = clerk_sync.mirror_schema()
    then
        raise invalid_parameter_value using message = format('%I is no schema of the app', target);
    end if;
    lock table clerk_sync.exposed in share row exclusive mode;
    for kind, of_mirror in select x.kind, x.source from clerk_sync.exposable() as x order by x.place loop
        name := clerk_sync.in_schema(of_mirror, target);
        reason := null;
        select e.* into made from clerk_sync.exposed as e where e.name = clerk_sync.in_schema(of_mirror, target);
        if made.name is not null and not clerk_sync.is_as_made(made) then
            -- Gone, or the app's own now.
            delete from clerk_sync.exposed as e where e.name = made.name;
            made := null;
        end if;
        if made.name is null then
            reason := clerk_sync.why_not_free(kind, of_mirror, target);
            outcome := case when reason is null then 'made' else 'left' end;
        else
            outcome := case
                when exists (select from clerk_sync.faults_of_exposed(made)) then 'corrected' else 'there'
            end;
        end if;
        if outcome in ('made', 'corrected') then
            perform clerk_sync.expose_one(kind, of_mirror, target);
        end if;
        return next;
    end loop;
    perform pg_notify('pgrst', 'reload schema');
end
$$;

-- A regular expression for the name in the text of a function. Only a function may be named without its schema: `users`
-- alone can be another table.
create function clerk_sync.mention_of_exposed(made clerk_sync.exposed)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        case made.kind when 'view' then '(^|\W)%s\.%s(\W|$)' else '(^|[^.\w])(%s\.)?%s\s*\(' end,
        regexp_replace(made.schema_name, '(\W)', '\\\1', 'g'),
        regexp_replace(made.source, '^[^.]+\.([a-z_]+).*$', '\1')
    )
$$;

-- Descriptions of the objects that need a view or function, and must be dropped first. A function whose text names
-- the view or function counts, too, although Postgres does not know of it.
create function clerk_sync.objects_that_need(made clerk_sync.exposed)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with own as (
        select d.classid, d.objid, d.objsubid, d.deptype
        from pg_catalog.pg_depend as d
        where (d.refclassid, d.refobjid) in (
            select
                case made.kind when 'view' then 'pg_class'::regclass else 'pg_proc'::regclass end::oid,
                clerk_sync.object_exposed(made.kind, made.name)
            union all
            select 'pg_type'::regclass, t.id
            from pg_catalog.pg_type as y cross join lateral (values (y.oid), (y.typarray)) as t (id)
            where y.typrelid = clerk_sync.object_exposed(made.kind, made.name) and made.kind = 'view'
        )
    ),

    needing as (
        -- The rule of another view stands for that view.
        select 'pg_class'::regclass::oid as class_id, w.ev_class as id, 0 as part
        from own as o inner join pg_catalog.pg_rewrite as w on o.classid = 'pg_rewrite'::regclass and w.oid = o.objid
        where w.ev_class <> clerk_sync.object_exposed(made.kind, made.name)
        union
        -- Triggers, rules and defaults of the app would go with the view.
        select o.classid, o.objid, o.objsubid
        from own as o left join pg_catalog.pg_rewrite as w on o.classid = 'pg_rewrite'::regclass and w.oid = o.objid
        where o.deptype in ('n', 'a') and (
            w.oid is null
            or (w.rulename <> '_RETURN' and w.ev_class = clerk_sync.object_exposed(made.kind, made.name))
        )
        union
        select 'pg_proc'::regclass, p.oid, 0
        from pg_catalog.pg_proc as p inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where clerk_sync.is_schema_of_app(n.nspname) and n.nspname <> clerk_sync.mirror_schema()
        and p.prosrc ~* clerk_sync.mention_of_exposed(made)
    )

    select coalesce(array_agg(x.description order by x.description), '{}')
    from (select distinct pg_describe_object(n.class_id, n.id, n.part) from needing as n) as x (description)
$$;

-- Removes the views and functions that expose() made in a schema, null for all schemas. outcome: removed; gone (the app
-- dropped or replaced it, and keeps it); or left, with the objects that need it as the reason. Never cascades.
create function clerk_sync.unexpose(target name default null)
returns table (kind text, name text, outcome text, reason text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    made clerk_sync.exposed;
    needing text [];
begin
    lock table clerk_sync.exposed in share row exclusive mode;
    -- Functions first: some have a view's row as their argument.
    for made in
        select e.* from clerk_sync.exposed as e
        where target is null or e.schema_name = target
        order by e.kind, e.name
    loop
        kind := made.kind;
        name := made.name;
        reason := null;
        needing := clerk_sync.objects_that_need(made);
        if not clerk_sync.is_as_made(made) then
            outcome := 'gone';
        elsif needing <> '{}' then
            outcome := 'left';
            reason := array_to_string(needing, ', ')
            || case cardinality(needing) when 1 then ' needs it' else ' need it' end;
        else
            outcome := 'removed';
            execute format('drop %s %s', made.kind, made.name);
        end if;
        if outcome <> 'left' then
            delete from clerk_sync.exposed as e where e.name = made.name;
        end if;
        return next;
    end loop;
    perform pg_notify('pgrst', 'reload schema');
end
$$;

-- Faults of views and functions that expose() made, with the remedies, for `clerk-supabase doctor`. A view or function
-- that the app replaced has none.
create function clerk_sync.faults_of_all_exposed()
returns table (verdict text, found text, todo text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select f.verdict, f.found, format('clerk-supabase expose --schema %s', e.schema_name)
    from clerk_sync.exposed as e cross join lateral clerk_sync.faults_of_exposed(e) as f
    where clerk_sync.is_as_made(e)
    union all
    select
        'warn', format('the %s %s is gone', e.kind, e.name),
        format('clerk-supabase expose --schema %s makes it again', e.schema_name)
    from clerk_sync.exposed as e
    where clerk_sync.object_exposed(e.kind, e.name) is null
    order by 1, 2
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0025_create_expose');
