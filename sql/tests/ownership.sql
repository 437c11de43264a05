-- clerk_sync.secure() on tables of an app that exists: columns of other names, keys of the app's own tables, rows of a
-- user or an organization.

create function tap.error_of(statement text)
returns text
language plpgsql
as $$
begin
    execute statement;
    return 'accepted';
exception
    when others then return sqlerrm;
end
$$;

-- A column of another name, with a default of the app.
create schema theirs;
create function theirs.requesting_user_id() returns text language sql stable
as $$select nullif(current_setting('request.jwt.claims', true)::json ->> 'sub', '')$$;
grant usage on schema theirs to authenticated;
grant execute on function theirs.requesting_user_id() to authenticated;
create table public.owned (id int, owner_id varchar(255) default theirs.requesting_user_id());
insert into public.owned values (1, 'user_ada'),
(2, 'user_bob'),
(3, null),
(4, '6f2d6f3e-0000-4000-8000-000000000001');
create table tap.done as
select s.statement from clerk_sync.secure('public.owned', 'user', owner_column => 'owner_id') as s (statement);
select
    tap.none(
        'select * from tap.done where statement like ''%default%''', 'a default of theirs that reads the token stays'
    );
select
    tap.is(
        tap.seen('authenticated', c.claims, 'select id::text from public.owned'),
        case c.caller when 'ada' then '1' when 'bob' then '2' else '' end,
        'rows by owner_id seen by ' || c.caller || ' ' || c.version
    )
from tap.callers as c;
select tap.is(
    tap.attempt('authenticated', tap.token('v2', 'ada'), 'insert into public.owned (id) values (5)'), '1',
    'the app need not send the owner'
);
select tap.is(
    tap.attempt('authenticated', tap.token('v2', 'ada'), 'insert into public.owned values (5, ''user_bob'')'), 'denied',
    'nobody inserts for another user'
);
select tap.is(
    (select c::text from clerk_sync.ownership_change('public.owned', 'organization') as c),
    '("user (owner_id)","organization (organization_id)",4)', 'a turn is told with the rows that nobody sees'
);
select tap.is(
    (select c::text from clerk_sync.ownership_change('public.owned', 'user', 'owner_id') as c),
    '("user (owner_id)","user (owner_id)",2)', 'rows of nobody have no id of Clerk'
);

-- citext ignores case, and Clerk's ids do not. The extension is not in every build: a superuser makes the type.
do $$
begin
    create type public.citext;
    create function public.citextin(cstring) returns public.citext language internal immutable strict as 'textin';
    create function public.citextout(public.citext) returns cstring language internal immutable strict as 'textout';
    create type public.citext (
        input = public.citextin, output = public.citextout, like = text, category = 'S', collatable = true
    );
    create cast (public.citext as text) without function as implicit;
    create cast (text as public.citext) without function as assignment;
    create function public.citext_eq(public.citext, public.citext) returns boolean language sql immutable
    return lower($1::text) = lower($2::text);
    create operator public.= (leftarg = public.citext, rightarg = public.citext, function = public.citext_eq);
    create table public.any_case (id int, owner_id public.citext);
    insert into public.any_case select n, 'user_ada'::text from generate_series(1, 2) as n;
    insert into public.any_case select n, 'user_Ada'::text from generate_series(3, 2000) as n;
    perform from clerk_sync.secure('public.any_case', 'user', owner_column => 'owner_id');
    analyze public.any_case;
exception
    when insufficient_privilege then null;
end
$$;
select
    tap.is(
        tap.seen('authenticated', tap.token('v2', 'ada'), 'select id::text from public.any_case'), '1 2',
        'a user whose id differs in case only sees nothing'
    )
where to_regclass('public.any_case') is not null;
select
    tap.is(
        tap.attempt('authenticated', tap.token('v2', 'ada'), 'insert into public.any_case (id) values (3)'), '1',
        'citext: the app need not send the owner'
    )
where to_regclass('public.any_case') is not null;
select
    tap.ok(
        tap.plan('authenticated', tap.token('v2', 'ada'), 'select * from public.any_case') ~ 'Index',
        'citext: by an index'
    )
where to_regclass('public.any_case') is not null;
select
    tap.none(
        $$
    select s.statement from clerk_sync.secure('public.any_case', 'user', owner_column => 'owner_id') as s (statement)
    where s.statement like 'create index%'
    $$, 'citext: no second index'
    )
