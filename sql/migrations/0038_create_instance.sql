-- One Clerk instance for each database: events of another instance are counted, and never applied. An operator moves
-- the database to another instance by `clerk-supabase switch-instance`, which archives the rows of the old instance.

alter table clerk_sync.instance add column first_run bigint not null default 0;

comment on table clerk_sync.instance is
'The Clerk instance that this database mirrors: that of the first event, of the first run, or of a switch. No row: '
'neither was there yet.';
comment on column clerk_sync.instance.first_run is
'Comparisons with a smaller number read the instance before a switch: their repairs are not applied.';

create table clerk_sync.wrong_instances (
    instance_id text collate "C" primary key,
    events bigint not null,
    first_at timestamptz not null default clock_timestamp(),
    last_at timestamptz not null default clock_timestamp(),
    last_svix_id text not null
);

comment on table clerk_sync.wrong_instances is
'Events of Clerk instances that this database does not mirror, by instance: counted, and neither applied nor parked. '
'After 100 instances, all others count as one, without an id.';

alter table clerk_sync.wrong_instances enable row level security;

-- The mirrored instance. Without one, the first instance of a batch becomes the mirrored instance. The lock on the
-- table, which a select takes, lasts until the end of the transaction: a switch waits for each batch that asked before.
create function clerk_sync.mirrored_instance(origins jsonb)
returns clerk_sync.instance
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    mirrored clerk_sync.instance;
begin
    select i.* into mirrored from clerk_sync.instance as i;
    if mirrored.instance_id is null and origins ? 'instances' then
        insert into clerk_sync.instance (instance_id)
        select o.key from jsonb_each(origins -> 'instances') as o
        where o.key ~ '^ins_[!-~]{1,250}$' order by (o.value ->> 0)::integer limit 1
        on conflict do nothing;
        select i.* into mirrored from clerk_sync.instance as i;
    end if;
    return mirrored;
end
$$;

-- The places of a batch with changes that another instance than the mirrored one told.
create function clerk_sync.wrong_places(origins jsonb, mirrored clerk_sync.instance)
returns integer[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select place::integer
        from (
            select o.value from jsonb_each(origins -> 'instances') as o where o.key <> mirrored.instance_id
            union all
            -- A resync, run 0, asks the database for the instance itself.
            select o.value from jsonb_each(origins -> 'runs') as o
            where o.key::bigint > 0 and o.key::bigint < mirrored.first_run
        ) as wrong (places)
        cross join lateral jsonb_array_elements_text(wrong.places) as place
    );
end
$$;

-- Counts the events of a batch at these places, by instance. A repair of an old run is no event.
create function clerk_sync.count_wrong_events(batch jsonb, origins jsonb, places integer[])
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into clerk_sync.wrong_instances as known (instance_id, events, last_svix_id)
    select named.id, count(*), max(batch -> place::integer ->> 'svix_id')
    from jsonb_each(origins -> 'instances') as o
    cross join lateral jsonb_array_elements_text(o.value) as place
    cross join lateral (
        select case
            when (select count(*) from clerk_sync.wrong_instances) < 100
                or exists (select from clerk_sync.wrong_instances as w where w.instance_id = o.key collate "C")
                then o.key
            else ''
        end as id
    ) as named
    -- Only the main change of an event has a type.
    where place::integer = any(places) and batch -> place::integer ? 'event_type'
    group by named.id
    order by named.id collate "C"
    on conflict (instance_id) do update set
        events = known.events + excluded.events, last_at = excluded.last_at, last_svix_id = excluded.last_svix_id
$$;

