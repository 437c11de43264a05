-- clerk_sync.secure_bucket(): protects the files of a bucket of Supabase Storage.

-- Storage's tables belong to Supabase, and a plain Postgres has none: each function looks for them when it is called. A
-- file is a row of storage.objects, and one table holds the files of all buckets: every policy names its bucket.

-- The name of a policy of a bucket. Names of buckets can be longer than names of policies; they never hold a #.
create function clerk_sync.bucket_policy(command text, bucket text)
returns name
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'clerk_sync_%s_%s', command, case when octet_length(bucket) <= 40 then bucket else '#' || md5(bucket) end
    )
$$;

-- The parts of a condition that must all hold, without their parentheses. As pg_get_expr() prints a condition:
-- `((a) AND (b))`. Any other condition is one part, and so is a part that does not speak of bucket_id.
create function clerk_sync.conjuncts(condition text)
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    parts text[] := '{}';
    part text := '';
    depth integer := 0;
    token text;
begin
    if condition not like '(%)' or position('bucket_id' in condition) = 0 then
        return array[condition];
    end if;
    -- Strings and quoted names are one token each: nothing in them counts.
    for token in
        select m.found[1]
        from regexp_matches(
            substr(condition, 2, length(condition) - 2),
            '''(?:[^'']|'''')*''|"(?:[^"]|"")*"| AND | OR |[()]|[^''"() ]+| ', 'g'
        ) as m (found)
    loop
        depth := depth + case token when '(' then 1 when ')' then -1 else 0 end;
        if depth < 0 or (depth = 0 and token = ' OR ') then
            return array[condition];
        elsif depth = 0 and token = ' AND ' then
            parts := parts || part;
            part := '';
        else
            part := part || token;
        end if;
    end loop;
    parts := parts || part;
    return array(
        select c.part
        from unnest(parts) with ordinality as p (part, place)
        cross join unnest(clerk_sync.conjuncts(p.part)) with ordinality as c (part, place)
        order by p.place, c.place
    );
end
$$;

-- Which buckets a condition concerns, as far as its form tells: `this` bucket alone, `other` buckets alone, or `any`.
create function clerk_sync.reach_of_condition(condition text, bucket text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        -- The policies of other secured buckets, without a look at each part: nothing that Postgres prints behind such a
        -- beginning ends the AND.
        when
            condition ~ '^\(\(bucket_id = ''([^'']|'''')*''::text\) AND '
            and not starts_with(condition, '((bucket_id = ' || this.literal || ') AND ')
            then 'other'
        else (
            select case
                when bool_or(((p.is_one or p.is_list) and not p.names_it) or (p.is_exception and p.names_it))
                    then 'other'
                when bool_or(p.is_one) then 'this'
                else 'any'
            end
            from (
                select
                    c.part ~ '^(objects\.)?bucket_id = ''([^'']|'''')*''::text$' as is_one,
                    c.part ~ '^(objects\.)?bucket_id = ANY \(ARRAY\[(''([^'']|'''')*''::text(, )?)+\]\)$' as is_list,
                    c.part ~ '^(objects\.)?bucket_id <> ''([^'']|'''')*''::text$' as is_exception,
                    -- Behind a space or [ a string begins: in a string, each quote is written twice.
                    position(' ' || this.literal in c.part) + position('[' || this.literal in c.part) > 0 as names_it
                from unnest(clerk_sync.conjuncts(condition)) as c (part)
            ) as p
        )
    end
    -- As pg_get_expr() prints a string: without E, whatever the string holds.
    from (select '''' || replace(bucket, '''', '''''') || '''::text' as literal) as this
$$;

-- The permissive policies of the app that allow the API's roles more than secure_bucket() does. is_of_bucket: the
-- policy concerns this bucket alone.
create function clerk_sync.wider_policies(bucket text)
returns table (policy_name name, is_of_bucket boolean, conditions text[])
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select p.polname, bool_and(e.reach = 'this'), array[p.condition, p.check_condition]
    from (
        select
            p.oid, p.polname, p.polroles,
            pg_get_expr(p.polqual, p.polrelid) as condition,
            pg_get_expr(p.polwithcheck, p.polrelid) as check_condition
        from pg_catalog.pg_policy as p
        where
            p.polrelid = to_regclass('storage.objects') and p.polpermissive
            and p.polname <> all(array(
                select clerk_sync.bucket_policy(c.command, bucket)
                from unnest('{select,insert,update,delete}'::text[]) as c (command)
            ))
    ) as p
    cross join lateral (
        select clerk_sync.reach_of_condition(c.condition, bucket) as reach
        from unnest(array[p.condition, p.check_condition]) as c (condition)
        where c.condition is not null
    ) as e
    where exists (
        select from unnest(p.polroles) as r (id)
        where r.id = 0 or exists (
            select from unnest('{anon,authenticated}'::name[]) as api (role_name)
            where pg_has_role(api.role_name, r.id, 'member')
        )
    )
    group by p.oid, p.polname, p.condition, p.check_condition
    having not bool_and(e.reach = 'other')
    order by p.polname
$$;

-- The statements against such policies: a policy of this bucket is dropped, any other policy excepts this bucket.
create function clerk_sync.statements_against_wider_policies(bucket text)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(
        case
            when w.is_of_bucket then format('drop policy %I on storage.objects', w.policy_name)
            else format('alter policy %I on storage.objects', w.policy_name)
            || coalesce(' using (' || w.conditions[1] || excepting.this_bucket || ')', '')
            || coalesce(' with check (' || w.conditions[2] || excepting.this_bucket || ')', '')
        end
        order by w.policy_name
    ), '{}')
    from clerk_sync.wider_policies(bucket) as w
    cross join (select format(' and bucket_id <> %L', bucket) as this_bucket) as excepting
