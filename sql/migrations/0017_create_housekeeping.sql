-- The nightly housekeeping: one call that purges and prunes.

-- {hold_back_days, purge_by, deliveries_days, audit_days, runs_days, sessions_days} -> {purged: [{kind, outcome,
-- constraint, rows}], pruned: {deliveries, audit_entries, parked_events, runs}, not_followed: {field: {asked,
-- allowed}}, failed: why the purge as a whole failed; null if not}. Keeps every record at least as long as
-- clerk_sync.retention says, whatever the request asks. Purges and prunes a portion: to be called until a call does
-- neither. purge() comes first, because purge() takes locks in the order of apply(); prune() waits for no lock.
create function clerk_sync.keep_house(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    how constant text := clerk_sync.word(request, 'purge_by', '{scrub,delete}');
    allowed jsonb;
    may_delete boolean;
    -- Of 24 hours each: a day may be a week long in a time zone defined by the session.
    days jsonb;
    not_followed jsonb;
    purged jsonb;
    pruned jsonb;
    old_runs bigint[];
    runs integer := 0;
    failed text;
    why text;
    context text;
begin
    -- Before anything is written.
    perform clerk_sync.check_keys_at_once();
    allowed := to_jsonb(clerk_sync.allowed_retention());
    may_delete := allowed ->> 'purge_by' = 'delete';
    select
        jsonb_object_agg(f.field, greatest(f.asked, f.allowed)),
        coalesce(
            jsonb_object_agg(f.field, jsonb_build_object('asked', f.asked, 'allowed', f.allowed))
            -- The stack has no parameter for the days of runs.
            filter (where f.asked < f.allowed and f.field <> 'runs_days'),
            '{}'
        )
    into days, not_followed
    from (
        select
            field, clerk_sync.whole_number(request, field, 0, 36500) as asked, (allowed -> field)::bigint as allowed
        from unnest('{hold_back_days,deliveries_days,audit_days,runs_days,sessions_days}'::text[]) as field
    ) as f;
    if how = 'delete' and not may_delete then
        not_followed := not_followed || '{"purge_by": {"asked": "delete", "allowed": "scrub"}}';
    end if;

    begin
        select coalesce(
            jsonb_agg(jsonb_build_object(
                'kind', p.kind, 'outcome', p.outcome, 'constraint', p.constraint_name, 'rows', p.purged
            )),
            '[]'
        )
        into purged
        from (
            select * from clerk_sync.purge(
                (days -> 'hold_back_days')::integer * interval '24 hours', case when may_delete then how else 'scrub' end
            )
            union all
            select * from clerk_sync.purge_sessions(
                (days -> 'sessions_days')::integer * interval '24 hours',
                (days -> 'deliveries_days')::integer * interval '24 hours'
            )
        ) as p;
    exception
        when others or assert_failure then
            get stacked diagnostics why = constraint_name, context = pg_exception_context;
            purged := '[]';
            failed := clerk_sync.reason_of(sqlstate, why, context);
    end;

    select to_jsonb(p.*) into pruned
    from clerk_sync.prune(
        (days -> 'deliveries_days')::integer * interval '24 hours', (days -> 'audit_days')::integer * interval '24 hours'
    ) as p;

    delete from clerk_sync.altered_rows as a where a.ctid = any(array(
        select old.ctid from clerk_sync.altered_rows as old
        where not exists (
            select from clerk_sync.entities as e
            where e.kind = old.kind and e.id = old.id and e.version = old.version and e.purged_at is null
        )
        for update skip locked
    ));

    -- Never the newest finished run: the next run builds on the newest run. A run in the middle of an undo is left to
    -- the next night, because undo_run() waits for entities while holding a lock on the run.
    old_runs := array(
        select old.run_id from clerk_sync.reconcile_runs as old
        where old.finished_at < now() - (days -> 'runs_days')::integer * interval '24 hours'
        and old.run_id < (
            select max(n.run_id) from clerk_sync.reconcile_runs as n
            where n.mode = 'full' and n.state in ('complete', 'stopped') and not n.is_dry_run
        )
        limit 1000 for update of old skip locked
    );
    -- A run at work writes to the absences of other runs, too; the foreign key would wait for this run.
    if old_runs <> '{}' then
        delete from clerk_sync.absences as a where a.ctid = any(array(
            select old.ctid from clerk_sync.absences as old where old.run_id = any(old_runs) for update skip locked
        ));
        delete from clerk_sync.reconcile_runs as r
        where r.run_id = any(old_runs) and not exists (select from clerk_sync.absences as a where a.run_id = r.run_id);
        get diagnostics runs = row_count;
    end if;
    return jsonb_build_object(
        'purged', purged, 'pruned', pruned || jsonb_build_object('runs', runs), 'not_followed', not_followed,
        'failed', failed
    );
end
$$;

select clerk_sync.revoke_default_rights();
grant execute on function clerk_sync.keep_house(jsonb) to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0017_create_housekeeping');
