-- Feeds: tables of the app that follow the mirror. A feed has triggers on the mirror's table of a kind, and writes the
-- app's table in the transaction of the change, with the rights of the owner. A row that cannot be written is unfed:
-- listed, and tried again later. Such a row never stops the change.

create table clerk_sync.feeds (
    feed_id integer generated always as identity primary key,
    kind text not null,
    target text not null,
    mapping jsonb not null,
    created_at timestamptz not null default clock_timestamp(),
    suspended_until timestamptz,
    filled_after text,
    is_filled boolean not null default false,
    constraint feeds_kind_target_key unique (kind, target)
);

comment on table clerk_sync.feeds is 'One row for each table of the app that follows a kind of the mirror.';
comment on column clerk_sync.feeds.target is 'The app''s table, spelled as in a statement.';
comment on column clerk_sync.feeds.mapping is
'{kind, table, key, insert, on_insert, update, on_delete, guard}; expressions read a row of the mirror, named mirror.';
comment on column clerk_sync.feeds.suspended_until is
'After a write that took too long, rows are only listed as unfed until this moment; at the end of the year 9999, until '
'`clerk-supabase switch-instance` has written the ids of another Clerk instance into the app''s tables.';
comment on column clerk_sync.feeds.filled_after is 'The last key of the back-fill of the app''s table, to go on from.';

alter table clerk_sync.feeds enable row level security;

create table clerk_sync.unfed_rows (
    feed_id integer not null references clerk_sync.feeds (feed_id) on delete cascade,
    object_id text collate "C" not null,
    code text not null,
    reason text not null,
    tries integer not null default 1,
    first_at timestamptz not null default clock_timestamp(),
    last_at timestamptz not null default clock_timestamp(),
    key_of_gone jsonb,
    primary key (feed_id, object_id)
);

comment on table clerk_sync.unfed_rows is
'Objects of the mirror whose row in the app''s table could not be written. Tried again when the object changes, and by '
'every comparison with Clerk.';
comment on column clerk_sync.unfed_rows.code is
'The SQLSTATE; 00000: written, but changed or skipped by a trigger; 02000: the mirror has no row to follow.';
comment on column clerk_sync.unfed_rows.reason is
'A constraint, a column, or the function of the app that raised the error; never a value of the row.';

comment on column clerk_sync.unfed_rows.key_of_gone is
'Of an object that the mirror no longer has: the ids of its row that the key of the mapping reads, such as '
'clerk_user_id of a membership. A retry finds the app''s row by these ids.';

alter table clerk_sync.unfed_rows enable row level security;

create type clerk_sync.differing_rows as (to_insert text [], to_update text [], to_delete text [], unlinked text []);

