"""The audit log: every real change, with the values before and after and the cause; and no entry without a change."""

from __future__ import annotations

from typing import Any, LiteralString

import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from clerk_supabase.errors import ChangeRefused
from clerk_supabase.postgres.store import Store
from tests.kit.databases import Connection, acting_as, rows, value
from tests.kit.webhooks import deleted, domain, invitation, membership, organization, user

WHAT: LiteralString = "select operation, kind, entity_id, cause, svix_id from clerk_sync.audit_log order by audit_id"


def logged(admin: Connection) -> list[dict[str, Any]]:
    """The log as objects, oldest first."""
    return [row for (row,) in rows(admin, "select to_jsonb(l) from clerk_sync.audit_log as l order by audit_id")]


def forget(admin: Connection) -> None:
    admin.execute("delete from clerk_sync.audit_log")


def test_a_new_row_is_logged_as_it_is(store: Store, admin: Connection) -> None:
    store.apply([user(at=1, first_name="Ada", svix_id="msg_1")])
    [entry] = logged(admin)
    assert (entry["operation"], entry["kind"], entry["entity_id"]) == ("insert", "user", "user_1")
    assert (entry["cause"], entry["svix_id"]) == ("delivery", "msg_1")
    assert entry["old_values"] is None
    assert entry["changed_columns"] == []
    assert entry["new_values"] == value(admin, "select to_jsonb(u) from clerk.users as u")
    assert value(admin, "select recorded_at between now() - interval '1 minute' and now() from clerk_sync.audit_log")


def test_a_change_is_logged_with_what_was_and_what_is_of_the_columns_that_changed(
    store: Store, admin: Connection
) -> None:
    store.apply([user(at=1, first_name="Ada", username="ada")])
    forget(admin)
    store.apply([user(at=2, first_name="Augusta", username=None, public_metadata={"plan": "pro"}, svix_id="msg_2")])
    [entry] = logged(admin)
    assert (entry["operation"], entry["cause"], entry["svix_id"]) == ("update", "delivery", "msg_2")
    assert entry["old_values"] == {"first_name": "Ada", "public_metadata": {}, "username": "ada"}
    assert entry["new_values"] == {"first_name": "Augusta", "public_metadata": {"plan": "pro"}, "username": None}
    assert entry["changed_columns"] == ["first_name", "public_metadata", "username"]


def test_a_delete_in_clerk_is_logged_as_the_change_it_is(store: Store, admin: Connection) -> None:
    store.apply([user(at=1)])
    forget(admin)
    store.apply([deleted("user", "user_1", at=2, svix_id="msg_2")])
    [entry] = logged(admin)
    assert (entry["operation"], entry["cause"], entry["svix_id"]) == ("update", "delivery", "msg_2")
    assert entry["changed_columns"] == ["deleted_at"]


def test_every_kind_is_logged_under_its_own_id(store: Store, admin: Connection) -> None:
    store.apply([user(at=1), organization(at=1), membership(at=1), invitation(at=1), domain(at=1)])
    assert rows(admin, "select kind, entity_id from clerk_sync.audit_log order by kind") == [
        ("domain", "orgdmn_1"),
        ("invitation", "orginv_1"),
        ("membership", "orgmem_1"),
        ("organization", "org_1"),
        ("user", "user_1"),
    ]


# Causes


def test_a_change_that_no_webhook_brought_is_the_operators(store: Store, admin: Connection) -> None:
    store.apply([user(at=1)])
    assert rows(admin, WHAT) == [("insert", "user", "user_1", "operator", None)]


def test_parents_that_a_membership_makes_are_logged_with_its_delivery(store: Store, admin: Connection) -> None:
    store.apply([membership(at=1, svix_id="msg_1")])
    assert rows(admin, WHAT) == [
        ("insert", "user", "user_1", "delivery", "msg_1"),
        ("insert", "organization", "org_1", "delivery", "msg_1"),
        ("insert", "membership", "orgmem_1", "delivery", "msg_1"),
    ]


def test_rows_deleted_with_their_organization_are_logged_as_a_cascade(store: Store, admin: Connection) -> None:
    store.apply([membership(at=1), invitation(at=1), domain(at=1)])
    forget(admin)
    store.apply([deleted("organization", "org_1", at=2, svix_id="msg_2")])
    assert rows(admin, WHAT) == [
        ("update", "organization", "org_1", "delivery", "msg_2"),
        ("update", "membership", "orgmem_1", "cascade", None),
        ("update", "invitation", "orginv_1", "cascade", None),
        ("update", "domain", "orgdmn_1", "cascade", None),
    ]


