-- An app that added to the mirror, with names and comments that end a string or a comment of the output too early.
create schema app;
create type app.plan as enum ('free', 'the "pro" one');
create domain app.shade as text;
alter table clerk.users
    add column plan app.plan not null default 'free',
    add column theme app.shade,
    add column points bigint,
    add column tags app.plan[],
    add column place point,
    add column "type" varchar(3)[] default '{}',
    add column "at" timestamp(3),
    add column "größe  😀" double precision,
    add column doubled bigint generated always as (points * 2) stored,
    add column "a ""b"" `${c}` */ \" varchar(40) default '`${process.exit(1)}` */ \';
comment on column clerk.users.theme is 'Not the end: */ // " `${process.exit(1)}`
}';
grant update (theme) on clerk.users to authenticated;
create policy app_writes_theme on clerk.users for update to authenticated using (true);

create function clerk.member(clerk.organization_memberships) returns setof clerk.users
language sql stable rows 1 as 'select u.* from clerk.users as u where u.clerk_id = $1.clerk_user_id';
grant execute on function clerk.member(clerk.organization_memberships) to authenticated;
create view public.users_public with (security_invoker = true) as select * from clerk.users_public;
create view public.members with (security_invoker = true) as select clerk_user_id, role from clerk.organization_memberships;

create table clerk.badges (
    code text, place int, clerk_id text references clerk.users, primary key (code, place), unique (clerk_id, code)
);
create index on clerk.badges using hash (code);
create table clerk.log (line text);
create table clerk.delete (id bigint primary key generated always as identity, parent bigint references clerk.delete);
create index on clerk.users (plan);
create unique index on clerk.users (plan, clerk_id);
create index on clerk.users (lower(email));
create index on clerk.users (username) include (email);
alter table clerk.badges add column last bigint references clerk.delete;
alter table clerk.delete add column code text, add column place int,
    add foreign key (code, place) references clerk.badges on delete set null on update cascade;
create table clerk."1 odd ""name""" ("type" text primary key);
