-- Deletes that a comparison proves: candidates, the answers of Clerk about each of them, and undo.

-- Objects missing from Clerk in an answer of its API, which may only have been slow to show a new object.
create table clerk_sync.absences (
    kind text collate "C" not null,
    id text collate "C" not null,
    first_gone_at bigint not null,
    run_id bigint not null references clerk_sync.reconcile_runs (run_id) on delete cascade,
    primary key (kind, id)
);

comment on table clerk_sync.absences is
'Objects missing from Clerk. The first run with the same answer, at least the margin later, deletes the objects.';
comment on column clerk_sync.absences.first_gone_at is 'Of the first such answer, by Clerk''s clock, milliseconds.';
comment on column clerk_sync.absences.run_id is 'The run that got this answer first.';

create index absences_run_idx on clerk_sync.absences (run_id);

alter table clerk_sync.absences enable row level security;

-- Prepares the deletes of a run, before Clerk is asked about any object. {run, kinds: [kind, ...]} -> {due: [[kind,
-- id], ...], spared}, or null when the run is over. due: objects missing from Clerk when earlier runs asked at least
-- the margin ago, and not found missing by this run itself: candidates now, whatever the run compared. spared: number
-- of findings deleted again, because their objects are too young.
create function clerk_sync.prepare_deletes(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    run constant clerk_sync.reconcile_runs := clerk_sync.hold_run(request);
    -- By Clerk's clock.
    young_from constant bigint := run.as_of - run.delete_margin_ms;
    of_kind clerk_sync.kinds;
    clocks_differ constant interval := '1 hour';
    due jsonb := '[]';
    more jsonb;
    spared integer := 0;
    counted integer;
begin
    if run.run_id is null then
        return null;
    end if;

    -- Deletes that this run made and could not record before an interruption.
    update clerk_sync.reconcile_findings as f set sent_at = clock_timestamp()
    from clerk_sync.entities as e
    where f.run_id = run.run_id and f.action = 'delete' and f.sent_at is null
    and f.kind = e.kind and f.entity_id = e.id and e.deleted_at is not null and e.delete_run = run.run_id;

    -- An absence is deleted when its object is deleted by now, or when a newer event or read named the object. An event
    -- without changes counts, too. Events are applied after their time in Clerk, apart from the difference of two
    -- clocks.
    delete from clerk_sync.absences as a
    using clerk_sync.entities as e
    left join (
        select d.entity_id, max(d.occurred_at) as newest from clerk_sync.deliveries as d
        where d.entity_id in (select known.id from clerk_sync.absences as known) and d.applied_at > (
            select to_timestamp(min(known.first_gone_at) / 1000.0) - clocks_differ from clerk_sync.absences as known
        )
        group by d.entity_id
    ) as told on e.id = told.entity_id
    where a.kind = e.kind and a.id = e.id and (
        e.deleted_at is not null
        or greatest((e.version).observed_at, e.shown_at) > a.first_gone_at
        or told.newest > to_timestamp(a.first_gone_at / 1000.0)
    );

    for of_kind in
        select k.* from clerk_sync.kinds as k
        where k.kind in (select jsonb_array_elements_text(request -> 'kinds')) and k.accompanies = '{}'
    loop
        execute format(
            $statement$
            with added as (
                insert into clerk_sync.reconcile_findings (run_id, kind, entity_id, difference, action, cause)
                select $1, a.kind, a.id, 'extra', 'delete', 'its delete did not arrive'
                from clerk_sync.absences as a inner join %1$s as r on r.%2$I = a.id collate "default"
                where a.kind = $2 and a.first_gone_at <= $3 and %4$s and %3$s
                on conflict do nothing
                returning kind, entity_id
            )

            select coalesce(jsonb_agg(jsonb_build_array(added.kind, added.entity_id)), '[]') from added
            $statement$,
            of_kind.relation, of_kind.key_column,
            -- As in find_unseen(). Clerk sends no event when an invitation expires.
            case when of_kind.kind = 'invitation' then '(r.status is null or r.status = ''pending'')' else 'true' end,
            case when of_kind.parents = '{}' then 'true' else 'r.deleted_at is null' end
        ) into more using run.run_id, of_kind.kind, young_from;
        due := due || more;

        -- created_at and all other moments of Clerk's are unknown for a row known only from other objects (a stub);
        -- then our own clock dates the insert of the row.
        execute format(
            $statement$
            delete from clerk_sync.reconcile_findings as f
            using %1$s as r, clerk_sync.entities as e
            where f.run_id = $1 and f.kind = $2 and f.action = 'delete' and f.sent_at is null
            and r.%2$I = f.entity_id collate "default" and e.kind = f.kind and e.id = f.entity_id
            and (
                r.created_at >= to_timestamp($3 / 1000.0) and r.created_at < 'infinity'
                or greatest((e.version).observed_at, e.shown_at) >= $3
                or f.entity_id in (
                    select d.entity_id from clerk_sync.deliveries as d
                    where d.applied_at > to_timestamp($3 / 1000.0) - $5 and d.occurred_at >= to_timestamp($3 / 1000.0)
                )
                or (e.version).source_updated_at <= 0 and exists (
                    select from clerk_sync.audit_log as a
                    where a.entity_id = f.entity_id and a.kind = f.kind and a.operation = 'insert'
                    and a.recorded_at > clock_timestamp() - $4 * interval '1 millisecond'
                )
            )
            $statement$,
            of_kind.relation, of_kind.key_column
        ) using run.run_id, of_kind.kind, young_from, run.delete_margin_ms, clocks_differ;
        get diagnostics counted = row_count;
        spared := spared + counted;
    end loop;
    return jsonb_build_object('due', due, 'spared', spared);
end
$$;

-- {run, kind, after, limit} -> [[id, user_id, org_id, first_gone_at], ...]: rows that Clerk may have deleted, in the
-- order of their ids; their parents, as columns_of_parents() says; and when Clerk first answered that the object does
-- not exist. null when the run is over.
create function clerk_sync.delete_candidates(request jsonb)
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
    candidates jsonb;
begin
    if run is null then
        return null;
    end if;
    select k.* into of_kind from clerk_sync.kinds as k where k.kind = target;
    execute format(
        $statement$
        select coalesce(
            jsonb_agg(jsonb_build_array(f.entity_id, %1$s, a.first_gone_at) order by f.entity_id), '[]'
        )
        from (
            select c.entity_id, c.kind from clerk_sync.reconcile_findings as c
            left join %2$s as candidate on candidate.%3$I = c.entity_id
            where c.run_id = $1 and c.kind = $2
            and c.action = 'delete' and c.sent_at is null and c.entity_id > $3
            -- Objects deleted meanwhile, by a webhook or before this run was cut off, and rows hidden with a parent.
            and %4$s
            and not exists (
                select from clerk_sync.entities as e
                where e.kind = c.kind and e.id = c.entity_id and e.deleted_at is not null
            )
            order by c.entity_id limit $4
        ) as f
        left join %2$s as r on r.%3$I = f.entity_id
        left join clerk_sync.absences as a on f.kind = a.kind and f.entity_id = a.id
        $statement$,
        clerk_sync.columns_of_parents(of_kind), of_kind.relation, of_kind.key_column,
        -- Without parents, a row that is hidden, and no object deleted meanwhile, was hidden by hand: see find_unseen().
        case when of_kind.parents = '{}' then 'true' else 'candidate.deleted_at is null' end
    ) into candidates using run, target, request ->> 'after', at_most;
    return candidates;
end
$$;

-- {run} -> {by_object: [[kind, hidden kind, rows], ...], hidden: {kind: rows}}: how many rows would be hidden with the
-- objects missing from Clerk, by the kind of the object and of the row; and altogether, each row once. null when the
-- run is over.
create function clerk_sync.weigh_deletes(request jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    run constant bigint := (clerk_sync.running(request)).run_id;
    of_kind clerk_sync.kinds;
    counted jsonb;
    total bigint;
    by_object jsonb := '[]';
    hidden jsonb := '{}';
begin
    if run is null then
        return null;
    end if;
    for of_kind in select k.* from clerk_sync.kinds as k where k.accompanies = '{}' order by k.write_order loop
        execute format(
            $statement$
            with gone as (
                select f.kind, f.entity_id collate "default" as id from clerk_sync.reconcile_findings as f
                where f.run_id = $1 and f.action = 'delete' and f.observed_at is not null
            ),

            found as (%1$s)

            select
                (select count(distinct found.id) from found),
                (
                    select coalesce(jsonb_agg(jsonb_build_array(by_kind.kind, %2$L, by_kind.number)), '[]')
                    from (select found.kind, count(*) as number from found group by found.kind) as by_kind
                )
            $statement$,
            clerk_sync.for_each_link(
                format(
                    'select g.kind, r.%1$I::text as id from gone as g inner join %2$s as r '
                    'on r.%%1$I = g.id where g.kind = %%2$L and r.deleted_at is null',
                    of_kind.key_column, of_kind.relation
                ),
                clerk_sync.links_of(of_kind), ' union '
            ),
            of_kind.kind
        ) into total, counted using run;
        hidden := hidden || jsonb_build_object(of_kind.kind, total);
        by_object := by_object || counted;
    end loop;
    return jsonb_build_object('by_object', by_object, 'hidden', hidden);
end
$$;

-- {run, kind, present: [id, ...], gone: {id: moment}, sent: [id, ...], refused: [id, ...], held_up: [id, ...]}: records
-- the outcome of findings. The finding of a present object is deleted. An object missing from Clerk is recorded as an
-- absence, and a later run asks again. An object whose repair a lock holds up gets a finding, although
-- record_findings() records no finding for a page missing as a whole. -> whether the run goes on.
create function clerk_sync.settle_findings(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    at_work constant clerk_sync.reconcile_runs := clerk_sync.hold_run(request);
    run constant bigint := at_work.run_id;
    target constant text := clerk_sync.kind_of(request);
    -- The number of no window.
    of_no_window constant integer := -1;
begin
    if run is null then
        return 'false';
    end if;
    delete from clerk_sync.reconcile_findings as f
    where f.run_id = run and f.kind = target and f.difference = 'extra'
    and f.entity_id in (select jsonb_array_elements_text(request -> 'present'));
    delete from clerk_sync.absences as a
    where a.kind = target and a.id in (select jsonb_array_elements_text((request -> 'present') || (request -> 'sent')));
    insert into clerk_sync.absences (kind, id, first_gone_at, run_id)
    select f.kind, f.entity_id, clerk_sync.past_moment(request -> 'gone', f.entity_id), run
    from clerk_sync.reconcile_findings as f
    where f.run_id = run and f.kind = target and f.action = 'delete' and not at_work.is_dry_run
    and request -> 'gone' ? f.entity_id
    order by f.entity_id
    on conflict do nothing;
    update clerk_sync.reconcile_findings as f set observed_at = clerk_sync.past_moment(request -> 'gone', gone.key)
    from jsonb_each(request -> 'gone') as gone
    where f.run_id = run and f.kind = target and f.entity_id = gone.key;
    update clerk_sync.reconcile_findings as f set sent_at = clock_timestamp()
    where f.run_id = run and f.kind = target
    and f.entity_id in (select jsonb_array_elements_text(request -> 'sent'));
    update clerk_sync.reconcile_findings as f set is_refused = true
    where f.run_id = run and f.kind = target
    and f.entity_id in (select jsonb_array_elements_text(request -> 'refused'));
    insert into clerk_sync.reconcile_findings (
        run_id, kind, entity_id, difference, action, cause, window_number, is_held_up
    )
    select run, target, h.id, 'missing', 'repair', 'it never arrived', of_no_window, true
    from jsonb_array_elements_text(coalesce(request -> 'held_up', '[]')) as h (id)
    on conflict (run_id, kind, entity_id) do update set is_held_up = true;
    return 'true';
end
$$;

-- {run} -> {restored: [[kind, id], ...], waiting}: lifts the tombstones that this run alone set, and shows the rows
-- again unless a parent is deleted. An entity also deleted by an event, or purged meanwhile, stays unchanged; an entity
-- whose delete another run proved, too, stays deleted with the moment of the other run. waiting: deletes of the run
-- sent, but not applied before the first undo; such deletes have no effect. Nor have the absences first found by the
-- run.
create function clerk_sync.undo_run(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    undone constant bigint := clerk_sync.run_id(request);
    is_first boolean;
    waiting integer;
    moved clerk_sync.change[];
begin
    -- One undo after the other, because an undo leaves a tombstone to another run that proved the same delete. And no
    -- begin_run(), which locks out writers, between the two statements below.
    lock table clerk_sync.reconcile_runs in share update exclusive mode;
    -- This statement waits for a delete in the middle of apply(); a later delete sees the undone run.
    select r.undone_at is null into is_first from clerk_sync.reconcile_runs as r where r.run_id = undone for update;
    update clerk_sync.reconcile_runs as r set undone_at = coalesce(r.undone_at, clock_timestamp())
    where r.run_id = undone;
    delete from clerk_sync.absences as a where a.run_id = undone;
    -- In the order in which apply() locks them.
    perform from clerk_sync.entities as e
    where e.deleted_at is not null and e.delete_run = undone order by e.kind, e.id for update;

    select count(*) into waiting
    from clerk_sync.reconcile_findings as f inner join clerk_sync.entities as e on f.kind = e.kind and f.entity_id = e.id
    where is_first and f.run_id = undone and f.action = 'delete' and f.sent_at is not null
    and e.deleted_at is null and f.observed_at >= coalesce(e.shown_at, -1);

    with proven_by_others as (
        select distinct on (e.kind, e.id) e.kind, e.id, f.observed_at, f.run_id
        from clerk_sync.entities as e
        inner join clerk_sync.reconcile_findings as f
            on e.id = f.entity_id and (e.kind = f.kind or e.kind in (
                select k.kind from clerk_sync.kinds as k where f.kind = any(k.accompanies)
            ))
        inner join clerk_sync.reconcile_runs as r on f.run_id = r.run_id and r.undone_at is null
        where e.deleted_at is not null and e.delete_run = undone and f.action = 'delete' and f.sent_at is not null
        and f.observed_at >= coalesce(e.shown_at, -1)
        -- A parked delete was sent, but could not be applied.
        and not exists (
            select from clerk_sync.parked_events as p
            where p.svix_id = clerk_sync.message_of(f.run_id, f.entity_id) and p.replayed_at is null
        )
        order by e.kind, e.id, f.observed_at desc, f.run_id desc
    ),

    released as (
        update clerk_sync.entities as e set
            deleted_at = p.observed_at, delete_run = p.run_id,
            delete_recorded_at = case when p.run_id is not null then e.delete_recorded_at end
        from clerk_sync.entities as known
        left join proven_by_others as p on known.kind = p.kind and known.id = p.id
        where known.deleted_at is not null and known.delete_run = undone and known.purged_at is null and e.kind = known.kind and e.id = known.id
        returning e.kind, e.id, e.version, e.deleted_at
    )

    select coalesce(array_agg(
        row(null, r.kind, r.id, r.version, r.deleted_at, null, null, null, null, null, null)::clerk_sync.change
    ), '{}')
    into moved
    from released as r;

    perform clerk_sync.set_causes((
        select coalesce(jsonb_object_agg(m.id, jsonb_build_array('operator', null)), '{}') from unnest(moved) as m
    ));
    perform clerk_sync.follow_or_leave(moved);

    return jsonb_build_object('waiting', waiting, 'restored', (
        select coalesce(jsonb_agg(jsonb_build_array(m.kind, m.id) order by m.kind, m.id), '[]')
        from unnest(moved) as m inner join clerk_sync.kinds as k on m.kind = k.kind
        where k.accompanies = '{}' and m.deleted_at is null
    ));
end
$$;

select clerk_sync.revoke_default_rights();

grant execute on function
clerk_sync.prepare_deletes(jsonb),
clerk_sync.delete_candidates(jsonb),
clerk_sync.weigh_deletes(jsonb),
clerk_sync.settle_findings(jsonb)
to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0015_create_deletes');