def test_in_a_mixed_batch_each_change_keeps_its_own_cause(store: Store, admin: Connection) -> None:
    store.apply([membership(at=1), membership("orgmem_2", user_id="user_2", at=1)])
    forget(admin)
    store.apply(
        [
            membership("orgmem_2", user_id="user_2", at=2, role="org:admin", svix_id="msg_2"),
            deleted("user", "user_1", at=2, svix_id="msg_1"),
            organization(at=2, name="New"),
            domain(at=2, svix_id="msg_3"),
        ]
    )
    assert sorted(rows(admin, WHAT), key=lambda row: row[2]) == [
        ("update", "organization", "org_1", "operator", None),
        ("insert", "domain", "orgdmn_1", "delivery", "msg_3"),
        ("update", "membership", "orgmem_1", "cascade", None),
        ("update", "membership", "orgmem_2", "delivery", "msg_2"),
        ("update", "user", "user_1", "delivery", "msg_1"),
    ]


@pytest.mark.parametrize("backwards", [False, True])
def test_of_two_events_about_one_user_in_a_batch_the_log_names_the_one_that_counted(
    backwards: bool, store: Store, admin: Connection
) -> None:
    batch = [user(at=2, first_name="Second", svix_id="msg_2"), user(at=3, first_name="Third", svix_id="msg_3")]
    store.apply(batch[::-1] if backwards else batch)
    assert rows(admin, WHAT) == [("insert", "user", "user_1", "delivery", "msg_3")]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_delete_is_the_cause_although_an_update_is_in_the_same_batch(
    backwards: bool, store: Store, admin: Connection
) -> None:
    store.apply([user(at=5)])
    forget(admin)
    # No webhook brought the update, which is stale besides.
    batch = [
        user(at=4),
        deleted("user", "user_1", at=7, svix_id="msg_7"),
        deleted("user", "user_1", at=6, svix_id="msg_6"),
    ]
    store.apply(batch[::-1] if backwards else batch)
    assert rows(admin, WHAT) == [("update", "user", "user_1", "delivery", "msg_6")]


@pytest.mark.parametrize(
    ("statement", "operation", "changed"),
    [
        ("update clerk.users set first_name = 'Edited', locked = true", "update", ["first_name", "locked"]),
        ("delete from clerk.users", "delete", []),
        ("insert into clerk.users (clerk_id) values ('user_2')", "insert", []),
    ],
)
def test_an_edit_by_hand_names_the_role_that_made_it(
    statement: LiteralString, operation: str, changed: list[str], store: Store, admin: Connection
) -> None:
    store.apply([user(at=1)])
    forget(admin)
    admin.execute(statement)
    [entry] = logged(admin)
    assert (entry["operation"], entry["changed_columns"]) == (operation, changed)
    assert (entry["cause"], entry["svix_id"]) == ("direct:postgres", None)


def test_an_edit_through_the_api_names_the_role_of_the_request(store: Store, admin: Connection) -> None:
    # The API itself logs in as a role without any right.
    store.apply([user(at=1)])
    forget(admin)
    with acting_as(admin, "service_role", {"role": "service_role"}):
        admin.execute("update clerk.users set first_name = 'Edited'")
    assert [entry["cause"] for entry in logged(admin)] == ["direct:service_role"]


def test_the_cause_of_a_batch_does_not_stick_to_the_session(store: Store, admin: Connection) -> None:
    batch = '[{"kind": "user", "id": "user_1", "deleted_at": 5, "cause": "reconcile", "svix_id": "reconcile-0-user_1"}]'
    admin.execute("insert into clerk.users (clerk_id) values ('user_1')")
    forget(admin)
    admin.execute("select clerk_sync.apply(%s::jsonb)", [batch])
    admin.execute("update clerk.users set first_name = 'Edited'")
    assert [entry["cause"] for entry in logged(admin)] == ["reconcile", "direct:postgres"]


AUDITED: dict[str, tuple[LiteralString, LiteralString]] = {
    "users": ("clerk_id", "insert into clerk.users (clerk_id) values ('new')"),
    "organizations": ("clerk_org_id", "insert into clerk.organizations (clerk_org_id) values ('new')"),
    "organization_memberships": (
        "clerk_membership_id",
        "insert into clerk.organization_memberships values ('new', 'org_1', 'user_1', 'org:member')",
    ),
    "organization_invitations": (
        "clerk_invitation_id",
        "insert into clerk.organization_invitations values ('new', 'org_1', 'guest@example.test', 'org:member')",
    ),
    "organization_domains": ("clerk_domain_id", "insert into clerk.organization_domains values ('new', 'org_1')"),
}
FORGED = '{"": ["delivery", "msg_forged"], "new": ["delivery", "msg_forged"]}'


