-- Compares pages of Clerk's lists with the tables.

-- The ids of a list that cannot be cut into windows, kept while a run reads the list.
create table clerk_sync.reconcile_seen (
    run_id bigint not null references clerk_sync.reconcile_runs (run_id) on delete cascade,
    kind text collate "C" not null,
    id text collate "C" not null,
    primary key (run_id, kind, id)
);

alter table clerk_sync.reconcile_seen enable row level security;

-- {every, before} -> [[moment, rows], ...]: moments in milliseconds that cut the users created before into parts of
-- about so many rows, with the number of rows created earlier than each moment. No user here was created at such a
-- moment nor a millisecond before, so the side of the cut on which Clerk counts a user does not matter. The function
-- goes from cut to cut along the index, and reads no rows, only their place in the index.
create function clerk_sync.cut_users(request jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
as $$
declare
    every constant integer := clerk_sync.whole_number(request, 'every', 1, 1000000);
    before constant timestamptz := to_timestamp(clerk_sync.moment(request, 'before') / 1000.0);
    cuts jsonb[] := '{}';
    -- Clerk has no user from before 1970; a row written by hand could say -infinity, from which nothing can be
    -- subtracted.
    cut timestamptz := to_timestamp(0);
    earlier bigint := 0;
    near timestamptz[];
    place integer;
    looked_at integer := 100;
begin
    loop
        near := array(
            select u.created_at from clerk.users as u
            where u.deleted_at is null and u.created_at >= cut and u.created_at < before
            order by u.created_at
            offset every - 1 limit looked_at
        );
        select min(n.place) into place from generate_series(2, cardinality(near)) as n (place)
        where near[n.place] - near[n.place - 1] >= interval '3 milliseconds';
        if place is not null then
            cut := near[place];
            earlier := earlier + every + place - 2;
            cuts := cuts || jsonb_build_array(floor(extract(epoch from cut) * 1000)::bigint - 1, earlier);
            looked_at := 100;
        elsif cardinality(near) < looked_at then
            exit;
        else
            -- So many users signed up without a pause.
            looked_at := looked_at * 10;
        end if;
    end loop;
    return to_jsonb(cuts);
end
$$;

-- {before} -> {kind: rows}: number of visible rows; of users only rows created before, if given.
create function clerk_sync.count_rows(request jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    before constant timestamptz := to_timestamp(clerk_sync.moment(request, 'before', true) / 1000.0);
    of_kind clerk_sync.kinds;
    counted bigint;
    counts jsonb := '{}';
begin
    for of_kind in select k.* from clerk_sync.kinds as k where k.accompanies = '{}' loop
        execute format(
            'select count(*) from %s as r where r.deleted_at is null%s', of_kind.relation,
            case when of_kind.kind = 'user' and before is not null then ' and r.created_at < $1' end
        ) into counted using before;
        counts := counts || jsonb_build_object(of_kind.kind, counted);
    end loop;
    return counts;
end
$$;

-- {kind, moments: [ms, ...]} -> [rows, ...]: number of visible rows created before each of these moments.
create function clerk_sync.rank_rows(request jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- More than a comparison ever asks about at once.
    most_moments constant integer := 100;
    target constant text := clerk_sync.kind_of(request);
    moments constant jsonb := request -> 'moments';
    of_kind clerk_sync.kinds;
    before bigint;
    rank bigint;
    ranks jsonb := '[]';
begin
    if jsonb_typeof(moments) is distinct from 'array' or jsonb_array_length(moments) > most_moments then
        raise invalid_parameter_value using message = format('moments is no list of up to %s moments', most_moments);
    end if;
    select k.* into of_kind from clerk_sync.kinds as k where k.kind = target;
    for before in
        select clerk_sync.moment(jsonb_build_object('moments', m.value), 'moments')
        from jsonb_array_elements(moments) with ordinality as m (value, place) order by m.place
    loop
        execute format(
            'select count(*) from %s as r where r.deleted_at is null and r.created_at < to_timestamp($1 / 1000.0)',
            of_kind.relation
        ) into rank using before;
        ranks := ranks || to_jsonb(rank);
    end loop;
    return ranks;
end
$$;

-- How an object in a list of Clerk differs from its entity and its row here: 'missing', 'stale', 'different', 'deleted
-- here' or null. known: its entity, null if the object never arrived; row_here: how its row differs, null without a
-- difference; listed: the version in Clerk's list, listed_at the moment of the list.
create function clerk_sync.difference(
    known clerk_sync.entities, row_here clerk_sync.difference, listed bigint, listed_at bigint, margin_ms bigint
)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    version constant clerk_sync.version := known.version;
begin
    return case
        when known.id is null then 'missing'
        -- Clerk's lists may still name an object for a while after the delete.
        when known.deleted_at is not null then case when known.deleted_at + margin_ms < listed_at then 'deleted here' end
        -- A webhook was faster than this page; or Clerk's own clock went back, and the list is right.
        when version.source_updated_at > listed then case
            when row_here.id is null or version.observed_at + margin_ms >= listed_at then null
            when row_here.fields is null then 'missing'
            else 'different'
        end
        when row_here.id is not null and row_here.fields is null
            and (version.source_updated_at < listed or version.observed_at < listed_at) then 'missing'
        when version.source_updated_at < listed then 'stale'
        when row_here.id is not null and version.observed_at < listed_at then 'different'
    end;
end
$$;

-- The action against a difference: 'repair' or 'none'.
create function clerk_sync.action_against(difference text, known clerk_sync.entities, listed bigint)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    version constant clerk_sync.version := known.version;
begin
    return case
        -- Only an object deleted by a comparison alone can be restored.
        when difference = 'altered' then 'none'
        when difference = 'deleted here' and (known.delete_run is null or known.purged_at is not null) then 'none'
        when difference <> 'deleted here' and version.source_updated_at > listed then 'none'
        else 'repair'
    end;
end
$$;

-- The likely cause of a difference, in words. fields: the differing columns of its row.
create function clerk_sync.likely_cause(
    difference text, known clerk_sync.entities, object_kind text, object_id text, listed bigint, fields text[]
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    version constant clerk_sync.version := known.version;
begin
    return case
        when difference = 'deleted here' and known.delete_run is not null then 'a comparison deleted it here, and Clerk has it'
        when difference = 'deleted here' then 'it was deleted here, and Clerk has it'
        when difference = 'altered' then 'a trigger of the app stores another value'
        when known.id is null then 'it never arrived'
        when version.source_updated_at > listed then 'Clerk lists an older version than the one that was applied here'
        when version.source_updated_at <= 0 then 'only other objects told of it'
        when difference = 'missing' then 'somebody removed the row'
        when difference = 'stale' then 'its last change did not arrive'
        -- An event about a child of the object brought a stub of the row.
        when (
            select a.operation from clerk_sync.audit_log as a
            where a.entity_id = object_id and a.kind = object_kind and a.cause like 'direct:%'
            order by a.audit_id desc limit 1
        ) = 'delete' then 'somebody removed the row'
        when exists (
            select from clerk_sync.audit_log as a
            where a.entity_id = object_id and a.kind = object_kind and a.cause like 'direct:%'
            and a.changed_columns && fields
        ) then 'somebody edited the row'
        else 'Clerk changed it without a new version'
    end;
end
$$;

-- How the rows of the objects of a page differ from their content, for every kind in the page. arrays, columns: as in
-- compare().
create function clerk_sync.find_differing(page jsonb, arrays jsonb default '{}', columns jsonb default '{}')
returns clerk_sync.difference[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    target text;
    more clerk_sync.difference[];
    differing clerk_sync.difference[] := '{}';
begin
    for target in
        select distinct object ->> 'kind' from jsonb_array_elements(page) as object
        where jsonb_typeof(object -> 'content') = 'object'
    loop
        execute format('select array_agg(d) from clerk_sync.%I($1) as d', 'differing_' || target) into more using page;
        differing := differing || coalesce(more, '{}');
    end loop;
    for target in select jsonb_object_keys(arrays) loop
        if jsonb_typeof(columns -> target) is distinct from 'array' then
            raise invalid_parameter_value using message = format('columns names no columns of %s', target);
        end if;
        execute format('select array_agg(d) from clerk_sync.%I($1, $2) as d', 'differing_' || target)
        into more using arrays -> target, array(select jsonb_array_elements_text(columns -> target));
        differing := differing || coalesce(more, '{}');
    end loop;
    return differing;
end
$$;

-- Objects whose repair takes a value away from the row: such a repair waits until everything is compared. A stub has no
-- value of its own.
create function clerk_sync.objects_to_hold(differing clerk_sync.difference[])
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select d.id from unnest(differing) as d
        where cardinality(d.emptied) > 0 and not exists (
            select from clerk_sync.entities as k
            where k.kind = d.kind and k.id = d.id and (k.version).source_updated_at <= 0
        )
    );
end
$$;

-- The findings of a page. request, listed_ids: as in compare(); differing: the result of find_differing(); held:
-- objects whose repair is held back.
create function clerk_sync.find_differences(
    request jsonb, run clerk_sync.reconcile_runs, listed_ids text[], differing clerk_sync.difference[], held text[]
)
returns clerk_sync.reconcile_findings[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    of_window constant integer := clerk_sync.whole_number(request, 'number', 0, 2147483647);
    target constant text := clerk_sync.kind_of(request);
    listed_at constant bigint := clerk_sync.moment(request, 'observed_at', true);
    companions constant text[] := array(select k.kind from clerk_sync.kinds as k where target = any(k.accompanies));
begin
    -- Most objects have no difference, and cost no more than a single index scan for all objects together.
    return array(
        with given as (
            select p.kind, p.id, p.source_updated_at, p.observed_at
            from jsonb_to_recordset(request -> 'page') as p (
                kind text, id text, source_updated_at bigint, observed_at bigint
            )
            where p.source_updated_at is not null
            union all
            select of_kind.key, o ->> 0, (o ->> 1)::bigint, (o ->> 2)::bigint
            from jsonb_each(request -> 'arrays') as of_kind cross join lateral jsonb_array_elements(of_kind.value) as o
            union all
            select target, listed.id, listed.version::bigint, listed_at
            from rows from (
                unnest(listed_ids), unnest(string_to_array(request ->> 'versions', E'\n', ''))
            ) as listed (id, version)
            where listed.version is not null
        )

        select row(
            run.run_id, g.kind, g.id, verdict.difference,
            clerk_sync.action_against(verdict.difference, e.known, g.source_updated_at),
            d.fields,
            clerk_sync.likely_cause(verdict.difference, e.known, g.kind, g.id, g.source_updated_at, d.fields),
            of_window, g.observed_at, clock_timestamp(), null, false,
            case when g.id = any(held) and verdict.difference <> 'altered' then coalesce(d.emptied, '{}') end, false
        )::clerk_sync.reconcile_findings
        from given as g
        left join lateral (
            select k as known from clerk_sync.entities as k where k.kind = g.kind and k.id = g.id limit 1
        ) as e on true
        left join unnest(differing) as d on g.kind = d.kind and g.id = d.id
        cross join lateral (
            select clerk_sync.difference(
                e.known, d, g.source_updated_at, g.observed_at, run.delete_margin_ms
            ) as difference
            offset 0
        ) as found
        cross join lateral (
            select case
                when found.difference = 'different' and d.fields <@ clerk_sync.kept_by_the_app(e.known) then 'altered'
                else found.difference
            end as difference
            offset 0
        ) as verdict
        where verdict.difference is not null
        and (
            (g.kind, g.id, g.source_updated_at) not in (
                select k.kind, k.id, (k.version).source_updated_at from clerk_sync.entities as k
                where k.kind = any(companions || target) and k.id = any(listed_ids) and k.deleted_at is null
            )
            or (g.kind, g.id) in (select d.kind, d.id from unnest(differing) as d)
        )
    );
end
$$;

-- Findings of users created from a moment on and before another moment, and missing from Clerk's list.
create function clerk_sync.find_extra_users(
    run clerk_sync.reconcile_runs, of_window integer, since bigint, until timestamptz, listed_ids text[]
)
returns clerk_sync.reconcile_findings[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select row(
            run.run_id, 'user', u.clerk_id, 'extra', case when e.id is null then 'none' else 'delete' end, null,
            case when e.id is null then 'the app made the row' else 'its delete did not arrive' end,
            of_window, null, clock_timestamp(), null, false, null, false
        )::clerk_sync.reconcile_findings
        from clerk.users as u
        left join lateral (
            select k.id, k.version, k.deleted_at from clerk_sync.entities as k
            where k.kind = 'user' and k.id = u.clerk_id limit 1
        ) as e on true
        where u.created_at >= to_timestamp(since / 1000.0) and u.created_at < until and u.deleted_at is null
        and u.clerk_id not in (select unnest(listed_ids))
        -- The delete of such a user did arrive, and check_rows() hides the row again.
        and e.deleted_at is null
        -- Of a user younger than the run: Clerk may have listed this window before.
        and coalesce((e.version).observed_at < run.as_of, true)
    );
end
$$;

-- Records findings. A page most of which is missing, as in a back-fill, would have a finding for each of its rows: of
-- these only the number is kept, in the tally of the window.
create function clerk_sync.record_findings(
    findings clerk_sync.reconcile_findings[], extra clerk_sync.reconcile_findings[]
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    most_missing constant integer := 100;
begin
    insert into clerk_sync.reconcile_findings as known
    select f.* from unnest(
        case
            when (select count(*) from unnest(findings) as f where f.difference = 'missing') >= most_missing
                then array(
                    select f from unnest(findings) as f where f.difference <> 'missing' or f.emptied is not null
                )
            else findings
        end || extra
    ) as f
    -- A user listed in any page is not extra, whatever moment of creation the row says. A finding of check_rows() about
    -- a profile does not replace a delete.
    on conflict (run_id, kind, entity_id) do update set
        difference = excluded.difference, action = excluded.action, fields = excluded.fields, cause = excluded.cause,
        window_number = excluded.window_number, observed_at = excluded.observed_at, emptied = excluded.emptied,
        sent_at = case when excluded.emptied is null and excluded.difference <> 'extra' then known.sent_at end,
        is_refused = false, is_held_up = false
    where excluded.difference <> 'extra' or (known.window_number is null and known.action = 'repair');
end
$$;

-- Compares one page of a list of Clerk's with the tables, and records the differences. {run, lease, number, kind,
-- tally, since, until, page, arrays, columns, ids, versions, observed_at}: page is a batch for apply(); elements
-- without content are compared by version, elements without a version only count as present. arrays is a shorter form
-- of elements with content, {kind: [[id, source_updated_at, observed_at, value, ...], ...]}, with the values of
-- columns, {kind: [name, ...]}. ids and versions, a line for each, are a shorter form of elements without content.
-- since and until: users created between these moments and missing from the page are extra. tally: the counts of the
-- window before this page. -> null when another process has taken the run over, else
-- [[kind, id, difference, action], ...]. action: the action of the finding or, for a repair that takes values away,
-- 'hold'.
create function clerk_sync.compare(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- Planned once, and by the indexes: also on tables empty a moment ago.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    of_window constant integer := clerk_sync.whole_number(request, 'number', 0, 2147483647);
    target constant text := clerk_sync.kind_of(request);
    since constant bigint := clerk_sync.moment(request, 'since', true);
    until constant timestamptz := coalesce(to_timestamp(clerk_sync.moment(request, 'until', true) / 1000.0), 'infinity');
    listed_ids constant text[] := coalesce(string_to_array(request ->> 'ids', E'\n'), '{}')
    || array(select p ->> 'id' from jsonb_array_elements(request -> 'page') as p)
    || array(select o ->> 0 from jsonb_array_elements(request -> 'arrays' -> target) as o);
    counted constant jsonb := clerk_sync.tally(request, 'tally');
    run clerk_sync.reconcile_runs;
    differing clerk_sync.difference[];
    held text[];
    found clerk_sync.reconcile_findings[];
    extra clerk_sync.reconcile_findings[] := '{}';
begin
    run := clerk_sync.leased_run(request);
    if run.run_id is null then
        return null;
    end if;
    update clerk_sync.reconcile_windows as w
    set reached = coalesce(since, w.reached), tally = counted
    where w.run_id = run.run_id and w.number = of_window;

    differing := clerk_sync.find_differing(request -> 'page', request -> 'arrays', request -> 'columns');
    held := clerk_sync.objects_to_hold(differing);
    found := clerk_sync.find_differences(request, run, listed_ids, differing, held);

    delete from clerk_sync.absences as a where a.kind = target and a.id = any(listed_ids);
    if target = 'user' and since is not null then
        extra := clerk_sync.find_extra_users(run, of_window, since, until, listed_ids);
    elsif since is null then
        insert into clerk_sync.reconcile_seen (run_id, kind, id)
        select distinct run.run_id, target, listed.id
        from unnest(listed_ids) as listed (id)
        where target <> 'user'
        on conflict do nothing;
    end if;
    perform clerk_sync.record_findings(found, extra);

    return (
        select coalesce(jsonb_agg(jsonb_build_array(
            f.kind, f.entity_id, f.difference,
            case when f.action = 'repair' and f.emptied is not null then 'hold' else f.action end
        )), '[]')
        from unnest(found) as f
    );
end
$$;

-- Writes the objects of a page whose entities are new, as in a back-fill, and leaves the others alone. {run, page}:
-- page is a batch for apply(), only upserts without parents. -> [[kind, id], ...]: the other objects; null when the run
-- is over. A new entity has no older version and no earlier delete, so this function does without most of apply().
-- Versions and locks are those of apply(): the function waits for a transaction that writes the same entity at the same
-- moment, such as the transaction of a webhook, and then leaves this entity alone.
create function clerk_sync.fill(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- As in compare(): a plan made for empty tables has to serve for full ones.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    run constant clerk_sync.reconcile_runs := clerk_sync.running(request);
    page constant jsonb := request -> 'page';
    target text;
    -- Of each new entity; in the order of kind and id.
    kinds text[];
    ids text[];
    places integer[];
    first integer;
    last integer;
    known jsonb;
    refusal clerk_sync.refusal;
    -- As in apply().
    latest constant bigint := (extract(epoch from clock_timestamp()) * 1000)::bigint + 86400000;
begin
    if run.run_id is null then
        return null;
    end if;

    with given as (
        select distinct on (g.kind, g.id) g.ordinality - 1 as place, g.kind, g.id, v.version
        from rows from (
            jsonb_to_recordset(page) as (
                kind text collate "C", id text collate "C", source_updated_at bigint, observed_at bigint, content jsonb
            )
        ) with ordinality as g
        cross join lateral (
            select row(
                -- As in apply(): a null would be newer than everything.
                coalesce(g.source_updated_at, -1), coalesce(g.observed_at, -1), jsonb_hash_extended(g.content, 0)
            )::clerk_sync.version as version
        ) as v
        order by g.kind, g.id, v.version desc
    ),

    inserted as (
        insert into clerk_sync.entities as e (kind, id, version, shown_at)
        select given.kind, given.id, given.version, least((given.version).observed_at, latest) from given
        order by given.kind, given.id
        on conflict do nothing
        returning e.kind, e.id
    ),

    judged as (
        select given.*, (given.kind, given.id) in (select i.kind, i.id from inserted as i) as is_new from given
    )

    select
        array_agg(j.kind) filter (where j.is_new), array_agg(j.id) filter (where j.is_new),
        array_agg(j.place) filter (where j.is_new),
        coalesce(jsonb_agg(jsonb_build_array(j.kind, j.id)) filter (where not j.is_new), '[]')
    into kinds, ids, places, known
    from (select judged.* from judged order by judged.kind, judged.id) as j;

    perform clerk_sync.set_cause('reconcile', clerk_sync.message_of(run.run_id));

    for target in
        select k.kind from clerk_sync.kinds as k
        where k.kind = any(kinds) order by k.write_order
    loop
        first := array_position(kinds, target);
        last := first + cardinality(array_positions(kinds, target)) - 1;
        execute format('select clerk_sync.%I($1, $2, $3)', 'fill_' || target)
        using page, ids[first:last], places[first:last];
    end loop;
    return known;
exception
    when integrity_constraint_violation then
        get stacked diagnostics
            refusal.code = returned_sqlstate, refusal.message = message_text, refusal.table_name = table_name,
            refusal.column_name = column_name, refusal.constraint_name = constraint_name;
        perform clerk_sync.refuse(refusal);
end
$$;

-- {run, kind, since, until, ids, is_count_only} -> {seen, extra}, or null when the run is over: records the rows that
-- Clerk's list lacks; with is_count_only, no row. Without since: the rows whose id no page of the whole list had; seen
-- is the number of ids received. Of users only the rows without a moment of creation that a window could hold, and the
-- rows hidden by hand: those that the list has are differences by then. With since: the rows created from since on and
-- before until, if given, whose id is not among ids; seen is the number of ids.
create function clerk_sync.find_unseen(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    target constant text := clerk_sync.kind_of(request);
    since constant bigint := clerk_sync.moment(request, 'since', true);
    until constant bigint := clerk_sync.moment(request, 'until', true);
    run constant clerk_sync.reconcile_runs := clerk_sync.running(request);
    listed constant text[] := array(
        select listed.id from jsonb_array_elements_text(coalesce(request -> 'ids', '[]')) as listed (id)
    );
    of_kind clerk_sync.kinds;
    written integer;
begin
    if run.run_id is null then
        return null;
    end if;
    select k.* into of_kind from clerk_sync.kinds as k where k.kind = target;
    execute format(
        $statement$
        insert into clerk_sync.reconcile_findings (run_id, kind, entity_id, difference, action, cause)
        select
            $1, $2, r.%1$I, 'extra', case when e.id is null then 'none' else 'delete' end,
            case when e.id is null then 'the app made the row' else 'its delete did not arrive' end
        from %2$s as r
        left join clerk_sync.entities as e on e.kind = $2 and e.id = r.%1$I
        where %6$s and e.deleted_at is null and coalesce((e.version).observed_at < $3, true)
        and %3$s and %4$s and %5$s and ($7 ->> 'is_count_only') is distinct from 'true'
        on conflict do nothing
        $statement$,
        of_kind.key_column, of_kind.relation,
        case
            when since is not null then format(
                'r.created_at >= to_timestamp($4 / 1000.0) and ($5 is null or r.created_at < to_timestamp($5 / 1000.0)) '
                'and not exists (select from unnest($6) as listed (id) where listed.id = r.%I)',
                of_kind.key_column
            )
            else format(
                'not exists (select from clerk_sync.reconcile_seen as s '
                'where s.run_id = $1 and s.kind = $2 and s.id = r.%I)',
                of_kind.key_column
            )
        end,
        case
            when target = 'user' and since is null
                then
                    '(r.created_at is null or r.created_at < to_timestamp(0) or r.created_at = ''infinity'' '
                    'or r.deleted_at is not null)'
            -- An answered invitation grants nothing, and Clerk does not document whether it lists such an invitation
            -- for ever.
            when target = 'invitation' then '(r.status is null or r.status = ''pending'')'
            else 'true'
        end,
        -- Rows that are about to be hidden with a parent.
        coalesce(nullif(clerk_sync.for_each_link(
            '(r.%1$I = any(array(select u.id from clerk_sync.unfinished_deletes as u where u.kind = %2$L))) is not true',
            of_kind.parents, ' and '
        ), ''), 'true'),
        -- A row hidden by hand has children, which only its delete hides. Rows with parents are also hidden with these.
        -- A listed user with a hidden row is a difference, unless the run compares no rows or a trigger of the app hides.
        case
            when since is not null or of_kind.parents <> '{}' or (target = 'user' and run.versions_only)
                then 'r.deleted_at is null'
            else format(
                '(r.deleted_at is null or (e.id is not null and not exists (select from clerk_sync.altered_rows as a '
                'where a.kind = $2 and a.id = r.%I)))',
                of_kind.key_column
            )
        end
    ) using run.run_id, target, run.as_of, since, until, listed, request;
    get diagnostics written = row_count;
    return jsonb_build_object(
        'seen', case
            when since is not null then cardinality(listed)
            else (
                select count(*) from clerk_sync.reconcile_seen as s where s.run_id = run.run_id and s.kind = target
            )
        end,
        'extra', written
    );
end
$$;

-- {run, lease} -> {refused}, about invitations: when Clerk's clock has passed the expiry of an invitation, the status
-- becomes expired, as in Clerk, which sends no event. Row by row, so that a row whose change the app refuses does not
-- stop the other rows. null when another process has taken the run over.
create function clerk_sync.expire_invitations(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- The rest is left to the next run.
    most_at_once constant integer := 1000;
    run constant clerk_sync.reconcile_runs := clerk_sync.leased_run(request);
    due text;
    context text;
    refused integer := 0;
begin
    if run.run_id is null then
        return null;
    end if;
    if run.is_dry_run then
        return '{"refused": 0}';
    end if;
    perform clerk_sync.set_cause('reconcile', clerk_sync.message_of(run.run_id));
    for due in
        select i.clerk_invitation_id from clerk.organization_invitations as i
        where i.status = 'pending' and i.deleted_at is null and i.expires_at <= to_timestamp(run.as_of / 1000.0)
        -- In random order: a row that takes all the time does not come first in every run.
        order by random() limit most_at_once
        for no key update skip locked
    loop
        begin
            update clerk.organization_invitations as i set status = 'expired'
            where i.clerk_invitation_id = due and i.status = 'pending';
        exception
            -- Any error of a trigger or a constraint of the app.
            when others or query_canceled or assert_failure then
                refused := refused + 1;
                get stacked diagnostics context = pg_exception_context;
                exit when clerk_sync.is_time_over(sqlstate, context);
        end;
    end loop;
    return jsonb_build_object('refused', refused);
end
$$;

select clerk_sync.revoke_default_rights();

grant execute on function
clerk_sync.cut_users(jsonb),
clerk_sync.count_rows(jsonb),
clerk_sync.rank_rows(jsonb),
clerk_sync.compare(jsonb),
clerk_sync.fill(jsonb),
clerk_sync.find_unseen(jsonb),
clerk_sync.expire_invitations(jsonb)
to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0013_create_compare');
