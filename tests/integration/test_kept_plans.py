"""Kept plans and the catalogs: apply() and the audit log see each change of a table, of its triggers and columns."""

from __future__ import annotations

from typing import LiteralString

from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, Database, rows
from tests.kit.histories import alone, upsert
from tests.kit.meanwhile import started, waiting
from tests.kit.polling import eventually

_FUNCTION: LiteralString = """
    create function public.alters() returns trigger language plpgsql as $$
    begin new.first_name := lower(new.first_name); return new; end $$
"""
_TRIGGER: LiteralString = """
    create trigger alters before insert or update on clerk.users for each row execute function public.alters()
"""
_CHANGED: LiteralString = (
    "select changed_columns from clerk_sync.audit_log where operation = 'update' order by audit_id"
)


def test_a_trigger_is_seen_by_the_session_that_has_applied_before(store: Store, admin: Connection) -> None:
    admin.execute(_FUNCTION)
    for version in (1, 2):
        store.apply(alone(upsert(version=version, first_name=f"Ada {version}")))
    for version, change, outcome in (
        (3, _TRIGGER, "altered"),
        (4, "alter table clerk.users disable trigger alters", "updated"),
        (5, "alter table clerk.users enable always trigger alters", "altered"),
        (6, "drop trigger alters on clerk.users", "updated"),
    ):
        admin.execute(change)
        assert store.apply(alone(upsert(version=version, first_name=f"Ada {version}"))) == [outcome]


def test_a_trigger_that_the_app_creates_while_a_batch_waits_is_seen_at_once_and_later(
    database: Database, store: Store, admin: Connection
) -> None:
    admin.execute(_FUNCTION)
    for version in (1, 2):
        store.apply(alone(upsert(version=version, first_name=f"Ada {version}")))
    outcomes: list[object] = []
    with database.connect() as other:
        with other.transaction():
            other.execute("select from clerk_sync.entities for update")
            applying = started(lambda: outcomes.extend(store.apply(alone(upsert(version=3, first_name="Ada 3")))))
            eventually(lambda: waiting(admin), bool)
            # The statement that applies the batch has its snapshot.
            admin.execute(_TRIGGER)
        applying.join()
    outcomes += store.apply(alone(upsert(version=4, first_name="Ada 4")))
    assert outcomes == ["altered", "altered"]


def test_a_column_of_another_type_is_seen_by_the_session_that_has_written_before(
    store: Store, admin: Connection
) -> None:
    store.apply(alone(upsert(version=1, locale="de")))
    store.apply(alone(upsert(version=2, locale="en")))
    with admin.transaction():
        admin.execute("update clerk.users set locale = 'fr'")
        admin.execute("alter table clerk.users alter column locale type json using to_json(locale)")
        admin.execute("""update clerk.users set locale = '"it"'""")
    admin.execute("""update clerk.users set locale = '"es"'""")
    admin.execute("alter table clerk.users alter column locale type text using locale #>> '{}'")
    admin.execute("update clerk.users set locale = 'pt'")
    assert rows(admin, _CHANGED) == [(["locale"],)] * 5
