"""The app's own columns, triggers and foreign keys on any synced table: never overwritten, never in the way."""

from __future__ import annotations

import json
from typing import Any, LiteralString

import pytest
from psycopg import sql

from clerk_supabase.errors import ChangeRefused
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.standin import samples
from tests.kit.aws import Account
from tests.kit.databases import Connection, Database, acting_as, outcomes, rows, value
from tests.kit.examples import example, whole_type
from tests.kit.histories import CREATED_AT, RECEIVED_AT, Applied
from tests.kit.kinds import LATER, OURS
from tests.kit.pipeline import Pipeline
from tests.kit.purging import let_time_pass, purge, undo
from tests.kit.webhooks import deleted, domain, invitation, membership, organization, told, user

TABLES = [FACTS[kind].table for kind in OURS]
PRIVATE = "ada@private.example"


def one_of_each(at: int, **fields: Any) -> list[Applied]:
    """An event about an entity of every kind."""
    return [
        *(make(at=at, **fields) for make in (user, organization, membership, invitation, domain)),
        *rest(at, **fields),
    ]


def rest(at: int, **fields: Any) -> list[Applied]:
    """An event about an entity of every other kind, of the same user where the kind has one."""
    parents: Any = {"user_id": "user_1", "org_id": "org_1"}
    times: Any = {"created_at": CREATED_AT, "updated_at": CREATED_AT + at}
    return [
        # Without the items that a subscription brings along.
        told(whole_type(kind), example(kind, f"{kind}_1", **parents, **times, items=[], **fields), at=at)
        for kind in LATER
    ]


def changed_all(at: int) -> list[Applied]:
    """A real change of an entity of every kind."""
    return [
        user(at=at, first_name="New"),
        organization(at=at, name="New"),
        membership(at=at, role="org:new"),
        invitation(at=at, status="new"),
        domain(at=at, name="new.test"),
        *rest(at, name="New", status="new"),
    ]


def add_columns(admin: Connection, *definitions: LiteralString) -> None:
    """Adds these columns to every synced table."""
    for table in TABLES:
        for definition in definitions:
            statement = sql.SQL("alter table {} add column {}")
            admin.execute(statement.format(sql.Identifier("clerk", table), sql.SQL(definition)))


def own(admin: Connection, column: LiteralString) -> set[Any]:
    """The values of a column of the app's over all tables; every table has a row."""
    found = [row for table in TABLES for row in admin.execute(_select(table, column)).fetchall()]
    assert len(found) >= len(TABLES)
    return {each for (each,) in found}


def _select(table: str, column: LiteralString) -> sql.Composed:
    return sql.SQL("select {} from {}").format(sql.Identifier(column), sql.Identifier("clerk", table))


# Columns


def test_a_column_of_the_apps_keeps_its_value_through_updates_and_deletes(store: Store, admin: Connection) -> None:
    store.apply(one_of_each(at=1))
    add_columns(admin, "favourite text")
    for table in TABLES:
        admin.execute(sql.SQL("update {} set favourite = 'tea'").format(sql.Identifier("clerk", table)))

    assert store.apply(changed_all(at=2)) == ["updated"] * len(TABLES)
    assert own(admin, "favourite") == {"tea"}
    store.apply([deleted("organization", "org_1", at=3), deleted("user", "user_1", at=3)])
    assert own(admin, "favourite") == {"tea"}
    store.apply(changed_all(at=4))
    assert own(admin, "favourite") == {"tea"}


def test_columns_of_the_apps_get_their_defaults_in_rows_that_sync_makes_stubs_too(
    store: Store, admin: Connection
) -> None:
    add_columns(admin, "plan text not null default 'free'", "number bigint generated always as identity")
    assert {*store.apply([membership(at=1), invitation(at=1), domain(at=1), *rest(1)])} == {"created"}
    assert own(admin, "plan") == {"free"}
    assert own(admin, "number") == {1}


