"""`clerk-supabase forget` and `export`: the people erased, the data left, and the output."""

from __future__ import annotations

import base64
import json
from typing import Any, LiteralString

import pytest

from clerk_supabase.housekeeping import Housekeeping
from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from clerk_supabase_cli.operate.person import NotForgotten
from clerk_supabase_cli.standin import samples
from tests.kit.aws import Account
from tests.kit.canaries import (
    ADA,
    ADDRESS,
    CANARIES,
    NAME,
    NEARLY,
    SECOND,
    TIMES,
    ada,
    bystanders,
    delete_ada,
    dump,
    fill_with_canaries,
    places_with,
    posted,
)
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.feeding import USERS, switch
from tests.kit.histories import CREATED_AT
from tests.kit.meanwhile import started, waiting
from tests.kit.parked import Command
from tests.kit.pipeline import Pipeline
from tests.kit.polling import eventually
from tests.kit.purging import allow_at_once
from tests.kit.webhooks import deleted, domain, invitation, membership, organization, user


@pytest.fixture
def command(database: Database) -> Command:
    return Command({"DATABASE_URL": database.url})


# The erased people


def test_a_person_who_was_not_deleted_in_clerk_is_not_erased_and_the_command_says_what_to_do(
    store: Store, admin: Connection, command: Command
) -> None:
    store.apply([user(ADA, at=1)])
    before = dump(admin)
    for user_id in (ADA, "user_unknown"):
        refused = command.run("forget", user_id, "--yes", status=1)
        assert isinstance(refused.exception, NotForgotten)
        assert "delete the user in Clerk first" in str(refused.exception)
        assert f"clerk-supabase resync {user_id}" in str(refused.exception)
    assert dump(admin) == before


def test_the_address_of_a_user_who_is_in_clerk_is_not_erased(store: Store, admin: Connection, command: Command) -> None:
    emails = [samples.email_address(f"idn_{each}", each, CREATED_AT) for each in (ADDRESS, SECOND)]
    store.apply([user(ADA, at=1, email_addresses=emails), invitation(at=1, email_address=SECOND)])
    before = dump(admin)
    refused = command.run("forget", "--email", SECOND.upper(), "--yes", status=1)
    assert f"clerk-supabase forget {ADA}" in str(refused.exception)
    assert dump(admin) == before


def test_the_address_of_a_deleted_user_leads_to_the_user(store: Store, command: Command) -> None:
    emails = [samples.email_address("idn_1", ADDRESS, CREATED_AT)]
    store.apply([user(ADA, at=1, email_addresses=emails), deleted("user", ADA, at=2)])
    refused = command.run("forget", "--email", ADDRESS, "--yes", status=1)
    assert str(refused.exception) == f"a deleted user has this address: clerk-supabase forget {ADA}"


def test_an_address_that_belongs_to_another_user_by_now_stays_with_that_user(
    store: Store, admin: Connection, command: Command
) -> None:
    emails = [samples.email_address("idn_1", ADDRESS, CREATED_AT)]
    store.apply([user(ADA, at=1, email_addresses=emails), deleted("user", ADA, at=2)])
    store.apply([user("user_heir", at=3, email_addresses=emails, first_name="Annabella")])
    store.apply([invitation(at=3, email_address=ADDRESS), domain(at=3, affiliation_email_address=ADDRESS)])
    heirs = rows(admin, "select * from clerk.users where clerk_id = 'user_heir'")
    said = command.run("forget", ADA, "--yes").stdout
    assert f"not looked for: {ADDRESS.lower()}, which user_heir has in Clerk" in said
    assert rows(admin, "select * from clerk.users where clerk_id = 'user_heir'") == heirs
    assert value(admin, "select first_name from clerk.users_public where clerk_id = 'user_heir'") == "Annabella"
    assert rows(admin, "select new_values is not null from clerk_sync.audit_log where entity_id = 'user_heir'") == [
        (True,)
    ]
    assert rows(admin, "select email_address from clerk.organization_invitations") == [(ADDRESS,)]
    assert rows(admin, "select affiliation_email_address from clerk.organization_domains") == [(ADDRESS,)]
    assert value(admin, "select email from clerk.users where clerk_id = 'user_ada'") is None


