-- What really changed, when, and why.

create table clerk_sync.audit_log (
    audit_id bigint generated always as identity primary key,
    recorded_at timestamptz not null default clock_timestamp(),
    kind text not null,
    entity_id text collate "C" not null,
    operation text not null,
    old_row jsonb,
    new_row jsonb,
    changed_columns text[] not null,
    cause text not null,
    svix_id text collate "C",
    constraint audit_log_operation_check check (operation in ('insert', 'update', 'delete'))
);

comment on column clerk_sync.audit_log.cause is
'delivery, reconcile, session or operator; cascade: a parent was deleted; direct:<role>: somebody wrote to the table.';
comment on column clerk_sync.audit_log.svix_id is 'The webhook that brought the change.';

create index audit_log_entity_idx on clerk_sync.audit_log (entity_id);
create index audit_log_recorded_at_idx on clerk_sync.audit_log using brin (recorded_at);

alter table clerk_sync.audit_log enable row level security;

-- Records a statement's changes at once. Arguments: the kind, and the column that names the entity.
-- clerk_sync.apply() leaves {"entity id": [cause, svix id]} in clerk_sync.causes, for its own transaction only.
-- Definer: nobody may write the log by hand. Without nested loops, because a plan made for one row must also do for
-- thousands.
create function clerk_sync.record_changes()
returns trigger
language plpgsql
security definer
set search_path = ''
set enable_nestloop = off
as $$
declare
    causes constant jsonb := nullif(current_setting('clerk_sync.causes', true), '')::jsonb;
    -- The API logs in with a role of its own and sets that of the request.
    caller constant text := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    default_cause constant text := case when causes is null then 'direct:' || caller else 'cascade' end;
begin
    if tg_op = 'INSERT' then
        insert into clerk_sync.audit_log (kind, entity_id, operation, new_row, changed_columns, cause, svix_id)
        select
            tg_argv[0], row_id, 'insert', new_row, '{}', coalesce(causes -> row_id ->> 0, default_cause),
            causes -> row_id ->> 1
        from (
            -- n.*: the app may have a column called n.
            select to_jsonb(n.*) as new_row, to_jsonb(n.*) ->> tg_argv[1] as row_id from new_rows as n
        ) as inserted;
    elsif tg_op = 'UPDATE' then
        with after as materialized (
            select to_jsonb(n.*) as new_row, to_jsonb(n.*) ->> tg_argv[1] as row_id from new_rows as n
        ),

        before as materialized (
            select to_jsonb(o.*) as old_row, to_jsonb(o.*) ->> tg_argv[1] as row_id from old_rows as o
        )

        insert into clerk_sync.audit_log (kind, entity_id, operation, old_row, new_row, changed_columns, cause, svix_id)
        select
            tg_argv[0], row_id, 'update', old_row, new_row,
            array(
                select key from jsonb_each(new_row) as column_of
                where old_row -> key is distinct from value
                order by key
            ),
            coalesce(causes -> row_id ->> 0, default_cause), causes -> row_id ->> 1
        from after inner join before using (row_id)
        where old_row is distinct from new_row;
    else
        insert into clerk_sync.audit_log (kind, entity_id, operation, old_row, changed_columns, cause, svix_id)
        select
            tg_argv[0], row_id, 'delete', old_row, '{}', coalesce(causes -> row_id ->> 0, default_cause),
            causes -> row_id ->> 1
        from (
            select to_jsonb(o.*) as old_row, to_jsonb(o.*) ->> tg_argv[1] as row_id from old_rows as o
        ) as deleted;
    end if;
    return null;
end
$$;

revoke all on all functions in schema clerk_sync from public;

insert into clerk_sync.migrations (name) values ('0003_create_audit_log');