@pytest.mark.parametrize("table", AUDITED)
@pytest.mark.parametrize("operation", ["insert", "update", "delete", "merge"])
def test_a_writer_of_a_table_cannot_forge_the_cause(
    operation: str, table: str, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1), organization(at=1), membership(at=1), invitation(at=1), domain(at=1)])
    forget(admin)
    key, insert = AUDITED[table]
    names = {"table": sql.Identifier("clerk", table), "key": sql.Identifier(key)}
    statements: dict[str, sql.SQL | sql.Composed] = {
        "insert": sql.SQL(insert),
        # Also what is set while the statement runs is not believed.
        "update": sql.SQL(
            "update {table} set created_at = case when set_config('clerk_sync.causes', %s, true) <> '' then now() end"
        ).format(**names),
        "delete": sql.SQL("delete from {table}").format(**names),
        "merge": sql.SQL(
            "merge into {table} as t using (values (1)) as v (n) on true "
            "when matched then update set deleted_at = now()"
        ).format(**names),
    }
    with acting_as(admin, "service_role"):
        admin.execute("select set_config('clerk_sync.causes', %s, false)", [FORGED])
        admin.execute(statements[operation], [FORGED] if operation == "update" else None)
    causes = {(entry["cause"], entry["svix_id"]) for entry in logged(admin)}
    # A cascade of a foreign key runs as the owner of the table, on behalf of the role that deleted the parent.
    assert causes == {("direct:service_role", None)}


@pytest.mark.parametrize("security", ["invoker", "definer"])
def test_a_function_of_the_app_cannot_forge_the_cause(security: LiteralString, store: Store, admin: Connection) -> None:
    store.apply([user(at=1)])
    forget(admin)
    with admin.transaction(force_rollback=True):
        admin.execute("create role app_writer; grant select, update on clerk.users to app_writer")
        admin.execute(
            sql.SQL(
                """
                create policy app_writes on clerk.users to app_writer using (true);
                create function public.edit() returns void language plpgsql security {} as $$ begin
                    perform set_config('clerk_sync.causes', '{{"user_1": ["delivery", "msg_forged"]}}', true);
                    update clerk.users set first_name = 'Edited';
                end $$;
                grant create on schema public to app_writer; grant usage on schema clerk to app_writer;
                alter function public.edit() owner to app_writer
                """
            ).format(sql.SQL(security))
        )
        with acting_as(admin, "service_role"):
            admin.execute("select public.edit()")
        admin.execute("reset role")
        assert [(entry["cause"], entry["svix_id"]) for entry in logged(admin)] == [("direct:service_role", None)]


# Nothing that is not a change


def test_a_write_that_changes_nothing_is_not_logged(store: Store, admin: Connection) -> None:
    store.apply([membership(at=5), user(at=5), organization(at=5), invitation(at=5), domain(at=5)])
    store.apply([deleted("organizationDomain", "orgdmn_1", at=6)])
    forget(admin)
    store.apply(
        [
            user(at=7, last_sign_in_at=7, svix_id="msg_sign_in"),
            user(at=3, first_name="Stale", svix_id="msg_stale"),
            membership(at=5, svix_id="msg_tie"),
            membership(at=4, role="org:stale"),
            organization(at=8, members_count=9),
            invitation(at=9, url="https://clerk.example.test/other"),
            deleted("organizationDomain", "orgdmn_1", at=7),
        ]
    )
    assert logged(admin) == []


@pytest.mark.parametrize(
    "statement",
    [
        "update clerk.users set first_name = first_name",
        "update clerk.users set first_name = 'Nobody' where false",
        "insert into clerk.users select * from clerk.users on conflict do nothing",
        "delete from clerk.users where false",
    ],
)
def test_a_statement_that_changes_no_row_is_not_logged(
    statement: LiteralString, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1)])
    forget(admin)
    admin.execute(statement)
    assert logged(admin) == []


def test_values_in_columns_of_the_apps_are_not_logged(store: Store, admin: Connection) -> None:
    admin.execute("alter table clerk.users add column last_seen timestamptz")
    store.apply([user(at=1)])
    admin.execute("update clerk.users set last_seen = now()")
    [sign_up] = logged(admin)
    assert "last_seen" not in sign_up["new_values"]
    forget(admin)
    admin.execute("update clerk.users set last_seen = now(), first_name = 'Edited'")
    [edit] = logged(admin)
    assert edit["changed_columns"] == ["first_name"]


