"""The whole way of an app that exists: from the first look to the cut-over, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
import pytest
from psycopg import sql

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.adopt.differences import ROWS
from clerk_supabase_cli.adopt.mapping import parse_mappings
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.install.migrations import migrate
from clerk_supabase_cli.operate.setup.role_urls import as_role
from clerk_supabase_cli.operate.uninstall.run import look as look_for_ours
from clerk_supabase_cli.operate.uninstall.run import remove
from tests.kit.app_shape import Shape, fingerprint, person, toml
from tests.kit.app_shapes import SHAPES
from tests.kit.databases import WORKER, Connection, acting_as, rows
from tests.kit.histories import Applied
from tests.kit.parked import Command
from tests.kit.supabase import Supabase
from tests.kit.webhooks import deleted, membership, organization, user

FILE = Path("adopt.toml")


# Tables of the app, but for a table that a trigger of the app writes at each change of a user.
TABLES: LiteralString = """
    select format('%I.%I', n.nspname, c.relname) from pg_class as c
    inner join pg_namespace as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and n.nspname in ('public', 'app', 'drizzle')
    and c.relname <> 'people_log'
"""


@dataclass
class App:
    """An app in a database of its own, whose owner is no superuser."""

    shape: Shape
    superuser_url: str
    url: str
    owner: Connection
    command: Command

    def adopt(self, step: str, *options: str, status: int = 0) -> Any:
        """The answer of a step of `clerk-supabase adopt`."""
        return self.command.json("adopt", step, *options, status=status)

    def differences(self) -> dict[str, int]:
        """The differences that `adopt compare` finds, with their numbers of rows; of users without a prefix."""
        found = self.command.run("adopt", "compare", "--json", status=None)
        answer = json.loads(found.stdout)
        numbers: dict[str, int] = {}
        for each in answer["tables"]:
            prefix = "" if each["name"] == "users" else f"{each['name']}."
            numbers |= {f"{prefix}{name}": number for name, number in each["columns"].items()}
            numbers |= {f"{prefix}{name}": each[name] for name in ROWS}
        assert answer["equal"] is (found.exit_code == 0) is (not any(numbers.values()))
        return {name: number for name, number in numbers.items() if number}

    def columns(self) -> set[str]:
        """The columns of a user that change with the name and the address, and that the old handler writes, too."""
        [users, *_] = parse_mappings(FILE.read_text())
        return {name for name, text in users.update.items() if re.search("email|first_name|username", text)}

    def unfed(self) -> dict[str, str]:
        """The reasons of the unfed rows."""
        return dict(rows(self.owner, "select object_id, reason from clerk_sync.unfed_rows"))

    def kept(self) -> set[str]:
        """Every row of the app, without the mapped columns of users, but for rows of a user who is deleted."""
        found: set[str] = set()
        # Postgres computes full_name of the names.
        mapped = [*self.shape.update, *self.shape.on_insert, "full_name"]
        for (name,) in rows(self.owner, TABLES):
            query = sql.SQL("select {} || (to_jsonb(t) - {}::text[])::text from {} as t").format(
                sql.Literal(name), sql.Literal(mapped if name == self.shape.table else []), sql.SQL(name)
            )
            found |= {row for (row,) in self.owner.execute(query, prepare=False) if '"user_eve"' not in row}
        return found


@contextmanager
def filling(app: App) -> Iterator[Store]:
    """The worker of sync."""
    app.owner.execute(sql.SQL("alter role {} password 'x'").format(sql.Identifier(WORKER)))
    with closing(Store(Fixed(as_role(app.superuser_url, WORKER, "x") + "?sslmode=disable"))) as store:
        yield store


_NO_TRIGGERS_OF_THE_API: Final = """
do $$
declare
    one text;
begin
    for one in
        select c.oid::regclass::text from pg_class as c
        where c.relkind in ('r', 'p', 'v') and c.relowner = current_user::regrole
    loop
        execute format('revoke trigger on %s from anon, authenticated, service_role', one);
    end loop;
