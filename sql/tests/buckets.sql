-- clerk_sync.secure_bucket(): files in Supabase Storage.

-- A plain Postgres has no Storage: the parts of its schema that matter for a policy.
do $$
begin
    if to_regclass('storage.objects') is not null then
        return;
    end if;
    create schema storage;
    grant usage on schema storage to anon, authenticated, service_role;
    create table storage.buckets (id text primary key, name text not null unique, public boolean default false);
    create table storage.objects (
        id uuid primary key default gen_random_uuid(),
        bucket_id text references storage.buckets (id),
        name text,
        owner uuid,
        owner_id text,
        unique (bucket_id, name)
    );
    alter table storage.objects enable row level security;
    grant all on storage.buckets, storage.objects to anon, authenticated, service_role;
    create function storage.foldername(name text) returns text[] language plpgsql immutable as
    'begin return (string_to_array(name, ''/''))[1 : cardinality(string_to_array(name, ''/'')) - 1]; end';
end
$$;

insert into storage.buckets (id, name, public)
values
('private', 'private', false), ('teams', 'teams', false), ('both', 'both', false), ('shared', 'shared', false),
('avatars', 'avatars', true), ('other', 'other', false),
('it''s (a) very, very long name of a bucket', 'it''s (a) very, very long name of a bucket', false);

create function tap.rejection(statement text)
returns text
language plpgsql
as $$
begin
    execute statement;
    return null;
exception
    when others then return sqlerrm;
end
$$;

-- A policy of the app that concerns another bucket is no obstacle, however it says so.
create policy other_1 on storage.objects for all to public using (bucket_id = 'other' and name <> 'x AND (y)');
create policy other_2 on storage.objects for select to authenticated
using ((name = 'a' or name = 'b') and bucket_id in ('other', 'else'));
create policy other_3 on storage.objects for insert to authenticated
with check (
    bucket_id <> 'private' and bucket_id <> 'teams' and bucket_id <> 'both' and bucket_id <> 'shared' and false
);
create policy only_restricts on storage.objects as restrictive for all to public using (true);
create policy of_the_service on storage.objects for all to service_role using (true);

select tap.is(count(*)::text, '4', 'the policies of a private bucket')
from clerk_sync.secure_bucket('private', 'user');
select tap.is(count(*)::text, '8', 'are made anew by a second call')
from clerk_sync.secure_bucket('private', 'user');
select tap.ok(bool_or(s.statement like '%for delete%org:editor%'), 'deletes ask for the roles that may write')
from clerk_sync.secure_bucket('teams', 'organization', write_roles => '{org:editor}') as s (statement);
select from clerk_sync.unsecure_bucket('teams');
select tap.is(count(*)::text, '4', 'for an organization')
from
    clerk_sync.secure_bucket(
        'teams', 'organization', write_roles => '{org:admin,org:editor}', delete_roles => '{org:admin}'
    );
select tap.is(count(*)::text, '4', 'for both') from clerk_sync.secure_bucket('both', 'user-or-organization');
select tap.is(count(*)::text, '4', 'read by all')
from clerk_sync.secure_bucket('shared', 'user', read_by => 'signed-in');
select
    tap.is(
        tap.rejection($$select clerk_sync.secure_bucket('avatars', 'user', read_by => 'everybody')$$),
        'the bucket avatars cannot be secured: policies of storage.objects would allow more (other_3); call with '
        || 'replace_policies => true for: alter policy other_3 on storage.objects with check ('
        || pg_get_expr(p.polwithcheck, p.polrelid) || ' and bucket_id <> ''avatars'')',
        'a policy that excepts buckets concerns all others'
    )
from pg_policy as p
where p.polname = 'other_3';
select tap.is(count(*)::text, '5', 'and excepts one more if the app agrees')
from clerk_sync.secure_bucket('avatars', 'user', read_by => 'everybody', replace_policies => true);
select tap.is(count(*)::text, '5', 'a long name')
from clerk_sync.secure_bucket('it''s (a) very, very long name of a bucket', 'user', replace_policies => true);

select tap.is(count(*)::text, '4', 'and goes again')
from clerk_sync.unsecure_bucket('it''s (a) very, very long name of a bucket');

insert into storage.objects (bucket_id, name, owner_id)
select
    b.bucket,
    o.owner || '/file.png',
    'user_carl'
