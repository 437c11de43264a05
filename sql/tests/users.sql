-- clerk.users and clerk.users_public: the rows that each caller reads, inserts, updates and deletes.

select
    tap.is(
        tap.seen('authenticated', c.claims, 'select clerk_id from clerk.users'),
        e.sees,
        'users seen by ' || c.caller || ' ' || c.version
    )
from tap.callers as c
inner join (
    values
    ('ada', 'user_ada'), ('bea', ''), ('bob', 'user_bob'), ('carl', 'user_carl'), ('dan', ''), ('ed', 'user_ed'),
    ('eve', 'user_eve'), ('gus', ''), ('ned', ''), ('pam', ''), ('nobody', '')
) as e (caller, sees) on c.caller = e.caller;

with e as (
    select
        everybody.caller,
        case
            when everybody.caller in ('bea', 'dan', 'gus', 'pam', 'nobody') then '' else
                'user_ada user_bea user_bob user_carl user_ed user_eve user_gus'
        end as sees
    from (select distinct t.caller from tap.callers as t) as everybody
)

select
    tap.is(
        tap.seen('authenticated', c.claims, 'select clerk_id from clerk.users_public'),
        e.sees,
        'users_public seen by ' || c.caller || ' ' || c.version
    )
from tap.callers as c
inner join e on c.caller = e.caller;

-- Callers insert their own row, as a stub, while no such row exists; nobody inserts the row of another user.
select
    tap.is(
        tap.attempt(
            'authenticated', c.claims, format('insert into clerk.users (clerk_id) values (%L)', 'user_' || c.caller)
        ),
        case c.caller
            when 'ned' then '1'
            when 'nobody' then 'denied'
            when 'bea' then 'denied'
            when 'dan' then 'denied'
            when 'gus' then 'denied'
            when 'pam' then 'denied'
            else '23505'
        end,
        'own row inserted by ' || c.caller || ' ' || c.version
    )
from tap.callers as c;

select
    tap.is(
        tap.attempt(
            'authenticated', c.claims, format('insert into clerk.users (clerk_id) values (%L)', attempted.clerk_id)
        ),
        'denied',
        coalesce(attempted.clerk_id, 'null') || ' inserted by ' || c.caller || ' ' || c.version
    )
from tap.callers as c
cross join (values ('user_zoe'), ('user_pam'), ('user_ad'), (''), (null)) as attempted (clerk_id)
where c.caller <> 'pam' or attempted.clerk_id <> 'user_pam';

select
    tap.is(
        tap.attempt('authenticated', tap.token('v2', 'ned'), e.statement), e.outcome, e.statement
    )
from (
    values
    ('insert into clerk.users (clerk_id) values (''user_ned'') on conflict (clerk_id) do nothing', '1'),
    ('insert into clerk.users (clerk_id) values (''user_ned'') returning *', '1'),
    ('insert into clerk.users (clerk_id) values (''user_ned''), (''user_zoe'')', 'denied'),
    ('insert into clerk.users (clerk_id, email) values (''user_ned'', ''ada@example.com'')', 'denied'),
    ('insert into clerk.users (clerk_id, username) values (''user_ned'', ''ada'')', 'denied'),
    ('insert into clerk.users (clerk_id, public_metadata) values (''user_ned'', ''{"admin": true}'')', 'denied'),
    ('insert into clerk.users (clerk_id, deleted_at) values (''user_ned'', null)', 'denied'),
    ('insert into clerk.users default values', 'denied'),
    (
        'insert into clerk.users (clerk_id) values (''user_ned'') '
        || 'on conflict (clerk_id) do update set clerk_id = ''user_ned''',
        'denied'
    ),
    ('insert into clerk.users (clerk_id) select u.clerk_id from clerk.users_public as u', 'denied')
) as e (statement, outcome);

select tap.is(
    tap.attempt(
        'authenticated',
        tap.token('v2', 'ada'),
        'insert into clerk.users (clerk_id) values (''user_ada'') on conflict (clerk_id) do nothing'
    ),
    '0',
    'a second first login changes nothing'
);

select
    tap.is(
        tap.attempt(
            'service_role', null, format('insert into clerk.users (clerk_id) values (%L)', attempted.clerk_id)
        ),
        attempted.outcome,
        attempted.clerk_id || ' inserted by the service role'
    )
from
    (values ('user_zoe', '1'), ('user_pam', 'denied'), ('user_dan', 'denied'), ('user_ada', '23505'))
        as attempted (clerk_id, outcome);

-- Nobody writes anything else.
select
    tap.is(
        tap.attempt('authenticated', c.claims, forbidden.statement), 'denied',
        forbidden.statement || ' by ' || c.caller || ' ' || c.version
    )
from tap.callers as c
cross join (
    values
    ('update clerk.users set username = ''root'''),
    ('update clerk.users set clerk_id = ''user_zoe'' where clerk_id = ''user_ada'''),
    ('delete from clerk.users'),
    ('truncate clerk.users cascade'),
    ('select 1 from clerk.users for update'),
    ('insert into clerk.users_public (clerk_id) values (''user_zoe'')'),
    ('update clerk.users_public set username = ''root'''),
    ('delete from clerk.users_public'),
    ('truncate clerk.users_public')
) as forbidden (statement)
where c.version in ('v2', '{}');

select tap.is(tap.attempt('anon', tap.token('v2', 'ada'), statement), 'denied', statement || ' by anon')
from (
    values
    ('select 1 from clerk.users'),
    ('select 1 from clerk.users_public'),
    ('insert into clerk.users (clerk_id) values (''user_ada'')'),
    ('insert into clerk.users (clerk_id) values (''user_zoe'')'),
    ('update clerk.users set username = ''root'''),
    ('delete from clerk.users'),
    ('update clerk.users_public set username = ''root'''),
    ('delete from clerk.users_public')
) as forbidden (statement);

-- As the service role, everything.
select tap.is(tap.attempt('service_role', null, 'select 1 from clerk.users'), '8', 'users seen by the service role');
select
    tap.is(
        tap.attempt('service_role', null, 'update clerk.users set locale = ''en'''), '8', 'updated by the service role'
    );
select
    tap.is(
        tap.attempt('service_role', null, 'select 1 from clerk.users_public'),
        '8',
        'users_public seen by the service role'
    );
select
    tap.is(
        tap.attempt('service_role', null, 'delete from clerk.users_public'),
        'denied',
        'a projection is not written by hand'
    );

select tap.finish();
rollback;