ALTERATIONS: dict[str, LiteralString] = {
    "renamed": "alter table clerk.users rename column locale to tongue",
    "dropped": "alter table clerk.users drop column locale",
    # Without an equality.
    "of another type": "alter table clerk.users alter column locale type json using to_json(locale)",
}


@pytest.mark.parametrize("alteration", ALTERATIONS.values(), ids=ALTERATIONS)
def test_a_table_whose_columns_the_app_altered_is_still_logged(
    alteration: LiteralString, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1, first_name="Ada")])
    forget(admin)
    admin.execute(alteration)
    admin.execute("update clerk.users set first_name = 'Edited', locked = true")
    [entry] = logged(admin)
    assert entry["changed_columns"] == ["first_name", "locked"]
    assert entry["old_values"] == {"first_name": "Ada", "locked": False}
    assert entry["new_values"] == {"first_name": "Edited", "locked": True}


def test_values_differ_in_the_log_if_they_differ_as_json_whatever_their_type_says(
    store: Store, admin: Connection
) -> None:
    store.apply([user(at=1, public_metadata={"price": 1})])
    admin.execute("select clerk_sync.mirror_column('user', 'absence', $$interval default '1 month'$$)")
    forget(admin)
    admin.execute("update clerk.users set public_metadata = %s", ['{"price": 1.00}'])
    assert logged(admin) == []
    # For Postgres, a month is 30 days.
    admin.execute("update clerk.users set absence = '30 days'")
    assert logged(admin)[0]["changed_columns"] == ["absence"]


def test_a_refused_write_is_not_logged(store: Store, admin: Connection) -> None:
    admin.execute("alter table clerk.users add constraint no_robots check (first_name <> 'Robot')")
    created, refused = store.apply([user(at=1), user("user_2", at=1, first_name="Robot")])
    assert created == "created"
    assert isinstance(refused, ChangeRefused)
    assert [entry["entity_id"] for entry in logged(admin)] == ["user_1"]


# Set-based


@pytest.fixture
def statements(admin: Connection) -> Connection:
    """Counts the statements that write rows to the log."""
    admin.execute("create table public.statements (number bigint generated always as identity)")
    admin.execute(
        """
        create function public.count_statement() returns trigger language plpgsql security definer as
        $$ begin
            if exists (select from written) then insert into public.statements default values; end if;
            return null;
        end $$;
        create trigger counting after insert on clerk_sync.audit_log referencing new table as written
        for each statement execute function public.count_statement();
        """
    )
    return admin


def test_many_rows_of_a_statement_are_logged_by_one(store: Store, statements: Connection) -> None:
    store.apply([user(f"user_{number}", at=1) for number in range(50)])
    assert len(logged(statements)) == 50
    assert value(statements, "select count(*) from public.statements") == 1

    statements.execute("update clerk.users set locale = 'de'")
    assert len(logged(statements)) == 100
    assert value(statements, "select count(*) from public.statements") == 2


def test_hiding_many_memberships_is_logged_by_one_statement(store: Store, statements: Connection) -> None:
    store.apply([membership(f"orgmem_{number}", user_id=f"user_{number}", at=1) for number in range(50)])
    statements.execute("truncate public.statements")
    store.apply([deleted("organization", "org_1", at=2)])
    # One for the organization, one for all of its members.
    assert value(statements, "select count(*) from public.statements") == 2
    assert value(statements, "select count(*) from clerk_sync.audit_log where cause = 'cascade'") == 50


# Nobody writes or reads it


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role", "clerk_sync_worker"])
@pytest.mark.parametrize(
    "statement",
    [
        "select count(*) from clerk_sync.audit_log",
        "delete from clerk_sync.audit_log",
        "update clerk_sync.audit_log set cause = 'nobody'",
        "insert into clerk_sync.audit_log default values",
    ],
)
def test_nobody_but_the_owner_touches_the_log(role: str, statement: LiteralString, admin: Connection) -> None:
    with pytest.raises(InsufficientPrivilege), acting_as(admin, role, None):
        admin.execute(statement)


def test_the_log_follows_a_change_that_is_rolled_back(store: Store, admin: Connection) -> None:
    store.apply([user(at=1)])
    forget(admin)
    with admin.transaction(force_rollback=True):
        admin.execute("update clerk.users set first_name = 'Edited'")
        assert len(logged(admin)) == 1
    assert logged(admin) == []
