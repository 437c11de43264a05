-- An owner whose new functions nobody may execute without a grant. Run this file as the owner, before the migrations.
-- Restricted to a schema, the statement would do nothing: such defaults can only add to the global defaults.

alter default privileges revoke execute on functions from public;
