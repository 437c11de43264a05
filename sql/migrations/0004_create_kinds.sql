-- The kinds of synced objects: the versions of their entities, their tombstones, and the functions that
-- clerk_sync.register() generates for the table of each kind.

-- Which write is newer is decided by Clerk's clock alone; a hash of the content breaks an exact tie in the same way for
-- webhooks and for reads of the API.
create type clerk_sync.version as (
    source_updated_at bigint,
    observed_at bigint,
    tie_breaker bigint
);

-- The newest version seen of every entity, and its tombstone. This table is separate from the tables of the app: a
-- write without a change of content (Clerk bumps updated_at at every sign-in) fires no trigger and no Realtime message
-- there.
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
    -- A number beyond the range of timestamps would make every later statement that reads the row fail.
    constraint entities_deleted_at_check check (deleted_at between 0 and 253402300799999)
) with (fillfactor = 85);

comment on column clerk_sync.entities.deleted_at is
'Tombstone, Clerk''s clock, milliseconds: the earliest event of the delete, or, with a delete_run, the newest proof.';
comment on column clerk_sync.entities.delete_run is
'The only comparison that proves the delete; 0: a resync. Null after an event told the delete: then never lifted.';
comment on column clerk_sync.entities.shown_at is
'When Clerk''s API last showed the object, of the reads that were applied, by Clerk''s clock, milliseconds. An object '
'that a comparison deleted before that moment exists.';
comment on column clerk_sync.entities.delete_recorded_at is
'When this database first heard of the delete, by its own clock: the hold-back counts from here.';
comment on column clerk_sync.entities.purged_at is
'When the row of a deleted entity was purged. No later event, of the entity or of its children, writes a row.';

alter table clerk_sync.entities enable row level security;

-- Parents whose children are hidden in parts, or shown again: apply() hides or shows at most rows_in_part() children of
-- each kind, and continue_deletes() goes on with the rest. Each session that writes a row here has locked its entity.
create table clerk_sync.unfinished_deletes (
    kind text collate "C" not null,
    id text collate "C" not null,
    is_deleted boolean not null,
    began_at timestamptz not null default clock_timestamp(),
    primary key (kind, id)
);

comment on table clerk_sync.unfinished_deletes is
'Deleted objects with child rows that are not hidden yet. No user sees a row of these objects.';
comment on column clerk_sync.unfinished_deletes.is_deleted is
'False: the delete was undone, and some child rows are not shown again yet.';

alter table clerk_sync.unfinished_deletes enable row level security;

-- The most rows of a kind that one statement hides with their parents. A trigger of the app may take ten milliseconds
-- for each of these rows within the limit of a statement.
create function clerk_sync.rows_in_part()
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select 1000
$$;

-- Rows in which a trigger of the app stores another value than Clerk's. A row here counts while the entity has this
-- version, and while the last write is not too old: see kept_by_the_app().
create table clerk_sync.altered_rows (
    kind text collate "C" not null,
    id text collate "C" not null,
    version clerk_sync.version not null,
    fields text[] not null,
    written_at timestamptz not null default clock_timestamp(),
    primary key (kind, id)
);

comment on table clerk_sync.altered_rows is
'Rows in which a trigger of the app stores another value than Clerk''s. Comparisons name these rows, and write each of '
'them again after a week, after a new version, or once its line here is deleted.';
comment on column clerk_sync.altered_rows.fields is 'The columns that differ from Clerk''s object.';

alter table clerk_sync.altered_rows enable row level security;

-- The kinds that can be synced: one row per kind, written by clerk_sync.register().
create table clerk_sync.kinds (
    kind text primary key,
    write_order integer not null unique,
    relation text not null,
    key_column name not null,
    mirrored_columns name[] not null,
    parents jsonb not null,
    accompanies text[] not null default '{}',
    is_read_by_id boolean not null default false
);

comment on column clerk_sync.kinds.write_order is 'Parents before children.';
comment on column clerk_sync.kinds.relation is 'Its table, spelled as in a statement.';
comment on column clerk_sync.kinds.parents is '{"column": "kind of the named entity"}';
comment on column clerk_sync.kinds.accompanies is
'Kinds of which each object may have one of this kind, under its own id. Empty for a kind that has ids of its own.';
comment on column clerk_sync.kinds.is_read_by_id is
'Clerk''s API reads an object of this kind by its id, or by the ids of its parents.';

alter table clerk_sync.kinds enable row level security;

