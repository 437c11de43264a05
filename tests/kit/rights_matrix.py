"""Finds the rights of each identity on each object of the database, by trying.

The objects are read from the catalogue; the words of a verdict are the words of docs/rights.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from tests.kit.databases import Connection, acting_as, rows
from tests.kit.kinds import is_made_for_the_app

NOTHING: Final = "-"
SCHEMAS: Final = ("clerk", "clerk_sync")
_OTHER_RIGHTS: Final = ("truncate", "references", "trigger")
_RIGHTS_ON_SEQUENCES: Final = ("usage", "select", "update")
_NOBODY: Final = "clerk_sync_test_nobody"
_LABS: Final = "org_labs"


@dataclass(frozen=True)
class Identity:
    """A role and, for a signed-in user, the owner of the token. Every token claims to be of an admin of Labs."""

    role: str
    person: str = ""

    @property
    def claims(self) -> str | None:
        """The claims of the token; None without a token."""
        if not self.person:
            return None
        return json.dumps({"sub": f"user_{self.person}", "role": self.role, "org_id": _LABS, "org_role": "org:admin"})


IDENTITIES: Final[Mapping[str, Identity]] = {
    "no role": Identity(_NOBODY),
    "anon": Identity("anon"),
    "owner": Identity("authenticated", "ada"),
    "stranger": Identity("authenticated", "sam"),
    "member": Identity("authenticated", "mia"),
    "admin": Identity("authenticated", "ann"),
    "banned": Identity("authenticated", "ben"),
    "deprovisioned": Identity("authenticated", "dee"),
    "service_role": Identity("service_role"),
    "worker": Identity("clerk_sync_worker"),
    "session": Identity("clerk_sync_session"),
}

_ROLES: Final = sorted({identity.role for identity in IDENTITIES.values()} - {_NOBODY})

_PEOPLE: Final[Mapping[str, Mapping[str, object]]] = {
    "ada": {},
    "mia": {},
    "ann": {},
    "ben": {"banned": True},
    "dee": {"deprovisioned": True},
    "eve": {},
    "gone": {"deleted_at": "2026-01-01"},
}
_ORGANIZATIONS: Final[Mapping[str, Mapping[str, object]]] = {
    _LABS: {},
    "org_eves": {},
    "org_closed": {"deleted_at": "2026-01-01"},
}
_MEMBERS: Final = {
    "mia": (_LABS, "org:member"),
    "ann": (_LABS, "org:admin"),
    "ben": (_LABS, "org:admin"),
    "dee": (_LABS, "org:admin"),
    "eve": ("org_eves", "org:admin"),
    "gone": ("org_closed", "org:admin"),
}


def fill(owner: Connection) -> None:
    """Puts people and organizations into an empty database, and creates a role without any right.

    Ada owns her row and belongs to no organization; of Sam, the stranger, nothing has arrived; Mia is a member of Labs;
    Ann, Ben and Dee are its admins. Eve and her organization belong to none of them. Gone was deleted. Ada and each
    organization have a subscription.
    """
    owner.execute(
        sql.SQL("drop role if exists {0}; create role {0} nologin").format(sql.Identifier(_NOBODY)).as_string(owner)
    )
    for person, flags in _PEOPLE.items():
        _insert(owner, "clerk.users", clerk_id=f"user_{person}", **flags)
    for organization, flags in _ORGANIZATIONS.items():
        here: dict[str, object] = {"clerk_org_id": organization, **flags}
        _insert(owner, "clerk.organizations", **here)
        _insert(
            owner, "clerk.organization_invitations", clerk_invitation_id=f"inv_{organization}", role="org:a", **here
        )
        _insert(owner, "clerk.organization_domains", clerk_domain_id=f"dmn_{organization}", **here)
        _insert_billing(owner, organization, **here)
    _insert_billing(owner, "ada", clerk_user_id="user_ada")
    for name, deleted_at in {"here": None, "gone": "2026-01-01"}.items():
        _insert(owner, "clerk.permissions", clerk_permission_id=f"perm_{name}", deleted_at=deleted_at)
        _insert(owner, "clerk.roles", clerk_role_id=f"role_{name}", deleted_at=deleted_at)
        _insert(owner, "clerk.plans", clerk_plan_id=f"cplan_{name}", is_publicly_visible=True, deleted_at=deleted_at)
        _insert(owner, "clerk.waitlist_entries", clerk_waitlist_entry_id=f"wle_{name}", deleted_at=deleted_at)
    for person, flags in _PEOPLE.items():
        of_person = {"clerk_user_id": f"user_{person}", "deleted_at": flags.get("deleted_at")}
        _insert(owner, "clerk.sessions", clerk_session_id=f"sess_{person}", **of_person)
    for person, (organization, role) in _MEMBERS.items():
        _insert(
            owner,
            "clerk.organization_memberships",
            clerk_membership_id=f"mem_{person}",
            clerk_org_id=organization,
            clerk_user_id=f"user_{person}",
            role=role,
            **_ORGANIZATIONS[organization],
        )


def _insert_billing(owner: Connection, name: str, **payer: object) -> None:
    billed = {"status": "active", **payer}
    _insert(owner, "clerk.subscriptions", clerk_subscription_id=f"sub_{name}", **billed)
    _insert(owner, "clerk.subscription_items", clerk_subscription_item_id=f"item_{name}", **billed)
    _insert(owner, "clerk.payment_attempts", clerk_payment_attempt_id=f"pay_{name}", **billed)


def forget_nobody(owner: Connection) -> None:
    """Drops the role made by fill(), which belongs to the whole cluster."""
    owner.execute(sql.SQL("drop role {}").format(sql.Identifier(_NOBODY)))


def document(owner: Connection) -> dict[str, str]:
    """The tables of docs/rights.md, by heading."""
    return {heading: _table(found) for heading, found in verdicts(owner).items()}


def _table(found: Mapping[str, Mapping[str, str]]) -> str:
    """A table with a column for each identity. Objects of the owner alone share one sentence."""
    closed = [f"`{name}`" for name, of_each in found.items() if set(of_each.values()) == {NOTHING}]
    lines = [
        f"| `{name}` | {' | '.join(of_each.values())} |"
        for name, of_each in found.items()
        if set(of_each.values()) != {NOTHING}
    ]
    if lines:
        lines = [f"| | {' | '.join(IDENTITIES)} |", f"| --- |{' --- |' * len(IDENTITIES)}", *lines]
    if closed:
        lines += ["", f"Only the owner of the database: {', '.join(closed)}."]
    return "\n".join(lines).strip()


class Rights:
    """The answers of Postgres about the rights of each role. One question is about all objects of a kind."""

    def __init__(self, owner: Connection) -> None:
        self.owner = owner
        self._answers: dict[tuple[str, str, str, str], bool] = {}

    def ask(self, question: LiteralString, names: Sequence[str], *rights: str) -> None:
        """Asks about these rights of each role on each of these objects."""
        query: LiteralString = f"""
            select r, n, p, {question}(r::name, n, p)
            from unnest(%s::text[]) as r cross join unnest(%s::text[]) as n cross join unnest(%s::text[]) as p
        """  # noqa: S608 - the name of a function of Postgres
        roles = {identity.role for identity in IDENTITIES.values()}
        for *asked, answer in rows(self.owner, query, list(roles), list(names), list(rights)):
            self._answers[question, asked[0], asked[1], asked[2]] = answer

    def has(self, question: LiteralString, identity: Identity, name: str, right: str) -> bool:
        """Tells whether the identity has a right. Fails where nobody asked."""
        return self._answers[question, identity.role, name, right]

    def held(self, question: LiteralString, identity: Identity, name: str, *rights: str) -> str:
        """The rights among these that the identity has."""
        return ", ".join(right for right in rights if self.has(question, identity, name, right))


def verdicts(owner: Connection) -> dict[str, dict[str, dict[str, str]]]:
    """The verdict of each identity, by section of docs/rights.md and object."""
    # Without a search path every name is written out.
    owner.execute("set search_path = ''")
    rights = Rights(owner)
    names = {query: _names(owner, query) for query in (_SCHEMAS, _RELATIONS, _SEQUENCES, _FUNCTIONS, _TYPES)}
    rights.ask("has_schema_privilege", names[_SCHEMAS], "usage", "create")
    rights.ask("has_any_column_privilege", names[_RELATIONS], "select", "insert", "update")
    rights.ask("has_table_privilege", names[_RELATIONS], "insert", "delete", *_OTHER_RIGHTS)
    rights.ask("has_sequence_privilege", names[_SEQUENCES], *_RIGHTS_ON_SEQUENCES)
    rights.ask("has_function_privilege", names[_FUNCTIONS], "execute")
    rights.ask("has_type_privilege", names[_TYPES], "usage")
    rights.ask("pg_has_role", _ROLES, "usage", "member")

    def each(names: Sequence[str], verdict: Callable[[Rights, Identity, str], str]) -> dict[str, dict[str, str]]:
        return {name: {who: verdict(rights, identity, name) for who, identity in IDENTITIES.items()} for name in names}

    return {
        "Schemas": each(names[_SCHEMAS], _on_schema),
        "Tables and views": each(names[_RELATIONS], _on_relation),
        "Sequences": each(names[_SEQUENCES], _on_sequence),
        "Functions": each(names[_FUNCTIONS], _on_function),
        "Types": each(names[_TYPES], _on_type),
        "Roles": each(_ROLES, _on_role),
    }


_SCHEMAS: Final[LiteralString] = "select nspname::text from pg_namespace where nspname = any(%s)"
_RELATIONS: Final[LiteralString] = """
    select c.oid::regclass::text from pg_class as c
    where c.relnamespace = any(%s::regnamespace[]) and c.relkind in ('r', 'p', 'v', 'm', 'f')