from (values ('private'), ('teams'), ('both'), ('shared'), ('avatars'), ('other')) as b (bucket)
cross join (
    values
    ('user_ada'), ('user_bea'), ('user_carl'), ('user_dan'), ('user_ed'), ('user_eve'), ('user_gus'), ('user_pam'),
    ('org_labs'), ('org_eves'), ('org_closed'), ('6f2d6f3e-0000-4000-8000-000000000001'), ('')
) as o (owner);
insert into storage.objects (bucket_id, name) values ('private', 'user_ada'), ('private', null);

-- The rows that a caller reads, writes and deletes in each bucket. Every token says admin, and Labs is active. A user
-- who was removed from Labs reads no file of Labs, even where Storage calls the user its owner.
create table tap.expected (
    caller text, private text, teams text, team_writes text, team_deletes text, shared text, inserts text
);

insert into tap.expected (caller, private, teams, team_writes, team_deletes, shared, inserts)
values
('ada', '1', '1', '1', '1', '13', '1'), ('bob', '0', '1', '0', '0', '13', '1'), ('carl', '1', '0', '0', '0', '13', '1'),
('ed', '1', '1', '1', '0', '13', '1'), ('eve', '1', '1', '1', '1', '13', '1'),
('bea', '0', '0', '0', '0', '0', 'denied'), ('dan', '0', '0', '0', '0', '0', 'denied');

-- As Storage writes: an upload reads the new row, and an upsert also writes the old one.
select
    tap.is(
        tap.attempt('authenticated', c.claims, a.statement),
        a.outcome,
        a.statement || ' by ' || c.caller || ' ' || c.version
    )
from tap.callers as c
inner join tap.expected as e on c.caller = e.caller and c.version = 'v2'
cross join
    lateral format(
        'insert into storage.objects (bucket_id, name) values (''private'', ''user_%s/new.png'')', c.caller
    ) as of_user (upload)
cross join lateral (
    values
    ('select * from storage.objects where bucket_id = ''private''', e.private),
    ('select * from storage.objects where bucket_id = ''teams''', e.teams),
    ('select * from storage.objects where bucket_id = ''shared''', e.shared),
    ('update storage.objects set owner_id = ''x'' where bucket_id = ''private''', e.private),
    ('update storage.objects set owner_id = ''x'' where bucket_id = ''teams''', e.team_writes),
    ('delete from storage.objects where bucket_id = ''private''', e.private),
    ('delete from storage.objects where bucket_id = ''teams''', e.team_deletes),
    (of_user.upload || ' returning *', e.inserts),
    (
        replace(of_user.upload, 'new.png', 'file.png')
        || ' on conflict (bucket_id, name) do update set owner_id = ''x'' returning *',
        e.inserts
    ),
    (replace(of_user.upload, 'private', 'teams'), 'denied'),
    ('insert into storage.objects (bucket_id, name) values (''private'', ''user_zoe/new.png'')', 'denied'),
    ('insert into storage.objects (bucket_id, name) values (''private'', ''new.png'')', 'denied'),
    ('insert into storage.objects (bucket_id, name) values (''avatars'', ''/user_ada/new.png'')', 'denied')
) as a (statement, outcome);

-- Files of an organization: by the synced role, and by the active organization of the token.
select
    tap.is(
        tap.attempt('authenticated', tap.token('v2', a.person, a.organization, 'admin'), a.statement),
        a.outcome,
        format('%s by %s in %s', a.statement, a.person, a.organization)
    )
from (
    values
    (
        'ed',
        'org_labs',
        'insert into storage.objects (bucket_id, name) values (''teams'', ''org_labs/new'') returning *',
        '1'
    ),
    ('bob', 'org_labs', 'insert into storage.objects (bucket_id, name) values (''teams'', ''org_labs/new'')', 'denied'),
    (
        'carl',
        'org_labs',
        'insert into storage.objects (bucket_id, name) values (''teams'', ''org_labs/new'')',
        'denied'
    ),
    ('ada', 'org_labs', 'insert into storage.objects (bucket_id, name) values (''teams'', ''org_eves/new'')', 'denied'),
    ('ada', 'org_labs', 'update storage.objects set name = ''org_eves/moved'' where bucket_id = ''teams''', 'denied'),
    ('ada', 'org_labs', 'update storage.objects set bucket_id = ''shared'' where bucket_id = ''teams''', 'denied'),
    ('ada', 'org_eves', 'select * from storage.objects where bucket_id = ''teams''', '0'),
    ('ada', null, 'select * from storage.objects where bucket_id = ''teams''', '0'),
    ('ada', 'org_labs', 'select * from storage.objects where bucket_id = ''both''', '1'),
    ('ada', 'org_eves', 'select * from storage.objects where bucket_id = ''both''', '0'),
    ('ada', null, 'select * from storage.objects where bucket_id = ''both'' and name like ''user_ada/%''', '1'),
    ('ada', null, 'update storage.objects set name = ''user_eve/moved'' where bucket_id = ''private''', 'denied'),
    ('bea', null, 'select * from storage.objects where bucket_id = ''both''', '0')
) as a (person, organization, statement, outcome);

