-- Erasure and export of one person: finds all values about the person in the mirrored tables and in the tables of this
-- schema, as listed in the catalogue, and empties these values. Only the owner may call these functions.

create table clerk_sync.erasures (
    erasure_id bigint generated always as identity primary key,
    user_ids text[] not null,
    erased_at timestamptz not null default clock_timestamp(),
    erased_by text not null,
    emptied jsonb not null
);

comment on table clerk_sync.erasures is 'One row per erasure that emptied something. Addresses are not kept.';
comment on column clerk_sync.erasures.user_ids is 'Empty for a person without a user, only invited.';
comment on column clerk_sync.erasures.erased_by is 'Name of the operator on their machine.';
comment on column clerk_sync.erasures.emptied is '{"table": number of rows}';

alter table clerk_sync.erasures enable row level security;

-- A row with data about a person. row_at: the place of the row in its table (ctid), until the next update. kind and id:
-- the entity of the row; null without an entity. verdict:
--   own: the whole row is the person's;
--   part: some values in the row are the person's;
--   ids: the row holds only ids and times, which stay;
--   others: the row is another person's, and in Clerk, too.
create type clerk_sync.held as (
    place text,
    row_at tid,
    kind text,
    id text,
    verdict text,
    content jsonb
);

-- Two expressions for a table's row r: its columns as JSON, with bodies made readable and without columns of the app's
-- own; and the bodies alone.
create function clerk_sync.content_of(relation regclass, own_columns name[], out content text, out bodies text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        format(
            'to_jsonb(r) - %L::text[]%s',
            coalesce(array_agg(a.attname) filter (where a.attname <> all(own_columns)), '{}'),
            coalesce(string_agg(
                format(' || jsonb_build_object(%1$L, clerk_sync.readable(r.%1$I))', a.attname), ''
            ) filter (where a.atttypid = 'bytea'::regtype), '')
        ),
        format(
            'concat_ws('' '', ''''%s)',
            string_agg(format(', clerk_sync.readable(r.%I)', a.attname), '') filter (where a.atttypid = 'bytea'::regtype)
        )
    from pg_catalog.pg_attribute as a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
$$;

-- The tables of this schema that are searched in the same way: all except mirrors and the audit log.
create function clerk_sync.other_tables()
returns setof regclass
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select c.oid::regclass
    from pg_catalog.pg_class as c
    where c.relnamespace = 'clerk_sync'::regnamespace and c.relkind in ('r', 'p')
    and c.oid <> 'clerk_sync.audit_log'::regclass
    and c.oid not in (select k.relation::regclass from clerk_sync.kinds as k)
    order by c.relname
$$;

-- The person's own entities, as {kind: [id, ...]}: users, children of these users, private metadata of both,
-- invitations to an address or accepted by a user, and entries of the waitlist with an address; also entities known
-- only from the audit log.
create function clerk_sync.own_entities(users text[], words text[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    own jsonb := jsonb_build_object('user', users);
    link record;
    ids text[];
begin
    for link in
        select k.kind, k.relation, k.key_column, parent.key as column_name
        from clerk_sync.kinds as k
        cross join lateral jsonb_each_text(k.parents) as parent
        where parent.value = 'user'
        union all
        select k.kind, k.relation, k.key_column, 'accepted_by' from clerk_sync.kinds as k where k.kind = 'invitation'
    loop
        execute format(
            'select array('
            || 'select r.%1$I::text from %2$s as r where r.%3$I = any($1) union '
            || 'select a.entity_id from clerk_sync.audit_log as a '
            || 'where a.kind = %4$L and (a.old_values ->> %3$L = any($1) or a.new_values ->> %3$L = any($1)))',
            link.key_column, link.relation, link.column_name, link.kind
        ) into ids using users;
        own := own || jsonb_build_object(link.kind, ids);
    end loop;
    for link in
        select k.kind, k.relation, k.key_column
        from clerk_sync.kinds as k where k.kind in ('invitation', 'waitlist_entry')
    loop
        execute format(
            'select array('
            || 'select r.%1$I::text from %2$s as r where lower(r.email_address) = any($1) union '
            || 'select a.entity_id from clerk_sync.audit_log as a where a.kind = %3$L and ('
            || 'lower(a.old_values ->> ''email_address'') = any($1) '
            || 'or lower(a.new_values ->> ''email_address'') = any($1)) union '
            || 'select jsonb_array_elements_text($2))',
            link.key_column, link.relation, link.kind
        ) into ids using words, coalesce(own -> link.kind, '[]');
        own := own || jsonb_build_object(link.kind, ids);
    end loop;
    return own || clerk_sync.companions_of(own);
end
$$;

-- Rows of the mirrored tables with data about a person. own: see own_entities(). needles: the words and the ids of the
-- person's users, in lower case. A search for them is cheap and misses no row, so only rows that contain a needle are
-- read word by word: `offset 0` and `case` make the planner do this search first, here and below.
create function clerk_sync.find_in_mirrors(own jsonb, words text[], needles text[])
returns setof clerk_sync.held
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    expressions record;
begin
    for of_kind in select k.* from clerk_sync.kinds as k order by k.write_order loop
        select c.* into expressions from clerk_sync.content_of(
            of_kind.relation::regclass,
            clerk_sync.own_columns(of_kind)
        ) as c;
        return query execute format(
            $statement$
            select
                %1$L, r.ctid, %2$L, r.%3$I::text,
                case
                    when r.%3$I = any($1) then
                        case when e.purged_at is null or found.is_named then 'own' else 'ids' end
                    when found.is_named and %2$L = 'domain' and to_jsonb(r) ->> 'affiliation_email_address' is not null
                        and lower(to_jsonb(r) ->> 'affiliation_email_address') = any($2) then 'part'
                    when found.is_named then 'others'
                    else 'ids'
                end,
                said.content
            from %4$s as r
            left join clerk_sync.entities as e on e.kind = %2$L and e.id = r.%3$I
            cross join lateral (select lower(r::text) as line offset 0) as written
            cross join lateral (
                select case
                    when r.%3$I = any($1) or exists (select from unnest($3) as n where strpos(written.line, n) > 0) then %5$s
                end as content
                offset 0
            ) as said
            cross join lateral (
                select case when said.content is not null then clerk_sync.words_of(said.content::text) end as words offset 0
            ) as of_row
            cross join lateral (select of_row.words && $2 as is_named) as found
            where said.content is not null and (r.%3$I = any($1) or of_row.words && $3)
            $statement$,
            of_kind.relation, of_kind.kind, of_kind.key_column, of_kind.relation, expressions.content
        ) using array(select jsonb_array_elements_text(own -> of_kind.kind)), words, needles;
    end loop;
end
$$;

-- Entries of the audit log with data about a person; arguments as above.
create function clerk_sync.find_in_audit_log(own jsonb, words text[], needles text[])
returns setof clerk_sync.held
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        'clerk_sync.audit_log', a.ctid, a.kind, a.entity_id,
        case
            when is_own.of_person and a.old_values is null and a.new_values is null then 'ids'
            when is_own.of_person then 'own'
            when not of_values.said && words then 'ids'
            -- Another user has or had the address.
            when k.kind = 'user' or jsonb_path_exists(k.parents, '$.* ? (@ == "user")') then 'others'
            else 'part'
        end,
        to_jsonb(a)
    from clerk_sync.audit_log as a
    left join clerk_sync.kinds as k on a.kind = k.kind
    cross join lateral (select own -> a.kind ? a.entity_id as of_person) as is_own
    cross join lateral (select lower(concat_ws(' ', a.old_values, a.new_values)) as line offset 0) as written
    cross join lateral (
        select case
            when exists (select from unnest(needles) as n where strpos(written.line, n) > 0)
                then clerk_sync.words_of(written.line)
            else '{}'
        end as said
        offset 0
    ) as of_values
    where is_own.of_person or of_values.said && needles
$$;

-- Rows of the other tables with data about a person; arguments as above.
create function clerk_sync.find_in_other_tables(words text[], needles text[])
returns setof clerk_sync.held
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    target regclass;
    expressions record;
begin
    for target in select t from clerk_sync.other_tables() as t loop
        select c.* into expressions from clerk_sync.content_of(
            target, array(select a.attname from pg_catalog.pg_attribute as a where a.attrelid = target)
        ) as c;
        return query execute format(
            $statement$
            select
                %1$L, r.ctid, null::text, null::text,
                case
                    when of_row.words && $1 or clerk_sync.words_of(readable.bodies) && $2 then 'part'
                    else 'ids'
                end,
                said.content
            from %1$s as r
            cross join lateral (select %3$s as bodies offset 0) as readable
            cross join lateral (select lower(r::text || readable.bodies) as line offset 0) as written
            cross join lateral (
                select case
                    when exists (select from unnest($2) as n where strpos(written.line, n) > 0) then %2$s
                end as content
                offset 0
            ) as said
            cross join lateral (
                select case when said.content is not null then clerk_sync.words_of(said.content::text) end as words offset 0
            ) as of_row
            where said.content is not null and of_row.words && $2
            $statement$,
            target, expressions.content, expressions.bodies
        ) using words, needles;
    end loop;
end
$$;

-- All rows with data about a person. words: addresses, phone numbers and the like, in lower case. Reads every table
-- once.
create function clerk_sync.find_person(users text[], words text[])
returns setof clerk_sync.held
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    own constant jsonb := clerk_sync.own_entities(users, words);
    needles constant text[] := words || array(select lower(u) from unnest(users) as u);
begin
    return query select f.* from clerk_sync.find_in_mirrors(own, words, needles) as f;

    -- Always the projection of users, which its trigger empties; the key may stay for the app to point at.
    return query
    select
        'clerk.users_public', p.ctid, 'user', p.clerk_id,
        case when jsonb_strip_nulls(to_jsonb(p) - '{clerk_id,deleted_at}'::text[]) = '{}' then 'ids' else 'own' end,
        to_jsonb(p)
    from clerk.users_public as p
    where p.clerk_id = any(users);

    return query select f.* from clerk_sync.find_in_audit_log(own, words, needles) as f;
    return query select f.* from clerk_sync.find_in_other_tables(words, needles) as f;
end
$$;

-- Empties values that contain any of the words, in rows of another table: a text becomes "forgotten", JSON loses the
-- values, and a body is deleted as a whole, also a body with any of the ids. Keys stay.
create function clerk_sync.empty_other_rows(target regclass, rows_at tid[], words text[], ids text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    changes constant text := (
        select string_agg(
            format('%I = ', a.attname) || format(
                case a.atttypid
                    when 'bytea'::regtype then
                        'case when clerk_sync.words_of(clerk_sync.readable(r.%1$I)::text) && ($2 || $3) then '
                        || case when a.attnotnull then '''''::bytea' else 'null' end || ' else r.%1$I end'
                    when 'jsonb'::regtype then 'clerk_sync.without_words(r.%1$I, $2)'
                    when 'text[]'::regtype then
                        'array(select case when clerk_sync.words_of(each) && $2 then ''forgotten'' else each end '
                        || 'from unnest(r.%1$I) with ordinality as element (each, place) order by place)'
                    else 'case when clerk_sync.words_of(r.%1$I) && $2 then ''forgotten'' else r.%1$I end'
                end,
                a.attname
            ),
            ', '
        )
        from pg_catalog.pg_attribute as a
        where a.attrelid = target and a.attnum > 0 and not a.attisdropped
        and a.atttypid in ('text'::regtype, 'varchar'::regtype, 'jsonb'::regtype, 'bytea'::regtype, 'text[]'::regtype)
        and not exists (
            select from pg_catalog.pg_index as i
            where i.indrelid = target and i.indisunique and a.attnum = any(i.indkey::int2[])
        )
    );