def with_address(verified: bool) -> dict[str, Any]:
    """Fields of another user with Ada's address: as an e-mail address, and in an account of a provider."""
    status = "verified" if verified else "unverified"
    account = {"id": "eac_1", "provider": "oauth_custom", "email_address": ADDRESS, "username": ADDRESS}
    return {
        "email_addresses": [samples.email_address("idn_1", ADDRESS, CREATED_AT, status=status)],
        "primary_email_address_id": "idn_1",
        "external_accounts": [account | {"verification": {"status": status}}],
        "unsafe_metadata": {"me": ADDRESS},
    }


def test_the_address_of_an_account_at_a_company_is_the_persons_if_the_account_is_verified(
    store: Store, admin: Connection
) -> None:
    account = samples.enterprise_account(7, ADDRESS, CREATED_AT)
    unverified = samples.enterprise_account(8, "guess@other.test", CREATED_AT) | {"verification": None}
    store.apply([user(ADA, at=1, email_addresses=[], enterprise_accounts=[account, unverified])])
    other = [samples.email_address("idn_2", SECOND, CREATED_AT)]
    store.apply([user("user_other", at=1, email_addresses=other)])
    assert value(admin, "select clerk_sync.identifiers_of(%s)", [ADA]) == [ADDRESS.lower()]
    words = [ADDRESS.lower(), "guess@other.test"]
    assert value(admin, "select clerk_sync.words_of_others('{}', %s)", words) == {ADDRESS.lower(): ADA}


@pytest.mark.parametrize(
    ("edit", "identifier"),
    [
        ("update clerk.users set email = %s, email_verified = true", ADDRESS),
        ("update clerk.users set phone = %s, phone_verified = true", "+15555550100"),
    ],
    ids=["address", "number"],
)
def test_an_identifier_in_its_own_column_alone_is_the_users_too(
    edit: LiteralString, identifier: str, store: Store, admin: Connection
) -> None:
    store.apply([user("user_other", at=1, email_addresses=[], phone_numbers=[])])
    admin.execute(edit, [identifier])
    words = ["guess@other.test", identifier.lower()]
    assert value(admin, "select clerk_sync.words_of_others('{}', %s)", words) == {identifier.lower(): "user_other"}


def test_an_erasure_of_a_user_who_entered_a_foreign_address_spares_its_owner(
    store: Store, admin: Connection, command: Command
) -> None:
    store.apply([user("user_eve", at=1, **with_address(verified=False)), deleted("user", "user_eve", at=2)])
    store.apply([invitation(at=1, email_address=ADDRESS), domain(at=1, affiliation_email_address=ADDRESS)])
    said = command.run("forget", "user_eve", "--yes").stdout
    assert f"not looked for: {ADDRESS.lower()}, which is unverified; add it by --email if it is the person's" in said
    assert rows(admin, "select email_address, deleted_at from clerk.organization_invitations") == [(ADDRESS, None)]
    assert rows(admin, "select affiliation_email_address from clerk.organization_domains") == [(ADDRESS,)]
    assert value(admin, "select email from clerk.users where clerk_id = 'user_eve'") is None

    command.run("forget", "user_eve", "--email", ADDRESS, "--yes")
    assert places_with(admin, ADDRESS.lower()) == []


def test_housekeeping_removes_no_data_of_other_people_either(store: Store, admin: Connection) -> None:
    allow_at_once(admin)
    store.apply([user("user_eve", at=1, **with_address(verified=False)), deleted("user", "user_eve", at=2)])
    store.apply([invitation(at=1, email_address=ADDRESS), domain(at=1, affiliation_email_address=ADDRESS)])
    Housekeeping(store, Keep(hold_back_days=0)).run()
    assert value(admin, "select email from clerk.users where clerk_id = 'user_eve'") is None
    assert rows(admin, "select affiliation_email_address from clerk.organization_domains") == [(ADDRESS,)]


