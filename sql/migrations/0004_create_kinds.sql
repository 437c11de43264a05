-- Kinds of objects that are synced: the versions of their entities, their tombstones, and the functions that
-- clerk_sync.register() generates for the table of each kind.

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
    delete_run bigint,
    shown_at bigint,
    delete_recorded_at timestamptz,
    purged_at timestamptz,
    primary key (kind, id),
    -- What no timestamp holds would fail in every statement that reads it, long after it was written.
    constraint entities_deleted_at_check check (deleted_at between 0 and 253402300799999)
) with (fillfactor = 85);

comment on column clerk_sync.entities.deleted_at is
'Tombstone, Clerk''s clock, milliseconds: the earliest event of the delete, or, with a delete_run, the newest proof.';
comment on column clerk_sync.entities.delete_run is
'The comparison that alone tells of the delete; 0: a resync. Null once an event told of it: then it is never lifted.';
comment on column clerk_sync.entities.shown_at is
'When Clerk''s API last showed the object, of the reads that were applied, by Clerk''s clock, milliseconds. What a '
'comparison deleted before that moment exists.';
comment on column clerk_sync.entities.delete_recorded_at is
'When this database first heard of the delete, by its own clock: the hold-back counts from here.';
comment on column clerk_sync.entities.purged_at is
'When the row of a deleted entity was purged. Whatever arrives later, for it or for its children, writes no row.';

alter table clerk_sync.entities enable row level security;

-- What can be synced: one row per kind, written by clerk_sync.register().
create table clerk_sync.kinds (
    kind text primary key,
    write_order integer not null unique,
    relation text not null,
    key_column name not null,
    mirrored_columns name[] not null,
    parents jsonb not null
);

comment on column clerk_sync.kinds.write_order is 'Parents before children.';
comment on column clerk_sync.kinds.relation is 'Its table, spelled as in a statement.';
comment on column clerk_sync.kinds.parents is '{"column": "kind of the entity it names"}';

alter table clerk_sync.kinds enable row level security;