-- Applies a batch as apply() does, but for changes of another Clerk instance: their outcome is 'wrong_instance', and
-- nothing of them is written but their number. origins: {"instances": {"ins_...": [place, ...]}, "runs": {"12": [place,
-- ...]}}: places in the batch by the instance that sent an event, or by the run that made a repair. A change without
-- an origin is applied. records: whether elements name fields that were left out: see record_dropped().
create function clerk_sync.apply_from(batch jsonb, origins jsonb, records boolean default false)
returns table ("position" integer, outcome text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    wrong constant integer[] := clerk_sync.wrong_places(origins, clerk_sync.mirrored_instance(origins));
    own integer[];
    kept jsonb := batch;
begin
    if wrong <> '{}' then
        own := array(select n from generate_series(0, jsonb_array_length(batch) - 1) as n where n <> all(wrong));
        kept := (select coalesce(jsonb_agg(batch -> n order by n), '[]') from unnest(own) as n);
    end if;
    if records then
        perform clerk_sync.record_dropped(kept);
    end if;
    return query select coalesce(own[a."position" + 1], a."position"), a.outcome from clerk_sync.apply(kept) as a;
    if wrong <> '{}' then
        -- Last, because every batch with such events writes the same row.
        perform clerk_sync.count_wrong_events(batch, origins, wrong);
        return query select w, 'wrong_instance' from unnest(wrong) as w;
    end if;
end
$$;

-- The move to another instance, by an operator. It has three steps: the rows of the old instance go into the archive;
-- the ids in the app's tables are replaced; and the archive is removed, or restored.
create table clerk_sync.instance_switches (
    switch_id bigint generated always as identity primary key,
    from_instance text,
    to_instance text not null,
    began_at timestamptz not null default clock_timestamp(),
    began_by text not null,
    moved_at timestamptz,
    ended_at timestamptz,
    outcome text,
    foreign_keys jsonb not null default '[]',
    moved_columns jsonb not null default '[]',
    constraint instance_switches_outcome_check check (outcome in ('confirmed', 'undone'))
);

comment on table clerk_sync.instance_switches is
'Moves of this database to another Clerk instance; at most one is open.';
comment on column clerk_sync.instance_switches.began_by is 'Name of the operator on their machine.';
comment on column clerk_sync.instance_switches.moved_at is
'When the ids in the app''s tables were last replaced, and the app''s foreign keys made again.';
comment on column clerk_sync.instance_switches.foreign_keys is
'The app''s foreign keys to the mirror: [{table, name, definition, columns}].';
comment on column clerk_sync.instance_switches.moved_columns is
'The app''s columns in which ids were replaced: [{table, column}].';

create unique index instance_switches_open_idx on clerk_sync.instance_switches ((true)) where ended_at is null;

alter table clerk_sync.instance_switches enable row level security;

create table clerk_sync.archived_rows (
    relation text not null,
    id text collate "C" not null,
    content jsonb not null,
    primary key (relation, id)
);

comment on table clerk_sync.archived_rows is
'The rows of the old Clerk instance as they were, until the open switch is confirmed or undone.';

alter table clerk_sync.archived_rows enable row level security;

create table clerk_sync.successors (
    old_id text collate "C" primary key,
    kind text not null,
    external_id text,
    address text,
    is_verified boolean not null default false,
    new_id text collate "C" unique,
    found_by text,
    reason text
);

comment on table clerk_sync.successors is
'For each object of the old Clerk instance, the same object in the new instance, until the open switch has ended.';
comment on column clerk_sync.successors.address is 'The primary address of a user.';
comment on column clerk_sync.successors.found_by is 'external_id, email, or operator: an operator named the pair.';
comment on column clerk_sync.successors.reason is
'Why no successor was found, as in `clerk-supabase adopt link`; deleted: in the old instance; other_kind: not a user.';

alter table clerk_sync.successors enable row level security;

-- The tables that hold the rows of an instance, and an expression for the key of a row `r`.
create function clerk_sync.tables_of_instance()
returns table (relation text, key text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select o.relation, o.key from (
        select k.write_order, k.relation, format('r.%I', k.key_column) as key from clerk_sync.kinds as k
        union all
        values (2147483646, 'clerk.users_public', 'r.clerk_id'),
        (2147483647, 'clerk_sync.entities', 'concat_ws('' '', r.kind, r.id)'),
        (2147483647, 'clerk_sync.unfinished_deletes', 'concat_ws('' '', r.kind, r.id)')
    ) as o
    order by o.write_order
$$;

-- Disables the triggers of tables and of their partitions until the caller executes the returned statements.
create function clerk_sync.disable_triggers(tables regclass[])
returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    found record;
    enabling text[] := '{}';
begin
    for found in
        select t.tgname, t.tgrelid::regclass as of_table, t.tgenabled
        from pg_catalog.pg_trigger as t
        where not t.tgisinternal and t.tgparentid = 0 and t.tgenabled <> 'D' and (
            t.tgrelid = any(tables)
            or t.tgrelid in (select p.relid from unnest(tables) as f cross join lateral pg_partition_tree(f) as p)
        )
    loop
        execute format('alter table %s disable trigger %I', found.of_table, found.tgname);
        enabling := enabling || format(
            'alter table %s enable %s trigger %I', found.of_table,
            case found.tgenabled when 'A' then 'always' when 'R' then 'replica' else '' end, found.tgname
        );
    end loop;
    return enabling;
end
$$;

-- Foreign keys as {table, name, definition, columns}, to be made again by make_keys(). columns: in the app's table.
create function clerk_sync.described_keys(keys oid[])
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'table', c.conrelid::regclass::text, 'name', c.conname, 'definition', pg_get_constraintdef(c.oid),
        'columns', array(
            select a.attname from pg_catalog.pg_attribute as a where a.attrelid = c.conrelid and a.attnum = any(c.conkey)
        )
    ) order by c.conrelid, c.conname), '[]')
    from pg_catalog.pg_constraint as c where c.oid = any(keys)