-- One change of a batch, or all changes of one entity drawn together. Its content, every mirrored column, stays in the
-- batch at "position". deleted_at (Clerk's clock, ms) makes it a delete, whose version is below every other. Only set
-- for all changes of one entity: is_held: the entity must be locked, whether or not the changes advance the entity;
-- shown_at: when an API read among the changes showed the object.
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

-- A row that differs from the content of its entity. fields: the columns that differ, null without a row; emptied: the
-- columns among these with a value here and no value in the content.
create type clerk_sync.difference as (
    kind text collate "C",
    id text collate "C",
    fields text [],
    emptied text []
);

-- Whether a value is empty. A flag that is not set counts as empty: a ban lifted in Clerk is a value lost by the row.
create function clerk_sync.is_empty(value jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select value is null or value in ('null', '""', '[]', '{}', 'false')
$$;

-- Raises an error for a row of a table that a trigger of the app keeps as it was: the trigger itself raised none.
create function clerk_sync.refuse_kept_row(relation text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise restrict_violation using
        message = 'a trigger of the app keeps the row as it was',
        constraint = 'a trigger of the app keeps the row', table = relation;
end
$$;

-- Raises an error for a row that a trigger of the app wrote under another key, or removed after the write.
create function clerk_sync.refuse_lost_row(relation text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise restrict_violation using
        message = 'a trigger of the app removes the row, or changes its key',
        constraint = 'a trigger of the app removes the row, or changes its key', table = relation;
end
$$;

-- Notes the rows of a kind that a trigger of the app altered: {id: [columns that differ]}.
create function clerk_sync.note_altered(of_kind text, altered jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into clerk_sync.altered_rows as known (kind, id, version, fields)
    select of_kind, e.id, e.version, array(select jsonb_array_elements_text(altered -> e.id))
    from clerk_sync.entities as e
    where e.kind = of_kind and e.id in (select jsonb_object_keys(altered))
    order by e.id
    on conflict (kind, id) do update set
        version = excluded.version, fields = excluded.fields, written_at = excluded.written_at;
end
$$;

-- The columns of a row in which the app's trigger keeps another value than Clerk's, by the last write; null without
-- such columns, after somebody edited one of them by hand, and after a week, when a comparison writes the row again:
-- the trigger may be gone.
create function clerk_sync.kept_by_the_app(known clerk_sync.entities)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select a.fields from clerk_sync.altered_rows as a
        where a.kind = known.kind and a.id = known.id and a.version = known.version
        and a.written_at > clock_timestamp() - interval '7 days'
        and not exists (
            select from clerk_sync.audit_log as l
            where l.entity_id = known.id and l.kind = known.kind and l.cause like 'direct:%'
            and l.recorded_at > a.written_at and l.changed_columns && a.fields
        )
    );
end
$$;

-- The columns of a kind's table that name the row's parents.
create function clerk_sync.parent_columns(of_kind clerk_sync.kinds)
returns name[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(select p.key::name from jsonb_each_text(of_kind.parents) as p)
$$;

-- The columns of a kind's table that sync writes, the key first. Any other column of the table is the app's own.
create function clerk_sync.own_columns(of_kind clerk_sync.kinds)
returns name[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select of_kind.key_column || of_kind.mirrored_columns || array['deleted_at']::name[]
    || clerk_sync.parent_columns(of_kind)
$$;

-- The columns by which a row is linked to entities, its own and its parents: {"column": "kind of the named entity"}.
create function clerk_sync.links_of(of_kind clerk_sync.kinds)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select of_kind.parents || jsonb_build_object(of_kind.key_column, of_kind.kind)
$$;

-- The pattern, as format() takes it, once for each name: of columns `%1$I`.
create function clerk_sync.for_each(pattern text, names name[], separator text default ', ')
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format(pattern, n.name), separator order by n.place)
    from unnest(names) with ordinality as n (name, place)
$$;

-- The pattern once for each link of a row to an entity, {"column": "kind"}: %1$I is the column, %2$L the kind of the
-- entity in this column, and %3$I a name for that entity in a statement. Empty without links.
create function clerk_sync.for_each_link(pattern text, links jsonb, separator text default '')
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(string_agg(format(pattern, l.key, l.value, 'parent_' || l.key), separator), '')
    from jsonb_each_text(links) as l
$$;

-- The template with its holes filled: {name} becomes the text under this name. The template has no other braces.
create function clerk_sync.statement_of(template text, holes jsonb)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    pieces constant text[] := string_to_array(template, '{');
    filled text := pieces[1];
    piece text;
    hole text;
begin
    foreach piece in array pieces[2:] loop
        hole := split_part(piece, '}', 1);
        if holes ->> hole is null then
            raise undefined_parameter using message = format('nothing fills the hole {%s}', hole);
        end if;
        filled := filled || (holes ->> hole) || substr(piece, length(hole) + 2);
    end loop;
    return filled;
end
$$;

-- The holes that the statements below have in common. `said` is an element of a batch, `kept` the row in the table,
-- `given` the content as a row of the kind's type, `earliest` the first delete of the row's entity and its parents. A
-- column that the content does not name keeps its value: some objects of Clerk come in a longer and in a shorter form.
create function clerk_sync.holes_of(of_kind clerk_sync.kinds)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object(
        'kind', quote_literal(of_kind.kind),
        'table', of_kind.relation,
        'table_name', quote_literal(of_kind.relation),
        'key', quote_ident(of_kind.key_column),
        'row_type', quote_ident('row_' || of_kind.kind),
        'columns', clerk_sync.for_each('%1$I', c.columns),
        'given_columns', clerk_sync.for_each('given.%1$I', c.columns),
        'kept_columns', clerk_sync.for_each('kept.%1$I', c.columns),
        'kept_row', (
            select string_agg(format('kept.%I', a.attname), ', ' order by a.attnum)
            from pg_catalog.pg_attribute as a
            where a.attrelid = of_kind.relation::regclass and a.attname = any(clerk_sync.own_columns(of_kind))
        ),
        'said_columns', concat_ws(
            ', ', clerk_sync.for_each('given.%1$I', of_kind.mirrored_columns), 'earliest.deleted_at',
            clerk_sync.for_each('given.%1$I', clerk_sync.parent_columns(of_kind))
        ),
        'set_given', clerk_sync.for_each('%1$I = given.%1$I', c.columns),
        'set_excluded', clerk_sync.for_each('%1$I = excluded.%1$I', c.columns),
        -- Of the parents that `given` names: their entities, the times of their deletes, and the condition that no
        -- parent is purged.
        'join_parents', clerk_sync.for_each_link(
            'left join lateral (select e.deleted_at, e.purged_at from clerk_sync.entities as e '
            'where e.kind = %2$L and e.id = given.%1$I limit 1) as %3$I on true',
            of_kind.parents, ' '
        ),
        'parent_deletes', clerk_sync.for_each_link(', %3$I.deleted_at', of_kind.parents),
        -- A row that moved to a parent deleted long ago would be purged at once. Clerk never moves a row.
        'and_may_be_written', clerk_sync.for_each_link(
            ' and %3$I.purged_at is null and (%3$I.deleted_at is not null and kept.%1$I <> given.%1$I) is not true',
            of_kind.parents
        )
    )
    from (select (clerk_sync.own_columns(of_kind))[2:] as columns) as c
$$;

-- row_<kind>: the type in which rows are compared. The type has only the columns that sync writes, in the order of the
-- table.
create function clerk_sync.definition_of_row(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'create type clerk_sync.%I as (%s)', 'row_' || of_kind.kind,
        string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum)
    )
    from pg_catalog.pg_attribute as a
    where a.attrelid = of_kind.relation::regclass and a.attname = any(clerk_sync.own_columns(of_kind))
$$;

-- The holes of the statements of write_<kind>.
create function clerk_sync.holes_of_write(of_kind clerk_sync.kinds)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.holes_of(of_kind) || jsonb_build_object(
        'write_kind', quote_ident('write_' || of_kind.kind),
        'none', '{}',
        'kind_of_entity', quote_literal(of_kind.kind || ' '),
        'key_name', quote_literal(of_kind.key_column),
        -- Parents have keys of text, as all entities.
        'name_parents', coalesce('cross join lateral (select ' || clerk_sync.for_each(
            'case when said.content ? %1$L then said.content ->> %1$L else kept.%1$I end as %1$I',
            clerk_sync.parent_columns(of_kind)
        ) || ') as given', ''),
        -- What is known of the row without the content, with its columns in the order of the type.
        'known_row', (
            select string_agg(
                case a.attname
                    when of_kind.key_column then 'said.id'
                    when 'deleted_at' then clerk_sync.statement_of(
                        'to_timestamp(least(winner.deleted_at {parent_deletes}) / 1000.0)', clerk_sync.holes_of(of_kind)
                    )
                    else format('kept.%I', a.attname)
                end,
                ', ' order by a.attnum
            )
            from pg_catalog.pg_attribute as a
            where a.attrelid = of_kind.relation::regclass and a.attname = any(clerk_sync.own_columns(of_kind))
        )
    )
$$;

-- Whether a condition about the catalogs holds, for a statement that reads the table of a kind. Declared immutable,
-- although it reads the catalogs: so Postgres computes it once, when Postgres plans the statement. Each change of the
-- table, of its columns and of its triggers, makes Postgres plan again every statement that reads the table. For no
-- other statement. The snapshot of the statement that is being planned may be older than the change: a volatile
-- function sees the catalogs as they are.
create function clerk_sync.holds_now(condition text)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    answer boolean;
begin
    execute 'select ' || condition into answer;
    return answer;
end
$$;

create function clerk_sync.holds_when_planned(condition text)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return clerk_sync.holds_now(condition);
end
$$;

-- The condition that a function of the app may store another value than Clerk's, unseen by the audit log: a function
-- that runs before the write of each row; of a kind without an audit log, any function.
create function clerk_sync.has_trigger_of_app(of_kind clerk_sync.kinds, is_audited boolean)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'exists (select from pg_catalog.pg_trigger as t inner join pg_catalog.pg_proc as p on t.tgfoid = p.oid '
        'where t.tgrelid = %L::regclass and %s and t.tgenabled <> ''D'' '
        'and p.pronamespace <> ''clerk_sync''::regnamespace)',
        of_kind.relation, case when is_audited then 't.tgtype & 3 = 3' else 'not t.tgisinternal' end
    )
$$;

-- The part of write_<kind> for the rows `missing`: outcomes into `created`.
create function clerk_sync.insertion_of_missing(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $part$
            -- Not `on conflict do update`, which also fires the triggers of updates.
            with written as (
                insert into {table} as kept ({key}, {columns})
                select given.{key}, {given_columns} from unnest(missing) as given
                on conflict ({key}) do nothing
                returning kept.{key}, case when is_watched then row({kept_row})::clerk_sync.{row_type} end as stored
            )

            select
                coalesce(jsonb_object_agg({kind_of_entity} || w.{key}, 'created'), '{none}'), count(*), array_agg(w.stored)
            into created, many, stored
            from written as w;
            is_altered := is_altered or (is_watched and stored is distinct from missing);

            -- The app may have made a row a moment ago; or a trigger of the app leaves the row out.
            if many < cardinality(missing) then
                rest := array(
                    select g from unnest(missing) as g where not created ? ({kind_of_entity} || g.{key})
                );
                with written as (
                    update {table} as kept set {set_given}
                    from (select g.* from unnest(rest) as g limit cardinality(rest)) as given
                    where kept.{key} = given.{key} and ({kept_columns}) is distinct from ({given_columns})
                    returning kept.{key}
                )

                select coalesce(jsonb_object_agg({kind_of_entity} || w.{key}, 'created'), '{none}') into late
                from written as w;
                if exists (
                    select from unnest(rest) as given left join {table} as kept on kept.{key} = given.{key}
                    where not late ? ({kind_of_entity} || given.{key})
                    and (kept.{key} is null or ({kept_columns}) is distinct from ({given_columns}))
                ) then
                    perform clerk_sync.refuse_kept_row({table_name});
                end if;
                created := created || late;
            end if;
            $part$,
        clerk_sync.holes_of_write(of_kind)
    )
$function$;

-- The part of write_<kind> for rows that a trigger of the app altered: outcomes into `late`. Of a row that is gone, and
-- of a deleted row that the trigger shows again, nothing is left to be true.
create function clerk_sync.judgement_of_altered(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $part$
            select
                coalesce(jsonb_object_agg(given.{key}, to_jsonb(array_remove(array[{differing_columns}], null)))
                    filter (where kept.{key} is not null), '{none}'),
                coalesce(jsonb_object_agg({kind_of_entity} || given.{key}, 'altered')
                    filter (where kept.{key} is not null), '{none}'),
                coalesce(bool_or(kept.{key} is null), false) or exists (
                    select from jsonb_object_keys(updated || created) as w (entity)
                    where w.entity <> all(array(select {kind_of_entity} || g.{key} from unnest(changed || missing) as g))
                ),
                coalesce(bool_or(kept.deleted_at is null and given.deleted_at is not null), false)
            into altered, late, is_lost, is_shown
            from unnest(changed || missing) as given
            left join {table} as kept on kept.{key} = given.{key}
            where updated || created ? ({kind_of_entity} || given.{key})
            and (kept.{key} is null or ({kept_columns}) is distinct from ({given_columns}));
            if is_lost then
                perform clerk_sync.refuse_lost_row({table_name});
            elsif is_shown then
                perform clerk_sync.refuse_kept_row({table_name});
            elsif altered <> '{none}' then
                perform clerk_sync.note_altered({kind}, altered);
                created := created || late;
            end if;
        $part$,
        clerk_sync.holes_of_write(of_kind) || jsonb_build_object(
            'differing_columns', (
                select string_agg(
                    format('case when kept.%1$I is distinct from given.%1$I then %1$L end', c.name), ', '
                    order by c.place
                )
                from unnest((clerk_sync.own_columns(of_kind))[2:]) with ordinality as c (name, place)
            )
        )
    )
$function$;

-- write_<kind>: inserts and updates rows from content, and leaves equal rows untouched. The key of a row is the id of
-- its element, and deleted_at comes from tombstones, whatever content says of either. Returns {"kind id": outcome} for
-- the rows written. Rows are compared as values of one type: Postgres would set up a list of their columns in each step
-- of the plan, at each call. Where a trigger of the app runs before writes, the rows as stored are compared with the
-- rows as given, in their order; only where these differ, or where a trigger wrote to an audited table itself, a search
-- finds what is altered. Of a kind without an audit log, this search follows every write where the app has a trigger.
create function clerk_sync.definition_of_write(of_kind clerk_sync.kinds, is_audited boolean)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            create or replace function clerk_sync.{write_kind}(batch jsonb, winners clerk_sync.change[])
            returns jsonb
            language plpgsql
            set search_path = pg_catalog, pg_temp
            as $body$
            #variable_conflict use_variable
            declare
                missing clerk_sync.{row_type}[];
                changed clerk_sync.{row_type}[];
                updated jsonb := '{none}';
                created jsonb := '{none}';
                late jsonb;
                many integer;
                is_watched boolean;
                stored clerk_sync.{row_type}[];
                rest clerk_sync.{row_type}[];
                is_altered boolean := false;
                is_lost boolean;
                is_shown boolean;
                altered jsonb;
            begin
                select
                    array_agg(compared.said_row) filter (where not compared.is_kept),
                    array_agg(compared.said_row) filter (where compared.is_kept),
                    clerk_sync.holds_when_planned({has_trigger})
                into missing, changed, is_watched
                from (
                    select
                        kept.{key} is not null as is_kept,
                        row({kept_row})::clerk_sync.{row_type} as kept_row,
                        jsonb_populate_record(
                            row({known_row})::clerk_sync.{row_type},
                            case
                                when said.content ->> {key_name} = said.id and not said.content ? 'deleted_at' then said.content
                                else said.content - array[{key_name}, 'deleted_at']
                            end
                        ) as said_row
                    from (select w.* from unnest(winners) as w order by w.id) as winner
                    cross join lateral (
                        select winner.id collate "default" as id, batch -> winner."position" -> 'content' as content
                    ) as said
                    left join lateral (select k.* from {table} as k where k.{key} = said.id limit 1) as kept on true
                    {name_parents}
                    {join_parents}
                    where true {and_may_be_written}
                    offset 0
                ) as compared
                where compared.kept_row is distinct from compared.said_row;

                if changed is not null then
                    with written as (
                        update {table} as kept set {set_given}
                        from (select g.* from unnest(changed) as g limit cardinality(changed)) as given
                        where kept.{key} = given.{key}
                        returning
                            kept.{key}, case when is_watched then row({kept_row})::clerk_sync.{row_type} end as stored
                    )

                    select
                        coalesce(jsonb_object_agg({kind_of_entity} || w.{key}, 'updated'), '{none}'), count(*),
                        array_agg(w.stored)
                    into updated, many, stored
                    from written as w;
                    is_altered := is_watched and stored is distinct from changed;

                    -- A row that is gone was removed a moment ago.
                    if many < cardinality(changed) and exists (
                        select from unnest(changed) as given inner join {table} as kept on kept.{key} = given.{key}
                        where ({kept_columns}) is distinct from ({given_columns})
                    ) then
                        perform clerk_sync.refuse_kept_row({table_name});
                    end if;
                end if;
                if missing is not null then
                    {insert_missing}
                end if;
                if is_altered or {may_be_altered} then
                    {judge_altered}
                end if;
                return updated || created;
            end
            $body$
            $template$,
        clerk_sync.holes_of_write(of_kind) || jsonb_build_object(
            'has_trigger', quote_literal(clerk_sync.has_trigger_of_app(of_kind, is_audited)),
            'may_be_altered', case
                when is_audited then 'current_setting(''clerk_sync.nested'', true) = ''yes''' else 'is_watched'
            end,
            'insert_missing', clerk_sync.insertion_of_missing(of_kind),
            'judge_altered', clerk_sync.judgement_of_altered(of_kind)
        )
    )
$function$;

-- fill_<kind>: writes rows of entities that are new. Only for a kind without parents. A new entity has no row to
-- compare, unless the app made a row. ids: in their order in "C", so that rows are locked in this order; places: of
-- each id, where in the page its content is. To sort the rows themselves would copy each of them. Null for a kind with
-- parents.
create function clerk_sync.definition_of_fill(of_kind clerk_sync.kinds, is_audited boolean)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select case
        when of_kind.parents = '{}' then clerk_sync.statement_of(
            $template$
                create or replace function clerk_sync.{fill_kind}(page jsonb, ids text[], places integer[])
                returns void
                language plpgsql
                set search_path = pg_catalog, pg_temp
                as $body$
                #variable_conflict use_variable
                declare
                    present constant text[] := array(select k.{key} from {table} as k where k.{key} = any(ids));
                    filled bigint;
                begin
                    -- Not `on conflict do update`, which costs more for each row, and also fires the triggers of updates.
                    insert into {table} ({key}, {columns})
                    select a.id, {given_columns}
                    from unnest(ids, places) as a (id, place) cross join lateral {content} as given
                    where a.id <> all(present);

                    -- The app may have made rows, or alters them.
                    get diagnostics filled = row_count;
                    if
                        filled < cardinality(ids)
                        or current_setting('clerk_sync.nested', true) = 'yes'
                        or {has_trigger}
                    then
                        update {table} as kept set {set_given}
                        from (
                            select u.* from unnest(ids, places) as u (id, place) limit cardinality(ids)
                        ) as a
                        cross join lateral {content} as given
                        where kept.{key} = a.id and ({kept_columns}) is distinct from ({given_columns});
                        if exists (
                            select from unnest(ids, places) as a (id, place)
                            left join {table} as kept on kept.{key} = a.id
                            cross join lateral {content} as given
                            where kept.{key} is null or kept.deleted_at is not null
                            or ({kept_columns}) is distinct from ({given_columns})
                        ) then
                            perform clerk_sync.refuse_kept_row({table_name});
                        end if;
                    end if;
                end
                $body$
                $template$,
            clerk_sync.holes_of(of_kind) || jsonb_build_object(
                'fill_kind', quote_ident('fill_' || of_kind.kind),
                'has_trigger', clerk_sync.has_trigger_of_app(of_kind, is_audited),
                'columns', clerk_sync.for_each('%1$I', of_kind.mirrored_columns),
                'given_columns', clerk_sync.for_each('given.%1$I', of_kind.mirrored_columns),
                'kept_columns', clerk_sync.for_each('kept.%1$I', of_kind.mirrored_columns),
                'set_given', clerk_sync.for_each('%1$I = given.%1$I', of_kind.mirrored_columns),
                'content', clerk_sync.statement_of(
                    'jsonb_populate_record(null::clerk_sync.{row_type}, page -> a.place -> ''content'')',
                    clerk_sync.holes_of(of_kind)
                )
            )
        )
    end
$function$;

-- The select list of the row `given`, for an object that is an array: at_<number> is the place of a column, null for a
-- column without a place. Values are converted as by jsonb_populate_record(), which takes longer.
create function clerk_sync.given_by_place(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(
        format(
            'case when at_%1$s is null then kept.%2$I else ' || case
                when a.atttypid = 'text'::regtype then 'said.content ->> at_%1$s'
                when a.atttypid = 'jsonb'::regtype then 'nullif(said.content -> at_%1$s, ''null'')'
                when a.atttypid in ('boolean'::regtype, 'integer'::regtype, 'bigint'::regtype, 'timestamptz'::regtype)
                    then '(said.content ->> at_%1$s)::%3$s'
                else
                    '(jsonb_populate_record(null::clerk_sync.%4$I, '
                    'jsonb_build_object(%2$L, said.content -> at_%1$s))).%2$I'
            end || ' end as %2$I',
            a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), 'row_' || of_kind.kind
        ),
        ', ' order by a.attnum
    )
    from pg_catalog.pg_attribute as a
    where a.attrelid = of_kind.relation::regclass
    and a.attname = any(of_kind.mirrored_columns || clerk_sync.parent_columns(of_kind))
$$;

-- The variables at_<number>, from the argument `columns`: the names of the columns in the order of the array, whose
-- first three places have the id and the version.
create function clerk_sync.places_of_columns(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(
        format('at_%s constant integer := array_position(columns, %L) + 2;', a.attnum, a.attname), ' '
        order by a.attnum
    )
    from pg_catalog.pg_attribute as a
    where a.attrelid = of_kind.relation::regclass
    and a.attname = any(of_kind.mirrored_columns || clerk_sync.parent_columns(of_kind))
$$;

-- differing_<kind>: finds the rows that are missing or differ from the content. Compares as write_<kind> does, and
-- ignores versions. There are two: for elements of a batch, and for arrays of the id, the version and the values of
-- `columns`, of which Postgres reads a page in half the time.
create function clerk_sync.definition_of_differing(of_kind clerk_sync.kinds, is_by_place boolean)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            create or replace function clerk_sync.{differing_kind}(objects jsonb{more_arguments})
            returns setof clerk_sync.difference
            language plpgsql
            stable
            set search_path = pg_catalog, pg_temp
            as $body$
            #variable_conflict use_variable
            {declarations}
            begin
            return query
            select
                {kind}::text, said.id,
                case when kept.{key} is not null then array_remove(array[{differing_columns}], null) end,
                case when kept.{key} is not null then array_remove(array[{emptied_columns}]::text[], null) end
            from {said} as said
            left join lateral (
                select e.deleted_at from clerk_sync.entities as e
                where e.kind = {kind} and e.id = said.id and e.deleted_at is not null limit 1
            ) as entity on true
            left join lateral (select k.* from {table} as k where k.{key} = said.id limit 1) as kept on true
            cross join lateral {given} as given
            {join_parents}
            cross join lateral (
                select to_timestamp(least(entity.deleted_at {parent_deletes}) / 1000.0) as deleted_at
            ) as earliest
            where (kept.{key} is null or ({kept_columns}) is distinct from ({said_columns})) {and_may_be_written};
            end
            $body$
            $template$,
        clerk_sync.holes_of(of_kind) || jsonb_build_object(
            'differing_kind', quote_ident('differing_' || of_kind.kind),
            'differing_columns', concat_ws(
                ', ', clerk_sync.for_each(named.if_it_differs, of_kind.mirrored_columns),
                'case when kept.deleted_at is distinct from earliest.deleted_at then ''deleted_at'' end',
                clerk_sync.for_each(named.if_it_differs, clerk_sync.parent_columns(of_kind))
            ),
            -- Clerk's content says nothing of deleted_at.
            'emptied_columns', clerk_sync.for_each(
                named.if_it_is_emptied, of_kind.mirrored_columns || clerk_sync.parent_columns(of_kind)
            )
        ) || case
            when is_by_place then jsonb_build_object(
                'more_arguments', ', columns text[]',
                'declarations', 'declare ' || clerk_sync.places_of_columns(of_kind),
                'said', '(select o ->> 0 as id, o as content from jsonb_array_elements(objects) as o)',
                'given', format('(select %s)', clerk_sync.given_by_place(of_kind))
            )
            else jsonb_build_object(
                'more_arguments', '', 'declarations', '',
                'said', format(
                    '(select o.id, o.content from jsonb_to_recordset(objects) as o (kind text, id text, content jsonb) '
                    'where o.kind = %L and jsonb_typeof(o.content) = ''object'')',
                    of_kind.kind
                ),
                'given', clerk_sync.statement_of(
                    'jsonb_populate_record(row({kept_row})::clerk_sync.{row_type}, said.content)',
                    clerk_sync.holes_of(of_kind)
                )
            )
        end
    )
    from (
        values (
            'case when kept.%1$I is distinct from given.%1$I then %1$L end',
            'case when kept.%1$I is distinct from given.%1$I and clerk_sync.is_empty(to_jsonb(given.%1$I)) '
            'and not clerk_sync.is_empty(to_jsonb(kept.%1$I)) then %1$L end'
        )
    ) as named (if_it_differs, if_it_is_emptied)
$function$;

-- The condition that an element of `deleted` names a row `kept` by one of these links.
create function clerk_sync.is_named(links jsonb)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select '(' || clerk_sync.for_each_link(
        'kept.%1$I = any(array(select d.id collate "default" from unnest(deleted) as d where d.kind = %2$L))',
        links, ' or '
    ) || ')'
$$;

create function clerk_sync.parent_kinds(of_kind clerk_sync.kinds)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(select distinct p.value from jsonb_each_text(of_kind.parents) as p)
$$;

-- hide_<kind>: sets deleted_at on rows whose own entity, or the entity of a parent, was deleted; of very many children
-- only on a part. kinds: the kinds of the deleted entities. Two deletes may reach the same row by different parents, so
-- rows are locked by key before the first write. This lock lets the app insert rows with a foreign key to a locked row.
create function clerk_sync.definition_of_hide(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            create or replace function clerk_sync.{hide_kind}(deleted clerk_sync.change[], kinds text[])
            returns void
            language plpgsql
            set search_path = pg_catalog, pg_temp
            as $body$
            #variable_conflict use_variable
            declare
                keys text[] := '{none}';
                moments timestamptz[];
            begin
                {choose_children}
                if {kind} = any(kinds) then
                    keys := keys || array(select d.id collate "default" from unnest(deleted) as d where d.kind = {kind});
                end if;
                if cardinality(keys) = 0 then
                    return;
                end if;
                select array_agg(locked.{key}), array_agg(locked.due) into keys, moments
                from (
                    select
                        named.{key}, named.deleted_at,
                        (select to_timestamp(min(d.deleted_at) / 1000.0) from unnest(deleted) as d where {names_it}) as due
                    from {table} as named
                    where named.{key} = any(keys) order by named.{key} for no key update
                    -- Postgres would leave out, before it locks, the rows that the condition below leaves out: also a row
                    -- that another session is about to restore.
                    offset 0
                ) as locked
                where locked.due < coalesce(locked.deleted_at, 'infinity');
                if keys is null then
                    return;
                end if;
                update {table} as kept set deleted_at = due.deleted_at
                from (
                    select u.* from unnest(keys, moments) as u ({key}, deleted_at) limit cardinality(keys)
                ) as due
                where kept.{key} = due.{key};
            end
            $body$
            $template$,
        clerk_sync.holes_of(of_kind) || jsonb_build_object(
            'hide_kind', quote_ident('hide_' || of_kind.kind),
            'none', '{}',
            'choose_children', case
                when of_kind.parents = '{}' then ''
                else clerk_sync.statement_of(
                    $choice$
                        if kinds && {parent_kinds} then
                            keys := array(
                                select kept.{key} from {table} as kept where {is_child}
                                limit clerk_sync.rows_in_part() + 1
                            );
                            if cardinality(keys) > clerk_sync.rows_in_part() then
                                perform clerk_sync.leave_rest(deleted, {parent_kinds});
                                keys := keys[:clerk_sync.rows_in_part()];
                            end if;
                        end if;
                    $choice$,
                    clerk_sync.holes_of(of_kind) || jsonb_build_object(
                        'is_child', clerk_sync.is_named(of_kind.parents),
                        'parent_kinds', quote_literal(clerk_sync.parent_kinds(of_kind)) || '::text[]'
                    )
                )
            end,
            'names_it', clerk_sync.for_each_link(
                '(d.kind = %2$L and d.id collate "default" = named.%1$I)', clerk_sync.links_of(of_kind), ' or '
            )
        )
    )
$function$;

-- The condition that the table has the mirrored columns, each with its type: audit_<kind>() was made for these, and the
-- app may have altered the table.
create function clerk_sync.is_as_registered(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        '%s = (select count(*) from pg_catalog.pg_attribute as a where a.attrelid = to_regclass(%L) and (%s))',
        cardinality(clerk_sync.own_columns(of_kind)), of_kind.relation,
        string_agg(
            format('(a.atttypid = %L::regtype and a.attname = any(%L))', of_type.name, of_type.columns),
            ' or ' order by of_type.name collate "C"
        )
    )
    from (
        select format_type(a.atttypid, null) as name, array_agg(a.attname order by a.attnum) as columns
        from pg_catalog.pg_attribute as a
        where a.attrelid = of_kind.relation::regclass and a.attname = any(clerk_sync.own_columns(of_kind))
        group by a.atttypid
    ) as of_type
$$;

-- An array as changed_columns() returns it, of the rows o and n. Two values differ if they differ as jsonb. For these
-- types, the operator of the type says the same; of text, only the bytes count, whatever the collation.
create function clerk_sync.columns_that_differ(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'array_remove(array[%s], null)',
        string_agg(
            format(
                'case when ' || case
                    when a.atttypid in ('text'::regtype, 'varchar'::regtype)
                        then 'n.%1$I collate "C" is distinct from o.%1$I collate "C"'
                    when a.atttypid in (
                        'boolean'::regtype, 'integer'::regtype, 'bigint'::regtype, 'timestamptz'::regtype,
                        'date'::regtype, 'uuid'::regtype, 'jsonb'::regtype
                    ) then 'n.%1$I is distinct from o.%1$I'
                    else 'to_jsonb(n.%1$I) is distinct from to_jsonb(o.%1$I)'
                end || ' then jsonb_build_array(%1$L, o.%1$I, n.%1$I) end',
                a.attname
            ),
            ', ' order by a.attname collate "C"
        )
    )
    from pg_catalog.pg_attribute as a
    where a.attrelid = of_kind.relation::regclass and a.attname = any(clerk_sync.own_columns(of_kind))
$$;

-- The columns of a row r, in the order in which jsonb keeps them: an object made in this order takes less time.
create function clerk_sync.columns_as_jsonb_sorts(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('r.%I', c.name), ', ' order by octet_length(c.name), c.name collate "C")
    from unnest(clerk_sync.own_columns(of_kind)::text[]) as c (name)
$$;

-- The holes that the parts of audit_<kind>() have in common. `e` is an entry: its id, and its own cause, if any.
create function clerk_sync.holes_of_audit(of_kind clerk_sync.kinds)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object(
        'audit_kind', quote_ident('audit_' || of_kind.kind),
        'kind', quote_literal(of_kind.kind),
        'key', quote_ident(of_kind.key_column),
        'key_name', quote_literal(of_kind.key_column),
        'own', quote_literal(clerk_sync.own_columns(of_kind)) || '::name[]',
        'none', '{}',
        'is_as_registered', quote_literal(clerk_sync.is_as_registered(of_kind)),
        'cause', 'coalesce(e.own ->> 0, default_cause)',
        'svix_id', 'coalesce(e.own ->> 1, default_svix_id || e.id)'
    )
$$;

-- Records new rows. rows: the rows n; new_row: the object of a row. `offset 0`: an object is made once.
create function clerk_sync.statement_of_inserts(of_kind clerk_sync.kinds, rows text, new_row text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            insert into clerk_sync.audit_log (
                kind, entity_id, operation, new_values, changed_columns, cause, svix_id
            )
            select {kind}, e.id, 'insert', e.new_row, '{none}', {cause}, {svix_id}
            from (
                select n.{key} as id, {new_row} as new_row, causes -> n.{key} as own
                from {rows} as n offset 0
            ) as e;
        $template$,
        clerk_sync.holes_of_audit(of_kind) || jsonb_build_object('rows', rows, 'new_row', new_row)
    )
$function$;

-- Records changed rows. changed: the changed columns of the rows o and n, as changed_columns() returns them.
create function clerk_sync.statement_of_updates(of_kind clerk_sync.kinds, changed text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            insert into clerk_sync.audit_log (
                kind, entity_id, operation, old_values, new_values, changed_columns, cause, svix_id
            )
            select {kind}, e.id, 'update', c.old_values, c.new_values, c.names, {cause}, {svix_id}
            from (
                select n.{key} as id, {changed} as changed, causes -> n.{key} as own
                from new_rows as n inner join old_rows as o on n.{key} = o.{key} offset 0
            ) as e
            cross join lateral (
                select
                    array_agg(u ->> 0) as names, jsonb_object_agg(u ->> 0, u -> 1) as old_values,
                    jsonb_object_agg(u ->> 0, u -> 2) as new_values
                from unnest(e.changed) as u
            ) as c
            where e.changed <> '{none}';
        $template$,
        clerk_sync.holes_of_audit(of_kind) || jsonb_build_object('changed', changed)
    )
$function$;

-- Puts the entries of a statement before the entries of statements of its triggers.
create function clerk_sync.statement_of_nested(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            if is_nested then
                if tg_op = 'INSERT' then
                    states := (select jsonb_object_agg(n.{key}, to_jsonb(n.*) - apps_own) from new_rows as n);
                elsif tg_op = 'UPDATE' then
                    states := (
                        select jsonb_object_agg(after.id, after.new_row)
                        from (select n.{key} as id, to_jsonb(n.*) - apps_own as new_row from new_rows as n) as after
                        inner join (
                            select o.{key} as id, to_jsonb(o.*) - apps_own as old_row from old_rows as o
                        ) as before using (id)
                        where before.old_row is distinct from after.new_row
                    );
                else
                    states := (select jsonb_object_agg(o.{key}, null) from old_rows as o);
                end if;
                perform clerk_sync.put_before_nested(
                    {kind}, tg_relid::regclass, {key_name}, apps_own, coalesce(states, '{none}')
                );
            end if;
        $template$,
        clerk_sync.holes_of_audit(of_kind)
    )
$function$;

-- audit_<kind>: records a statement's changes at once. Its argument: whether clerk_sync.causes is used. Columns of the
-- app's own are not recorded. clerk_sync.apply() leaves {"entity id": [cause, svix id]} in clerk_sync.causes, for its
-- own transaction only. The cause under "" counts for all other entities, and their ids are appended to its svix id.
-- Every role may set clerk_sync.causes, so this function uses the setting only for a statement that runs as the owner
-- of this schema. Security definer: no role may write the log by hand. Nested loops are off, because a plan made for a
-- single row must also serve for thousands.
create function clerk_sync.definition_of_audit(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            create or replace function clerk_sync.{audit_kind}()
            returns trigger
            language plpgsql
            security definer
            set search_path = pg_catalog, pg_temp
            set enable_nestloop = off
            as $body$
            #variable_conflict use_variable
            declare
                causes constant jsonb := case
                    when tg_argv[0]::boolean then nullif(current_setting('clerk_sync.causes', true), '')::jsonb
                end;
                -- The API logs in with a role of its own and sets the role of the request.
                caller constant text := coalesce(nullif(current_setting('role', true), 'none'), session_user);
                default_cause constant text := case
                    when causes is null then 'direct:' || caller else coalesce(causes -> '' ->> 0, 'cascade')
                end;
                default_svix_id constant text := causes -> '' ->> 1;
                is_as_registered boolean := false;
                is_nested boolean;
                apps_own text[];
                states jsonb;
            begin
                if pg_trigger_depth() > 1 then
                    perform set_config('clerk_sync.nested', 'yes', true);
                end if;
                -- A caller with this flag set only causes a search without a result.
                is_nested := current_setting('clerk_sync.nested', true) = 'yes';
                if tg_op <> 'DELETE' then
                    is_as_registered := exists (
                        select from new_rows where clerk_sync.holds_when_planned({is_as_registered})
                    );
                end if;
                if tg_op = 'DELETE' or is_nested or not is_as_registered then
                    apps_own := array(
                        select a.attname from pg_catalog.pg_attribute as a
                        where a.attrelid = tg_relid and a.attnum > 0 and a.attname <> all({own})
                    );
                end if;

                -- `offset 0`: each row is compared once. n.*: the app may have a column called n.
                if tg_op = 'INSERT' and is_as_registered then
                    {record_inserts_by_column}
                elsif tg_op = 'INSERT' then
                    {record_inserts_by_row}
                elsif tg_op = 'DELETE' then
                    insert into clerk_sync.audit_log (
                        kind, entity_id, operation, old_values, changed_columns, cause, svix_id
                    )
                    select {kind}, e.id, 'delete', e.old_row, '{none}', {cause}, {svix_id}
                    from (
                        select o.{key} as id, to_jsonb(o.*) - apps_own as old_row, causes -> o.{key} as own
                        from old_rows as o offset 0
                    ) as e;
                elsif is_as_registered then
                    {record_updates_by_column}
                else
                    {record_updates_by_row}
                end if;

                {order_nested}
                return null;
            end
            $body$
            $template$,
        clerk_sync.holes_of_audit(of_kind) || jsonb_build_object(
            'record_inserts_by_column', clerk_sync.statement_of_inserts(
                of_kind, format('(select %s from new_rows as r)', clerk_sync.columns_as_jsonb_sorts(of_kind)),
                'to_jsonb(n.*)'
            ),
            'record_inserts_by_row',
            clerk_sync.statement_of_inserts(of_kind, 'new_rows', 'to_jsonb(n.*) - apps_own'),
            'record_updates_by_column',
            clerk_sync.statement_of_updates(of_kind, clerk_sync.columns_that_differ(of_kind)),
            'record_updates_by_row', clerk_sync.statement_of_updates(
                of_kind, 'clerk_sync.changed_columns(to_jsonb(o.*) - apps_own, to_jsonb(n.*) - apps_own)'
            ),
            'order_nested', clerk_sync.statement_of_nested(of_kind)
        )
    )
$function$;

-- The triggers that call audit_<kind>(). The condition of the trigger asks whether clerk_sync.causes may be used,
-- because audit_<kind>() itself runs as the owner. A cascade runs as the owner, too: its depth distinguishes a cascade
-- from other statements.
create function clerk_sync.definition_of_audit_triggers(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(
        format(
            'create or replace trigger audit_%1$s%4$s after %1$s on %2$s referencing %3$s for each statement '
            || 'when (%5$s (pg_catalog.pg_trigger_depth() = 0 '
            || 'and pg_catalog.has_schema_privilege(''clerk_sync'', ''create''))) '
            || 'execute function clerk_sync.%6$I(%7$L)',
            audited.operation, of_kind.relation, audited.tables, writer.suffix, writer.negation,
            'audit_' || of_kind.kind, writer.suffix = ''
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
$$;

-- write_rows() and hide_rows(), for the kinds there are. Each kind has a statement in the body, because Postgres would
-- plan a dynamic statement at every call.
create function clerk_sync.definition_of_write_rows()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            create or replace function clerk_sync.write_rows(target text, batch jsonb, winners clerk_sync.change[])
            returns jsonb
            language plpgsql
            set search_path = pg_catalog, pg_temp
            as $body$
            begin
                case target {branches} end case;
            end
            $body$
            $template$,
        jsonb_build_object('branches', string_agg(
            format('when %L then return clerk_sync.%I(batch, winners);', k.kind, 'write_' || k.kind),
            ' ' order by k.write_order
        ))
    )
    from clerk_sync.kinds as k
$function$;

create function clerk_sync.definition_of_hide_rows()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            create or replace function clerk_sync.hide_rows(deleted clerk_sync.change[])
            returns void
            language plpgsql
            set search_path = pg_catalog, pg_temp
            as $body$
            declare
                kinds constant text[] := array(select distinct d.kind from unnest(deleted) as d);
            begin
                {calls}
            end
            $body$
            $template$,
        jsonb_build_object('calls', string_agg(
            format(
                'if kinds && %L then perform clerk_sync.%I(deleted, kinds); end if;',
                k.kind || clerk_sync.parent_kinds(k), 'hide_' || k.kind
            ),
            ' ' order by k.write_order
        ))
    )
    from clerk_sync.kinds as k
$function$;

-- Registers a kind with apply(): generates the functions above for its table, and has its changes audited. The table
-- needs key_column as its primary key and a column deleted_at: always the earliest delete of the row's entity and its
-- parents. Without mirrored_columns, all other columns of the table are mirrored; else a column stays the app's own
-- unless it is key, parent or mirrored. parents, accompanies and is_read_by_id: as in clerk_sync.kinds.
create function clerk_sync.register(
    kind_name text,
    kind_order integer,
    relation regclass,
    key_column name,
    mirrored_columns name[] default null,
    parents jsonb default '{}',
    is_audited boolean default true,
    accompanies text[] default '{}',
    is_read_by_id boolean default false
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds := row(
        kind_name, kind_order, relation, key_column, mirrored_columns, parents, accompanies, is_read_by_id
    );
    statement text;
begin
    if
        kind_order < 9001
        and (select c.relnamespace from pg_catalog.pg_class as c where c.oid = relation)
        not in ('clerk'::regnamespace, 'clerk_sync'::regnamespace)
    then
        raise invalid_parameter_value using message = format(
            'the kind %s of the app takes the place %s of a later kind of this project: give a place from 9001 on',
            kind_name, kind_order
        );
    end if;
    of_kind.mirrored_columns := coalesce(mirrored_columns, array(
        select a.attname from pg_catalog.pg_attribute as a
        where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
        and a.attname not in (key_column, 'deleted_at') and not parents ? a.attname
        order by a.attnum
    ));
    insert into clerk_sync.kinds select of_kind.*
    on conflict on constraint kinds_pkey do update set
        write_order = excluded.write_order, relation = excluded.relation, key_column = excluded.key_column,
        mirrored_columns = excluded.mirrored_columns, parents = excluded.parents, accompanies = excluded.accompanies,
        is_read_by_id = excluded.is_read_by_id;

    execute format('drop type if exists clerk_sync.%I cascade', 'row_' || kind_name);
    foreach statement in array array_remove(array[
        clerk_sync.definition_of_row(of_kind),
        clerk_sync.definition_of_write(of_kind, is_audited),
        clerk_sync.definition_of_fill(of_kind, is_audited),
        clerk_sync.definition_of_differing(of_kind, false),
        clerk_sync.definition_of_differing(of_kind, true),
        clerk_sync.definition_of_hide(of_kind),
        case when is_audited then clerk_sync.definition_of_audit(of_kind) end,
        case when is_audited then clerk_sync.definition_of_audit_triggers(of_kind) end,
        clerk_sync.definition_of_write_rows(),
        clerk_sync.definition_of_hide_rows()
    ], null) loop
        execute statement;
    end loop;
    perform clerk_sync.revoke_default_rights();
end
$$;

-- Adds a column to the table of a kind, and mirrors the column: mirror_column('user', 'birthday', 'date'). The column
-- is nullable: functions of an earlier version go on inserting rows, and know no value.
create function clerk_sync.mirror_column(kind_name text, new_column name, definition text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
begin
    select k.* into strict of_kind from clerk_sync.kinds as k where k.kind = kind_name;
    execute format('alter table %s add column %I %s', of_kind.relation, new_column, definition);
    if exists (
        select from pg_catalog.pg_attribute as a
        where a.attrelid = of_kind.relation::regclass and a.attname = new_column and a.attnotnull
    ) then
        raise exception using
            errcode = 'not_null_violation',
            message = format('the new column %s of %s has to be nullable', new_column, of_kind.relation),
            detail = 'Functions of an earlier version insert rows without a value for this column.',
            hint = 'Leave out "not null".';
    end if;
    perform clerk_sync.register(
        of_kind.kind, of_kind.write_order, of_kind.relation::regclass, of_kind.key_column,
        of_kind.mirrored_columns || new_column, of_kind.parents,
        exists (
            select from pg_catalog.pg_trigger as t
            where t.tgrelid = of_kind.relation::regclass and t.tgname = 'audit_insert'
        ),
        of_kind.accompanies, of_kind.is_read_by_id
    );
end
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0004_create_kinds');
