-- Applies changes: one function that decides by versions and tombstones, writes rows, and records deliveries.

create type clerk_sync.outcome as enum (
    'created', 'updated', 'unchanged', 'stale', 'deleted', 'deleted_before', 'altered'
);

-- Columns of fixed width come first, so that no padding is needed.
create table clerk_sync.deliveries (
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    applied_at timestamptz not null default clock_timestamp(),
    outcome clerk_sync.outcome not null,
    svix_id text collate "C" primary key,
    event_type text not null,
    entity_id text not null,
    -- Python reads no other years.
    constraint deliveries_moments_check check (
        occurred_at between '1900-01-01+00' and '9999-12-31+00'
        and received_at between '1900-01-01+00' and '9999-12-31+00'
    )
);

comment on table clerk_sync.deliveries is
'One row per webhook, written in the transaction of its changes; svix_id is the same on every retry and replay.';
comment on column clerk_sync.deliveries.outcome is
'created; updated; unchanged: nothing differs; stale: a newer version was there; deleted; deleted_before: an earlier '
'event deleted the object; altered: written, but a trigger of the app stores another value.';
comment on column clerk_sync.deliveries.occurred_at is 'When the event happened, by Clerk''s clock.';
comment on column clerk_sync.deliveries.received_at is 'When ingest accepted the event.';

-- Built on an empty table, the index would hold a summary of its first pages, which every insert into these pages
-- rewrites.
create index deliveries_applied_at_idx on clerk_sync.deliveries using brin (applied_at);
select brin_desummarize_range('clerk_sync.deliveries_applied_at_idx', 0);

alter table clerk_sync.deliveries enable row level security;

-- An error about a constraint, without the row: Postgres quotes the whole row, the app's own columns included, to the
-- caller, and a caller without the right to read a table can choose content that breaks the constraint.
create type clerk_sync.refusal as (
    code text,
    message text,
    table_name text,
    column_name text,
    constraint_name text
);

-- Raises such an error.
create function clerk_sync.refuse(refusal clerk_sync.refusal)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = refusal.code, message = refusal.message, table = coalesce(refusal.table_name, ''),
        column = coalesce(refusal.column_name, ''), constraint = coalesce(refusal.constraint_name, '');
end
$$;

-- The run that a change of cause 'reconcile' names: 0 for a resync, null for any other name.
create function clerk_sync.run_named(svix_id text)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select substring(svix_id from '^reconcile-([0-9]{1,18})-')::bigint
$$;

-- The svix id of the message by which a run repairs or deletes an entity; without an entity, its beginning.
create function clerk_sync.message_of(run_id bigint, entity_id text default '')
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select concat('reconcile-', run_id, '-', entity_id)
$$;