$$;

-- The app's foreign keys to the tables of the mirror.
create function clerk_sync.keys_of_app()
returns oid[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with mirror as (
        select t.relation::regclass as of_table from clerk_sync.tables_of_instance() as t
    )

    select array(
        select c.oid from pg_catalog.pg_constraint as c
        where c.contype = 'f' and c.conparentid = 0
        and c.confrelid in (select m.of_table from mirror as m) and c.conrelid not in (select m.of_table from mirror as m)
    )
$$;

create function clerk_sync.drop_keys(keys jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    made record;
begin
    for made in select k.* from jsonb_to_recordset(keys) as k ("table" text, name text) loop
        if to_regclass(made."table") is not null then
            execute format('alter table %s drop constraint if exists %I', made."table", made.name);
        end if;
    end loop;
end
$$;

-- Makes foreign keys again, and returns their names. A key that rows do not satisfy any more is made as NOT VALID: it
-- holds for new rows, and a later call tries to validate it.
create function clerk_sync.make_keys(keys jsonb)
returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    made record;
    is_there boolean;
    not_valid text[] := '{}';
begin
    for made in
        select k.* from jsonb_to_recordset(keys) as k ("table" text, name text, definition text)
        where to_regclass(k."table") is not null
    loop
        is_there := exists (
            select from pg_catalog.pg_constraint as c
            where c.conrelid = made."table"::regclass and c.conname = made.name
        );
        begin
            execute case
                when is_there and made.definition ~ ' NOT (VALID|ENFORCED)$' then 'select'
                when is_there then format('alter table %s validate constraint %I', made."table", made.name)
                else format('alter table %s add constraint %I %s', made."table", made.name, made.definition)
            end;
        exception
            when foreign_key_violation then
                if not is_there then
                    execute format(
                        'alter table %s add constraint %I %s not valid', made."table", made.name, made.definition
                    );
                end if;
                not_valid := not_valid || format('%s on %s', made.name, made."table");
        end;
    end loop;
    return not_valid;
end
$$;

-- Waits for all batches and comparisons that have begun, and lets none begin before the end of the transaction. Ends
-- the runs at work; the next run compares everything.
create function clerk_sync.stop_flow()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    lock table clerk_sync.instance in access exclusive mode;
    lock table clerk_sync.reconcile_runs in access exclusive mode;
    perform clerk_sync.reset_runs('{"instance": false, "dry_run": false}');
end
$$;

create function clerk_sync.set_instance(id text)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    delete from clerk_sync.instance where true;
    insert into clerk_sync.instance (instance_id, first_run)
    select set_instance.id, coalesce((select max(r.run_id) from clerk_sync.reconcile_runs as r), 0) + 1
    where set_instance.id is not null
$$;

-- Empties the tables of the mirror. No trigger runs, so nothing of the app follows.
create function clerk_sync.empty_mirror()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array(select t.relation from clerk_sync.tables_of_instance() as t);
    enabling constant text[] := clerk_sync.disable_triggers(tables::regclass[]);
    statement text;
begin
    foreach statement in array format('truncate %s', array_to_string(tables, ', ')) || enabling loop
        execute statement;
    end loop;
end
$$;

-- The first step: the rows of the mirrored instance go into the archive, and the database mirrors another instance.
-- Feeds write no row until the second step.
create function clerk_sync.begin_switch(to_instance text, operator text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    keys constant jsonb := clerk_sync.described_keys(clerk_sync.keys_of_app());
    source record;
begin
    perform clerk_sync.stop_flow();
    insert into clerk_sync.instance_switches (from_instance, to_instance, began_by, foreign_keys)
    values ((select i.instance_id from clerk_sync.instance as i), to_instance, operator, keys);
    for source in select t.* from clerk_sync.tables_of_instance() as t loop
        execute format('lock table %s in access exclusive mode', source.relation);
        execute format(
            'insert into clerk_sync.archived_rows (relation, id, content) select %L, %s, to_jsonb(r.*) from %s as r',
            source.relation, source.key, source.relation
        );
    end loop;
    insert into clerk_sync.successors (old_id, kind, external_id, address, is_verified, reason)
    select
        a.id, k.kind, a.content ->> 'external_id', a.content ->> 'email', coalesce(
            (a.content ->> 'email_verified')::boolean, false
        ),
        case when k.kind <> 'user' then 'other_kind' when a.content ->> 'deleted_at' is not null then 'deleted' end
    from clerk_sync.archived_rows as a inner join clerk_sync.kinds as k on a.relation = k.relation
    where k.accompanies = '{}';
    perform clerk_sync.drop_keys(keys);
    perform clerk_sync.empty_mirror();
    perform clerk_sync.set_instance(to_instance);
    perform clerk_sync.suspend_feeds();
end
$$;

-- The open switch; null without one.
create function clerk_sync.open_switch()
returns clerk_sync.instance_switches
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select s.* from clerk_sync.instance_switches as s where s.ended_at is null
$$;

-- Columns that foreign keys connect, in both directions.
create function clerk_sync.connected_columns()
returns table (from_table regclass, from_column name, to_table regclass, to_column name)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select e.*
    from pg_catalog.pg_constraint as c
    cross join lateral unnest(c.conkey, c.confkey) as pair (own, other)
    inner join pg_catalog.pg_attribute as a on a.attrelid = c.conrelid and a.attnum = pair.own
    inner join pg_catalog.pg_attribute as b on b.attrelid = c.confrelid and b.attnum = pair.other
    cross join lateral (
        values (c.conrelid::regclass, a.attname, c.confrelid::regclass, b.attname),
        (c.confrelid::regclass, b.attname, c.conrelid::regclass, a.attname)
    ) as e
    where c.contype = 'f' and c.conparentid = 0
$$;

-- The app's columns that hold ids of Clerk, and why they are known: a foreign key to the mirror, a policy of secure(),
-- the key of a feed, a link, or `others`, [{table, column}]; and each column that a foreign key of the app connects
-- with such a column.
create function clerk_sync.columns_with_ids(others jsonb default '[]')
returns table (of_table regclass, column_name name, known_by text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive mirror as (
        select t.relation::regclass as of_table from clerk_sync.tables_of_instance() as t
    ),

    secured as (
        select p.oid, p.polrelid from pg_catalog.pg_policy as p where p.polname = 'clerk_sync_delete'
    ),

    named as (
        select to_regclass(k."table") as of_table, c.name::name as column_name, 'a foreign key' as known_by
        from jsonb_to_recordset(
            coalesce((clerk_sync.open_switch()).foreign_keys, clerk_sync.described_keys(clerk_sync.keys_of_app()))
        ) as k ("table" text, columns jsonb)
        cross join lateral jsonb_array_elements_text(k.columns) as c (name)
        union all
        select s.polrelid::regclass, a.attname, 'secure'
        from secured as s
        inner join pg_catalog.pg_depend as d
            on d.classid = 'pg_policy'::regclass and d.objid = s.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid = s.polrelid
        inner join pg_catalog.pg_attribute as a on a.attrelid = s.polrelid and a.attnum = d.refobjsubid and a.attnum > 0
        union all
        select l.relation::regclass, l.column_name, 'secure'
        from secured as s cross join lateral clerk_sync.lookups_of(s.polrelid) as l
        union all
        select to_regclass(f.target), k.name::name, 'a feed'
        from clerk_sync.feeds as f cross join lateral jsonb_object_keys(f.mapping -> 'key') as k (name)
        union all
        select to_regclass(l.relation), l.key_column::name, 'adopt link'
        from clerk_sync.links as l where l.undone_at is null
        union all
        select to_regclass(o."table"), o."column"::name, 'an option'
        from jsonb_to_recordset(others) as o ("table" text, "column" text)
    ),

    found as (
        select n.of_table, n.column_name, n.known_by from named as n
        union
        select e.to_table, e.to_column, 'a foreign key'
        from found as f
        inner join clerk_sync.connected_columns() as e on f.of_table = e.from_table and f.column_name = e.from_column
        where e.to_table not in (select m.of_table from mirror as m)
    )

    select distinct on (f.of_table::text, f.column_name) f.of_table, f.column_name, f.known_by
    from found as f
    inner join pg_catalog.pg_class as c on f.of_table = c.oid and c.relkind in ('r', 'p')
    inner join pg_catalog.pg_attribute as a on a.attrelid = c.oid and f.column_name = a.attname
    -- Texts of any type: a foreign key may also be of a domain.
    inner join pg_catalog.pg_type as y on a.atttypid = y.oid and y.typcategory = 'S'
    where not a.attisdropped and a.attgenerated = ''
    and c.relnamespace <> 'clerk_sync'::regnamespace and c.oid not in (select m.of_table from mirror as m)
    order by f.of_table::text, f.column_name, f.known_by
$$;

-- The rows of a column of the app by the id of the old instance that they hold, with the successor of the id.
create function clerk_sync.old_ids_in(of_table regclass, column_name name)
returns table (old_id text, new_id text, reason text, row_count bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
    return query execute format(
        'select s.old_id::text, s.new_id::text, s.reason, count(*) from %s as t '
        'inner join clerk_sync.successors as s on s.old_id = t.%I::text collate "C" group by s.old_id order by 1',
        of_table, column_name
    );
end
$$;

-- The number of rows of a column of the app that hold ids of the mirrored instance.
create function clerk_sync.rows_with_ids(of_table regclass, column_name name)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
declare
    counted bigint;
begin
    execute format(
        'select count(*) from %s as t where t.%I::text collate "C" in (select e.id from clerk_sync.entities as e)',
        of_table, column_name
    ) into counted;
    return counted;
end
$$;

-- Whether a column has a unique index of its own.
create function clerk_sync.is_unique(of_table regclass, column_name name)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.pg_index as i
        inner join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where i.indrelid = of_table and i.indisunique and i.indnkeyatts = 1 and a.attname = column_name
    )
$$;

-- The second step, for tables that foreign keys connect: replaces the ids of the old instance by their successors, or
-- back, in columns [{table, column}]. No trigger of the app runs; foreign keys between the tables are made again at the
-- end. A row of a unique column stays if another row has the new id. Returns the number of values that were replaced.
create function clerk_sync.move_ids(columns jsonb, is_back boolean default false)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
declare
    tables constant regclass[] := array(
        select distinct c."table"::regclass from jsonb_to_recordset(columns) as c ("table" text) order by 1
    );
    keys jsonb;
    enabling text[];
    changed record;
    statement text;
    counted bigint;
    replaced bigint := 0;
begin
    execute format('lock table %s in access exclusive mode', array_to_string(tables, ', '));
    keys := clerk_sync.described_keys(array(
        select c.oid from pg_catalog.pg_constraint as c
        where c.contype = 'f' and c.conparentid = 0 and c.conrelid = any(tables) and c.confrelid = any(tables)
    ));
    perform clerk_sync.drop_keys(keys);
    enabling := clerk_sync.disable_triggers(tables);
    for changed in select c.* from jsonb_to_recordset(columns) as c ("table" text, "column" name) loop
        execute format(
            'update %1$s as t set %2$I = s.%4$I from clerk_sync.successors as s '
            'where t.%2$I::text collate "C" = s.%3$I and s.new_id is not null and (%5$s)',
            changed."table", changed."column",
            case when is_back then 'new_id' else 'old_id' end, case when is_back then 'old_id' else 'new_id' end,
            case when clerk_sync.is_unique(changed."table"::regclass, changed."column") then format(
                'not exists (select from %s as o where o.%I::text collate "C" = s.%I)', changed."table",
                changed."column", case when is_back then 'old_id' else 'new_id' end
            ) else 'true' end
        );
        get diagnostics counted = row_count;
        replaced := replaced + counted;
    end loop;
    foreach statement in array enabling loop
        execute statement;
    end loop;
    if clerk_sync.make_keys(keys) <> '{}' then
        raise foreign_key_violation using message = format('a foreign key between %s rejects the new ids', tables);
    end if;
    update clerk_sync.instance_switches as s set moved_columns = array_to_json(array(
        select distinct c from jsonb_array_elements(s.moved_columns || columns) as c
    ))::jsonb
    where s.ended_at is null;
    return replaced;
end
$$;

create function clerk_sync.suspend_feeds()
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update clerk_sync.feeds as f set suspended_until = '9999-12-31 00:00+00' where true;
    delete from clerk_sync.unfed_rows where true
$$;

create function clerk_sync.resume_feeds()
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update clerk_sync.feeds as f set suspended_until = null where f.suspended_until = '9999-12-31 00:00+00'
$$;

-- The links of `adopt link` name the same users as the app's rows.
create function clerk_sync.move_links(is_back boolean)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update clerk_sync.links as l set clerk_id = case when is_back then s.old_id else s.new_id end
    from clerk_sync.successors as s
    where s.new_id is not null and l.clerk_id = case when is_back then s.new_id else s.old_id end
$$;

-- The end of the second step: the app's foreign keys to the mirror are made again, and feeds go on. Returns the names
-- of the keys that rows do not satisfy.
create function clerk_sync.finish_move()
returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    not_valid constant text[] := clerk_sync.make_keys((clerk_sync.open_switch()).foreign_keys);
begin
    perform clerk_sync.move_links(false);
    perform clerk_sync.resume_feeds();
    update clerk_sync.instance_switches as s set moved_at = clock_timestamp() where s.ended_at is null;
    return not_valid;
end
$$;

create function clerk_sync.end_switch(outcome text)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    delete from clerk_sync.archived_rows where true;
    delete from clerk_sync.successors where true;
    update clerk_sync.instance_switches as s set ended_at = clock_timestamp(), outcome = end_switch.outcome
    where s.ended_at is null
$$;

-- The third step: removes the archive, what the audit log holds of its rows, and parked events of the old instance.
create function clerk_sync.confirm_switch(operator text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    switch constant clerk_sync.instance_switches := clerk_sync.open_switch();
begin
    update clerk_sync.audit_log as a set old_values = null, new_values = null
    from clerk_sync.successors as s where a.entity_id = s.old_id and a.kind = s.kind;
    update clerk_sync.parked_events as p set body = null, discarded_at = clock_timestamp(), discarded_by = operator
    where p.discarded_at is null and clerk_sync.readable(p.body) ->> 'instance_id' = switch.from_instance;
    perform clerk_sync.end_switch('confirmed');
end
$$;

-- Writes the rows of the archive into the tables of the mirror, which are empty. No trigger runs.
create function clerk_sync.restore_archive()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    tables constant text[] := array(select t.relation from clerk_sync.tables_of_instance() as t);
    enabling constant text[] := clerk_sync.disable_triggers(tables::regclass[]);
    target text;
    statement text;
    columns text;
begin
    foreach target in array tables loop
        -- A column that a migration added since takes its default value.
        select string_agg(quote_ident(a.attname), ', ') into columns
        from pg_catalog.pg_attribute as a
        where a.attrelid = target::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
        and exists (select from clerk_sync.archived_rows as r where r.relation = target and r.content ? a.attname);
        continue when columns is null;
        execute format(
            'insert into %1$s (%2$s) overriding system value '
            'select %2$s from ('
            'select r.* from clerk_sync.archived_rows as a '
            'cross join lateral jsonb_populate_record(null::%1$s, a.content) as r where a.relation = %1$L) as restored',
            target, columns
        );
    end loop;
    foreach statement in array enabling loop
        execute statement;
    end loop;
end
$$;

-- Begins to go back to the old instance: the state is as before the second step, but for the ids in the app's tables.
create function clerk_sync.begin_undo()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform clerk_sync.drop_keys((clerk_sync.open_switch()).foreign_keys);
    perform clerk_sync.suspend_feeds();
    update clerk_sync.instance_switches as s set moved_at = null where s.ended_at is null;
end
$$;

-- Goes back to the old instance, after move_ids(..., is_back => true) of every moved column: the rows of the new
-- instance are removed, and those of the archive restored. Returns the names of the keys that rows do not satisfy.
create function clerk_sync.undo_switch()
returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    switch constant clerk_sync.instance_switches := clerk_sync.open_switch();
    not_valid text[];
begin
    perform clerk_sync.stop_flow();
    perform clerk_sync.move_links(true);
    perform clerk_sync.empty_mirror();
    perform clerk_sync.restore_archive();
    not_valid := clerk_sync.make_keys(switch.foreign_keys);
    perform clerk_sync.set_instance(switch.from_instance);
    delete from clerk_sync.unfed_rows where true;
    perform clerk_sync.resume_feeds();
    perform clerk_sync.end_switch('undone');
    return not_valid;
end
$$;

select clerk_sync.revoke_default_rights();
grant execute on function clerk_sync.apply_from(jsonb, jsonb, boolean) to clerk_sync_worker;

insert into clerk_sync.migrations (name) values ('0038_create_instance');