def test_columns_of_the_apps_may_be_of_any_type(store: Store, admin: Connection) -> None:
    admin.execute("create domain public.never_null as text not null check (value <> '')")
    admin.execute("create type public.mood as enum ('good', 'bad')")
    add_columns(
        admin,
        "a public.never_null default 'x'",
        "b public.mood not null default 'good'",
        # Neither has an equality.
        "c json default '{}'",
        "d point default '(1,2)'",
        "e text[] default '{x}'",
        "f timestamptz not null default now()",
        "g tsvector",
    )
    assert store.apply(one_of_each(at=1)) == ["created"] * len(TABLES)
    assert store.apply(changed_all(at=2)) == ["updated"] * len(TABLES)
    assert store.apply([deleted("user", "user_1", at=3), deleted("organization", "org_1", at=3)]) == ["deleted"] * 2
    assert own(admin, "a") == {"x"}
    assert own(admin, "b") == {"good"}


# Words that functions which write to these tables may use for something of their own.
NAMES: list[LiteralString] = [
    *("deleted", "given", "kept", "changed", "missing", "winner", "winners", "keys"),
    *("due", "named", "after", "before", "differing", "new_row", "old_row", "new_rows"),
    *("old_rows", "causes", "caller", "default_cause", "entities", "parent", "version", "content"),
    *("target", "batch", "earliest", "said", "synced", "apps_own", "purged_at", "exists"),
    *("position", "id", "kind", "outcome", "svix_id", "cause", "source_updated_at", "observed_at"),
    *("excluded", "a", "c", "d", "e", "i", "k", "m"),
    *("n", "o", "p", "r", "t", "u", "w", "x"),
]


def test_columns_of_the_apps_may_have_any_name(store: Store, admin: Connection) -> None:
    for table in [*TABLES, "users_public"]:
        for name in NAMES:
            statement = sql.SQL("alter table {} add column {} text default 'mine'")
            admin.execute(statement.format(sql.Identifier("clerk", table), sql.Identifier(name)))

    assert store.apply(one_of_each(at=1)) == ["created"] * len(TABLES)
    assert store.apply(changed_all(at=2)) == ["updated"] * len(TABLES)
    admin.execute("update clerk.users set n = 'edited'")
    assert store.apply([deleted("user", "user_1", at=3), deleted("organization", "org_1", at=3)]) == ["deleted"] * 2
    assert [own(admin, name) for name in NAMES if name != "n"] == [{"mine"}] * (len(NAMES) - 1)
    logged = rows(admin, "select distinct entity_id, operation from clerk_sync.audit_log order by 1, 2")
    ids = ["org_1", "orgdmn_1", "orginv_1", "orgmem_1", "user_1", *(f"{kind}_1" for kind in LATER)]
    assert logged == [(each, operation) for each in sorted(ids) for operation in ("insert", "update")]
    admin.execute("delete from clerk.users")
    gone = rows(admin, "select entity_id from clerk_sync.audit_log where operation = 'delete' order by 1")
    of_users = [f"{kind}_1" for kind in LATER if "user" in FACTS[kind].parents.values()]
    assert gone == [(each,) for each in sorted(["orgmem_1", "user_1", *of_users])]


# Triggers


@pytest.fixture
def fired(admin: Connection) -> Connection:
    """A table in which every possible trigger of the app, on every synced table, records each call."""
    admin.execute("create table public.fired (what text)")
    admin.execute(
        """
        create function public.note() returns trigger language plpgsql security definer as $$
        begin
            insert into public.fired values (concat_ws(' ', tg_table_name, tg_when, tg_op, tg_level));
            return new;
        end $$
        """
    )
    for table in TABLES:
        for when in ("before", "after"):
            for level in ("row", "statement"):
                statement = "create trigger {} {} insert or update on {} for each {} execute function public.note()"
                name = f"app_{when}_{level}"
                admin.execute(
                    sql.SQL(statement).format(
                        sql.Identifier(name), sql.SQL(when), sql.Identifier("clerk", table), sql.SQL(level)
                    )
                )
    return admin


