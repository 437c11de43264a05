-- What goes after a time: records that nobody asks for any more, and the personal data of the deleted.

create table clerk_sync.retention (
    is_only boolean primary key default true,
    hold_back_days integer not null default 30,
    purge_by text not null default 'scrub',
    deliveries_days integer not null default 100,
    audit_days integer not null default 365,
    runs_days integer not null default 90,
    constraint retention_is_only_check check (is_only),
    constraint retention_days_check check (
        hold_back_days between 0 and 36500 and deliveries_days between 0 and 36500
        and audit_days between 0 and 36500 and runs_days between 0 and 36500
    ),
    constraint retention_purge_by_check check (purge_by in ('scrub', 'delete'))
);

comment on table clerk_sync.retention is
'What the owner of the database allows: keep_house() keeps everything at least so long, whatever the stack asks for. '
'Only the owner writes it: clerk-supabase retention.';
comment on column clerk_sync.retention.purge_by is 'delete: the stack may choose between delete and scrub.';

alter table clerk_sync.retention enable row level security;

-- The only row of clerk_sync.retention, made with its defaults where it is missing: a schema may be restored without
-- rows.
create function clerk_sync.allowed_retention()
returns clerk_sync.retention
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    allowed clerk_sync.retention;
begin
    insert into clerk_sync.retention default values on conflict do nothing;
    select r.* into strict allowed from clerk_sync.retention as r;
    return allowed;
end
$$;

-- A row that somebody hid by hand has no delete whose record could begin its hold-back.
create table clerk_sync.hidden_by_hand (
    kind text collate "C" not null,
    id text collate "C" not null,
    seen_at timestamptz not null,
    primary key (kind, id)
);

comment on table clerk_sync.hidden_by_hand is
'Hidden rows of which neither the entity nor a parent was deleted, and when purge() first saw them.';

alter table clerk_sync.hidden_by_hand enable row level security;

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
    delete from clerk_sync.dropped_fields as f where f.recorded_at < deliveries_until;
    delete from clerk_sync.audit_log as a where a.recorded_at < now() - keep_audit_log;
    get diagnostics audit_entries = row_count;
    return next;
end
$$;

-- A query of the hidden rows of a kind that are not purged: id; recorded_at: when the first delete of the row's entity
-- or of a parent was recorded here; seen_at: when purge() first saw the row, which counts where nothing was recorded.
create function clerk_sync.hidden_rows(of_kind clerk_sync.kinds)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'select r.%1$I::text as id, least(own.delete_recorded_at%4$s) as recorded_at, by_hand.seen_at from %2$s as r '
        || 'left join clerk_sync.entities as own on own.kind = %3$L and own.id = r.%1$I '
        || 'left join clerk_sync.hidden_by_hand as by_hand on by_hand.kind = %3$L and by_hand.id = r.%1$I '
        || '%5$s where r.deleted_at is not null and own.purged_at is null',
        of_kind.key_column, of_kind.relation, of_kind.kind,
        string_agg(format(', %I.delete_recorded_at', 'parent_' || link.key), ''),
        string_agg(
            format(
                'left join clerk_sync.entities as %1$I on %1$I.kind = %2$L and %1$I.id = r.%3$I',
                'parent_' || link.key, link.value, link.key
            ),
            ' '
        )
    )
    from jsonb_each_text(of_kind.parents) as link
$$;

-- Writes down when rows that are hidden by hand were seen first, and forgets those that no longer are. Two at once
-- write in the same order, and leave to each other what is being forgotten.
create function clerk_sync.note_hidden_by_hand(of_kind clerk_sync.kinds)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'delete from clerk_sync.hidden_by_hand where (kind, id) in ('
        || 'select known.kind, known.id from clerk_sync.hidden_by_hand as known '
        || 'left join (%s) as hidden on known.id = hidden.id '
        || 'where known.kind = %L and (hidden.id is null or hidden.recorded_at is not null) '
        || 'for update of known skip locked)',
        clerk_sync.hidden_rows(of_kind), of_kind.kind
    );
    execute format(
        'insert into clerk_sync.hidden_by_hand (kind, id, seen_at) select %2$L, hidden.id, clock_timestamp() '
        || 'from (%1$s) as hidden where hidden.recorded_at is null and hidden.seen_at is null '
        || 'order by hidden.id collate "C" on conflict do nothing',
        clerk_sync.hidden_rows(of_kind), of_kind.kind
    );
end
$$;

