-- Links of rows of the app to users, written by `clerk-supabase adopt link`, and undone by `clerk-supabase adopt undo`.

create table clerk_sync.links (
    link_id bigint generated always as identity primary key,
    kind text not null,
    relation text not null,
    key_column text not null,
    row_key jsonb not null,
    clerk_id text collate "C" not null,
    found_by text not null,
    linked_at timestamptz not null default clock_timestamp(),
    linked_by text not null,
    undone_at timestamptz,
    undone_by text,
    constraint links_found_by_check check (found_by in ('id', 'external_id', 'email'))
);

comment on table clerk_sync.links is
'One row per row of the app that `clerk-supabase adopt link` gave a Clerk id. Addresses are not kept.';
comment on column clerk_sync.links.relation is 'The app''s table, spelled as in a statement.';
comment on column clerk_sync.links.key_column is 'The column that was null, and holds the Clerk id since.';
comment on column clerk_sync.links.row_key is 'The primary key of the row: {"column": value}';
comment on column clerk_sync.links.found_by is
'id: another column held the Clerk id; external_id: Clerk held the key of the row; email: a verified address of both.';
comment on column clerk_sync.links.linked_by is 'Name of the operator on their machine.';

create index links_relation_idx on clerk_sync.links (relation) where undone_at is null;

alter table clerk_sync.links enable row level security;

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0027_create_links');
