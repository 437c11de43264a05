"""No code of a caller runs as the owner of our functions, whatever objects the caller makes, in whatever schema."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
import pytest
from psycopg import sql

from clerk_supabase.model.changes import Delivery, changes_of_object
from clerk_supabase.model.facts import Facts
from clerk_supabase.model.found_kinds import FACTS, READ_KINDS
from clerk_supabase.postgres.batch import element_of, provenance
from clerk_supabase.version import MAJOR
from clerk_supabase_cli.local.postgres import SUPERUSER
from clerk_supabase_cli.standin import samples
from tests.kit.databases import SESSION, WORKER, Connection, Database, value
from tests.kit.examples import example
from tests.kit.histories import CREATED_AT
from tests.kit.hostile_objects import SHAPES, Attack, Shape, plant
from tests.kit.kinds import OURS

# A role without any grant.
STRANGER: Final = "clerk_sync_test_stranger"
ROLES: Final = (STRANGER, "anon", "authenticated", "service_role", WORKER, SESSION)
NOW: Final = int(time.time() * 1000)

# An admin of an organization, and a new user.
ADMIN: Final = {
    "sub": "user_1",
    "v": 2,
    "fea": "o:docs",
    "o": {"id": "org_1", "rol": "admin", "per": "read", "fpm": "1"},
}
NEWCOMER: Final = {"sub": "user_4", "v": 2}

Json = dict[str, Any]


def element(kind: Any, sent: Json, svix_id: str) -> Json:
    """An element of a batch: an object of Clerk's that a webhook brought."""
    change = changes_of_object(kind, json.dumps(sent).encode(), NOW, NOW).main
    return element_of(change) | provenance(Delivery(svix_id, f"{kind}.updated", NOW))


def of_every_kind(suffix: str, updated_at: int = NOW - 5_000) -> list[Json]:
    """An object of each kind, which belong together."""
    moments: Any = {"created_at": CREATED_AT, "updated_at": updated_at}
    user, org = samples.user(f"user_{suffix}", **moments), samples.organization(f"org_{suffix}", **moments)
    sent: list[tuple[str, Json]] = [
        ("user", user),
        ("organization", org),
        ("membership", samples.membership(f"orgmem_{suffix}", org, user, **moments)),
        ("invitation", samples.invitation(f"orginv_{suffix}", org["id"], **moments)),
        ("domain", samples.domain(f"orgdmn_{suffix}", org["id"], **moments)),
    ]
    parents: Any = {"user_id": user["id"], "org_id": org["id"]}
    others = (kind for kind in OURS if kind not in dict(sent))
    sent += [(kind, example(kind, f"{kind}_{suffix}", **parents, **moments)) for kind in others]
    return [element(kind, each, f"msg_{kind}_{suffix}_{updated_at}") for kind, each in sent]


def private_metadata(user_id: str) -> Json:
    content = {"entity_id": user_id, "private_metadata": {"plan": "pro"}}
    return {"kind": "private_metadata", "id": user_id, "source_updated_at": 1, "observed_at": NOW, "content": content}


def deleted(kind: str, object_id: str) -> Json:
    return {"kind": kind, "id": object_id, "deleted_at": NOW - 1_000, "cause": "delivery"}


# The arguments of each function, made of the run and the lease of the test.
Arguments = Callable[[Json], list[object]]
PARKED: Final = {
    "svix_id": "msg_parked",
    "event_type": "user.updated",
    "entity_id": "user_1",
    "user_id": "user_1",
    "body": "e30=",
    "reason_class": "refused",
    "reason": "it was refused",
    "attempts": 1,
    "received_at": NOW,
}
PAGE: Final = [*of_every_kind("1", NOW), *of_every_kind("unknown")]
FIRST_NAME: Final = {"user": ["first_name"]}
DAYS: Final = {
    "hold_back_days": 0,
    "purge_by": "delete",
    "deliveries_days": 1,
    "audit_days": 1,
    "runs_days": 1,
    "sessions_days": 1,
}
TALLY: Final = {"listed": 1}


def of_run(**more: object) -> Arguments:
    return lambda run: [run | more]


