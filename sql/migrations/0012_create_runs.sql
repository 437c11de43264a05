-- Runs of the comparison of Clerk with the tables. A run survives its process: another process continues the run. Every
-- function takes and returns a JSON value. The worker role may call the functions that a run needs, and read no table.

create table clerk_sync.instance (
    is_only boolean primary key default true,
    instance_id text not null,
    recorded_at timestamptz not null default now(),
    constraint instance_is_only_check check (is_only)
);

comment on table clerk_sync.instance is
'The Clerk instance that this database mirrors, from the first run on. No row: no run yet.';

alter table clerk_sync.instance enable row level security;

create table clerk_sync.reconcile_runs (
    run_id bigint generated always as identity primary key,
    mode text not null,
    is_dry_run boolean not null,
    versions_only boolean not null,
    allow_deletes integer,
    state text not null default 'running',
    reason text,
    as_of bigint not null,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    lease uuid,
    lease_until timestamptz,
    invocations integer not null default 1,
    calls integer not null default 0,
    expected jsonb not null default '{}',
    counts jsonb not null default '{}',
    newest_change bigint,
    newest_delivery timestamptz,
    is_silent boolean,
    was_reset boolean not null default false,
    delete_margin_ms bigint not null default 300000,
    undone_at timestamptz,
    allow_emptied integer,
    rows_checked jsonb not null default '{}',
    holds_back boolean not null default false,
    fed jsonb not null default '{}',
    constraint reconcile_runs_mode_check check (mode in ('full', 'quick')),
    constraint reconcile_runs_state_check check (state in ('running', 'complete', 'incomplete', 'stopped', 'failed'))
);

comment on table clerk_sync.reconcile_runs is 'One row per comparison of Clerk with the tables.';
comment on column clerk_sync.reconcile_runs.state is
'running, also between two invocations; complete; incomplete: not all could be compared; stopped: the brake; failed.';
comment on column clerk_sync.reconcile_runs.reason is 'In words, why the run is not complete.';
comment on column clerk_sync.reconcile_runs.as_of is
'Begin of the run, Clerk''s clock, milliseconds: the run saw every change before. 0: Clerk did not say.';
comment on column clerk_sync.reconcile_runs.lease is
'Of the process at work on the run, until lease_until; then another process may take over.';
comment on column clerk_sync.reconcile_runs.expected is 'Clerk''s own counts before the first page was read.';
comment on column clerk_sync.reconcile_runs.counts is
'By kind: listed, compared, missing, stale, different, extra, ...';
comment on column clerk_sync.reconcile_runs.was_reset is
'An operator no longer trusts the run: no later run builds on this run.';
comment on column clerk_sync.reconcile_runs.delete_margin_ms is
'An object created less than this before as_of is no candidate for a delete; two answers so far apart prove a delete.';
comment on column clerk_sync.reconcile_runs.undone_at is
'When an operator undid its deletes. Deletes of this run that arrive later have no effect.';

comment on column clerk_sync.reconcile_runs.allow_emptied is
'So many rows of a kind may lose the value of a column, whatever the brake says.';
comment on column clerk_sync.reconcile_runs.rows_checked is
'{"kind": {"after": key, "is_done": flag, "left": rows}}: the progress of check_rows(), and the rows not repaired.';

comment on column clerk_sync.reconcile_runs.holds_back is
'The run ended with repairs held back by the brake: the next quick run reads the same changes again.';

comment on column clerk_sync.reconcile_runs.fed is
'{"feed id": {name, after: key, is_done, counts}}: the progress of compare_feed().';

-- Two runs exclude each other.
create unique index reconcile_runs_running_idx on clerk_sync.reconcile_runs (state) where state = 'running';

alter table clerk_sync.reconcile_runs enable row level security;

-- The parts of a run to compare, and the progress of each part. A process that continues a run begins with the
-- unfinished parts.
create table clerk_sync.reconcile_windows (
    run_id bigint not null references clerk_sync.reconcile_runs (run_id) on delete cascade,
    number integer not null,
    kind text not null,
    starts_at bigint,
    ends_at bigint,
    reached bigint,
    is_done boolean not null default false,
    tally jsonb not null default '{}',
    primary key (run_id, number)
);