def test_an_event_that_changes_nothing_fires_no_trigger_of_the_app_on_any_table(
    store: Store, fired: Connection
) -> None:
    store.apply(one_of_each(at=1))
    fired.execute("truncate public.fired")
    moved = {"last_active_at": 5, "members_count": 9, "identifier": "other"}
    assert store.apply(one_of_each(at=5, **moved)) == ["unchanged"] * len(TABLES)
    assert store.apply(one_of_each(at=2)) == ["stale"] * len(TABLES)
    assert rows(fired, "select distinct what from public.fired") == []


def test_a_membership_of_known_parents_fires_no_trigger_of_the_app_on_the_parents(
    store: Store, fired: Connection
) -> None:
    store.apply([user(at=1, last_name="True"), organization(at=1, name="True")])
    fired.execute("truncate public.fired")
    assert store.apply([membership(at=9)]) == ["created"]
    assert {what.split()[0] for (what,) in rows(fired, "select what from public.fired")} == {"organization_memberships"}


def test_the_work_of_a_trigger_of_the_app_commits_with_the_membership(store: Store, admin: Connection) -> None:
    admin.execute(
        """
        create table public.seats (org text primary key references clerk.organizations, taken int not null default 0);
        create function public.take_a_seat() returns trigger language plpgsql as $$
        begin
            insert into public.seats values (new.clerk_org_id, 1)
            on conflict (org) do update set taken = seats.taken + 1;
            return new;
        end $$;
        create trigger take_a_seat after insert on clerk.organization_memberships
        for each row execute function public.take_a_seat();
        """
    )
    store.apply([membership("orgmem_1", at=1), membership("orgmem_2", user_id="user_2", at=1)])
    store.apply([membership("orgmem_1", at=2, role="org:admin")])
    assert rows(admin, "select org, taken from public.seats") == [("org_1", 2)]


def test_a_trigger_of_the_app_may_fill_its_own_column(store: Store, admin: Connection) -> None:
    add_columns(admin, "touched int default 0")
    admin.execute(
        """
        create function public.touch() returns trigger language plpgsql as
        $$ begin new.touched := new.touched + 1; return new; end $$;
        create trigger touch before update on clerk.organizations for each row execute function public.touch();
        """
    )
    store.apply([organization(at=1)])
    store.apply([organization(at=2, name="New")])
    store.apply([organization(at=3, name="New", members_count=3)])
    assert value(admin, "select touched from clerk.organizations") == 1


def test_a_membership_that_a_trigger_of_the_app_refuses_fails_alone(store: Store, admin: Connection) -> None:
    admin.execute(
        """
        create function public.no_robots() returns trigger language plpgsql as $$
        begin
            if new.role = 'org:robot' then raise exception 'no robots: %', new; end if;
            return new;
        end $$;
        create trigger no_robots before insert on clerk.organization_memberships
        for each row execute function public.no_robots();
        """
    )
    first, refused, last = store.apply(
        [
            membership("orgmem_1", at=1),
            membership("orgmem_2", user_id="user_2", at=1, role="robot", public_metadata={"note": PRIVATE}),
            membership("orgmem_3", user_id="user_3", at=1),
        ]
    )
    assert (first, last) == ("created", "created")
    assert isinstance(refused, ChangeRefused)
    assert PRIVATE not in str(refused)
    # Its user did not stay behind.
    assert rows(admin, "select clerk_id from clerk.users order by 1") == [("user_1",), ("user_3",)]


# Foreign keys


def test_rows_of_the_app_that_point_to_any_table_survive_the_delete_in_clerk(store: Store, admin: Connection) -> None:
    admin.execute(
        """
        create table public.tasks (
            owner text not null references clerk.users,
            team text not null references clerk.organizations,
            assignee text not null references clerk.organization_memberships,
            invited text not null references clerk.organization_invitations,
            site text not null references clerk.organization_domains
        )
        """
    )
    store.apply(one_of_each(at=1))
    admin.execute("insert into public.tasks values ('user_1', 'org_1', 'orgmem_1', 'orginv_1', 'orgdmn_1')")
    gone = [
        deleted("organizationDomain", "orgdmn_1", at=2),
        deleted("organizationMembership", "orgmem_1", at=2),
        deleted("user", "user_1", at=3),
        deleted("organization", "org_1", at=3),
    ]
    assert store.apply(gone) == ["deleted"] * 4
    assert value(admin, "select count(*) from public.tasks") == 1