where to_regclass('public.any_case') is not null;

-- Keys of the app's own tables, which the caller need not see.
create table public.people (
    id uuid primary key default gen_random_uuid(), clerk_user_id varchar(255) unique, name text
);
alter table public.people enable row level security;
revoke all on public.people from public, anon, authenticated;
insert into public.people (id, clerk_user_id, name)
select
    ('00000000-0000-4000-8000-00000000000' || p.number)::uuid,
    p.clerk_user_id,
    'of ' || p.clerk_user_id as name
from (
    values (1, 'user_ada'), (2, 'user_bob'), (3, 'user_bea'), (4, null), (5, 'user_eve'), (6, 'user_gus')
) as p (number, clerk_user_id);
create table public.products (id int primary key, user_id uuid references public.people (id));
insert into public.products
select
    n,
    ('00000000-0000-4000-8000-00000000000' || n)::uuid
from generate_series(1, 6) as n;
select from clerk_sync.secure('public.products', 'user', through => 'public.people(id, clerk_user_id)');
select
    tap.is(
        tap.seen('authenticated', c.claims, 'select id::text from public.products'),
        case c.caller when 'ada' then '1' when 'bob' then '2' when 'eve' then '5' else '' end,
        'rows by key seen by ' || c.caller || ' ' || c.version
    )
from tap.callers as c;
select
    tap.is(
        tap.attempt('authenticated', tap.token('v2', a.person), a.statement), a.outcome, a.person || ': ' || a.statement
    )
from (
    values
    ('bob', 'insert into public.products (id) values (9)', '1'),
    ('bob', 'insert into public.products values (9, ''00000000-0000-4000-8000-000000000001'')', 'denied'),
    ('bob', 'update public.products set user_id = ''00000000-0000-4000-8000-000000000001''', 'denied'),
    ('bob', 'delete from public.products', '1'),
    ('ned', 'insert into public.products (id) values (9)', 'denied'),
    ('bob', 'select * from public.people', 'denied'),
    ('bob', 'select clerk_sync.requesting_key_for_products()', 'denied')
) as a (person, statement, outcome);
select
    tap.is(
        tap.attempt('service_role', null, 'insert into public.products (id) values (9)'), '1', 'a server may insert'
    );
select tap.is(
    (select c::text from clerk_sync.ownership_change('public.products', 'organization') as c),
    '("user (user_id) through public.people (clerk_user_id, id)","organization (organization_id)",6)',
    'a turn from keys'
);
select tap.is(
    (
        select c::text
        from clerk_sync.ownership_change('public.products', 'user', null, null, 'public.people(id, clerk_user_id)') as c
    ),
    '("user (user_id) through public.people (clerk_user_id, id)",'
    || '"user (user_id) through public.people (clerk_user_id, id)",1)',
    'a row of a person unknown to Clerk is nobody''s'
);
select tap.none(
    $$select * from clerk_sync.openings('public.products') as o where o.verdict <> 'note'$$, 'nothing opens the table'
);
select from clerk_sync.secure('public.products', 'user', through => 'public.people(id, clerk_user_id)');
select tap.is(
    (
        select string_agg(p.proname, ' ') from pg_proc as p
        where p.proname like 'requesting\_key%'
    ),
    'requesting_key_for_products', 'a second call keeps the function'
);

-- What would let a caller become anybody, planted before the call and after it.
create function tap.told_of_people(plant text, is_before boolean, out words text)
language plpgsql
as $$
begin
    if is_before then
        execute plant;
    end if;
    perform clerk_sync.secure('public.products', 'user', through => 'public.people(id, clerk_user_id)');
    if not is_before then
        execute plant;
    end if;
    select coalesce(string_agg(
        o.verdict || case when (o.verdict = 'fail') = o.is_refused then '' else ' (refused: ' || o.is_refused || ')' end
        || ': ' || o.found, '; '
    ), 'nothing') into words
    from clerk_sync.openings('public.products') as o
    where o.verdict <> 'note';
    raise exception using errcode = 'TAP00';
exception
    when sqlstate 'TAP00' then null;
    when others then words := 'fail: ' || sqlerrm;
end
$$;

