-- Findings of runs, in numbers and singly.

-- Whether the repair or the delete of a finding is settled: the tables have its result or a newer state, by the message
-- of the run, by its replay or by another event. entity: the row of the object in clerk_sync.entities.
create function clerk_sync.is_settled(finding clerk_sync.reconcile_findings, entity clerk_sync.entities)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when finding.action = 'delete' then entity.purged_at is not null or (
            entity.deleted_at is not null and not exists (
                select from clerk_sync.unfinished_deletes as u where u.kind = entity.kind and u.id = entity.id
            )
        )
        -- check_rows() itself repairs its findings.
        when finding.window_number is null then finding.sent_at is not null
        when finding.difference = 'deleted here' then entity.deleted_at is null or entity.delete_run is null
        else entity.deleted_at > finding.observed_at
    end or (finding.action = 'repair' and (entity.version).observed_at >= nullif(finding.observed_at, 0));
end
$$;

-- Whether the repair of a finding was made, and a trigger of the app stored another value.
create function clerk_sync.is_altered(
    finding clerk_sync.reconcile_findings, entity clerk_sync.entities, began_at timestamptz
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return finding.action = 'repair' and exists (
        select from clerk_sync.altered_rows as a
        where a.kind = finding.kind and a.id = finding.entity_id and a.version = entity.version
        and a.written_at >= began_at
    );
end
$$;

-- {run} -> [[table, column, rows], ...]: in how many rows a trigger of the app stores another value than Clerk's, by
-- the findings of a run; null when the run is over.
create function clerk_sync.altered_columns(request jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    run constant clerk_sync.reconcile_runs := clerk_sync.running(request);
begin
    if run.run_id is null then
        return null;
    end if;
    return (
        select coalesce(
            jsonb_agg(jsonb_build_array(c.relation, c.name, c.total) order by c.relation collate "C", c.name collate "C"),
            '[]'
        )
        from (
            select k.relation, field.name, count(*) as total
            from clerk_sync.reconcile_findings as f
            inner join clerk_sync.kinds as k on f.kind = k.kind
            inner join clerk_sync.altered_rows as a on f.kind = a.kind and f.entity_id = a.id
            inner join clerk_sync.entities as e on f.kind = e.kind and f.entity_id = e.id
            cross join lateral unnest(a.fields) as field (name)
            where f.run_id = run.run_id and (f.difference = 'altered' or clerk_sync.is_altered(f, e, run.started_at))
            group by k.relation, field.name
        ) as c
    );
end
$$;

-- By feed, the counts of the comparison of its table in a run: {"feed public.users": {compared, ...}}.
create function clerk_sync.counts_of_feeds(run bigint)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_object_agg(f.value ->> 'name', f.value -> 'counts'), '{}')
    from clerk_sync.reconcile_runs as r cross join lateral jsonb_each(r.fed) as f
    where r.run_id = run
$$;

-- By kind, the counts of the windows of a run and the outcomes of its findings; and by feed its counts. A repair or a
-- delete counts as done when the tables have its result, until then as sent.
create function clerk_sync.count_findings(run bigint)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with found as (
        -- Private metadata counts with its object. An object counts once, in however many windows Clerk listed the
        -- object.
        select
            coalesce(w.kind, f.kind) as kind, f.entity_id, f.difference, f.action,
            f.sent_at is not null and not f.is_refused as is_sent, f.sent_at, f.is_refused,
            -- A repair without a moment was held up by a lock, and made at the end of the run.
            clerk_sync.is_settled(f, e) or (f.is_held_up and f.observed_at is null) as is_done,
            clerk_sync.is_altered(f, e, r.started_at) as is_altered,
            -- The windows count all other repairs.
            f.action = 'delete' or f.emptied is not null or f.is_held_up or f.window_number is null as is_counted_here,
            a.id is not null as is_absent
        from clerk_sync.reconcile_findings as f
        inner join clerk_sync.reconcile_runs as r on f.run_id = r.run_id
        left join clerk_sync.reconcile_windows as w on f.run_id = w.run_id and f.window_number = w.number
        left join clerk_sync.entities as e
            on f.kind = e.kind and f.entity_id = e.id
            and (f.action = 'delete' or f.emptied is not null or f.is_held_up)
        left join clerk_sync.absences as a on f.action = 'delete' and f.kind = a.kind and f.entity_id = a.id
        where f.run_id = run
    ),

    counted as (
        select w.kind, t.key as name, t.value::bigint as total
        from clerk_sync.reconcile_windows as w cross join lateral jsonb_each_text(w.tally) as t
        where w.run_id = run and t.key not in ('stale', 'different', 'older', 'deleted here', 'restored')
        union all
        select f.kind, named.name, count(distinct f.entity_id)
        from found as f
        cross join lateral (
            values
            (case when f.difference <> 'missing' then f.difference end),
            (case when f.action = 'none' and f.difference in ('missing', 'different') then 'older' end),
            (case when f.action = 'repair' and f.is_sent and f.is_counted_here
                then case when f.is_altered then 'altered' when f.is_done then 'repaired' else 'repairs sent' end
            end),
            (case when f.action = 'delete' and f.is_sent
                then case when f.is_done then 'deleted' else 'deletes sent' end
            end),
            (case when f.is_absent and f.sent_at is null and not f.is_refused then 'awaiting' end),
            (case when f.action = 'repair' and f.difference = 'deleted here' and f.sent_at is not null then 'restored' end)
        ) as named (name)
        where named.name is not null
        group by f.kind, named.name
    )

    select coalesce(jsonb_object_agg(of_kind.kind, of_kind.counts), '{}') || clerk_sync.counts_of_feeds(run)
    from (
        select summed.kind, jsonb_object_agg(summed.name, summed.total) as counts
        from (
            select c.kind, c.name, sum(c.total) as total from counted as c group by c.kind, c.name
        ) as summed
        group by summed.kind
    ) as of_kind
$$;

-- {limit} -> [run, ...], newest first.
create function clerk_sync.list_runs(request jsonb)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_agg(to_jsonb(newest) - 'lease' || jsonb_build_object(
        'findings', (select count(*) from clerk_sync.reconcile_findings as f where f.run_id = newest.run_id)
    ) order by newest.run_id desc), '[]')
    from (
        select r.* from clerk_sync.reconcile_runs as r
        order by r.run_id desc limit clerk_sync.whole_number(request, 'limit', 1, 1000000)
    ) as newest
