"""`POST /session` with an active organization: the membership exists before its webhook; only Clerk gives a role."""

from __future__ import annotations

import io
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from clerk_supabase.model.changes import Changes, Delete, Reconciled
from clerk_supabase.postgres.store import Store
from clerk_supabase.tokens.claims import Organization
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.faults import Fault, answering
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.token_mint import Mint
from tests.kit.databases import Connection, Database, acting_as, at_port, rows, tables, value
from tests.kit.histories import CREATED_AT, Applied
from tests.kit.proxy import CountingProxy
from tests.kit.sessions import App, app_of
from tests.kit.tokens import KEY
from tests.kit.webhooks import deleted, membership, organization, user

ADMIN = Organization("org_1", "org-1", "org:admin", ())
MEMBER = Organization("org_1", "org-1", "org:member", ())
STANDING = "organization-membership"
ROLES = "select role from clerk.organization_memberships where deleted_at is null"
MEMBERSHIPS = "/organizations/org_1/memberships"


@contextmanager
def running(frontend: FrontendApi, empty_api: ClerkApi, url: str) -> Iterator[App]:
    """Another environment of the function."""
    yield from app_of(frontend, empty_api, url)


def asked(app: App) -> list[str]:
    """The paths of the requests to Clerk."""
    return [request.path for request in app.clerk.requests]


def known(store: Store, *steps: Applied) -> None:
    """The webhooks of the user, the organization and other steps have arrived."""
    store.apply([user("user_ada", at=1), organization(at=1), *steps])


# The membership


def test_the_admin_of_an_organization_made_a_second_ago_can_write(app: App, admin: Connection) -> None:
    admin.execute("create table documents (id int primary key, title text)")
    admin.execute("select clerk_sync.secure('public.documents', 'organization', write_roles => '{org:admin}')")
    app.signs_up()
    app.founds()
    answer = app.post(active=ADMIN)
    assert (answer.status, answer.headers[STANDING]) == (200, "present")
    assert answer.headers["access-control-expose-headers"] == STANDING
    with acting_as(admin, "authenticated", Mint(KEY).payload("user_ada", ADMIN)):
        assert json.loads(answer.message) == value(admin, "select to_jsonb(u.*) from clerk.users as u")
        assert value(admin, "select name from clerk.organizations") == "Example Labs"
        admin.execute("insert into documents (id) values (1)")
    assert asked(app) == ["/users/user_ada", MEMBERSHIPS, "/organizations/org_1"]
    causes = "select distinct cause, svix_id from clerk_sync.audit_log"
    assert rows(admin, causes) == [("session", "sess_ada")]


def test_rows_that_are_there_cost_no_request_and_no_round_trip_more(
    frontend: FrontendApi, empty_api: ClerkApi, database: Database, store: Store
) -> None:
    known(store, membership(at=1, user_id="user_ada", role="org:admin"))
    with CountingProxy(database.server.port) as proxy:
        for app in app_of(frontend, empty_api, at_port(database.session_url, proxy.port)):
            costs: list[int] = []
            for active in (None, None, ADMIN, None, ADMIN):
                before = proxy.round_trips
                answer = app.post(active=active)
                assert (answer.status, answer.headers.get(STANDING)) == (200, active and "present")
                costs.append(proxy.round_trips - before)
            assert costs[1:] == [4, 4, 4, 4]
    assert asked(app) == []


def test_a_known_user_is_not_read_again_for_a_new_organization(app: App, store: Store, admin: Connection) -> None:
    store.apply([user("user_ada", at=1)])
    app.signs_up()
    app.founds()
    assert app.post(active=ADMIN, version=1).headers[STANDING] == "present"
    assert asked(app) == [MEMBERSHIPS, "/organizations/org_1"]
    assert rows(admin, ROLES) == [("org:admin",)]
    assert app.post(active=ADMIN, version=2).headers[STANDING] == "present"
    assert len(asked(app)) == 2


def test_clerks_answer_and_not_the_token_gives_the_role(app: App, store: Store, admin: Connection) -> None:
    known(store, membership("orgmem_user_ada", at=1, user_id="user_ada", role="org:member"))
    app.signs_up()
    app.founds("org:editor")
    assert app.post(active=ADMIN).headers[STANDING] == "present"
    assert rows(admin, ROLES) == [("org:editor",)]


def test_a_role_that_clerk_does_not_confirm_costs_one_request_a_minute(app: App, store: Store) -> None:
    known(store, membership("orgmem_user_ada", at=1, user_id="user_ada", role="org:member"))
    app.signs_up()
    app.founds("org:member")
    for seconds, expected in ((0, 2), (59, 2), (61, 4)):
        app.later.now = seconds
        assert app.post(active=ADMIN).headers[STANDING] == "present"
        assert len(asked(app)) == expected


@pytest.mark.parametrize("verdict", ["banned", "deprovisioned"])
def test_a_user_who_is_not_let_in_costs_one_request_whatever_organization_is_active(verdict: str, app: App) -> None:
    verdicts: dict[str, Any] = {verdict: True}
    app.signs_up(**verdicts)
    app.founds()
    assert [app.post(active=active).status for active in (ADMIN, MEMBER, None)] == [403, 403, 403]
    assert asked(app) == ["/users/user_ada"]


