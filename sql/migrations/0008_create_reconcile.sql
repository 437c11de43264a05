-- Comparing Clerk with the tables: runs that survive their process, what they found, and deletes that can be undone.
-- Every function takes and returns one JSON value. The worker role may call those that a run needs, and read no
-- table.

create table clerk_sync.instance (
    is_only boolean primary key default true,
    instance_id text not null,
    recorded_at timestamptz not null default now(),
    constraint instance_is_only_check check (is_only)
);

comment on table clerk_sync.instance is
'The Clerk instance this database mirrors, from the first run on. No row: none yet.';

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
    constraint reconcile_runs_mode_check check (mode in ('full', 'quick')),
    constraint reconcile_runs_state_check check (state in ('running', 'complete', 'incomplete', 'stopped', 'failed'))
);

comment on table clerk_sync.reconcile_runs is 'One row per comparison of Clerk with the tables.';
comment on column clerk_sync.reconcile_runs.state is
'running, also between two invocations; complete; incomplete: not all could be compared; stopped: the brake; failed.';
comment on column clerk_sync.reconcile_runs.reason is 'In words, why it is not complete.';
comment on column clerk_sync.reconcile_runs.as_of is
'When it began, Clerk''s clock, milliseconds: everything that changed before was seen. 0: Clerk did not say.';
comment on column clerk_sync.reconcile_runs.lease is
'Of the process that works on it, until lease_until; then another may.';
comment on column clerk_sync.reconcile_runs.expected is 'What Clerk counted before the first page was read.';
comment on column clerk_sync.reconcile_runs.counts is
'By kind: listed, compared, missing, stale, different, extra, ...';
comment on column clerk_sync.reconcile_runs.was_reset is
'An operator does not believe it any more: no other run goes on from it.';
comment on column clerk_sync.reconcile_runs.delete_margin_ms is
'What is younger, before as_of, is no candidate for a delete; and Clerk has to say twice, so far apart, what is gone.';
comment on column clerk_sync.reconcile_runs.undone_at is
'When an operator undid its deletes. Those that arrive later count for nothing.';

comment on column clerk_sync.reconcile_runs.allow_emptied is
'So many rows of a kind may lose the value of a column, whatever the brake says.';
comment on column clerk_sync.reconcile_runs.rows_checked is
'{"kind": {"after": key, "is_done": flag, "left": rows}}: how far check_rows() came, and what it could not set right.';

comment on column clerk_sync.reconcile_runs.holds_back is
'It ended with repairs that the brake held back: the next quick run looks at the same changes again.';

-- Two runs exclude each other.
create unique index reconcile_runs_running_idx on clerk_sync.reconcile_runs (state) where state = 'running';

alter table clerk_sync.reconcile_runs enable row level security;

-- What there is to compare, and how far that got: who continues a run begins with those that are not done.
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
comment on column clerk_sync.reconcile_windows.reached is 'Everybody created before is compared.';

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
        difference in ('missing', 'stale', 'different', 'extra', 'deleted here')
    ),
    constraint reconcile_findings_action_check check (action in ('repair', 'delete', 'none'))
);

comment on table clerk_sync.reconcile_findings is
'Where the tables differed from Clerk. Of a page that is missing as a whole, as in a back-fill, only the number.';
comment on column clerk_sync.reconcile_findings.action is
'delete: only once Clerk has confirmed by id that it is gone, and if the brake allows it.';
comment on column clerk_sync.reconcile_findings.fields is 'Columns that differed; null where the row was not compared.';
comment on column clerk_sync.reconcile_findings.observed_at is
'Clerk''s clock, milliseconds: when it listed the object or, of an extra one, confirmed that it is gone.';
comment on column clerk_sync.reconcile_findings.sent_at is
'When the repair or the delete was sent or found to be needless.';

comment on column clerk_sync.reconcile_findings.is_refused is
'Postgres did not take the repair or the delete, and never will: the log says why.';

comment on column clerk_sync.reconcile_findings.emptied is
'Not null: the repair is held back until everything is compared, as columns would lose their value in it: these.';

comment on column clerk_sync.reconcile_findings.is_held_up is
'Somebody held a lock on the row, so the repair was not made at once: tried again at the end of this run and of later '
'ones.';

create index reconcile_findings_held_up_idx on clerk_sync.reconcile_findings (run_id)
where is_held_up and sent_at is null;
create index reconcile_findings_entity_idx on clerk_sync.reconcile_findings (entity_id);

alter table clerk_sync.reconcile_findings enable row level security;

-- What Clerk said once to be gone. It may only have been slow to show it.
create table clerk_sync.absences (
    kind text collate "C" not null,
    id text collate "C" not null,
    first_gone_at bigint not null,
    run_id bigint not null references clerk_sync.reconcile_runs (run_id) on delete cascade,
    primary key (kind, id)
);

comment on table clerk_sync.absences is
'Objects that Clerk said to be gone. The first run that asks again, at least the margin later, deletes them.';
comment on column clerk_sync.absences.first_gone_at is 'Of the first such answer, by Clerk''s clock, milliseconds.';
comment on column clerk_sync.absences.run_id is 'The run that was answered so first.';

create index absences_run_idx on clerk_sync.absences (run_id);

alter table clerk_sync.absences enable row level security;

-- The ids of a list that cannot be cut into windows, as long as it is read.
create table clerk_sync.reconcile_seen (
    run_id bigint not null references clerk_sync.reconcile_runs (run_id) on delete cascade,
    kind text collate "C" not null,
    id text collate "C" not null,
    primary key (run_id, kind, id)
);

alter table clerk_sync.reconcile_seen enable row level security;

-- When each part of Clerk's lists was compared. Clerk lists only users by their last change: organizations,
-- memberships, invitations and domains are read part after part, in the order of creation, the part that waited longest
-- first.
create table clerk_sync.sweeps (
    kind text collate "C" not null,
    ends_at bigint not null,
    visited_at bigint not null,
    compared_at bigint,
    settling_run bigint,
    is_switched_off boolean not null default false,
    primary key (kind, ends_at),
    constraint sweeps_moments_check check (
        ends_at between 1 and 253402300799999
        and visited_at between 0 and 253402300799999
        and compared_at between 0 and 253402300799999
    )
);