$$;

-- The kind of the parent whose tombstone hides the row of an object; null without such a parent. An organization comes
-- first.
create function clerk_sync.hidden_with(kind_name text, object_id text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    hidden_with text;
begin
    select k.* into of_kind from clerk_sync.kinds as k where k.kind = kind_name and k.parents <> '{}';
    if of_kind.kind is null then
        return null;
    end if;
    execute clerk_sync.statement_of(
        'select case {branches} end from {table} as r {join_parents} where r.{key} = $1',
        clerk_sync.holes_of(of_kind) || jsonb_build_object(
            'branches', clerk_sync.for_each_link('when %3$I.deleted_at is not null then %2$L', of_kind.parents, ' '),
            'join_parents', clerk_sync.for_each_link(
                'left join clerk_sync.entities as %3$I on %3$I.kind = %2$L and %3$I.id = r.%1$I', of_kind.parents, ' '
            )
        )
    ) into hidden_with using object_id;
    return hidden_with;
end
$$;

-- {run, limit} -> {run, windows, findings, findings_count}, or null when there is no such run.
create function clerk_sync.show_run(request jsonb)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object(
        'run', to_jsonb(r) - 'lease',
        'windows', clerk_sync.windows_of_run(request),
        'findings_count', (select count(*) from clerk_sync.reconcile_findings as f where f.run_id = r.run_id),
        'findings', (
            select coalesce(
                jsonb_agg(
                    to_jsonb(listed) - 'run_id' || jsonb_build_object('outcome', case
                        when listed.action = 'none' then 'nothing'
                        when clerk_sync.is_altered(row(listed.*)::clerk_sync.reconcile_findings, e, r.started_at)
                            then 'altered'
                        when clerk_sync.is_settled(row(listed.*)::clerk_sync.reconcile_findings, e) then 'settled'
                        when listed.action = 'delete' and listed.sent_at is not null and r.undone_at is not null
                            then 'undone'
                        when listed.is_refused then 'refused'
                        when p.discarded_at is not null then 'discarded'
                        when p.parked_id is not null and p.replayed_at is null then 'parked'
                        when listed.sent_at is not null then 'sent'
                        when listed.action = 'delete' and hidden.with_kind is not null
                            then 'hidden with its ' || hidden.with_kind
                        when listed.is_held_up then 'held up'
                        when listed.observed_at - a.first_gone_at < r.delete_margin_ms and not r.is_dry_run
                            then 'waiting for proof'
                        when listed.emptied is not null and not r.is_dry_run then 'held back'
                        else 'not sent'
                    end)
                    order by listed.kind, listed.entity_id
                ),
                '[]'
            )
            from (
                select f.* from clerk_sync.reconcile_findings as f where f.run_id = r.run_id
                order by f.kind, f.entity_id limit clerk_sync.whole_number(request, 'limit', 1, 1000000)
            ) as listed
            left join clerk_sync.entities as e on listed.kind = e.kind and listed.entity_id = e.id
            left join clerk_sync.parked_events as p
                on p.svix_id = clerk_sync.message_of(listed.run_id, listed.entity_id)
            left join lateral (
                select clerk_sync.hidden_with(listed.kind, listed.entity_id) as with_kind
            ) as hidden on listed.action = 'delete' and listed.sent_at is null
            left join clerk_sync.absences as a
                on listed.action = 'delete' and listed.kind = a.kind and listed.entity_id = a.id
        )
    )
    from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request)
$$;

-- {id} -> {instance_id, kinds: {kind: is deleted}}: the mirrored instance, and the kinds of the entities with this id.
create function clerk_sync.known_as(request jsonb)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object(
        'instance_id', (select i.instance_id from clerk_sync.instance as i),
        'kinds', (
            select coalesce(jsonb_object_agg(e.kind, e.deleted_at is not null), '{}')
            from clerk_sync.entities as e
            where e.kind in (select k.kind from clerk_sync.kinds as k where k.is_read_by_id) and e.id = request ->> 'id'
        )
    )
$$;

select clerk_sync.revoke_default_rights();

grant execute on function clerk_sync.altered_columns(jsonb) to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0016_create_run_reports');