def test_a_transaction_of_the_app_that_points_to_rows_does_not_hold_sync_up(
    store: Store, database: Database, admin: Connection
) -> None:
    admin.execute(
        """
        create table public.tasks (
            owner text references clerk.users,
            team text references clerk.organizations,
            assignee text references clerk.organization_memberships
        )
        """
    )
    store.apply(one_of_each(at=1))
    with database.connect() as app, app.transaction():
        app.execute("insert into public.tasks values ('user_1', 'org_1', 'orgmem_1')")
        assert store.apply(changed_all(at=2)) == ["updated"] * len(TABLES)
        assert store.apply([deleted("user", "user_1", at=3), deleted("organization", "org_1", at=3)]) == ["deleted"] * 2
    assert value(admin, "select count(*) from public.tasks") == 1


# A key of the app that also points to what a profile says, which is emptied with its user.
REFUSING = {"at once": "", "at the end": "deferrable initially deferred"}


def insist_on_names(admin: Connection, when: LiteralString = "") -> None:
    """A table of the app that refuses a change of its authors' names."""
    admin.execute("create unique index authors on clerk.users_public (clerk_id, first_name)")
    admin.execute(
        "create table public.posts (author text not null, name text not null, constraint every_post_has_an_author "
        "foreign key (author, name) references clerk.users_public (clerk_id, first_name) " + when + ")"
    )


@pytest.mark.parametrize("when", REFUSING.values(), ids=REFUSING)
def test_a_foreign_key_of_the_app_that_refuses_a_delete_is_named_and_stops_nobody_else(
    when: LiteralString, account: Account, store: Store, admin: Connection
) -> None:
    insist_on_names(admin, when)
    pipeline = Pipeline(account, store, RECEIVED_AT)
    for number in (1, 2, 3):
        data = samples.user(f"user_{number}", created_at=CREATED_AT, updated_at=CREATED_AT, last_name=PRIVATE)
        pipeline.post(json.dumps(samples.event("user.created", data, timestamp=CREATED_AT)), f"msg_{number}")
    assert pipeline.drain() == []
    admin.execute("insert into public.posts values ('user_2', 'Ada')")

    for number in (1, 2, 3):
        gone = samples.event("user.deleted", samples.deleted("user", f"user_{number}"), timestamp=CREATED_AT + 1)
        pipeline.post(json.dumps(gone), f"msg_gone_{number}")
    assert pipeline.drain() == []

    [(svix_id, reason)] = pipeline.parked(admin).items()
    assert svix_id == "msg_gone_2"
    assert "every_post_has_an_author" in reason
    assert "posts" in reason
    assert "Ada" not in reason
    assert outcomes(admin) == {
        **{f"msg_{number}": "created" for number in (1, 2, 3)},
        **{f"msg_gone_{number}": "deleted" for number in (1, 3)},
    }
    assert rows(admin, "select clerk_id from clerk.users where deleted_at is null") == [("user_2",)]
    # The row stays, and the user's access ends.
    assert rows(admin, "select id from clerk_sync.entities where deleted_at is null") == []


def test_once_the_app_allows_it_the_same_delete_is_applied(store: Store, admin: Connection) -> None:
    insist_on_names(admin)
    store.apply([user(at=1)])
    admin.execute("insert into public.posts values ('user_1', 'Ada')")
    [refused] = store.apply([deleted("user", "user_1", at=2, svix_id="msg_1")])
    assert isinstance(refused, ChangeRefused)
    admin.execute("delete from public.posts")
    assert store.apply([deleted("user", "user_1", at=2, svix_id="msg_1")]) == ["deleted"]
    assert outcomes(admin) == {"msg_1": "deleted"}