comment on table clerk_sync.sweeps is
'One row per part of a list: the objects created from the end of the part before it until ends_at.';
comment on column clerk_sync.sweeps.ends_at is
'The first moment of creation beyond the part, milliseconds; that of the last part is 253402300799999.';
comment on column clerk_sync.sweeps.visited_at is
'When the last run that read this part began, Clerk''s clock, milliseconds. 0: none has.';
comment on column clerk_sync.sweeps.compared_at is
'When the last run began that compared all of this part and came to its end, Clerk''s clock. Null: none has.';
comment on column clerk_sync.sweeps.settling_run is 'The run that has compared this part and has not come to its end.';
comment on column clerk_sync.sweeps.is_switched_off is 'Clerk answers that this instance has none of this kind.';

alter table clerk_sync.sweeps enable row level security;

-- What a request says is checked where it is read. Who has the worker's password may call with anything, and nothing
-- they say may outlast the password: no lease of years, no moment in the future, no count that cannot be added up.

-- A whole number of a request. Raises 22023 for anything else, and for one out of bounds; null only if it is optional.
create function clerk_sync.whole_number(
    request jsonb, field text, lowest bigint, highest bigint, is_optional boolean default false
)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    given constant jsonb := request -> field;
    number numeric;
begin
    if is_optional and coalesce(jsonb_typeof(given), 'null') = 'null' then
        return null;
    end if;
    -- A string could say NaN or Infinity.
    if jsonb_typeof(given) = 'number' then
        number := given;
        if number between lowest and highest and number = trunc(number) then
            return number;
        end if;
    end if;
    raise invalid_parameter_value using message = format('%s is no whole number from %s to %s', field, lowest, highest);
end
$$;

-- A moment of a request in milliseconds, up to the last one that Postgres and Python can both tell.
create function clerk_sync.moment(request jsonb, field text, is_optional boolean default false)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.whole_number(request, field, 0, 253402300799999, is_optional)
$$;

-- A moment that something is claimed to have happened at: a day ahead of our clock at most, as for an event. No clock
-- of Clerk's is that wrong.
create function clerk_sync.past_moment(request jsonb, field text, is_optional boolean default false)
returns bigint
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.whole_number(
        request, field, 0, (extract(epoch from clock_timestamp()) * 1000)::bigint + 86400000, is_optional
    )
$$;

create function clerk_sync.flag(request jsonb, field text)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(jsonb_typeof(request -> field), 'null') <> 'boolean' then
        raise invalid_parameter_value using message = format('%s is neither true nor false', field);
    end if;
    return request -> field;
end
$$;

-- One of the words that a field of a request may be.
create function clerk_sync.word(request jsonb, field text, words text[])
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if jsonb_typeof(request -> field) is distinct from 'string' or request ->> field <> all(words) then
        raise invalid_parameter_value using
            message = format('%s is none of %s', field, array_to_string(words, ', '));
    end if;
    return request ->> field;
end
$$;

create function clerk_sync.kind_of(request jsonb)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.word(request, 'kind', array(select k.kind from clerk_sync.kinds as k order by k.write_order))
$$;

-- Counts by name, as a window or a run has them: nothing that count_findings() could not add up.
create function clerk_sync.tally(request jsonb, field text)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    given constant jsonb := request -> field;
begin
    if jsonb_typeof(given) is distinct from 'object' then
        raise invalid_parameter_value using message = format('%s is no object of counts', field);
    end if;
    perform clerk_sync.whole_number(given, t.key, 0, 1000000000000) from jsonb_each(given) as t;
    return given;
end
$$;

-- The end of a lease that begins now: an hour at most, so that a run whose process is gone does not block others
-- for long.
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

-- The run of a request while it is at work; null columns once it is not, was undone, or if there is none.
create function clerk_sync.running(request jsonb)
returns clerk_sync.reconcile_runs
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select r.* from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request) and r.state = 'running' and r.undone_at is null
$$;

-- The same run, for those who write below it: whoever undoes or prunes it waits for them, or they for that. So they
-- lock it before anything else, as undo_run() does.
create function clerk_sync.hold_run(request jsonb)
returns clerk_sync.reconcile_runs
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select r.* from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request) and r.state = 'running' and r.undone_at is null
    for key share
$$;

-- Begins a run, or goes on with one whose process is gone.
-- {instance_id, mode, dry_run, versions_only, allow_deletes, allow_emptied, as_of, lease_seconds, delete_margin_ms} ->
-- {outcome, run, watermark, began, newest_delivery}; outcome: begun, resumed, busy (run: the other one), or
-- wrong_instance (with the instance_id that is mirrored).
-- watermark: everything that changed in Clerk before was compared; began: since when runs have been complete.
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
    -- By Clerk's clock, and never ahead of ours: what happens until then would be skipped by the next quick run. Behind
    -- it costs no more than looking at some changes twice.
    begins_at constant bigint := least(
        clerk_sync.past_moment(request, 'as_of'), (extract(epoch from clock_timestamp()) * 1000)::bigint
    );
    -- An hour at most: a longer one would keep every lost delete from being made up for.
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
            -- What was never compared as a whole has no changes since.
            case when watermark is null then 'full' else wanted_mode end,
            is_dry, is_versions_only, may_delete, may_empty, begins_at, gen_random_uuid(), leased_until, margin
        )
        returning r.* into run;
    end if;
    return jsonb_build_object(
        'outcome', outcome, 'run', to_jsonb(run), 'watermark', watermark, 'began', began,
        'newest_delivery', (
            -- The bound lets the index answer. Nothing was received after it was applied.
            select extract(epoch from max(least(d.received_at, d.applied_at))) * 1000 from clerk_sync.deliveries as d
            where d.applied_at > now() - interval '7 days'
            -- Which is no sign of Clerk's.
            and d.event_type <> 'clerk-supabase.canary'
        )
    );
end
$$;

-- {run, lease, lease_seconds} -> whether the run is still this process's.
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
    where r.run_id = clerk_sync.run_id(request) and r.state = 'running' and r.lease = (request ->> 'lease')::uuid;
    return to_jsonb(found);
end
$$;

