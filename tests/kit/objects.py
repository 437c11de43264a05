"""`make objects`: writes sql/objects.json, from the migrations of this checkout in a new database."""

from __future__ import annotations

from pathlib import Path

import psycopg

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate.install.migrations import (
    apply_missing,
    is_of_the_app,
    prepare_plain_postgres,
    read_migrations,
)
from clerk_supabase_cli.operate.objects.catalogue import Scope, read
from clerk_supabase_cli.operate.objects.manifest import Manifest, write_manifest
from clerk_supabase_cli.project import find_root


def made_by_migrations(root: Path, url: str, schema: str = "clerk") -> Manifest:
    """The manifest of the checkout at *root*, without the app's own migrations; *url*: an empty database."""
    prepare_plain_postgres(url, root)
    with psycopg.connect(url, autocommit=True) as connection:
        migrations = [each for each in read_migrations(root, schema) if not is_of_the_app(each.name)]
        list(apply_missing(connection, migrations))
        checksums = {migration.name: migration.checksum for migration in migrations}
        return Manifest(checksums, read(connection, Scope.everything(connection, schema)), schema=schema)


if __name__ == "__main__":
    checkout = find_root(Path(__file__).parent)
    try:
        with EmbeddedPostgres() as server:
            write_manifest(checkout, made_by_migrations(checkout, server.create_database("objects")))
    except Failure as failure:
        raise SystemExit(f"make objects: {failure}") from None