end
$$
"""


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def app(
    request: pytest.FixtureRequest, supabase: Supabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[App]:
    """The tables of an app, before anything of this project."""
    shape: Shape = request.param
    monkeypatch.chdir(tmp_path)
    with supabase.new_project() as (superuser_url, url), psycopg.connect(url, autocommit=True) as owner:
        with psycopg.connect(superuser_url, autocommit=True) as superuser:
            shape.install(owner, superuser)
        # As `adopt switch` does for good, so that the grants are the same before and after.
        owner.execute(_NO_TRIGGERS_OF_THE_API)
        yield App(shape, superuser_url, url, owner, Command({"DATABASE_URL": url}))


def clerk(name: str, at: int, **fields: Any) -> Applied:
    """The event of a user who is as `person()` says, but for some fields."""
    known = person(name)
    sent: dict[str, Any] = {
        each: fields.get(each, known[each]) for each in ("username", "first_name", "last_name", "image_url")
    }
    address = fields.get("email", known["email"])
    addresses = [{"id": "idn_1", "email_address": address, "verification": {"status": "verified"}}]
    is_banned = fields.get("banned", False)
    return user(name, at=at, **sent, email_addresses=addresses, primary_email_address_id="idn_1", banned=is_banned)


def test_the_way_of_an_app_from_the_first_look_to_the_cut_over_and_back(
    app: App, supabase: Supabase, root: Path
) -> None:
    objects, before, kept = supabase.schema(app.superuser_url), fingerprint(app.owner), app.kept()
    app.adopt("inspect", "--output", "first.toml")
    assert fingerprint(app.owner) == before
    assert list(migrate(app.url, root))
    with filling(app) as store:
        look(app, store)
        if app.shape.table:
            compare_beside_the_old_handler(app)
            left_unfed = switch(app)
            follow_clerk_beside_the_old_handler(app, store, left_unfed)
            follow_clerk_after_the_cut_over(app, store, left_unfed)
            undo(app, store, left_unfed)
    with open_database(app.url) as connection:
        assert look_for_ours(connection, root).stops == []
        remove(connection, app.url, root, print)
    assert supabase.schema(app.superuser_url) == objects
    assert kept <= app.kept()


def look(app: App, store: Store) -> None:
    """The mirror is filled, and the app's tables are found."""
    shape = app.shape
    store.apply(
        [
            *(clerk(f"user_{name}", at=1) for name in ("ada", "eve", "bob", "mallory")),
            organization("org_acme", at=1, name="Acme", slug="acme"),
            membership("orgmem_1", at=1, org_id="org_acme", user_id="user_ada"),
        ]
    )
    before = fingerprint(app.owner)
    found = app.adopt("inspect")
    assert fingerprint(app.owner) == before
    if not shape.table:
        assert found["candidates"] == []
        assert "no table is mapped" in str(app.command.run("adopt", "compare", status=1).exception)
        with acting_as(app.owner, "authenticated", {"sub": "user_ada", "role": "authenticated"}):
            assert rows(app.owner, "select name from public.tasks order by 1") == [("Read",), ("Write",)]
        return
    column = shape.key or "clerk_user_id"
    [candidate] = [each for each in found["candidates"] if (each["table"], each["column"]) == (shape.table, column)]
    assert (candidate["linked"], candidate["unknown"], candidate["double"]) == (2, 0, 0)
    write_what_a_person_would(app)


def write_what_a_person_would(app: App) -> None:
    """Compares the mapping that inspect wrote with the columns of the handler, and completes it."""
    shape = app.shape
    if shape.keys:
        assert "key.tenant_id is still to do" in str(app.command.run("adopt", "compare", status=1).exception)
        FILE.write_text(FILE.read_text().replace("TODO: a value of the type integer", "1"))
    # The rows agree, so that these two are kept equal.
    kept = shape.on_insert.keys() & {"username", "display_name"}
    [users, *others] = parse_mappings(FILE.read_text())
    assert (users.table, set(users.key)) == (shape.table, {shape.key or "clerk_user_id", *shape.keys})
    assert set(users.update) == set(shape.update) | kept
    assert users.on_insert.keys() == shape.on_insert.keys() - kept
    completed = replace(users, on_delete=shape.on_delete, guard=shape.guard)
    FILE.write_text(toml([completed, *(replace(each, on_delete="delete") for each in others)]))