CALLS: Final[dict[str, list[Arguments]]] = {
    "clerk_sync.apply(jsonb)": [
        lambda _: [[*of_every_kind("1"), private_metadata("user_1"), *of_every_kind("2")]],
        lambda _: [of_every_kind("1", NOW - 1_000)],
        lambda _: [[deleted("user", "user_2"), deleted("organization", "org_2")]],
        # A resync deletes a user, and Clerk's API shows them again.
        lambda _: [[deleted("user", "user_1") | {"cause": "reconcile", "svix_id": "reconcile-0-user_1"}]],
        lambda _: [[each | {"cause": "reconcile"} for each in of_every_kind("1")]],
    ],
    "clerk_sync.apply_from(jsonb,jsonb,boolean)": [
        lambda _: [
            [each | {"dropped": ["last_name"]} for each in of_every_kind("1")],
            {"instances": {"ins_1": [0], "ins_2": [1]}, "runs": {"1": [2]}},
            "true",
        ],
    ],
    "clerk_sync.record_dropped(jsonb)": [
        lambda _: [[{"kind": "user", "id": "user_1", "svix_id": "msg_1", "dropped": ["last_name"]}]]
    ],
    "clerk_sync.park(jsonb)": [lambda _: [[PARKED]]],
    "clerk_sync.takes_writes()": [lambda _: []],
    "clerk_sync.mirror_schema()": [lambda _: []],
    "clerk_sync.version()": [lambda _: []],
    "clerk_sync.for_major(anyelement,integer)": [lambda _: [{}, str(MAJOR)]],
    "clerk_sync.retry_unfed(jsonb)": [of_run(limit=10, seconds=1)],
    "clerk_sync.compare_feed(jsonb)": [of_run(limit=10)],
    "clerk_sync.record_canary(jsonb)": [of_run(svix_id="msg_canary", occurred_at=NOW, received_at=NOW)],
    "clerk_sync.renew_lease(jsonb)": [of_run(lease_seconds=60)],
    "clerk_sync.plan_run(jsonb)": [
        of_run(expected={"user": 3}, windows=[{"number": 1, "kind": "user", "start": 0, "end": NOW}]),
    ],
    "clerk_sync.windows_of_run(jsonb)": [of_run()],
    "clerk_sync.cut_users(jsonb)": [of_run(every=1, before=NOW)],
    "clerk_sync.count_rows(jsonb)": [of_run(before=NOW)],
    "clerk_sync.compare(jsonb)": [
        of_run(number=1, kind="user", tally=TALLY, since=0, until=NOW, page=PAGE, ids="", versions=""),
        of_run(number=2, kind="membership", tally=TALLY, page=[], ids="orgmem_9", versions="1", observed_at=NOW),
        of_run(number=3, kind="user", tally=TALLY, arrays={"user": [["user_1", 1, NOW, "Eve"]]}, columns=FIRST_NAME),
    ],
    "clerk_sync.fill(jsonb)": [of_run(page=[*of_every_kind("3")[:2], private_metadata("user_3")])],
    "clerk_sync.rank_rows(jsonb)": [of_run(kind="membership", moments=[0, NOW])],
    "clerk_sync.items_without_subscription(jsonb)": [of_run(ids=["subscription_item_1", "unknown"])],
    "clerk_sync.find_unseen(jsonb)": [
        of_run(kind="membership"),
        of_run(kind="user"),
        of_run(kind="invitation", since=0, until=None, ids=["orginv_9"]),
    ],
    "clerk_sync.continue_deletes(jsonb)": [of_run(kind="organization", id="organization_1")],
    "clerk_sync.without_deferral(jsonb)": [lambda _: [{}]],
    "clerk_sync.list_unfinished(jsonb)": [of_run()],
    "clerk_sync.next_slice(jsonb)": [of_run(kind="membership")],
    "clerk_sync.visit_slice(jsonb)": [
        of_run(kind="membership", start=5, end=NOW, is_whole=True, is_switched_off=False),
    ],
    "clerk_sync.settle_sweeps(jsonb)": [of_run()],
    "clerk_sync.expire_invitations(jsonb)": [of_run()],
    "clerk_sync.prepare_deletes(jsonb)": [of_run(kinds=["user", "membership"])],
    "clerk_sync.delete_candidates(jsonb)": [of_run(kind="membership", after="", limit=10)],
    "clerk_sync.weigh_deletes(jsonb)": [of_run()],
    "clerk_sync.settle_findings(jsonb)": [
        of_run(kind="user", present=["user_1"], gone={"user_9": NOW}, sent=["user_1"], refused=["user_9"]),
        of_run(kind="user", present=[], gone={}, sent=[], refused=[], held_up=["user_1"]),
    ],
    "clerk_sync.finish_window(jsonb)": [of_run(number=1, tally=TALLY)],
    "clerk_sync.check_rows(jsonb)": [of_run(kind=kind, limit=10, only_look=False) for kind in READ_KINDS],
    "clerk_sync.retry_held_up(jsonb)": [of_run(limit=10)],
    "clerk_sync.held_repairs(jsonb)": [of_run(kind="membership", after="", limit=10)],
    "clerk_sync.emptied_columns(jsonb)": [of_run()],
    "clerk_sync.altered_columns(jsonb)": [of_run()],
    "clerk_sync.keep_house(jsonb)": [lambda _: [DAYS]],
    # The last, as it ends the run.
    "clerk_sync.end_run(jsonb)": [
        of_run(state="complete", calls=1, newest_change=NOW, newest_delivery=NOW, is_silent=False)
    ],
    "clerk.requesting_claims()": [lambda _: []],
    "clerk.requesting_user_id()": [lambda _: []],
    "clerk.requesting_organization_id()": [lambda _: []],
    "clerk.requesting_organization_role()": [lambda _: []],
    "clerk.requesting_permissions()": [lambda _: []],
    "clerk.requesting_user_has_permission(text)": [lambda _: ["org:docs:read"]],
    "clerk.requesting_plan()": [lambda _: []],
    "clerk.requesting_user_has_plan(text)": [lambda _: ["org:team"]],
    "clerk.requesting_user_has_feature(text)": [lambda _: ["org:docs"]],
    "clerk.requesting_user_subscribes_to(text)": [lambda _: ["org:team"]],
    "clerk.requesting_user_subscribes_to_feature(text)": [lambda _: ["org:docs"]],
}
BEGIN_RUN: Final = "clerk_sync.begin_run(jsonb)"
RUN: Final = {
    "instance_id": "ins_1",
    "mode": "full",
    "dry_run": False,
    "versions_only": False,
    "allow_deletes": None,
    "as_of": NOW,
    "lease_seconds": 60,
}