select tap.is(tap.attempt('anon', '', a.statement), a.outcome, a.statement || ' by anon')
from (
    values
    ('select * from storage.objects where bucket_id <> ''other''', '0'),
    ('insert into storage.objects (bucket_id, name) values (''avatars'', ''user_ada/new.png'')', 'denied'),
    ('select * from storage.objects where bucket_id = ''other''', '13')
) as a (statement, outcome);

select
    tap.is(
        clerk_sync.files_of_nobody('private', a.owned_by)::text,
        a.files,
        'files of nobody in a bucket of ' || a.owned_by
    )
from (values ('user', '7'), ('organization', '12'), ('user-or-organization', '4')) as a (owned_by, files);

-- Each query asks once who the caller is.
select
    tap.ok(
        p.plan ~ 'InitPlan' and p.plan !~ 'SubPlan' and p.plan !~ '\n +(Filter|Index Cond)[^\n]*requesting_', p.plan
    )
from (
    select
        tap.plan(
            'authenticated', tap.token('v2', 'ada', 'org_labs', 'admin'),
            format('select * from storage.objects where bucket_id = %L and name = ''x''', b.bucket)
        ) as plan
    from (values ('private'), ('teams'), ('both'), ('shared')) as b (bucket)
) as p;

-- What cannot be secured.
select tap.ok(tap.rejection(a.statement) like a.words, coalesce(tap.rejection(a.statement), a.statement))
from (
    values
    ('select clerk_sync.secure_bucket(''privat'', ''user'')', '%no such bucket (insert into storage.buckets%'),
    ('select clerk_sync.secure_bucket(null, ''user'')', 'a bucket belongs to%'),
    ('select clerk_sync.secure_bucket(''private'', ''users'')', 'a bucket belongs to%'),
    ('select clerk_sync.secure_bucket(''private'', ''user'', read_by => ''all'')', 'files are read by%'),
    ('select clerk_sync.secure_bucket(''private'', ''user'', ''{org:admin}'')', 'roles are of organizations%'),
    ('select clerk_sync.secure_bucket(''teams'', ''organization'', ''{admin}'')', 'a role is spelled org:<role>'),
    ('select clerk_sync.secure_bucket(''avatars'', ''user'')', '%it is public: everybody who knows%'),
    (
        'create policy mine on storage.objects using (true); '
        'select clerk_sync.secure_bucket(''private'', ''user'', replace_policies => null)',
        '%would allow more (mine)%'
    ),
    ('select clerk_sync.secure_bucket(''private'', ''user'', read_by => ''everybody'')', '%it is private%')
) as a (statement, words);

select tap.none('select * from clerk_sync.bucket_openings(''private'')', 'a secured bucket has no opening');

create function tap.openings(fault text, bucket text)
returns text
language plpgsql
as $$
declare
    openings text;
begin
    begin
        execute fault;
        select string_agg(o.verdict || ': ' || o.found || ' (' || o.todo || ')', '; ') into openings
        from clerk_sync.bucket_openings(bucket) as o;
        raise exception using errcode = 'TAP00', message = coalesce(openings, '');
    exception
        when sqlstate 'TAP00' then return sqlerrm;
    end;
end
$$;

