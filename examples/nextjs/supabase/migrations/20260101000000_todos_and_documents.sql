-- The tables of the app. Run it after `clerk-supabase migrate`: `supabase db push`, or paste it into the SQL editor.

create table public.todos (
    id bigint generated always as identity primary key,
    title text not null check (length(title) between 1 and 200),
    is_done boolean not null default false,
    created_at timestamptz not null default now()
);

create table public.documents (
    id bigint generated always as identity primary key,
    title text not null check (length(title) between 1 and 200),
    created_at timestamptz not null default now()
);

-- Each user reads and writes their own to-dos. The owner comes from the token: the app never sends it.
select clerk_sync.secure('public.todos', 'user');

-- Members read the documents of their active organization; the role decides who writes and who deletes.
select clerk_sync.secure(
    'public.documents', 'organization', write_roles => '{org:admin,org:editor}', delete_roles => '{org:admin}'
);