def _writes_to(facts: Facts) -> Iterator[str]:
    """An insert of a row with its first parent, an update and a delete."""
    table = facts.relation("clerk")
    parent = ((column, f"{kind}_1") for column, kind in itertools.islice(facts.parents.items(), 1))
    # Objects of Billing belong to a user or an organization, and need a status.
    status = {"status": "active"} if {*facts.parents.values()} == {"user", "organization"} else {}
    named = {facts.key: "x_4", **dict(parent), **status}
    yield f"insert into {table} ({', '.join(named)}) values ({', '.join(map(repr, named.values()))})"  # noqa: S608 - names of FACTS
    yield f"update {table} set created_at = null"  # noqa: S608 - as above
    yield f"delete from {table}"  # noqa: S608 - as above


# Raw SQL by which a role fires triggers, by the table.
WRITES: Final[dict[str, list[str]]] = {
    "clerk.users": [
        "insert into clerk.users (clerk_id) values ('user_4')",
        "insert into clerk.users (clerk_id) values ('user_4') on conflict (clerk_id) do nothing",
        "update clerk.users set locale = 'en'",
        "delete from clerk.users",
    ],
    "clerk.organizations": [
        "insert into clerk.organizations (clerk_org_id) values ('org_4')",
        "update clerk.organizations set name = 'new'",
        "delete from clerk.organizations",
    ],
    "clerk.organization_memberships": [
        "insert into clerk.organization_memberships values ('orgmem_4', 'org_1', 'user_1', 'org:admin')",
        "update clerk.organization_memberships set role = 'org:owner'",
        "delete from clerk.organization_memberships",
    ],
    "clerk.organization_invitations": [
        "insert into clerk.organization_invitations values ('orginv_4', 'org_1', 'zoe@example.com', 'org:admin')",
        "update clerk.organization_invitations set role = 'org:owner'",
        "delete from clerk.organization_invitations",
    ],
    "clerk.organization_domains": [
        "insert into clerk.organization_domains values ('orgdmn_4', 'org_1', 'example.com')",
        "update clerk.organization_domains set name = 'example.org'",
        "delete from clerk.organization_domains",
    ],
}
for _facts in map(FACTS.__getitem__, OURS):
    WRITES.setdefault(_facts.relation("clerk"), list(_writes_to(_facts)))