-- The words of a text, in lower case, cut at blanks, quotes, brackets and the escapes of JSON; a link that holds an
-- address is cut into its parts, too. An address, a phone number and an id are one word each.
create function clerk_sync.words_of(content text)
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    plain text := lower(content);
begin
    if strpos(plain, '\') > 0 then
        plain := regexp_replace(plain, '\\(u[0-9a-f]{4}|.)', ' ', 'g');
    end if;
    -- What ends a sentence belongs to no word.
    return array_remove(
        regexp_split_to_array(' ' || plain || ' ', '[.''!{}]*[\s"<>()\[\],;:]+[.''!{}]*') || array(
            select regexp_split_to_table(replace(link.parts[1], '%40', '@'), '[/=?&#]+')
            from regexp_matches(plain, '//[^\s"<>]*(?:@|%40)[^\s"<>]*', 'g') as link (parts)
        ),
        ''
    );
end
$$;

-- The JSON in the body of an event; of a body that is not JSON, or JSON that jsonb does not take, its text.
create function clerk_sync.readable(body bytea)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    content text;
begin
    begin
        content := convert_from(body, 'UTF8');
        return content::jsonb;
    exception
        when data_exception or program_limit_exceeded then
            content := coalesce(content, encode(body, 'escape'));
            return to_jsonb(regexp_replace(replace(content, '\u0040', '@'), '\\[bfnrt]', ' ', 'g'));
    end;
end
$$;

-- The same JSON without the values that hold one of the words.
create function clerk_sync.without_words(content jsonb, words text[])
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if content is null or not clerk_sync.words_of(content::text) && words then
        return content;
    end if;
    return case jsonb_typeof(content)
        when 'object' then (
            select coalesce(jsonb_object_agg(key, clerk_sync.without_words(value, words)), '{}')
            from jsonb_each(content)
            where not clerk_sync.words_of(key) && words
        )
        when 'array' then (
            select coalesce(jsonb_agg(clerk_sync.without_words(value, words) order by place), '[]')
            from jsonb_array_elements(content) with ordinality as element (value, place)
        )
        else 'null'
    end;
end
$$;

-- The addresses, phone numbers and wallets that a user's row calls verified, in lower case.
create function clerk_sync.verified_in(user_row jsonb)
returns setof text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select lower(value #>> '{}')
    from unnest(
        array[
            '$ ? (@.email_verified == true).email', '$ ? (@.phone_verified == true).phone',
            '$.email_addresses[*] ? (@.verified == true).email_address',
            '$.phone_numbers[*] ? (@.verified == true).phone_number',
            '$.web3_wallets[*] ? (@.verified == true).web3_wallet',
            '$.external_accounts[*] ? (@.verified == true).email_address'
        ]::jsonpath[]
    ) as place
    cross join lateral jsonb_path_query(user_row, place) as value
$$;

-- The addresses, phone numbers and wallets that users have proven to be theirs: from their rows, from the audit log and
-- from the invitations that they accepted. Not those that nobody verified: anybody can enter those of somebody else.
-- Only those that are one word, and long enough to mean nobody else.
create function clerk_sync.identifiers_of(user_ids text[])
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct identifier), '{}')
    from (
        select to_jsonb(u) as content from public.users as u where u.clerk_id = any(user_ids)
        union all
        select of_entry.content
        from clerk_sync.audit_log as a
        cross join lateral (values (a.old_values), (a.new_values)) as of_entry (content)
        where a.entity_id = any(user_ids) and a.kind = 'user'
        union all
        select jsonb_build_object('email', i.email_address, 'email_verified', true)
        from public.organization_invitations as i where i.accepted_by = any(user_ids)
    ) as said
    cross join lateral clerk_sync.verified_in(said.content) as identifier
    where identifier ~ '.@.|^\+[0-9]{7}|^.{20}' and clerk_sync.words_of(identifier) = array[identifier]
$$;

-- The domains that were verified with one of these addresses, now or before.
create function clerk_sync.domains_with(words text[])
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    -- `in (select ...)`: hashed, however many there are.
    select array(
        select d.clerk_domain_id
        from public.organization_domains as d
        where words <> '{}' and (
            lower(d.affiliation_email_address) in (select w from unnest(words) as w)
            or exists (
                select from clerk_sync.audit_log as a
                cross join lateral (values (a.old_values), (a.new_values)) as of_entry (content)
                where a.entity_id = d.clerk_domain_id and a.kind = 'domain'
                and lower(of_entry.content ->> 'affiliation_email_address') in (select w from unnest(words) as w)
            )
        )
    )
$$;