select tap.ok(tap.openings(a.fault, 'private') like a.words, a.fault || ': ' || tap.openings(a.fault, 'private'))
from (
    values
    ('update storage.buckets set public = true', 'fail: it is public%set public = false where id = ''private'')'),
    ('alter table storage.objects disable row level security', 'fail: row-level security is off%'),
    (
        'drop policy clerk_sync_select_private on storage.objects',
        'fail: its policy clerk_sync_select_private is missing%'
    ),
    (
        'alter policy clerk_sync_delete_private on storage.objects using (bucket_id = ''private'')',
        'fail: its policy clerk_sync_delete_private no longer asks who the caller is%'
    ),
    (
        'create policy mine on storage.objects using (bucket_id = ''private'')',
        'fail: the policy mine of storage.objects allows more (drop policy mine on storage.objects%'
    ),
    ('create policy mine on storage.objects using (true)', 'fail: the policy mine%(alter policy mine%'),
    (
        'create policy mine on storage.objects using (bucket_id = ''other'' or name = ''x'')', 'fail: the policy mine%'
    ),
    (
        'create policy mine on storage.objects using (not (bucket_id = ''other'' and name = ''x''))',
        'fail: the policy mine%'
    ),
    (
        'create policy mine on storage.objects using (bucket_id = ''other'') with check (true)',
        'fail: the policy mine%'
    ),
    (
        'create policy mine on storage.objects to authenticated using (bucket_id in (''other'', ''private''))',
        'fail: the policy mine of storage.objects allows more (alter policy mine%'
    ),
    ('create policy mine on storage.objects using (bucket_id <> ''x''''private'')', 'fail: the policy mine%'),
    (
        'create policy mine on storage.objects using (coalesce(bucket_id = ''other'' and name = ''x'', true))',
        'fail: the policy mine%'
    ),
    (
        'create view public.files as select name from storage.objects; grant select on public.files to anon',
        'warn: storage.objects: the view public.files shows its rows to anon%'
    )
) as a (fault, words);

-- The app's policies that allow more go or change only when asked, and a bucket is unsecured to the last policy.
create policy mine on storage.objects for select to authenticated using (bucket_id = 'private' and true);
create policy wide on storage.objects for select to anon using (name = 'a' or bucket_id = 'x');
select
    tap.is(
        string_agg(s.statement, '; ') filter (where s.statement !~ 'clerk_sync'),
        'drop policy mine on storage.objects; alter policy wide on storage.objects using (((name = ''a''::text) '
        || 'OR (bucket_id = ''x''::text)) and bucket_id <> ''private'')',
        'statements about policies of the app'
    )
from clerk_sync.secure_bucket('private', 'user', replace_policies => true) as s (statement);
select tap.none('select * from clerk_sync.bucket_openings(''private'')', 'after which nothing is open');
select tap.is(count(*)::text, '4', 'the policies of the bucket go') from clerk_sync.unsecure_bucket('private');
select tap.is(count(*)::text, '0', 'once') from clerk_sync.unsecure_bucket('private');
select tap.is(
    tap.attempt('authenticated', tap.token('v2', 'ada'), 'select * from storage.objects where bucket_id = ''private'''),
    '0', 'and nobody reads its files'
);

-- Files for callers with a plan and a feature: those that the token names, or those of the mirrored subscription.
insert into storage.buckets (id, name) values ('paid', 'paid'), ('reports', 'reports'), ('all', 'all');
select tap.is(count(*)::text, '6', 'a bucket for a plan and a feature of the token')
from clerk_sync.secure_bucket('paid', 'user', plan => 'u:pro', feature => 'user:export', replace_policies => true);
select tap.is(count(*)::text, '6', 'for a feature of the mirror')
from
    clerk_sync.secure_bucket(
        'reports', 'organization', feature => 'org:reports', from_mirror => true, replace_policies => true
    );
select tap.is(count(*)::text, '6', 'read by all signed-in users with a plan of the mirror')
from
    clerk_sync.secure_bucket(
        'all', 'user', plan => 'user:pro', from_mirror => true, read_by => 'signed-in', replace_policies => true
    );
insert into storage.objects (bucket_id, name)
select
    b.bucket,
    o.owner || '/file.png'
from (values ('paid'), ('reports'), ('all')) as b (bucket)
cross join (values ('user_ada'), ('user_bea'), ('user_dan'), ('user_eve'), ('org_labs'), ('org_eves')) as o (owner);
insert into clerk.plans (clerk_plan_id, slug, features)
values ('cplan_pro', 'pro', '{export}'), ('cplan_team', 'team', '{reports}');
insert into clerk.subscription_items (
    clerk_subscription_item_id, clerk_user_id, clerk_org_id, plan_id, plan_slug, status
)
values
('subi_ada', 'user_ada', null, 'cplan_pro', 'pro', 'active'),
('subi_bea', 'user_bea', null, 'cplan_pro', 'pro', 'active'),
('subi_dan', 'user_dan', null, 'cplan_pro', 'pro', 'active'),
('subi_eve', 'user_eve', null, 'cplan_pro', 'pro', 'ended'),
('subi_labs', null, 'org_labs', 'cplan_team', 'team', 'active');

select
    tap.is(
        tap.attempt(
            a.role_name, (tap.token('v2', a.person, a.organization, 'admin')::jsonb || a.claims)::text, s.statement
        ),
        case when s.statement like 'insert%' and a.files = '0' then 'denied' else a.files end,
        format('%s by %s in %s with %s', s.statement, a.person, a.organization, a.claims)
    )