KEYS: dict[str, LiteralString] = {
    "no action": "",
    "restrict": "on delete restrict on update restrict",
    "at the end": "deferrable initially deferred",
    "cascade": "on delete cascade on update cascade",
}


@pytest.fixture(params=KEYS)
def key(request: pytest.FixtureRequest, store: Store, admin: Connection) -> str:
    """Key of the app on profiles, by its name in KEYS; the author of its only row was deleted since."""
    admin.execute(
        "create table public.posts (author text not null constraint every_post_has_an_author "
        "references clerk.users_public (clerk_id) " + KEYS[request.param] + ")"
    )
    store.apply([user(at=1, last_name=PRIVATE, username="ada"), user("user_2", at=1)])
    admin.execute("insert into public.posts values ('user_1')")
    assert store.apply([deleted("user", "user_1", at=2)]) == ["deleted"]
    name: str = request.param
    return name


def profile(admin: Connection) -> tuple[object, ...]:
    """The profile of the author."""
    [found] = rows(admin, "select username, last_name, deleted_at from clerk.users_public where clerk_id = 'user_1'")
    return found


def test_a_key_on_profiles_does_not_stop_a_delete_and_nobody_sees_the_emptied_profile(
    key: str, admin: Connection
) -> None:
    username, last_name, deleted_at = profile(admin)
    assert (username, last_name, deleted_at is not None) == (None, None, True)
    assert rows(admin, "select author from public.posts") == [("user_1",)]
    for reader in ("user_1", "user_2"):
        with acting_as(admin, "authenticated", {"sub": reader}):
            seen = rows(admin, "select clerk_id from clerk.users_public")
        assert seen == ([("user_2",)] if reader == "user_2" else [])


def test_an_undo_fills_the_profile_again(key: str, admin: Connection) -> None:
    assert undo(admin) == [["user", "user_1"]]
    assert profile(admin) == ("ada", PRIVATE, None)


@pytest.mark.parametrize("how", ["scrub", "delete"])
def test_a_key_on_profiles_cascades_or_refuses_as_one_on_users_when_the_user_is_purged(
    how: str, key: str, database: Database, admin: Connection
) -> None:
    let_time_pass(admin)
    [(kind, outcome, constraint, number)] = purge(database, how)
    assert (kind, number) == ("user", 1)
    left = rows(admin, "select clerk_id, last_name from clerk.users where deleted_at is not null")
    if how == "delete" and key == "cascade":
        assert (outcome, constraint, left) == ("deleted", None, [])
        assert rows(admin, "select author from public.posts") == []
        assert rows(admin, "select clerk_id from clerk.users_public") == [("user_2",)]
        return
    refused = ("refused", "every_post_has_an_author")
    assert (outcome, constraint) == (refused if how == "delete" else ("scrubbed", None))
    assert left == [("user_1", None)]
    assert rows(admin, "select author from public.posts") == [("user_1",)]
    assert profile(admin)[:2] == (None, None)


def test_a_foreign_key_of_the_app_on_a_synced_column_refuses_by_name(store: Store, admin: Connection) -> None:
    admin.execute(
        """
        create table public.roles (role text primary key);
        insert into public.roles values ('org:member');
        alter table clerk.organization_memberships add constraint a_known_role foreign key (role)
        references public.roles;
        """
    )
    answers = store.apply([membership("orgmem_1", at=1), membership("orgmem_2", at=1, role="org:unknown")])
    assert answers[0] == "created"
    assert isinstance(answers[1], ChangeRefused)
    assert "a_known_role" in str(answers[1])
    assert "org:unknown" not in str(answers[1])


def test_a_unique_index_of_the_app_refuses_by_name_and_alone(store: Store, admin: Connection) -> None:
    admin.execute("create unique index one_slug on clerk.organizations (slug)")
    answers = store.apply([organization(f"org_{number}", at=1, slug="same") for number in (1, 2)] + [invitation(at=1)])
    assert [answers[0], answers[2]] == ["created", "created"]
    assert "one_slug" in str(answers[1])
