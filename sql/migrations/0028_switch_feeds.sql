-- Feeds at work: the write of a change, unfed rows and their retry, the comparison with the app's table, the switch.

-- The columns of the mirror that the key of a mapping may read: each column whose name its expressions contain, except
-- as a column of another table.
create function clerk_sync.columns_of_key(feed clerk_sync.feeds)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select a.attname::text
        from clerk_sync.kinds as k
        inner join pg_catalog.pg_attribute as a on a.attrelid = k.relation::regclass
        where k.kind = feed.kind and a.attnum > 0 and not a.attisdropped and exists (
            select from jsonb_each_text(feed.mapping -> 'key') as e
            where regexp_replace(e.value, '\m(?!mirror\M)\w+"?\s*\.\s*"?\w+', '', 'gi') ~* ('\m' || a.attname || '\M')
        )
        order by a.attnum
    )
$$;

-- Lists objects as unfed. gone: rows that the mirror no longer has, with the id of the object as `.id`; of these rows,
-- the ids that the key reads are kept. Nothing here may fail the change of the mirror, nor wait for another session.
create function clerk_sync.note_unfed(
    feed integer, ids text[], failure_code text, failure_reason text, gone jsonb default null
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_key text[];
begin
    if gone is not null then
        select clerk_sync.columns_of_key(f) into of_key from clerk_sync.feeds as f where f.feed_id = feed;
    end if;
    insert into clerk_sync.unfed_rows as known (feed_id, object_id, code, reason, key_of_gone)
    select feed, i.id, failure_code, failure_reason, g.key
    from (select distinct given.id from unnest(ids) as given (id) where given.id is not null) as i
    left join (
        select r ->> '.id' as id, (
            select coalesce(jsonb_object_agg(c.key, c.value), '{}') from jsonb_each(r) as c
            where c.key like '%\_id' and c.key = any(of_key)
        ) as key
        from jsonb_array_elements(gone) as r
    ) as g on i.id = g.id
    order by i.id
    on conflict (feed_id, object_id) do update set
        code = excluded.code, reason = excluded.reason, tries = known.tries + 1, last_at = excluded.last_at,
        key_of_gone = coalesce(excluded.key_of_gone, known.key_of_gone);
exception
    when others or assert_failure or query_canceled then
        raise warning 'rows of a feed could not be listed as unfed (SQLSTATE %); the next comparison finds them', sqlstate;
end
$$;

-- Whether the statement of the caller has used all its time. Postgres ends a statement once: after the caught cancel,
-- the rest of the statement has no limit.
create function clerk_sync.is_statement_over()
returns boolean
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select s.timeout > interval '0' and clock_timestamp() >= statement_timestamp() + s.timeout
    from (select current_setting('statement_timeout')::interval as timeout) as s
$$;

-- Makes the deferred constraints of the owner's tables raise their errors now, where an error is caught, and not at the
-- commit. Before Postgres 18 the waiting triggers of these constraints run at once, with the rights of the owner: so no
-- name counts that a constraint trigger with another owner's function has, too. path: where the functions of the app
-- find a bare name.
create function clerk_sync.check_apps_keys_at_once(path text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    names text;
begin
    -- Mostly there is none.
    if not exists (select from pg_catalog.pg_constraint as k where k.condeferred) then
        return;
    end if;
    select string_agg(format('%I.%I', n.nspname, d.conname), ', ') into names
    from (
        select k.connamespace, k.conname
        from pg_catalog.pg_constraint as k
        inner join pg_catalog.pg_class as c on k.conrelid = c.oid and c.relpersistence <> 't'
        left join pg_catalog.pg_trigger as t on k.contype = 't' and t.tgconstraint = k.oid
        left join pg_catalog.pg_proc as p on t.tgfoid = p.oid
        where k.condeferrable
        group by k.connamespace, k.conname
        having bool_or(k.condeferred) and bool_and(c.relowner = current_user::regrole)
        and bool_and(k.contype <> 't' or p.proowner = current_user::regrole)
    ) as d
    inner join pg_catalog.pg_namespace as n on d.connamespace = n.oid;
    if names is not null then
        perform set_config('search_path', path, true);
        execute format('set constraints %s immediate', names);
    end if;
end
$$;

-- The roles whose sessions run SQL of others. None of these roles may have code in a trigger that a feed runs.
create function clerk_sync.roles_of_callers()
returns oid[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array[
        to_regrole('anon'), to_regrole('authenticated'), to_regrole('authenticator'), to_regrole('service_role'),
        to_regrole('clerk_sync_worker'), to_regrole('clerk_sync_session')
    ]::oid[]
$$;

-- The tables that a write of a feed reaches: the app's table, its partitions, tables below a view, and tables whose
-- foreign keys follow. Without tables that triggers of the app write.
create function clerk_sync.tables_of_feed(target regclass)
returns setof regclass
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive reached as (
        select target::oid as id
        union
        select n.id
        from reached as r
        cross join lateral (
            select i.inhrelid as id from pg_catalog.pg_inherits as i where i.inhparent = r.id
            union all
            select k.conrelid from pg_catalog.pg_constraint as k
            where k.contype = 'f' and k.confrelid = r.id
            and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd'))
            union all
            select d.refobjid
            from pg_catalog.pg_rewrite as w
            inner join pg_catalog.pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
            where w.ev_class = r.id and d.refclassid = 'pg_class'::regclass
        ) as n
    )

    select c.oid::regclass
    from reached as r inner join pg_catalog.pg_class as c on c.oid = r.id
    where c.relkind in ('r', 'p', 'v') and c.relnamespace <> all(
        array(select n.oid from pg_catalog.pg_namespace as n where n.nspname in ('clerk', 'clerk_sync', 'pg_catalog'))
    )
$$;

-- Statements that take the right to create triggers from these roles. Supabase's default privileges give this right, no
-- request of the API uses the right, and the code of such a trigger would run with the rights of the owner.
create function clerk_sync.triggers_to_revoke(target regclass)
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'revoke trigger on %s from %s', t, string_agg(coalesce(quote_ident(r.rolname), 'public'), ', ' order by r.rolname)
    )
    from clerk_sync.tables_of_feed(target) as t
    inner join pg_catalog.pg_class as c on t = c.oid
    cross join lateral aclexplode(c.relacl) as a
    left join pg_catalog.pg_roles as r on a.grantee = r.oid
    -- A foreign key writes with the rights of the table's owner: another owner's table is no concern of the feed.
    where a.privilege_type = 'TRIGGER' and a.grantee <> c.relowner and pg_has_role(c.relowner, 'usage')
    and (a.grantee = 0 or a.grantee = any(clerk_sync.roles_of_callers()))
    group by t
    order by t::text
$$;

-- Raises 42501 while a trigger anywhere has a function of one of these roles. Mostly these roles own no function, and
-- triggers have no index by their functions. Owners alone ('o'): Supabase's default privileges grant execute on every
-- function of the app.
create function clerk_sync.check_triggers()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    functions_of_callers constant oid[] := array(
        select d.objid from pg_catalog.pg_shdepend as d
        where d.refclassid = 'pg_authid'::regclass and d.classid = 'pg_proc'::regclass and d.deptype = 'o'
        and d.refobjid = any(clerk_sync.roles_of_callers())
        and d.dbid = (select b.oid from pg_catalog.pg_database as b where b.datname = current_database())
    );
begin
    if functions_of_callers <> '{}' and exists (
        select from pg_catalog.pg_trigger as t where t.tgfoid = any(functions_of_callers) and not t.tgisinternal
    ) then
        raise insufficient_privilege using constraint = 'a trigger of a role of the API';
    end if;
end
$$;

-- Writes rows of one feed in a subtransaction. code and reason: why they could not be written; null: written.
create function clerk_sync.try_feed(feed integer, ids text[], gone jsonb, out code text, out reason text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    unlinked text[];
    constraint_name text;
    column_name text;
    context text;
begin
    -- First: a trigger of the app may write to the mirror again, and the inner write may fail.
    delete from clerk_sync.unfed_rows as u
    where u.feed_id = feed and u.object_id = any(ids || array(select g ->> '.id' from jsonb_array_elements(gone) as g));
    execute format('select clerk_sync.%I($1, $2)', 'write_feed_' || feed) into unlinked using ids, gone;
    if unlinked is not null then
        perform clerk_sync.note_unfed(feed, unlinked, '23502', 'a column of the key is null: a row it needs is missing');
    end if;
exception
    -- Of a cancel, too, whether by a limit of time or by a person: the rest of the change goes on.
    when others or assert_failure or query_canceled then
        get stacked diagnostics constraint_name = constraint_name, column_name = column_name, context = pg_exception_context;
        code := sqlstate;
        reason := coalesce(
            case when constraint_name = '' and column_name <> '' then 'column ' || column_name end,
            clerk_sync.reason_of(sqlstate, constraint_name, context), 'SQLSTATE ' || sqlstate
        );
end
$$;

-- Writes rows of a feed one by one, until a moment; the rest is unfed. Of a single row the failure is known.
create function clerk_sync.feed_singly(
    feed integer, ids text[], gone jsonb, until timestamptz, failure_code text, failure_reason text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '20ms'
as $$
declare
    is_alone constant boolean := cardinality(ids) + coalesce(jsonb_array_length(gone), 0) = 1;
    single record;
    failed record;
begin
    for single in
        select i as id, array[i] as ids, null::jsonb as gone from unnest(ids) as i
        union all
        select g ->> '.id', '{}', jsonb_build_array(g) from jsonb_array_elements(gone) as g
    loop
        if is_alone then
            select failure_code as code, failure_reason as reason into failed;
        elsif clock_timestamp() >= until then
            select '57014' as code, 'not tried: other rows took too long' as reason into failed;
        else
            failed := clerk_sync.try_feed(feed, single.ids, single.gone);
        end if;
        if failed.code is not null then
            perform clerk_sync.note_unfed(feed, array[single.id], failed.code, failed.reason, single.gone);
        end if;
    end loop;
end
$$;

-- Makes rows of the app equal to the mirror, for the ids of objects, or for rows that the mirror no longer has (gone).
-- All together; after a failure one by one, for as long as patience says. No error, lock or time limit reaches the
-- caller.
create function clerk_sync.feed_rows(
    feed integer,
    ids text[],
    gone jsonb default null,
    patience interval default '1 second',
    is_retry boolean default false
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
declare
    began constant timestamptz := clock_timestamp();
    -- A trigger of the app may write to the mirror again: the feed follows, but not without end.
    depth constant integer := coalesce(substring(current_setting('clerk_sync.feed_depth', true) from '^[0-9]$'), '0');
    key text;
    is_suspended boolean;
    begun_switch boolean;
    failed record;
    why_not text;
begin
    if cardinality(ids) = 0 and gone is null then
        return;
    end if;
    select
        k.key_column, coalesce(f.suspended_until > began and not is_retry, false),
        f.suspended_until > began + interval '1 day'
    into key, is_suspended, begun_switch
    from clerk_sync.feeds as f inner join clerk_sync.kinds as k using (kind) where f.feed_id = feed;
    if key is null then
        return;
    end if;
    if gone is not null then
        gone := (select jsonb_agg(g || jsonb_build_object('.id', g ->> key)) from jsonb_array_elements(gone) as g);
    end if;
    why_not := case
        when is_suspended and begun_switch then 'not tried: clerk-supabase switch-instance has not ended'
        when is_suspended then 'not tried: a write before took too long'
        when clerk_sync.is_statement_over() then 'not tried: other rows took too long'
        when depth >= 3 then 'not tried: triggers write to the mirror again and again'
    end;
    if why_not is not null then
        perform clerk_sync.note_unfed(
            feed, ids || array(select g ->> key from jsonb_array_elements(gone) as g), '57014', why_not, gone
        );
        return;
    end if;
    perform set_config('clerk_sync.feed_depth', (depth + 1)::text, true);
    failed := clerk_sync.try_feed(feed, ids, gone);
    if failed.code is not null then
        perform clerk_sync.feed_singly(feed, ids, gone, began + patience, failed.code, failed.reason);
    end if;
    perform set_config('clerk_sync.feed_depth', depth::text, true);
    if clock_timestamp() > began + 2 * patience + cardinality(ids) * interval '5 milliseconds' then
        update clerk_sync.feeds as f set suspended_until = clock_timestamp() + interval '30 seconds'
        where f.feed_id = any(array(
            select k.feed_id from clerk_sync.feeds as k where k.feed_id = feed for no key update skip locked
        ));
    end if;
end
$$;

-- The deleted ones of these objects, as rows with the ids that the key reads. The mirror has no row of any of these
-- objects: only a tombstone, or a delete that the feed saw, proves a delete. A living object stays unfed, as does an
-- object whose row cannot be named; an unknown object is forgotten: `adopt compare` lists its row.
create function clerk_sync.deleted_objects(feed clerk_sync.feeds, key text, ids text[])
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    is_followed constant boolean := coalesce(feed.mapping ->> 'on_delete', 'keep') <> 'keep';
    of_key constant text[] := clerk_sync.columns_of_key(feed);
    living text[];
    nameless text[];
    unknown text[];
    deleted jsonb;
begin
    select
        array_agg(o.id) filter (where o.state = 'living'), array_agg(o.id) filter (where o.state = 'nameless'),
        array_agg(o.id) filter (where o.state = 'unknown'), jsonb_agg(o.known) filter (where o.state = 'deleted')
    into living, nameless, unknown, deleted
    from (
        select i.id, r.known, case
            when e.deleted_at is null and e.id is not null then 'living'
            when is_followed and not r.known ?& of_key then 'nameless'
            when e.id is not null or u.key_of_gone is not null then 'deleted'
            else 'unknown'
        end as state
        from unnest(ids) as i (id)
        left join clerk_sync.entities as e on e.kind = feed.kind and e.id = i.id
        left join clerk_sync.unfed_rows as u on u.feed_id = feed.feed_id and u.object_id = i.id
        cross join lateral (select jsonb_build_object(key, i.id) || coalesce(u.key_of_gone, '{}')) as r (known)
    ) as o;
    perform clerk_sync.note_unfed(
        feed.feed_id, living, '02000', 'the mirror has no row: a comparison with Clerk restores it'
    ) where living is not null;
    perform clerk_sync.note_unfed(
        feed.feed_id, nameless, '02000',
        'the mirror no longer has the object: after a comparison with Clerk, delete or clear its row here, if there is one, '
        'and then delete the row of unfed_rows'
    ) where nameless is not null;
    delete from clerk_sync.unfed_rows as u where u.feed_id = feed.feed_id and u.object_id = any(unknown);
    return deleted;
end
$$;

-- Feeds objects again, as the mirror is now: an object is locked first, so that no older state overwrites a newer one.
-- A session that holds a lock on an object feeds the object, too. A row that still differs afterwards is listed as
-- unfed: a trigger of the app keeps another value, or skips the row. Returns the number of objects written.
create function clerk_sync.feed_again(feed clerk_sync.feeds, ids text[], patience interval)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    busy text[];
    there text[];
    locked text[];
    absent jsonb;
    kept text[];
begin
    select k.* into strict of_kind from clerk_sync.kinds as k where k.kind = feed.kind;
    busy := array(
        select e.id from clerk_sync.entities as e where e.kind = feed.kind and e.id = any(ids)
    );
    busy := array(select unnest(busy) except all select unnest(array(
        select e.id from clerk_sync.entities as e where e.kind = feed.kind and e.id = any(ids)
        order by e.id for no key update skip locked
    )));
    execute format('select array(select m.%1$I from %2$s as m where m.%1$I = any($1))', of_kind.key_column, of_kind.relation)
    into there using ids;
    execute format(
        'select array(select m.%1$I from %2$s as m where m.%1$I = any($1) and not m.%1$I = any($2) order by m.%1$I '
        'for no key update skip locked)', of_kind.key_column, of_kind.relation
    ) into locked using ids, busy;
    busy := busy || array(select unnest(there) except all select unnest(locked || busy));
    absent := clerk_sync.deleted_objects(feed, of_kind.key_column, array(
        select unnest(ids) except select unnest(there || busy)
    ));
    perform clerk_sync.note_unfed(feed.feed_id, busy, '55P03', 'the object is locked by another transaction')
    where busy <> '{}';
    perform clerk_sync.feed_rows(feed.feed_id, locked, absent, patience, true);
    if not clerk_sync.is_statement_over() then
        execute format(
            'select d.to_insert || d.to_update || d.to_delete from clerk_sync.%I($1) as d', 'differing_feed_' || feed.feed_id
        ) into kept using array(
            select l from unnest(locked) as l where not exists (
                select from clerk_sync.unfed_rows as u where u.feed_id = feed.feed_id and u.object_id = l
            )
        );
    end if;
    perform clerk_sync.note_unfed(
        feed.feed_id, kept, '00000',
        'a trigger or rule of the table keeps another value or skips the row, or an expression never repeats its value'
    ) where kept <> '{}';
    return (
        select count(*) from unnest(ids) as i
        where not exists (select from clerk_sync.unfed_rows as u where u.feed_id = feed.feed_id and u.object_id = i)
    );
exception
    when undefined_column or undefined_table or undefined_function or insufficient_privilege then
        perform clerk_sync.note_unfed(feed.feed_id, ids, sqlstate, 'SQLSTATE ' || sqlstate);
        return 0;
end
$$;

-- {limit, seconds} -> {tried, written, left, oldest_seconds}: tries unfed rows again, those that waited longest first.
create function clerk_sync.retry_unfed(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    wanted constant integer := clerk_sync.whole_number(request, 'limit', 1, 100000);
    began constant timestamptz := clock_timestamp();
    until constant timestamptz := began
    + clerk_sync.whole_number(request, 'seconds', 1, 600) * interval '1 second';
    feed clerk_sync.feeds;
    ids text[];
    tried integer := 0;
    written integer := 0;
begin
    for feed in
        select f.* from clerk_sync.feeds as f
        where exists (select from clerk_sync.unfed_rows as u where u.feed_id = f.feed_id)
        -- Until the ids of another Clerk instance are in the app's tables.
        and (f.suspended_until > began + interval '1 day') is not true
        order by f.suspended_until nulls first, f.feed_id
    loop
        loop
            -- Few at a time: the first write of each portion is not cut short.
            ids := array(
                select u.object_id from clerk_sync.unfed_rows as u
                where u.feed_id = feed.feed_id and u.last_at < began order by u.last_at limit least(wanted - tried, 50)
            );
            exit when ids = '{}' or clock_timestamp() >= until;
            tried := tried + cardinality(ids);
            written := written + clerk_sync.feed_again(feed, ids, interval '1 second');
        end loop;
    end loop;
    return jsonb_build_object('tried', tried, 'written', written) || (
        select jsonb_build_object(
            'left', count(*), 'oldest_seconds', extract(epoch from clock_timestamp() - min(u.first_at))::bigint
        )
        from clerk_sync.unfed_rows as u
    );
end
$$;

-- The objects of a page that differ from the app's table, with the counts by action. An object whose expressions raise
-- an error is found by halves: differing, too, and counted as failing.
create function clerk_sync.differences_of_feed(
    feed clerk_sync.feeds, ids text[], out differing text[], out counts jsonb
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    half constant integer := cardinality(ids) / 2;
    parts jsonb[];
    part record;
    found clerk_sync.differing_rows;
begin
    execute format('select * from clerk_sync.%I($1)', 'differing_feed_' || feed.feed_id) into found using ids;
    differing := found.to_insert || found.to_update || found.to_delete || found.unlinked;
    counts := jsonb_build_object(
        'to insert', coalesce(cardinality(found.to_insert), 0),
        'to update', coalesce(cardinality(found.to_update), 0),
        'to delete', coalesce(cardinality(found.to_delete), 0),
        'unlinked', coalesce(cardinality(found.unlinked), 0)
    );
exception
    -- An error of the table or of a lock is the same for every object.
    when syntax_error_or_access_rule_violation or lock_not_available or transaction_rollback then
        raise;
    when others or assert_failure then
        if half = 0 then
            differing := ids;
            counts := '{"to insert": 0, "to update": 0, "to delete": 0, "unlinked": 0, "failing": 1}';
            return;
        end if;
        for step in 0..1 loop
            select d.* into part from clerk_sync.differences_of_feed(
                feed, case step when 0 then ids[:half] else ids[half + 1:] end
            ) as d;
            differing := differing || part.differing;
            parts := parts || part.counts;
            -- An expression that fails for each of so many objects is not asked about each other one.
            if half >= 16 and (part.counts ->> 'failing')::integer = half then
                differing := ids;
                parts := array[part.counts || jsonb_build_object('failing', cardinality(ids))];
                exit;
            end if;
        end loop;
        counts := (
            select jsonb_object_agg(c.key, c.total) from (
                select e.key, sum(e.value::bigint) as total
                from unnest(parts) as p (counts) cross join lateral jsonb_each_text(p.counts) as e group by e.key
            ) as c
        );
end
$$;

-- Compares a page of the mirror with the app's table, and feeds what differs unless is_dry. after: the last key of the
-- page before, null at first; the answer has the last key of this page, null after the last page.
-- {after, compared, "to insert", "to update", "to delete", unlinked, written, "not written"}
create function clerk_sync.compare_page(
    feed clerk_sync.feeds, after text, most integer, is_dry boolean, patience interval
)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    ids text[];
    counts jsonb;
    differing text[];
    written integer := 0;
begin
    select k.* into strict of_kind from clerk_sync.kinds as k where k.kind = feed.kind;
    execute format(
        'select array(select m.%1$I from %2$s as m where ($1::text is null or m.%1$I > $1) order by m.%1$I limit $2)',
        of_kind.key_column, of_kind.relation
    ) into ids using after, most;
    select d.* into differing, counts from clerk_sync.differences_of_feed(feed, ids) as d;
    if not is_dry and differing is not null then
        written := clerk_sync.feed_again(feed, differing, patience);
    end if;
    return counts || jsonb_build_object(
        'after', case when cardinality(ids) = most then ids[most] end, 'compared', cardinality(ids), 'written', written,
        'not written', case when is_dry then 0 else coalesce(cardinality(differing), 0) - written end
    );
end
$$;

-- {run, lease, limit} -> {is_done}, or null when the run is over: compares a page of the next feed for a run, and
-- keeps the place and the counts in the row of the run.
create function clerk_sync.compare_feed(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    run constant clerk_sync.reconcile_runs := clerk_sync.leased_run(request);
    feed clerk_sync.feeds;
    known jsonb;
    page jsonb;
    most integer := clerk_sync.whole_number(request, 'limit', 1, 10000);
    is_late boolean := false;
begin
    if run.run_id is null then
        return null;
    end if;
    select f.* into feed from clerk_sync.feeds as f
    where (run.fed -> f.feed_id::text -> 'is_done')::boolean is not true
    and (f.suspended_until > clock_timestamp() + interval '1 day') is not true
    order by f.feed_id limit 1;
    if feed.feed_id is null then
        return '{"is_done": true}';
    end if;
    known := coalesce(run.fed -> feed.feed_id::text, '{}');
    most := least(most, coalesce((known ->> 'rows')::integer, most));
    begin
        page := clerk_sync.compare_page(feed, known ->> 'after', most, run.is_dry_run, interval '4 seconds');
    exception
        when query_canceled then
            -- The next call tries fewer rows.
            is_late := most > 1;
            page := case when is_late then jsonb_build_object('after', known -> 'after') else '{"failed": 1}' end;
        when others or assert_failure then page := '{"failed": 1}';
    end;
    update clerk_sync.reconcile_runs as r set fed = r.fed || jsonb_build_object(feed.feed_id, jsonb_build_object(
        'name', 'feed ' || feed.target, 'after', page -> 'after', 'is_done', page ->> 'after' is null and not is_late,
        -- For pages of about a second: the objects of rows that differ are locked, and their events wait.
        'rows', case
            when is_late then greatest(most / 10, 1)
            else least(most * 2, 1 + (most / extract(epoch from clock_timestamp() - statement_timestamp()))::integer)
        end,
        'counts', (
            select coalesce(jsonb_object_agg(c.key, c.total), '{}') from (
                select e.key, sum(e.value::bigint) as total
                from (values (known -> 'counts'), (page - 'after')) as v (counts)
                cross join lateral jsonb_each_text(v.counts) as e group by e.key
            ) as c
        )
    ))
    where r.run_id = run.run_id;
    return jsonb_build_object('is_done', false);
end
$$;

-- {feed, limit} -> {is_done, ...counts}: a page of the back-fill of an app's table. A process that was cut off goes on.
create function clerk_sync.fill_feed(request jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    feed clerk_sync.feeds;
    page jsonb;
begin
    select f.* into strict feed from clerk_sync.feeds as f
    where f.feed_id = clerk_sync.whole_number(request, 'feed', 1, 2147483647) for no key update;
    page := clerk_sync.compare_page(
        feed, feed.filled_after, clerk_sync.whole_number(request, 'limit', 1, 10000)::integer, false,
        interval '10 minutes'
    );
    update clerk_sync.feeds as f set filled_after = page ->> 'after', is_filled = page ->> 'after' is null
    where f.feed_id = feed.feed_id;
    return page - 'after' || jsonb_build_object('is_done', page ->> 'after' is null);
end
$$;

-- Makes a feed of a mapping, without triggers: so that differing_feed_<n>() can be asked. Raises 22023 for a mapping
-- that cannot be used. The feed of the same kind and table is replaced, and goes on meanwhile.
create function clerk_sync.prepare_feed(mapping jsonb)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    feed clerk_sync.feeds;
    relation constant regclass := clerk_sync.table_of_app(mapping ->> 'table');
    fault text;
begin
    perform clerk_sync.kind_of(mapping);
    if relation is null then
        raise invalid_parameter_value using message = format('there is no table %s', mapping ->> 'table');
    end if;
    insert into clerk_sync.feeds as f (kind, target, mapping)
    select mapping ->> 'kind', format('%I.%I', n.nspname, c.relname), mapping
    from pg_catalog.pg_class as c inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    where c.oid = relation
    on conflict on constraint feeds_kind_target_key do update set
        mapping = excluded.mapping,
        -- A switch of the Clerk instance goes on.
        suspended_until = case when f.suspended_until > clock_timestamp() + interval '1 day' then f.suspended_until end,
        filled_after = case when f.mapping = excluded.mapping then f.filled_after end,
        is_filled = f.is_filled and f.mapping = excluded.mapping
    returning f.* into feed;
    fault := clerk_sync.fault_of_feed(feed);
    if fault is not null then
        raise invalid_parameter_value using message = fault;
    end if;
    begin
        execute clerk_sync.definition_of_differing_feed(feed);
        execute clerk_sync.definition_of_write_feed(feed);
        execute clerk_sync.definition_of_feed(feed);
        if mapping -> 'guard' = 'true' then
            execute clerk_sync.definition_of_guard(feed);
        end if;
        -- Of no row: Postgres reads the expressions and the columns.
        execute format('select clerk_sync.%I(''{}'')', 'differing_feed_' || feed.feed_id);
        execute format('select clerk_sync.%I(''{}'', null)', 'write_feed_' || feed.feed_id);
    exception
        when syntax_error_or_access_rule_violation or feature_not_supported or data_exception then
            raise invalid_parameter_value using message = format('an expression cannot be used: %s', sqlerrm);
        when object_not_in_prerequisite_state then
            raise invalid_parameter_value using message = sqlerrm;
    end;
    perform clerk_sync.revoke_default_rights();
    return feed.feed_id;
end
$$;

-- Switches a prepared feed on: from now on every write of the mirror is followed. The roles of the API lose the right
-- to create triggers on the app's table. Locks the mirror's table, and for a
-- guard the app's table, until the transaction ends.
create function clerk_sync.switch_feed(feed_id integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    feed clerk_sync.feeds;
    holes jsonb;
    statement text;
begin
    select f.* into strict feed from clerk_sync.feeds as f where f.feed_id = switch_feed.feed_id;
    -- Of a table that was renamed or moved since: its guard would keep values of the old mapping.
    perform clerk_sync.drop_feed(f.feed_id) from clerk_sync.feeds as f
    where f.kind = feed.kind and to_regclass(f.target) is null;
    holes := clerk_sync.holes_of_feed(feed);
    for statement in
        select r.statement from clerk_sync.triggers_to_revoke(feed.target::regclass) as r (statement)
        union all
        select clerk_sync.statement_of(
            format(
                'create or replace trigger {feed}_%1$s after %1$s on {mirror} referencing %2$s table as changed '
                'for each statement execute function clerk_sync.{feed}()', w.operation, w.which
            ), holes
        )
        from (values ('insert', 'new'), ('update', 'new'), ('delete', 'old')) as w (operation, which)
        union all
        select clerk_sync.statement_of(
            'create or replace trigger {feed}_truncate before truncate on {mirror} '
            'for each statement execute function clerk_sync.{feed}()', holes
        )
    loop
        execute statement;
    end loop;
    if feed.mapping -> 'guard' = 'true' then
        execute clerk_sync.statement_of(
            'create or replace trigger zz_clerk_guard_{number} before insert or update or delete on {target} '
            'for each row execute function clerk_sync.guard_{feed}()', holes
        );
    else
        perform clerk_sync.drop_guard(feed);
    end if;
end
$$;

create function clerk_sync.drop_guard(feed clerk_sync.feeds)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    statement text;
begin
    for statement in
        -- A partition has the trigger of its table, and loses it with the table's.
        select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass)
        from pg_catalog.pg_trigger as t
        where t.tgfoid = to_regprocedure('clerk_sync.guard_feed_' || feed.feed_id || '()') and t.tgparentid = 0
    loop
        execute statement;
    end loop;
    execute format('drop function if exists clerk_sync.%I()', 'guard_feed_' || feed.feed_id);
end
$$;

-- Removes a feed with its guard. The rows of the app stay as they are.
create function clerk_sync.drop_feed(feed_id integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    feed clerk_sync.feeds;
    statement text;
begin
    delete from clerk_sync.feeds as f where f.feed_id = drop_feed.feed_id returning f.* into feed;
    if feed.feed_id is null then
        return;
    end if;
    for statement in
        select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass) from pg_catalog.pg_trigger as t
        where t.tgfoid = to_regprocedure('clerk_sync.feed_' || feed.feed_id || '()')
    loop
        execute statement;
    end loop;
    perform clerk_sync.drop_guard(feed);
    execute clerk_sync.statement_of(
        'drop function if exists clerk_sync.{f}(); drop function if exists clerk_sync.write_{f}(text[], jsonb); '
        'drop function if exists clerk_sync.differing_{f}(text[])',
        jsonb_build_object('f', 'feed_' || feed.feed_id)
    );
end
$$;

-- What is wrong with each feed, in a sentence: a trigger or a function is missing, switched off, or not as the mapping
-- makes it now.
create function clerk_sync.faults_of_feeds()
returns table (target text, kind text, fault text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    feed clerk_sync.feeds;
    missing text;
begin
    for feed in select f.* from clerk_sync.feeds as f order by f.feed_id loop
        target := feed.target;
        kind := feed.kind;
        fault := null;
        if to_regclass(feed.target) is null then
            fault := 'the table is missing: name its successor in adopt.toml, or run clerk-supabase adopt undo --write';
        else
            fault := clerk_sync.fault_of_feed(feed);
            select string_agg(t.name, ', ') into missing
            from (
                select 'feed_' || feed.feed_id || '_' || o as name, k.relation::regclass as home
                from clerk_sync.kinds as k cross join unnest('{insert,update,delete,truncate}'::text[]) as o
                where k.kind = feed.kind
                union all
                select 'zz_clerk_guard_' || feed.feed_id, feed.target::regclass where feed.mapping -> 'guard' = 'true'
            ) as t
            where not exists (
                select from pg_catalog.pg_trigger as g
                where g.tgname = t.name and g.tgrelid = t.home and g.tgenabled in ('O', 'A')
            );
            fault := coalesce(fault, 'a trigger is missing or disabled: ' || missing);
            fault := coalesce(fault, (
                select 'roles of the API may create triggers that the feed would run: ' || r.statement
                from clerk_sync.triggers_to_revoke(feed.target::regclass) as r (statement) limit 1
            ));
            if fault is null and exists (
                select from (
                    values
                    ('feed_', clerk_sync.definition_of_feed(feed)),
                    ('write_feed_', clerk_sync.definition_of_write_feed(feed)),
                    ('differing_feed_', clerk_sync.definition_of_differing_feed(feed)),
                    ('guard_feed_', case when feed.mapping -> 'guard' = 'true' then clerk_sync.definition_of_guard(feed) end)
                ) as d (prefix, definition)
                where d.definition is not null and not exists (
                    select from pg_catalog.pg_proc as p
                    where p.pronamespace = 'clerk_sync'::regnamespace and p.proname = d.prefix || feed.feed_id
                    and strpos(d.definition, '$body$' || p.prosrc || '$body$') > 0
                )
            ) then
                fault := 'a function is not as the mapping makes it: the table has changed, or the function';
            end if;
            if fault is null and not feed.is_filled then
                fault := 'the back-fill has not ended';
            end if;
        end if;
        return next;
    end loop;
end
$$;

select clerk_sync.revoke_default_rights();
grant execute on function
clerk_sync.retry_unfed(jsonb),
clerk_sync.compare_feed(jsonb)
to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0028_switch_feeds');