comment on column clerk_sync.reconcile_windows.starts_at is
'Of users the first moment of creation, in milliseconds; null for a list in another order. ends_at: the first beyond.';
comment on column clerk_sync.reconcile_windows.reached is 'Everything created before is compared.';

alter table clerk_sync.reconcile_windows enable row level security;

create table clerk_sync.reconcile_findings (
    run_id bigint not null references clerk_sync.reconcile_runs (run_id) on delete cascade,
    kind text collate "C" not null,
    entity_id text collate "C" not null,
    difference text not null,
    action text not null,
    fields text[],
    cause text not null,
    window_number integer,
    observed_at bigint,
    found_at timestamptz not null default clock_timestamp(),
    sent_at timestamptz,
    is_refused boolean not null default false,
    emptied text[],
    is_held_up boolean not null default false,
    primary key (run_id, kind, entity_id),
    constraint reconcile_findings_difference_check check (
        difference in ('missing', 'stale', 'different', 'extra', 'deleted here', 'altered')
    ),
    constraint reconcile_findings_action_check check (action in ('repair', 'delete', 'none'))
);

comment on table clerk_sync.reconcile_findings is
'Where the tables differed from Clerk. Of a page that is missing as a whole, as in a back-fill, only the number.';
comment on column clerk_sync.reconcile_findings.action is
'delete: only after Clerk has confirmed by id that the object does not exist, and if the brake allows the delete.';
comment on column clerk_sync.reconcile_findings.fields is 'Columns that differed; null where the row was not compared.';
comment on column clerk_sync.reconcile_findings.observed_at is
'Clerk''s clock, milliseconds: when Clerk listed the object or confirmed that an extra object does not exist.';
comment on column clerk_sync.reconcile_findings.sent_at is
'When the repair or the delete was sent, or found to be unnecessary.';

comment on column clerk_sync.reconcile_findings.is_refused is
'Postgres did not take the repair or the delete, and never will: the log says why.';

comment on column clerk_sync.reconcile_findings.emptied is
'Columns that would lose their value by the repair. Not null: held back until everything is compared.';

comment on column clerk_sync.reconcile_findings.is_held_up is
'Another transaction held a lock on the row, so the repair was not made at once: this run tries it again at its end, '
'and later runs do.';

create index reconcile_findings_held_up_idx on clerk_sync.reconcile_findings (run_id)
where is_held_up and sent_at is null;
create index reconcile_findings_entity_idx on clerk_sync.reconcile_findings (entity_id);

alter table clerk_sync.reconcile_findings enable row level security;

-- The end of a lease from now on: an hour at most, so that a run whose process has ended does not block others for
-- long.
create function clerk_sync.lease_end(request jsonb)
returns timestamptz
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select clock_timestamp() + clerk_sync.whole_number(request, 'lease_seconds', 1, 3600) * interval '1 second'
$$;

create function clerk_sync.run_id(request jsonb)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.whole_number(request, 'run', 1, 9223372036854775807)
$$;

-- Whether a run goes on: true for a run without an end that was not undone.
create function clerk_sync.is_at_work(run clerk_sync.reconcile_runs)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select run.state = 'running' and run.undone_at is null
$$;

-- Whether a run goes on and still belongs to the caller: the lease in the request is the lease of the run. After a
-- takeover by another process the run has another lease.
create function clerk_sync.is_leased(run clerk_sync.reconcile_runs, request jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.is_at_work(run) and run.lease = (request ->> 'lease')::uuid
$$;

-- The run of a request while it goes on; null columns without such a run, or after its end.
create function clerk_sync.running(request jsonb)
returns clerk_sync.reconcile_runs
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select r.* from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request) and clerk_sync.is_at_work(r)
$$;

-- The same run, for functions that write rows of the run. Such a function locks the run before anything else, as
-- undo_run() does: an undo or a prune of the run waits for the function, or the function waits for the undo.
create function clerk_sync.hold_run(request jsonb)
returns clerk_sync.reconcile_runs
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select r.* from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request) and clerk_sync.is_at_work(r)
    for key share