from (
    values
    ('authenticated', 'paid', 'user_ada', 'ada', null, '{"pla": "u:pro", "fea": "u:export"}'::jsonb, '1'),
    ('authenticated', 'paid', 'user_ada', 'ada', null, '{"pla": "u:pro"}', '0'),
    ('authenticated', 'paid', 'user_ada', 'ada', null, '{"fea": "u:export"}', '0'),
    ('authenticated', 'paid', 'user_ada', 'ada', 'org_labs', '{"pla": "o:pro", "fea": "o:export"}', '0'),
    ('authenticated', 'paid', 'user_ada', 'ada', null, '{}', '0'),
    ('authenticated', 'paid', 'user_bea', 'bea', null, '{"pla": "u:pro", "fea": "u:export"}', '0'),
    ('authenticated', 'paid', 'user_dan', 'dan', null, '{"pla": "u:pro", "fea": "u:export"}', '0'),
    ('anon', 'paid', 'user_ada', 'ada', null, '{"pla": "u:pro", "fea": "u:export"}', '0'),
    ('authenticated', 'reports', 'org_labs', 'bob', 'org_labs', '{}', '1'),
    ('authenticated', 'reports', 'org_labs', 'bob', null, '{"fea": "uo:reports"}', '0'),
    ('authenticated', 'reports', 'org_labs', 'carl', 'org_labs', '{"fea": "o:reports"}', '0'),
    ('authenticated', 'reports', 'org_eves', 'eve', 'org_eves', '{"fea": "o:reports"}', '0'),
    ('authenticated', 'all', 'user_ada', 'ada', null, '{}', '6'),
    ('authenticated', 'all', 'user_bea', 'bea', null, '{"pla": "u:pro"}', '0'),
    ('authenticated', 'all', 'user_eve', 'eve', null, '{"pla": "u:pro"}', '0')
) as a (role_name, bucket, owner, person, organization, claims, files)
cross join
    lateral (
        values
        (format('select * from storage.objects where bucket_id = %L', a.bucket)),
        (format('insert into storage.objects (bucket_id, name) values (%L, %L)', a.bucket, a.owner || '/new.png'))
    ) as s (statement)
where s.statement like 'select%' or a.files <> '6';

select
    tap.is(
        clerk_sync.present_bucket('reports'),
        'Made by clerk_sync.secure_bucket(): owned by organization, read by owner, for callers with the mirrored '
        || 'feature org:reports.',
        'the bucket says for whom its files are'
    );
select tap.none('select * from clerk_sync.bucket_openings(''reports'')', 'and has no opening');
select
    tap.ok(
        tap.openings(
            'alter policy clerk_sync_delete_reports on storage.objects using (bucket_id = ''reports'' '
            || 'and name = (select clerk_id from clerk_sync.caller))', 'reports'
        ) like 'warn: its policy clerk_sync_delete_reports does not ask for the mirrored feature org:reports,%',
        'unless a policy stops asking'
    );
select
    tap.ok(
        p.plan ~ 'InitPlan' and p.plan !~ 'SubPlan' and p.plan !~ '\n +(Filter|Index Cond)[^\n]*requesting_', p.plan
    )
from (
    select
        tap.plan(
            'authenticated', tap.token('v2', 'ada', 'org_labs', 'admin'),
            format('select * from storage.objects where bucket_id = %L and name = ''x''', b.bucket)
        ) as plan
    from (values ('paid'), ('reports'), ('all')) as b (bucket)
) as p;
select tap.ok(tap.rejection(a.statement) like a.words, coalesce(tap.rejection(a.statement), a.statement))
from (
    values
    ('select clerk_sync.secure_bucket(''paid'', ''user'', plan => ''pro'')', '%spelled user:pro or org:pro%'),
    ('select clerk_sync.secure_bucket(''paid'', ''user'', from_mirror => true)', 'from_mirror is about a plan%'),
    (
        'select clerk_sync.secure_bucket(''avatars'', ''user'', read_by => ''everybody'', plan => ''user:pro'')',
        'everybody reads the files of a public bucket%'
    )
) as a (statement, words);

grant usage on schema clerk_sync to anon;
grant execute on function clerk_sync.execute_on_objects(text[]) to anon;
select tap.ok(said.words like 'anon may make no policy on storage.objects (%', said.words)
from tap.rejection(
    $$set local role anon; select clerk_sync.execute_on_objects('{"create policy mine on storage.objects"}')$$
) as said (words);

select tap.finish();
rollback;
