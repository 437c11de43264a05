-- clerk_sync.secure(): the statements that secure() runs, the objects that stay, and the tables that secure() refuses.

create function tap.refusal(statement text)
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

create function tap.number_of(things text)
returns text
language plpgsql
as $$
declare
    number bigint;
begin
    execute 'select count(*) from ' || things into number;
    return number;
end
$$;

create function tap.three_owners()
returns text
language sql
return 'a table belongs to ''user'', ''organization'' or ''user-or-organization''';

-- Tables with unusual names.
create schema "the app";
create table "the app"."my ""table""; drop table x; --" (id serial primary key, "select" text);
grant usage on schema "the app" to anon, authenticated, service_role;
grant all on all tables in schema "the app" to public, anon, authenticated;
insert into "the app"."my ""table""; drop table x; --" ("select") values ('was there before');
select from clerk_sync.secure('"the app"."my ""table""; drop table x; --"', 'user');

select
    tap.is(
        tap.attempt(
            a.role_name, tap.token('v2', 'ada'),
            a.statement || ' "the app"."my ""table""; drop table x; --" ' || a.rest
        ),
        a.outcome, a.statement || ' a table with a strange name as ' || a.role_name
    )
from (
    values
    ('authenticated', 'insert into', '("select") values (''a serial column works'')', '1'),
    ('authenticated', 'select * from', '', '0'),
    ('authenticated', 'update', 'set user_id = ''user_ada''', '0'),
    ('authenticated', 'truncate', '', 'denied'),
    ('anon', 'select * from', '', 'denied'),
    ('anon', 'insert into', '("select") values (''x'')', 'denied'),
    ('service_role', 'select * from', '', '1'),
    ('service_role', 'insert into', '("select") values (''x'')', '1')
) as a (role_name, statement, rest, outcome);

-- A table that already has columns, default and key.
create table public.noted (user_id varchar(300) not null, org text default 'x', note text, primary key (user_id, note));
alter table public.noted enable row level security;
create policy only_short on public.noted as restrictive for insert to authenticated with check (length(note) < 10);
insert into public.noted (user_id, note) values ('user_ada', 'of ada'), ('user_eve', 'of eve');
create table tap.first_run as
select done.statement from clerk_sync.secure('public.noted', 'user') as done (statement);

create view tap.rights with (security_invoker) as
select format('%s %s %s %s', p.polname, p.polcmd, p.polroles, pg_get_expr(p.polqual, p.polrelid)) as line
from pg_policy as p
where p.polrelid = 'public.noted'::regclass
union all
select a::text
from pg_class as c
cross join aclexplode(c.relacl) as a
where c.oid = 'public.noted'::regclass;

create table tap.rights_then as
select * from tap.rights;

select from clerk_sync.secure('public.noted', 'user');
select from clerk_sync.secure('noted', 'user');
select tap.none('select line from tap.rights except select line from tap.rights_then', 'a second run makes no more');
select tap.none('select line from tap.rights_then except select line from tap.rights', 'and no less');

select tap.is(tap.number_of('pg_policies where tablename = ''noted'''), '5', 'four policies, and the one that narrows');
select tap.is(tap.number_of('pg_index where indrelid = ''public.noted''::regclass'), '1', 'no second index');
select tap.is(
    tap.number_of('tap.first_run where statement like ''create policy clerk_sync_%'''), '4', 'it says what it did'
);
select tap.is(
    tap.seen('authenticated', tap.token('v1', 'eve'), 'select note from noted'), 'of eve',
    'rows that had owners have them still'
);
select tap.is(
    tap.attempt('authenticated', tap.token('v1', 'eve'), 'insert into noted (note) values (''short'')'), '1',
    'the default applies'
);
select tap.is(
    tap.attempt('authenticated', tap.token('v1', 'eve'), 'insert into noted (note) values (''much too long'')'),
    'denied',
    'restrictive policies stay'
);