-- One change of a batch, or all changes of one entity drawn together. Its content, every mirrored column, stays in the
-- batch at "position". deleted_at (Clerk's clock, ms) makes it a delete, whose version is below every other. Only all
-- changes of one entity say: is_held: the entity must be locked, whether or not the changes advance it; shown_at: when
-- an API read among them showed the object.
create type clerk_sync.change as (
    "position" integer,
    kind text collate "C",
    id text collate "C",
    version clerk_sync.version,
    deleted_at bigint,
    cause text,
    svix_id text collate "C",
    event_type text,
    received_at bigint,
    is_held boolean,
    shown_at bigint
);

-- What became of one entity of a batch in its table.
create type clerk_sync.written as (
    kind text collate "C",
    id text collate "C",
    outcome text
);

-- A row that does not say what content says of its entity; fields: the columns that differ, null without a row;
-- emptied: those of them that have a value, which content would take away.
create type clerk_sync.difference as (
    kind text collate "C",
    id text collate "C",
    fields text [],
    emptied text []
);

-- Whether a value says nothing. A flag says something only when it is set: a ban that is gone is one value less.
create function clerk_sync.is_empty(value jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select value is null or value in ('null', '""', '[]', '{}', 'false')
$$;

-- Teaches apply() a kind, by writing four set-based functions for its table:
--   write_<kind>: inserts and updates rows from content, and touches none that already says the same;
--   fill_<kind>, where there are no parents: writes rows of entities nobody had heard of;
--   differing_<kind>: finds the rows that do not say the same as content, or are not there;
--   hide_<kind>: sets deleted_at on rows whose own entity, or one of whose parents, was deleted;
-- and by having its changes audited. The table needs key_column as its primary key and a column deleted_at: always
-- the earliest delete of the row's entity and its parents. parents: {"column": "kind of the entity it names"}. A column
-- that is neither key, parent nor mirrored stays the app's own: row_<kind>, the type in which rows are compared, has
-- only the others.
-- The key of a row is the id of its element, and deleted_at comes from tombstones, whatever content says of either.
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
set search_path = pg_catalog, pg_temp
as $register$
declare
    own_columns constant name[] := key_column || mirrored_columns || array['deleted_at']::name[]
    || array(select key::name from jsonb_each_text(parents));
    -- Of the parents that said.content names: their entities, when they were deleted, and that none is purged.
    parent_entities constant text := (
        select string_agg(
            format(
                'left join lateral (select e.deleted_at, e.purged_at from clerk_sync.entities as e '
                || 'where e.kind = %2$L and e.id = said.content ->> %3$L limit 1) as %1$I on true',
                'parent_' || key, value, key
            ),
            ' '
        )
        from jsonb_each_text(parents)
    );
    parent_deletes constant text := (
        select string_agg(format(', %I.deleted_at', 'parent_' || key), '') from jsonb_each_text(parents)
    );
    -- A row that moved to a parent deleted long ago would be purged at once. Clerk never moves one.
    may_be_written constant text := (
        select string_agg(
            format(
                ' and %1$I.purged_at is null and (%1$I.deleted_at is not null and kept.%2$I <> given.%2$I) is not true',
                'parent_' || key, key
            ),
            ''
        )
        from jsonb_each_text(parents)
    );
    -- A row_<kind> as it has to be, of the element `said`: its columns by the order of the type.
    row_said constant text := (
        select string_agg(
            case a.attname
                when key_column then 'said.id'
                when 'deleted_at' then 'earliest.deleted_at'
                else format('given.%I', a.attname)
            end,
            ', ' order by a.attnum
        )
        from pg_catalog.pg_attribute as a where a.attrelid = relation and a.attname = any(own_columns)
    );
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
            create or replace function clerk_sync.%1$I(batch jsonb, winners clerk_sync.change[])
            returns setof clerk_sync.written
            language plpgsql
            set search_path = pg_catalog, pg_temp
            as $body$
            #variable_conflict use_variable
            declare
                missing clerk_sync.%12$I[];
                changed clerk_sync.%12$I[];
            begin
                select
                    array_agg(row(%14$s)::clerk_sync.%12$I) filter (where kept.%3$I is null),
                    array_agg(row(%14$s)::clerk_sync.%12$I) filter (where kept.%3$I is not null)
                into missing, changed
                from (select w.* from unnest(winners) as w order by w.id) as winner
                cross join lateral (
                    select winner.id collate "default" as id, batch -> winner."position" -> 'content' as content
                ) as said
                %8$s
                cross join lateral (
                    select to_timestamp(least(winner.deleted_at %7$s) / 1000.0) as deleted_at
                ) as earliest
                cross join lateral jsonb_populate_record(null::clerk_sync.%12$I, said.content) as given
                left join lateral (select k.* from %2$s as k where k.%3$I = said.id limit 1) as kept on true
                where (kept.%3$I is null or (%6$s) is distinct from (%15$s)) %13$s;

                if changed is not null then
                    return query update %2$s as kept set %4$s
                    from (select g.* from unnest(changed) as g limit cardinality(changed)) as given
                    where kept.%3$I = given.%3$I
                    returning %9$L::text, kept.%3$I, 'updated';
                end if;
                if missing is not null then
                    -- The app may have made the row a moment ago.
                    return query insert into %2$s as kept (%3$I, %10$s)
                    select given.%3$I, %5$s from unnest(missing) as given
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
            parent_deletes, parent_entities, kind_name,
            string_agg(format('%I', c), ', '),
            string_agg(format('%1$I = excluded.%1$I', c), ', '),
            'row_' || kind_name, may_be_written, row_said,
            string_agg(case c when 'deleted_at' then 'earliest.deleted_at' else format('given.%I', c) end, ', ')
        )
        from unnest(own_columns) as c where c <> key_column
    );
    if parents = '{}' then
        -- What is new has no row to be compared with, except one that the app made.
        execute (
            select format(
                $template$
                create or replace function clerk_sync.%1$I(page jsonb, added clerk_sync.change[])
                returns void
                language plpgsql
                set search_path = pg_catalog, pg_temp
                as $body$
                #variable_conflict use_variable
                begin
                    insert into %2$s as kept (%3$I, %4$s)
                    select a.id, %5$s
                    from unnest(added) as a
                    cross join lateral jsonb_populate_record(
                        null::clerk_sync.%6$I, page -> a."position" -> 'content'
                    ) as given
                    where a.kind = %7$L
                    order by a.id
                    on conflict (%3$I) do update set %8$s;
                end
                $body$
                $template$,
                'fill_' || kind_name, relation, key_column,
                string_agg(format('%I', c), ', '),
                string_agg(format('given.%I', c), ', '),
                'row_' || kind_name, kind_name,
                string_agg(format('%1$I = excluded.%1$I', c), ', ')
            )
            from unnest(mirrored_columns) as c
        );
    end if;
    -- The same comparison as in write_<kind>, for objects whose version nobody looks at.
    execute (
        select format(
            $template$
            create or replace function clerk_sync.%1$I(objects jsonb)
            returns setof clerk_sync.difference
            language plpgsql
            stable
            set search_path = pg_catalog, pg_temp
            as $body$
            begin
            return query
            select
                %2$L::text, said.id,
                case when kept.%4$I is not null then array_remove(array[%5$s], null) end,
                case when kept.%4$I is not null then array_remove(array[%12$s]::text[], null) end
            from jsonb_array_elements(objects) as object
            cross join lateral (select object ->> 'id' as id, object -> 'content' as content) as said
            left join lateral (
                select e.deleted_at from clerk_sync.entities as e
                where e.kind = %2$L and e.id = said.id limit 1
            ) as entity on true
            %6$s
            cross join lateral (
                select to_timestamp(least(entity.deleted_at %7$s) / 1000.0) as deleted_at
            ) as earliest
            cross join lateral jsonb_populate_record(null::clerk_sync.%8$I, said.content) as given
            left join lateral (select k.* from %3$s as k where k.%4$I = said.id limit 1) as kept on true
            where object ->> 'kind' = %2$L and jsonb_typeof(object -> 'content') = 'object'
            and (kept.%4$I is null or (%9$s) is distinct from (%10$s)) %11$s;
            end
            $body$
            $template$,
            'differing_' || kind_name, kind_name, relation, key_column,
            string_agg(
                format('case when kept.%1$I is distinct from %2$I.%1$I then %1$L end', c, w.says_it), ', '
            ),
            parent_entities, parent_deletes, 'row_' || kind_name,
            string_agg(format('kept.%I', c), ', '),
            string_agg(format('%I.%I', w.says_it, c), ', '),
            may_be_written,
            -- deleted_at is no word of Clerk's.
            string_agg(
                format(
                    'case when kept.%1$I is distinct from given.%1$I and clerk_sync.is_empty(to_jsonb(given.%1$I)) '
                    || 'and not clerk_sync.is_empty(to_jsonb(kept.%1$I)) then %1$L end',
                    c
                ), ', '
            ) filter (where c <> 'deleted_at')
        )
        from unnest(own_columns) as c
        cross join lateral (select case c when 'deleted_at' then 'earliest' else 'given' end as says_it) as w
        where c <> key_column
    );
    -- Two deletes may reach the same row by different parents, so rows are locked by key before any is written. The
    -- lock lets rows of the app point to these meanwhile.
    execute (
        select format(
            $template$
            create or replace function clerk_sync.%1$I(deleted clerk_sync.change[])
            returns void
            language plpgsql
            set search_path = pg_catalog, pg_temp
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
                    'kept.%I = any(array(select d.id collate "default" from unnest(deleted) as d where d.kind = %L))',
                    link.key, link.value
                ),
                ' or '
            ),
            string_agg(format('(d.kind = %2$L and d.id collate "default" = named.%1$I)', link.key, link.value), ' or ')
        )
        from jsonb_each_text(parents || jsonb_build_object(key_column, kind_name)) as link
    );
    if is_audited then
        -- Who writes is asked here, because record_changes() runs as the owner. A cascade runs as the owner, too: it is
        -- told by its depth.
        execute (
            select string_agg(
                format(
                    'create or replace trigger audit_%1$s%7$s after %1$s on %2$s referencing %3$s for each statement '
                    || 'when (%8$s (pg_catalog.pg_trigger_depth() = 0 '
                    || 'and pg_catalog.has_schema_privilege(''clerk_sync'', ''create''))) '
                    || 'execute function clerk_sync.record_changes(%4$L, %5$L, %6$L, %9$L)',
                    audited.operation, relation, audited.tables, kind_name, key_column, own_columns,
                    writer.suffix, writer.negation, writer.suffix = ''
                ),
                ';'
            )
            from (
                values
                ('insert', 'new table as new_rows'),
                ('update', 'old table as old_rows new table as new_rows'),
                ('delete', 'old table as old_rows')
            ) as audited (operation, tables)
            cross join (values ('', ''), ('_by_others', 'not')) as writer (suffix, negation)
        );
    end if;
    insert into clerk_sync.kinds (kind, write_order, relation, key_column, mirrored_columns, parents)
    values (kind_name, kind_order, relation, key_column, mirrored_columns, parents)
    on conflict on constraint kinds_pkey do update set
        write_order = excluded.write_order, relation = excluded.relation, key_column = excluded.key_column,
        mirrored_columns = excluded.mirrored_columns, parents = excluded.parents;

    -- Written out for the kinds there are: a statement built at every call would be planned at every call.
    execute (
        select format(
            $template$
            create or replace function clerk_sync.write_rows(target text, batch jsonb, winners clerk_sync.change[])
            returns setof clerk_sync.written
            language plpgsql
            set search_path = pg_catalog, pg_temp
            as $body$
            begin
                case target %s end case;
            end
            $body$
            $template$,
            string_agg(
                format('when %L then return query select * from clerk_sync.%I(batch, winners);', kind, 'write_' || kind),
                ' '
            )
        )
        from clerk_sync.kinds
    );
    execute (
        select format(
            $template$
            create or replace function clerk_sync.hide_rows(deleted clerk_sync.change[])
            returns void
            language plpgsql
            set search_path = pg_catalog, pg_temp
            as $body$
            begin
                %s
            end
            $body$
            $template$,
            string_agg(format('perform clerk_sync.%I(deleted);', 'hide_' || kind), ' ' order by write_order)
        )
        from clerk_sync.kinds
    );
    perform clerk_sync.revoke_default_rights();
end
$register$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0004_create_kinds');
