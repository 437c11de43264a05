select n.nspname, null, '{}'::jsonb, 'create schema ' || quote_ident(n.nspname), true
from pg_namespace as n where n.nspname in (%(mirror)s, 'clerk_sync')
