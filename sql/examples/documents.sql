-- Documents of an organization: every member reads them, admins and editors write them, admins delete them.

create table if not exists public.documents (
    id bigint generated always as identity primary key,
    title text not null,
    body text not null default '',
    created_at timestamptz not null default now()
);

select clerk_sync.secure(
    'public.documents', 'organization',
    write_roles => array['org:admin', 'org:editor'],
    delete_roles => array['org:admin']
);
