-- An owner who lets nobody execute what nobody was granted. Run it as the owner, before the migrations.
-- Restricted to a schema, the statement would do nothing: such defaults can only add to the global ones.

alter default privileges revoke execute on functions from public;