-- From users to an organization.
select from clerk_sync.secure('public.noted', 'organization', write_roles => '{}');
select tap.is(tap.number_of('pg_policies where tablename = ''noted'''), '5', 'policies of the other kind are gone');
select tap.is(tap.seen('authenticated', tap.token('v1', 'eve'), 'select note from noted'), '', 'and open nothing');
update public.noted set organization_id = 'org_labs';
select
    tap.is(
        tap.attempt('authenticated', tap.token('v2', 'ada', 'org_labs', 'admin'), a.statement), a.outcome,
        a.statement || ' where nobody may write'
    )
from (
    values
    ('select * from noted', '2'),
    ('insert into noted (user_id, note) values (''user_ada'', ''new'')', 'denied'),
    ('update noted set note = ''new''', '0'),
    ('delete from noted', '0')
) as a (statement, outcome);

select from clerk_sync.secure('public.noted', 'organization');
select
    tap.is(
        tap.attempt('authenticated', tap.token('v2', 'bob', 'org_labs', 'member'), a.statement), a.outcome,
        a.statement || ' where every member may'
    )
from (
    values
    ('select * from noted', '2'),
    ('insert into noted (user_id, note) values (''user_ada'', ''new'')', '1'),
    ('update noted set org = ''new''', '2'),
    ('delete from noted', '2')
) as a (statement, outcome);

