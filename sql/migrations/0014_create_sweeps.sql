-- Chooses the part of a list for a quick run, and records when each part was compared.

-- When each part of Clerk's lists was compared. Clerk lists only users by their last change: organizations,
-- memberships, invitations and domains are read part after part, in the order of creation, beginning with the part with
-- the longest wait.
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
'The first moment of creation beyond the part, milliseconds; 253402300799999 for the last part.';
comment on column clerk_sync.sweeps.visited_at is
'When the last run that read this part began, Clerk''s clock, milliseconds. 0: no run has.';
comment on column clerk_sync.sweeps.compared_at is
'When the last run began that compared all of this part and finished, Clerk''s clock. Null: no run has.';
comment on column clerk_sync.sweeps.settling_run is 'The run that has compared this part and has not finished.';
comment on column clerk_sync.sweeps.is_switched_off is 'Clerk answers that this instance has no objects of this kind.';

alter table clerk_sync.sweeps enable row level security;

-- {run, kind} -> {start, visited_at, newest_visit}: the part of a list with the longest wait among the parts not
-- visited by this run; start is null when no part is left. newest_visit: when a run last visited any part; null: never.
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
            -- A visit in the future does not count: a clock was wrong.
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
    where r.run_id = clerk_sync.run_id(request) and clerk_sync.is_leased(r, request)
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
-- users, changed_until: every change in Clerk until this moment was compared, as Clerk lists users by their last
-- change.
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
    where k.accompanies = '{}'
    order by k.write_order
$$;

-- {run, lease, doubtful: [kind, ...]} -> {kind: moment}: the parts that this run visited as a whole count as compared
-- from now on, except parts of doubtful kinds; returns until when all of each kind was compared, without kinds never
-- compared as a whole or switched off. null when another process has taken the run over.
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
    where r.run_id = clerk_sync.run_id(request) and clerk_sync.is_leased(r, request)
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
    -- Neighbours with equal values become one part.
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

select clerk_sync.revoke_default_rights();

grant execute on function
clerk_sync.next_slice(jsonb),
clerk_sync.visit_slice(jsonb),
clerk_sync.settle_sweeps(jsonb)
to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0014_create_sweeps');
