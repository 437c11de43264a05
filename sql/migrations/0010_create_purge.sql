-- Purges rows deleted longer ago than the hold-back: their personal data is deleted for ever.

-- A row hidden by hand has no delete whose record could begin its hold-back.
create table clerk_sync.hidden_by_hand (
    kind text collate "C" not null,
    id text collate "C" not null,
    seen_at timestamptz not null,
    primary key (kind, id)
);

comment on table clerk_sync.hidden_by_hand is
'Hidden rows of which neither the entity nor a parent was deleted, and when purge() first saw them.';

alter table clerk_sync.hidden_by_hand enable row level security;

-- Rows that could not be emptied. purge() tries these rows again, less and less often, and other rows do not wait.
create table clerk_sync.not_purged (
    kind text collate "C" not null,
    id text collate "C" not null,
    reason text not null,
    tries integer not null default 1,
    first_tried_at timestamptz not null default clock_timestamp(),
    try_again_at timestamptz not null default clock_timestamp() + interval '12 hours',
    primary key (kind, id)
);

comment on table clerk_sync.not_purged is
'Rows whose hold-back is over and that still hold personal data, because something of the app refuses every change.';
comment on column clerk_sync.not_purged.reason is
'A constraint, or a SQLSTATE and the function of the app that raised it; never a value of the row.';

alter table clerk_sync.not_purged enable row level security;

-- A condition for rows r of a kind: true for a row with a value that purge() empties.
create function clerk_sync.is_full(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        string_agg(
            format(
                '(r.%1$I is distinct from %2$s and not clerk_sync.is_empty(to_jsonb(r.%1$I)))',
                c, coalesce(pg_get_expr(d.adbin, d.adrelid), 'null')
            ),
            ' or '
        ),
        'false'
    )
    from unnest(of_kind.mirrored_columns) as c
    inner join pg_catalog.pg_attribute as a on a.attrelid = of_kind.relation::regclass and c = a.attname
    left join pg_catalog.pg_attrdef as d on a.attrelid = d.adrelid and a.attnum = d.adnum
    where a.atthasdef or not a.attnotnull
$$;

-- A query of the hidden rows of a kind that are not purged, or were purged and have values again, as from a backup, and
-- whose children are all hidden, too: id;
-- recorded_at: when the first delete of the row's entity or of a parent was recorded here; seen_at: when purge() first
-- saw the row, which counts where nothing was recorded.
create function clerk_sync.hidden_rows(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.statement_of(
        $query$
        select r.{key}::text as id, least(own.delete_recorded_at {parent_deletes}) as recorded_at, by_hand.seen_at
        from {table} as r
        left join clerk_sync.entities as own on own.kind = {kind} and own.id = r.{key}
        left join clerk_sync.hidden_by_hand as by_hand on by_hand.kind = {kind} and by_hand.id = r.{key}
        {join_parents}
        where r.deleted_at is not null and (own.purged_at is null or {is_full})
        and not exists (select from clerk_sync.unfinished_deletes as u where u.kind = {kind} and u.id = r.{key})
        $query$,
        clerk_sync.holes_of(of_kind) || jsonb_build_object(
            'parent_deletes', clerk_sync.for_each_link(', %3$I.delete_recorded_at', of_kind.parents),
            'join_parents', clerk_sync.for_each_link(
                'left join clerk_sync.entities as %3$I on %3$I.kind = %2$L and %3$I.id = r.%1$I', of_kind.parents, ' '
            ),
            'is_full', clerk_sync.is_full(of_kind)
        )
    )
$$;

-- Records when rows hidden by hand were seen first. Two calls at once write in the same order.
create function clerk_sync.note_hidden_by_hand(of_kind clerk_sync.kinds)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'insert into clerk_sync.hidden_by_hand (kind, id, seen_at) select %2$L, hidden.id, clock_timestamp() '
        || 'from (%1$s) as hidden where hidden.recorded_at is null and hidden.seen_at is null '
        || 'order by hidden.id collate "C" on conflict do nothing',
        clerk_sync.hidden_rows(of_kind), of_kind.kind
    );
end
$$;