-- Sets the tombstones that comparisons prove; completes the tombstones that apply() has just lifted or confirmed
-- (delete_run still names the run that set the tombstone); and returns every entity whose rows have to follow, with the
-- change that moved the entity. The caller has locked the entities and the runs of the batch.
-- A proof of an undone run has no effect; nor has a proof of a pruned run, because nobody knows whether an operator
-- undid the run. Of several proofs the newest counts, and is judged by its own moment, even if a read lifts an older
-- proof. So the result does not depend on the order of the proofs.
create function clerk_sync.settle_tombstones(changes clerk_sync.change[], moved clerk_sync.change[])
returns clerk_sync.change[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    proven clerk_sync.change[];
    private text[];
begin
    update clerk_sync.entities as e set
        delete_run = null, delete_recorded_at = case when e.deleted_at is not null then e.delete_recorded_at end
    from unnest(moved) as m
    where e.kind = m.kind and e.id = m.id;

    -- Private metadata follows its object, also where the reader of the object keeps no private metadata. A session
    -- with a lock on private metadata is about to write the row.
    private := array(
        select e.id from clerk_sync.entities as e
        where e.kind = 'private_metadata' and e.delete_run is not null and e.purged_at is null
        and e.id in (select m.id from unnest(moved) as m where m.deleted_at is null)
        order by e.id
        for update skip locked
    );
    update clerk_sync.entities as e set deleted_at = null, delete_run = null, delete_recorded_at = null
    where e.kind = 'private_metadata' and e.id = any(private);

    with proofs as (
        select distinct on (c.kind, c.id) c.kind, c.id, c.deleted_at, named.run_id, c.cause, c.svix_id
        from unnest(changes) as c
        cross join lateral (select clerk_sync.run_named(c.svix_id) as run_id) as named
        where c.cause = 'reconcile' and c.deleted_at is not null and (
            named.run_id = 0 or exists (
                select from clerk_sync.reconcile_runs as r where r.run_id = named.run_id and r.undone_at is null
            )
        )
        order by c.kind, c.id, c.deleted_at desc, named.run_id desc
    ),

    proven_gone as (
        update clerk_sync.entities as e set
            deleted_at = p.deleted_at, delete_run = p.run_id,
            delete_recorded_at = coalesce(e.delete_recorded_at, clock_timestamp())
        from proofs as p
        where e.kind = p.kind and e.id = p.id and e.purged_at is null
        and (
            e.deleted_at is null
            or (e.delete_run is not null and (p.deleted_at, p.run_id) > (e.deleted_at, e.delete_run))
        )
        and not exists (
            select from clerk_sync.entities as shown
            where shown.id = p.id and shown.shown_at > p.deleted_at
            and shown.kind = any(p.kind || (select k.accompanies from clerk_sync.kinds as k where k.kind = p.kind))
        )
        returning e.kind, e.id, e.version, e.deleted_at, p.cause, p.svix_id
    )

    select coalesce(array_agg(
        row(null, g.kind, g.id, g.version, g.deleted_at, g.cause, g.svix_id, null, null, null, null)::clerk_sync.change
    ), '{}')
    into proven
    from proven_gone as g;

    return proven || array(
        -- The cause of a lift is the last read that showed the object.
        select row(
            null, m.kind, m.id, m.version, m.deleted_at, coalesce(shown.cause, m.cause),
            coalesce(shown.svix_id, m.svix_id), null, null, null, null
        )::clerk_sync.change
        from (
            select u.* from unnest(moved) as u
            union all
            select null, 'private_metadata', p, null, null, null, null, null, null, null, null from unnest(private) as p
        ) as m
        left join lateral (
            select c.cause, c.svix_id from unnest(changes) as c
            where c.kind = m.kind and c.id = m.id and c.deleted_at is null and m.deleted_at is null
            and c.cause in ('reconcile', 'session')
            order by (c.version).observed_at desc limit 1
        ) as shown on true
    );
end
$$;

-- A query of the rows r of a kind chosen by a condition, or by the keys $1 without one: id; deleted_at, as the row
-- says; due, as the tombstones say: the first delete of the row's entity or of one of its parents, null without any;
-- and whether the delete of a parent is unfinished. Uses the index of the tombstones, which are few.
create function clerk_sync.rows_with_tombstones(of_kind clerk_sync.kinds, condition text default null)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.statement_of(
        $query$
        select
            r.{key} as id, r.deleted_at, to_timestamp(least(own.deleted_at {parent_deletes}) / 1000.0) as due,
            exists (select from clerk_sync.unfinished_deletes as u where {is_of_parent}) as is_unfinished
        from {table} as r
        left join lateral (
            select e.deleted_at from clerk_sync.entities as e
            where e.kind = {kind} and e.id = r.{key} and e.deleted_at is not null limit 1
        ) as own on true
        {join_parents}
        where {condition}
        $query$,
        clerk_sync.holes_of(of_kind) || jsonb_build_object(
            'condition', coalesce(condition, format('r.%I = any($1)', of_kind.key_column)),
            'is_of_parent', coalesce(nullif(clerk_sync.for_each_link(
                '(u.kind = %2$L and u.id = r.%1$I)', of_kind.parents, ' or '
            ), ''), 'false'),
            'join_parents', clerk_sync.for_each_link(
                'left join lateral (select e.deleted_at from clerk_sync.entities as e '
                'where e.kind = %2$L and e.id = r.%1$I and e.deleted_at is not null limit 1) as %3$I on true',
                of_kind.parents, ' '
            )
        )
    )
$$;

-- Whether the row of an entity was purged: then nothing writes the row again.
create function clerk_sync.is_purged(of_kind text, entity_id text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from clerk_sync.entities as e where e.kind = of_kind and e.id = entity_id and e.purged_at is not null
    );
end
$$;

-- Notes that not all children of these entities of certain kinds have the deleted_at of the tombstones.
create function clerk_sync.leave_rest(moved clerk_sync.change[], parent_kinds text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into clerk_sync.unfinished_deletes as known (kind, id, is_deleted)
    select e.kind, e.id, e.deleted_at is not null
    from clerk_sync.entities as e
    where e.kind = any(parent_kinds) and (e.kind, e.id) in (select m.kind, m.id from unnest(moved) as m)
    order by e.kind, e.id
    on conflict (kind, id) do update set is_deleted = excluded.is_deleted;
end
$$;

-- Gives the rows of these entities, and the rows of their children, the deleted_at of the tombstones; of very many
-- children only a part. For lifted or moved tombstones: hide_rows() only knows earlier tombstones. Rows are locked by
-- key before the tombstones are read: a delete of another parent is seen if committed meanwhile, and waits for the row
-- if not.
create function clerk_sync.follow_tombstones(moved clerk_sync.change[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    keys text[];
begin
    for of_kind in select k.* from clerk_sync.kinds as k order by k.write_order loop
        keys := '{}';
        if of_kind.parents <> '{}' then
            execute format(
                'select array(select named.%2$I::text from %1$s as named where %3$s limit clerk_sync.rows_in_part() + 1)',
                of_kind.relation, of_kind.key_column,
                clerk_sync.for_each_link(
                    'named.%1$I = any(array(select m.id collate "default" from unnest($1) as m where m.kind = %2$L))',
                    of_kind.parents, ' or '
                )
            ) into keys using moved;
        end if;
        if cardinality(keys) > clerk_sync.rows_in_part() then
            perform clerk_sync.leave_rest(moved, clerk_sync.parent_kinds(of_kind));
            keys := keys[:clerk_sync.rows_in_part()];
        end if;
        execute format(
            'select array(select named.%2$I::text from %1$s as named where named.%2$I = any($1) '
            'order by named.%2$I for no key update)',
            of_kind.relation, of_kind.key_column
        ) into keys using keys || array(select m.id from unnest(moved) as m where m.kind = of_kind.kind);
        continue when keys = '{}';
        execute format(
            'update %1$s as kept set deleted_at = r.due from (%3$s) as r '
            'where kept.%2$I = r.id and kept.deleted_at is distinct from r.due and not clerk_sync.is_purged(%4$L, r.id)',
            of_kind.relation, of_kind.key_column, clerk_sync.rows_with_tombstones(of_kind), of_kind.kind
        ) using keys;
    end loop;
end
$$;

-- The condition that the entity of a row r, given by its id, is not purged.
create function clerk_sync.is_not_purged(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'not exists (select from clerk_sync.entities as p '
        'where p.kind = %L and p.id = r.id and p.purged_at is not null)',
        of_kind.kind
    )
$$;

-- The rows among $1 whose deleted_at is not as their tombstones say: what follows `from` in a query.
create function clerk_sync.wrong_rows(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        '(%s) as r where r.deleted_at is distinct from r.due and %s',
        clerk_sync.rows_with_tombstones(of_kind), clerk_sync.is_not_purged(of_kind)
    )
$$;

-- Leaves all children of these entities to continue_deletes(), and also an own row that the app refuses. An own row
-- that may be written later raises an error. Returns the entities of kinds without children.
create function clerk_sync.leave_children(moved clerk_sync.change[])
returns clerk_sync.change[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    with_children constant text[] := array(
        select distinct p.value from clerk_sync.kinds as k cross join lateral jsonb_each_text(k.parents) as p
    );
    of_kind clerk_sync.kinds;
    keys text[];
    failed jsonb;
begin
    perform clerk_sync.leave_rest(moved, with_children);
    for of_kind in
        select k.* from clerk_sync.kinds as k where k.kind = any(with_children) order by k.write_order
    loop
        keys := array(select m.id collate "default" from unnest(moved) as m where m.kind = of_kind.kind);
        continue when keys = '{}';
        failed := clerk_sync.try_part(
            of_kind, keys, clerk_sync.wrong_rows(of_kind), clock_timestamp() + interval '3 seconds'
        );
        if exists (select from jsonb_array_elements(failed) as f where (f.value -> 3)::boolean) then
            raise lock_not_available using message = 'the row of the object is locked, or a trigger of the app gives up';
        end if;
    end loop;
    return array(select m from unnest(moved) as m where m.kind <> all(with_children));
end
$$;

-- Whether an error in the midst of the rows of a delete may be the fault of single rows, so that the others can be
-- written without these rows: no end of the time of the statement, no outage, no column or right that is missing for
-- every row, as in a database of another version.
create function clerk_sync.is_of_a_row(code text, context text)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return not clerk_sync.is_time_over(code, context) and code !~ '^(08|42|53|57P|58)';
end
$$;

-- Whether these changes are of a single event about an object of a kind with children.
create function clerk_sync.is_of_a_parent(changes clerk_sync.change[])
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        (
            select count(*) = 1 or (count(c.svix_id) = count(*) and count(distinct c.svix_id) = 1)
            from unnest(changes) as c
        )
        and exists (
            select from clerk_sync.kinds as k where (changes[1]).kind = any(clerk_sync.parent_kinds(k))
        )
$$;

-- Gives the rows of these entities the deleted_at of the tombstones, and leaves a row that the app refuses or locks to
-- continue_deletes(). For kinds without children.
create function clerk_sync.follow_singly(moved clerk_sync.change[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    keys text[];
    until constant timestamptz := clock_timestamp() + interval '3 seconds';
begin
    for of_kind in
        select k.* from clerk_sync.kinds as k
        where k.kind in (select m.kind from unnest(moved) as m) order by k.write_order
    loop
        keys := array(select m.id collate "default" from unnest(moved) as m where m.kind = of_kind.kind);
        perform clerk_sync.try_part(of_kind, keys, clerk_sync.wrong_rows(of_kind), until);
        execute format('select array(select r.id from %s)', clerk_sync.wrong_rows(of_kind)) into keys using keys;
        perform clerk_sync.leave_rest(
            array(select m from unnest(moved) as m where m.kind = of_kind.kind and m.id = any(keys)),
            array[of_kind.kind]
        );
    end loop;
end
$$;

-- As follow_tombstones(); rows that the app refuses or locks are left to continue_deletes(), with all other children.
create function clerk_sync.follow_or_leave(moved clerk_sync.change[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    context text;
begin
    perform clerk_sync.follow_tombstones(moved);
exception
    when others or query_canceled or assert_failure then
        get stacked diagnostics context = pg_exception_context;
        if not clerk_sync.is_of_a_row(sqlstate, context) then
            raise;
        end if;
        perform clerk_sync.follow_singly(clerk_sync.leave_children(moved));
end
$$;

-- The elements of a batch as changes: in their order, with the version of each. Raises 42704 for an unregistered kind.
create function clerk_sync.changes_of(batch jsonb)
returns clerk_sync.change[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    changes clerk_sync.change[];
    is_registered boolean;
begin
    select
        coalesce(array_agg(row(
            given.ordinality - 1, given.kind, given.id,
            row(
                coalesce(given.source_updated_at, -1), coalesce(given.observed_at, -1),
                jsonb_hash_extended(given.content, 0)
            )::clerk_sync.version,
            given.deleted_at, given.cause, given.svix_id, given.event_type, given.received_at, null, null
        )::clerk_sync.change), '{}'),
        bool_and(given.kind = any(array(select k.kind from clerk_sync.kinds as k)))
    into changes, is_registered
    from rows from (
        jsonb_to_recordset(batch) as (
            kind text, id text, source_updated_at bigint, observed_at bigint, deleted_at bigint, content jsonb,
            cause text, svix_id text, event_type text, received_at bigint
        )
    ) with ordinality as given;

    if not is_registered then
        raise undefined_object using
            message = 'a change is of a kind that was never registered',
            hint = 'Apply the migrations that came with this code: clerk-supabase migrate';
    end if;
    return changes;
end
$$;

-- One candidate for each entity of the changes: its newest content, its earliest delete told by Clerk, the time of the
-- read that showed the object, and whether its entity has to be locked: for a delete proven by a comparison, and for
-- the parent of another change of the batch (a stub, source_updated_at 0), which must not be deleted meanwhile.
-- missing: the candidates without an entity.
create function clerk_sync.candidates_of(
    changes clerk_sync.change[], out candidates clerk_sync.change[], out missing clerk_sync.change[]
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- No moment of Clerk's is later.
    latest constant bigint := (extract(epoch from clock_timestamp()) * 1000)::bigint + 86400000;
begin
    -- Look-ups are `lateral ... limit 1`, so that Postgres reads a table by its index even if the table was never
    -- analysed.
    select
        coalesce(array_agg(drawn.candidate), '{}'),
        coalesce(array_agg(drawn.candidate) filter (where seen.exists is null), '{}')
    into candidates, missing
    from (
        select
            row(
                (entity.newest)."position", entity.kind, entity.id, (entity.newest).version, entity.earliest_delete,
                (entity.newest).cause, (entity.newest).svix_id, null, null, entity.is_held, entity.shown_at
            )::clerk_sync.change as candidate,
            entity.kind, entity.id
        from (
            select
                c.kind, c.id, (array_agg(c order by c.version desc))[1] as newest,
                min(c.deleted_at) filter (where c.cause is distinct from 'reconcile') as earliest_delete,
                bool_or(
                    (c.version).source_updated_at = 0 or (c.deleted_at is not null and c.cause = 'reconcile')
                ) as is_held,
                max((c.version).observed_at) filter (
                    where c.cause in ('reconcile', 'session') and (c.version).source_updated_at > 0
                    and (c.version).observed_at <= latest
                ) as shown_at
            from unnest(changes) as c
            group by c.kind, c.id
        ) as entity
        order by entity.kind, entity.id
    ) as drawn
    left join lateral (
        select true as exists from clerk_sync.entities as k where k.kind = drawn.kind and k.id = drawn.id limit 1
    ) as seen on true;
end
$$;

-- Makes the entities of the candidates without one, unless another session makes the entity first. added: the
-- candidates whose entities are new; known: all others.
create function clerk_sync.add_entities(
    candidates clerk_sync.change[], missing clerk_sync.change[],
    out added clerk_sync.change[], out known clerk_sync.change[]
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Most batches bring no new entity.
    if cardinality(missing) = 0 then
        added := '{}';
        known := candidates;
        return;
    end if;

    with inserted as (
        insert into clerk_sync.entities as e (kind, id, version, deleted_at, shown_at, delete_recorded_at)
        select
            c.kind, c.id, c.version, c.deleted_at, c.shown_at, case when c.deleted_at is not null then clock_timestamp() end
        from unnest(missing) as c
        order by c.kind, c.id
        on conflict do nothing
        returning e.kind, e.id
    )

    select
        coalesce(array_agg(c) filter (where inserted.id is not null), '{}'),
        coalesce(array_agg(c) filter (where inserted.id is null), '{}')
    into added, known
    from unnest(candidates) as c left join inserted on c.kind = inserted.kind and c.id = inserted.id;
end
$$;

-- Advances the existing entities of the candidates: their versions, their tombstones, and when reads showed the
-- objects. winners: the candidates whose content or delete counts from now on; moved: entities whose delete was told
-- only by a comparison, and then lifted by a read or confirmed by an event; only_kind: the kind of all winners, if they
-- are of one kind and each has content.
create function clerk_sync.advance_entities(
    candidates clerk_sync.change[], out winners clerk_sync.change[], out moved clerk_sync.change[], out only_kind text
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- A stale change locks and writes nothing. The limit is no limit, but lets the planner expect few: the planner then
    -- goes through the candidates in their order, the order of the locks, and takes each entity by the index.
    with advanced as (
        update clerk_sync.entities as known set
            version = greatest(known.version, c.version),
            shown_at = greatest(known.shown_at, c.shown_at),
            -- An event replaces a delete that only a comparison proved, and a later read lifts such a delete.
            -- settle_tombstones() completes both.
            deleted_at = case
                when known.delete_run is null then least(known.deleted_at, c.deleted_at)
                when c.deleted_at is not null then c.deleted_at
                when c.shown_at > known.deleted_at and known.purged_at is null then null
                else known.deleted_at
            end,
            -- Not now(): in a transaction open for days, the hold-back would begin days ago.
            delete_recorded_at = coalesce(
                known.delete_recorded_at, case when c.deleted_at is not null then clock_timestamp() end
            )
        from (
            select u.* from unnest(candidates) as u order by u.kind, u.id limit cardinality(candidates)
        ) as c
        where known.kind = c.kind and known.id = c.id
        and (
            c.version > known.version
            or c.deleted_at < coalesce(known.deleted_at, 9223372036854775807)
            or c.is_held
            or c.shown_at > coalesce(known.shown_at, -1)
            or (c.deleted_at is not null and known.delete_run is not null)
        )
        returning
            known.kind, known.id, known.version, known.deleted_at, known.delete_run, known.purged_at,
            c."position", c.version as own_version, c.deleted_at as own_delete, c.cause, c.svix_id
    )

    select
        coalesce(array_agg(row(
            case when version = own_version and purged_at is null then a."position" end,
            kind, id, version, deleted_at, cause, svix_id, null, null, null, null
        )::clerk_sync.change) filter (where version = own_version or deleted_at = own_delete), '{}'),
        coalesce(array_agg(
            row(null, kind, id, version, deleted_at, cause, svix_id, null, null, null, null)::clerk_sync.change
        ) filter (where delete_run is not null and (deleted_at is null or own_delete is not null)), '{}'),
        case
            when
                min(kind) = max(kind)
                and bool_and(version = own_version and purged_at is null and (version).source_updated_at >= 0)
                then min(kind)
        end
    into winners, moved, only_kind
    from advanced as a;
end
$$;

-- The causes of changes of rows: for a deleted entity the delete that counts, for any other entity its own change.
create function clerk_sync.causes_of(moving clerk_sync.change[], deletes clerk_sync.change[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(
            jsonb_object_agg(w.id, coalesce(
                case when w.deleted_at is not null then (
                    select jsonb_build_array(d.cause, d.svix_id)
                    from unnest(deletes) as d
                    where d.kind = w.kind and d.id = w.id and d.deleted_at = w.deleted_at
                    limit 1
                ) end,
                jsonb_build_array(w.cause, w.svix_id)
            )),
            '{}'
        )
        from unnest(moving) as w
    );
end
$$;

-- Judges the changes of an applied batch, and records deliveries. Returns an outcome for each change: 'unfinished' for
-- the delete of an object with more children than apply() hides at once; its delivery is recorded after the last part.
-- written: {"kind id": outcome} of the rows written; a look-up in an object costs the same whatever the plan expects of
-- the batch. The entity of a change that won without a delete is as the change says.
create function clerk_sync.record_outcomes(
    changes clerk_sync.change[], winners clerk_sync.change[], written jsonb
)
returns table ("position" integer, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with judged as (
        select
            c."position", c.id, (c.version).observed_at as observed_at, c.deleted_at, c.svix_id, c.event_type,
            c.received_at,
            case
                when c.is_unfinished then 'unfinished'
                when c.has_won then coalesce(written ->> c.entity, 'unchanged')
                -- A comparison's proof may count for nothing: Clerk showed the object later, or its run was undone.
                when c.deleted_at is not null and e.deleted_at is not null then 'deleted'
                when c.deleted_at is not null then 'stale'
                when e.deleted_at is not null then 'deleted_before'
                when c.version < e.version then 'stale'
                else coalesce(written ->> c.entity, 'unchanged')
            end as verdict,
            c.event_type is not null and before.exists is null and (c.deleted_at is null or not c.is_unfinished)
            and row_number() over (partition by c.svix_id, c.event_type is null order by c."position") = 1 as is_recorded
        from (
            select
                u.*, u.kind || ' ' || u.id as entity,
                (u.deleted_at is not null or u.cause = 'reconcile') and u.kind || ' ' || u.id = any(array(
                    select r.kind || ' ' || r.id from clerk_sync.unfinished_deletes as r
                )) as is_unfinished,
                coalesce(u."position" in (
                    select w."position" from unnest(winners) as w where w.deleted_at is null
                ), false) as has_won
            from unnest(changes) as u
            offset 0
        ) as c
        left join lateral (
            select k.version, k.deleted_at
            from clerk_sync.entities as k
            where not c.has_won and k.kind = c.kind and k.id = c.id
            limit 1
        ) as e on true
        left join lateral (
            select true as exists from clerk_sync.deliveries as d
            where c.event_type is not null and d.svix_id = c.svix_id limit 1
        ) as before on true
    ),

    -- Not `on conflict do nothing`, whose rows cost twice the log. Where another worker records the same delivery at
    -- the same moment, the batch fails and is applied again.
    recorded as (
        insert into clerk_sync.deliveries (occurred_at, received_at, svix_id, event_type, entity_id, outcome)
        select
            to_timestamp(coalesce(j.deleted_at, j.observed_at) / 1000.0),
            to_timestamp(j.received_at / 1000.0), j.svix_id, j.event_type, j.id, j.verdict::clerk_sync.outcome
        from judged as j
        where j.is_recorded
        order by j.svix_id
    )

    select
        j."position",
        case when j.event_type is null or j.is_recorded or j.verdict = 'unfinished' then j.verdict else 'duplicate' end
    from judged as j
    order by j."position";
end
$$;

-- Parents named by other changes of a batch (stubs), whose entity is known and whose row somebody removed by hand: as
-- changes that write the rows again, which the next comparison fills; null without such parents. A purged parent gets
-- no row, nor do its children. The caller has locked the entities.
create function clerk_sync.parents_without_row(changes clerk_sync.change[], winners clerk_sync.change[])
returns clerk_sync.change[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    of_this_kind clerk_sync.change[];
    parents clerk_sync.change[];
begin
    for of_kind in
        select k.* from clerk_sync.kinds as k
        where k.kind in (select c.kind from unnest(changes) as c where (c.version).source_updated_at = 0)
    loop
        execute clerk_sync.statement_of(
            $query$
            select array_agg(row(
                s."position", s.kind, s.id, s.version, e.deleted_at, s.cause, s.svix_id, null, null, null, null
            )::clerk_sync.change)
            from (
                select distinct on (c.id) c.* from unnest($1) as c
                where c.kind = {kind} and (c.version).source_updated_at = 0
                and (c.kind, c.id) not in (select w.kind, w.id from unnest($2) as w)
                order by c.id, c.version desc
            ) as s
            inner join clerk_sync.entities as e on s.kind = e.kind and s.id = e.id and e.purged_at is null
            where not exists (select from {table} as r where r.{key} = s.id collate "default")
            $query$,
            clerk_sync.holes_of(of_kind)
        ) into of_this_kind using changes, winners;
        parents := parents || of_this_kind;
    end loop;
    -- In the audit log, the cause of such a row is the change that named the parent.
    perform clerk_sync.set_causes(
        current_setting('clerk_sync.causes')::jsonb
        || jsonb_object_agg(p.id, jsonb_build_array(p.cause, p.svix_id))
    )
    from unnest(parents) as p having count(*) > 0;
    return parents;
end
$$;

-- Locks the runs whose proofs are among the deletes, against undo: either undo_run() sees the changes of this batch, or
-- this batch sees the undone run. Returns whether there is a proof.
create function clerk_sync.hold_runs_of(deletes clerk_sync.change[])
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    proofs constant clerk_sync.change[] := array(select d from unnest(deletes) as d where d.cause = 'reconcile');
begin
    perform from clerk_sync.reconcile_runs as r
    where r.run_id in (select clerk_sync.run_named(p.svix_id) from unnest(proofs) as p)
    order by r.run_id
    for key share;
    return cardinality(proofs) > 0;
end
$$;

-- Applies a batch of changes in one statement, in any order, and however often a change arrives. Returns one outcome
-- per element, as in clerk_sync.deliveries, or 'duplicate' for a delivery recorded before. Locks never form a cycle,
-- because every writing function takes locks in this order, also purge(), forget() and undo_run(). Runs come first:
-- where comparisons deleted something, and where a run writes about itself. Then new entities, by kind and id: a
-- session that waits for a new entity holds only entities invisible to all other sessions. Then existing entities, by
-- kind and id: of each row to be written or deleted, also by a foreign key, and of the parents of rows with content.
-- Then rows, by the order of their kinds and by key: a delete of a parent reaches rows whose entities are not locked.
-- Then the belongings of rows: their profiles, their entries in the audit log. Last deliveries by id. Parked events
-- have no place in this order, as a delete of a new user reaches them between two steps: a session with locked entities
-- waits for no row of parked events, and park() waits for nothing else. prune() leaves out locked rows, and waits for
-- no session. Security definer: the worker role may call this function and read no table.
create function clerk_sync.apply(batch jsonb)
returns table ("position" integer, outcome text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
    changes constant clerk_sync.change[] := clerk_sync.changes_of(batch);
    deletes clerk_sync.change[] := '{}';
    has_proofs boolean := false;
    drawn record;
    entered record;
    advanced record;
    winners clerk_sync.change[];
    moved clerk_sync.change[];
    contents clerk_sync.change[];
    target text;
    causes text;
    written jsonb;
    following clerk_sync.change[];
    is_hiding boolean;
    leaves_children boolean := false;
    refusal clerk_sync.refusal;
    context text;
    parents clerk_sync.change[];
begin
    -- Most batches bring no delete.
    if batch @? '$[*].deleted_at' then
        deletes := array(select c from unnest(changes) as c where c.deleted_at is not null);
        has_proofs := clerk_sync.hold_runs_of(deletes);
    end if;

    drawn := clerk_sync.candidates_of(changes);
    entered := clerk_sync.add_entities(drawn.candidates, drawn.missing);
    advanced := clerk_sync.advance_entities(entered.known);
    winners := entered.added || advanced.winners;
    moved := advanced.moved;

    if has_proofs or cardinality(moved) > 0 then
        moved := clerk_sync.settle_tombstones(changes, moved);
        winners := array(
            select row(
                w."position", w.kind, w.id, w.version, e.deleted_at, w.cause, w.svix_id, null, null, null, null
            )::clerk_sync.change
            from unnest(winners) as w
            cross join lateral (
                select k.deleted_at from clerk_sync.entities as k where k.kind = w.kind and k.id = w.id limit 1
            ) as e
        );
    end if;

    -- As set_causes(), without a statement.
    causes := set_config('clerk_sync.causes', clerk_sync.causes_of(winners || moved, deletes)::text, true);

    -- A block of its own costs a subtransaction, and nothing for each row. The block runs a second time after a foreign
    -- key missed the row of a parent: a search for such parents before the first time would be useless for nearly any
    -- batch. And again after the app refused or locked a row that a delete has to hide.
    loop
        begin
            is_hiding := false;
            written := '{}';
            -- Most batches are updates of users: to group them would cost as much as a tenth of their writes.
            if advanced.only_kind is not null and cardinality(entered.added) = 0 and parents is null then
                written := clerk_sync.write_rows(advanced.only_kind, batch, winners);
            else
                for target, contents in
                    select w.kind, array_agg(w)
                    from unnest(winners || parents) as w inner join clerk_sync.kinds as k using (kind)
                    where w."position" is not null and (w.version).source_updated_at >= 0
                    group by w.kind, k.write_order
                    order by k.write_order
                loop
                    written := written || clerk_sync.write_rows(target, batch, contents);
                end loop;
            end if;
            is_hiding := true;
            if cardinality(moved) > 0 or cardinality(deletes) > 0 then
                following := moved || array(select w from unnest(winners) as w where w.deleted_at is not null);
                if leaves_children then
                    following := clerk_sync.leave_children(following);
                end if;
                if cardinality(moved) > 0 then
                    -- Alone: two of these, one after the other, would lock rows out of order.
                    perform clerk_sync.follow_tombstones(following);
                else
                    perform clerk_sync.hide_rows(following);
                end if;
            end if;
            exit;
        exception
            when others or query_canceled or assert_failure then
                get stacked diagnostics
                    refusal.code = returned_sqlstate, refusal.message = message_text, refusal.table_name = table_name,
                    refusal.column_name = column_name, refusal.constraint_name = constraint_name,
                    context = pg_exception_context;
                if
                    is_hiding and not leaves_children
                    and clerk_sync.is_of_a_row(refusal.code, context) and clerk_sync.is_of_a_parent(changes)
                then
                    leaves_children := true;
                    continue;
                end if;
                if refusal.code not like '23%' then
                    raise;
                end if;
                parents := case
                    when refusal.code = '23503' and parents is null
                        then clerk_sync.parents_without_row(changes, winners)
                end;
                if parents is null then
                    perform clerk_sync.refuse(refusal);
                end if;
        end;
    end loop;

    return query select o.* from clerk_sync.record_outcomes(changes, winners, written) as o;
end
$$;

-- Returns its argument, and makes the deferred triggers of the app raise their errors at once in this transaction:
-- there, errors are caught row by row, unlike at the commit. The worker calls this function around the argument of
-- apply(), with the rights of the caller: no trigger that waits in the caller's transaction runs as the owner.
create function clerk_sync.without_deferral(argument jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    set constraints all immediate;
    return argument;
end
$$;

-- The condition that a row r is the row of the entity $1 of a kind, or a child of this entity.
create function clerk_sync.is_linked_to(of_kind clerk_sync.kinds, kind_of_entity text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('r.%I = $1', l.key), ' or ')
    from jsonb_each_text(clerk_sync.links_of(of_kind)) as l where l.value = kind_of_entity
$$;

-- Gives these rows of one kind the deleted_at of the tombstones. wrong_rows: a query for the rows among $1 that have
-- another one.
create function clerk_sync.write_part(of_kind clerk_sync.kinds, keys text[], wrong_rows text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    part text[];
    moments timestamptz[];
    is_kept boolean;
begin
    execute format(
        'select array(select r.%2$I::text from %1$s as r where r.%2$I = any($1) '
        'order by r.%2$I for no key update)',
        of_kind.relation, of_kind.key_column
    ) into part using keys;
    -- Such rows would be found again and again. Compared with the moments of this statement: since then, another
    -- session may have moved a tombstone, and left a row of this part to a later part of its own.
    execute format(
        'with wrong as materialized (select r.id, r.due from %3$s), '
        'written as (update %1$s as kept set deleted_at = wrong.due from wrong where kept.%2$I = wrong.id) '
        'select array_agg(wrong.id), array_agg(wrong.due) from wrong',
        of_kind.relation, of_kind.key_column, wrong_rows
    ) into part, moments using part;
    execute format(
        'select exists (select from %1$s as r inner join unnest($1, $2) as w (id, due) on r.%2$I = w.id '
        'where r.%2$I = any($1) and r.deleted_at is distinct from w.due)',
        of_kind.relation, of_kind.key_column
    ) into is_kept using part, moments;
    if is_kept then
        perform clerk_sync.refuse_kept_row(of_kind.relation);
    end if;
end
$$;

-- As write_part(), and after a failure row by row until a moment: a row that the app refuses or locks holds up no other
-- row. -> [[kind, id, reason, whether the row may be written later], ...]: the rows that were not written.
create function clerk_sync.try_part(of_kind clerk_sync.kinds, keys text[], wrong_rows text, until timestamptz)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    row_id text;
    failed jsonb := '[]';
    is_alone constant boolean := cardinality(keys) = 1;
    why text;
    of_table text;
    context text;
begin
    begin
        perform clerk_sync.write_part(of_kind, keys, wrong_rows);
        return failed;
    exception
        when others or query_canceled or assert_failure then
            get stacked diagnostics
                why = constraint_name, of_table = table_name, context = pg_exception_context;
            if not clerk_sync.is_of_a_row(sqlstate, context) then
                raise;
            end if;
            if is_alone then
                if why <> '' and of_table <> '' then
                    why := format('%s of %s', why, of_table);
                end if;
                return jsonb_build_array(jsonb_build_array(
                    of_kind.kind, keys[1], clerk_sync.reason_of(sqlstate, why, context), sqlstate ~ '^(40|55|57)'
                ));
            end if;
    end;
    foreach row_id in array keys loop
        exit when clock_timestamp() > until;
        failed := failed || clerk_sync.try_part(of_kind, array[row_id], wrong_rows, until);
    end loop;
    return failed;
end
$$;

-- {kind, id, without} -> {is_left, refused}: gives an object, whose delete or restored state apply() wrote in part, and
-- its children the deleted_at of the tombstones. is_left: whether there are rows that were not tried; refused: as
-- try_part() returns. without: ids of rows to leave out, because an earlier call could not write them. Works for a
-- few seconds: to be called until no row is left. A call keeps its work. Whatever happens to the object and to its
-- children meanwhile, the tombstones decide. Takes the locks of apply(), in the order of apply().
create function clerk_sync.continue_deletes(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- By the indexes, however many rows there are.
set enable_seqscan = off
as $$
declare
    target constant text := clerk_sync.kind_of(request);
    object_id constant text := request ->> 'id';
    size constant integer := clerk_sync.rows_in_part();
    -- A search visits all children, also the children of earlier parts: few searches for many parts.
    most constant integer := 40 * size;
    until constant timestamptz := clock_timestamp() + interval '3 seconds';
    is_of_object text;
    is_wrong text;
    tombstone bigint;
    of_kind clerk_sync.kinds;
    keys text[];
    is_full boolean;
    without constant text[] := array(
        select jsonb_array_elements_text(
            case when jsonb_typeof(request -> 'without') = 'array' then request -> 'without' else '[]' end
        )
    );
    refused jsonb := '[]';
begin
    select e.deleted_at into tombstone from clerk_sync.entities as e where e.kind = target and e.id = object_id for update;
    if not exists (select from clerk_sync.unfinished_deletes as u where u.kind = target and u.id = object_id) then
        return '{"is_left": false, "refused": []}';
    end if;
    perform clerk_sync.set_causes('{}');
    for of_kind in
        select k.* from clerk_sync.kinds as k
        where k.kind = target or target = any(clerk_sync.parent_kinds(k)) order by k.write_order
    loop
        is_of_object := clerk_sync.is_linked_to(of_kind, target);
        -- Most rows have the moment of this delete, and need no search for other tombstones.
        execute format(
            'select array(select c.id from (select r.id from (%s) as r '
            'where r.deleted_at is distinct from r.due and r.id <> all($4) and %s limit $3) as c order by c.id)',
            clerk_sync.rows_with_tombstones(
                of_kind, format('(%s) and r.deleted_at is distinct from to_timestamp($2 / 1000.0)', is_of_object)
            ),
            clerk_sync.is_not_purged(of_kind)
        ) into keys using object_id, tombstone, most, without;
        is_full := cardinality(keys) = most;
        is_wrong := clerk_sync.wrong_rows(of_kind);
        while keys <> '{}' loop
            refused := refused || clerk_sync.try_part(of_kind, keys[:size], is_wrong, until);
            keys := keys[size + 1:];
            exit when clock_timestamp() > until;
        end loop;
        if is_full or clock_timestamp() > until then
            return jsonb_build_object('is_left', true, 'refused', refused);
        end if;
    end loop;
    if refused = '[]' and without = '{}' then
        delete from clerk_sync.unfinished_deletes as u where u.kind = target and u.id = object_id;
    end if;
    return jsonb_build_object('is_left', false, 'refused', refused);
end
$$;

-- {} -> [[kind, id], ...]: the objects for continue_deletes(), the longest unfinished first.
create function clerk_sync.list_unfinished(request jsonb)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_agg(jsonb_build_array(u.kind, u.id) order by u.began_at, u.kind, u.id), '[]')
    from clerk_sync.unfinished_deletes as u
$$;

-- The number of rows of an object and of its children whose deleted_at is not as their tombstones say. For the owner.
create function clerk_sync.rows_left(of_object clerk_sync.unfinished_deletes)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    counted bigint;
    total bigint := 0;
begin
    for of_kind in
        select k.* from clerk_sync.kinds as k
        where k.kind = of_object.kind or of_object.kind = any(clerk_sync.parent_kinds(k))
    loop
        execute format(
            'select count(*) from (%s) as r where r.deleted_at is distinct from r.due',
            clerk_sync.rows_with_tombstones(of_kind, clerk_sync.is_linked_to(of_kind, of_object.kind))
        ) into counted using of_object.id;
        total := total + counted;
    end loop;
    return total;
end
$$;

select clerk_sync.revoke_default_rights();
grant execute on function
clerk_sync.apply(jsonb),
clerk_sync.without_deferral(jsonb),
clerk_sync.continue_deletes(jsonb),
clerk_sync.list_unfinished(jsonb)
to clerk_sync_worker;

select clerk_sync.register('user', 1, 'clerk.users', 'clerk_id', is_read_by_id => true);

insert into clerk_sync.migrations (name) values ('0005_create_apply');