$$;

-- The condition for files of the caller, or of the caller's organization: the first folder of a file's name is the id
-- of its owner. roles: the roles that count; null for all.
create function clerk_sync.bucket_condition(bucket text, owned_by text, roles text[])
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select format('bucket_id = %L and (storage.foldername(name))[1] = ', bucket) || case owned_by
        when 'user' then format('(%s)', caller.query)
        when 'organization' then format('(%s)', organization.query)
        else format(
            'coalesce((%s), (%s where clerk_sync.requesting_organization_id() is null))',
            organization.query, caller.query
        )
    end
    from (select 'select c.clerk_id from clerk_sync.caller as c') as caller (query)
    cross join (
        select
            'select m.clerk_org_id from clerk_sync.active_membership_of_caller as m'
            || coalesce(' where m.role = any(' || quote_literal(roles::text) || '::text[])', '') || ' limit 1'
    ) as organization (query)
$$;

-- Who owns and who reads the files of a bucket, and the plan and the feature that a caller must have, in the words at
-- the end of the condition of the bucket's policy for reading. Not in a comment: on Supabase, postgres may comment on
-- policies of storage.objects only since supautils 3.3.
create function clerk_sync.words_of_bucket(owned_by text, read_by text, entitlements text[])
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'Made by clerk_sync.secure_bucket(): owned by %s, read by %s%s.', owned_by, read_by,
        coalesce(', for callers with the ' || nullif(array_to_string(entitlements, ' and the '), ''), '')
    )
$$;

-- These words for a secured bucket; null for any other bucket.
create function clerk_sync.present_bucket(bucket text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        substring(pg_get_expr(p.polqual, p.polrelid) from '''(Made by clerk_sync\.secure_bucket\(\): [^'']*)'''), ''
    )
    from pg_catalog.pg_policy as p
    where p.polrelid = to_regclass('storage.objects') and p.polname = clerk_sync.bucket_policy('select', bucket)
$$;

