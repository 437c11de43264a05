select
    n.nspname, null, jsonb_build_object('owner', (select o.name from owners as o where o.oid = n.nspowner)),
    'create schema ' || quote_ident(n.nspname), true
from pg_namespace as n where n.nspname in (%(mirror)s, 'clerk_sync')