-- {run, lease, expected, windows: [{number, kind, start, end}]}: what there is to compare.
create function clerk_sync.plan_run(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update clerk_sync.reconcile_runs as r set expected = r.expected || clerk_sync.tally(request, 'expected')
    where r.run_id = clerk_sync.run_id(request) and r.state = 'running' and r.lease = (request ->> 'lease')::uuid;
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

-- {run} -> [{number, kind, start, end, is_done, tally}]: what is planned, from where it has to go on.
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

-- {every, before} -> [[moment, rows], ...]: moments in milliseconds that cut the users created before into parts of
-- about so many, and how many rows were created earlier. Nobody here was created at such a moment nor a millisecond
-- before, so it does not matter on which side of it Clerk counts.
-- From cut to cut along the index: of the rows in between nothing is read but their place in it.
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
    -- Clerk has nobody from before; and whoever writes rows could say -infinity, from which nothing can be subtracted.
    cut timestamptz := to_timestamp(0);
    earlier bigint := 0;
    near timestamptz[];
    place integer;
    looked_at integer := 100;
begin
    loop
        near := array(
            select u.created_at from public.users as u
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
            -- So many signed up one right after the other.
            looked_at := looked_at * 10;
        end if;
    end loop;
    return to_jsonb(cuts);
end
$$;

-- {before} -> {user, organization, membership, invitation, domain}: rows that everybody may see; of users those created
-- before, if given.
create function clerk_sync.count_rows(request jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    before constant timestamptz := to_timestamp(clerk_sync.moment(request, 'before', true) / 1000.0);
begin
    return jsonb_build_object(
        'user', (
            select count(*) from public.users as u
            where u.deleted_at is null and (before is null or u.created_at < before)
        ),
        'organization', (select count(*) from public.organizations as o where o.deleted_at is null),
        'membership', (select count(*) from public.organization_memberships as m where m.deleted_at is null),
        'invitation', (select count(*) from public.organization_invitations as i where i.deleted_at is null),
        'domain', (select count(*) from public.organization_domains as d where d.deleted_at is null)
    );
end
$$;

-- {kind, moments: [ms, ...]} -> [rows, ...]: how many of the rows that everybody may see were created before each of
-- these moments.
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

-- Compares one page of Clerk's with the tables, and writes down what differs. {run, lease, number, kind, tally, since,
-- until, page, ids, versions, observed_at}: page is what apply() takes, of which elements without content are compared
-- by version, those without a version only count as present. ids and versions, a line for each, say that in less space.
-- since and until: everybody created then and in neither is extra. tally: what the window counts before this page.
-- -> null when the run is somebody else's by now, else {differences: [[kind, id, difference, action], ...], extra}.
-- action: that of the finding or, of a repair that takes values away, 'hold'.
create function clerk_sync.compare(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- Planned once, and by the indexes: also on tables that were empty a moment ago.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    -- Of a page most of which is missing, each one would be a row here for a row there.
    most_missing constant integer := 100;
    of_window constant integer := clerk_sync.whole_number(request, 'number', 0, 2147483647);
    target constant text := clerk_sync.kind_of(request);
    since constant bigint := clerk_sync.moment(request, 'since', true);
    listed_ids constant text[] := coalesce(string_to_array(request ->> 'ids', E'\n'), '{}')
    || array(select p.id from jsonb_to_recordset(request -> 'page') as p (id text));
    until constant timestamptz := coalesce(to_timestamp(clerk_sync.moment(request, 'until', true) / 1000.0), 'infinity');
    listed_at constant bigint := clerk_sync.moment(request, 'observed_at', true);
    counted constant jsonb := clerk_sync.tally(request, 'tally');
    run clerk_sync.reconcile_runs;
    kind_of_page text;
    more clerk_sync.difference[];
    differing clerk_sync.difference[] := '{}';
    -- Objects that lose a value, and can be read again one by one. A stub has no value of its own.
    held text[] := '{}';
    found clerk_sync.reconcile_findings[];
    extra clerk_sync.reconcile_findings[] := '{}';
begin
    select r.* into run from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request) and r.lease = (request ->> 'lease')::uuid and r.state = 'running'
    for key share;
    if run.run_id is null then
        return null;
    end if;
    update clerk_sync.reconcile_windows as w
    set reached = coalesce(since, w.reached), tally = counted
    where w.run_id = run.run_id and w.number = of_window;

    for kind_of_page in
        select distinct g.kind from jsonb_to_recordset(request -> 'page') as g (kind text, content jsonb)
        where g.content is not null
    loop
        execute format('select array_agg(d) from clerk_sync.%I($1) as d', 'differing_' || kind_of_page)
        into more using request -> 'page';
        differing := differing || coalesce(more, '{}');
    end loop;
    if target in ('user', 'organization', 'membership') then
        held := array(
            select d.id from unnest(differing) as d
            where cardinality(d.emptied) > 0 and not exists (
                select from clerk_sync.entities as k
                where k.kind = d.kind and k.id = d.id and (k.version).source_updated_at <= 0
            )
        );
    end if;

    -- Most are as they should be, and cost no more than one look at the index for all of them together.
    found := array(
        with given as (
            select p.kind, p.id, p.source_updated_at, p.observed_at
            from jsonb_to_recordset(request -> 'page') as p (
                kind text, id text, source_updated_at bigint, observed_at bigint
            )
            where p.source_updated_at is not null
            union all
            select target, listed.id, listed.version::bigint, listed_at
            from rows from (
                unnest(listed_ids), unnest(string_to_array(request ->> 'versions', E'\n', ''))
            ) as listed (id, version)
            where listed.version is not null
        )

        select row(
            run.run_id, g.kind, g.id, verdict.difference,
            case
                -- Only what a comparison alone deleted can be restored.
                when verdict.difference = 'deleted here' and (e.delete_run is null or e.purged_at is not null) then 'none'
                when verdict.difference <> 'deleted here' and (e.version).source_updated_at > g.source_updated_at
                    then 'none'
                else 'repair'
            end,
            d.fields,
            case
                when verdict.difference = 'deleted here' and e.delete_run is not null
                    then 'a comparison deleted it here, and Clerk has it'
                when verdict.difference = 'deleted here' then 'it was deleted here, and Clerk has it'
                when e.id is null then 'it never arrived'
                when (e.version).source_updated_at > g.source_updated_at
                    then 'Clerk lists an older version than the one that was applied here'
                when (e.version).source_updated_at <= 0 then 'only other objects told of it'
                when verdict.difference = 'missing' then 'somebody removed the row'
                when verdict.difference = 'stale' then 'its last change did not arrive'
                -- An event about what belongs to the object brought a stub of the row.
                when (
                    select a.operation from clerk_sync.audit_log as a
                    where a.entity_id = g.id and a.kind = g.kind and a.cause like 'direct:%'
                    order by a.audit_id desc limit 1
                ) = 'delete' then 'somebody removed the row'
                when exists (
                    select from clerk_sync.audit_log as a
                    where a.entity_id = g.id and a.kind = g.kind and a.cause like 'direct:%'
                    and a.changed_columns && d.fields
                ) then 'somebody edited the row'
                else 'Clerk changed it without a new version'
            end,
            of_window, g.observed_at, clock_timestamp(), null, false,
            case when g.id = any(held) then coalesce(d.emptied, '{}') end, false
        )::clerk_sync.reconcile_findings
        from given as g
        left join lateral (
            select k.id, k.version, k.deleted_at, k.delete_run, k.purged_at from clerk_sync.entities as k
            where k.kind = g.kind and k.id = g.id limit 1
        ) as e on true
        left join unnest(differing) as d on g.kind = d.kind and g.id = d.id
        cross join lateral (
            select case
                when e.id is null then 'missing'
                -- Clerk's lists may go on naming for a while what is gone.
                when e.deleted_at is not null
                    then case when e.deleted_at + run.delete_margin_ms < g.observed_at then 'deleted here' end
                -- A webhook was faster than this page; or Clerk's own clock went back, and the list is right.
                when (e.version).source_updated_at > g.source_updated_at then case
                    when d.id is null or (e.version).observed_at + run.delete_margin_ms >= g.observed_at then null
                    when d.fields is null then 'missing'
                    else 'different'
                end
                when d.id is not null and d.fields is null
                    and ((e.version).source_updated_at < g.source_updated_at or (e.version).observed_at < g.observed_at)
                    then 'missing'
                when (e.version).source_updated_at < g.source_updated_at then 'stale'
                when d.id is not null and (e.version).observed_at < g.observed_at then 'different'
            end as difference
        ) as verdict
        where verdict.difference is not null
        and (
            (g.kind, g.id, g.source_updated_at) not in (
                select k.kind, k.id, (k.version).source_updated_at from clerk_sync.entities as k
                where k.kind in (target, 'private_metadata') and k.id = any(listed_ids) and k.deleted_at is null
            )
            or (g.kind, g.id) in (select d.kind, d.id from unnest(differing) as d)
        )
    );

    delete from clerk_sync.absences as a where a.kind = target and a.id = any(listed_ids);
    if target = 'user' and since is not null then
        extra := array(
            select row(
                run.run_id, 'user', u.clerk_id, 'extra', case when e.id is null then 'none' else 'delete' end, null,
                case when e.id is null then 'the app made the row' else 'its delete did not arrive' end,
                of_window, null, clock_timestamp(), null, false, null, false
            )::clerk_sync.reconcile_findings
            from public.users as u
            left join lateral (
                select k.id, k.version, k.deleted_at from clerk_sync.entities as k
                where k.kind = 'user' and k.id = u.clerk_id limit 1
            ) as e on true
            where u.created_at >= to_timestamp(since / 1000.0) and u.created_at < until and u.deleted_at is null
            and u.clerk_id not in (select unnest(listed_ids))
            -- Its delete did arrive, and check_rows() hides the row again.
            and e.deleted_at is null
            -- Younger than the run: Clerk may have listed this stretch before.
            and coalesce((e.version).observed_at < run.as_of, true)
        );
    elsif since is null then
        insert into clerk_sync.reconcile_seen (run_id, kind, id)
        select distinct run.run_id, target, listed.id
        from unnest(listed_ids) as listed (id)
        where target <> 'user'
        on conflict do nothing;
    end if;

    insert into clerk_sync.reconcile_findings as known
    select f.* from unnest(
        case
            when (select count(*) from unnest(found) as f where f.difference = 'missing') >= most_missing
                then array(
                    select f from unnest(found) as f where f.difference <> 'missing' or f.emptied is not null
                )
            else found
        end || extra
    ) as f
    -- Who was listed anywhere is not extra, wherever the row says it was created. What check_rows() said of a profile
    -- hides no delete.
    on conflict (run_id, kind, entity_id) do update set
        difference = excluded.difference, action = excluded.action, fields = excluded.fields, cause = excluded.cause,
        window_number = excluded.window_number, observed_at = excluded.observed_at, emptied = excluded.emptied,
        sent_at = case when excluded.emptied is null and excluded.difference <> 'extra' then known.sent_at end,
        is_refused = false, is_held_up = false
    where excluded.difference <> 'extra' or (known.window_number is null and known.action = 'repair');

    return jsonb_build_object(
        'differences', (
            select coalesce(jsonb_agg(jsonb_build_array(
                f.kind, f.entity_id, f.difference,
                case when f.action = 'repair' and f.emptied is not null then 'hold' else f.action end
            )), '[]')
            from unnest(found) as f
        ),
        'extra', cardinality(extra)
    );
end
$$;

-- Writes the objects of a page that were never heard of, as in a back-fill, and leaves the others alone. {run, page}:
-- page is what apply() takes, all of them upserts without parents. -> [[kind, id], ...]: the others; null when the run
-- is over.
-- What was never heard of has no older version to be compared with and no delete that came first, so this does without
-- most of apply(). Versions and locks are those of apply(): whoever brings the same entity at the same moment, such as
-- a webhook, is waited for, and then it is one of the others.
create function clerk_sync.fill(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- As in compare(): a plan made for empty tables has to do for full ones.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    run constant clerk_sync.reconcile_runs := clerk_sync.running(request);
    page constant jsonb := request -> 'page';
    target text;
    added clerk_sync.change[];
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
                kind text, id text, source_updated_at bigint, observed_at bigint, content jsonb
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
        order by given.kind collate "C", given.id collate "C"
        on conflict do nothing
        returning e.kind, e.id
    ),

    judged as (
        select given.*, (given.kind, given.id) in (select i.kind, i.id from inserted as i) as is_new from given
    )

    select
        coalesce(array_agg(
            row(j.place, j.kind, j.id, j.version, null, null, null, null, null, null, null)::clerk_sync.change
        ) filter (where j.is_new), '{}'),
        coalesce(jsonb_agg(jsonb_build_array(j.kind, j.id)) filter (where not j.is_new), '[]')
    into added, known
    from judged as j;

    perform set_config(
        'clerk_sync.causes',
        jsonb_build_object('', jsonb_build_array('reconcile', format('reconcile-%s-', run.run_id)))::text,
        true
    );

    for target in
        select k.kind from clerk_sync.kinds as k
        where k.kind in (select a.kind from unnest(added) as a) order by k.write_order
    loop
        execute format('select clerk_sync.%I($1, $2)', 'fill_' || target) using page, added;
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
    run clerk_sync.reconcile_runs;
begin
    select r.* into run from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request) and r.lease = (request ->> 'lease')::uuid and r.state = 'running';
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

-- {run, kind, since, until, ids} -> {seen, extra}, or null when the run is over: writes down the rows that Clerk's list
-- lacks. Without since: the rows whose id no page of the whole list had; seen is how many ids came in. Of users only
-- those whose row says no moment of creation that a window could hold. With since: the rows created from then on and
-- before until, if given, whose id is not among ids; seen is how many ids there are.
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
        where r.deleted_at is null and e.deleted_at is null and coalesce((e.version).observed_at < $3, true)
        and %3$s and %4$s
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
                then '(r.created_at is null or r.created_at < to_timestamp(0) or r.created_at = ''infinity'')'
            -- What was answered opens nothing, and nobody has written down whether Clerk lists it for ever.
            when target = 'invitation' then '(r.status is null or r.status = ''pending'')'
            else 'true'
        end
    ) using run.run_id, target, run.as_of, since, until, listed;
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