begin
    if changes is not null then
        execute format('update %s as r set %s where r.ctid = any($1)', target, changes) using rows_at, words, ids;
    end if;
end
$$;

-- Empties values of a person in rows of others: in the audit log and in the other tables.
create function clerk_sync.empty_parts(rows_found clerk_sync.held[], users text[], words text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target record;
begin
    update clerk_sync.audit_log as a set
        old_values = clerk_sync.without_words(a.old_values, words),
        new_values = clerk_sync.without_words(a.new_values, words)
    where a.ctid = any(
        array(select f.row_at from unnest(rows_found) as f where f.place = 'clerk_sync.audit_log' and f.verdict = 'part')
    );
    for target in
        select t as relation, array_agg(f.row_at) as rows_at
        from clerk_sync.other_tables() as t inner join unnest(rows_found) as f on t::text = f.place
        group by t
        order by t::text
    loop
        perform clerk_sync.empty_other_rows(
            target.relation, target.rows_at, words, array(select lower(u) from unnest(users) as u)
        );
    end loop;
end
$$;

-- Empties the person's own rows, and returns {constraint: rows} of rows that could only be scrubbed. Raises 23001 if a
-- row can be neither deleted nor emptied.
create function clerk_sync.empty_own_rows(rows_found clerk_sync.held[], how text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    due text[];
    refused jsonb := '{}';
    kept text;
begin
    for of_kind in select k.* from clerk_sync.kinds as k order by k.write_order desc loop
        due := array(
            select f.id from unnest(rows_found) as f
            where f.place = of_kind.relation and f.kind = of_kind.kind and f.verdict = 'own' order by f.id
        );
        continue when due = '{}';
        if of_kind.accompanies <> '{}' then
            perform clerk_sync.delete_companions(jsonb_build_object(of_kind.kind, due));
        else
            with emptied as (
                select e.outcome, e.reason, count(*) as row_count
                from clerk_sync.empty_rows(of_kind, due, how, 'infinity') as e
                group by e.outcome, e.reason
            )

            select
                refused || coalesce(
                    jsonb_object_agg(e.reason, e.row_count) filter (where e.outcome = 'refused'), '{}'
                ),
                min(e.reason) filter (where e.outcome = 'kept')
            into refused, kept
            from emptied as e;
            if kept is not null then
                raise restrict_violation using message = format(
                    'a row of %s can be neither deleted nor emptied: %s', of_kind.relation, kept
                );
            end if;
        end if;
    end loop;
    return refused;
end
$$;

-- {users, words, purge_by, erased_by} -> {words, emptied: {table: rows}, refused: {constraint: rows}}. Empties the data
-- that find_person() finds about a person whose users were all deleted in Clerk; all or nothing. words: the given words
-- and the identifiers in the users' rows until now; to be called with these words again until nothing is emptied.
-- Takes the locks of apply() in its order.
create function clerk_sync.forget(request jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    users constant text[] := array(select jsonb_array_elements_text(request -> 'users'));
    known constant text[] := array(select jsonb_array_elements_text(request -> 'words'))
    || clerk_sync.identifiers_of(users);
    of_others constant jsonb := clerk_sync.words_of_others(users, known);
    words constant text[] := array(select distinct w from unnest(known) as w where not of_others ? w);
    of_users constant jsonb := jsonb_build_object('user', users);
    found clerk_sync.held[];
    own jsonb;
    touched jsonb;
    domains text[];
    emptied jsonb;
    refused jsonb;
    of_kind clerk_sync.kinds;
begin
    found := array(
        select row(f.place, f.row_at, f.kind, f.id, f.verdict, null)::clerk_sync.held
        from clerk_sync.find_person(users, words) as f where f.verdict in ('own', 'part')
    );
    own := (
        select coalesce(jsonb_object_agg(grouped.kind, grouped.ids), '{}')
        from (
            select each.kind, jsonb_agg(distinct each.id) as ids
            from (
                select f.kind, f.id from unnest(found) as f where f.verdict = 'own'
                union all
                select i.kind, i.id from clerk_sync.ids_in(of_users || clerk_sync.companions_of(of_users)) as i
            ) as each (kind, id)
            group by each.kind
        ) as grouped
    );
    domains := array(select distinct f.id from unnest(found) as f where f.kind = 'domain' and f.verdict = 'part');

    select k.* into of_kind from clerk_sync.kinds as k where k.kind = 'user';
    touched := clerk_sync.with_ids(
        clerk_sync.with_ids(own, jsonb_build_object('domain', domains)), clerk_sync.children_of(of_kind, users)
    );
    perform clerk_sync.lock_entities(touched);
    lock table clerk_sync.parked_events in share update exclusive mode;
    if clerk_sync.lock_parked_events(words || array(select lower(u) from unnest(users) as u)) is null then
        raise serialization_failure using message = 'somebody else is changing a parked event of the user: try again';
    end if;
    if
        request ->> 'purge_by' = 'delete'
        and clerk_sync.without_ids(clerk_sync.children_of(of_kind, users), touched) <> '{}'
    then
        -- The foreign key would delete the membership.
        raise serialization_failure using message = 'a membership of the user came meanwhile: try again';
    end if;
    perform clerk_sync.lock_rows(touched, false);

    if exists (
        select from unnest(users) as u where not exists (
            select from clerk_sync.entities as e where e.kind = 'user' and e.id = u and e.deleted_at is not null
        )
    ) then
        raise object_not_in_prerequisite_state using message = 'a user is forgotten once Clerk has deleted them';
    end if;
    if not clerk_sync.identifiers_of(users) <@ known then
        raise serialization_failure using message = 'an event told a new address of the user meanwhile: try again';
    end if;

    refused := clerk_sync.empty_own_rows(found, request ->> 'purge_by');
    update clerk_sync.entities as e set
        purged_at = coalesce(e.purged_at, now()),
        deleted_at = coalesce(e.deleted_at, floor(extract(epoch from now()) * 1000)::bigint),
        delete_recorded_at = coalesce(e.delete_recorded_at, now())
    from jsonb_each(own) as o (kind, ids)
    where e.kind = o.kind and o.ids ? e.id and (e.purged_at is null or e.deleted_at is null);
    update clerk.users_public as p set username = null, first_name = null, last_name = null, avatar_url = null
    where p.clerk_id = any(users);

    -- Also in the audit entries of the statements above.
    update clerk_sync.audit_log as a set old_values = null, new_values = null
    from jsonb_each(own) as o (kind, ids)
    where a.entity_id = any(array(select jsonb_array_elements_text(o.ids))) and a.kind = o.kind
    and (a.old_values is not null or a.new_values is not null);
    perform clerk_sync.empty_domains(domains, words);
    perform clerk_sync.empty_parts(found, users, words);

    select coalesce(jsonb_object_agg(f.place, f.number), '{}') into emptied
    from (select f.place, count(*) as number from unnest(found) as f group by f.place) as f;
    if emptied <> '{}' then
        insert into clerk_sync.erasures (user_ids, erased_by, emptied) values (users, request ->> 'erased_by', emptied);
    end if;
    return jsonb_build_object('words', words, 'emptied', emptied, 'refused', refused);
end
$$;

-- Places of the app with data about these users: tables with a foreign key to users or users_public, tables of
-- secure(), tables that follow the mirror or have links, and columns added by the app to a mirrored table. Only the app
-- knows their content.
create function clerk_sync.apps_rows(users text[])
returns table (place text, column_name text, row_count bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found record;
begin
    for found in
        select c.conrelid::regclass as relation, a.attname as name
        from pg_catalog.pg_constraint as c
        cross join lateral unnest(c.conkey) as key (attnum)
        inner join pg_catalog.pg_attribute as a on c.conrelid = a.attrelid and key.attnum = a.attnum
        where c.contype = 'f' and cardinality(c.conkey) = 1
        and c.confrelid in ('clerk.users'::regclass, 'clerk.users_public'::regclass)
        and c.conrelid not in (select k.relation::regclass from clerk_sync.kinds as k)
        and c.conrelid <> 'clerk.users_public'::regclass
        union
        select p.polrelid::regclass, a.attname
        from pg_catalog.pg_policy as p
        inner join pg_catalog.pg_depend as d
            on p.oid = d.objid and d.classid = 'pg_catalog.pg_policy'::regclass and p.polrelid = d.refobjid
        inner join pg_catalog.pg_attribute as a on p.polrelid = a.attrelid and d.refobjsubid = a.attnum
        where p.polname = 'clerk_sync_select' and clerk_sync.is_like_text(a.atttypid)
        union
        select a.attrelid::regclass, a.attname
        from (
            select f.target, m.name
            from clerk_sync.feeds as f
            inner join clerk_sync.kinds as k on f.kind = k.kind
            cross join lateral jsonb_each_text(f.mapping -> 'key') as m (name, expression)
            where (k.kind = 'user' and m.expression = 'mirror.' || k.key_column)
            or k.parents ->> substring(m.expression from '^mirror\.(.*)$') = 'user'
            union
            select l.relation, l.key_column from clerk_sync.links as l where l.undone_at is null
        ) as fed (target, name)
        inner join pg_catalog.pg_attribute as a
            on a.attrelid = to_regclass(fed.target) and fed.name = a.attname and a.attnum > 0 and not a.attisdropped
        order by 1, 2
    loop
        return query execute format(
            'select %L, %L, count(*) from %s as r where r.%I::text = any($1) having count(*) > 0',
            found.relation, found.name, found.relation, found.name
        ) using users;
    end loop;
    for found in
        select k.relation, k.key_column as name, a.attname as own_column
        from clerk_sync.kinds as k
        inner join pg_catalog.pg_attribute as a on a.attrelid = k.relation::regclass
        where k.kind = 'user' and a.attnum > 0 and not a.attisdropped
        and a.attname <> all(k.key_column || k.mirrored_columns || array['deleted_at']::name[])
        order by 3
    loop
        return query execute format(
            'select %L, %L, count(r.%I) from %s as r where r.%I = any($1) having count(r.%I) > 0',
            found.relation, found.own_column, found.own_column, found.relation, found.name, found.own_column
        ) using users;
    end loop;
end
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0023_create_erasure');