-- The columns of a mapping with their expressions. place: key, update, on_insert or clear. cast_to: the type to compare
-- and to write with: an explicit cast would cut a text that is too long, and a plain assignment raises an error.
-- is_text: compared letter by letter as a text, because the type or its collation may ignore case, or knows no order.
create function clerk_sync.columns_of_feed(feed clerk_sync.feeds)
returns table (place text, number bigint, name name, expression text, cast_to text, is_text boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        e.place, row_number() over (partition by e.place order by e.name), e.name::name, e.expression,
        format_type(a.atttypid, case
            when a.atttypid in ('varchar'::regtype, 'bpchar'::regtype, 'bit'::regtype, 'varbit'::regtype) then -1
            else a.atttypmod
        end),
        a.atttypid in (select t.oid from pg_catalog.pg_type as t where t.typcategory = 'S') or not exists (
            select from pg_catalog.pg_opclass as o
            inner join pg_catalog.pg_type as t on a.atttypid = t.oid
            where o.opcdefault and o.opcmethod = (select m.oid from pg_catalog.pg_am as m where m.amname = 'btree')
            and (
                o.opcintype in (t.oid, t.typbasetype) or t.typtype = 'e' or t.typelem <> 0
                or t.typtype in ('r', 'm', 'c')
                or exists (
                    select from pg_catalog.pg_cast as c
                    where c.castsource = t.oid and c.casttarget = o.opcintype and c.castmethod = 'b'
                    and c.castcontext = 'i'
                )
            )
        )
    from (
        select p.place, c.key, c.value
        from unnest('{key,update,on_insert}'::text[]) as p (place)
        cross join lateral jsonb_each_text(coalesce(feed.mapping -> p.place, '{}')) as c
        union all
        select 'clear', c.name, 'null'
        from jsonb_array_elements_text(
            case jsonb_typeof(feed.mapping -> 'on_delete') when 'object' then feed.mapping -> 'on_delete' -> 'clear' end
        ) as c (name)
    ) as e (place, name, expression)
    left join pg_catalog.pg_attribute as a
        on a.attrelid = feed.target::regclass and e.name = a.attname and a.attnum > 0 and not a.attisdropped
$$;

-- The table named in a mapping: spelled as in a statement, or as in a list of tables, without quotes. Null: no table.
create function clerk_sync.table_of_app(given text)
returns regclass
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found regclass;
begin
    begin
        found := to_regclass(given);
    exception
        when syntax_error or invalid_name or undefined_table then null;
    end;
    return coalesce(found, (
        select c.oid::regclass
        from pg_catalog.pg_class as c
        inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
        where n.nspname || '.' || c.relname = given and c.relkind in ('r', 'p', 'v')
    ));
end
$$;

-- Why a column cannot be mapped, in a sentence; null: each can.
create function clerk_sync.fault_of_columns(feed clerk_sync.feeds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when c.cast_to is null then format('%s has no column %s', feed.target, c.name)
        when a.attgenerated <> '' or a.attidentity = 'a' then format('Postgres itself fills the column %s', c.name)
        when c.place = 'clear' and a.attnotnull then format('the column %s takes no null: it cannot be cleared', c.name)
        -- A column may be updated, and cleared later.
        when count(*) over (partition by c.name, c.place = 'clear') > 1 then format('the column %s is mapped twice', c.name)
        when c.place = 'update' and feed.mapping -> 'guard' = 'true' and exists (
            select from pg_catalog.pg_constraint as k
            where k.conrelid = feed.target::regclass and k.contype = 'f' and a.attnum = any(k.conkey)
            and (k.confupdtype in ('c', 'n', 'd') or k.confdeltype in ('n', 'd'))
        ) then format('a guard cannot keep the column %s, which a foreign key changes', c.name)
    end
    from clerk_sync.columns_of_feed(feed) as c
    left join pg_catalog.pg_attribute as a on a.attrelid = feed.target::regclass and c.name = a.attname
    order by 1 limit 1
$$;

-- Why a mapping cannot be used, in a sentence; null: it can. The caller is the owner of the feeds.
create function clerk_sync.fault_of_feed(feed clerk_sync.feeds)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    relation constant regclass := feed.target;
    of_table record;
    fault constant text := clerk_sync.fault_of_columns(feed);
begin
    select c.relkind, n.nspname, pg_relation_is_updatable(c.oid, true) as events, row_security_active(c.oid) as is_limited
    into of_table
    from pg_catalog.pg_class as c inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    where c.oid = relation;

    return case
        when of_table.nspname in ('clerk', 'clerk_sync') then format('%s is a table of the mirror itself', relation)
        when of_table.relkind not in ('r', 'p', 'v') then format('%s is no table and no view', relation)
        when pg_relation_is_updatable(relation, false) <> 0 and exists (
            select from (select k.relation from clerk_sync.kinds as k union all select 'clerk.users_public') as m (name)
            cross join lateral clerk_sync.readers(m.name::regclass) as r where r.relation = feed.target::regclass
        ) then format('%s is a view of the mirror itself', relation)
        when of_table.is_limited then format(
            'row-level security hides rows of %s from %s: alter table %1$s no force row level security', relation,
            quote_ident(current_user)
        )
        when fault is not null then fault
        when not exists (select from clerk_sync.columns_of_feed(feed) as c where c.place = 'key') then 'no key is mapped'
        when of_table.events & 4 = 0 then format('%s takes no updates; a view needs an INSTEAD OF trigger', relation)
        when of_table.events & 8 = 0 and feed.mapping -> 'insert' is distinct from 'false'
            then format('%s takes no inserts; set insert = false, or give the view an INSTEAD OF trigger', relation)
        when of_table.events & 16 = 0 and feed.mapping ->> 'on_delete' = 'delete'
            then format('%s takes no deletes; a view needs an INSTEAD OF trigger', relation)
        when feed.mapping -> 'guard' = 'true' and of_table.relkind = 'v' then 'a view takes no guard: map its table'
        when feed.mapping -> 'guard' = 'true' and exists (
            select from clerk_sync.columns_of_feed(feed) as c
            where c.place = 'key' and c.expression !~ '^mirror\.[a-z_]+$'
        ) then 'a guard needs a key whose columns are columns of the mirror'
        else (
            select format(
                '%s may create objects in the schema %I, which a feed would run: revoke create on schema %2$I from %1$s',
                -- A right of everybody cannot be taken from one role.
                case when exists (
                    select from pg_catalog.pg_namespace as n cross join lateral aclexplode(n.nspacl) as a
                    where n.nspname = s.name and a.grantee = 0 and a.privilege_type = 'CREATE'
                ) then 'public' else string_agg(r.role, ', ' order by r.role) end,
                s.name
            )
            from unnest(clerk_sync.path_of_feed(relation)) as s (name)
            cross join (
                values ('anon'), ('authenticated'), ('service_role'), ('clerk_sync_worker'), ('clerk_sync_session')
            ) as r (role)
            where has_schema_privilege(r.role, s.name, 'create') group by s.name limit 1
        )
    end;
end
$$;

-- The schemas in which the app's triggers and the expressions of a mapping find a bare name.
create function clerk_sync.path_of_feed(relation regclass)
returns name[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select n.nspname
        from pg_catalog.pg_namespace as n
        left join pg_catalog.pg_class as c on c.oid = relation and c.relnamespace = n.oid
        where c.oid is not null or n.nspname in ('public', 'extensions')
        order by c.oid is null, n.nspname desc
    )
$$;

-- The holes of the statements below. `said` is the state of an object in the mirror: id, key_1, ..., set_1, ...,
-- put_1, ...; `theirs` is a row of the app.
create function clerk_sync.holes_of_feed(feed clerk_sync.feeds)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with columns as (
        select
            c.*, a.alias || c.number as alias,
            format(case when c.is_text then '%s::text collate "C"' else '%s' end, format('theirs.%I', c.name)) as theirs,
            format(case when c.is_text then '%s::text collate "C"' else '%s' end, format('said.%s', a.alias || c.number)) as said
        from clerk_sync.columns_of_feed(feed) as c
        cross join lateral (select case c.place when 'key' then 'key_' when 'update' then 'set_' else 'put_' end) as a (alias)
    ),

    arbiter as (
        select true
        from pg_catalog.pg_index as i
        where i.indrelid = feed.target::regclass and i.indisunique and i.indimmediate and i.indisvalid
        and i.indpred is null and i.indexprs is null
        and (
            select array_agg(a.attname order by a.attname)
            from pg_catalog.pg_attribute as a
            where a.attrelid = i.indrelid and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
        ) = (select array_agg(c.name order by c.name) from columns as c where c.place = 'key')
        limit 1
    )

    select jsonb_build_object(
        'feed', 'feed_' || feed.feed_id, 'number', feed.feed_id, 'target', feed.target,
        'mirror', k.relation, 'id', quote_ident(k.key_column), 'kind', quote_literal(k.kind),
        'path', array_to_string(array(select quote_ident(n) from unnest(clerk_sync.path_of_feed(feed.target::regclass)) as n), ', '),
        'said', (
            select string_agg(format('(%s)::%s as %s', c.expression, c.cast_to, c.alias), ', ' order by c.place, c.number)
            from columns as c where c.place <> 'clear'
        ),
        'keys_match', (
            select string_agg(format('theirs.%I = said.%s', c.name, c.alias), ' and ') from columns as c where c.place = 'key'
        ),
        'keys_known', (
            select string_agg(format('said.%s is not null', c.alias), ' and ') from columns as c where c.place = 'key'
        ),
        -- A column of the mirror without a value means that the object has no row in the app's table. A query without
        -- an answer means that the row of a parent is missing yet.
        'is_unlinked', coalesce((
            select string_agg(format('said.%s is null', c.alias), ' or ')
            from columns as c where c.place = 'key' and c.expression !~ '^mirror\.[a-z_]+$'
        ), 'false'),
        'is_different', coalesce((
            select '(' || string_agg(c.theirs, ', ' order by c.number) || ') is distinct from ('
                || string_agg(c.said, ', ' order by c.number) || ')'
            from columns as c where c.place = 'update'
        ), 'false'),
        'set_said', (
            select string_agg(format('%I = said.%s', c.name, c.alias), ', ') from columns as c where c.place = 'update'
        ),
        'columns', (
            select string_agg(quote_ident(c.name), ', ' order by c.place, c.number) from columns as c where c.place <> 'clear'
        ),
        'values', (
            select string_agg('said.' || c.alias, ', ' order by c.place, c.number) from columns as c where c.place <> 'clear'
        ),
        'on_conflict', case when v.relkind = 'v' or not exists (select from arbiter) then '' else (
            select format('on conflict (%s) ', string_agg(quote_ident(c.name), ', ') filter (where c.place = 'key'))
            || coalesce(
                'do update set ' || string_agg(format('%1$I = excluded.%1$I', c.name), ', ') filter (where c.place = 'update')
                || format(
                    ' where (%s) is distinct from (%s)',
                    string_agg(c.theirs, ', ' order by c.number) filter (where c.place = 'update'),
                    string_agg(replace(c.theirs, 'theirs.', 'excluded.'), ', ' order by c.number) filter (where c.place = 'update')
                ),
                'do nothing'
            )
            from columns as c
        ) end,
        'clear_columns', (select string_agg(format('%I = null', c.name), ', ') from columns as c where c.place = 'clear'),
        'is_full', (
            select string_agg(format('theirs.%I is not null', c.name), ' or ') from columns as c where c.place = 'clear'
        )
    ) || jsonb_build_object(
        'lock', case when v.relkind = 'v' then '' else format('lock table %s in row exclusive mode;', feed.target) end,
        'guard_key', (
            select string_agg(format('said.%s = (changed.%I)::text', split_part(c.expression, '.', 2), c.name), ' and ')
            from columns as c where c.place = 'key'
        ),
        'guard_keeps', coalesce((
            select string_agg(format('new.%I := old.%1$I;', c.name), ' ') from columns as c where c.place = 'key'
        ), ''),
        'guard_moves', (
            select string_agg(format('(new.%1$I)::text is distinct from (old.%1$I)::text', c.name), ' or ')
            from columns as c where c.place = 'key'
        ),
        'guard_sets', coalesce((
            -- As in the feed, an expression reads a row named mirror, and may name its columns alone.
            select format(
                'select %s into %s from (select kept.*) as mirror;',
                string_agg(format('(%s)::%s', c.expression, c.cast_to), ', ' order by c.number),
                string_agg(format('new.%I', c.name), ', ' order by c.number)
            )
            from columns as c where c.place = 'update' having count(*) > 0
        ), ''),
        'guard_clears', coalesce((
            select string_agg(format('new.%I := null;', c.name), ' ') from columns as c where c.place = 'clear'
        ), ''),
        'guard_drops', case when feed.mapping ->> 'on_delete' = 'delete' then 'return null;' else '' end
    )
    from clerk_sync.kinds as k
    inner join pg_catalog.pg_class as v on v.oid = feed.target::regclass
    where k.kind = feed.kind
$$;

-- differing_feed_<n>: the objects with these ids whose row in the app's table is missing (to_insert), differs
-- (to_update), is there although the object was deleted (to_delete), or cannot be named yet (unlinked). Null: none.
-- With a unique key the plan is kept, and reads the table by the key alone: `offset 0` and the setting leave no other
-- plan. Without a unique key each call makes a plan for the size that the table has now.
create function clerk_sync.definition_of_differing_feed(feed clerk_sync.feeds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            create or replace function clerk_sync.differing_{feed}(ids text[])
            returns clerk_sync.differing_rows
            language plpgsql
            stable
            set search_path = {path}, pg_temp
            {plan}
            set jit = off
            as $body$
            #variable_conflict use_column
            declare
                differing clerk_sync.differing_rows;
            begin
                select
                    array_agg({once} f.id) filter (where f.action = 'insert'),
                    array_agg({once} f.id) filter (where f.action = 'update'),
                    array_agg({once} f.id) filter (where f.action = 'delete'),
                    array_agg({once} f.id) filter (where f.action = 'unlinked')
                into differing
                from (
                    select said.id, case
                        when said.is_deleted then case when {is_over} then 'delete' end
                        when {is_unlinked} then 'unlinked'
                        when theirs.is_there then case when theirs.is_different then 'update' end
                        when {may_insert} and {keys_known} then 'insert'
                    end as action
                    from (
                        select mirror.{id} as id, mirror.deleted_at is not null as is_deleted, {said}
                        from {mirror} as mirror where mirror.{id} = any($1) offset 0
                    ) as said
                    left join lateral (
                        select true as is_there, {is_different} as is_different, {is_full} as is_full
                        from {target} as theirs where {keys_match} {fence}
                    ) as theirs on true
                ) as f;
                return differing;
            end
            $body$
            $template$,
        h.holes || jsonb_build_object(
            'may_insert', feed.mapping -> 'insert' is distinct from 'false',
            'is_full', coalesce(h.holes ->> 'is_full', 'true'),
            'is_over', case
                when h.holes ->> 'clear_columns' is not null then 'theirs.is_full'
                when feed.mapping ->> 'on_delete' = 'delete' then 'theirs.is_there'
                else 'false'
            end
        ) || case when h.holes ->> 'on_conflict' = ''
            then '{"plan": "set plan_cache_mode = force_custom_plan", "fence": "", "once": "distinct"}'::jsonb
            else '{
                "plan": "set plan_cache_mode = force_generic_plan set enable_seqscan = off", "fence": "offset 0", "once": ""
            }'
        end
    )
    from (select clerk_sync.holes_of_feed(feed) as holes) as h
$function$;

-- A statement of write_feed_<n>(), planned at each call: a plan made for an empty table would serve for a large one.
-- `offset 0`: without it, and without statistics, a plan reads the whole index of rows that are not deleted.
create function clerk_sync.execution_of(template text, ids text, holes jsonb)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select format('execute %L using %s, gone;', clerk_sync.statement_of(template, holes || jsonb_build_object(
        'alive', clerk_sync.statement_of(
            'select mirror.{id} as id, {said} from ({named}) as mirror where mirror.deleted_at is null', holes || named
        ),
        'deleted', clerk_sync.statement_of(
            'select {said} from (select m.* from ({named}) as m where m.deleted_at is not null '
            'union all select m.* from jsonb_populate_recordset(null::{mirror}, $2) as m) as mirror', holes || named
        )
    )), ids)
    from jsonb_build_object(
        'named', clerk_sync.statement_of(
            'select m.* from unnest($1) as given (id) cross join lateral ('
            'select k.* from {mirror} as k where k.{id} = given.id offset 0) as m', holes
        )
    ) as n (named)
$$;

-- write_feed_<n>: makes the app's rows of these objects equal to the mirror. gone: rows that the mirror no longer has.
-- Only rows that differ are written, so the app's triggers run for real changes only: first updates, then inserts, as a
-- new row may need a value that another row gives up. Returns the objects whose row cannot be named yet; null: none.
-- The lock comes first: a trigger that another transaction is creating on the app's table is committed, and seen by the
-- check, or waits.
create function clerk_sync.definition_of_write_feed(feed clerk_sync.feeds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            create or replace function clerk_sync.write_{feed}(ids text[], gone jsonb)
            returns text[]
            language plpgsql
            set search_path = {path}, pg_temp
            set plan_cache_mode = auto
            set jit = off
            as $body$
            declare
                differing clerk_sync.differing_rows;
            begin
                {lock}
                perform clerk_sync.check_triggers();
                perform clerk_sync.check_apps_keys_at_once({quoted_path});
                differing := clerk_sync.differing_{feed}(ids);
                if differing.to_update is not null then {update} end if;
                if differing.to_insert is not null then {insert} end if;
                if differing.to_delete is not null or gone is not null then {delete} end if;
                return differing.unlinked;
            end
            $body$
            $template$,
        h.holes || jsonb_build_object(
            'quoted_path', quote_literal((h.holes ->> 'path') || ', pg_temp'),
            'update', case when h.holes ->> 'set_said' is null then 'null;' else clerk_sync.execution_of(
                'update {target} as theirs set {set_said} from ({alive}) as said where {keys_match} and {is_different}',
                'differing.to_update', h.holes
            ) end,
            'insert', clerk_sync.execution_of(
                'insert into {target} as theirs ({columns}) select {values} from ({alive}) as said '
                'where {keys_known} {if_missing} order by said.id {on_conflict}',
                'differing.to_insert',
                h.holes || jsonb_build_object('if_missing', case
                    when h.holes ->> 'on_conflict' <> '' then ''
                    else clerk_sync.statement_of(
                        'and not exists (select from {target} as theirs where {keys_match})', h.holes
                    )
                end)
            ),
            'delete', case
                when h.holes ->> 'clear_columns' is not null then clerk_sync.execution_of(
                    'update {target} as theirs set {clear_columns} from ({deleted}) as said '
                    'where {keys_match} and ({is_full})', 'differing.to_delete', h.holes
                )
                when feed.mapping ->> 'on_delete' = 'delete' then clerk_sync.execution_of(
                    'delete from {target} as theirs using ({deleted}) as said where {keys_match}',
                    'differing.to_delete', h.holes
                )
                else 'null;'
            end
        )
    )
    from (select clerk_sync.holes_of_feed(feed) as holes) as h
$function$;

-- feed_<n>: the function of the triggers on the mirror's table. A truncate is no delete in Clerk: the app's rows stay,
-- and their objects are unfed until a comparison restores the mirror.
create function clerk_sync.definition_of_feed(feed clerk_sync.feeds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            create or replace function clerk_sync.{feed}()
            returns trigger
            language plpgsql
            security definer
            set search_path = pg_catalog, pg_temp
            as $body$
            begin
                if tg_op = 'TRUNCATE' then
                    perform clerk_sync.note_unfed(
                        f.feed_id, array(select m.{id} from {mirror} as m where m.deleted_at is null),
                        '02000', 'the mirror was emptied: a comparison with Clerk restores it'
                    )
                    from clerk_sync.feeds as f where f.feed_id = {number};
                elsif tg_op = 'DELETE' then
                    perform clerk_sync.feed_rows({number}, '{}', (select jsonb_agg(c) from changed as c));
                else
                    perform clerk_sync.feed_rows({number}, array(select c.{id} from changed as c));
                end if;
                return null;
            end
            $body$
            $template$,
        clerk_sync.holes_of_feed(feed) || '{"": "{}"}'
    )
$function$;

-- guard_feed_<n>: keeps the mapped columns of the app's table at the values of the mirror, whoever writes. A delete of
-- the row of a living object has no effect, except in a trigger or a cascade: a foreign key would be broken. An error
-- leaves the app's write as it is.
create function clerk_sync.definition_of_guard(feed clerk_sync.feeds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select clerk_sync.statement_of(
        $template$
            create or replace function clerk_sync.guard_{feed}()
            returns trigger
            language plpgsql
            security definer
            set search_path = {path}, pg_temp
            as $body$
            #variable_conflict use_column
            declare
                kept {mirror};
                is_known boolean;
            begin
                if tg_op <> 'INSERT' then
                    select said.* into kept from {mirror} as said where {guard_old} limit 1;
                    is_known := found;
                end if;
                if tg_op = 'DELETE' then
                    if is_known and kept.deleted_at is null and pg_catalog.pg_trigger_depth() = 1 then
                        raise notice 'the row is kept: its object exists in Clerk'
                            using hint = 'clerk-supabase adopt undo removes the guard';
                        return null;
                    end if;
                    return old;
                end if;
                if is_known and kept.deleted_at is null then
                    {guard_keeps}
                elsif tg_op = 'INSERT' or ({guard_moves}) then
                    select said.* into kept from {mirror} as said where {guard_new} limit 1;
                    is_known := found;
                end if;
                if not is_known then
                    {guard_unknown}
                elsif kept.deleted_at is null then
                    {guard_sets}
                else
                    {guard_clears}
                    if tg_op = 'INSERT' then {guard_drops} end if;
                end if;
                return new;
            exception
                when others or assert_failure then
                    raise warning 'the guard of this table failed (SQLSTATE %): see clerk-supabase doctor', sqlstate;
                    return case tg_op when 'DELETE' then old else new end;
            end
            $body$
            $template$,
        h.holes || jsonb_build_object(
            'guard_old', replace(h.holes ->> 'guard_key', '(changed.', '(old.'),
            'guard_new', replace(h.holes ->> 'guard_key', '(changed.', '(new.'),
            'guard_drops', coalesce(nullif(h.holes ->> 'guard_drops', ''), 'null;'),
            'guard_sets', coalesce(nullif(h.holes ->> 'guard_sets', ''), 'null;'),
            -- A purged object has no row, but a tombstone.
            'guard_unknown', case
                when h.holes ->> 'guard_drops' <> '' and (
                    select bool_and(c.value = 'mirror.' || (h.holes ->> 'id'))
                    from jsonb_each_text(feed.mapping -> 'key') as c
                )
                    then clerk_sync.statement_of(
                        'if tg_op = ''INSERT'' and exists (select from clerk_sync.entities as e where e.kind = {kind} '
                        'and e.id = (new.{key})::text and e.deleted_at is not null) then return null; end if;',
                        h.holes || jsonb_build_object('key', (
                            select quote_ident(c.key) from jsonb_each_text(feed.mapping -> 'key') as c limit 1
                        ))
                    )
                else 'null;'
            end
        )
    )
    from (select clerk_sync.holes_of_feed(feed) as holes) as h
$function$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0026_create_feeds');