def test_a_user_who_entered_a_foreign_address_does_not_hinder_the_erasure_of_its_owner(
    store: Store, admin: Connection, command: Command
) -> None:
    store.apply([user("user_eve", at=1, **with_address(verified=False))])
    store.apply([user(ADA, at=1, **with_address(verified=True)), deleted("user", ADA, at=2)])
    store.apply([invitation(at=1, email_address=ADDRESS)])
    assert "not looked for" not in command.run("forget", ADA, "--yes").stdout
    assert rows(admin, "select * from clerk.organization_invitations") == []
    assert value(admin, "select email from clerk.users where clerk_id = 'user_eve'") == ADDRESS


def test_data_about_a_person_in_other_objects_is_named_and_left_as_clerk_has_it(
    store: Store, admin: Connection, command: Command
) -> None:
    store.apply([organization(at=1, public_metadata={"owner": ADDRESS}), invitation(at=1, email_address=ADDRESS)])
    answer = command.json("forget", "--email", ADDRESS, "--yes")
    assert answer["of_others"] == [{"place": "clerk.organizations", "id": "org_1"}]
    assert value(admin, "select public_metadata ->> 'owner' from clerk.organizations") == ADDRESS
    assert {table for table, _ in places_with(admin, ADDRESS.lower())} == {"clerk.organizations"}


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["org_1"], ["ada@example.test"], ["--email", "ada"], ["--email", "a@b c@d"], ["--email", "@"]),
        # The sign for kelvin, whose small letter is a common k.
        ["--email", "\u212aim@example.test"],
    ],
)
def test_forget_and_export_need_the_name_of_a_person(arguments: list[str], command: Command) -> None:
    assert "Usage" in command.run("forget", *arguments, "--yes", status=2).stderr
    assert "Usage" in command.run("export", *arguments, status=2).stderr


def test_a_person_who_was_only_invited_is_erased_by_their_address_in_thousands_of_invitations(
    store: Store, admin: Connection, command: Command
) -> None:
    many = 2_500
    for first in range(0, many, 500):
        store.apply(
            [
                invitation(f"orginv_{n}", org_id=f"org_{n}", at=1, email_address=ADDRESS if n % 2 else ADDRESS.lower())
                for n in range(first, first + 500)
            ]
        )
    store.apply([invitation("orginv_other", at=1, email_address=NEARLY[0])])
    answer = command.json("forget", "--email", ADDRESS, "--yes")
    assert answer["emptied"]["clerk.organization_invitations"] == many
    assert places_with(admin, ADDRESS.lower()) == []
    assert rows(admin, "select clerk_invitation_id from clerk.organization_invitations") == [("orginv_other",)]


def test_thousands_of_audit_entries_are_emptied(store: Store, admin: Connection, command: Command) -> None:
    many = 3_000
    store.apply([user(ADA, at=1), user("user_other", at=1)])
    admin.execute(
        """
        insert into clerk_sync.audit_log (kind, entity_id, operation, old_values, new_values, changed_columns, cause)
        select
            'user', 'user_ada', 'update',
            jsonb_build_object('email', %s::text, 'email_verified', true), '{"locale": "en"}', '{}', 'delivery'
        from generate_series(1, %s)
        """,
        [SECOND, many],
    )
    store.apply([invitation(at=1, email_address=SECOND), deleted("user", ADA, at=2)])
    assert command.json("forget", ADA, "--yes")["emptied"]["clerk_sync.audit_log"] >= many
    assert places_with(admin, SECOND, "user_ada@") == []
    kept = "select entity_id from clerk_sync.audit_log where kind = 'user' and new_values is not null"
    assert rows(admin, kept) == [("user_other",)]


