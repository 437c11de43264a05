-- Comparing the tables with themselves: rows with tombstones, users_public with users; and looking at single objects
-- before and after a repair.

-- Tombstones are few: a search for them, as in undo_run(), need not read all entities.
create index entities_deleted_idx on clerk_sync.entities (kind, id) where deleted_at is not null;

-- Rows of a kind with these keys, whose deleted_at differs from their tombstones, with the moment of the first delete
-- of the row's entity or of a parent. Without the rows that continue_deletes() will reach.
create function clerk_sync.rows_untombstoned(of_kind clerk_sync.kinds, keys text[])
returns table (id text, due timestamptz)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
-- By the indexes, however many rows there are.
set enable_seqscan = off
as $$
begin
    return query execute format(
        'select r.id, r.due from (%1$s) as r where r.due is not null and not r.is_unfinished '
        'and (r.deleted_at is null or (r.deleted_at <> r.due and not clerk_sync.is_purged(%2$L, r.id)))',
        clerk_sync.rows_with_tombstones(of_kind), of_kind.kind
    ) using keys;
end
$$;

-- Users with these keys whose profile is not the projection of their row, as the triggers on users make it, and in
-- which columns; 'users_public' alone where there is a profile without a user, or a user without a profile.
create function clerk_sync.profiles_differing(keys text[])
returns table (id text, fields text[])
language sql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
    select coalesce(u.clerk_id, p.clerk_id), case
        when u.clerk_id is null or p.clerk_id is null then '{users_public}'::text[]
        else array_remove(array[
            case when p.username is distinct from u.username then 'users_public.username' end,
            case when p.first_name is distinct from u.first_name then 'users_public.first_name' end,
            case when p.last_name is distinct from u.last_name then 'users_public.last_name' end,
            case when p.avatar_url is distinct from u.image_url then 'users_public.avatar_url' end,
            case when p.deleted_at is distinct from u.deleted_at then 'users_public.deleted_at' end
        ], null)
    end
    from (
        select
            k.clerk_id, k.deleted_at,
            case when k.deleted_at is null then k.username end as username,
            case when k.deleted_at is null then k.first_name end as first_name,
            case when k.deleted_at is null then k.last_name end as last_name,
            case when k.deleted_at is null then k.image_url end as image_url
        from clerk.users as k where k.clerk_id = any(keys)
    ) as u
    full join (
        select k.clerk_id, k.username, k.first_name, k.last_name, k.avatar_url, k.deleted_at
        from clerk.users_public as k where k.clerk_id = any(keys)
    ) as p on u.clerk_id = p.clerk_id
    where (u.clerk_id, u.username, u.first_name, u.last_name, u.image_url, u.deleted_at)
    is distinct from (p.clerk_id, p.username, p.first_name, p.last_name, p.avatar_url, p.deleted_at)
$$;

-- Rows of a kind with these keys that differ from the other tables here, and the differing columns.
create function clerk_sync.rows_to_correct(of_kind clerk_sync.kinds, keys text[])
returns table (id text, fields text[])
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select wrong.id, array_agg(wrong.field)
    from (
        select r.id, 'deleted_at' as field from clerk_sync.rows_untombstoned(of_kind, keys) as r
        union all
        select p.id, unnest(p.fields)
        from clerk_sync.profiles_differing(case when of_kind.kind = 'user' then keys else '{}' end) as p
    ) as wrong
    group by wrong.id
$$;