def compare_beside_the_old_handler(app: App) -> None:
    """Rows without an id are linked with proof, and the differences are found; the feed is not there yet."""
    unlinked = rows(app.owner, "select 1 from pg_class where relname = 'things_10'")
    if unlinked:
        found = app.adopt("link", "--write")
        assert [(each["clerk_id"], each["found_by"]) for each in found["links"]] == [("user_bob", "email")]
        assert [each["reason"] for each in found["left"]] == ["unverified_here"]
    app.shape.old_upsert(app.owner, person("user_late"))
    before = fingerprint(app.owner)
    expected = {"missing": 1 if unlinked else 2, "unknown": 1} | ({"email": 1} if app.shape.extension else {})
    assert app.differences() == expected
    assert len(app.adopt("switch")["outlook"]) == len(parse_mappings(FILE.read_text()))
    assert fingerprint(app.owner) == before
    app.shape.old_delete(app.owner, "user_late")


def switch(app: App) -> dict[str, str]:
    """The tables are filled; returns the row of Mallory, whose address is that of a row which nobody has verified."""
    app.adopt("switch", "--write")
    left = app.unfed()
    assert left in ({}, {"user_mallory": app.shape.collision})
    assert bool(left) is bool(rows(app.owner, "select from clerk_sync.links"))
    assert app.differences() == missing(left)
    return left


def missing(unfed: dict[str, str]) -> dict[str, int]:
    """The differences of a fed table: only unfed rows are missing."""
    return {"missing": len(unfed)} if unfed else {}


def follow_clerk_beside_the_old_handler(app: App, store: Store, left_unfed: dict[str, str]) -> None:
    """Each change of Clerk is in the table, and an old handler does no harm, or one that is found and corrected."""
    shape, owner = app.shape, app.owner
    store.apply([clerk("user_new", 2), membership("orgmem_2", at=2, org_id="org_acme", user_id="user_new")])
    store.apply([clerk("user_bob", 3, first_name="Robert", email="robert@example.test", username="robert")])
    renamed = {"first_name": "Augusta", "email": "augusta@example.test", "username": "augusta"}
    store.apply([clerk("user_ada", 4, **renamed)])
    store.apply([clerk("user_ada", 5, **renamed, banned=True)])
    store.apply([deleted("user", "user_eve", at=6)])
    assert app.differences() == missing(left_unfed)

    # Webhooks that the old handler gets late: an update of the past, an update after the delete, a delete of another.
    shape.old_upsert(owner, person("user_bob"))
    shape.old_upsert(owner, person("user_eve"))
    shape.old_delete(owner, "user_new")
    harm = app.differences()
    if shape.guard:
        assert harm == missing(left_unfed)
    else:
        # The old delete takes members with it, where they have a key to the users.
        members = harm.pop("organization_memberships.missing", 0)
        assert members == (shape.name == "B")
        assert harm == {
            "missing": 1 + len(left_unfed),
            **({"deleted": 1} if shape.on_delete == "delete" else {}),
            **dict.fromkeys(app.columns(), 1),
        }
        app.adopt("switch", "--write")
        assert app.differences() == missing(left_unfed)


def follow_clerk_after_the_cut_over(app: App, store: Store, left_unfed: dict[str, str]) -> None:
    """A row that the app rejects is listed, delays nobody, and is written once nothing is in its way."""
    of_another = {"first_name": "Ada", "email": "augusta@example.test", "username": "augusta"}
    store.apply([clerk("user_twin", 7, **of_another), clerk("user_last", 7)])
    unfed = left_unfed | ({"user_twin": app.shape.collision} if app.shape.collision else {})
    assert app.unfed() == unfed
    assert app.differences() == missing(unfed)
    store.apply([clerk("user_twin", 8), deleted("organizationMembership", "orgmem_2", at=8)])
    assert app.unfed() == left_unfed
    assert app.differences() == missing(left_unfed)


def undo(app: App, store: Store, left_unfed: dict[str, str]) -> None:
    """The rows stay, and no change of Clerk reaches the table any more."""
    assert app.adopt("undo", "--links")["changed"] is False
    assert app.adopt("undo", "--links", "--write")["changed"] is True
    store.apply([clerk("user_after", 9)])
    unlinked = len(rows(app.owner, "select from clerk_sync.links where undone_at is not null"))
    assert app.differences()["missing"] == len(left_unfed) + 1 + unlinked
