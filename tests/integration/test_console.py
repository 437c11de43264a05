"""`clerk-supabase console`: the door of the page, its panels, its actions, and its looks at the database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

import httpx
import psycopg
import pytest
from psycopg import sql

from clerk_supabase.credentials import Fixed
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.console.guard import HEADERS, LARGEST_FORM
from clerk_supabase_cli.console.hub import LISTED
from clerk_supabase_cli.console.tail import Tail
from clerk_supabase_cli.local.back_fill import fill
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.queues import Queues
from tests.kit.aws import Account
from tests.kit.clerk import KEY, api_with
from tests.kit.console import SECONDS, Visitor, opened
from tests.kit.databases import Connection, Database, Databases
from tests.kit.histories import delivered, upsert
from tests.kit.loopback import NO_TLS
from tests.kit.parked import created, park

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\x1b[31m"


@pytest.fixture
def queues(account: Account) -> Queues:
    return Queues({"sync": account.sync_queue_url, "parked": account.parked_queue_url})


@pytest.fixture(scope="module")
def reader(databases: Databases) -> Iterator[Visitor]:
    """A browser with a page that may change nothing, for the tests of the door."""
    database = databases.take()
    with closing(Store(Fixed(database.worker_url))) as store:
        park(store, "msg_1", created(email_addresses=[]))
    with opened(database.url, can_write=False) as visitor:
        yield visitor
    databases.give_back(database)


# The door


def test_only_the_printed_address_lets_a_browser_in(reader: Visitor) -> None:
    stranger = httpx.Client(trust_env=False, verify=NO_TLS, timeout=SECONDS)
    for path in ("/", "/?token=guess", f"{reader.page}", f"{reader.page}stream", f"{reader.page}static/console.js"):
        assert stranger.get(reader.origin + path if path.startswith("/") else path).status_code == 401, path

    answer = stranger.get(reader.address)

    assert (answer.status_code, reader.origin + answer.headers["location"]) == (303, reader.page)
    cookie = answer.headers["set-cookie"]
    folder = reader.page.removeprefix(reader.origin)
    assert {each.strip() for each in cookie.split(";")[1:]} == {"HttpOnly", "SameSite=strict", f"Path={folder}"}
    token = reader.address.partition("token=")[2]
    assert token not in cookie + answer.headers["location"] + stranger.get(reader.page).text
    stranger.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.test"}, 421),
        ({"host": "evil.test:80"}, 421),
        ({"host": "localhost"}, 421),
        ({"host": "127.0.0.1:1"}, 421),
        ({"origin": "http://evil.test"}, 403),
        ({"origin": "http://127.0.0.1:3000"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_a_request_of_another_page_is_rejected_also_with_the_cookie(
    reader: Visitor, headers: dict[str, str], status: int
) -> None:
    for path in ("", "stream"):
        assert reader.get(path, **headers).status_code == status
    assert reader.client.post(f"{reader.page}doctor", headers=headers).status_code == status


def test_a_form_needs_the_cookie_the_origin_and_the_token_of_the_page(reader: Visitor) -> None:
    token = re.findall(r'name="token" value="([^"]+)"', reader.get().text)[0]
    own, body = {"origin": reader.origin}, {"token": token, "id": "msg_1"}
    address = f"{reader.page}body"

    assert reader.client.post(address, data=body, headers=own).status_code == 200
    assert (
        httpx.post(address, data=body, headers=own, trust_env=False, verify=NO_TLS, timeout=SECONDS).status_code == 401
    )
    assert reader.client.post(address, data=body).status_code == 403
    assert reader.client.post(address, data=body | {"token": "guess"}, headers=own).status_code == 403
    assert reader.client.post(address, json=body, headers=own).status_code == 415
    assert reader.client.post(address, data=body | {"id": "x" * LARGEST_FORM}, headers=own).status_code == 413
    assert reader.client.get(address).status_code == 405
    assert reader.client.put(address, headers=own).status_code == 405


def test_every_answer_forbids_foreign_scripts_frames_and_copies(reader: Visitor) -> None:
    answers = [
        *(reader.get(path) for path in ("", "timeline?id=user_1", "static/console.js", "nothing")),
        httpx.get(reader.address, trust_env=False, verify=NO_TLS, timeout=SECONDS),
        httpx.get(reader.page, trust_env=False, verify=NO_TLS, timeout=SECONDS),
        reader.get(host="evil.test"),
    ]
    for answer in answers:
        assert dict(HEADERS).items() <= dict(answer.headers).items()
        assert "server" not in answer.headers
    # The policy allows neither, so no such code can ever have worked.
    assert not re.findall(r"<script(?! src=)|\son\w+=|\sstyle=", answers[0].text)


def test_without_write_the_page_changes_nothing(reader: Visitor) -> None:
    text = reader.sees("msg_1", "Read-only")
    assert 'action="replay"' not in text
    assert 'action="discard"' not in text
    assert [reader.sends(action, id="msg_1").status_code for action in ("replay", "discard")] == [403, 403]
    assert "parked" in reader.get("parked?id=msg_1").text


# The panels


def test_every_panel_shows_the_state_of_the_deployment(
    database: Database, store: Store, admin: Connection, queues: Queues
) -> None:
    with api_with(3) as api:
        fill(database.url, api.url, KEY)
    store.apply([delivered(upsert("user_1", version=1), "msg_1"), delivered(upsert("user_1", version=2), "msg_2")])
    with opened(database.url, queues) as visitor:
        page = visitor.sees("Postgres is true to Clerk", "Nothing is stuck.", "No event is parked.")
        assert "The brake waits for nothing" in page
        # A database that served other tests has had runs before.
        found = re.search(r'<a href="(run\?id=\d+)">\d+</a>.*?complete', page, re.DOTALL)
        assert found
        assert page.count("user insert") == 3
        assert "2 events in the last hour" in page
        admin.execute("update clerk_sync.reconcile_runs set state = 'stopped', reason = 'it would delete 23 users'")
        page = visitor.sees("A comparison waits for your decision", "it would delete 23 users")
        assert "--allow-deletes N" in page

        run = visitor.get(found[1]).text
        assert "3 objects compared, 3 differences" in run
        timeline = visitor.client.get(f"{visitor.page}timeline?id=msg_2", follow_redirects=True).text
        assert 'Timeline of <span class="id">user_1</span>' in timeline
        assert timeline.count("user.updated") == 2
        assert visitor.get("timeline?id=user_9").status_code == visitor.get("run?id=99999").status_code == 404


def test_a_new_event_is_brought_by_the_stream(database: Database, store: Store) -> None:
    with opened(database.url) as visitor:
        visitor.sees("as a whole")
        store.apply([delivered(upsert("user_new"), "msg_1")])
        line = visitor.hears("user_new")
    assert "created</span>" in line


def test_a_parked_event_is_replayed_and_discarded_by_the_operator(
    database: Database, store: Store, account: Account, queues: Queues
) -> None:
    for svix_id in ("msg_1", "msg_2"):
        park(store, svix_id)
    with opened(database.url, queues) as visitor:
        visitor.sees("msg_1", "msg_2", "2 events parked")

        answer = visitor.sends("replay", id="msg_1")
        assert "sent%20to%20the%20queue" in answer.headers["location"]
        visitor.sends("discard", id="msg_2")
        assert "nothing%20was%20done" in visitor.sends("discard", id="msg_2").headers["location"]

        [message] = account.received(account.sync_queue_url)
        assert message["messageAttributes"]["svix_id"]["stringValue"] == "msg_1"
        assert "replayed" in visitor.get("parked?id=msg_1").text
        assert "The body was deleted" in visitor.get("parked?id=msg_2").text


# Texts of others


def test_texts_of_the_database_stay_text_and_a_body_is_shown_only_when_asked(
    database: Database, store: Store, admin: Connection
) -> None:
    park(store, event=created(first_name=HOSTILE))
    for column in ("svix_id", "event_type", "entity_id", "reason", "first_reason"):
        update = sql.SQL("update clerk_sync.parked_events set {} = %s").format(sql.Identifier(column))
        admin.execute(update, [HOSTILE])
    with opened(database.url) as visitor:
        pages = [
            visitor.sees("onerror=alert"),
            visitor.get(f"timeline?{httpx.QueryParams(id=HOSTILE)}").text,
            visitor.get(f"parked?{httpx.QueryParams(id=HOSTILE)}").text,
            visitor.get(f"?{httpx.QueryParams(notice=HOSTILE)}").text,
        ]
        body = visitor.sends("body", id=HOSTILE).text
    for page in (*pages, body):
        assert "<script>alert" not in page
        assert "<img src=x" not in page
    assert not [page for page in pages if "first_name" in page]
    assert "first_name" in body, re.findall(r"<main.*</main>", body, re.DOTALL)


# The looks


APPLIED = """
insert into clerk_sync.deliveries (svix_id, event_type, entity_id, outcome, received_at, occurred_at)
select 'msg_' || n, 'user.updated', 'user_' || n, 'updated', now(), now()
from generate_series(%s::integer, %s::integer) as n
"""


def test_an_entry_is_read_once_also_when_its_transaction_ends_late(database: Database, admin: Connection) -> None:
    now = 0.0
    tail = Tail(lambda: now)
    with open_database(database.url) as connection, psycopg.connect(database.url) as slow:
        slow.execute(APPLIED, [1, 1])
        admin.execute(APPLIED, [2, 2])
        assert [each.svix_id for each in tail.read(connection)] == ["msg_2"]
        slow.commit()
        found = []
        for _ in range(12):
            now += 1
            found += [each.svix_id for each in tail.read(connection)]
    assert found == ["msg_1"]


def test_ten_thousand_events_at_once_leave_a_page_of_bounded_length(database: Database, admin: Connection) -> None:
    with opened(database.url) as visitor:
        visitor.sees("as a whole")
        admin.execute(APPLIED, [1, 10_000])
        page = visitor.sees("10,000 events in the last hour", ">user_10000<")
    assert page.count("<tr class=") == LISTED


def test_an_outage_is_a_state_of_the_page_and_ends_by_itself(
    database: Database, store: Store, databases: Databases
) -> None:
    store.apply([delivered(upsert("user_1"), "msg_1")])
    name = sql.Identifier(database.name)
    with opened(database.url) as visitor, psycopg.connect(databases.server.url(), autocommit=True) as other:
        visitor.sees("user_1", "as a whole")
        other.execute(sql.SQL("alter database {} with allow_connections false").format(name))
        other.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database.name])
        page = visitor.sees("The database is unavailable since")
        assert "user_1" in page
        assert visitor.get("timeline?id=user_1").status_code == 503
        other.execute(sql.SQL("alter database {} with allow_connections true").format(name))
        visitor.sees("as a whole")