-- Repairs rows: deleted_at as their tombstones say, profiles as the rows of users say. A row locked by another session
-- stays unchanged; the wait for a lock on rows written by triggers is short. The caller has locked the entities.
create function clerk_sync.set_rows_right(of_kind clerk_sync.kinds, keys text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '250ms'
as $$
declare
    locked text[];
begin
    execute format(
        'select array(select r.%1$I from %2$s as r where r.%1$I = any($1) order by r.%1$I '
        || 'for no key update skip locked)',
        of_kind.key_column, of_kind.relation
    ) into locked using keys;
    execute format(
        'update %2$s as r set deleted_at = wrong.due from clerk_sync.rows_untombstoned($1, $2) as wrong '
        || 'where r.%1$I = wrong.id',
        of_kind.key_column, of_kind.relation
    ) using of_kind, locked;
    if of_kind.kind <> 'user' then
        return;
    end if;
    -- After the triggers of the update above.
    delete from clerk.users_public as p
    where p.clerk_id in (
        select k.clerk_id from clerk.users_public as k
        where k.clerk_id = any(keys) and not exists (select from clerk.users as u where u.clerk_id = k.clerk_id)
        order by k.clerk_id
        for update skip locked
    );
    perform clerk_sync.project_as_it_is(array(select d.id from clerk_sync.profiles_differing(locked) as d));
end
$$;

-- Locks the entities of rows, given as {kind: [key, ...]}, and the entities of their parents, as apply() does before
-- its writes: a write of apply() to these rows is complete by then, or begins afterwards. All at once: a session with
-- locked rows of one kind may not wait for entities of the next kind. Raises 55P03 when another session holds a lock
-- for long, or without is_patient at any lock: a session that goes on to lock more entities, in any order, then waits
-- for no other session.
create function clerk_sync.lock_entities_of_rows(keys_by_kind jsonb, is_patient boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
    execute (
        select format(
            'select from clerk_sync.entities as e where (e.kind, e.id) in (%s) order by e.kind, e.id for share %s',
            string_agg(
                format(
                    'select %1$L, r.%2$I from %3$s as r where r.%4$I in (select jsonb_array_elements_text($1 -> %5$L))',
                    link.value, link.key, k.relation, k.key_column, k.kind
                ),
                ' union all '
            ),
            case when not is_patient then 'nowait' end
        )
        from clerk_sync.kinds as k
        cross join lateral jsonb_each_text(clerk_sync.links_of(k)) as link
        where keys_by_kind ? k.kind
    ) using keys_by_kind;
end
$$;

-- Repairs rows, all at once or, if a rule or a trigger of the app refuses a row or another session holds a lock, row by
-- row; singly: row by row from the beginning. refused: the refused rows; neither these nor locked rows are repaired.
-- reached: the key up to which rows were tried, if the time was over before the last row; empty: the attempt with all
-- rows at once took all the time.
create function clerk_sync.repair_rows(
    of_kind clerk_sync.kinds, keys text[], singly boolean, out refused text[], out reached text
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    one text;
    context text;
begin
    refused := '{}';
    if not singly then
        begin
            perform clerk_sync.lock_entities_of_rows(jsonb_build_object(of_kind.kind, keys), true);
            perform clerk_sync.set_rows_right(of_kind, keys);
            return;
        exception
            -- A trigger of the app may raise any code.
            when others or query_canceled or assert_failure then
                get stacked diagnostics context = pg_exception_context;
                if clerk_sync.is_time_over(sqlstate, context) then
                    reached := '';
                    return;
                end if;
        end;
    end if;
    foreach one in array array(select k.key from unnest(keys) as k (key) order by k.key) loop
        begin
            perform clerk_sync.lock_entities_of_rows(jsonb_build_object(of_kind.kind, array[one]), false);
            perform clerk_sync.set_rows_right(of_kind, array[one]);
        exception
            when lock_not_available then null;
            when others or query_canceled or assert_failure then
                refused := refused || one;
                get stacked diagnostics context = pg_exception_context;
                if clerk_sync.is_time_over(sqlstate, context) then
                    reached := one;
                    return;
                end if;
        end;
    end loop;
end
$$;

-- The next keys of a kind, in their order. The keys of users include profiles without a user.
create function clerk_sync.next_keys(of_kind clerk_sync.kinds, after text, at_most integer)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
    keys text[];
begin
    execute format(
        'select array(select r.%1$I from %2$s as r where r.%1$I > $1 order by r.%1$I limit $2)',
        of_kind.key_column, of_kind.relation
    ) into keys using after, at_most;
    if of_kind.kind = 'user' then
        keys := array(
            select k.key
            from (
                select unnest(keys) as key
                union
                select p.clerk_id from (
                    select q.clerk_id from clerk.users_public as q where q.clerk_id > after
                    order by q.clerk_id limit at_most
                ) as p
            ) as k
            order by k.key limit at_most
        );
    end if;
    return keys;
end
$$;

-- Where check_rows() begins in a quick run: after the last rows read by the run before; null: with the first rows.
create function clerk_sync.where_checks_ended(run clerk_sync.reconcile_runs, target text)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('after', r.rows_checked -> target -> 'after', 'is_done', false, 'left', 0)
    from (
        select earlier.rows_checked from clerk_sync.reconcile_runs as earlier
        where earlier.run_id < run.run_id and not earlier.is_dry_run and earlier.rows_checked ? target
        order by earlier.run_id desc limit 1
    ) as r
    where r.rows_checked -> target -> 'is_done' = 'false'
$$;

-- Records the result of repair_rows() for rows of a kind in the findings of check_rows(): repaired, refused or held up
-- by a lock. still_wrong, refused: among the tried rows.
create function clerk_sync.note_repairs(run bigint, target text, tried text[], still_wrong text[], refused text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update clerk_sync.reconcile_findings as f set
        sent_at = case when f.entity_id <> all(still_wrong) then clock_timestamp() end,
        is_refused = f.entity_id = any(refused),
        is_held_up = f.entity_id = any(still_wrong) and f.entity_id <> all(refused)
    where f.run_id = run and f.kind = target and f.entity_id = any(tried)
    and f.action = 'repair' and f.window_number is null;
end
$$;

-- {run, lease, kind, limit, only_look} -> {is_done, left}, or null when another process has taken the run over: reads
-- so many more rows of a kind, and repairs rows made visible although deleted, and rows whose profile was changed.
-- left: number of rows that could not be repaired, since the beginning. A dry run, and a call with only_look, only
-- records findings.
create function clerk_sync.check_rows(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    target constant text := clerk_sync.kind_of(request);
    at_most constant integer := clerk_sync.whole_number(request, 'limit', 1, 10000);
    only_looks constant boolean := clerk_sync.flag(request, 'only_look');
    -- Locked before entities are, as in apply() and undo_run().
    run constant clerk_sync.reconcile_runs := clerk_sync.leased_run(request);
    of_kind clerk_sync.kinds;
    progress jsonb;
    keys text[];
    wrong text[];
    repaired record;
    still_wrong text[] := '{}';
    reached text;
    is_cut boolean := false;
begin
    if run.run_id is null then
        return null;
    end if;
    progress := coalesce(
        run.rows_checked -> target,
        case when run.mode = 'quick' then clerk_sync.where_checks_ended(run, target) end,
        '{"after": "", "is_done": false, "left": 0}'
    );
    if (progress -> 'is_done')::boolean then
        return progress - 'after' - 'singly';
    end if;
    select k.* into of_kind from clerk_sync.kinds as k where k.kind = target;
    keys := clerk_sync.next_keys(of_kind, progress ->> 'after', at_most);
    reached := (select max(k.key) from unnest(keys) as k (key));

    with found as (
        select w.id, w.fields from clerk_sync.rows_to_correct(of_kind, keys) as w
    ),

    written as (
        insert into clerk_sync.reconcile_findings (run_id, kind, entity_id, difference, action, fields, cause)
        select run.run_id, target, f.id, 'different', 'repair', f.fields, 'somebody edited the row' from found as f
        on conflict do nothing
    )

    select array_agg(f.id) into wrong from found as f;

    if only_looks and not run.is_dry_run then
        still_wrong := coalesce(wrong, '{}');
        perform clerk_sync.note_repairs(run.run_id, target, still_wrong, still_wrong, '{}');
    elsif wrong is not null and not run.is_dry_run then
        perform clerk_sync.set_cause('reconcile', clerk_sync.message_of(run.run_id));
        repaired := clerk_sync.repair_rows(of_kind, wrong, coalesce((progress -> 'singly')::boolean, false));
        is_cut := repaired.reached is not null;
        if is_cut then
            -- The remaining rows are tried again, row by row: perhaps only a single row takes the time.
            reached := coalesce(nullif(repaired.reached, ''), progress ->> 'after');
            wrong := array(select w from unnest(wrong) as w where w <= reached);
        end if;
        still_wrong := array(select w.id from clerk_sync.rows_to_correct(of_kind, wrong) as w);
        perform clerk_sync.note_repairs(run.run_id, target, wrong, still_wrong, repaired.refused);
    end if;

    progress := jsonb_build_object(
        'after', reached,
        'is_done', cardinality(keys) < at_most and not is_cut,
        'left', (progress -> 'left')::integer + cardinality(still_wrong)
    ) || case when is_cut then '{"singly": true}'::jsonb else '{}' end;
    update clerk_sync.reconcile_runs as r set rows_checked = r.rows_checked || jsonb_build_object(target, progress)
    where r.run_id = run.run_id;
    return progress - 'after' - 'singly';
end
$$;

-- Moves the repairs held up by a lock in earlier runs of the last 24 hours to the findings of this run.
create function clerk_sync.take_over_held_up(run bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- The number of no window.
    of_no_window constant integer := -1;
begin
    with earlier as (
        update clerk_sync.reconcile_findings as f set is_held_up = false
        where f.is_held_up and f.sent_at is null and f.run_id < run
        returning f.*
    )

    insert into clerk_sync.reconcile_findings (
        run_id, kind, entity_id, difference, action, fields, cause, window_number, observed_at, found_at, is_held_up
    )
    select distinct on (f.kind, f.entity_id)
        run, f.kind, f.entity_id, f.difference, f.action, f.fields, f.cause,
        case when f.window_number is not null then of_no_window end, f.observed_at, f.found_at, true
    from earlier as f
    left join clerk_sync.entities as e on f.kind = e.kind and f.entity_id = e.id
    -- A delete is remembered as an absence.
    where f.found_at > clock_timestamp() - interval '24 hours' and f.action = 'repair'
    -- Something newer may have been applied meanwhile.
    and (f.window_number is null or ((e.version).observed_at >= f.observed_at) is not true)
    order by f.kind, f.entity_id, f.run_id desc
    on conflict do nothing;
end
$$;

-- Tries again, row by row, to repair rows found by check_rows() and held up by a lock: at most so many of each kind.
create function clerk_sync.retry_rows(run bigint, at_most integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    keys text[];
    repaired record;
begin
    perform clerk_sync.set_cause('reconcile', clerk_sync.message_of(run));
    for of_kind in select k.* from clerk_sync.kinds as k order by k.write_order loop
        keys := array(
            select f.entity_id from clerk_sync.reconcile_findings as f
            where f.run_id = run and f.kind = of_kind.kind
            and f.is_held_up and f.sent_at is null and f.action = 'repair' and f.window_number is null
            order by f.entity_id limit at_most
        );
        continue when keys = '{}';
        repaired := clerk_sync.repair_rows(of_kind, keys, true);
        perform clerk_sync.note_repairs(
            run, of_kind.kind, keys,
            array(select w.id from clerk_sync.rows_to_correct(of_kind, keys) as w), repaired.refused
        );
    end loop;
end
$$;

-- Objects of a kind whose repair a lock holds up, at most so many: [[kind, id, user_id, org_id], ...], with their
-- parents, as columns_of_parents() says.
create function clerk_sync.objects_held_up(run bigint, of_kind clerk_sync.kinds, at_most integer)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    objects jsonb;
begin
    execute clerk_sync.statement_of(
        $query$
        select coalesce(jsonb_agg(jsonb_build_array({kind}, h.id, {columns_of_parents}) order by h.id), '[]')
        from (
            select f.entity_id as id from clerk_sync.reconcile_findings as f
            where f.run_id = $1 and f.kind = {kind} and f.is_held_up and f.sent_at is null
            and f.action = 'repair' and f.window_number is not null
            order by f.entity_id limit $2
        ) as h
        left join {table} as r on r.{key} = h.id
        $query$,
        clerk_sync.holes_of(of_kind) || jsonb_build_object(
            'columns_of_parents', clerk_sync.columns_of_parents(of_kind)
        )
    ) into objects using run, at_most;
    return objects;
end
$$;

-- {run, lease, limit} -> {rows, refused, waiting, objects: [[kind, id, user_id, org_id], ...]}, or null when another
-- process has taken the run over: tries again the repairs held up by a lock in this run, or in an earlier run of the
-- last 24 hours: at most so many rows of each kind that check_rows() could not repair. rows: number of such rows still
-- held up; refused: number of rows of this run whose repair the app refuses. objects: at most so many of each kind
-- whose repair was not made, so that the caller reads these objects again from Clerk; their parents, as
-- columns_of_parents() says. waiting: number of all such objects, and of deletes held up by a lock.
create function clerk_sync.retry_held_up(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    at_most constant integer := clerk_sync.whole_number(request, 'limit', 1, 1000);
    run constant clerk_sync.reconcile_runs := clerk_sync.leased_run(request);
    of_kind clerk_sync.kinds;
    objects jsonb := '[]';
begin
    if run.run_id is null then
        return null;
    end if;
    if run.is_dry_run then
        return '{"rows": 0, "refused": 0, "waiting": 0, "objects": []}';
    end if;
    perform clerk_sync.take_over_held_up(run.run_id);
    perform clerk_sync.retry_rows(run.run_id, at_most);
    for of_kind in
        select k.* from clerk_sync.kinds as k
        where k.kind in (
            select f.kind from clerk_sync.reconcile_findings as f
            where f.run_id = run.run_id and f.is_held_up and f.sent_at is null and f.window_number is not null
        )
        order by k.kind
    loop
        objects := objects || clerk_sync.objects_held_up(run.run_id, of_kind, at_most);
    end loop;
    return (
        select jsonb_build_object(
            'rows', count(*) filter (where h.action = 'repair' and h.window_number is null),
            'refused', (
                select count(*) from clerk_sync.reconcile_findings as f
                where f.run_id = run.run_id and f.window_number is null and f.is_refused
            ),
            'waiting', count(*) filter (where h.action = 'delete' or h.window_number is not null),
            'objects', objects
        )
        from clerk_sync.reconcile_findings as h
        where h.run_id = run.run_id and h.is_held_up and h.sent_at is null
    );
end
$$;

-- {run, kind, after, limit} -> [[id, user_id, org_id], ...]: objects whose repair is held back, in the order of their
-- ids; their parents, as columns_of_parents() says. null when the run is over.
create function clerk_sync.held_repairs(request jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    run constant bigint := (clerk_sync.running(request)).run_id;
    target constant text := clerk_sync.kind_of(request);
    at_most constant bigint := clerk_sync.whole_number(request, 'limit', 1, 10000);
    of_kind clerk_sync.kinds;
    held jsonb;
begin
    if run is null then
        return null;
    end if;
    select k.* into of_kind from clerk_sync.kinds as k where k.kind = target;
    execute format(
        $statement$
        select coalesce(jsonb_agg(jsonb_build_array(h.id, %1$s) order by h.id), '[]')
        from (
            -- A held-back repair of the object's private metadata is found by the window.
            select distinct f.entity_id as id
            from clerk_sync.reconcile_findings as f
            inner join clerk_sync.reconcile_windows as w on f.run_id = w.run_id and f.window_number = w.number
            where f.run_id = $1 and w.kind = $2 and f.action = 'repair' and f.emptied is not null
            and f.sent_at is null and not f.is_refused and f.entity_id > $3
            order by f.entity_id limit $4
        ) as h
        left join %2$s as r on r.%3$I = h.id
        $statement$,
        clerk_sync.columns_of_parents(of_kind), of_kind.relation, of_kind.key_column
    ) into held using run, target, request ->> 'after', at_most;
    return held;
end
$$;

-- {run} -> {kind: {column: rows}}: how many rows lose the value of each column by repairs held back now or before; null
-- when the run is over.
create function clerk_sync.emptied_columns(request jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    run constant bigint := (clerk_sync.running(request)).run_id;
begin
    if run is null then
        return null;
    end if;
    return (
        select coalesce(jsonb_object_agg(of_kind.kind, of_kind.columns), '{}')
        from (
            select counted.kind, jsonb_object_agg(counted.name, counted.total) as columns
            from (
                select f.kind, c.name, count(*) as total
                from clerk_sync.reconcile_findings as f cross join lateral unnest(f.emptied) as c (name)
                where f.run_id = run and f.action = 'repair'
                group by f.kind, c.name
            ) as counted
            group by counted.kind
        ) as of_kind
    );
end
$$;

-- {page} -> [[kind, id, source_updated_at, observed_at, deleted_at, delete_run, is_purged, differs, fields], ...]: the
-- entity of each object of a page, which is a batch for apply(), and whether its row differs; fields: the columns that
-- differ, null without a row. For the owner, before and after a repair.
create function clerk_sync.look_at_objects(request jsonb)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    differing constant clerk_sync.difference[] := clerk_sync.find_differing(request -> 'page');
begin
    return (
        select coalesce(jsonb_agg(jsonb_build_array(
            g.kind, g.id, (e.version).source_updated_at, (e.version).observed_at, e.deleted_at, e.delete_run,
            e.purged_at is not null, d.id is not null, to_jsonb(d.fields)
        )), '[]')
        from jsonb_to_recordset(request -> 'page') as g (kind text, id text)
        left join clerk_sync.entities as e on g.kind = e.kind and g.id = e.id
        left join unnest(differing) as d on g.kind = d.kind and g.id = d.id
    );
end
$$;

-- {kind, id} -> [id, ...]: the visible memberships of a user or an organization. For the owner.
create function clerk_sync.memberships_of(request jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_agg(m.clerk_membership_id order by m.clerk_membership_id), '[]')
    from clerk.organization_memberships as m
    where m.deleted_at is null and case request ->> 'kind'
        when 'user' then m.clerk_user_id when 'organization' then m.clerk_org_id
    end = request ->> 'id'
$$;

-- {objects: {kind: [id, ...]}} -> [[kind, id, fields, is_right], ...]: the check of check_rows() for these objects
-- only, by an operator: the rows that were wrong, and whether each is repaired.
create function clerk_sync.check_objects(request jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    keys text[];
    wrong jsonb;
    still_wrong text[];
    found jsonb := '[]';
begin
    perform clerk_sync.set_cause('operator');
    perform clerk_sync.lock_entities_of_rows(request -> 'objects', true);
    for of_kind in select k.* from clerk_sync.kinds as k where request -> 'objects' ? k.kind order by k.write_order loop
        keys := array(select jsonb_array_elements_text(request -> 'objects' -> of_kind.kind));
        select jsonb_object_agg(w.id, w.fields) into wrong from clerk_sync.rows_to_correct(of_kind, keys) as w;
        continue when wrong is null;
        keys := array(select jsonb_object_keys(wrong));
        perform clerk_sync.repair_rows(of_kind, keys, false);
        still_wrong := array(select w.id from clerk_sync.rows_to_correct(of_kind, keys) as w);
        found := found || (
            select jsonb_agg(jsonb_build_array(of_kind.kind, k.key, wrong -> k.key, k.key <> all(still_wrong)))
            from unnest(keys) as k (key)
        );
    end loop;
    return found;
end
$$;

select clerk_sync.revoke_default_rights();

grant execute on function
clerk_sync.check_rows(jsonb),
clerk_sync.retry_held_up(jsonb),
clerk_sync.held_repairs(jsonb),
clerk_sync.emptied_columns(jsonb)
to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0024_create_checks');