$$;

-- The same run, locked in the same way, while the run belongs to the caller.
create function clerk_sync.leased_run(request jsonb)
returns clerk_sync.reconcile_runs
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select r.* from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request) and clerk_sync.is_leased(r, request)
    for key share
$$;

-- Two expressions for a row r of a kind: the id of its user and the id of its organization, as far as these are its
-- parents; else null.
create function clerk_sync.columns_of_parents(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select concat_ws(
        ', ',
        coalesce(min(format('r.%I', p.key)) filter (where p.value = 'user'), 'null::text'),
        coalesce(min(format('r.%I', p.key)) filter (where p.value = 'organization'), 'null::text')
    )
    from jsonb_each_text(of_kind.parents) as p
$$;

-- Begins a run, or continues a run whose process has ended. {instance_id, mode, dry_run, versions_only, allow_deletes,
-- allow_emptied, as_of, lease_seconds, delete_margin_ms} -> {outcome, run, watermark, began, newest_delivery}; outcome:
-- begun, resumed, busy (run: the other run), or wrong_instance (with the mirrored instance_id). watermark: everything
-- that changed in Clerk before the watermark was compared; began: since when runs have been complete.
create function clerk_sync.begin_run(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    leased_until constant timestamptz := clerk_sync.lease_end(request);
    is_dry constant boolean := clerk_sync.flag(request, 'dry_run');
    is_versions_only constant boolean := clerk_sync.flag(request, 'versions_only');
    may_delete constant integer := clerk_sync.whole_number(request, 'allow_deletes', 0, 2147483647, true);
    may_empty constant integer := clerk_sync.whole_number(request, 'allow_emptied', 0, 2147483647, true);
    -- By Clerk's clock, and never ahead of ours: the next quick run would skip changes until then. A moment behind our
    -- clock only makes the next quick run read some changes twice.
    begins_at constant bigint := least(
        clerk_sync.past_moment(request, 'as_of'), (extract(epoch from clock_timestamp()) * 1000)::bigint
    );
    -- An hour at most: a longer margin would delay the repair of every lost delete.
    margin constant bigint := coalesce(
        clerk_sync.whole_number(request, 'delete_margin_ms', 0, 3600000, true), 300000
    );
    mirrored text;
    run clerk_sync.reconcile_runs;
    outcome text := 'begun';
    watermark bigint;
    began bigint;
    wanted_mode constant text := clerk_sync.word(request, 'mode', '{full,quick}');
begin
    if request ->> 'instance_id' !~ '^[!-~]{1,255}$' is not false then
        raise invalid_parameter_value using message = 'instance_id is no id of a Clerk instance';
    end if;
    lock table clerk_sync.reconcile_runs in share row exclusive mode;

    select i.instance_id into mirrored from clerk_sync.instance as i;
    if mirrored <> request ->> 'instance_id' then
        return jsonb_build_object('outcome', 'wrong_instance', 'instance_id', mirrored);
    end if;
    if mirrored is null and not is_dry then
        insert into clerk_sync.instance (instance_id) values (request ->> 'instance_id');
    end if;

    select max(r.as_of), min(r.as_of) filter (where r.mode = 'full') into watermark, began
    from clerk_sync.reconcile_runs as r
    where r.state in ('complete', 'stopped') and not r.is_dry_run and not r.was_reset and r.as_of > 0
    and not r.holds_back;

    select r.* into run from clerk_sync.reconcile_runs as r where r.state = 'running';
    if run.lease_until > clock_timestamp() then
        return jsonb_build_object('outcome', 'busy', 'run', to_jsonb(run));
    end if;
    if run.mode = 'full' and run.is_dry_run = is_dry and run.undone_at is null
        and run.started_at > clock_timestamp() - interval '1 day'
        and (wanted_mode = 'quick' or run.versions_only = is_versions_only) then
        outcome := 'resumed';
        update clerk_sync.reconcile_runs as r set
            lease = gen_random_uuid(), lease_until = leased_until, invocations = r.invocations + 1,
            reason = null, allow_deletes = coalesce(may_delete, r.allow_deletes),
            allow_emptied = coalesce(may_empty, r.allow_emptied), delete_margin_ms = margin
        where r.run_id = run.run_id
        returning r.* into run;
    else
        update clerk_sync.reconcile_runs as r set
            state = 'incomplete', finished_at = clock_timestamp(), lease = null,
            reason = concat_ws('; ', r.reason, 'it was cut off, and another run took its place'),
            counts = clerk_sync.count_findings(r.run_id)
        where r.run_id = run.run_id;
        delete from clerk_sync.reconcile_seen as s where s.run_id = run.run_id;
        insert into clerk_sync.reconcile_runs as r (
            mode, is_dry_run, versions_only, allow_deletes, allow_emptied, as_of, lease, lease_until, delete_margin_ms
        )
        values (
            -- A quick run needs an earlier run that compared everything.
            case when watermark is null then 'full' else wanted_mode end,
            is_dry, is_versions_only, may_delete, may_empty, begins_at, gen_random_uuid(), leased_until, margin
        )
        returning r.* into run;
    end if;
    return jsonb_build_object(
        'outcome', outcome, 'run', to_jsonb(run), 'watermark', watermark, 'began', began,
        'newest_delivery', (
            -- The bound lets the index answer. Every delivery was received before its changes were applied.
            select extract(epoch from max(least(d.received_at, d.applied_at))) * 1000 from clerk_sync.deliveries as d
            where d.applied_at > now() - interval '7 days'
            -- A canary does not come from Clerk.
            and d.event_type <> 'clerk-supabase.canary'
        )
    );
end
$$;

-- {run, lease, lease_seconds} -> whether the run still belongs to this process.
create function clerk_sync.renew_lease(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    leased_until constant timestamptz := clerk_sync.lease_end(request);
begin
    update clerk_sync.reconcile_runs as r set lease_until = leased_until
    where r.run_id = clerk_sync.run_id(request) and clerk_sync.is_leased(r, request);
    return to_jsonb(found);
end
$$;

-- {run, lease, expected, windows: [{number, kind, start, end}]}: stores the plan of the comparison.
create function clerk_sync.plan_run(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update clerk_sync.reconcile_runs as r set expected = r.expected || clerk_sync.tally(request, 'expected')
    where r.run_id = clerk_sync.run_id(request) and clerk_sync.is_leased(r, request);
    if not found then
        return 'false';
    end if;
    insert into clerk_sync.reconcile_windows (run_id, number, kind, starts_at, ends_at, reached)
    select
        clerk_sync.run_id(request), clerk_sync.whole_number(w, 'number', 0, 2147483647), clerk_sync.kind_of(w),
        clerk_sync.moment(w, 'start', true), clerk_sync.moment(w, 'end', true), clerk_sync.moment(w, 'start', true)
    from jsonb_array_elements(request -> 'windows') as w
    on conflict do nothing;
    return 'true';
end
$$;

-- {run} -> [{number, kind, start, end, is_done, tally}]: the windows of the plan, each with the place to continue from.
create function clerk_sync.windows_of_run(request jsonb)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'number', w.number, 'kind', w.kind, 'start', w.reached, 'end', w.ends_at,
                'is_done', w.is_done, 'tally', w.tally
            )
            order by w.number
        ),
        '[]'
    )
    from clerk_sync.reconcile_windows as w
    where w.run_id = clerk_sync.run_id(request)
$$;

-- {run, lease, number, tally}: the window is compared and its repairs are sent. -> whether the run is still the
-- caller's.
create function clerk_sync.finish_window(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    of_window constant integer := clerk_sync.whole_number(request, 'number', 0, 2147483647);
    counted constant jsonb := clerk_sync.tally(request, 'tally');
    run constant clerk_sync.reconcile_runs := clerk_sync.leased_run(request);
begin
    if run.run_id is null then
        return 'false';
    end if;
    update clerk_sync.reconcile_windows as w set is_done = true, tally = counted
    where w.run_id = run.run_id and w.number = of_window;
    if not run.is_dry_run then
        update clerk_sync.reconcile_findings as f set sent_at = clock_timestamp()
        where f.run_id = run.run_id and f.window_number = of_window
        and f.action = 'repair' and f.sent_at is null and not f.is_refused and not f.is_held_up and f.emptied is null;
    end if;
    return 'true';
end
$$;

-- {run, lease, state, reason, calls, newest_change, newest_delivery, is_silent}: ends a run, or an invocation of the
-- run: then state is running, and the lease ends now. -> the run, or null when the run belongs to another process.
create function clerk_sync.end_run(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    next_state constant text := clerk_sync.word(
        request, 'state', '{running,complete,incomplete,stopped,failed}'
    );
    run clerk_sync.reconcile_runs;
begin
    update clerk_sync.reconcile_runs as r set
        state = next_state,
        reason = request ->> 'reason',
        calls = r.calls + clerk_sync.whole_number(request, 'calls', 0, 1000000),
        newest_change = coalesce(clerk_sync.past_moment(request, 'newest_change', true), r.newest_change),
        newest_delivery = coalesce(
            to_timestamp(clerk_sync.past_moment(request, 'newest_delivery', true) / 1000.0), r.newest_delivery
        ),
        is_silent = coalesce((request ->> 'is_silent')::boolean, r.is_silent),
        lease = null,
        lease_until = null,
        finished_at = case when next_state <> 'running' then clock_timestamp() end,
        counts = clerk_sync.count_findings(r.run_id),
        holds_back = exists (
            select from clerk_sync.reconcile_findings as f
            where f.run_id = r.run_id and f.action = 'repair' and f.emptied is not null
            and f.sent_at is null and not f.is_refused
        )
    where r.run_id = clerk_sync.run_id(request) and clerk_sync.is_leased(r, request)
    returning r.* into run;
    if run.state <> 'running' then
        delete from clerk_sync.reconcile_seen as s where s.run_id = run.run_id;
    end if;
    return case when run.run_id is not null then to_jsonb(run) end;
end
$$;

-- {instance: whether to forget the instance, too; dry_run} -> {running: [run, ...], trusted, instance_id}: the runs at
-- work, which end, and lose their lease; the number of finished runs that lose trust, so that the next run compares
-- everything; and the recorded Clerk instance. For an operator, after the worker's password leaked.
create function clerk_sync.reset_runs(request jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    found jsonb;
begin
    lock table clerk_sync.reconcile_runs in share row exclusive mode;
    found := jsonb_build_object(
        'running', (
            select coalesce(jsonb_agg(r.run_id order by r.run_id), '[]')
            from clerk_sync.reconcile_runs as r where r.state = 'running'
        ),
        'trusted', (
            select count(*) from clerk_sync.reconcile_runs as r where r.state in ('complete', 'stopped') and not r.was_reset
        ),
        'instance_id', (select i.instance_id from clerk_sync.instance as i where clerk_sync.flag(request, 'instance'))
    );
    if clerk_sync.flag(request, 'dry_run') then
        return found;
    end if;
    -- Their counts stay unchanged: findings written by an attacker are not added up.
    update clerk_sync.reconcile_runs as r set
        state = 'incomplete', finished_at = clock_timestamp(), lease = null, lease_until = null,
        reason = concat_ws('; ', r.reason, 'an operator reset the runs')
    where r.state = 'running';
    update clerk_sync.reconcile_runs as r set was_reset = true where not r.was_reset;
    delete from clerk_sync.reconcile_seen where true;
    delete from clerk_sync.sweeps where true;
    delete from clerk_sync.instance where clerk_sync.flag(request, 'instance');
    return found;
end
$$;

select clerk_sync.revoke_default_rights();

grant execute on function
clerk_sync.begin_run(jsonb),
clerk_sync.renew_lease(jsonb),
clerk_sync.plan_run(jsonb),
clerk_sync.windows_of_run(jsonb),
clerk_sync.finish_window(jsonb),
clerk_sync.end_run(jsonb)
to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0012_create_runs');
