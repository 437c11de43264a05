-- sql/examples/profiles.sql: public profiles for everybody, private ones for their owners.

insert into public.profiles (user_id, display_name, is_public)
values
('user_ada', 'Ada', true), ('user_bea', 'Bea', false), ('user_bob', 'Bob', false), ('user_dan', 'Dan', false),
('user_eve', 'Eve', false), ('user_gus', 'Gus', false);

select
    tap.is(
        tap.seen('authenticated', c.claims, 'select user_id from public.profiles'),
        case when c.caller in ('bob', 'eve') then 'user_ada user_' || c.caller else 'user_ada' end,
        'profiles seen by ' || c.caller || ' ' || c.version
    )
from tap.callers as c;

select
    tap.is(
        tap.attempt('authenticated', c.claims, 'update public.profiles set about = ''x'''),
        case when c.caller in ('ada', 'bob', 'eve') then '1' else '0' end,
        'profiles updated by ' || c.caller || ' ' || c.version
    )
from tap.callers as c;

select
    tap.is(
        tap.attempt('authenticated', c.claims, 'delete from public.profiles'),
        case when c.caller in ('ada', 'bob', 'eve') then '1' else '0' end,
        'profiles deleted by ' || c.caller || ' ' || c.version
    )
from tap.callers as c;

select
    tap.is(
        tap.attempt('authenticated', c.claims, 'insert into public.profiles (display_name) values (''x'')'),
        case
            when c.caller in ('ada', 'bob', 'eve') then '23505' when c.caller in ('carl', 'ed', 'ned') then '1' else
                'denied'
        end,
        'profile inserted by ' || c.caller || ' ' || c.version
    )
from tap.callers as c
where c.caller <> 'nobody';

select tap.is(
    tap.attempt('authenticated', tap.token('v2', 'ada'), 'update public.profiles set user_id = ''user_zoe'''), 'denied',
    'a profile stays its owner''s'
);

select
    tap.is(
        tap.seen('anon', c.claims, 'select user_id from public.profiles'),
        'user_ada',
        'profiles seen by anon as ' || c.caller || ' ' || c.version
    )
from tap.callers as c;

select tap.is(tap.attempt('anon', tap.token('v2', 'ada'), a.statement), 'denied', a.statement || ' by anon')
from (
    values
    ('insert into public.profiles (user_id, display_name) values (''user_ada'', ''x'')'),
    ('update public.profiles set about = ''x'''),
    ('delete from public.profiles')
) as a (statement);

select tap.is(
    tap.attempt('service_role', null, 'delete from public.profiles'), '6', 'the service role may do everything'
);

select tap.finish();
rollback;
