-- What goes after a time: records that nobody asks for any more, and the personal data of the deleted.

-- Forgets old records and returns how many. Keep deliveries for longer than Svix can replay them.
create function clerk_sync.prune(keep_deliveries interval, keep_audit_log interval)
returns table (deliveries bigint, audit_entries bigint, parked_events bigint)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    deliveries_until constant timestamptz := now() - keep_deliveries;
begin
    -- First those that only their delivery shows to be settled.
    delete from clerk_sync.parked_events as p
    where p.discarded_at < deliveries_until
    or exists (
        select from clerk_sync.deliveries as d where d.svix_id = p.svix_id and d.applied_at < deliveries_until
    );
    get diagnostics parked_events = row_count;
    delete from clerk_sync.deliveries as d where d.applied_at < deliveries_until;
    get diagnostics deliveries = row_count;
    delete from clerk_sync.audit_log as a where a.recorded_at < now() - keep_audit_log;
    get diagnostics audit_entries = row_count;
    return next;
end
$$;

-- Ends the hold-back of rows that were hidden for longer than that. Users are scrubbed, which leaves their key for the
-- app to point at, or deleted, which lets the app's foreign keys cascade; where one refuses, the row is scrubbed
-- instead and the constraint is named, once. All other rows are deleted. No event writes such a row again.
-- At most so many rows of each kind: call it until nothing comes back.
create function clerk_sync.purge(hold_back interval, how text, at_most integer default 1000)
returns table (kind text, outcome text, constraint_name text, purged bigint)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    hidden_until constant timestamptz := now() - hold_back;
    of_kind clerk_sync.kinds;
    due text[];
    due_of_all text[] := '{}';
    due_by_kind jsonb := '{}';
    gone text[] := '{}';
    touched clerk_sync.change[];
    refused jsonb := '{}';
    one text;
    why text;
begin
    if how is null or how not in ('scrub', 'delete') then
        raise invalid_parameter_value using message = 'users are purged by ''scrub'' or ''delete''';
    end if;
    for of_kind in select k.* from clerk_sync.kinds as k where k.kind <> 'private_metadata' loop
        execute format(
            'select array(select r.%1$I::text from %2$s as r where r.deleted_at < $1 and not exists ('
            || 'select from clerk_sync.entities as e where e.kind = $2 and e.id = r.%1$I and e.purged_at is not null'
            || ') limit $3)',
            of_kind.key_column, of_kind.relation
        ) into due using hidden_until, of_kind.kind, at_most;
        due_by_kind := due_by_kind || jsonb_build_object(of_kind.kind, due);
        due_of_all := due_of_all || due;
    end loop;
    if due_of_all = '{}' then
        return;
    end if;

    -- Locks in the order of apply(): new entities, then known ones by kind and id. A row that somebody hid by hand may
    -- have had none.
    touched := array(
        select row(null, k.kind, d.id, row(-1, -1, null), null, null, null, null, null, null)::clerk_sync.change
        from (
            select * from jsonb_each(due_by_kind)
            union all select 'private_metadata', to_jsonb(due_of_all)
        ) as k (kind, ids)
        cross join lateral jsonb_array_elements_text(k.ids) as d (id)
    );
    insert into clerk_sync.entities (kind, id, version)
    select t.kind, t.id, t.version from unnest(touched) as t
    order by t.kind, t.id
    on conflict do nothing;
    perform from clerk_sync.entities as e
    where (e.kind, e.id) in (select t.kind, t.id from unnest(touched) as t)
    order by e.kind, e.id
    for update;

    for of_kind in
        select k.* from clerk_sync.kinds as k where k.kind <> 'private_metadata' order by k.write_order desc
    loop
        -- Before the locks were there, somebody may have undone a delete, or purged the row.
        execute format(
            'select array(select r.%1$I::text from %2$s as r where r.%1$I = any($1) and r.deleted_at < $2 and exists ('
            || 'select from clerk_sync.entities as e where e.kind = $3 and e.id = r.%1$I and e.purged_at is null))',
            of_kind.key_column, of_kind.relation
        )
        into due
        using array(select jsonb_array_elements_text(due_by_kind -> of_kind.kind)), hidden_until, of_kind.kind;
        continue when due = '{}';
        gone := gone || due;
        if of_kind.kind <> 'user' or how = 'delete' then
            foreach one in array due loop
                begin
                    execute format('delete from %s where %I = $1', of_kind.relation, of_kind.key_column) using one;
                exception
                    when integrity_constraint_violation or raise_exception then
                        get stacked diagnostics why = constraint_name;
                        refused := refused || jsonb_build_object(one, coalesce(nullif(why, ''), sqlerrm));
                end;
            end loop;
        end if;
        execute (
            select format(
                'update %s set %s where %I = any($1)',
                of_kind.relation, string_agg(format('%I = default', c), ', '), of_kind.key_column
            )
            from unnest(of_kind.mirrored_columns) as c
            inner join pg_catalog.pg_attribute as a on a.attrelid = of_kind.relation::regclass and c = a.attname
            where a.atthasdef or not a.attnotnull
        ) using due;
        update clerk_sync.entities as e set purged_at = now() where e.kind = of_kind.kind and e.id = any(due);
        return query
        select
            of_kind.kind,
            case when of_kind.kind <> 'user' or how = 'delete' then
                case when refused ? d.id then 'refused' else 'deleted' end
            else 'scrubbed' end,
            refused ->> d.id,
            count(*)
        from unnest(due) as d (id)
        group by 2, 3;
    end loop;

    delete from clerk_sync.private_metadata as p where p.entity_id = any(gone);
    update clerk_sync.entities as e set purged_at = now()
    where e.kind = 'private_metadata' and e.id = any(gone);
    -- The log keeps that something changed, and forgets what.
    update clerk_sync.audit_log as a set old_values = null, new_values = null where a.entity_id = any(gone);
end
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0007_create_housekeeping');