# A relationship for PostgREST takes a row of a table.
_OF_A_ROW: Final = re.compile(r"(clerk\.\w+)\((clerk\.\w+)\)")
_CALLABLE: LiteralString = """
    select p.oid::regprocedure::text from pg_proc as p
    where p.pronamespace in ('clerk_sync'::regnamespace, 'clerk'::regnamespace)
    and has_schema_privilege(%(role)s, p.pronamespace, 'usage') and has_function_privilege(%(role)s, p.oid, 'execute')
"""
# The tables with triggers, with each statement that fires one and that the role may run.
_FIRED: LiteralString = """
    select distinct c.oid::regclass::text, e.event
    from pg_trigger as t inner join pg_class as c on c.oid = t.tgrelid
    inner join (values (4, 'insert'), (8, 'delete'), (16, 'update'), (32, 'truncate')) as e (bit, event)
    on t.tgtype & e.bit > 0
    where c.relnamespace in ('clerk_sync'::regnamespace, 'clerk'::regnamespace)
    and has_schema_privilege(%(role)s, c.relnamespace, 'usage')
    and (
        has_table_privilege(%(role)s, c.oid, e.event)
        or e.event in ('insert', 'update') and has_any_column_privilege(%(role)s, c.oid, e.event)
    )
    order by 1, 2
"""
_READABLE: LiteralString = """
    select c.oid::regclass::text from pg_class as c
    where c.relkind in ('r', 'v') and c.relnamespace in ('clerk_sync'::regnamespace, 'clerk'::regnamespace)
    and has_schema_privilege(%(role)s, c.relnamespace, 'usage') and has_any_column_privilege(%(role)s, c.oid, 'select')
"""


@contextmanager
def attacking(database: Database, role: str, shape: Shape) -> Iterator[tuple[Connection, Attack]]:
    """The connection of the owner, whose search path is the catalogue alone, and the attacker's session."""
    with database.connect() as owner, psycopg.connect(database.url, autocommit=True) as connection:
        if not value(owner, "select exists (select from pg_roles where rolname = %s)", STRANGER):
            owner.execute(sql.SQL("create role {}").format(sql.Identifier(STRANGER)))
        owner.execute("select clerk_sync.apply(%s::jsonb)", [json.dumps(of_every_kind("1", NOW - 9_000))])
        owner.execute("set search_path = ''")
        yield owner, plant(owner, connection, role, shape)


def attack_everything(owner: Connection, attack: Attack, role: str) -> None:
    """Calls every function, fires every trigger and reads every table for which the role has the right."""
    sign_in(attack, ADMIN)
    callable_by_role = {name for (name,) in owner.execute(_CALLABLE, {"role": role})}
    run: Json = {}
    if BEGIN_RUN in callable_by_role:
        begun = attack.call("select clerk_sync.begin_run(%s::pg_catalog.jsonb)", json.dumps(RUN))
        run = {"run": begun["run"]["run_id"], "lease": begun["run"]["lease"]} if begun else {}
        callable_by_role.remove(BEGIN_RUN)
    relationships = {each: of_a_row for each in callable_by_role if (of_a_row := _OF_A_ROW.fullmatch(each))}
    for function, table in (of_a_row.groups() for of_a_row in relationships.values()):
        attack.call(f"select {function}(r.*) from {table} as r")  # noqa: S608 - names of the catalogue
    callable_by_role -= relationships.keys()
    attack.errors += [f"nobody knows how to call {each}" for each in callable_by_role - CALLS.keys()]
    for function in [each for each in CALLS if each in callable_by_role]:
        for arguments in CALLS[function]:
            call(attack, function, arguments(run))
    for (table,) in owner.execute(_READABLE, {"role": role}):
        attack.call(f"table {table}")
    sign_in(attack, NEWCOMER)
    for table, event in owner.execute(_FIRED, {"role": role}):
        statements = [each for each in WRITES.get(table, []) if each.startswith(event)]
        if not statements:
            attack.errors.append(f"nobody knows how to {event} {table}")
        for statement in statements:
            attack.call(statement)


def sign_in(attack: Attack, claims: Json) -> None:
    attack.call("select pg_catalog.set_config('request.jwt.claims', %s, false)", json.dumps(claims))


def call(attack: Attack, function: str, arguments: list[object]) -> None:
    name, _, _ = function.partition("(")
    places = ", ".join("%s" if isinstance(each, str) else "%s::pg_catalog.jsonb" for each in arguments)
    given = [each if isinstance(each, str) else json.dumps(each) for each in arguments]
    attack.call(f"select {name}({places})", *given)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("role", ROLES)
def test_no_code_of_a_caller_runs_as_anybody_else(role: str, shape: Shape, database: Database) -> None:
    with attacking(database, role, shape) as (owner, attack):
        attack_everything(owner, attack, role)
        assert attack.hits == []
        assert attack.errors == []