-- Forgets addresses that domains were verified with. The caller has locked the entities of the domains.
create function clerk_sync.empty_domains(domains text[], words text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update public.organization_domains as d set affiliation_email_address = null
    where d.clerk_domain_id = any(domains) and lower(d.affiliation_email_address) = any(words);
    -- With the entry that the update above has just made.
    update clerk_sync.audit_log as a set
        old_values = clerk_sync.without_words(a.old_values, words),
        new_values = clerk_sync.without_words(a.new_values, words)
    where a.entity_id = any(domains) and a.kind = 'domain'
    and clerk_sync.words_of(concat_ws(' ', a.old_values, a.new_values)) && words;
end
$$;

-- Empties rows of one kind for good: no event writes them again. Users are scrubbed, which leaves their key for the app
-- to point at, or deleted; all other rows are deleted. A row whose delete a constraint refuses is scrubbed.
create function clerk_sync.empty_rows(of_kind clerk_sync.kinds, due text[], how text)
returns table (outcome text, constraint_name text, emptied bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    is_deleted constant boolean := of_kind.kind <> 'user' or how = 'delete';
    refused jsonb := '{}';
    one text;
    why text;
    refusal clerk_sync.refusal;
begin
    if is_deleted then
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
    begin
        execute (
            select format(
                'update %s set %s where %I = any($1)',
                of_kind.relation, string_agg(format('%I = default', c), ', '), of_kind.key_column
            )
            from unnest(of_kind.mirrored_columns) as c
            inner join pg_catalog.pg_attribute as a on a.attrelid = of_kind.relation::regclass and c = a.attname
            where a.atthasdef or not a.attnotnull
        ) using due;
    exception
        when integrity_constraint_violation then
            get stacked diagnostics
                refusal.code = returned_sqlstate, refusal.message = message_text, refusal.table_name = table_name,
                refusal.column_name = column_name, refusal.constraint_name = constraint_name;
            perform clerk_sync.refuse(refusal);
    end;
    update clerk_sync.entities as e set purged_at = now() where e.kind = of_kind.kind and e.id = any(due);
    return query
    select
        case when not is_deleted then 'scrubbed' when refused ? d.id then 'refused' else 'deleted' end,
        refused ->> d.id,
        count(*)
    from unnest(due) as d (id)
    group by 1, 2;
end
$$;

-- The entities of one kind, of which only the ids matter.
create function clerk_sync.entities_of(kind text, ids text[])
returns clerk_sync.change[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select row(null, kind, i.id, null, null, null, null, null, null, null)::clerk_sync.change
        from unnest(ids) as i (id)
    )
$$;

-- Lets keys of the app that would refuse at the commit refuse at once, where that is caught. Before Postgres 18 this
-- also runs the deferred triggers that wait in the transaction, with the rights of whoever asks for it: triggers of the
-- caller's own tables, as the owner. None waits where nothing was written yet; in any other transaction the keys refuse
-- at the commit, and nothing of it stays.
create function clerk_sync.check_keys_at_once()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_current_xact_id_if_assigned() is null then
        set constraints all immediate;
    end if;
end
$$;

-- The entities below others of one kind, whose rows go with them by the foreign keys.
create function clerk_sync.children_of(of_kind clerk_sync.kinds, parent_ids text[])
returns clerk_sync.change[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    link record;
    ids text[];
    children clerk_sync.change[] := '{}';
begin
    for link in
        select k.kind, k.relation, k.key_column, parent.key as column_name
        from clerk_sync.kinds as k cross join lateral jsonb_each_text(k.parents) as parent
        where parent.value = of_kind.kind
    loop
        execute format(
            'select array(select r.%I::text from %s as r where r.%I = any($1))',
            link.key_column, link.relation, link.column_name
        ) into ids using parent_ids;
        children := children || clerk_sync.entities_of(link.kind, ids);
    end loop;
    return children;
end
$$;

-- Locks entities, given as {kind: [id, ...]}, in the order of apply(): new ones, then known ones by kind and id. A row
-- that somebody hid by hand, or an object of which only the audit log knows, may have had no entity.
create function clerk_sync.lock_entities(ids_by_kind jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    touched constant clerk_sync.change[] := array(
        select row(null, k.kind, d.id, row(-1, -1, null), null, null, null, null, null, null)::clerk_sync.change
        from jsonb_each(ids_by_kind) as k (kind, ids)
        cross join lateral jsonb_array_elements_text(k.ids) as d (id)
    );
begin
    insert into clerk_sync.entities (kind, id, version)
    select t.kind, t.id, t.version from unnest(touched) as t
    order by t.kind, t.id
    on conflict do nothing;
    perform from clerk_sync.entities as e
    where (e.kind, e.id) in (select t.kind, t.id from unnest(touched) as t)
    order by e.kind, e.id
    for update;
end
$$;

-- Ends the hold-back of rows whose delete was recorded here longer ago than that, whenever it happened in Clerk. Users
-- are scrubbed, which leaves their key for the app to point at, or deleted, which lets the app's foreign keys cascade;
-- where one refuses, the row is scrubbed instead and the constraint is named, once. All other rows are deleted. No
-- event writes such a row again.
-- At most so many rows of each kind: call it until nothing comes back.
create function clerk_sync.purge(hold_back interval, how text, at_most integer default 1000)
returns table (kind text, outcome text, constraint_name text, purged bigint)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    of_kind clerk_sync.kinds;
    due text[];
    due_of_all text[] := '{}';
    due_by_kind jsonb := '{}';
    gone clerk_sync.change[] := '{}';
    words text[];
    domains text[];
begin
    if how is null or how not in ('scrub', 'delete') then
        raise invalid_parameter_value using message = 'users are purged by ''scrub'' or ''delete''';
    end if;
    perform clerk_sync.check_keys_at_once();
    -- What stands there is the word of whoever called.
    perform set_config('clerk_sync.causes', '', true);
    for of_kind in select k.* from clerk_sync.kinds as k where k.kind <> 'private_metadata' loop
        perform clerk_sync.note_hidden_by_hand(of_kind);
        execute format(
            'select array(select h.id from (%s) as h where coalesce(h.recorded_at, h.seen_at) <= $1 limit $2)',
            clerk_sync.hidden_rows(of_kind)
        ) into due using clock_timestamp() - hold_back, at_most;
        due_by_kind := due_by_kind || jsonb_build_object(of_kind.kind, due);
        due_of_all := due_of_all || due;
    end loop;
    if due_of_all = '{}' then
        return;
    end if;

    -- Only their rows lead to their addresses elsewhere. An address may belong to another user by now.
    words := array(
        select identifier
        from unnest(
            clerk_sync.identifiers_of(array(select jsonb_array_elements_text(due_by_kind -> 'user')))
        ) as identifier
        where not exists (select from public.users as u where u.email = identifier and u.deleted_at is null)
    );
    domains := clerk_sync.domains_with(words);

    -- In the order of apply(): the entities; then the parked events, as a delete of a user takes them; then rows.
    perform clerk_sync.lock_entities(due_by_kind || jsonb_build_object(
        'private_metadata', due_of_all, 'domain', (due_by_kind -> 'domain') || to_jsonb(domains)
    ));
    lock table clerk_sync.parked_events in row exclusive mode;

    for of_kind in
        select k.* from clerk_sync.kinds as k where k.kind <> 'private_metadata' order by k.write_order desc
    loop
        -- Before the locks were there, somebody may have undone a delete, or purged the row.
        execute format(
            'select array(select h.id from (%s) as h where h.id = any($1) and coalesce(h.recorded_at, h.seen_at) <= $2)',
            clerk_sync.hidden_rows(of_kind)
        )
        into due
        using array(select jsonb_array_elements_text(due_by_kind -> of_kind.kind)), clock_timestamp() - hold_back;
        continue when due = '{}';
        gone := gone || clerk_sync.entities_of(of_kind.kind, due);
        -- Rows beyond the portion go with their parent, by the foreign key.
        gone := gone || clerk_sync.children_of(of_kind, due);
        return query
        select of_kind.kind, e.outcome, e.constraint_name, e.emptied from clerk_sync.empty_rows(of_kind, due, how) as e;
    end loop;

    -- Not those of an invitation that was given the id of a user.
    due := array(select g.id from unnest(gone) as g where g.kind in ('user', 'organization', 'membership'));
    delete from clerk_sync.private_metadata as p where p.entity_id = any(due);
    update clerk_sync.entities as e set purged_at = now() where e.kind = 'private_metadata' and e.id = any(due);
    -- The log keeps that something changed, and forgets what.
    update clerk_sync.audit_log as a set old_values = null, new_values = null
    from unnest(gone) as g where a.entity_id = g.id and a.kind = g.kind;
    perform clerk_sync.empty_domains(domains, words);
    -- Those that say whose they are went when the user was deleted.
    update clerk_sync.parked_events as p set body = null
    where words <> '{}' and p.body is not null and exists (
        select from unnest(clerk_sync.words_of(clerk_sync.readable(p.body)::text)) as said
        where said in (select w from unnest(words) as w)
    );
end
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0007_create_housekeeping');