select from clerk_sync.secure('public.noted', 'organization', delete_roles => array['org:admin', $$org:it's$$]);
select tap.is(
    tap.attempt('authenticated', tap.token('v2', 'bob', 'org_labs', 'member'), 'delete from noted'), '0',
    'a member may not delete'
);
select tap.is(
    tap.attempt('authenticated', tap.token('v2', 'ada', 'org_labs', 'admin'), 'delete from noted'), '2',
    'an admin may'
);

-- Policies that allow more.
create policy "open to all" on public.noted for select using (true);
select tap.is(
    tap.refusal($$select clerk_sync.secure('public.noted', 'user')$$),
    'public.noted cannot be secured: it has policies that would allow more ("open to all"): '
    || 'drop them, or call with replace_policies => true',
    'a policy of the app is not dropped unasked'
);
select from clerk_sync.secure('public.noted', 'user', replace_policies => true);
select tap.is(tap.number_of('pg_policies where tablename = ''noted'''), '5', 'it is when asked');

-- Existing rows belong to nobody, not to the user whose claims were set while secure() ran.
create table public.older (id int primary key);
insert into public.older (id) values (1);
do $$
begin
    perform set_config('request.jwt.claims', tap.token('v2', 'ada'), true);
    perform clerk_sync.secure('public.older', 'user');
    perform set_config('request.jwt.claims', '', true);
end
$$;
select tap.is(tap.number_of('public.older where user_id is null'), '1', 'what was there belongs to nobody');

-- Refused.
create view public.a_view as select 1 as id;
create materialized view public.a_materialized_view as select 1 as id;
create table public.a_partitioned_table (id int) partition by list (id);
create table public.a_partition partition of public.a_partitioned_table default;
create table public.a_parent (id int);
create table public.a_child () inherits (public.a_parent);
create temporary table a_temporary_table (id int);
create sequence public.a_sequence;
-- Only a superuser can make these two; the test leaves both out for any other owner. Not every build has such a
-- collation.
do $$
begin
    create foreign data wrapper nowhere;
    create server nowhere foreign data wrapper nowhere;
    create foreign table public.a_foreign_table (id int) server nowhere;
    create collation public.ignores_case from "C";
    update pg_collation set collisdeterministic = false where collname = 'ignores_case';
    create table public.any_case (user_id text collate public.ignores_case);
exception
    when insufficient_privilege then null;
end
$$;
create table public.with_uuid (user_id uuid);
create table public.with_number (user_id bigint);
create table public.with_array (user_id text[]);
create table public.generated (user_id text generated always as ('user_ada') stored);

select tap.ok(refused.message like refused.told, refused.relation || ': ' || refused.message)
from (
    select
        given.relation,
        given.told,
        tap.refusal(format('select clerk_sync.secure(%L, ''user'')', given.relation)) as message
    from (
        values
        ('public.no_such_table', 'relation "public.no_such_table" does not exist'),
        ('no_such_schema.tasks', '%no_such_schema%does not exist'),
        ('public.tasks; drop table public.tasks', 'invalid name syntax'),
        ('', 'invalid name syntax'),
        ('0', 'there is no table -'),
        ('public.a_view', '%cannot%'),
        ('public.a_materialized_view', '%'),
        ('public.a_foreign_table', '%cannot be secured: it is no ordinary table'),
        ('public.a_sequence', '%'),
        ('public.tasks_pkey', '%'),
        ('public.a_partitioned_table', '% cannot be secured: it is no ordinary table'),
        ('public.a_partition', '% cannot be secured: its rows can also be reached through another table, its %'),
        ('public.a_parent', '% cannot be secured: its rows can also be reached through another table, its %'),
        ('public.a_child', '% cannot be secured: its rows can also be reached through another table, its %'),
        ('pg_temp.a_temporary_table', '% cannot be secured: %'),
        ('pg_catalog.pg_class', '%'),
        ('information_schema.sql_features', '% cannot be secured: it is in a schema that is not the app''s'),
        ('clerk_sync.entities', '% cannot be secured: it is in a schema that is not the app''s'),
        ('clerk_sync.migrations', '% cannot be secured: it is in a schema that is not the app''s'),
        ('clerk.users', '% cannot be secured: sync writes it'),
        ('clerk.users_public', '% cannot be secured: sync writes it'),
        ('clerk.organizations', '% cannot be secured: sync writes it'),
        ('clerk.organization_memberships', '% cannot be secured: sync writes it'),
        ('clerk.organization_invitations', '% cannot be secured: sync writes it'),
        ('clerk.organization_domains', '% cannot be secured: sync writes it'),
        ('public.with_uuid', '%its column user_id must be text %; it is uuid: for the key % add through => %'),
        ('public.with_number', '%; it is bigint%'),
        ('public.with_array', '%; it is text[]%'),
        ('public.generated', '%its column user_id is generated'),
        ('public.any_case', '%its column user_id must be text that is equal only to itself%')
    ) as given (relation, told)
    where
        given.relation not in ('public.a_foreign_table', 'public.any_case')
        or current_setting('is_superuser') = 'on'
) as refused;

select tap.is(tap.refusal(refused.statement), refused.told, refused.statement)
from (
    values
    ($$select clerk_sync.secure('public.tasks', 'team')$$, tap.three_owners()),
    ($$select clerk_sync.secure('public.tasks', null)$$, tap.three_owners()),
    ($$select clerk_sync.secure(null, 'user')$$, tap.three_owners()),
    ($$select clerk_sync.secure('tasks', 'user', '{org:admin}')$$, 'roles are of organizations: a user has none'),
    ($$select clerk_sync.secure('public.tasks', 'organization', '{admin}')$$, 'a role is spelled org:<role>'),
    ($$select clerk_sync.secure('public.tasks', 'organization', '{null}')$$, 'a role is spelled org:<role>'),
    ($$select clerk_sync.secure('tasks', 'organization', delete_roles => '{org:}')$$, 'a role is spelled org:<role>')
) as refused (statement, told);

select tap.is(
    tap.number_of('pg_class where relname in (''with_uuid'', ''a_parent'', ''any_case'') and relrowsecurity'), '0',
    'what is refused stays as it was'
);

-- Without its triggers, a table of the mirror is still no table of the app.
do $$
declare
    statement text;
begin
    for statement in
        select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass) from pg_trigger as t
        where t.tgrelid = 'clerk.organization_domains'::regclass and not t.tgisinternal
    loop
        execute statement;
    end loop;
end
$$;
select tap.is(
    tap.refusal($$select clerk_sync.secure('clerk.organization_domains', 'organization')$$),
    'clerk.organization_domains cannot be secured: sync writes it',
    'the list of kinds names the tables of the mirror'
);

-- A table of the app in the schema of the mirror.
create table clerk.of_the_app (id int primary key, user_id text);
insert into clerk.of_the_app (id, user_id) values (1, 'user_ada'), (2, 'user_eve');
select from clerk_sync.secure('clerk.of_the_app', 'user');
select
    tap.is(
        tap.seen('authenticated', tap.token('v2', 'ada'), 'select id::text from clerk.of_the_app'), '1',
        'a table of the app in the schema clerk is the app''s'
    );

-- Ways to the rows without the policies. The test plants each of them before secure(), which refuses the table, and
-- after secure(), when openings() finds the way, for doctor. The probe shows that the finding is no false alarm: the
-- role, with the token of a stranger, does to Ada's row something that the table itself denies.
-- Some of Supabase's default privileges would open the views by themselves.
alter default privileges in schema public revoke all on tables from public, anon, authenticated, service_role;
alter default privileges revoke all on schemas from anon, authenticated, service_role;
alter default privileges revoke all on tables from anon, authenticated, service_role;
alter default privileges revoke all on functions from anon, authenticated, service_role;
create table public.held (id int primary key, note text, user_id text);
insert into public.held (id, note, user_id) values (1, 'of ada', 'user_ada');
create table public.other (id int);
create schema hidden;
create schema shown;
grant usage on schema shown to anon, authenticated;
create role tap_team;
create role tap_dba;
do $$
begin
    grant tap_team, tap_dba to current_user;
end
$$;

create function tap.told_by_secure(plant text)
returns text
language plpgsql
as $$
declare
    message text;
begin
    begin
        execute plant;
        perform clerk_sync.secure('public.held', 'user');
        raise exception using errcode = 'TAP00', message = 'accepted';
    exception
        when others then get stacked diagnostics message = message_text;
    end;
    return message;
end
$$;

-- words: the findings of openings() with these verdicts. outcome: the outcome of the probe.
create function tap.after_secure(
    plant text,
    verdicts text[] default '{fail,warn}',
    as_role text default null,
    probe text default null,
    out words text,
    out outcome text
)
language plpgsql
as $$
begin
    perform clerk_sync.secure('public.held', 'user');
    execute plant;
    select coalesce(string_agg(format('%s: %s (%s)', o.verdict, o.found, o.todo), '; ' order by o.found), 'nothing')
    into words
    from clerk_sync.openings('public.held') as o
    -- The functions of the test mention the table as well.
    where o.verdict = any(verdicts) and o.found not like '%the function tap.%';
    outcome := tap.attempt(as_role, tap.token('v2', 'eve'), probe);
    raise exception using errcode = 'TAP00';
exception
    when sqlstate 'TAP00' then null;
end
$$;

create table tap.plants (plant text, role_name text, probe text, outcome text, told text);

insert into tap.plants (plant, role_name, probe, outcome, told)
values
(
    'create view public.v as select * from public.held; grant select on public.v to anon',
    'anon', 'select * from public.v', '1',
    'the view public.v shows its rows to anon, without its policies '
    || '(alter view public.v set (security_invoker = on))'
),
(
    'create view public.v as select * from public.held; grant update on public.v to authenticated',
    'authenticated', 'update public.v set note = ''of eve''', '1',
    'the view public.v shows its rows to authenticated, without its policies%'
),
(
    'create view public.v as select * from public.held; grant select on public.v to public',
    'anon', 'select * from public.v', '1',
    'the view public.v shows its rows to anon and authenticated, without%'
),
(
    'create view public.v as select * from public.held; grant select (note) on public.v to authenticated',
    'authenticated', 'select note from public.v', '1',
    'the view public.v shows its rows to authenticated, without%'
),
(
    'create view public.v as select * from public.held; grant select on public.v to tap_team; '
    || 'grant tap_team to authenticated',
    'authenticated', 'select * from public.v', '1',
    'the view public.v shows its rows to authenticated, without%'
),
(
    'alter default privileges in schema public grant all on tables to anon, authenticated, service_role; '
    || 'create view public.v as select * from public.held',
    'anon', 'delete from public.v', '1',
    'the view public.v shows its rows to anon and authenticated, without%'
),
(
    'create view public.v with (security_invoker = off) as select * from public.held; grant select on public.v to anon',
    'anon', 'select * from public.v', '1',
    'the view public.v shows its rows to anon, without%'
),
(
    'create view public."V ;" as select 1 where exists (select from public.held); grant select on public."V ;" to anon',
    'anon', 'select * from public."V ;"', '1',
    'the view public."V ;" shows its rows to anon, without its policies '
    || '(alter view public."V ;" set (security_invoker = on))'
),
(
    'create view shown.v as select * from public.held; grant select on shown.v to anon',
    'anon', 'select * from shown.v', '1',
    'the view shown.v shows its rows to anon, without%'
),
(
    'create view hidden.v as select * from public.held; create view public.w as select * from hidden.v; '
    || 'grant select on public.w to anon',
    'anon', 'select * from public.w', '1',
    'the view public.w shows its rows to anon, without%'
),
(
    'create view hidden.v as select * from public.held; grant select on hidden.v to anon; '
    || 'create view public.w with (security_invoker) as select * from hidden.v; grant select on public.w to anon',
    'anon', 'select * from public.w', '1',
    'the view public.w shows its rows to anon, without%'
),
(
    'create materialized view public.m as select * from public.held; grant select on public.m to anon',
    'anon', 'select * from public.m', '1',
    'the materialized view public.m shows its rows to anon, without its policies '
    || '(revoke all on public.m from public, anon, authenticated)'
),
(
    'create view public.v with (security_invoker = true) as select * from public.held; '
    || 'create materialized view public.m as select * from public.v; grant select on public.m to authenticated',
    'authenticated', 'select * from public.m', '1',
    'the materialized view public.m shows its rows to authenticated, without%'
),
(
    'create materialized view hidden.m as select * from public.held; create view public.v as select * from hidden.m; '
    || 'grant select on public.v to anon',
    'anon', 'select * from public.v', '1',
    'the view public.v shows its rows to anon, without%'
),
(
    'create rule r as on update to public.other do also update public.held set note = ''of eve''; '
    || 'grant select, update on public.other to anon; insert into public.other values (1)',
    'anon', 'update public.other set id = 2', '1',
    'the rule r on public.other reads or writes its rows without its policies (drop rule r on public.other)'
),
(
    'create rule r as on insert to public.other do instead select * from public.held; '
    || 'grant insert on public.other to anon',
    'anon', 'insert into public.other values (2)', '0',
    'the rule r on public.other reads or writes its rows without%'
),
(
    'create rule r as on update to public.held do instead delete from public.other',
    null, null, null,
    'the rule r on public.held reads or writes its rows without its policies (drop rule r on public.held)'
),
(
    'create table public.child () inherits (public.held); grant select on public.child to anon; '
    || 'insert into public.child values (2)',
    'anon', 'select * from public.child', '1',
    'its rows can also be reached through another table, its child public.child '
    || '(alter table public.child no inherit public.held)'
),
(
    'create table public.parent (id int); alter table public.held inherit public.parent; '
    || 'grant select on public.parent to anon',
    'anon', 'select * from public.parent', '1',
    'its rows can also be reached through another table, its parent public.parent '
    || '(alter table public.held no inherit public.parent)'
),
(
    'create table public.whole (id int primary key, note text, user_id text) partition by list (id); '
    || 'alter table public.whole attach partition public.held default; grant select on public.whole to anon',
    'anon', 'select * from public.whole', '1',
    'its rows can also be reached through another table, its parent public.whole '
    || '(alter table public.whole detach partition public.held)'
),
(
    'grant create on schema public to tap_team; alter table public.held owner to tap_team; '
    || 'grant tap_team to authenticated',
    'authenticated', 'alter table public.held disable row level security', '0',
    'its owner tap_team passes its policies, and authenticated is a member (revoke tap_team from authenticated)'
),
(
    'grant select on public.held to tap_dba with grant option; set role tap_dba; grant select on public.held to anon; '
    || 'reset role',
    'anon', 'select * from public.held', '0',
    'anon has the right to select, which tap_dba granted '
    || '(set role tap_dba; revoke select on public.held from anon; reset role)'
),
(
    'grant update (note), insert (id) on public.held to tap_dba with grant option; set role tap_dba; '
    || 'grant update (note), insert (id) on public.held to anon; reset role',
    'anon', 'update public.held set note = ''x''', '0',
    'anon has the right to insert (id), update (note), which tap_dba granted '
    || '(set role tap_dba; revoke insert (id), update (note) on public.held from anon; reset role)'
),
(
    'grant truncate on public.held to tap_dba with grant option; set role tap_dba; '
    || 'grant truncate on public.held to authenticated; reset role',
    'authenticated', 'truncate public.held', '0',
    'authenticated has the right to truncate, which tap_dba granted%'
),
(
    'grant trigger, references on public.held to tap_team; grant tap_team to authenticated',
    'authenticated',
    'create trigger t before update on public.held execute function suppress_redundant_updates_trigger()',
    '0',
    'authenticated has the right to references, trigger, which % granted to tap_team '
    || '(revoke references, trigger on public.held from tap_team)'
),
(
    'grant select on public.held to tap_dba with grant option; set role tap_dba; '
    || 'grant select on public.held to public; reset role',
    'anon', 'select * from public.held', '0',
    'PUBLIC has the right to select, which tap_dba granted '
    || '(set role tap_dba; revoke select on public.held from public; reset role)'
),
(
    'grant truncate on public.held to tap_dba with grant option; set role tap_dba; '
    || 'grant truncate on public.held to service_role; reset role',
    'service_role', 'truncate public.held', '0',
    'service_role has the right to truncate, which tap_dba granted%'
),
(
    'grant insert on public.held to authenticated with grant option; set role authenticated; '
    || 'grant insert on public.held to anon; reset role',
    null, null, null,
    'authenticated granted insert on it to anon '
    || '(set role authenticated; revoke insert on public.held from anon; reset role)'
);

select
    tap.ok(
        told.words like 'public.held cannot be secured: %' || p.told || '%', p.plant || ': ' || told.words
    )
from tap.plants as p
cross join tap.told_by_secure(p.plant) as told (words);

create table tap.found as
select
    p.*,
    a.words,
    a.outcome as probed
from tap.plants as p
cross join tap.after_secure(p.plant, as_role => p.role_name, probe => p.probe) as a;

select tap.ok(f.words like '%' || f.told || '%', 'after secure(), ' || f.plant || ': ' || f.words) from tap.found as f;
select tap.is(f.probed, f.outcome, format('%s, then %s', f.plant, f.probe)) from tap.found as f
where f.probe is not null;

-- Every reason is told at once.
select tap.ok(
    tap.told_by_secure(
        'create view public.v as select * from public.held; create view public.w as select * from public.held; '
        || 'grant select on public.v, public.w to anon'
    ) like '%the view public.v shows%; the view public.w shows%',
    'two views are named together'
);

-- secure() accepts statements that open nothing.
select tap.is(tap.told_by_secure(harmless.plant), 'accepted', harmless.plant)
from (
    values
    ('create view public.v with (security_invoker = on) as select * from public.held; grant all on public.v to public'),
    ('create view public.v with (security_invoker = 1) as select * from public.held; grant all on public.v to anon'),
    (
        'create view public.v with (security_invoker) as select * from public.held; '
        || 'create view public.w as select * from public.v; grant all on public.w to anon'
    ),
    ('create view public.v as select * from public.held; grant all on public.v to service_role'),
    ('create view hidden.v as select * from public.held; grant all on hidden.v to anon'),
    ('create materialized view hidden.m as select * from public.held'),
    (
        'create view hidden.v as select * from public.held; '
        || 'create view public.w with (security_invoker) as select * from hidden.v; grant all on public.w to anon'
    ),
    ('create view public.v as select * from public.other; grant all on public.v to anon'),
    (
        'create view public.v with (security_invoker) as select * from public.held; grant insert on public.v to anon; '
        || 'create rule r as on insert to public.v do instead insert into public.held values (new.id)'
    ),
    ('grant all on public.held to public, anon, authenticated, service_role'),
    ('grant all (note) on public.held to anon, authenticated'),
    ('grant all on public.held to authenticated with grant option'),
    ('grant all on public.held to tap_team')
) as harmless (plant);
select tap.is(a.outcome, harmless.outcome, harmless.probe)
from (
    values
    (
        'create view public.v with (security_invoker) as select * from public.held; '
        || 'create view public.w as select * from public.v; grant all on public.w to anon',
        'select * from public.w', 'denied'
    ),
    (
        'create view hidden.v as select * from public.held; '
        || 'create view public.w with (security_invoker) as select * from hidden.v; grant all on public.w to anon',
        'select * from public.w', 'denied'
    ),
    (
        'create view hidden.v as select * from public.held; grant all on hidden.v to anon',
        'select * from hidden.v', 'denied'
    )
) as harmless (plant, probe, outcome)
cross join tap.after_secure(harmless.plant, as_role => 'anon', probe => harmless.probe) as a;

-- Later changes of the table's own protection.
select tap.ok(told.words like planted.wanted, 'after secure(), ' || planted.plant || ': ' || told.words)
from (
    values
    ('select', 'nothing'),
    (
        'alter table public.held disable row level security',
        'fail: its row-level security is off (alter table public.held enable row level security)'
    ),
    (
        'drop policy clerk_sync_delete on public.held; drop policy clerk_sync_update on public.held',
        'fail: it lacks the policies clerk_sync_delete, clerk_sync_update %'
    ),
    (
        'alter policy clerk_sync_select on public.held using (id > 0)',
        'fail: its policy clerk_sync_select no longer asks who the caller is (clerk-supabase secure %'
    ),
    (
        'alter policy clerk_sync_update on public.held with check (true)',
        'fail: its policy clerk_sync_update no longer asks who the caller is %'
    ),
    (
        'alter policy clerk_sync_select on public.held '
        || 'using (id = 1 or user_id = (select c.clerk_id from clerk_sync.caller as c))', 'nothing'
    ),
    (
        'create policy mine on public.held for select using (id > 0)',
        'warn: its policy mine allows more (drop policy mine on public.held, unless that is meant)'
    ),
    ('create policy mine on public.held as restrictive for select using (id > 0)', 'nothing'),
    ('grant select on public.held to anon', 'warn: anon has the right to select, which % granted (revoke select%'),
    ('grant truncate on public.held to anon', 'fail: anon has the right to truncate, which % granted %'),
    (
        'grant all on public.held to service_role',
        'warn: service_role has the right to %references, trigger, truncate, which % granted (revoke %'
    ),
    (
        'grant select on public.held to authenticated with grant option',
        'warn: authenticated has the right to select, which % granted, with grant option %'
    ),
    (
        'revoke update on public.held from authenticated; grant update (note) on public.held to authenticated',
        'nothing'
    )
) as planted (plant, wanted)
cross join tap.after_secure(planted.plant) as told;

-- Functions, triggers and publications can only be told.
create function public.gets_all() returns setof public.held language sql security definer as 'select * from "held"';
create function public.calls_it() returns bigint language sql security definer
as 'select count(*) from public.Gets_All()';
do $$
begin
    execute 'create function public.parsed() returns bigint language sql return (select count(*) from public.held)';
end
$$;
create function public.says_nothing_of_it() returns text language sql security definer as 'select ''withheld''';
create function hidden.of_the_app() returns bigint language sql security definer as 'select count(*) from held';
create function public.for_servers() returns bigint language sql security definer as 'select count(*) from held';
revoke execute on function public.for_servers() from public, anon, authenticated;
grant execute on function public.gets_all(), public.calls_it() to anon, authenticated;
create function public.copies() returns trigger language plpgsql security definer
as 'begin insert into public.held values (new.id); return new; end';
create trigger copies before insert on public.held for each row execute function public.copies();

select tap.is(
    (tap.after_secure('select', '{warn}')).words,
    'warn: the security definer function public.calls_it() mentions it, and anon and authenticated may call it '
    || '(look at what it does as its owner; or: '
    || 'revoke execute on function public.calls_it() from public, anon, authenticated); '
    || 'warn: the security definer function public.gets_all() mentions it, and anon and authenticated may call it '
    || '(look at what it does as its owner; or: '
    || 'revoke execute on function public.gets_all() from public, anon, authenticated)',
    'security definer functions that the API may call are warned of'
);
select tap.is(
    (
        tap.after_secure(
            'create view public.v with (security_invoker) as select hidden.of_the_app() as number; '
            || 'create view public.w as select * from public.v; '
            || 'revoke all on public.v, public.w from public, anon, authenticated; grant select on public.w to anon; '
            || 'grant execute on function hidden.of_the_app() to public; '
            || 'revoke execute on function public.calls_it(), public.gets_all() from public, anon, authenticated',
            '{warn}'
        )
    ).words,
    'warn: the security definer function hidden.of_the_app() mentions it, and anon may call it '
    || '(look at what it does as its owner; or: '
    || 'revoke execute on function hidden.of_the_app() from public, anon, authenticated)',
    'also those that only a view can call'
);
select tap.is(
    (
        tap.after_secure(
            'create view hidden.v as select hidden.of_the_app() as number; '
            || 'create view public.w as select hidden.of_the_app() as number; '
            || 'revoke all on public.w from public, anon, authenticated; '
            || 'grant select on hidden.v to anon, authenticated; '
            || 'grant execute on function hidden.of_the_app() to public; '
            || 'revoke execute on function public.calls_it(), public.gets_all() from public, anon, authenticated',
            '{warn}'
        )
    ).words,
    'nothing',
    'but not those of a view that no role of the API reaches, for want of the schema or of the view'
);
select tap.is(
    (
        tap.after_secure(
            'create materialized view public.m as select hidden.of_the_app() as number with no data; '
            || 'revoke all on public.m from public, anon, authenticated; grant select on public.m to authenticated; '
            || 'revoke execute on function public.calls_it(), public.gets_all() from public, anon, authenticated; '
            || 'revoke execute on function hidden.of_the_app() from public, anon, authenticated',
            '{warn}'
        )
    ).words,
    'warn: the materialized view public.m keeps what the function hidden.of_the_app() returns, which mentions it, and '
    || 'shows that to authenticated (look at what it keeps; or: '
    || 'revoke all on public.m from public, anon, authenticated)',
    'and materialized views that keep what a function returns'
);
select tap.is(
    (tap.after_secure('select', '{note}')).words,
    'note: the function public.parsed() mentions it (look at what it does); '
    || 'note: the security definer function hidden.of_the_app() mentions it; no role of the API can call it '
    || '(look at what it does); '
    || 'note: the security definer function public.copies() mentions it; no role of the API can call it '
    || '(look at what it does); '
    || 'note: the security definer function public.for_servers() mentions it; no role of the API can call it '
    || '(look at what it does); '
    || 'note: the trigger copies hands its rows to the function public.copies() '
    || '(look whether the function copies them to where others see them)',
    'the rest is noted'
);

-- The grants of secure(), whatever rights existed before.
grant all on public.held to public, anon, authenticated, service_role;
select from clerk_sync.secure('public.held', 'user');
select tap.is(
    (
        select string_agg(granted.words, '; ' order by granted.words)
        from (
            select g.grantee::regrole || ': ' || string_agg(lower(g.privilege_type), ', ' order by g.privilege_type)
            from pg_class as c
            cross join aclexplode(c.relacl) as g
            where c.oid = 'public.held'::regclass and g.grantee <> c.relowner
            group by g.grantee
        ) as granted (words)
    ),
    'authenticated: delete, insert, select, update; service_role: delete, insert, select, update',
    'nobody keeps more than secure() grants'
);
select tap.is(
    (
        select string_agg(part.first_words, ' ' order by part.number)
        from (
            select
                s.number,
                split_part(s.statement, ' ', 1) || ' ' || split_part(s.statement, ' ', 2) as first_words
            from clerk_sync.secure('public.held', 'user') with ordinality as s (statement, number)
        ) as part
        where part.number > (select count(*) from clerk_sync.secure('public.held', 'user')) - 8
    ),
    'drop policy drop policy drop policy drop policy create policy create policy create policy create policy',
    'policies, which lock tables of Supabase, come last'
);

-- secure() waits for a lock only for a while, and leaves lock_timeout unchanged.
select tap.is(current_setting('lock_timeout'), '0', 'the time to wait for a lock is as it was');
set local lock_timeout = '777ms';
select from clerk_sync.secure('public.held', 'user');
select tap.is(current_setting('lock_timeout'), '777ms', 'that of the caller counts');
set local lock_timeout = 0;

-- Only the owner of the table, with a right to use the schema.
select
    tap.is(
        tap.attempt(caller.role_name, tap.token('v2', 'ada'), $$select clerk_sync.secure('public.tasks', 'user')$$),
        'denied',
        'called by ' || caller.role_name
    )
from (values ('anon'), ('authenticated'), ('service_role'), ('clerk_sync_worker')) as caller (role_name);

select tap.finish();
rollback;