-- Deletes the notes about rows no longer hidden. Of two calls at once, each leaves out the notes that the other
-- deletes. Called last: a call that notes any of these rows again waits for this transaction, which then waits for
-- nothing.
create function clerk_sync.forget_what_is_shown()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    noted record;
begin
    for of_kind in select k.* from clerk_sync.kinds as k where k.accompanies = '{}' loop
        for noted in
            select n.* from (
                values ('hidden_by_hand', 'hidden.id is null or hidden.recorded_at is not null'),
                -- purge_sessions() also notes rows that are not hidden.
                ('not_purged', 'hidden.id is null and known.kind <> ''session''')
            ) as n (relation, condition)
        loop
            execute format(
                'delete from clerk_sync.%1$I where (kind, id) in ('
                || 'select known.kind, known.id from clerk_sync.%1$I as known '
                || 'left join (%2$s) as hidden on known.id = hidden.id '
                || 'where known.kind = %3$L and (%4$s) for update of known skip locked)',
                noted.relation, clerk_sync.hidden_rows(of_kind), of_kind.kind, noted.condition
            );
        end loop;
    end loop;
end
$$;

-- Why a row was refused, without a value of the row: the constraint or, as the message of a trigger may quote the row,
-- the SQLSTATE and the innermost function.
create function clerk_sync.reason_of(code text, constraint_name text, context text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when constraint_name <> '' then constraint_name
        when code = '55P03' and split_part(context, E'\n', 1) !~ ' at RAISE$' then 'locked by another transaction'
        else concat('SQLSTATE ', code, ' in ' || substring(context from 'function (\S+\([^)]*\))'))
    end
$$;

-- Whether an error means a timeout or a cancel of the statement. Postgres raises the error once: the rest of the
-- statement has no limit. A trigger may raise the same code.
create function clerk_sync.is_time_over(code text, context text)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select code = '57014' and split_part(context, E'\n', 1) !~ ' at RAISE$'
$$;

-- Empties rows of one kind, one by one, until a moment, but at least one row: no event writes an emptied row again. The
-- caller has locked the rows. Users are scrubbed, which leaves their key for the app to point at, or deleted; all other
-- rows are deleted. A row whose delete is refused is scrubbed. outcome: scrubbed; deleted; refused: scrubbed instead,
-- for the reason; kept: neither. A trigger may also skip the change without an error, or insert the row again: so each
-- row is read afterwards.
create function clerk_sync.empty_rows(of_kind clerk_sync.kinds, due text[], how text, until timestamptz)
returns table (id text, outcome text, reason text)
language plpgsql
set search_path = pg_catalog, pg_temp
-- A short wait for a row that the app has locked.
set lock_timeout = '250ms'
as $$
declare
    scrub constant text := (
        select format(
            'update %s set %s where %I = $1',
            of_kind.relation, string_agg(format('%I = default', c), ', '), of_kind.key_column
        )
        from unnest(of_kind.mirrored_columns) as c
        inner join pg_catalog.pg_attribute as a on a.attrelid = of_kind.relation::regclass and c = a.attname
        where a.atthasdef or not a.attnotnull
    );
    delete_row constant text := format('delete from %s where %I = $1', of_kind.relation, of_kind.key_column);
    is_there constant text := format(
        'select exists (select from %s where %I = $1)', of_kind.relation, of_kind.key_column
    );
    is_full constant text := format(
        'select exists (select from %s as r where r.%I = $1 and (%s))',
        of_kind.relation, of_kind.key_column, clerk_sync.is_full(of_kind)
    );
    is_left boolean;
    is_cancelled boolean := false;
    attempt record;
    why text;
    context text;
begin
    foreach id in array due loop
        outcome := 'kept';
        reason := null;
        for attempt in
            select a.*
            from (
                values (delete_row, 'deleted', is_there), (scrub, 'scrubbed', is_full)
            ) as a (statement, done, look)
            where a.done = 'scrubbed' or of_kind.kind <> 'user' or how = 'delete'
        loop
            begin
                execute attempt.statement using id;
                execute attempt.look into is_left using id;
                if is_left then
                    raise restrict_violation using
                        message = 'the row is as it was', constraint = 'a trigger of the app keeps the row';
                end if;
                outcome := case when reason is null then attempt.done else 'refused' end;
                exit;
            exception
                when others or query_canceled or assert_failure then
                    get stacked diagnostics why = constraint_name, context = pg_exception_context;
                    is_cancelled := clerk_sync.is_time_over(sqlstate, context);
                    reason := coalesce(reason, clerk_sync.reason_of(sqlstate, why, context));
                    exit when is_cancelled;
            end;
        end loop;
        if outcome <> 'kept' then
            update clerk_sync.entities as e set purged_at = now() where e.kind = of_kind.kind and e.id = empty_rows.id;
        end if;
        return next;
        -- After the row: a call without any row would look as if nothing was due.
        exit when is_cancelled or clock_timestamp() > until;
    end loop;
end
$$;

-- Ids by kind, {kind: [id, ...]}: as rows, the union of two, and the ids of the first without the ids of the second.
create function clerk_sync.ids_in(ids_by_kind jsonb)
returns table (kind text, id text)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select k.key, d.id
    from jsonb_each(ids_by_kind) as k cross join lateral jsonb_array_elements_text(k.value) as d (id)
$$;

create function clerk_sync.with_ids(ids_by_kind jsonb, more jsonb)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_object_agg(of_kind.kind, of_kind.ids), '{}')
    from (
        select e.kind, jsonb_agg(e.id) as ids
        from (select * from clerk_sync.ids_in(ids_by_kind) union select * from clerk_sync.ids_in(more)) as e (kind, id)
        group by e.kind
    ) as of_kind