def test_a_person_without_a_row_is_erased_and_gets_no_row_later(
    store: Store, admin: Connection, command: Command
) -> None:
    store.apply([deleted("user", ADA, at=2)])
    admin.execute("insert into clerk_sync.private_metadata values ('user_ada', %s)", [json.dumps({"note": NAME})])
    command.run("forget", ADA, "--yes")
    late: dict[str, Any] = {"last_name": NAME, "private_metadata": {"note": NAME}}
    store.apply([user(ADA, at=9, **late), membership(at=9, user_id=ADA, public_metadata={"note": NAME})])
    assert places_with(admin, NAME.lower()) == []


@pytest.mark.parametrize("how", ["scrub", "delete"])
def test_no_late_event_restores_anything(how: str, pipeline: Pipeline, admin: Connection, command: Command) -> None:
    fill_with_canaries(pipeline, admin)
    delete_ada(pipeline)
    command.run("forget", ADA, "--purge-by", how, "--yes")
    org = samples.organization("org_labs", **TIMES)
    posted(pipeline, "user.updated", ada(updated_at=CREATED_AT + 99), at=99)
    posted(pipeline, "user.updated", ada(email_addresses=7), at=99, svix_id="msg_unusable")
    posted(pipeline, "organizationMembership.created", samples.membership("orgmem_ada", org, ada(), **TIMES), at=99)
    posted(pipeline, "organizationMembership.created", samples.membership("orgmem_late", org, ada(), **TIMES), at=99)
    for event_type in ("organizationInvitation.created", "organizationInvitation.revoked"):
        invited = samples.invitation(
            "orginv_org_labs", "org_labs", **TIMES | {"updated_at": CREATED_AT + 99}, email_address=ADDRESS
        )
        posted(pipeline, event_type, invited, at=99)
    allow_at_once(admin)
    Housekeeping(pipeline.store, Keep(hold_back_days=0)).run()
    assert places_with(admin, *CANARIES) == []


def test_all_that_is_erased_counts_as_deleted_since_the_erasure_at_the_latest(
    pipeline: Pipeline, admin: Connection, command: Command
) -> None:
    fill_with_canaries(pipeline, admin)
    delete_ada(pipeline)
    began = value(admin, "select clock_timestamp()")
    command.run("forget", ADA, "--yes")
    purged = rows(admin, "select kind, delete_recorded_at from clerk_sync.entities where purged_at >= %s", began)
    assert {kind for kind, _ in purged} >= {"user", "invitation"}
    assert [kind for kind, recorded_at in purged if recorded_at is None] == []


def test_a_foreign_key_of_the_app_that_refuses_is_named_and_the_row_is_scrubbed(
    store: Store, admin: Connection, command: Command
) -> None:
    admin.execute("create table public.invoices (id int, payer text references clerk.users (clerk_id))")
    store.apply([user(ADA, at=1, last_name=NAME), deleted("user", ADA, at=2)])
    admin.execute("insert into public.invoices values (1, 'user_ada'), (2, 'user_ada')")
    answer = command.json("forget", ADA, "--purge-by", "delete", "--yes")
    assert answer["refused"] == {"invoices_payer_fkey": 1}
    assert answer["of_the_app"] == [{"place": "public.invoices", "column_name": "payer", "row_count": 2}]
    assert places_with(admin, NAME.lower()) == []
    assert rows(admin, "select count(*) from public.invoices") == [(2,)]


def test_rows_and_columns_of_the_app_are_counted_and_left(store: Store, admin: Connection, command: Command) -> None:
    admin.execute("alter table clerk.users add column nickname text")
    admin.execute("create table public.tasks (id int primary key, title text)")
    admin.execute("select clerk_sync.secure('public.tasks', 'user')")
    admin.execute("create table public.notes (id int primary key, owner_id text)")
    admin.execute("select clerk_sync.secure('public.notes', 'user', owner_column => 'owner_id')")
    admin.execute("insert into public.notes values (1, 'user_ada')")
    store.apply([user(ADA, at=1)])
    admin.execute("update clerk.users set nickname = 'ada'")
    admin.execute("insert into public.tasks values (1, %s, 'user_ada'), (2, 'x', 'user_other')", [ADDRESS])
    store.apply([deleted("user", ADA, at=2)])
    assert command.json("forget", ADA, "--yes")["of_the_app"] == [
        {"place": "public.tasks", "column_name": "user_id", "row_count": 1},
        {"place": "public.notes", "column_name": "owner_id", "row_count": 1},
        {"place": "clerk.users", "column_name": "nickname", "row_count": 1},
    ]
    assert rows(admin, "select nickname from clerk.users") == [("ada",)]
    assert rows(admin, "select title from public.tasks where id = 1") == [(ADDRESS,)]