def test_private_metadata_of_all_three_is_kept_where_it_is_wanted(
    frontend: FrontendApi, empty_api: ClerkApi, database: Database, admin: Connection
) -> None:
    for app in app_of(frontend, empty_api, database.session_url, keep_private_metadata=True):
        app.signs_up()
        app.founds()
        app.post(active=ADMIN)
    assert value(admin, "select count(*) from clerk_sync.private_metadata") == 3


# Every order


def steps_of(number: int, app: App, store: Store) -> dict[str, Callable[[], object]]:
    """A sign-in, and the webhooks of a membership; Clerk's API lags and keeps showing the first state."""
    ids = {"user_id": f"user_{number}", "org_id": f"org_{number}"}
    key = f"orgmem_{number}"
    times = {"created_at": CREATED_AT, "updated_at": CREATED_AT + 1}
    org, member = samples.organization(ids["org_id"], **times), samples.user(ids["user_id"], **times)
    with app.clerk.writing() as world:
        world.users[member["id"]] = member
        world.organizations[org["id"]] = org
        world.memberships[key] = samples.membership(key, org, member, role="org:admin", **times)
    created = [user(ids["user_id"], at=1), organization(ids["org_id"], at=1), membership(key, at=1, **ids)]
    return {
        "sign in": partial(app.post, ids["user_id"], replace(ADMIN, id=ids["org_id"])),
        "created": partial(store.apply, created),
        "role changed": partial(store.apply, [membership(key, at=5, role="org:editor", **ids)]),
        "deleted": partial(store.apply, [deleted("organizationMembership", key, at=9)]),
    }


LIVE = """
    select m.role, o.name, o.created_at is not null, u.created_at is not null
    from clerk.organization_memberships as m
    inner join clerk.organizations as o using (clerk_org_id)
    inner join clerk.users as u on u.clerk_id = m.clerk_user_id
    where m.clerk_membership_id = %s and m.deleted_at is null
"""


def test_the_tables_end_the_same_in_every_order_of_sign_in_and_webhooks(
    app: App, store: Store, admin: Connection
) -> None:
    verbs = ("sign in", "created", "role changed", "deleted")
    for number, order in enumerate([*itertools.permutations(verbs[:3]), *itertools.permutations(verbs)]):
        steps = steps_of(number, app, store)
        for verb in order:
            steps[verb]()
        expected = [] if "deleted" in order else [("org:editor", "Example Labs", True, True)]
        assert rows(admin, LIVE, f"orgmem_{number}") == expected, order


def test_a_membership_deleted_by_an_event_is_never_restored(app: App, store: Store, admin: Connection) -> None:
    """The token is up to a minute older than the delete, and Clerk's API may lag behind."""
    key = "orgmem_user_ada"
    known(store, membership(key, at=1, user_id="user_ada"), deleted("organizationMembership", key, at=5))
    app.signs_up()
    app.founds()
    for _ in range(3):
        answer = app.post(active=ADMIN)
        assert (answer.status, answer.headers[STANDING]) == (200, "absent")
    assert rows(admin, ROLES) == []
    assert len(asked(app)) == 2


def test_an_organization_deleted_by_an_event_lets_no_membership_in(app: App, store: Store, admin: Connection) -> None:
    known(store, deleted("organization", "org_1", at=5))
    app.signs_up()
    app.founds()
    assert app.post(active=ADMIN).headers[STANDING] == "absent"
    assert rows(admin, ROLES) == []


def test_objects_that_a_comparison_deleted_and_clerk_shows_are_restored(
    app: App, store: Store, admin: Connection
) -> None:
    admin.execute(
        """
        insert into clerk_sync.reconcile_runs (run_id, mode, is_dry_run, versions_only, as_of, state)
        overriding system value values (7, 'full', false, false, 1, 'complete')
        """
    )
    known(store, membership("orgmem_user_ada", at=1, user_id="user_ada", role="org:admin"))
    gone = Delete("organization", "org_1", CREATED_AT + 9), Delete("membership", "orgmem_user_ada", CREATED_AT + 9)
    store.apply([(Changes(each), Reconciled(f"reconcile-7-{each.id}")) for each in gone])
    assert rows(admin, ROLES) == []
    app.signs_up()
    app.founds()
    assert app.post(active=ADMIN).headers[STANDING] == "present"
    assert rows(admin, ROLES) == [("org:admin",)]
    assert value(admin, "select deleted_at from clerk.organizations") is None


# Clerk does not help


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        (MEMBERSHIPS, answering(500)),
        (MEMBERSHIPS, answering(429, retry_after="10")),
        ("/organizations/org_1", answering(500)),
    ],
    ids=["500", "429", "500 of the organization"],
)
def test_without_clerks_answer_the_users_part_is_done_and_the_answer_says_so(
    path: str, fault: Fault, app: App, admin: Connection
) -> None:
    app.signs_up()
    app.founds()
    app.clerk.faults.add(fault, path=path, times=99)
    answer = app.post(active=ADMIN)
    assert (answer.status, answer.headers[STANDING]) == (200, "unknown")
    assert json.loads(answer.message)["first_name"] == "Ada"
    assert tables(admin)["organizations"] == tables(admin)["memberships"] == []


