-- Applying changes: versions, deletes that stay, the delivery record, and one function that does it all at once.

-- Which write is newer is decided by Clerk's clock alone; a hash of the content breaks an exact tie the
-- same way on every road.
create type clerk_sync.version as (
    source_updated_at bigint,
    observed_at bigint,
    tie_breaker bigint
);

-- The newest version seen of every entity, and its tombstone. It lives beside the tables the app sees, so that a write
-- that changes nothing there (Clerk bumps updated_at at every sign-in) fires no trigger and no Realtime message.
create table clerk_sync.entities (
    kind text collate "C" not null,
    id text collate "C" not null,
    version clerk_sync.version not null,
    deleted_at bigint,
    primary key (kind, id)
) with (fillfactor = 85);

comment on column clerk_sync.entities.deleted_at is
'Tombstone: the earliest proof of the delete, Clerk''s clock, milliseconds. Never lifted, as ids are never reused.';

alter table clerk_sync.entities enable row level security;

create table clerk_sync.deliveries (
    svix_id text collate "C" primary key,
    event_type text not null,
    kind text not null,
    entity_id text not null,
    outcome text not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    applied_at timestamptz not null default clock_timestamp(),
    constraint deliveries_outcome_check
    check (outcome in ('created', 'updated', 'unchanged', 'stale', 'deleted', 'refused'))
);

comment on table clerk_sync.deliveries is
'One row per webhook, written in the transaction that applied it; svix_id is the same on every retry and replay.';
comment on column clerk_sync.deliveries.outcome is
'created; updated; unchanged: nothing differs; stale: a newer version was there; deleted; refused: deleted before.';
comment on column clerk_sync.deliveries.occurred_at is 'When it happened, by Clerk''s clock.';
comment on column clerk_sync.deliveries.received_at is 'When ingest accepted it.';

create index deliveries_applied_at_idx on clerk_sync.deliveries using brin (applied_at);

alter table clerk_sync.deliveries enable row level security;

-- What can be synced: one row per kind, written by clerk_sync.register().
create table clerk_sync.kinds (
    kind text primary key,
    write_order integer not null unique
);

comment on column clerk_sync.kinds.write_order is 'Parents before children.';

alter table clerk_sync.kinds enable row level security;