select tap.ok(told.words like planted.told, format('%s (before: %s): %s', planted.plant, moment.is_before, told.words))
from (
    values
    ('grant select, delete on public.people to authenticated', 'nothing'),
    ('grant update (name) on public.people to authenticated', 'nothing'),
    ('grant all on public.people to authenticated', 'nothing'),
    (
        'alter table public.people disable row level security; grant update on public.people to anon',
        'fail: %anon may write id or clerk_user_id of public.people, which say who owns its rows: such a caller %'
    ),
    (
        'grant update (id) on public.people to authenticated; '
        || 'create policy mine on public.people for update using (name = ''x'')',
        'fail: %authenticated may write id or clerk_user_id of public.people%becomes anybody%'
    ),
    (
        'grant insert on public.people to public; '
        || 'create policy mine on public.people using (clerk_user_id = ''x'') with check (true)',
        'fail: %anon and authenticated may write%becomes anybody%'
    ),
    (
        'grant update on public.people to authenticated; '
        || 'create policy mine on public.people using (clerk_user_id = (select auth.jwt() ->> ''sub''))',
        'warn: a policy lets authenticated write id or clerk_user_id of public.people, which say who owns its rows'
    ),
    (
        'grant update on public.people to authenticated; create policy everybody on public.people using (true); '
        || 'create policy mine on public.people as restrictive using (clerk_user_id = (select auth.jwt() ->> ''sub''))',
        'warn: a policy lets authenticated write id or clerk_user_id of public.people, which say who owns its rows'
    ),
    (
        'grant update on public.people to authenticated; create policy everybody on public.people using (true); '
        || 'create policy named on public.people as restrictive using (name is not null)',
        'fail: %authenticated may write id or clerk_user_id of public.people%becomes anybody%'
    ),
    (
        'grant update on public.people to authenticated; '
        || 'create policy mine on public.people using (id::text = (select auth.jwt() ->> ''person''))',
        'fail: %authenticated may write id or clerk_user_id of public.people%becomes anybody%'
    ),
    (
        'grant insert, update on public.people to authenticated; '
        || 'create policy new on public.people for insert with check (true); '
        || 'create policy mine on public.people for update using (clerk_user_id = (select auth.jwt() ->> ''sub''))',
        'fail: %authenticated may write id or clerk_user_id of public.people%becomes anybody%'
    ),
    (
        'create view public.names as select id, name from public.people; grant update on public.names to authenticated',
        'fail: %authenticated may write the view public.names of public.people%'
    ),
    (
        'create view public.names with (security_invoker) as select id, name from public.people; '
        || 'grant update on public.names to authenticated', 'nothing'
    )
) as planted (plant, told)
cross join (values (true), (false)) as moment (is_before)
cross join lateral tap.told_of_people(planted.plant, moment.is_before) as told;

-- Tables that cannot say who owns a row.
create table public.doubles (id uuid, clerk_user_id text, number int);
create unique index on public.doubles (id);
create unique index on public.doubles (clerk_user_id) where number > 0;
create table public.numbered (id int primary key, clerk_user_id text);
create unique index on public.numbered (clerk_user_id) where clerk_user_id is not null;
select tap.ok(message.text like wanted.told, wanted.through || ': ' || message.text)
from (
    values
    (
        'public.doubles(id, clerk_user_id)',
        '%two rows of public.doubles may have the same clerk_user_id (create unique index%'
    ),
    (
        'public.numbered(id, clerk_user_id)',
        '%its column user_id is uuid, and the column id of public.numbered is integer'
    ),
    ('public.doubles(id, number)', '%the column number of public.doubles must be text%'),
    ('public.people(id, nothing)', '%public.people has no column nothing'),
    ('public.people(id, id)', '%names one column twice'),
    ('public.people(id)', 'through is spelled public.users(id, clerk_user_id)'),
    ('public.people', 'through is spelled public.users(id, clerk_user_id)'),
    ('public.people; drop table x(id, clerk_user_id)', 'invalid name syntax'),
    ('clerk_sync.entities(kind, id)', '%clerk_sync.entities is no table of the app'),
    ('nowhere.people(id, clerk_user_id)', '%does not exist')
) as wanted (through, told)
cross join lateral tap.error_of(
    format('select clerk_sync.secure(''public.products'', ''user'', through => %L)', wanted.through)
) as message (text);