def test_a_table_that_follows_the_mirror_keeps_the_data_and_forget_and_export_say_so(
    store: Store, admin: Connection, command: Command
) -> None:
    admin.execute(USERS)
    switch(admin)
    store.apply([user(ADA, at=1)])
    store.apply([deleted("user", ADA, at=2)])
    kept = [{"place": "public.users", "column_name": "clerk_user_id", "row_count": 1}]
    assert command.json("forget", ADA, "--yes")["of_the_app"] == kept
    assert json.loads(command.run("export", ADA).stdout)["of_the_app"] == kept


# Asking, looking, telling


def test_forget_asks_first_and_a_dry_run_changes_nothing(
    pipeline: Pipeline, admin: Connection, command: Command
) -> None:
    fill_with_canaries(pipeline, admin)
    delete_ada(pipeline)
    before = dump(admin)
    looked = command.json("forget", ADA, "--dry-run")
    assert looked["emptied"]["clerk.users"] == 1
    assert looked["dry_run"]
    assert "Forget this person for good?" in command.run("forget", ADA, answer="n\n", status=1).stderr
    command.run("forget", ADA, "--json", status=1)
    assert dump(admin) == before
    command.run("forget", ADA, answer="y\n")
    assert places_with(admin, *CANARIES) == []


def test_a_second_time_finds_nothing_and_says_so(pipeline: Pipeline, admin: Connection, command: Command) -> None:
    fill_with_canaries(pipeline, admin)
    delete_ada(pipeline)
    first = command.json("forget", ADA, "--yes")["emptied"]
    recorded = rows(admin, "select user_ids, emptied from clerk_sync.erasures")
    assert recorded == [([ADA], first)]
    before = dump(admin)
    assert "nothing is left to empty" in command.run("forget", ADA, "--yes").stdout
    assert dump(admin) == before


def test_explain_says_when_a_person_was_erased(store: Store, admin: Connection, command: Command) -> None:
    store.apply([user(ADA, at=1), invitation(at=1, email_address="ada@example.test"), deleted("user", ADA, at=2)])
    command.run("forget", ADA, "--yes")
    year = value(admin, "select to_char(now() at time zone 'utc', 'YYYY-MM-DD')")
    told = command.run("explain", ADA).stdout
    assert f"data erased {year}" in told
    assert "forgotten" in told
    assert "clerk.users 1" in told
    assert f"data erased {year}" in command.run("explain", "orginv_1").stdout


def test_the_export_prints_every_place_that_holds_something(
    pipeline: Pipeline, admin: Connection, command: Command
) -> None:
    bystanders(pipeline)
    fill_with_canaries(pipeline, admin)
    everywhere = {table.removeprefix("clerk.") for table, _ in places_with(admin, *CANARIES)}
    exported = json.loads(command.run("export", ADA).stdout)
    assert {table.removeprefix("clerk.") for table in exported["tables"]} >= everywhere | {
        "clerk_sync.deliveries",
        "clerk_sync.entities",
    }
    [row] = exported["tables"]["clerk.users"]
    assert row["content"]["email"] == ADDRESS
    bodies = [each["content"]["body"] for each in exported["tables"]["clerk_sync.parked_events"]]
    assert {"id": "orginv_x", "email_address": ADDRESS, "note": NAME} in [
        each["data"] for each in bodies if isinstance(each, dict) and "data" in each
    ]
    text = json.dumps(exported)
    assert not any(near in text for near in NEARLY)


