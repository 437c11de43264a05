-- Addresses, phone numbers and wallets of users: finds them in rows, in the audit log and in bodies, and removes them.

-- The words of a text, in lower case, cut at blanks, quotes, brackets and the escapes of JSON; a link with an address
-- is cut into its parts, too. An address, a phone number and an id are a word each.
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
    -- Punctuation at the end of a sentence belongs to no word.
    return array_remove(
        regexp_split_to_array(' ' || plain || ' ', '[.''!{}]*[\s"<>()\[\],;:]+[.''!{}]*') || array(
            select regexp_split_to_table(replace(link.parts[1], '%40', '@'), '[/=?&#]+')
            from regexp_matches(plain, '//[^\s"<>]*(?:@|%40)[^\s"<>]*', 'g') as link (parts)
        ),
        ''
    );
end
$$;

-- The JSON in the body of an event; of any other body, also of JSON that jsonb does not take, its text.
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

-- The same JSON without the values that hold any of the words.
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

-- The verified addresses, phone numbers and wallets in a user's row, in lower case.
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
            '$.external_accounts[*] ? (@.verified == true).email_address',
            '$.enterprise_accounts[*] ? (@.verified == true).email_address'
        ]::jsonpath[]
    ) as place
    cross join lateral jsonb_path_query(user_row, place) as value
$$;

-- Proven addresses, phone numbers and wallets of users: from their rows, from the audit log and from accepted
-- invitations. Unverified identifiers are left out: anybody can enter the address of another person. Only identifiers
-- of a single word, and long enough to name no other person.
create function clerk_sync.identifiers_of(user_ids text[])
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct identifier), '{}')
    from (
        select to_jsonb(u) as content from clerk.users as u where u.clerk_id = any(user_ids)
        union all
        select of_entry.content
        from clerk_sync.audit_log as a
        cross join lateral (values (a.old_values), (a.new_values)) as of_entry (content)
        where a.entity_id = any(user_ids) and a.kind = 'user'
        union all
        select jsonb_build_object('email', i.email_address, 'email_verified', true)
        from clerk.organization_invitations as i where i.accepted_by = any(user_ids)
    ) as said
    cross join lateral clerk_sync.verified_in(said.content) as identifier
    where identifier ~ '.@.|^\+[0-9]{7}|^.{20}' and clerk_sync.words_of(identifier) = array[identifier]
$$;

-- The words, in lower case, that are proven addresses, phone numbers and wallets of users in Clerk, as {word: user id}.
-- users: the users to ignore. No index has these values, because such an index would make each write of a user slower.
-- So all users are read, value by value, which costs a third of a search by one pattern in the text of the row.
create function clerk_sync.words_of_others(users text[], words text[])
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_object_agg(v.word, near.clerk_id), '{}')
    from (
        select u.* from clerk.users as u
        where words <> '{}' and u.deleted_at is null and u.clerk_id <> all(users)
        and (
            lower(u.email) = any(words)
            or lower(u.phone) = any(words)
            or exists (
                select from (
                    values
                    (u.email_addresses, '$[*].email_address'::jsonpath),
                    (u.external_accounts, '$[*].email_address'),
                    (u.enterprise_accounts, '$[*].email_address'),
                    (u.phone_numbers, '$[*].phone_number'),
                    (u.web3_wallets, '$[*].web3_wallet')
                ) as place (content, path)
                cross join lateral jsonb_path_query(place.content, place.path) as value
                where place.content <> '[]' and lower(value #>> '{}') = any(words)
            )
        )
        offset 0
    ) as near
    cross join lateral clerk_sync.verified_in(to_jsonb(near)) as v (word)
    where v.word = any(words)
$$;

-- Few entries are about domains, and the functions below search these for addresses.
create index audit_log_domains_idx on clerk_sync.audit_log (entity_id) where kind = 'domain';

-- The domains verified with any of these addresses, now or before.
create function clerk_sync.domains_with(words text[])
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    -- `in (select ...)`: hashed, however many there are.
    select array(
        select d.clerk_domain_id
        from clerk.organization_domains as d
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

-- Deletes the addresses with which domains were verified. The caller has locked the entities of the domains.
create function clerk_sync.empty_domains(domains text[], words text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update clerk.organization_domains as d set affiliation_email_address = null
    where d.clerk_domain_id = any(domains) and lower(d.affiliation_email_address) = any(words);
    -- Also in the audit entry of the update above.
    update clerk_sync.audit_log as a set
        old_values = clerk_sync.without_words(a.old_values, words),
        new_values = clerk_sync.without_words(a.new_values, words)
    where a.entity_id = any(domains) and a.kind = 'domain'
    and clerk_sync.words_of(concat_ws(' ', a.old_values, a.new_values)) && words;
end
$$;

-- Which of the words stand where purge() empties them, and are not proven to be another user's.
create function clerk_sync.words_to_empty(users text[], words text[])
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    used text[];
    of_others jsonb;
begin
    -- `in (select ...)`: hashed, however many there are.
    used := array(
        select lower(d.affiliation_email_address) from clerk.organization_domains as d
        where lower(d.affiliation_email_address) in (select w from unnest(words) as w)
        union
        select lower(of_entry.content ->> 'affiliation_email_address')
        from clerk_sync.audit_log as a cross join lateral (values (a.old_values), (a.new_values)) as of_entry (content)
        where a.kind = 'domain'
        and lower(of_entry.content ->> 'affiliation_email_address') in (select w from unnest(words) as w)
        union
        select said
        from clerk_sync.parked_events as p
        cross join lateral unnest(clerk_sync.words_of(clerk_sync.readable(p.body)::text)) as said
        where words <> '{}' and p.body is not null and said in (select w from unnest(words) as w)
    );
    if used = '{}' then
        return used;
    end if;
    of_others := clerk_sync.words_of_others(users, used);
    return array(select u from unnest(used) as u where not of_others ? u);
end
$$;

-- Deletes the addresses with which domains were verified, domain after domain, and returns {id: reason} of the domains
-- that could not be changed. free: the domains that the caller could lock.
create function clerk_sync.empty_domains_singly(domains text[], free text[], words text[])
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '250ms'
as $$
declare
    refused jsonb := (
        select coalesce(jsonb_object_agg(d, 'locked by another transaction'), '{}')
        from unnest(domains) as d where d <> all(free)
    );
    one text;
    why text;
    context text;
begin
    foreach one in array free loop
        begin
            perform clerk_sync.empty_domains(array[one], words);
        exception
            when others or assert_failure then
                get stacked diagnostics why = constraint_name, context = pg_exception_context;
                refused := refused || jsonb_build_object(one, clerk_sync.reason_of(sqlstate, why, context));
        end;
    end loop;
    return refused;
end
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0009_create_identifiers');