-- {run, kind} -> {start, visited_at, newest_visit}: the part of a list that waited longest, of those that this run has
-- not visited; start is null when it has visited all. newest_visit: when a run last visited any part; null: never.
-- null when the run is over.
create function clerk_sync.next_slice(request jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    target constant text := clerk_sync.kind_of(request);
    run constant clerk_sync.reconcile_runs := clerk_sync.running(request);
begin
    if run.run_id is null then
        return null;
    end if;
    return (
        with known as (
            -- A visit in the future is none: a clock was wrong then.
            select s.ends_at, case when s.visited_at <= run.as_of then s.visited_at else 0 end as visited_at
            from clerk_sync.sweeps as s where s.kind = target
            union all
            select 253402300799999, 0
            where not exists (select from clerk_sync.sweeps as s where s.kind = target)
        ),

        parts as (
            select k.*, lag(k.ends_at, 1, 0::bigint) over (order by k.ends_at) as starts_at from known as k
        )

        select jsonb_build_object(
            'start', next.starts_at,
            'visited_at', next.visited_at,
            'newest_visit', (select nullif(max(p.visited_at), 0) from parts as p where p.visited_at < run.as_of)
        )
        from (select 1) as one
        left join lateral (
            select p.* from parts as p where p.visited_at < run.as_of order by p.visited_at, p.ends_at limit 1
        ) as next on true
    );
end
$$;

-- {run, lease, kind, start, end, is_whole, is_switched_off}: the run has read the objects created from start on and
-- before end, without end all later ones, and is_whole: no row can have been missed there. -> whether the run is still
-- the caller's. A dry run leaves no trace.
create function clerk_sync.visit_slice(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    last_moment constant bigint := 253402300799999;
    target constant text := clerk_sync.kind_of(request);
    starts constant bigint := clerk_sync.moment(request, 'start');
    ends constant bigint := coalesce(clerk_sync.moment(request, 'end', true), last_moment);
    is_whole constant boolean := clerk_sync.flag(request, 'is_whole');
    is_off constant boolean := clerk_sync.flag(request, 'is_switched_off');
    run clerk_sync.reconcile_runs;
    oldest bigint;
begin
    if ends <= starts then
        raise invalid_parameter_value using message = 'end is not after start';
    end if;
    select r.* into run from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request) and r.lease = (request ->> 'lease')::uuid and r.state = 'running'
    for no key update;
    if run.run_id is null then
        return 'false';
    end if;
    if run.is_dry_run then
        return 'true';
    end if;

    insert into clerk_sync.sweeps (kind, ends_at, visited_at) values (target, last_moment, 0) on conflict do nothing;
    -- The part in which the slice begins is cut in two.
    insert into clerk_sync.sweeps (kind, ends_at, visited_at, compared_at, settling_run, is_switched_off)
    select s.kind, starts, s.visited_at, s.compared_at, s.settling_run, s.is_switched_off
    from clerk_sync.sweeps as s
    where s.kind = target and s.ends_at > starts and starts > 0
    order by s.ends_at limit 1
    on conflict do nothing;

    select case when bool_and(s.compared_at is not null) then min(s.compared_at) end into oldest
    from clerk_sync.sweeps as s
    where s.kind = target and s.ends_at > starts
    and s.ends_at <= (select min(l.ends_at) from clerk_sync.sweeps as l where l.kind = target and l.ends_at >= ends);

    delete from clerk_sync.sweeps as s where s.kind = target and s.ends_at > starts and s.ends_at <= ends;
    insert into clerk_sync.sweeps (kind, ends_at, visited_at, compared_at, settling_run, is_switched_off)
    values (
        target, ends, run.as_of, case when not is_off then oldest end,
        case when is_whole and not is_off then run.run_id end, is_off
    );
    return 'true';
end
$$;

-- When everything of each kind is known to have been compared, Clerk's clock: a row per kind that Clerk lists. Of
-- users, changed_until: whatever Clerk changed until then was compared, as Clerk lists users by their last change.
create function clerk_sync.compared_until()
returns table (kind text, changed_until bigint, compared_until bigint, is_switched_off boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        k.kind,
        case
            when k.kind = 'user' then greatest(s.oldest, (
                select max(r.as_of) from clerk_sync.reconcile_runs as r
                where r.state in ('complete', 'stopped') and not r.is_dry_run and not r.was_reset and r.as_of > 0
                and not r.holds_back
            ))
            else s.oldest
        end,
        s.oldest,
        coalesce(s.is_off, false)
    from clerk_sync.kinds as k
    left join lateral (
        select
            case when bool_and(p.compared_at is not null) then min(p.compared_at) end as oldest,
            bool_or(p.is_switched_off) as is_off
        from clerk_sync.sweeps as p where p.kind = k.kind
    ) as s on true
    where k.kind <> 'private_metadata'
    order by k.write_order
$$;

-- {run, lease, doubtful: [kind, ...]} -> {kind: moment}: what this run visited as a whole counts as compared from now
-- on, except what is doubtful, and until when all of each kind is; kinds that were never compared as a whole, or are
-- switched off, are left out. null when the run is somebody else's.
create function clerk_sync.settle_sweeps(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    run clerk_sync.reconcile_runs;
begin
    select r.* into run from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request) and r.lease = (request ->> 'lease')::uuid and r.state = 'running'
    for no key update;
    if run.run_id is null then
        return null;
    end if;
    update clerk_sync.sweeps as s set
        settling_run = null,
        compared_at = case
            when s.kind in (select jsonb_array_elements_text(coalesce(request -> 'doubtful', '[]'))) then s.compared_at
            else s.visited_at
        end
    where s.settling_run = run.run_id;
    -- Neighbours that say the same are one part.
    delete from clerk_sync.sweeps as s
    using (
        select
            p.kind, p.ends_at,
            lead(row(p.visited_at, p.compared_at, p.settling_run, p.is_switched_off)) over w
            is not distinct from row(p.visited_at, p.compared_at, p.settling_run, p.is_switched_off) as is_like_next,
            lead(p.ends_at) over w is not null as has_next
        from clerk_sync.sweeps as p
        window w as (partition by p.kind order by p.ends_at)
    ) as beside
    where s.kind = beside.kind and s.ends_at = beside.ends_at and beside.has_next and beside.is_like_next;
    return (
        select coalesce(jsonb_object_agg(c.kind, c.compared_until) filter (where c.compared_until is not null), '{}')
        from clerk_sync.compared_until() as c
    );
end
$$;

-- {run, lease} -> invitations: of those that Clerk's clock has passed, the status becomes expired, as in Clerk, which
-- sends no event. One at a time, so that a row that the app keeps as it is does not keep the others. null when the run
-- is somebody else's.
create function clerk_sync.expire_invitations(request jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- The rest is left to the next run.
    most_at_once constant integer := 1000;
    run clerk_sync.reconcile_runs;
    due text;
    context text;
    expired integer := 0;
    refused integer := 0;
begin
    select r.* into run from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request) and r.lease = (request ->> 'lease')::uuid and r.state = 'running';
    if run.run_id is null then
        return null;
    end if;
    if run.is_dry_run then
        return '{"expired": 0, "refused": 0}';
    end if;
    perform set_config(
        'clerk_sync.causes',
        jsonb_build_object('', jsonb_build_array('reconcile', format('reconcile-%s-', run.run_id)))::text,
        true
    );
    for due in
        select i.clerk_invitation_id from public.organization_invitations as i
        where i.status = 'pending' and i.deleted_at is null and i.expires_at <= to_timestamp(run.as_of / 1000.0)
        -- In any order: none that takes all the time comes first every time.
        order by random() limit most_at_once
        for no key update skip locked
    loop
        begin
            update public.organization_invitations as i set status = 'expired'
            where i.clerk_invitation_id = due and i.status = 'pending';
            expired := expired + 1;
        exception
            -- Whatever a trigger or a constraint of the app says.
            when others or query_canceled or assert_failure then
                refused := refused + 1;
                get stacked diagnostics context = pg_exception_context;
                exit when clerk_sync.is_time_over(sqlstate, context);
        end;
    end loop;
    return jsonb_build_object('expired', expired, 'refused', refused);
end
$$;

-- Gets the deletes of a run ready, before Clerk is asked about any. {run, kinds: [kind, ...]} ->
-- {due: [[kind, id], ...], spared}, or null when the run is over. due: what earlier runs were told to be gone, at least
-- the margin ago, and this run did not miss by itself: candidates now, whatever it compared. spared: how many
-- candidates were too young, and are none any more.
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

    -- Deleted by this run, which was cut off before it wrote that down.
    update clerk_sync.reconcile_findings as f set sent_at = clock_timestamp()
    from clerk_sync.entities as e
    where f.run_id = run.run_id and f.action = 'delete' and f.sent_at is null
    and f.kind = e.kind and f.entity_id = e.id and e.deleted_at is not null and e.delete_run = run.run_id;

    -- Forgotten: what is deleted by now, and what something newer told of. An event that changed nothing tells, too; it
    -- was applied after it happened, give or take what two clocks differ.
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
        where k.kind in (select jsonb_array_elements_text(request -> 'kinds')) and k.kind <> 'private_metadata'
    loop
        execute format(
            $statement$
            with added as (
                insert into clerk_sync.reconcile_findings (run_id, kind, entity_id, difference, action, cause)
                select $1, a.kind, a.id, 'extra', 'delete', 'its delete did not arrive'
                from clerk_sync.absences as a inner join %1$s as r on r.%2$I = a.id collate "default"
                where a.kind = $2 and a.first_gone_at <= $3 and r.deleted_at is null and %3$s
                on conflict do nothing
                returning kind, entity_id
            )

            select coalesce(jsonb_agg(jsonb_build_array(added.kind, added.entity_id)), '[]') from added
            $statement$,
            of_kind.relation, of_kind.key_column,
            -- As in find_unseen(). Nothing newer tells of one that expired meanwhile.
            case when of_kind.kind = 'invitation' then '(r.status is null or r.status = ''pending'')' else 'true' end
        ) into more using run.run_id, of_kind.kind, young_from;
        due := due || more;

        -- created_at: of a row that only other objects told of it is unknown, as is Clerk's moment of everything else;
        -- then our own clock says when the row came.
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
-- order of their ids; of a membership whose, of invitations and domains only org_id; when Clerk first said that it is
-- gone. null when the run is over.
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
begin
    if run is null then
        return null;
    end if;
    return (
        select coalesce(
            jsonb_agg(
                jsonb_build_array(f.entity_id, f.clerk_user_id, f.org_id, a.first_gone_at) order by f.entity_id
            ),
            '[]'
        )
        from (
            select
                c.entity_id, c.kind, m.clerk_user_id, coalesce(m.clerk_org_id, i.clerk_org_id, d.clerk_org_id) as org_id
            from clerk_sync.reconcile_findings as c
            left join public.organization_memberships as m
                on c.kind = 'membership' and c.entity_id = m.clerk_membership_id
            left join public.organization_invitations as i
                on c.kind = 'invitation' and c.entity_id = i.clerk_invitation_id
            left join public.organization_domains as d
                on c.kind = 'domain' and c.entity_id = d.clerk_domain_id
            where c.run_id = run and c.kind = target
            and c.action = 'delete' and c.sent_at is null and c.entity_id > request ->> 'after'
            -- What went meanwhile, by a webhook or before this run was cut off, or is hidden with its parent, is done.
            and coalesce(m.deleted_at, i.deleted_at, d.deleted_at) is null
            and not exists (
                select from clerk_sync.entities as e
                where e.kind = c.kind and e.id = c.entity_id and e.deleted_at is not null
            )
            order by c.entity_id limit at_most
        ) as f
        left join clerk_sync.absences as a on f.kind = a.kind and f.entity_id = a.id
    );
end
$$;

-- {run} -> {by_object: [[kind, hidden kind, rows], ...], hidden: {kind: rows}}: how many rows would go out of sight
-- with what Clerk says to be gone, by the kind of the object that goes and of the row; and altogether, each row once.
-- null when the run is over.
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
    for of_kind in select k.* from clerk_sync.kinds as k where k.kind <> 'private_metadata' order by k.write_order loop
        execute (
            select format(
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
                string_agg(
                    format(
                        'select g.kind, r.%1$I::text as id from gone as g inner join %2$s as r on r.%3$I = g.id '
                        || 'where g.kind = %4$L and r.deleted_at is null',
                        of_kind.key_column, of_kind.relation, link.key, link.value
                    ),
                    ' union '
                ),
                of_kind.kind
            )
            from jsonb_each_text(of_kind.parents || jsonb_build_object(of_kind.key_column, of_kind.kind)) as link
        ) into total, counted using run;
        hidden := hidden || jsonb_build_object(of_kind.kind, total);
        by_object := by_object || counted;
    end loop;
    return jsonb_build_object('by_object', by_object, 'hidden', hidden);
end
$$;

-- {run, kind, present: [id, ...], gone: {id: moment}, sent: [id, ...], refused: [id, ...], held_up: [id, ...]}: what
-- became of findings. Who is there after all was none. Who is gone is remembered, and a later run asks again. What is
-- held up by a lock is remembered, too, although of a page that is missing as a whole no other finding is. -> whether
-- the run is still at work.
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
    of_later_runs constant integer := -1;
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
    select run, target, h.id, 'missing', 'repair', 'it never arrived', of_later_runs, true
    from jsonb_array_elements_text(coalesce(request -> 'held_up', '[]')) as h (id)
    on conflict (run_id, kind, entity_id) do update set is_held_up = true;
    return 'true';
end
$$;

-- By kind, what the windows of a run counted and what became of the findings. A repair or a delete counts as done once
-- the tables have it, until then as sent.
create function clerk_sync.count_findings(run bigint)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with found as (
        -- Private metadata counts with its object. An object counts once, in however many windows it was listed.
        select
            coalesce(w.kind, f.kind) as kind, f.entity_id, f.difference, f.action,
            f.sent_at is not null and not f.is_refused as is_sent, f.sent_at, f.is_refused,
            case
                when f.action = 'delete' then e.deleted_at is not null
                else f.window_number is null or coalesce((e.version).observed_at >= f.observed_at, true)
            end as is_done,
            -- The windows count all other repairs.
            f.action = 'delete' or f.emptied is not null or f.is_held_up or f.window_number is null as is_counted_here,
            a.id is not null as is_absent
        from clerk_sync.reconcile_findings as f
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
                then case when f.is_done then 'repaired' else 'repairs sent' end
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

    select coalesce(jsonb_object_agg(of_kind.kind, of_kind.counts), '{}')
    from (
        select summed.kind, jsonb_object_agg(summed.name, summed.total) as counts
        from (
            select c.kind, c.name, sum(c.total) as total from counted as c group by c.kind, c.name
        ) as summed
        group by summed.kind
    ) as of_kind
$$;

-- {run, lease, state, reason, calls, newest_change, newest_delivery, is_silent}: the end of a run, or of one of its
-- invocations: then state is running, and the lease ends now. -> the run, or null when it is somebody else's.
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
    where r.run_id = clerk_sync.run_id(request) and r.state = 'running' and r.lease = (request ->> 'lease')::uuid
    returning r.* into run;
    if run.state <> 'running' then
        delete from clerk_sync.reconcile_seen as s where s.run_id = run.run_id;
    end if;
    return case when run.run_id is not null then to_jsonb(run) end;
end
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

-- The kind of the parent whose tombstone hides the row of an object; null if none does. An organization comes first.
create function clerk_sync.hidden_with(of_object text, object_id text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    link record;
    is_hidden boolean;
begin
    for link in
        select k.relation, k.key_column, parent.key as column_name, parent.value as kind
        from clerk_sync.kinds as k cross join lateral jsonb_each_text(k.parents) as parent
        where k.kind = of_object order by parent.value
    loop
        execute format(
            'select exists (select from %1$s as r inner join clerk_sync.entities as e '
            || 'on e.kind = %2$L and e.id = r.%3$I where r.%4$I = $1 and e.deleted_at is not null)',
            link.relation, link.kind, link.column_name, link.key_column
        ) into is_hidden using object_id;
        if is_hidden then
            return link.kind;
        end if;
    end loop;
    return null;
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
                        -- What check_rows() found, it sets right itself.
                        when listed.action = 'repair' and listed.window_number is null and listed.sent_at is not null
                            then 'settled'
                        -- Whoever did it: the message, its replay, or something newer.
                        when listed.difference = 'deleted here' and (e.deleted_at is null or e.delete_run is null)
                            then 'settled'
                        when listed.action = 'delete' and (e.deleted_at is not null or e.purged_at is not null)
                            then 'settled'
                        when listed.action = 'repair' and listed.difference <> 'deleted here'
                            and e.deleted_at > listed.observed_at then 'settled'
                        when listed.action = 'repair' and (e.version).observed_at >= nullif(listed.observed_at, 0)
                            then 'settled'
                        when listed.action = 'delete' and listed.sent_at is not null and r.undone_at is not null
                            then 'undone'
                        when listed.is_refused then 'refused'
                        when p.discarded_at is not null then 'discarded'
                        when p.parked_id is not null and p.replayed_at is null then 'parked'
                        when listed.sent_at is not null then 'sent'
                        when listed.action = 'delete' and hidden.with_kind is not null
                            then 'hidden with its ' || hidden.with_kind
                        when listed.is_held_up then 'held up'
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
                on p.svix_id = format('reconcile-%s-%s', listed.run_id, listed.entity_id)
            left join lateral (
                select clerk_sync.hidden_with(listed.kind, listed.entity_id) as with_kind
            ) as hidden on listed.action = 'delete' and listed.sent_at is null
        )
    )
    from clerk_sync.reconcile_runs as r
    where r.run_id = clerk_sync.run_id(request)
$$;

-- {id} -> {instance_id, kinds: {kind: is deleted}}: the mirrored instance, and as what this id is known.
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
            where e.kind in ('user', 'organization', 'membership') and e.id = request ->> 'id'
        )
    )