-- One change of a batch. deleted_at (Clerk's clock, ms) makes it a delete; content holds every mirrored column.
create type clerk_sync.change as (
    "position" integer,
    kind text,
    id text,
    version clerk_sync.version,
    deleted_at bigint,
    content jsonb,
    cause text,
    svix_id text,
    event_type text,
    received_at bigint
);

-- What became of one entity of a batch in its table.
create type clerk_sync.written as (
    kind text,
    id text,
    outcome text
);

-- Teaches apply() a kind, by writing two set-based functions for its table:
--   write_<kind>: inserts and updates rows from content, and touches none that already says the same;
--   hide_<kind>: sets deleted_at on rows whose own entity, or one of whose parents, was deleted;
-- and by having its changes audited. The table needs key_column as its primary key and a column deleted_at: always
-- the earliest delete of the row's entity and its parents. parents: {"column": "kind of the entity it names"}. A column
-- that is neither key, parent nor mirrored stays the app's own: row_<kind>, the type in which rows are compared, has
-- only the others.
create function clerk_sync.register(
    kind_name text,
    kind_order integer,
    relation regclass,
    key_column name,
    mirrored_columns name[],
    parents jsonb default '{}',
    is_audited boolean default true
)
returns void
language plpgsql
set search_path = ''
as $register$
declare
    own_columns constant name[] := key_column || mirrored_columns || array['deleted_at']::name[]
    || array(select key::name from jsonb_each_text(parents));
begin
    execute format('drop type if exists clerk_sync.%I cascade', 'row_' || kind_name);
    execute (
        select format(
            'create type clerk_sync.%I as (%s)', 'row_' || kind_name,
            string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum)
        )
        from pg_catalog.pg_attribute as a where a.attrelid = relation and a.attname = any(own_columns)
    );
    execute (
        select format(
            $template$
            create or replace function clerk_sync.%1$I(winners clerk_sync.change[])
            returns setof clerk_sync.written
            language plpgsql
            set search_path = ''
            as $body$
            #variable_conflict use_variable
            declare
                missing clerk_sync.%12$I[];
                changed clerk_sync.%12$I[];
            begin
                select
                    array_agg(given.*) filter (where kept.%3$I is null),
                    array_agg(given.*) filter (where kept.%3$I is not null)
                into missing, changed
                from unnest(winners) as winner
                %8$s
                cross join lateral jsonb_populate_record(
                    null::clerk_sync.%12$I,
                    winner.content || jsonb_build_object(
                        'deleted_at', to_timestamp(least(winner.deleted_at %7$s) / 1000.0)
                    )
                ) as given
                left join lateral (select k.* from %2$s as k where k.%3$I = given.%3$I limit 1) as kept on true
                where kept.%3$I is null or (%6$s) is distinct from (%5$s);

                if changed is not null then
                    return query update %2$s as kept set %4$s
                    from (select g.* from unnest(changed) as g limit cardinality(changed)) as given
                    where kept.%3$I = given.%3$I
                    returning %9$L::text, kept.%3$I, 'updated';
                end if;
                if missing is not null then
                    -- The app may have made the row a moment ago.
                    return query insert into %2$s as kept (%3$I, %10$s)
                    select given.%3$I, %5$s from unnest(missing) as given order by given.%3$I
                    on conflict (%3$I) do update set %11$s
                    returning %9$L::text, kept.%3$I, 'created';
                end if;
            end
            $body$
            $template$,
            'write_' || kind_name, relation, key_column,
            string_agg(format('%1$I = given.%1$I', c), ', '),
            string_agg(format('given.%I', c), ', '),
            string_agg(format('kept.%I', c), ', '),
            (select string_agg(format(', %I.deleted_at', 'parent_' || key), '') from jsonb_each_text(parents)),
            (
                select string_agg(
                    format(
                        'left join clerk_sync.entities as %1$I '
                        || 'on %1$I.kind = %2$L and %1$I.id = winner.content ->> %3$L',
                        'parent_' || key, value, key
                    ),
                    ' '
                )
                from jsonb_each_text(parents)
            ),
            kind_name,
            string_agg(format('%I', c), ', '),
            string_agg(format('%1$I = excluded.%1$I', c), ', '),
            'row_' || kind_name
        )
        from unnest(own_columns) as c where c <> key_column
    );
    -- Two deletes may reach the same row by different parents, so rows are locked by key before any is written. The
    -- lock lets rows of the app point to these meanwhile.
    execute (
        select format(
            $template$
            create or replace function clerk_sync.%1$I(deleted clerk_sync.change[])
            returns void
            language plpgsql
            set search_path = ''
            as $body$
            #variable_conflict use_variable
            declare
                keys text[];
            begin
                keys := array(select kept.%3$I from %2$s as kept where %4$s order by kept.%3$I for no key update);
                if cardinality(keys) = 0 then
                    return;
                end if;
                update %2$s as kept set deleted_at = due.deleted_at
                from (
                    select named.%3$I, to_timestamp(min(d.deleted_at) / 1000.0) as deleted_at
                    from %2$s as named inner join unnest(deleted) as d on %5$s
                    where named.%3$I = any(keys)
                    group by named.%3$I
                ) as due
                where kept.%3$I = due.%3$I and due.deleted_at < coalesce(kept.deleted_at, 'infinity');
            end
            $body$
            $template$,
            'hide_' || kind_name, relation, key_column,
            string_agg(
                format(
                    'kept.%I = any(array(select d.id from unnest(deleted) as d where d.kind = %L))',
                    link.key, link.value
                ),
                ' or '
            ),
            string_agg(format('(d.kind = %2$L and d.id = named.%1$I)', link.key, link.value), ' or ')
        )
        from jsonb_each_text(parents || jsonb_build_object(key_column, kind_name)) as link
    );
    execute format('revoke all on function clerk_sync.%I(clerk_sync.change[]) from public', 'write_' || kind_name);
    execute format('revoke all on function clerk_sync.%I(clerk_sync.change[]) from public', 'hide_' || kind_name);
    if is_audited then
        execute (
            select string_agg(
                format(
                    'create or replace trigger audit_%1$s after %1$s on %2$s referencing %3$s '
                    || 'for each statement execute function clerk_sync.record_changes(%4$L, %5$L)',
                    audited.operation, relation, audited.tables, kind_name, key_column
                ),
                ';'
            )
            from (
                values
                ('insert', 'new table as new_rows'),
                ('update', 'old table as old_rows new table as new_rows'),
                ('delete', 'old table as old_rows')
            ) as audited (operation, tables)
        );
    end if;
    insert into clerk_sync.kinds (kind, write_order) values (kind_name, kind_order)
    on conflict on constraint kinds_pkey do update set write_order = excluded.write_order;