-- A file in a public bucket is read without any policy. Null without such a bucket.
create function clerk_sync.is_public_bucket(bucket text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    is_so boolean;
begin
    execute 'select coalesce(b.public, false) from storage.buckets as b where b.id = $1' into is_so using bucket;
    return is_so;
end
$$;

-- The number of files in a bucket whose first folder is no id of Clerk of this kind: no user reads or writes them.
create function clerk_sync.files_of_nobody(bucket text, owned_by text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    number_of_files bigint;
begin
    execute 'select count(*) from storage.objects as o where o.bucket_id = $1 '
    || 'and coalesce(o.name, '''') !~ $2'
    into number_of_files
    using bucket, case owned_by
        when 'user' then '^user_[^/]*/' when 'organization' then '^org_[^/]*/' else '^(user|org)_[^/]*/'
    end;
    return number_of_files;
end
$$;

-- Why a bucket cannot be secured; null without an obstacle.
create function clerk_sync.obstacle_to_secure_bucket(bucket text, read_by text, replace_policies boolean)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when b.is_public is null then format(
            'there is no such bucket (insert into storage.buckets (id, name) values (%1$L, %1$L))', bucket
        )
        when b.is_public and read_by <> 'everybody' then format(
            'it is public: everybody who knows the address of a file reads the file, whatever the policies say (update '
            'storage.buckets set public = false where id = %L, or call with read_by => ''everybody'')', bucket
        )
        when not b.is_public and read_by = 'everybody' then format(
            'it is private: read_by => ''everybody'' is for public buckets (update storage.buckets set public = true '
            'where id = %L, or call with read_by => ''signed-in'')', bucket
        )
        when not (select c.relrowsecurity from pg_catalog.pg_class as c where c.oid = to_regclass('storage.objects'))
            then 'row-level security is off for storage.objects (as its owner: alter table storage.objects enable row '
            'level security)'
        when replace_policies is not true then (
            select format(
                'policies of storage.objects would allow more (%s); call with replace_policies => true for: %s',
                string_agg(quote_ident(w.policy_name), ', ' order by w.policy_name),
                array_to_string(clerk_sync.statements_against_wider_policies(bucket), '; ')
            )
            from clerk_sync.wider_policies(bucket) as w
            having count(*) > 0
        )
    end
    from (select clerk_sync.is_public_bucket(bucket) as is_public) as b
$$;

-- Raises an error for arguments of secure_bucket() that make no sense, and for an obstacle.
create function clerk_sync.check_request_to_secure_bucket(
    bucket text,
    owned_by text,
    read_by text,
    write_roles text[],
    delete_roles text[],
    entitlements text[],
    replace_policies boolean
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    obstacle text;
begin
    if to_regclass('storage.objects') is null then
        raise wrong_object_type
            using message = 'this database has no table storage.objects: files are protected where Supabase Storage is';
    end if;
    if bucket is null or owned_by is null or owned_by not in ('user', 'organization', 'user-or-organization') then
        raise invalid_parameter_value
            using message = 'a bucket belongs to ''user'', ''organization'' or ''user-or-organization''';
    end if;
    if read_by is null or read_by not in ('owner', 'signed-in', 'everybody') then
        raise invalid_parameter_value
            using message = 'files are read by their ''owner'', by everybody who is ''signed-in'', or by ''everybody''';
    end if;
    if read_by = 'everybody' and entitlements <> '{}' then
        raise invalid_parameter_value
            using message = 'everybody reads the files of a public bucket: a plan and a feature are for private buckets';
    end if;
    perform clerk_sync.check_request_to_secure(
        to_regclass('storage.objects'), owned_by, write_roles, delete_roles
    );
    obstacle := clerk_sync.obstacle_to_secure_bucket(bucket, read_by, replace_policies);
    if obstacle is not null then
        raise wrong_object_type using message = format('the bucket %s cannot be secured: %s', bucket, obstacle);
    end if;
end
$$;

-- The statements that drop the policies of secure_bucket().
create function clerk_sync.statements_to_unsecure_bucket(bucket text)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select format('drop policy %I on storage.objects', p.polname)
        from unnest('{select,insert,update,delete}'::text[]) with ordinality as c (command, place)
        inner join pg_catalog.pg_policy as p
            on p.polrelid = to_regclass('storage.objects') and p.polname = clerk_sync.bucket_policy(c.command, bucket)
        order by c.place
    )
$$;

-- The statements that make the policies of a bucket anew.
create function clerk_sync.bucket_statements(
    bucket text, owned_by text, read_by text, write_roles text[], delete_roles text[], entitlements text[]
)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select clerk_sync.statements_to_unsecure_bucket(bucket)
    || array(
        select format(
            'create policy %I on storage.objects for %s to authenticated %s (%s)',
            clerk_sync.bucket_policy(p.command, bucket), p.command,
            case p.command when 'insert' then 'with check' else 'using' end,
            clerk_sync.also_entitled(p.condition, entitlements)
            || case p.command
                when 'select'
                    then format(' and %L <> ''''', clerk_sync.words_of_bucket(owned_by, read_by, entitlements))
                else ''
            end
        )
        from (
            values
            (1, 'select', case read_by
                when 'signed-in'
                    then format(
                        'bucket_id = %L and (select c.clerk_id from clerk_sync.caller as c) is not null', bucket
                    )
                else clerk_sync.bucket_condition(bucket, owned_by, null)
            end),
            (2, 'insert', clerk_sync.bucket_condition(bucket, owned_by, write_roles)),
            (3, 'update', clerk_sync.bucket_condition(bucket, owned_by, write_roles)),
            (4, 'delete', clerk_sync.bucket_condition(bucket, owned_by, delete_roles))
        ) as p (place, command, condition)
        order by p.place
    )
$$;

-- Executes statements about storage.objects, and returns each. While a session waits for a lock, every later session
-- waits, too: the wait is short, unless the caller has set a time.
create function clerk_sync.execute_on_objects(statements text[])
returns setof text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    lock_timeout_before constant text := current_setting('lock_timeout');
    statement text;
begin
    if lock_timeout_before = '0' then
        perform set_config('lock_timeout', '5s', true);
    end if;
    foreach statement in array statements loop
        execute statement;
        return next statement;
    end loop;
    perform set_config('lock_timeout', lock_timeout_before, true);
exception
    when insufficient_privilege then
        raise insufficient_privilege
            using message = format('%s may make no policy on storage.objects (%s)', current_user, sqlerrm),
            hint = 'On Supabase, sign in as postgres; elsewhere, as a superuser.';
end
$$;

-- Protects the files of a bucket. A second call has the same result.
--   owned_by 'user': the first folder of a file's name is the id of its user (user_2abc/photo.png), and only this user
--   reads and writes the file. 'organization': the first folder is the id of an organization (org_2abc/report.pdf);
--   members read with this organization active in their token; write_roles and delete_roles are as in secure().
--   'user-or-organization': with an active organization in the token the caller reads and writes the files of this
--   organization, and without an active organization the caller's own files.
--   read_by 'owner': as above. 'signed-in': every user who is not banned reads and lists all files of the bucket.
--   'everybody': for a public bucket, whose files Storage sends to everybody without a policy; its owner lists files.
--   plan, feature and from_mirror, for a private bucket, are as in secure(): a caller without these has no access.
-- A permissive policy of the app that would allow more is an obstacle. With replace_policies, a policy about this
-- bucket alone is dropped, and any other such policy is altered to except this bucket. Returns the executed statements.
create function clerk_sync.secure_bucket(
    bucket text,
    owned_by text,
    write_roles text[] default null,
    delete_roles text[] default null,
    read_by text default 'owner',
    replace_policies boolean default false,
    plan text default null,
    feature text default null,
    from_mirror boolean default false
)
returns setof text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    entitlements constant text[] := clerk_sync.entitlements_asked(plan, feature, from_mirror);
begin
    -- Of two sessions that secure a bucket at once, the second finds the policies of the first.
    perform pg_advisory_xact_lock(hashtextextended('clerk_sync.secure_bucket', 0));
    perform clerk_sync.check_request_to_secure_bucket(
        bucket, owned_by, read_by, write_roles, delete_roles, entitlements, replace_policies
    );
    return query select s.statement
    from clerk_sync.execute_on_objects(
        case when replace_policies then clerk_sync.statements_against_wider_policies(bucket) else '{}' end
        || clerk_sync.bucket_statements(
            bucket, owned_by, read_by, write_roles, coalesce(delete_roles, write_roles), entitlements
        )
    ) as s (statement);
    -- Another session may have made a policy while this session waited for a lock.
    perform clerk_sync.check_request_to_secure_bucket(
        bucket, owned_by, read_by, write_roles, delete_roles, entitlements, false
    );
end
$$;

-- Undoes secure_bucket(): afterwards a user of the API reads or writes only the files that policies of the app allow.
-- Returns the executed statements. A policy of the app that replace_policies dropped or altered stays so.
create function clerk_sync.unsecure_bucket(bucket text)
returns setof text
language sql
set search_path = pg_catalog, pg_temp
as $$
    select s.statement
    from clerk_sync.execute_on_objects(clerk_sync.statements_to_unsecure_bucket(bucket)) as s (statement)
$$;

-- The differences of a secured bucket from what secure_bucket() made: for `clerk-supabase secure-bucket` and
-- `clerk-supabase doctor`. In the form of detours().
create function clerk_sync.bucket_openings(bucket text)
returns table (verdict text, is_refused boolean, found text, todo text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with made as (
        select c.command, p.oid, concat_ws(
            ' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
        ) as condition
        from unnest('{select,insert,update,delete}'::text[]) as c (command)
        left join pg_catalog.pg_policy as p
            on p.polrelid = to_regclass('storage.objects') and p.polname = clerk_sync.bucket_policy(c.command, bucket)
    )

    select
        'fail', true, 'row-level security is off for storage.objects',
        'as its owner: alter table storage.objects enable row level security'
    from pg_catalog.pg_class as c
    where c.oid = to_regclass('storage.objects') and not c.relrowsecurity
    union all
    select
        'fail', true,
        'it is public: everybody who knows the address of a file reads the file, whatever the policies say',
        format('update storage.buckets set public = false where id = %L', bucket)
    where clerk_sync.is_public_bucket(bucket) and clerk_sync.present_bucket(bucket) not like '%read by everybody.'
    union all
    select
        'fail', true,
        format(
            'its policy %I %s', clerk_sync.bucket_policy(m.command, bucket),
            case when m.oid is null then 'is missing' else 'no longer asks who the caller is' end
        ),
        format('clerk-supabase secure-bucket %L user, or organization', bucket)
    from made as m
    where
        m.oid is null
        or clerk_sync.reach_of_condition(m.condition, bucket) <> 'this'
        or m.condition !~ 'clerk_sync\.(caller|active_membership_of_caller)\M'
    union all
    select
        'warn', true,
        format(
            'its policy %I does not ask for the %s, as others of its policies do',
            clerk_sync.bucket_policy(m.command, bucket), string_agg(distinct a.words, ' and the ' order by a.words)
        ),
        format('clerk-supabase secure-bucket %L again, with --plan or --feature, unless that is meant', bucket)
    from made as m
    cross join (select unnest(clerk_sync.entitlements_in(o.condition)) from made as o) as a (words)
    where m.oid is not null and a.words <> all(clerk_sync.entitlements_in(m.condition))
    group by m.command
    union all
    select
        'fail', true, format('the policy %I of storage.objects allows more', w.policy_name),
        s.statement || ', unless that is meant'
    from unnest(clerk_sync.statements_against_wider_policies(bucket)) with ordinality as s (statement, place)
    inner join (
        select w.policy_name, row_number() over (order by w.policy_name) as place
        from clerk_sync.wider_policies(bucket) as w
    ) as w using (place)
    union all
    -- Names of files and their owners, not the files.
    select case d.verdict when 'fail' then 'warn' else d.verdict end, false, 'storage.objects: ' || d.found, d.todo
    from clerk_sync.detours_by_relations(to_regclass('storage.objects')) as d
$$;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0029_secure_buckets');