$$;

-- {run} -> {restored: [[kind, id], ...], waiting}: lifts the tombstones that this run alone set, and shows the rows
-- again unless a parent is deleted. What an event told, too, and what was purged meanwhile, stays as it is; what
-- another run proved, too, stays with the moment of that run. waiting: deletes of the run that were sent, and not
-- applied before the first undo; they count for nothing. Nor does what the run was the first to miss.
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
    -- One undo after the other, because this one leaves a tombstone to another run that proved it, too. And no
    -- begin_run(), which shuts out writers, between the two statements below.
    lock table clerk_sync.reconcile_runs in share update exclusive mode;
    -- What is just being applied is waited for; what comes later sees that the run was undone.
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
            on e.id = f.entity_id and (e.kind = f.kind or e.kind = 'private_metadata')
        inner join clerk_sync.reconcile_runs as r on f.run_id = r.run_id and r.undone_at is null
        where e.deleted_at is not null and e.delete_run = undone and f.action = 'delete' and f.sent_at is not null
        and f.observed_at >= coalesce(e.shown_at, -1)
        -- It was sent, but nobody could apply it.
        and not exists (
            select from clerk_sync.parked_events as p
            where p.svix_id = format('reconcile-%s-%s', f.run_id, f.entity_id) and p.replayed_at is null
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

    perform set_config('clerk_sync.causes', (
        select coalesce(jsonb_object_agg(m.id, jsonb_build_array('operator', null)), '{}') from unnest(moved) as m
    )::text, true);
    perform clerk_sync.follow_tombstones(moved);

    return jsonb_build_object('waiting', waiting, 'restored', (
        select coalesce(jsonb_agg(jsonb_build_array(m.kind, m.id) order by m.kind, m.id), '[]')
        from unnest(moved) as m where m.kind <> 'private_metadata' and m.deleted_at is null
    ));
end
$$;

-- {instance: whether to forget that, too; dry_run} -> {running: [run, ...], trusted, instance_id}: the runs at work,
-- which end, and lose their lease; how many finished runs no other goes on from any more, so that the next one compares
-- everything; and the Clerk instance that was recorded. For an operator, after the worker's password leaked.
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
    -- Their counts stay as they are: what somebody else wrote may not be added up.
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

-- {hold_back_days, purge_by, deliveries_days, audit_days, runs_days} -> {purged: [{kind, outcome, constraint, rows}],
-- pruned: {deliveries, audit_entries, parked_events, runs}, not_followed: {field: {asked, allowed}}, failed: why the
-- purge as a whole could not be done, if so}. Keeps nothing shorter than clerk_sync.retention says, whatever is asked
-- for. Purges and prunes a portion: call it until it did neither.
-- purge() comes first, because it takes locks in the order of apply(); prune() waits for none.
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
    -- Of 24 hours each: a day may be a week long in a time zone that the session makes up.
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
        from unnest('{hold_back_days,deliveries_days,audit_days,runs_days}'::text[]) as field
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
        from clerk_sync.purge(
            (days -> 'hold_back_days')::integer * interval '24 hours', case when may_delete then how else 'scrub' end
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

    -- Never the newest that was finished: the next one goes on from there. One that is being undone is left to the next
    -- night, because undo waits for entities while it has the run locked.
    old_runs := array(
        select old.run_id from clerk_sync.reconcile_runs as old
        where old.finished_at < now() - (days -> 'runs_days')::integer * interval '24 hours'
        and old.run_id < (
            select max(n.run_id) from clerk_sync.reconcile_runs as n
            where n.mode = 'full' and n.state in ('complete', 'stopped') and not n.is_dry_run
        )
        limit 1000 for update of old skip locked
    );
    -- A run at work writes to the absences of others, too; the foreign key would wait for it.
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

grant execute on function
clerk_sync.begin_run(jsonb),
clerk_sync.renew_lease(jsonb),
clerk_sync.plan_run(jsonb),
clerk_sync.windows_of_run(jsonb),
clerk_sync.cut_users(jsonb),
clerk_sync.count_rows(jsonb),
clerk_sync.rank_rows(jsonb),
clerk_sync.compare(jsonb),
clerk_sync.fill(jsonb),
clerk_sync.finish_window(jsonb),
clerk_sync.find_unseen(jsonb),
clerk_sync.next_slice(jsonb),
clerk_sync.visit_slice(jsonb),
clerk_sync.settle_sweeps(jsonb),
clerk_sync.expire_invitations(jsonb),
clerk_sync.prepare_deletes(jsonb),
clerk_sync.delete_candidates(jsonb),
clerk_sync.weigh_deletes(jsonb),
clerk_sync.settle_findings(jsonb),
clerk_sync.end_run(jsonb),
clerk_sync.keep_house(jsonb)
to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0008_create_reconcile');
