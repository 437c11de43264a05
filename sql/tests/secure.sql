-- clerk_sync.secure(): what it makes, what it keeps, what it refuses.

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

-- Tables that nobody would call so.
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

-- A table that has everything already.
create table public.noted (user_id varchar(300) not null, org text default 'x', note text, primary key (user_id, note));
alter table public.noted enable row level security;
create policy only_short on public.noted as restrictive for insert to authenticated with check (length(note) < 10);
insert into public.noted (user_id, note) values ('user_ada', 'of ada'), ('user_eve', 'of eve');
create table tap.first_run as
select done.statement from clerk_sync.secure('public.noted', 'user') as done (statement);

create view tap.rights as
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

-- Rows that were there before belong to nobody, not to whoever happened to be signed in as secure() ran.
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
do $$
begin
    create foreign data wrapper nowhere;
    create server nowhere foreign data wrapper nowhere;
    create foreign table public.a_foreign_table (id int) server nowhere;
end
$$;
create table public.with_uuid (user_id uuid);
create table public.with_number (user_id bigint);
create table public.with_array (user_id text[]);
create table public.generated (user_id text generated always as ('user_ada') stored);
create collation public.ignores_case from "C";
create table public.any_case (user_id text collate public.ignores_case);
-- Not every build of Postgres can make such a collation.
update pg_collation set collisdeterministic = false
where collname = 'ignores_case';

select tap.ok(refused.message like refused.told, refused.relation || ': ' || refused.message)
from (
    select
        given.relation,
        given.told,
        tap.refusal(format('select clerk_sync.secure(%L, ''user'')', given.relation)) as message
    from (
        values
        ('public.no_such_table', 'relation "public.no_such_table" does not exist'),
        ('no_such_schema.tasks', 'relation "no_such_schema.tasks" does not exist'),
        ('public.tasks; drop table public.tasks', 'invalid name syntax'),
        ('', 'invalid name syntax'),
        ('0', 'there is no table -'),
        ('public.a_view', '%cannot%'),
        ('public.a_materialized_view', '%'),
        ('public.a_foreign_table', '%cannot be secured: it is no ordinary table'),
        ('public.a_sequence', '%'),
        ('public.tasks_pkey', '%'),
        ('public.a_partitioned_table', '% cannot be secured: it is no ordinary table'),
        ('public.a_partition', '% cannot be secured: its rows can also be reached through another table'),
        ('public.a_parent', '% cannot be secured: its rows can also be reached through another table'),
        ('public.a_child', '% cannot be secured: its rows can also be reached through another table'),
        ('pg_temp.a_temporary_table', '% cannot be secured: %'),
        ('pg_catalog.pg_class', '%'),
        ('information_schema.sql_features', '% cannot be secured: it is in a schema that is not the app''s'),
        ('clerk_sync.entities', '% cannot be secured: it is in a schema that is not the app''s'),
        ('clerk_sync.migrations', '% cannot be secured: it is in a schema that is not the app''s'),
        ('public.users', '% cannot be secured: sync writes it'),
        ('public.users_public', '% cannot be secured: sync writes it'),
        ('public.organizations', '% cannot be secured: sync writes it'),
        ('public.organization_memberships', '% cannot be secured: sync writes it'),
        ('public.organization_invitations', '% cannot be secured: sync writes it'),
        ('public.organization_domains', '% cannot be secured: sync writes it'),
        ('public.with_uuid', '%its column user_id must be text %; it is uuid'),
        ('public.with_number', '%; it is bigint'),
        ('public.with_array', '%; it is text[]'),
        ('public.generated', '%; it is generated'),
        ('public.any_case', '%its column user_id must be text that is equal only to itself%')
    ) as given (relation, told)
) as refused;

select tap.is(tap.refusal(refused.statement), refused.told, refused.statement)
from (
    values
    ($$select clerk_sync.secure('public.tasks', 'team')$$, 'a table belongs to ''user'' or ''organization'''),
    ($$select clerk_sync.secure('public.tasks', null)$$, 'a table belongs to ''user'' or ''organization'''),
    ($$select clerk_sync.secure(null, 'user')$$, 'a table belongs to ''user'' or ''organization'''),
    ($$select clerk_sync.secure('tasks', 'user', '{org:admin}')$$, 'roles are of organizations: a user has none'),
    ($$select clerk_sync.secure('public.tasks', 'organization', '{admin}')$$, 'a role is spelled org:<role>'),
    ($$select clerk_sync.secure('public.tasks', 'organization', '{null}')$$, 'a role is spelled org:<role>'),
    ($$select clerk_sync.secure('tasks', 'organization', delete_roles => '{org:}')$$, 'a role is spelled org:<role>')
) as refused (statement, told);

select tap.is(
    tap.number_of('pg_class where relname in (''with_uuid'', ''a_parent'', ''any_case'') and relrowsecurity'), '0',
    'what is refused stays as it was'
);

-- Only who owns the table, and is let into the schema.
select
    tap.is(
        tap.attempt(caller.role_name, tap.token('v2', 'ada'), $$select clerk_sync.secure('public.tasks', 'user')$$),
        'denied',
        'called by ' || caller.role_name
    )
from (values ('anon'), ('authenticated'), ('service_role'), ('clerk_sync_worker')) as caller (role_name);

select tap.finish();
rollback;
