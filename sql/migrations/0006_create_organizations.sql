-- Clerk's organizations, with memberships, invitations and domains.

create table clerk.organizations (
    clerk_org_id text primary key,
    name text,
    slug text,
    image_url text,
    has_image boolean not null default false,
    public_metadata jsonb not null default '{}',
    max_allowed_memberships integer,
    admin_delete_enabled boolean not null default false,
    created_by text,
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table clerk.organizations is 'One row per Clerk organization. Its members read it.';
comment on column clerk.organizations.created_by is 'Clerk id of a user, who may have been deleted: no foreign key.';

create index organizations_slug_idx on clerk.organizations (slug);
create index organizations_created_at_idx on clerk.organizations (created_at);

create table clerk.organization_memberships (
    clerk_membership_id text primary key,
    clerk_org_id text not null references clerk.organizations (clerk_org_id) on delete cascade,
    clerk_user_id text not null references clerk.users (clerk_id) on delete cascade,
    role text not null,
    role_name text,
    permissions text[] not null default '{}',
    public_metadata jsonb not null default '{}',
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table clerk.organization_memberships is
'One row per membership. A user who leaves and joins again has a new row, so never look a member up by two rows.';
comment on column clerk.organization_memberships.role is 'Always spelled org:<role>.';
comment on column clerk.organization_memberships.role_name is
'Display name of the role. Never decide access by this name.';
comment on column clerk.organization_memberships.deleted_at is
'Clerk''s clock: when the membership, its organization or its user was deleted, whichever came first.';

create index organization_memberships_org_idx on clerk.organization_memberships (clerk_org_id);
create index organization_memberships_user_idx on clerk.organization_memberships (clerk_user_id);
-- Comparisons with Clerk walk its lists in the order of creation.
create index organization_memberships_created_idx
on clerk.organization_memberships (created_at) where deleted_at is null;

create table clerk.organization_invitations (
    clerk_invitation_id text primary key,
    clerk_org_id text not null references clerk.organizations (clerk_org_id) on delete cascade,
    email_address text,
    role text not null,
    role_name text,
    status text,
    inviter_id text,
    accepted_by text,
    public_metadata jsonb not null default '{}',
    expires_at timestamptz,
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table clerk.organization_invitations is
'One row per invitation, without its secret link. Admins of the organization read it.';
comment on column clerk.organization_invitations.status is
'pending, accepted, revoked or expired. A comparison with Clerk sets expired when expires_at has passed.';
comment on column clerk.organization_invitations.accepted_by is
'Clerk id of the user. Only the webhook names the user; null when a comparison found the invitation accepted.';
comment on column clerk.organization_invitations.inviter_id is
'Clerk id of a user, who may have been deleted: no foreign key.';

create index organization_invitations_org_idx on clerk.organization_invitations (clerk_org_id);
create index organization_invitations_created_idx
on clerk.organization_invitations (created_at) where deleted_at is null;

create table clerk.organization_domains (
    clerk_domain_id text primary key,
    clerk_org_id text not null references clerk.organizations (clerk_org_id) on delete cascade,
    name text,
    enrollment_mode text,
    affiliation_email_address text,
    affiliation_verified boolean not null default false,
    ownership_verified boolean not null default false,
    created_at timestamptz,
    deleted_at timestamptz
) with (fillfactor = 85);

comment on table clerk.organization_domains is 'One row per domain. Admins of the organization read it.';

create index organization_domains_org_idx on clerk.organization_domains (clerk_org_id);
create index organization_domains_created_idx
on clerk.organization_domains (created_at) where deleted_at is null;

-- A row with another key would be another object: a membership whose delete Clerk never tells, and without an entry in
-- the audit log.
create trigger organizations_keep_key before update on clerk.organizations
for each row when (old.clerk_org_id <> new.clerk_org_id)
execute function clerk_sync.refuse_new_key();

create trigger organization_memberships_keep_key before update on clerk.organization_memberships
for each row when (old.clerk_membership_id <> new.clerk_membership_id)
execute function clerk_sync.refuse_new_key();

create trigger organization_invitations_keep_key before update on clerk.organization_invitations
for each row when (old.clerk_invitation_id <> new.clerk_invitation_id)
execute function clerk_sync.refuse_new_key();

create trigger organization_domains_keep_key before update on clerk.organization_domains
for each row when (old.clerk_domain_id <> new.clerk_domain_id)
execute function clerk_sync.refuse_new_key();

alter table clerk.organizations enable row level security;
alter table clerk.organization_memberships enable row level security;
alter table clerk.organization_invitations enable row level security;
alter table clerk.organization_domains enable row level security;

-- Supabase may grant everything on new tables to the API's roles; start from nothing.
revoke all on
clerk.organizations, clerk.organization_memberships, clerk.organization_invitations, clerk.organization_domains
from public, anon, authenticated, service_role;
grant select on
clerk.organizations, clerk.organization_memberships, clerk.organization_invitations, clerk.organization_domains
to authenticated;
-- No other right, as with users.
grant select, insert, update, delete on
clerk.organizations, clerk.organization_memberships, clerk.organization_invitations, clerk.organization_domains
to service_role;

-- Off by default: sync sends private metadata only when configured to, and no other schema ever holds private metadata.
create table clerk_sync.private_metadata (
    entity_id text collate "C" primary key,
    private_metadata jsonb not null,
    deleted_at timestamptz
);

alter table clerk_sync.private_metadata enable row level security;

select clerk_sync.register('organization', 2, 'clerk.organizations', 'clerk_org_id', is_read_by_id => true);
select clerk_sync.register(
    'membership', 3, 'clerk.organization_memberships', 'clerk_membership_id',
    parents => '{"clerk_org_id": "organization", "clerk_user_id": "user"}', is_read_by_id => true
);
select clerk_sync.register(
    'invitation', 4, 'clerk.organization_invitations', 'clerk_invitation_id',
    parents => '{"clerk_org_id": "organization"}', is_read_by_id => true
);
select clerk_sync.register(
    'domain', 5, 'clerk.organization_domains', 'clerk_domain_id',
    parents => '{"clerk_org_id": "organization"}', is_read_by_id => true
);
select clerk_sync.register(
    'private_metadata', 1000, 'clerk_sync.private_metadata', 'entity_id',
    is_audited => false, accompanies => '{user,organization,membership}'
);

select clerk_sync.revoke_default_rights();

insert into clerk_sync.migrations (name) values ('0006_create_organizations');