def test_tables_of_the_workers_own_do_not_get_in_the_way_of_ours(database: Database) -> None:
    with attacking(database, WORKER, "domains and tables") as (owner, attack):
        call(attack, "clerk_sync.apply", [of_every_kind("5")])
        assert attack.errors == []
        found = (
            "select count(*) from clerk.organization_memberships where clerk_user_id OPERATOR(pg_catalog.=) 'user_5'"
        )
        assert value(owner, found) == 1


# The test of every function and trigger would have failed


@pytest.mark.each_value("role", "postgres_version")
@pytest.mark.parametrize("role", ["authenticated", "service_role", WORKER, SESSION])
def test_with_an_empty_search_path_the_same_attack_makes_a_role_the_owner(role: str, database: Database) -> None:
    with database.connect() as admin:
        admin.execute(
            """
            do $$ declare ours regprocedure; begin
                for ours in select oid from pg_proc where pronamespace = 'clerk_sync'::regnamespace loop
                    execute format('alter function %s set search_path = %L', ours, '');
                end loop;
            end $$
            """
        )
    with attacking(database, role, "domains and tables") as (owner, attack):
        attack_everything(owner, attack, role)
        assert SUPERUSER in attack.hits


@dataclass(frozen=True)
class Hole:
    """A function that an attacker's objects of one kind get into."""

    kind: str
    shape: Shape
    search_path: str
    body: str


HOLES: Final = (
    Hole("type", "domains and tables", "set search_path = ''", "declare x jsonb; begin x := '{}'; return x; end"),
    Hole("cast", "casts and views", "set search_path = ''", "begin perform given::text; return null; end"),
    Hole("table", "domains and tables", "set search_path = ''", "begin delete from entities; return null; end"),
    Hole("view", "casts and views", "set search_path = ''", "begin perform from entities; return null; end"),
    Hole("function", "casts and views", "", "begin perform jsonb_typeof(given); return null; end"),
    Hole("operator", "casts and views", "", "begin perform given -> 'x'; return null; end"),
)


@pytest.mark.each_value("hole", "postgres_version")
@pytest.mark.parametrize("hole", HOLES, ids=lambda hole: hole.kind)
def test_each_kind_of_object_gets_into_a_function_that_is_open_to_it(hole: Hole, database: Database) -> None:
    statement = f"""
        create function clerk_sync.open(given pg_catalog.jsonb) returns pg_catalog.jsonb
        language plpgsql security definer {hole.search_path} as $$ {hole.body} $$;
        grant execute on function clerk_sync.open(pg_catalog.jsonb) to {WORKER}
    """
    with database.connect() as admin:
        admin.execute(statement)
    with attacking(database, WORKER, hole.shape) as (_, attack):
        call(attack, "clerk_sync.open", [{}])
        assert SUPERUSER in attack.hits


NEW_FUNCTION: LiteralString = """
    create function clerk_sync.new(x int) returns int language sql return x;
    grant execute on function clerk_sync.new(int) to clerk_sync_worker
"""
NEW_TRIGGER: LiteralString = """
    create table clerk_sync.noted (id int);
    grant insert on clerk_sync.noted to clerk_sync_worker;
    create trigger new before insert on clerk_sync.noted execute function clerk_sync.refuse_new_key()
"""


@pytest.mark.each_value("planted", "said", "postgres_version")
@pytest.mark.parametrize(
    ("planted", "said"),
    [(NEW_FUNCTION, "clerk_sync.new"), (NEW_TRIGGER, "insert clerk_sync.noted")],
    ids=["function", "trigger"],
)
def test_a_function_or_trigger_that_the_attack_cannot_call_is_reported(
    planted: LiteralString, said: str, database: Database
) -> None:
    with database.connect() as admin:
        admin.execute(planted)
    with attacking(database, WORKER, "domains and tables") as (owner, attack):
        attack_everything(owner, attack, WORKER)
        assert [error for error in attack.errors if said in error]


def test_a_trigger_of_a_role_of_the_api_does_not_get_onto_a_table(database: Database) -> None:
    with attacking(database, "service_role", "domains and tables") as (owner, attack):
        readable = owner.execute(_READABLE, {"role": "service_role"}).fetchall()
        for (table,) in readable:
            attack.call(f"create trigger spy before insert on {table} execute function pg_temp.spy_trigger()")
            attack.call(f"truncate {table} cascade")
        # All tables of kinds, and users_public.
        assert len(attack.errors) == 2 * (len(OURS) + 1)
        assert all("InsufficientPrivilege" in error for error in attack.errors)