end
$register$;

-- Applies a batch of changes in one statement, whatever order and however often they arrive. Returns one outcome per
-- element: those of clerk_sync.deliveries, or 'duplicate' for a delivery that was recorded before.
-- Every lock is taken in one order (entities by kind and id, then rows, then deliveries by id): workers never deadlock.
-- Definer: the worker role may call this and nothing else.
create function clerk_sync.apply(batch jsonb)
returns table ("position" integer, outcome text)
language plpgsql
security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
as $$
declare
    changes clerk_sync.change[];
    winners clerk_sync.change[];
    deleted clerk_sync.change[];
    contents clerk_sync.change[];
    target text;
    all_written clerk_sync.written[] := '{}';
    kind_written clerk_sync.written[];
begin
    changes := array(
        select row(
            given.ordinality - 1, given.kind, given.id,
            row(
                given.source_updated_at, given.observed_at, jsonb_hash_extended(given.content, 0)
            )::clerk_sync.version,
            given.deleted_at, given.content, given.cause, given.svix_id, given.event_type, given.received_at
        )::clerk_sync.change
        from rows from (
            jsonb_to_recordset(batch) as (
                kind text, id text, source_updated_at bigint, observed_at bigint, deleted_at bigint, content jsonb,
                cause text, svix_id text, event_type text, received_at bigint
            )
        ) with ordinality as given
    );

    if exists (
        select from unnest(changes) as c where not exists (select from clerk_sync.kinds as k where k.kind = c.kind)
    ) then
        raise undefined_object using
            message = 'a change is of a kind that was never registered',
            hint = 'Apply the migrations that came with this code: clerk-supabase migrate';
    end if;

    -- Look-ups are `lateral ... limit 1`: by the index on a table that was never analysed as on a large one.
    -- The join may look at an older snapshot, because versions only grow; what it lets through, `on conflict` checks
    -- again under the row's lock. So a stale change locks and writes nothing. Only a stub (source_updated_at 0) always
    -- takes the lock: it stands for the parent of another change of the batch, which must not be deleted meanwhile.
    with newest as (
        select distinct on (c.kind, c.id)
            c.kind, c.id, c.version, c.content, c.cause, c.svix_id,
            bool_or((c.version).source_updated_at = 0) over (partition by c.kind, c.id) as is_parent
        from unnest(changes) as c
        where c.deleted_at is null
        order by c.kind, c.id, c.version desc
    ),

    deletes as (
        select distinct on (c.kind, c.id) c.kind, c.id, c.deleted_at, c.cause, c.svix_id
        from unnest(changes) as c
        where c.deleted_at is not null
        order by c.kind, c.id, c.deleted_at
    ),

    candidates as (
        select
            kind, id, newest.content, newest.is_parent, deletes.deleted_at,
            case when deletes.id is null then newest.cause else deletes.cause end as cause,
            case when deletes.id is null then newest.svix_id else deletes.svix_id end as svix_id,
            coalesce(newest.version, row(-1, -1, null)::clerk_sync.version) as version
        from newest full join deletes using (kind, id)
    ),

    advanced as (
        insert into clerk_sync.entities as known (kind, id, version, deleted_at)
        select candidate.kind, candidate.id, candidate.version, candidate.deleted_at
        from candidates as candidate
        left join lateral (
            select e.version, e.deleted_at
            from clerk_sync.entities as e
            where e.kind = candidate.kind and e.id = candidate.id
            limit 1
        ) as seen on true
        where seen.version is null
        or candidate.is_parent
        or candidate.version > seen.version
        or candidate.deleted_at < coalesce(seen.deleted_at, 9223372036854775807)
        order by candidate.kind collate "C", candidate.id collate "C"
        on conflict (kind, id) do update set
            version = greatest(known.version, excluded.version),
            deleted_at = least(known.deleted_at, excluded.deleted_at)
        where excluded.version > known.version
        or excluded.deleted_at < coalesce(known.deleted_at, 9223372036854775807)
        returning known.kind, known.id, known.version, known.deleted_at
    )

    select array_agg(row(
        null, kind, id, advanced.version, advanced.deleted_at,
        case when advanced.version = candidates.version then candidates.content end,
        candidates.cause, candidates.svix_id, null, null
    )::clerk_sync.change)
    into winners
    from advanced inner join candidates using (kind, id);

    perform set_config(
        'clerk_sync.causes', coalesce(jsonb_object_agg(w.id, jsonb_build_array(w.cause, w.svix_id)), '{}')::text, true
    )
    from unnest(winners) as w;

    deleted := array(select w from unnest(winners) as w where w.deleted_at is not null);
    for target in select k.kind from clerk_sync.kinds as k order by k.write_order loop
        contents := array(select w from unnest(winners) as w where w.kind = target and w.content is not null);
        if cardinality(contents) > 0 then
            execute format('select array(select clerk_sync.%I($1))', 'write_' || target)
            into kind_written using contents;
            all_written := all_written || kind_written;
        end if;
        if cardinality(deleted) > 0 then
            execute format('select clerk_sync.%I($1)', 'hide_' || target) using deleted;
        end if;
    end loop;

    -- `in (select ...)` rather than joins: hashed whatever the plan expects, so a large batch costs what its rows cost.
    return query
    with judged as (
        select
            c.*,
            case
                when c.deleted_at is not null then 'deleted'
                when e.deleted_at is not null then 'refused'
                when c.version < e.version then 'stale'
                when (c.kind, c.id, 'created') in (select w.kind, w.id, w.outcome from unnest(all_written) as w)
                    then 'created'
                when (c.kind, c.id) in (select w.kind, w.id from unnest(all_written) as w) then 'updated'
                else 'unchanged'
            end as verdict,
            row_number() over (partition by c.svix_id, c.event_type is null order by c."position") = 1 as is_first
        from unnest(changes) as c
        cross join lateral (
            select k.version, k.deleted_at
            from clerk_sync.entities as k
            where k.kind = c.kind and k.id = c.id
            limit 1
        ) as e
    ),

    recorded as (
        insert into clerk_sync.deliveries (
            svix_id, event_type, kind, entity_id, outcome, occurred_at, received_at
        )
        select
            j.svix_id, j.event_type, j.kind, j.id, j.verdict,
            to_timestamp((j.version).observed_at / 1000.0), to_timestamp(j.received_at / 1000.0)
        from judged as j
        where j.event_type is not null and j.is_first
        order by j.svix_id collate "C"
        on conflict do nothing
        returning svix_id
    )

    select
        j."position",
        case
            when j.event_type is null or (j.is_first and j.svix_id in (select r.svix_id from recorded as r))
                then j.verdict
            else 'duplicate'
        end
    from judged as j
    order by j."position";
end
$$;

revoke all on all functions in schema clerk_sync from public;
grant execute on function clerk_sync.apply(jsonb) to clerk_sync_worker;

select clerk_sync.register(
    'user', 1, 'public.users', 'clerk_id',
    array[
        'external_id', 'username', 'first_name', 'last_name', 'email', 'email_verified', 'phone', 'phone_verified',
        'image_url', 'has_image', 'locale', 'public_metadata', 'unsafe_metadata', 'email_addresses', 'phone_numbers',
        'web3_wallets', 'external_accounts', 'password_enabled', 'two_factor_enabled', 'banned', 'locked',
        'legal_accepted_at', 'created_at'
    ]
);

insert into clerk_sync.migrations (name) values ('0004_create_apply');