def test_a_stub_says_that_nothing_is_known_about_the_membership(app: App) -> None:
    app.signs_up()
    app.founds()
    app.clerk.faults.add(answering(500), times=99)
    answer = app.post(active=ADMIN)
    assert (answer.status, answer.headers[STANDING]) == (202, "unknown")


def test_a_membership_that_the_apps_constraint_rejects_keeps_no_user_out(app: App, admin: Connection) -> None:
    admin.execute("alter table clerk.organization_memberships add constraint ours check (role <> 'org:admin')")
    app.signs_up()
    app.founds()
    answer = app.post(active=ADMIN)
    assert (answer.status, answer.headers[STANDING]) == (200, "not-stored")
    assert json.loads(answer.message)["first_name"] == "Ada"


# Attacks


def test_a_token_of_a_foreign_organization_brings_nothing(app: App, admin: Connection) -> None:
    """Clerk asks for five seconds of patience: its API may lag behind a new membership."""
    app.signs_up()
    app.signs_up("user_eve")
    app.founds(user_id="user_eve")
    for seconds, expected in ((0, 1), (4, 1), (6, 2)):
        app.later.now = seconds
        assert app.post(active=ADMIN).headers[STANDING] == "absent"
        assert asked(app).count(MEMBERSHIPS) == expected
    assert tables(admin)["organizations"] == tables(admin)["memberships"] == []
    assert app.post(active=Organization("org_gone", None, "org:admin", ())).headers[STANDING] == "absent"


def test_no_hostile_answer_of_clerk_becomes_a_membership(app: App, admin: Connection) -> None:
    app.signs_up()
    app.signs_up("user_eve")
    app.founds()
    with app.clerk.writing() as world:
        true = world.memberships["orgmem_user_ada"]
    hostile: list[list[dict[str, Any]]] = [
        [true | {"public_user_data": true["public_user_data"] | {"user_id": "user_eve"}}],
        [true | {"organization": true["organization"] | {"id": "org_2"}}],
        [true, true | {"id": "orgmem_2"}],
        [true | {"id": None}],
        [true | {"deleted": True}],
        [true | {"role": None}],
    ]
    for elements in hostile:
        body = json.dumps({"data": elements, "total_count": 1}).encode()
        app.clerk.faults.add(Fault(body=body), path=MEMBERSHIPS)
        answer = app.post(active=ADMIN)
        assert (answer.status, answer.headers[STANDING]) == (200, "unknown")
    assert tables(admin)["organizations"] == tables(admin)["memberships"] == []
    # No failure is remembered against the user.
    assert app.post(active=ADMIN).headers[STANDING] == "present"


def test_an_id_that_clerk_cannot_have_made_is_no_organization(app: App, store: Store) -> None:
    known(store)
    for org_id in ("..", "org_", "org_ 1", "org_\n", "1", "org_" + "x" * 255):
        answer = app.post(active=Organization(org_id, None, "org:admin", ()))
        assert (answer.status, STANDING in answer.headers) == (200, False)
    assert asked(app) == []


def test_many_sign_ins_at_once_for_a_new_organization_all_get_in(
    frontend: FrontendApi, empty_api: ClerkApi, database: Database, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"user_{number}" for number in range(24)]
    standings: list[str] = []

    def sign_in(app: App, members: list[str]) -> None:
        standings.extend(app.post(user_id, MEMBER).headers[STANDING] for user_id in members)

    # A machine under load must not make the server give up, nor the question to Clerk.
    monkeypatch.setattr("clerk_supabase.first_login.CLERK_SECONDS", 60.0)
    url = f"{database.session_url}&options=-c%20lock_timeout%3D60s%20-c%20statement_timeout%3D60s"
    with ExitStack() as stack:
        apps = [stack.enter_context(running(frontend, empty_api, url)) for _ in range(4)]
        for user_id in users:
            apps[0].signs_up(user_id)
            apps[0].founds("org:member", user_id)
        threads = [threading.Thread(target=sign_in, args=(app, users[n::4])) for n, app in enumerate(apps)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert standings == ["present"] * len(users)
    assert len(empty_api.requests) == 3 * len(users)
    assert value(admin, "select count(*) from clerk.organization_memberships") == len(users)


def test_nothing_personal_is_logged(app: App, log: io.StringIO) -> None:
    app.signs_up()
    app.founds()
    app.post(active=ADMIN)
    app.clerk.faults.add(answering(500), times=99)
    app.post(active=Organization("org_2", "secret-slug", "org:admin", ()))
    written = log.getvalue()
    assert "org_2" in written
    for secret in ("Ada", "ada@example.test", "Example Labs", "secret-slug", "sess_", "orgmem_"):
        assert secret not in written