def test_an_export_without_anything_asks_whether_the_name_is_right(store: Store, command: Command) -> None:
    assert "nothing is held about user_mistyped; " in command.run("export", "user_mistyped").stderr
    invited = command.run("export", "--email", "nobody@example.test")
    assert json.loads(invited.stdout)["tables"] == {}
    assert "nothing is held about nobody@example.test; " in invited.stderr
    store.apply([user(ADA, at=1)])
    assert not command.run("export", ADA).stderr


def test_an_export_by_the_address_of_a_user_names_the_user(store: Store, command: Command) -> None:
    store.apply([user(ADA, at=1, email_addresses=[samples.email_address("idn_1", ADDRESS, CREATED_AT)])])
    said = command.run("export", "--email", ADDRESS).stderr
    assert said == f"not looked for: {ADDRESS.lower()}, which {ADA} has in Clerk; see: clerk-supabase export {ADA}\n"


# Queues


def test_messages_about_the_person_in_the_queues_are_counted_and_removed_and_others_stay(
    pipeline: Pipeline, account: Account, admin: Connection, command: Command
) -> None:
    sqs = account.sqs
    delete_ada(pipeline)
    dead, parked = account.sync_queue_url, account.parked_queue_url
    about = json.dumps(samples.event("organizationInvitation.created", {"email_address": ADDRESS}, timestamp=1))
    other = json.dumps(samples.event("organizationInvitation.created", {"email_address": NEARLY[0]}, timestamp=1))
    for url in (dead, parked):
        for number in range(25):
            sqs.send_message(QueueUrl=url, MessageBody=about if number % 5 == 0 else other)
    packed = base64.b64encode(about.encode() + b"\xff").decode()
    sqs.send_message(
        QueueUrl=parked,
        MessageBody=packed,
        MessageAttributes={"encoding": {"DataType": "String", "StringValue": "base64"}},
    )
    to_queues = ["--dead-letter-queue-url", dead, "--parked-queue-url", parked]

    looked = command.json("forget", ADA, "--email", ADDRESS, "--dry-run", *to_queues)["queues"]
    assert looked == {
        "dead_letters": {"seen": 25, "about": 5, "removed": 0, "unseen": 0},
        "parked": {"seen": 26, "about": 6, "removed": 0, "unseen": 0},
    }
    said = command.run("forget", ADA, "--email", ADDRESS, "--dry-run", *to_queues).stdout
    assert "dead-letter queue: 5 of 25 messages name the person" in said
    done = command.json("forget", ADA, "--email", ADDRESS, "--yes", *to_queues)["queues"]
    assert {name: each["removed"] for name, each in done.items()} == {"dead_letters": 5, "parked": 6}
    for url in (dead, parked):
        assert [each["body"] for each in account.received(url)] == [other] * 20


def test_messages_are_removed_before_the_rows_that_tell_how_to_find_them(
    pipeline: Pipeline, account: Account, database: Database, admin: Connection, command: Command
) -> None:
    fill_with_canaries(pipeline, admin)
    delete_ada(pipeline)
    dead = account.sync_queue_url
    account.sqs.send_message(QueueUrl=dead, MessageBody=json.dumps({"data": {"email_address": ADDRESS}}))
    with database.connect() as other, other.transaction():
        other.execute("lock table clerk_sync.erasures in share row exclusive mode")
        cut_off = started(lambda: command.run("forget", ADA, "--yes", "--dead-letter-queue-url", dead, status=1))
        eventually(lambda: waiting(admin), bool)
        assert account.received(dead) == []
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'clerk-supabase'"
        )
        cut_off.join(60)
    assert ADDRESS.lower() in str(dump(admin)["clerk.users", "email"]).lower()
    command.run("forget", ADA, "--yes")
    assert places_with(admin, *CANARIES) == []


def test_an_unreadable_queue_stops_nothing_and_is_reported(
    pipeline: Pipeline, account: Account, admin: Connection, command: Command
) -> None:
    fill_with_canaries(pipeline, admin)
    delete_ada(pipeline)
    assert "not looked into; name them by --stack-name" in command.run("forget", ADA, "--yes").stderr
    assert places_with(admin, *CANARIES) == []
