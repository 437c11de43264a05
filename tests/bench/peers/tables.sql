-- The tables of an app that pasted a handler: what the handler keeps of a user, and the deliveries it has seen.
create schema pasted;
create table pasted.users (
    id text primary key,
    email text,
    first_name text,
    last_name text,
    username text,
    image_url text,
    public_metadata jsonb,
    unsafe_metadata jsonb,
    created_at timestamptz,
    updated_at bigint not null,
    deleted_at timestamptz
);
create table pasted.deliveries (
    svix_id text primary key,
    event_type text not null,
    user_id text not null,
    received_at timestamptz not null default now()
);