$$;

create function clerk_sync.without_ids(ids_by_kind jsonb, others jsonb)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_object_agg(of_kind.kind, of_kind.ids), '{}')
    from (
        select e.kind, jsonb_agg(e.id) as ids
        from (select * from clerk_sync.ids_in(ids_by_kind) except select * from clerk_sync.ids_in(others)) as e (kind, id)
        group by e.kind
    ) as of_kind
$$;

-- The entities that may accompany others, in the same form: private metadata of users, organizations and memberships,
-- and not of an invitation whose id equals the id of a user.
create function clerk_sync.companions_of(ids_by_kind jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_object_agg(of_kind.kind, of_kind.ids), '{}')
    from (
        select k.kind, jsonb_agg(distinct e.id) as ids
        from clerk_sync.kinds as k inner join clerk_sync.ids_in(ids_by_kind) as e on e.kind = any(k.accompanies)
        group by k.kind
    ) as of_kind
$$;

-- Deletes the rows of such entities.
create function clerk_sync.delete_companions(ids_by_kind jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
begin
    for of_kind in select k.* from clerk_sync.kinds as k where k.accompanies <> '{}' and ids_by_kind ? k.kind loop
        execute format('delete from %s where %I = any($1)', of_kind.relation, of_kind.key_column)
        using array(select jsonb_array_elements_text(ids_by_kind -> of_kind.kind));
    end loop;
end
$$;

-- Makes deferred keys of the app raise their errors at once, where an error is caught, and not at the commit. Before
-- Postgres 18 this statement also runs the deferred triggers of the transaction, with the rights of this function:
-- triggers of the caller's own tables would run as the owner. Before the first write of a transaction there are no such
-- triggers; in any other transaction the keys raise their errors at the commit, which undoes the whole transaction.
create function clerk_sync.check_keys_at_once()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_current_xact_id_if_assigned() is null then
        set constraints all immediate;
    end if;
end
$$;

-- The child rows of rows of a kind, which foreign keys delete together with their parents, as {kind: [id, ...]}.
create function clerk_sync.children_of(of_kind clerk_sync.kinds, parent_ids text[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    link record;
    ids text[];
    children jsonb := '{}';
begin
    for link in
        select k.kind, k.relation, k.key_column, parent.key as column_name
        from clerk_sync.kinds as k cross join lateral jsonb_each_text(k.parents) as parent
        where parent.value = of_kind.kind
    loop
        execute format(
            'select array(select r.%I::text from %s as r where r.%I = any($1))',
            link.key_column, link.relation, link.column_name
        ) into ids using parent_ids;
        children := clerk_sync.with_ids(children, jsonb_build_object(link.kind, ids));
    end loop;
    return children;
end
$$;

-- Locks entities, given as {kind: [id, ...]}, in the order of apply(): new entities, then known entities by kind and
-- id. A row hidden by hand, or an object known only from the audit log, may have had no entity.
create function clerk_sync.lock_entities(ids_by_kind jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    touched constant clerk_sync.change[] := array(
        select row(null, k.kind, d.id, row(-1, -1, null), null, null, null, null, null, null, null)::clerk_sync.change
        from jsonb_each(ids_by_kind) as k (kind, ids)
        cross join lateral jsonb_array_elements_text(k.ids) as d (id)
    );
begin
    insert into clerk_sync.entities (kind, id, version)
    select t.kind, t.id, t.version from unnest(touched) as t
    order by t.kind, t.id
    on conflict do nothing;
    perform from clerk_sync.entities as e
    where (e.kind, e.id) in (select t.kind, t.id from unnest(touched) as t)
    order by e.kind, e.id
    for update;
end
$$;

-- Locks rows, given as {kind: [id, ...]}, in the order of hide_rows(), and returns the locked rows in the same form:
-- all existing rows or, with leaves_out_locked, only the rows without a lock of another session.
create function clerk_sync.lock_rows(ids_by_kind jsonb, leaves_out_locked boolean)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    ids text[];
    locked jsonb := '{}';
begin
    for of_kind in select k.* from clerk_sync.kinds as k where ids_by_kind ? k.kind order by k.write_order loop
        execute format(
            'select array(select r.%1$I from %2$s as r where r.%1$I = any($1) order by r.%1$I for no key update %3$s)',
            of_kind.key_column, of_kind.relation, case when leaves_out_locked then 'skip locked' end
        ) into ids using array(select jsonb_array_elements_text(ids_by_kind -> of_kind.kind));
        locked := locked || jsonb_build_object(of_kind.kind, ids);
    end loop;
    return locked;
end
$$;

-- Locks the parked events whose bodies hold any of the words, and returns their places (ctid); null if another session
-- has locked any of these events. Waits for no lock: a delete of a user may have locked parked events, and wait for
-- entities.
create function clerk_sync.lock_parked_events(words text[])
returns tid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    found tid[] := '{}';
    locked tid[];
begin
    if words = '{}' then
        return found;
    end if;
    found := array(
        select p.ctid from clerk_sync.parked_events as p
        where p.body is not null and clerk_sync.words_of(clerk_sync.readable(p.body)::text) && words
    );
    locked := array(
        select p.ctid from clerk_sync.parked_events as p where p.ctid = any(found) for update skip locked
    );
    return case when cardinality(locked) = cardinality(found) then locked end;
end
$$;

-- The same as lock_rows(), waiting for each row a moment at most; then without the locked rows.
create function clerk_sync.lock_rows_soon(ids_by_kind jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '250ms'
as $$
begin
    return clerk_sync.lock_rows(ids_by_kind, false);
exception
    when lock_not_available then
        return clerk_sync.lock_rows(ids_by_kind, true);
end
$$;

-- Rows of a kind whose hold-back is over and that are to be tried now: at most so many. chosen: the rows of the child
-- kinds, as {kind: [id, ...]}. A parent waits for its children outside chosen: such children are emptied like other
-- rows, and not deleted by the foreign key.
create function clerk_sync.due_rows(
    of_kind clerk_sync.kinds, held_back_until timestamptz, at_most integer, chosen jsonb
)
returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    due text[];
    link record;
    waiting text[];
begin
    execute format(
        'select array(select h.id from (%s) as h where coalesce(h.recorded_at, h.seen_at) <= $1 '
        || 'and not exists (select from clerk_sync.not_purged as n '
        || 'where n.kind = %L and n.id = h.id and n.try_again_at > clock_timestamp()) limit $2)',
        clerk_sync.hidden_rows(of_kind), of_kind.kind
    ) into due using held_back_until, at_most;
    for link in
        select k.kind, k.relation, k.key_column, parent.key as column_name
        from clerk_sync.kinds as k cross join lateral jsonb_each_text(k.parents) as parent
        where parent.value = of_kind.kind
    loop
        execute format(
            'select array(select distinct r.%2$I from %1$s as r '
            || 'left join clerk_sync.entities as e on e.kind = %4$L and e.id = r.%3$I '
            || 'left join clerk_sync.not_purged as n on n.kind = %4$L and n.id = r.%3$I '
            || 'where r.%2$I = any($1) and r.deleted_at is not null and e.purged_at is null '
            || 'and (n.try_again_at > clock_timestamp()) is not true '
            || 'and r.%3$I not in (select c from jsonb_array_elements_text($2) as c))',
            link.relation, link.column_name, link.key_column, link.kind
        ) into waiting using due, coalesce(chosen -> link.kind, '[]');
        due := array(select d from unnest(due) as d where d not in (select w from unnest(waiting) as w));
    end loop;
    return due;
end
$$;

-- Records which rows could not be emptied, as {id: reason}. Returns the reasons of rows noted for the first time, and
-- of rows noted before.
create function clerk_sync.note_not_purged(of_kind text, reasons jsonb)
returns table (reason text, is_new boolean)
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into clerk_sync.not_purged as known (kind, id, reason)
    select of_kind, r.key, r.value from jsonb_each_text(reasons) as r order by r.key collate "C"
    on conflict (kind, id) do update set
        reason = excluded.reason, tries = known.tries + 1,
        try_again_at = clock_timestamp() + interval '12 hours' * 2 ^ least(known.tries, 6)
    returning known.reason, known.tries = 1
$$;

-- Of each kind, rows whose hold-back is over and that are to be tried now: at most so many, as {kind: [id, ...]}.
create function clerk_sync.choose_due(hold_back interval, at_most integer)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    chosen jsonb := '{}';
begin
    for of_kind in
        select k.* from clerk_sync.kinds as k where k.accompanies = '{}' order by k.write_order desc
    loop
        perform clerk_sync.note_hidden_by_hand(of_kind);
        chosen := clerk_sync.with_ids(chosen, jsonb_build_object(
            of_kind.kind, clerk_sync.due_rows(of_kind, clock_timestamp() - hold_back, at_most, chosen)
        ));
    end loop;
    return chosen;
end
$$;

-- Deletes the other data about entities whose rows were purged, given as {kind: [id, ...]}: the rows that accompanied
-- the purged rows, and the values in the audit log. No event writes such a row again.
create function clerk_sync.forget_rest_of(gone jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform clerk_sync.delete_companions(clerk_sync.companions_of(gone));
    update clerk_sync.entities as e set purged_at = now()
    from clerk_sync.ids_in(clerk_sync.with_ids(gone, clerk_sync.companions_of(gone))) as g
    where e.kind = g.kind and e.id = g.id and e.purged_at is null;
    -- The log still says which entity changed and when, without values.
    update clerk_sync.audit_log as a set old_values = null, new_values = null
    from clerk_sync.ids_in(gone) as g where a.entity_id = g.id and a.kind = g.kind;
end
$$;

-- Purges rows whose delete was recorded here longer ago than the hold-back, whenever the delete happened in Clerk.
-- Users are scrubbed, which leaves their key for the app to point at, or deleted, which lets the app's foreign keys
-- cascade; where a foreign key refuses, the row is scrubbed instead and the constraint is named ('refused'). All other
-- rows are deleted. No event writes such a row again. A row is named if neither delete nor scrub is possible ('kept',
-- and from the second time on 'still kept'), is tried again on a later night, and delays no other rows. At most so many
-- rows of each kind, for a few seconds: to be called until the result is empty. Takes the locks of apply(), in its
-- order, and waits only a moment for a locked row.
create function clerk_sync.purge(hold_back interval, how text, at_most integer default 1000)
returns table (kind text, outcome text, constraint_name text, purged bigint)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    until timestamptz;
    of_kind clerk_sync.kinds;
    due text[];
    chosen jsonb;
    touched jsonb;
    free jsonb;
    parked_at tid[];
    users text[];
    words text[];
    domains text[];
    kept_users jsonb;
    emptied jsonb;
    children jsonb;
    kept jsonb;
    gone jsonb := '{}';
begin
    if how is null or how not in ('scrub', 'delete') then
        raise invalid_parameter_value using message = 'users are purged by ''scrub'' or ''delete''';
    end if;
    perform clerk_sync.check_keys_at_once();
    -- The caller may have set other causes.
    perform clerk_sync.set_causes(null);
    chosen := clerk_sync.choose_due(hold_back, at_most);
    if chosen = '{}' then
        perform clerk_sync.forget_what_is_shown();
        return;
    end if;

    -- Only the rows of these users lead to their addresses in other places. An address may be another user's by now.
    users := array(select jsonb_array_elements_text(chosen -> 'user'));
    words := clerk_sync.words_to_empty(users, clerk_sync.identifiers_of(users));
    domains := clerk_sync.domains_with(words);

    touched := clerk_sync.with_ids(chosen, jsonb_build_object('domain', domains));
    for of_kind in select k.* from clerk_sync.kinds as k where chosen ? k.kind loop
        touched := clerk_sync.with_ids(touched, clerk_sync.children_of(
            of_kind, array(select jsonb_array_elements_text(chosen -> of_kind.kind))
        ));
    end loop;
    -- Workers wait longer than 3 seconds for locks.
    until := clock_timestamp() + interval '3 seconds';
    perform clerk_sync.lock_entities(touched || clerk_sync.companions_of(touched));
    lock table clerk_sync.parked_events in share update exclusive mode;
    parked_at := clerk_sync.lock_parked_events(words);
    free := clerk_sync.lock_rows_soon(touched);

    -- The bodies of events that name their user were emptied when the user was deleted.
    update clerk_sync.parked_events as p set body = null where p.ctid = any(parked_at);
    -- A user whose address stays somewhere is kept, too: only the user's row leads to the place of the address.
    kept := clerk_sync.empty_domains_singly(
        domains, array(select d from unnest(domains) as d where free -> 'domain' ? d), words
    ) || case when parked_at is null then '{"": "locked by another transaction"}'::jsonb else '{}' end;
    kept_users := (
        select coalesce(jsonb_object_agg(u, reason.value), '{}')
        from unnest(users) as u
        cross join lateral (select r.value from jsonb_each(kept) as r limit 1) as reason
        where clerk_sync.identifiers_of(array[u]) && words
    );

    for of_kind in
        select k.* from clerk_sync.kinds as k where chosen ? k.kind order by k.write_order desc
    loop
        -- Before the rows were locked, another session may have undone a delete, or purged the row.
        execute format(
            'select array(select h.id from (%s) as h where h.id = any($1) and coalesce(h.recorded_at, h.seen_at) <= $2)',
            clerk_sync.hidden_rows(of_kind)
        )
        into due
        using array(select jsonb_array_elements_text(chosen -> of_kind.kind)), clock_timestamp() - hold_back;

        children := clerk_sync.children_of(of_kind, due);
        -- A parent whose child came before the rows were locked waits for the next call.
        if clerk_sync.without_ids(children, touched) <> '{}' then
            due := array(
                select d from unnest(due) as d
                where clerk_sync.without_ids(clerk_sync.children_of(of_kind, array[d]), touched) = '{}'
            );
        end if;
        kept := case of_kind.kind when 'user' then kept_users else '{}' end || (
            select coalesce(jsonb_object_agg(d, 'locked by another transaction'), '{}')
            from unnest(due) as d where not free -> of_kind.kind ? d
        );
        emptied := (
            select coalesce(jsonb_agg(e), '[]')
            from clerk_sync.empty_rows(
                of_kind, array(select d from unnest(due) as d where not kept ? d), how, until
            ) as e
        );
        kept := kept || (
            select coalesce(jsonb_object_agg(e ->> 'id', e -> 'reason'), '{}')
            from jsonb_array_elements(emptied) as e where e ->> 'outcome' = 'kept'
        );
        return query
        select of_kind.kind, e ->> 'outcome', e ->> 'reason', count(*)
        from jsonb_array_elements(emptied) as e where e ->> 'outcome' <> 'kept'
        group by e ->> 'outcome', e ->> 'reason';
        return query
        select of_kind.kind, case when n.is_new then 'kept' else 'still kept' end, n.reason, count(*)
        from clerk_sync.note_not_purged(of_kind.kind, kept) as n
        group by n.is_new, n.reason;
        -- Child rows that were not deleted, or were scrubbed before, were deleted with their parent.
        gone := clerk_sync.with_ids(gone, clerk_sync.without_ids(children, clerk_sync.lock_rows(children, true)));
        gone := clerk_sync.with_ids(gone, jsonb_build_object(of_kind.kind, array(
            select e ->> 'id' from jsonb_array_elements(emptied) as e where e ->> 'outcome' <> 'kept'
        )));
    end loop;

    perform clerk_sync.forget_rest_of(gone);
    perform clerk_sync.forget_what_is_shown();
end
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0010_create_purge');
