-- What really changed, when, and why.

create table clerk_sync.audit_log (
    audit_id bigint generated always as identity,
    recorded_at timestamptz not null default clock_timestamp(),
    kind text not null,
    entity_id text collate "C" not null,
    operation text not null,
    old_values jsonb,
    new_values jsonb,
    changed_columns text[] not null,
    cause text not null,
    svix_id text collate "C",
    -- Who asks, asks for the history of one entity; an index of its own would cost every change another write.
    primary key (entity_id, audit_id),
    constraint audit_log_operation_check check (operation in ('insert', 'update', 'delete'))
);

comment on column clerk_sync.audit_log.old_values is 'Of an update the changed columns; of a delete the row.';
comment on column clerk_sync.audit_log.new_values is 'Of an update the changed columns; of an insert the row.';
comment on column clerk_sync.audit_log.cause is
'delivery, reconcile, session or operator; cascade: a parent was deleted; direct:<role>: somebody wrote to the table.';
comment on column clerk_sync.audit_log.svix_id is 'The webhook that brought the change.';

create index audit_log_recorded_at_idx on clerk_sync.audit_log using brin (recorded_at);

alter table clerk_sync.audit_log enable row level security;

-- Records a statement's changes at once. Arguments: the kind, the column that names the entity, all columns that are
-- synced, and whether clerk_sync.causes is believed. What the app keeps in columns of its own is not recorded.
-- clerk_sync.apply() leaves {"entity id": [cause, svix id]} in clerk_sync.causes, for its own transaction only. What
-- stands under "" is of all others, and their own ids follow the svix id. Everybody may set it, so it is believed only
-- of a statement that runs as the owner of this schema.
-- Definer: nobody may write the log by hand. Without nested loops, because a plan made for one row must also do for
-- thousands.
create function clerk_sync.record_changes()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
#variable_conflict use_variable
declare
    causes constant jsonb := case
        when tg_argv[3]::boolean then nullif(current_setting('clerk_sync.causes', true), '')::jsonb
    end;
    -- The API logs in with a role of its own and sets that of the request.
    caller constant text := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    default_cause constant text := case
        when causes is null then 'direct:' || caller
        else coalesce(causes -> '' ->> 0, 'cascade')
    end;
    default_svix_id constant text := causes -> '' ->> 1;
    synced constant name[] := tg_argv[2];
    apps_own text[] := '{}';
begin
    if (select c.relnatts from pg_catalog.pg_class as c where c.oid = tg_relid) > cardinality(synced) then
        apps_own := array(
            select a.attname from pg_catalog.pg_attribute as a
            where a.attrelid = tg_relid and a.attnum > 0 and a.attname <> all(synced)
        );
    end if;
    -- `offset 0` and `materialized`: a row becomes an object once, however often that is used. n.*: the app may have a
    -- column called n.
    if tg_op = 'INSERT' then
        insert into clerk_sync.audit_log (kind, entity_id, operation, new_values, changed_columns, cause, svix_id)
        select
            tg_argv[0], new_row ->> tg_argv[1], 'insert', new_row, '{}',
            coalesce(causes -> (new_row ->> tg_argv[1]) ->> 0, default_cause),
            coalesce(causes -> (new_row ->> tg_argv[1]) ->> 1, default_svix_id || (new_row ->> tg_argv[1]))
        from (select to_jsonb(n.*) - apps_own as new_row from new_rows as n offset 0) as inserted;
    elsif tg_op = 'UPDATE' then
        with after as materialized (
            select to_jsonb(n.*) - apps_own as new_row from new_rows as n
        ),

        before as materialized (
            select to_jsonb(o.*) - apps_own as old_row from old_rows as o
        ),

        differing as materialized (
            select
                new_row ->> tg_argv[1] as entity_id, old_row, new_row,
                array(
                    select key from jsonb_each(new_row) as column_of
                    where old_row -> key is distinct from value
                    order by key
                ) as changed_columns
            from after inner join before on new_row ->> tg_argv[1] = old_row ->> tg_argv[1]
            where old_row is distinct from new_row
        )

        insert into clerk_sync.audit_log (
            kind, entity_id, operation, old_values, new_values, changed_columns, cause, svix_id
        )
        select
            tg_argv[0], entity_id, 'update',
            (select jsonb_object_agg(c, old_row -> c) from unnest(changed_columns) as c),
            (select jsonb_object_agg(c, new_row -> c) from unnest(changed_columns) as c),
            changed_columns, coalesce(causes -> entity_id ->> 0, default_cause),
            coalesce(causes -> entity_id ->> 1, default_svix_id || entity_id)
        from differing;
    else
        insert into clerk_sync.audit_log (kind, entity_id, operation, old_values, changed_columns, cause, svix_id)
        select
            tg_argv[0], old_row ->> tg_argv[1], 'delete', old_row, '{}',
            coalesce(causes -> (old_row ->> tg_argv[1]) ->> 0, default_cause),
            coalesce(causes -> (old_row ->> tg_argv[1]) ->> 1, default_svix_id || (old_row ->> tg_argv[1]))
        from (select to_jsonb(o.*) - apps_own as old_row from old_rows as o offset 0) as deleted;
    end if;
    return null;
end
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0003_create_audit_log');