-- A text, which could be a Clerk id, beside a key of another type.
create table public.labels (user_id text);
select
    tap.ok(
        message.text like '%its column user_id is text, and the column id of public.numbered is integer', message.text
    )
from
    tap.error_of(
        'select clerk_sync.secure(''public.labels'', ''user'', through => ''public.numbered(id, clerk_user_id)'')'
    ) as message (text);

-- Organizations of the app, with roles.
create table public.teams (id bigint primary key, "Clerk Org" text unique);
revoke all on public.teams from public, anon, authenticated;
insert into public.teams values (1, 'org_labs'), (2, 'org_eves');
create table public."My Boards, and a name too long for any prefix" (id int primary key, team_id bigint);
insert into public."My Boards, and a name too long for any prefix" values (1, 1), (2, 2);
select from clerk_sync.secure(
    'public."My Boards, and a name too long for any prefix"', 'organization',
    owner_column => 'team_id', through => 'public.teams(id, "Clerk Org")'
);
select tap.is(
    tap.seen(
        'authenticated', tap.token('v1', 'eve', 'org_eves', 'admin'),
        'select id::text from public."My Boards, and a name too long for any prefix"'
    ),
    '2', 'a table of any name'
);
create table public.boards (id int primary key, team_id bigint);
insert into public.boards values (1, 1), (2, 2), (3, null);
select from clerk_sync.secure(
    'public.boards', 'organization', '{org:admin}', '{}', owner_column => 'team_id',
    through => 'public.teams(id, "Clerk Org")'
);
select
    tap.is(
        tap.attempt('authenticated', tap.token('v2', a.person, a.organization, 'admin'), a.statement), a.outcome,
        format('%s of %s: %s', a.person, a.organization, a.statement)
    )
from (
    values
    ('ada', 'org_labs', 'select * from public.boards', '1'),
    ('bob', 'org_labs', 'select * from public.boards', '1'),
    ('ada', 'org_eves', 'select * from public.boards', '0'),
    ('ada', null, 'select * from public.boards', '0'),
    ('ada', 'org_labs', 'insert into public.boards (id) values (9)', '1'),
    ('bob', 'org_labs', 'insert into public.boards (id) values (9)', 'denied'),
    ('ada', 'org_labs', 'update public.boards set team_id = 2', 'denied'),
    ('ada', 'org_labs', 'delete from public.boards', '0')
) as a (person, organization, statement, outcome);

-- A table that turns to another owner leaves no function behind.
alter table public.boards alter column team_id drop default;
select from clerk_sync.secure('public.boards', 'user');
select tap.none(
    $$select p.proname from pg_proc as p where p.proname = 'requesting_key_for_boards'$$, 'no function is left over'
);

-- Rows of a user or an organization, by the token.
create table public.files (id int primary key, owner text, team text);
insert into public.files values (1, 'user_ada', null),
(2, null, 'org_labs'),
(3, 'user_bob', 'org_labs'),
(4, null, null);
select from clerk_sync.secure(
    'public.files', 'user-or-organization', '{org:admin,org:editor}', '{org:admin}',
    owner_column => 'owner', organization_column => 'team'
);
select
    tap.is(
        tap.seen(
            'authenticated',
            tap.token(v.version, a.person, a.organization, 'admin'),
            'select id::text from public.files'
        ),
        a.sees, format('files of %s in %s, %s', a.person, a.organization, v.version)
    )
from (
    values
    ('ada', null, '1'),
    ('ada', 'org_labs', '2 3'),
    ('ada', 'org_eves', ''),
    ('bob', null, ''),
    ('bob', 'org_labs', '2 3'),
    ('eve', null, ''), ('eve', 'org_eves', ''), ('carl', 'org_labs', ''), ('bea', null, ''), ('gus', 'org_labs', '')
) as a (person, organization, sees)
cross join tap.versions as v;
select
    tap.is(
        tap.attempt('authenticated', tap.token('v2', a.person, a.organization, 'admin'), a.statement), a.outcome,
        format('%s of %s: %s', a.person, a.organization, a.statement)
    )
