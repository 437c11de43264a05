"""Values of clients keep no decision of others out: by webhook, repair, back-fill, quick run, resync or session."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from io import StringIO
from itertools import count
from typing import Final

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from clerk_supabase.credentials import Fixed
from clerk_supabase.model.clerk_object import Lenient, Loss
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS, model_of
from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.corrections.repairs import DirectRepairs
from clerk_supabase.reconcile.run import Reconcile
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase.telemetry import metrics
from clerk_supabase_cli.operate.monitor.explain import timeline
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.access import objects
from clerk_supabase_cli.standin.samples import Json
from tests.kit.aws import Account
from tests.kit.databases import Connection, Database, Databases, outcomes, rows, value
from tests.kit.histories import CREATED_AT
from tests.kit.hostile import LONG, TEXTS, VALUES, anything, lists, metadata, raw
from tests.kit.kinds import OURS
from tests.kit.pipeline import Pipeline
from tests.kit.reconciling import Queued, Rig, rig_with
from tests.kit.sessions import App

_numbers = count(1)
TIMES = {"created_at": CREATED_AT, "updated_at": CREATED_AT + 1}
SOON = CREATED_AT + 60_000

# The writer of each field. A dot: inside another object.

BY_CLIENTS: Final[Mapping[Kind, Mapping[str, st.SearchStrategy[object]]]] = {
    "user": {
        **dict.fromkeys(("username", "first_name", "last_name", "image_url", "locale"), anything),
        **dict.fromkeys(("has_image", "password_enabled", "two_factor_enabled", "legal_accepted_at"), anything),
        **dict.fromkeys((f"primary_{name}_id" for name in ("email_address", "phone_number", "web3_wallet")), anything),
        "unsafe_metadata": anything | metadata(theme="dark"),
        "email_addresses": lists('{"id":"idn_1","email_address":HERE,"verification":{"status":"verified"}}'),
        "phone_numbers": lists('{"id":"idn_2","phone_number":"+15550100","verification":HERE}'),
        "web3_wallets": lists('{"id":HERE,"web3_wallet":"0x0"}'),
        "external_accounts": lists('{"id":"eac_1","provider":"oauth_google","username":HERE,"label":HERE}'),
        "enterprise_accounts": lists('{"id":HERE,"active":true,"email_address":HERE,"verification":null}'),
        "saml_accounts": lists('{"id":"samlacc_1","provider":HERE,"provider_user_id":HERE}'),
    },
    "organization": dict.fromkeys(("name", "slug", "image_url", "has_image"), anything),
    "membership": {
        "role_name": anything,
        **dict.fromkeys((f"organization.{name}" for name in ("name", "slug", "image_url", "has_image")), anything),
        **dict.fromkeys(
            (f"public_user_data.{name}" for name in ("username", "first_name", "last_name", "image_url", "has_image")),
            anything,
        ),
    },
    "invitation": dict.fromkeys(("email_address", "role_name"), anything),
    "domain": dict.fromkeys(("name", "affiliation_email_address"), anything),
    # The developer writes permissions and roles.
    "permission": {},
    "role": {},
    "waitlist_entry": {"email_address": anything},
    "session": {"latest_activity": anything},
    # The developer writes plans, and Clerk the rest.
    **{kind: {} for kind in ("plan", "subscription", "subscription_item", "payment_attempt")},
}
HOSTILE: Final = [kind for kind, fields in BY_CLIENTS.items() if fields]
BY_OTHERS_WITH_A_LOSS: Final[Mapping[Kind, set[str]]] = {
    "user": {"public_metadata"},
    "organization": {"public_metadata"},
    "membership": {"public_metadata", "organization.public_metadata"},
    "invitation": {"public_metadata"},
    **{kind: set() for kind in ("domain", "permission", "role", "waitlist_entry", "session")},
    **{kind: set() for kind in ("plan", "subscription", "subscription_item", "payment_attempt")},
}
DECIDED: Final[Mapping[Kind, Json]] = {
    "user": {"banned": True, "locked": True, "external_id": "42"},
    "organization": {"max_allowed_memberships": 7, "admin_delete_enabled": False},
    "membership": {"role": "org:demoted", "permissions": ["org:x:y"]},
    "invitation": {"role": "org:demoted", "status": "revoked"},
    "domain": {"enrollment_mode": "automatic_suggestion"},
    "waitlist_entry": {"status": "rejected"},
    "session": {"status": "revoked"},
}


def fields_with(model: type[Lenient], loss: Loss, inside: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Lenient):
            yield from fields_with(field.annotation, loss, f"{name}.")
        elif loss in field.metadata:
            yield inside + name


@pytest.mark.parametrize("kind", OURS)
def test_these_fields_are_written_by_clients_and_no_other_is_ever_emptied(kind: Kind) -> None:
    assert set(fields_with(model_of(kind), Loss.whole)) == set(BY_CLIENTS[kind])
    assert set(fields_with(model_of(kind), Loss.members)) == BY_OTHERS_WITH_A_LOSS[kind]


def new(kind: Kind) -> Json:
    """A good object about which nothing else is told."""
    number = next(_numbers)
    organization = samples.organization(f"org_h{number}", **TIMES)
    member = samples.user(f"user_h{number}", **TIMES)
    match kind:
        case "user":
            return member
        case "organization":
            return organization
        case "membership":
            return samples.membership(f"orgmem_h{number}", organization, member, **TIMES)
        case "invitation":
            return samples.invitation(f"orginv_h{number}", organization["id"], **TIMES)
        case "waitlist_entry":
            return objects.waitlist_entry(f"wle_h{number}", "carol@example.test", **TIMES)
        case "session":
            return objects.session(f"sess_h{number}", member, **TIMES)
        case _:
            return samples.domain(f"orgdmn_h{number}", organization["id"], **TIMES)


def with_fields(data: Json, fields: Mapping[str, object]) -> Json:
    """Replaces fields of an object, some of them inside another object."""
    for name, field in fields.items():
        outer, dot, inner = name.rpartition(".")
        data = data | ({outer: data[outer] | {inner: field}} if dot else {name: field})
    return data


@st.composite
def hostile(draw: st.DrawFn, kind: Kind) -> Json:
    """Fields of an object: decisions of others, beside values of clients."""
    fields = dict(DECIDED[kind])
    for name in draw(st.lists(st.sampled_from(sorted(BY_CLIENTS[kind])), min_size=1, max_size=4, unique=True)):
        fields[name] = draw(BY_CLIENTS[kind][name])
    for name in ("public_metadata", "private_metadata"):
        if BY_OTHERS_WITH_A_LOSS[kind]:
            fields[name] = draw(metadata(role="member", n=1.5) | st.just({"role": "member", "n": 1.5}))
    return fields


def row(admin: Connection, kind: Kind, object_id: str) -> Json:
    facts = FACTS[kind]
    query = sql.SQL("select to_jsonb(t) from {} as t where {} = %s")
    table = sql.Identifier(*facts.relation("clerk").split("."))
    [(found,)] = admin.execute(query.format(table, sql.Identifier(facts.key)), [object_id])
    return dict(found)


def has_arrived(admin: Connection, kind: Kind, object_id: str) -> None:
    """Asserts that the decisions of others are stored, and nothing is parked."""
    found = row(admin, kind, object_id)
    assert {name: found[name] for name in DECIDED[kind]} == DECIDED[kind]
    if BY_OTHERS_WITH_A_LOSS[kind]:
        assert found["public_metadata"] == {"role": "member", "n": 1.5}
    assert rows(admin, "select * from clerk_sync.parked_events") == []


def body(kind: Kind, data: Json, at: int) -> str:
    return msgspec.json.encode(samples.event(FACTS[kind].whole, data, timestamp=at)).decode()


def counted(name: str) -> float:
    return float(sum(metrics.metric_set.get(name, {}).get("Value", [])))


def repeated(examples: int) -> settings:
    return settings(
        max_examples=examples,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


# By webhook


@pytest.fixture(scope="module")
def store(shared_database: Database) -> Iterator[Store]:
    with closing(Store(Fixed(shared_database.worker_url))) as store:
        yield store


@pytest.fixture(scope="module")
def admin(shared_database: Database) -> Iterator[Connection]:
    with shared_database.connect() as connection:
        yield connection


def deliver(pipeline: Pipeline, *bodies: str, svix_id: str = "") -> str:
    """Sends the events as one batch; returns the id of the last delivery."""
    svix_ids = [f"msg_h{next(_numbers)}" for _ in bodies[1:]] + [svix_id or f"msg_h{next(_numbers)}"]
    for text, each in zip(bodies, svix_ids, strict=True):
        assert pipeline.post(text, each).status == 202
    assert pipeline.drain() == []
    return svix_ids[-1]


@pytest.mark.parametrize("kind", HOSTILE)
@repeated(8)
@given(data=st.data())
def test_decisions_of_others_arrive_by_webhook_whatever_clients_wrote(
    kind: Kind, data: st.DataObject, pipeline: Pipeline, admin: Connection
) -> None:
    before = new(kind)
    after = with_fields(before, data.draw(hostile(kind))) | {"updated_at": CREATED_AT + 2}
    deliver(pipeline, body(kind, before, CREATED_AT + 1))
    svix_id = deliver(pipeline, body(kind, new(kind), CREATED_AT + 1), body(kind, after, CREATED_AT + 2))
    has_arrived(admin, kind, before["id"])

    kept = row(admin, kind, before["id"])
    assert deliver(pipeline, body(kind, after, CREATED_AT + 2), svix_id=svix_id) == svix_id
    assert counted("Duplicate") >= 1
    again = deliver(pipeline, body(kind, after, CREATED_AT + 2))
    assert outcomes(admin)[svix_id] == "updated"
    assert outcomes(admin)[again] == "unchanged"
    assert row(admin, kind, before["id"]) == kept


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_value_of_a_user_prevents_their_ban_or_demotion(
    text: str, pipeline: Pipeline, admin: Connection, shared_database: Database
) -> None:
    member = new("user") | {"public_metadata": {"role": "admin"}, "unsafe_metadata": {"theme": "dark"}}
    deliver(pipeline, body("user", member, CREATED_AT + 1))
    written = {"unsafe_metadata": raw(f'{{"theme":"light","x":{text}}}'), "username": raw(text), "first_name": "Eve"}
    decided = {"banned": True, "public_metadata": {}, "updated_at": CREATED_AT + 2}
    svix_id = deliver(pipeline, body("user", member | written | decided, CREATED_AT + 2))

    found = row(admin, "user", member["id"])
    assert (found["banned"], found["public_metadata"], found["username"]) == (True, {}, None)
    assert found["first_name"] == "Eve"
    if text in VALUES.values():
        assert found["unsafe_metadata"] == {"theme": "light"}
    left_out = "unsafe_metadata, username" if text in VALUES.values() else "username"
    _, moments = timeline(shared_database.url, member["id"])
    assert [(each.details, each.svix_id) for each in moments if each.what == "left out"] == [
        (f"user: {left_out} (cannot be stored; the rest was applied)", svix_id)
    ]


@pytest.mark.each_value("name", "text")
@pytest.mark.parametrize("text", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("name", ["organization.name", "public_user_data.first_name", "role_name"])
def test_no_value_of_a_user_prevents_the_demotion_of_a_member(
    name: str, text: str, pipeline: Pipeline, admin: Connection
) -> None:
    member = new("membership") | {"role": "org:admin", "permissions": ["org:everything"]}
    deliver(pipeline, body("membership", member, CREATED_AT + 1))
    demoted = {"role": "org:member", "permissions": [], "updated_at": CREATED_AT + 2}
    deliver(pipeline, body("membership", with_fields(member, {name: raw(text)}) | demoted, CREATED_AT + 2))
    found = row(admin, "membership", member["id"])
    assert (found["role"], found["permissions"]) == ("org:member", [])


@pytest.mark.parametrize("text", VALUES.values(), ids=VALUES)
def test_a_delete_arrives_whatever_stands_beside_it(text: str, pipeline: Pipeline, admin: Connection) -> None:
    member = new("membership")
    user_id = member["public_user_data"]["user_id"]
    deliver(pipeline, body("membership", member, CREATED_AT + 1))
    left = with_fields(member, {"public_user_data.first_name": raw(text), "role": raw(text)})
    gone = {"id": user_id, "deleted": True, "external_id": raw(text)}
    for event_type, data in (("organizationMembership.deleted", left), ("user.deleted", gone)):
        event = samples.event(event_type, data, timestamp=CREATED_AT + 5)
        deliver(pipeline, msgspec.json.encode(event).decode())
    assert row(admin, "membership", member["id"])["deleted_at"] is not None
    assert row(admin, "user", user_id)["deleted_at"] is not None


def test_a_decision_of_others_is_never_read_from_an_invalid_value(pipeline: Pipeline, admin: Connection) -> None:
    banned = new("user") | {"banned": True, "locked": True, "public_metadata": {"role": "member"}}
    deliver(pipeline, body("user", banned, CREATED_AT + 1))
    for number, (name, text) in enumerate(
        [(name, text) for name in ("banned", "locked") for text in ("0", '"no"', "null", "[]", *VALUES.values())]
        + [("public_metadata", text) for text in ("[]", '"x"', "1e400")],
        2,
    ):
        lifted = {"banned": False, "locked": False, "updated_at": CREATED_AT + number}
        svix_id = deliver(pipeline, body("user", banned | lifted | {name: raw(text)}, CREATED_AT + number))
        assert list(pipeline.parked(admin)) == [svix_id]
    found = row(admin, "user", banned["id"])
    assert (found["banned"], found["locked"], found["public_metadata"]) == (True, True, {"role": "member"})


@pytest.mark.parametrize("name", ["email_addresses", "phone_numbers", "web3_wallets", "external_accounts"])
@pytest.mark.parametrize("value", ["missing", "null", "{}", '"no list"'])
def test_a_user_without_a_list_that_clerk_always_sends_is_parked_and_keeps_the_row(
    name: str, value: str, pipeline: Pipeline, admin: Connection
) -> None:
    member = new("user")
    deliver(pipeline, body("user", member, CREATED_AT + 1))
    kept = row(admin, "user", member["id"])
    changed = member | {"first_name": "Newer", "updated_at": CREATED_AT + 2, name: raw(value)}
    if value == "missing":
        del changed[name]
    svix_id = deliver(pipeline, body("user", changed, CREATED_AT + 2))
    assert list(pipeline.parked(admin)) == [svix_id]
    assert row(admin, "user", member["id"]) == kept


def test_a_left_out_field_is_logged_once_and_by_name_only_and_counted(pipeline: Pipeline, log: StringIO) -> None:
    member = new("user") | {"unsafe_metadata": raw(r'{"secret":"a\u0000"}'), "first_name": raw(r'"secret\ud800"')}
    svix_id = deliver(pipeline, body("user", member, CREATED_AT + 1))
    deliver(pipeline, body("user", member, CREATED_AT + 1), svix_id=svix_id)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    [said] = [line for line in lines if line["message"] == "fields left out"]
    assert (said["svix_id"], said["object_id"]) == (svix_id, member["id"])
    assert said["fields"] == ["first_name", "unsafe_metadata"]
    assert not any(line["level"] == "ERROR" for line in lines)
    assert "secret" not in json.dumps(lines)
    assert counted("FieldsDropped") == 2


# In every way


@pytest.fixture(scope="module")
def rig(databases: Databases) -> Iterator[Rig]:
    """An instance with a few users, all of them mirrored."""
    database = databases.take()
    with rig_with(database, 3, keep_private_metadata=True) as rig:
        assert rig.run().state == "complete"
        yield rig
    databases.give_back(database)


@pytest.fixture
def pipeline_of_rig(account: Account, rig: Rig) -> Pipeline:
    return Pipeline(account, rig.store, rig.world.now + 1_000_000, keep_private_metadata=True)


def findings(rig: Rig) -> int:
    report = rig.run()
    assert (report.state, report.reason) == ("complete", None)
    return report.findings


# The values are tried one by one above: here, the ways and their order matter.
@pytest.mark.parametrize("kind", ["user", "organization", "membership"])
@repeated(2)
@given(data=st.data())
def test_decisions_of_others_arrive_in_every_way_with_the_same_row(
    kind: Kind, data: st.DataObject, pipeline_of_rig: Pipeline, rig: Rig
) -> None:
    object_id = created(rig, kind)
    deliver(pipeline_of_rig, *map(encoded, rig.world.events[-3:]))
    rig.world.now += 1_000
    fields = data.draw(hostile(kind))
    rig.world.update(kind, object_id, with_fields(rig.world.objects()[kind][object_id], fields))
    told = encoded(rig.world.events[-1])
    queued = Queued(pipeline_of_rig.account, rig.store)

    def by_queue() -> None:
        rig.run(repairs=queued.repairs)
        queued.drain()

    resynced = rig.world.memberships[object_id]["organization"]["id"] if kind == "membership" else object_id
    pipelines: dict[str, Callable[[], object]] = {
        "webhook": lambda: deliver(pipeline_of_rig, told),
        "repair": rig.run,
        "repair through the queue": by_queue,
        "resync": lambda: resync(rig, resynced),
    }
    if kind == "user":
        pipelines["quick run"] = lambda: rig.run("quick")
    rows_left: list[Json] = []
    for name in data.draw(st.permutations(sorted(pipelines))):
        pipelines[name]()
        has_arrived(rig.admin, kind, object_id)
        rows_left.append(row(rig.admin, kind, object_id))
        assert rows_left[-1] == rows_left[0], name
    assert findings(rig) == 0


def resync(rig: Rig, object_id: str) -> None:
    """A resync by an operator, with the rights of the owner."""
    direct = DirectRepairs(keep_private_metadata=True)
    with closing(Store(Fixed(f"{rig.database.url}?sslmode=disable"))) as operator:
        ours = Reconcile(rig.ours.http, Runs(operator), direct, rig.settings, monotonic=rig.ours.clock)
        assert ours.resync(object_id, math.inf).state == "complete"


def encoded(event: Json) -> str:
    return msgspec.json.encode(event).decode()


def created(rig: Rig, kind: Kind) -> str:
    """Creates a user, an organization and a membership in Clerk; returns the id of the object of this kind."""
    user = rig.world.create_user({})
    organization = rig.world.create_organization({})
    membership = rig.world.add_membership(organization["id"], user["id"], role="org:admin")
    return str({"user": user, "organization": organization, "membership": membership}[kind]["id"])


@pytest.mark.parametrize("kind", ["user", "organization", "membership"])
def test_a_back_fill_stores_the_decisions_of_others_and_the_next_run_finds_nothing(
    kind: Kind, databases: Databases
) -> None:
    database = databases.take()
    with rig_with(database, 300) as rig:
        ids = [created(rig, kind) for _ in VALUES]
        for object_id, text in zip(ids, VALUES.values(), strict=True):
            name = next(iter(BY_CLIENTS[kind]))
            fields = DECIDED[kind] | {
                name: raw(text),
                "public_metadata": raw(f'{{"role":"member","n":1.5,"x":{text}}}'),
            }
            rig.world.update(kind, object_id, fields)
        assert rig.run().reason is None
        for object_id in ids:
            has_arrived(rig.admin, kind, object_id)
            assert value(rig.admin, "select count(*) from clerk_sync.dropped_fields where entity_id = %s", object_id)
        assert findings(rig) == 0
    databases.give_back(database)


def test_an_index_of_the_app_prevents_no_ban_and_each_run_says_that_the_row_differs(databases: Databases) -> None:
    database = databases.take()
    with rig_with(database, 3) as rig:
        assert rig.run().state == "complete"
        rig.admin.execute("create index on clerk.users (first_name)")
        user_id = next(iter(rig.world.users))
        rig.world.update("user", user_id, {"first_name": LONG, "banned": True})
        for _ in range(2):
            report = rig.run()
            assert (report.state, report.reason, report.findings) == ("complete", None, 1)
            assert (rig.column(user_id, "banned"), rig.column(user_id, "first_name")) == (True, None)
            assert rig.findings(report)[user_id].outcome == "settled"
    databases.give_back(database)


# By session


@pytest.mark.parametrize("text", VALUES.values(), ids=VALUES)
def test_a_user_is_accepted_or_forbidden_whatever_they_wrote(text: str, app: App, database: Database) -> None:
    written: Json = {"unsafe_metadata": raw(f'{{"theme":"dark","x":{text}}}'), "last_name": raw(text)}
    app.signs_up(public_metadata={"role": "member"}, **written)
    app.signs_up("user_eve", banned=True, **written)

    answer = app.post()
    assert answer.status == 200
    found = json.loads(answer.message)
    assert (found["first_name"], found["last_name"]) == ("Ada", None)
    assert (found["public_metadata"], found["unsafe_metadata"]) == ({"role": "member"}, {"theme": "dark"})
    assert app.post("user_eve").status == 403
    with database.connect() as admin:
        assert row(admin, "user", "user_eve")["banned"] is True
        assert rows(admin, "select entity_id, svix_id, fields from clerk_sync.dropped_fields order by 1") == [
            (f"user_{name}", f"sess_{name}", ["last_name", "unsafe_metadata"]) for name in ("ada", "eve")
        ]
