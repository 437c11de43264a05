-- sql/examples/tasks.sql: rows of users.

insert into public.tasks (name, user_id)
values
('of ada', 'user_ada'), ('of ada, too', 'user_ada'), ('of bea', 'user_bea'), ('of dan', 'user_dan'),
('of eve', 'user_eve'), ('of gus', 'user_gus'), ('of ned', 'user_ned'), ('of nobody', null), ('of pam', 'user_pam');

-- own: the number of the caller's tasks. A user whose row has not arrived yet has the same rights as any other user.
create table tap.expected (caller text, own text, may_insert boolean);

insert into tap.expected (caller, own, may_insert)
values
('ada', '2', true), ('bob', '0', true), ('carl', '0', true), ('ed', '0', true), ('eve', '1', true), ('ned', '1', true),
('bea', '0', false), ('dan', '0', false), ('gus', '0', false), ('pam', '0', false), ('nobody', '0', false);

select
    tap.is(
        tap.attempt('authenticated', c.claims, a.statement),
        a.outcome,
        a.statement || ' by ' || c.caller || ' ' || c.version
    )
from tap.callers as c
inner join tap.expected as e on c.caller = e.caller
cross join lateral (
    values
    ('select * from public.tasks', e.own),
    ('update public.tasks set is_done = true', e.own),
    ('delete from public.tasks', e.own),
    ('select * from public.tasks where user_id is null', '0'),
    ('insert into public.tasks (name) values (''new'') returning *', case when e.may_insert then '1' else 'denied' end),
    ('insert into public.tasks (name, user_id) values (''new'', ''user_zoe'')', 'denied'),
    ('insert into public.tasks (name, user_id) values (''new'', null)', 'denied'),
    ('insert into public.tasks (name, user_id) values (''new'', '''')', 'denied'),
    ('truncate public.tasks', 'denied')
) as a (statement, outcome);

select
    tap.is(
        tap.attempt('authenticated', tap.token(kind.version, 'ada'), a.statement),
        a.outcome,
        a.statement || ' ' || kind.version
    )
from tap.versions as kind
cross join (
    values
    ('select * from public.tasks where user_id = ''user_eve''', '0'),
    ('update public.tasks set name = ''x'' where user_id = ''user_eve''', '0'),
    ('delete from public.tasks where user_id = ''user_eve''', '0'),
    ('update public.tasks set user_id = ''user_eve''', 'denied'),
    ('update public.tasks set user_id = null', 'denied'),
    ('insert into public.tasks (name, user_id) values (''x'', ''user_ada''), (''x'', ''user_eve'')', 'denied'),
    ('insert into public.tasks (name, user_id) values (''x'', ''user_ada'')', '1')
) as a (statement, outcome);

select tap.is(tap.attempt('anon', c.claims, a.statement), 'denied', a.statement || ' by anon as ' || c.caller)
from tap.callers as c
cross join (
    values
    ('select * from public.tasks'),
    ('insert into public.tasks (name) values (''new'')'),
    ('update public.tasks set is_done = true'),
    ('delete from public.tasks')
) as a (statement)
where c.version in ('v2', '{}');

select tap.is(tap.attempt('service_role', null, 'select * from public.tasks'), '9', 'the service role sees everything');
select tap.is(tap.attempt('service_role', null, 'delete from public.tasks'), '9', 'and deletes everything');

select tap.finish();
rollback;