from (
    values
    ('ada', null, 'insert into public.files (id) values (9)', '1'),
    ('ada', 'org_labs', 'insert into public.files (id) values (9)', '1'),
    ('bob', 'org_labs', 'insert into public.files (id) values (9)', 'denied'),
    ('bob', null, 'insert into public.files (id) values (9)', '1'),
    ('ada', null, 'insert into public.files (id, team) values (9, ''org_labs'')', 'denied'),
    ('ada', 'org_labs', 'insert into public.files (id, owner, team) values (9, ''user_ada'', null)', 'denied'),
    ('ada', null, 'update public.files set team = ''org_labs'', owner = null', 'denied'),
    ('ada', 'org_labs', 'update public.files set team = null, owner = ''user_ada'' where id = 2', 'denied'),
    ('ed', 'org_labs', 'update public.files set id = 20 where id = 2', '1'),
    ('ed', 'org_labs', 'delete from public.files where id = 2', '0'),
    ('ada', 'org_labs', 'delete from public.files', '2'),
    ('ada', null, 'delete from public.files', '1')
) as a (person, organization, statement, outcome);
select tap.is(tap.attempt('service_role', null, s.statement), s.outcome, s.statement)
from (
    values
    ('insert into public.files values (9, null, null)', '23514'),
    ('insert into public.files values (9, ''user_ada'', ''org_labs'')', '23514'),
    ('insert into public.files values (9, ''user_ada'', null)', '1')
) as s (statement, outcome);
select tap.is(
    (select c::text from clerk_sync.ownership_change('public.files', 'user-or-organization', 'owner', 'team') as c),
    '("user-or-organization (owner, team)","user-or-organization (owner, team)",1)', 'it says whom the rows belong to'
);
delete from public.files
where id in (3, 4);
select from clerk_sync.secure(
    'public.files', 'user-or-organization', owner_column => 'owner', organization_column => 'team'
);
select tap.none(
    $$select c.conname from pg_constraint as c where c.conname = 'clerk_sync_one_owner' and not c.convalidated$$,
    'where each row has an owner, Postgres has checked all of them'
);
select from clerk_sync.secure('public.files', 'user', owner_column => 'owner');
select tap.is(
    tap.attempt(
        'authenticated', tap.token('v2', 'ada', 'org_labs', 'admin'), 'insert into public.files (id) values (9)'
    ),
    '1', 'back with one kind of owner, each insert has its owner'
);
select tap.is(tap.error_of(wrong.statement), wrong.told, wrong.statement)
from (
    values
    (
        $$select clerk_sync.secure('public.files', 'user-or-organization', owner_column => 'organization_id')$$,
        'the user and the organization need a column each'
    ),
    (
        $$select clerk_sync.secure('public.files', 'user', organization_column => 'team')$$,
        'organization_column is for ''user-or-organization'': owner_column names the only column'
    ),
    (
        $$select clerk_sync.secure('public.files', 'user-or-organization', through => 'public.people(id, name)')$$,
        'through is for tables with one kind of owner'
    )
) as wrong (statement, told);

-- Every policy asks once per statement, and finds the rows by an index.
insert into public.people (clerk_user_id) select 'user_' || n from generate_series(1, 2000) as n;
insert into public.products (id, user_id) select
    100 + row_number() over (),
    p.id
from public.people as p;
insert into public.files (id, owner) select
    n,
    'user_' || n % 1000
from generate_series(100, 3000) as n;
insert into public.files (id, team) select
    n,
    'org_' || n % 1000
from generate_series(4000, 7000) as n;
insert into public.owned (id, owner_id) select
    n,
    'user_' || n % 1000
from generate_series(100, 3000) as n;
select from clerk_sync.secure(
    'public.files', 'user-or-organization', owner_column => 'owner', organization_column => 'team'
);
analyze public.people, public.products, public.files, public.owned;
select
    tap.ok(
        p.plan ~ 'Index'
        and p.plan !~ 'Seq Scan on (products|people|files|owned)|SubPlan|(?<!One-Time )(Filter|Cond)[^\n]*requesting_',
        q.statement || ': ' || p.plan
    )
from (
    values
    ('select * from public.products'), ('update public.products set id = 0'), ('delete from public.products'),
    ('select * from public.files'), ('update public.files set id = 0'), ('delete from public.files'),
    ('select * from public.owned')
) as q (statement)
cross join lateral tap.plan('authenticated', tap.token('v2', 'ada', 'org_labs', 'admin'), q.statement) as p (plan);

select tap.finish();
rollback;