"""
_SEQUENCES: Final[LiteralString] = """
    select c.oid::regclass::text from pg_class as c where c.relnamespace = any(%s::regnamespace[]) and c.relkind = 'S'
"""
_FUNCTIONS: Final[LiteralString] = """
    select p.oid::regprocedure::text from pg_proc as p where p.pronamespace = any(%s::regnamespace[])
"""
# Neither the arrays nor the rows of tables and views, which follow those.
_TYPES: Final[LiteralString] = """
    select t.oid::regtype::text from pg_type as t left join pg_class as c on c.oid = t.typrelid
    where t.typnamespace = any(%s::regnamespace[]) and t.typelem = 0 and coalesce(c.relkind, 'c') = 'c'
"""


def _names(owner: Connection, objects: LiteralString) -> list[str]:
    return sorted(name for (name,) in rows(owner, objects, list(SCHEMAS)) if not is_made_for_the_app(name))


def _on_schema(rights: Rights, identity: Identity, schema: str) -> str:
    return rights.held("has_schema_privilege", identity, schema, "usage", "create") or NOTHING


def _on_sequence(rights: Rights, identity: Identity, sequence: str) -> str:
    return rights.held("has_sequence_privilege", identity, sequence, *_RIGHTS_ON_SEQUENCES) or NOTHING


def _on_function(rights: Rights, identity: Identity, function: str) -> str:
    may_execute = rights.has("has_function_privilege", identity, function, "execute")
    return _reached(rights, identity, function, "call") if may_execute else NOTHING


def _on_type(rights: Rights, identity: Identity, name: str) -> str:
    may_use = rights.has("has_type_privilege", identity, name, "usage")
    return "use" if may_use and _reached(rights, identity, name, "use") == "use" else NOTHING


def _on_role(rights: Rights, identity: Identity, role: str) -> str:
    if role == identity.role:
        return NOTHING
    if rights.has("pg_has_role", identity, role, "usage"):
        return "inherit"
    return "become" if rights.has("pg_has_role", identity, role, "member") else NOTHING


def _reached(rights: Rights, identity: Identity, name: str, verb: str) -> str:
    """The verb where the schema is open; elsewhere only a policy, a view or a default can lead to the object."""
    open_to_all = rights.has("has_schema_privilege", identity, name.partition(".")[0], "usage")
    return verb if open_to_all else "in policies"


def _on_relation(rights: Rights, identity: Identity, relation: str) -> str:
    tried = [
        *_read(rights, identity, relation),
        *_inserted(rights, identity, relation),
        *_written(rights, identity, relation, "update"),
        *_written(rights, identity, relation, "delete"),
        rights.held("has_table_privilege", identity, relation, *_OTHER_RIGHTS),
    ]
    return ", ".join(filter(None, tried)) or NOTHING


def _read(rights: Rights, identity: Identity, relation: str) -> Iterator[str]:
    owner = rights.owner
    if not rights.has("has_any_column_privilege", identity, relation, "select"):
        return
    if _reached(rights, identity, relation, "read") != "read":
        yield "read in policies"
        return
    key = _key(owner, relation)
    query = sql.SQL("select {}::text from {}").format(sql.Identifier(key), _name(relation))
    try:
        with _undone(owner, identity):
            found = {value for (value,) in owner.execute(query)}
    except InsufficientPrivilege:
        yield "read some columns"
        return
    yield f"read {_extent(owner, identity, relation, found)}"


def _inserted(rights: Rights, identity: Identity, relation: str) -> Iterator[str]:
    owner = rights.owner
    if not rights.has("has_any_column_privilege", identity, relation, "insert"):
        return
    key = _key(owner, relation)
    query = sql.SQL("insert into {} ({}) values (%s)").format(_name(relation), sql.Identifier(key))
    allowed = []
    for label, value in (("its own", f"user_{identity.person}"), ("any", "user_new")):
        try:
            with _undone(owner, identity):
                owner.execute(query, [value])
        except InsufficientPrivilege:
            continue
        except psycopg.IntegrityError:
            pass  # Row-level security is asked before the constraints.
        allowed.append(label)
    if allowed:
        with_columns = "" if rights.has("has_table_privilege", identity, relation, "insert") else " key"
        yield f"insert {allowed[-1]}{with_columns}"


def _written(rights: Rights, identity: Identity, relation: str, verb: Literal["update", "delete"]) -> Iterator[str]:
    owner = rights.owner
    question: LiteralString = "has_any_column_privilege" if verb == "update" else "has_table_privilege"
    if not rights.has(question, identity, relation, verb):
        return
    key = sql.Identifier(_key(owner, relation))
    change = sql.SQL("update {} set {} = {}") if verb == "update" else sql.SQL("delete from {}")
    statement = change.format(_name(relation), key, key) + sql.SQL(" returning {}::text").format(key)
    with _undone(owner, identity):
        found = {value for (value,) in owner.execute(statement)}
    yield f"{verb} {_extent(owner, identity, relation, found)}"


def _extent(owner: Connection, identity: Identity, relation: str, found: set[Any]) -> str:
    """The reach of a statement: whose rows, seen from the identity."""
    key = _key(owner, relation)
    everything = {
        row[key]: row for (row,) in owner.execute(sql.SQL("select to_jsonb(t) from {} as t").format(_name(relation)))
    }
    shown = {key for key, row in everything.items() if row.get("deleted_at") is None}
    me = f"user_{identity.person}"
    own = {key for key in shown if me in {key, everything[key].get("clerk_user_id")}}
    of_labs = {key for key in shown if everything[key].get("clerk_org_id") == _LABS}
    extents = {"nothing": set(), "own": own, "organization's": of_labs, "everybody's": shown, "all": set(everything)}
    for name, extent in extents.items():
        if found == extent:
            return name
    return f"an unknown extent: {sorted(map(str, found))}"


def _key(owner: Connection, relation: str) -> str:
    """The first column: the key of all tables here."""
    query: LiteralString = "select attname::text from pg_attribute where attrelid = %s::regclass and attnum = 1"
    [(name,)] = rows(owner, query, relation)
    return str(name)


@contextmanager
def _undone(owner: Connection, identity: Identity) -> Iterator[None]:
    """Acts as the identity, and takes everything back."""
    with owner.transaction(force_rollback=True), acting_as(owner, identity.role, identity.claims):
        yield


def _name(relation: str) -> sql.Identifier:
    return sql.Identifier(*relation.replace('"', "").split("."))


def _insert(owner: Connection, table: LiteralString, **values: object) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, values))
    statement = sql.SQL("insert into {} ({}) values ({})").format(
        _name(table), columns, sql.SQL(", ").join(sql.Placeholder() * len(values))
    )
    owner.execute(statement, list(values.values()))
