"""`clerk-supabase adopt supabase-auth inspect`: users, columns and callers that a move concerns."""

from __future__ import annotations

import pytest

from clerk_supabase_cli.adopt.supabase_auth.claims import counterpart
from tests.kit.databases import Connection, Database
from tests.kit.parked import Command
from tests.kit.supabase_auth import BCRYPT, MAX, SUE, app_of_three, user

STEPS = ("adopt", "supabase-auth")


@pytest.fixture
def command(database: Database, admin: Connection) -> Command:
    """Ada and Bob own a project each, and Bob is a member of Ada's; Eve never verified her address."""
    return app_of_three(database, admin)


def test_the_inspection_finds_users_columns_and_every_caller(command: Command, admin: Connection) -> None:
    user(admin, MAX, phone="4915112345678", password="$argon2id$v=19$m=16,t=2,p=1$c2FsdA$aGFzaA")
    user(admin, SUE, is_anonymous=True, password=None)
    admin.execute("create publication supabase_realtime for table public.notes, public.audit")
    admin.execute("create policy through_function on public.audit using (public.is_mine(actor))")
    seen = command.json(*STEPS, "inspect")
    users = seen["users"]
    assert users["passwords"] == {"argon2id": 1, "bcrypt": 3}
    assert [users[name] for name in ("users", "anonymous", "phone", "unconfirmed", "deleted")] == [5, 1, 1, 1, 0]
    assert users["confirmed_without_mail"] == 2
    assert {each["column"]: each["found_by"] for each in seen["columns"]} == {
        "public.audit.actor": "values",
        "public.members.user_id": "key to another table of the app",
        "public.notes.author": "key",
        "public.profiles.id": "key",
        "public.projects.owner_id": "key",
    }
    kinds = {(each["kind"], each["name"]) for each in seen["callers"] if each["fails"]}
    assert kinds == {
        ("default", "owner_id"),
        ("function", "public.is_mine(uuid)"),
        ("policy", '"own profile"'),
        ("policy", "own_memberships"),
        ("policy", "own_notes"),
        ("policy", "projects_of_owner"),
        ("policy", "through_function"),
        ("view", "my_projects"),
    }
    assert [each["name"] for each in seen["triggers"]] == ["on_auth_user_created"]
    assert seen["realtime"] == ["public.audit", "public.notes"]
    said = command.run(*STEPS, "inspect")
    assert "a single subscriber with Clerk's token breaks the batch of everybody" in said.stderr
    assert "1 of 1 sampled; move it with --column public.audit.actor" in said.stdout
    assert BCRYPT not in said.output


def test_every_claim_that_clerks_token_lacks_is_named_with_its_counterpart(command: Command, admin: Connection) -> None:
    admin.execute(
        """
        create schema storage;
        create table storage.objects (name text);
        create policy a on public.notes using ((select auth.jwt() ->> 'aal') = 'aal2' and 'aal' <> 'email');
        create policy b on public.notes using (((select auth.jwt()) -> 'app_metadata' ->> 'role') = 'admin');
        create policy c on storage.objects
        using ((nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'session_id') = name);
        create policy d on storage.objects using (auth.email() = name and auth.jwt() @> '{"is_anonymous": false}');
        create policy e on public.audit using (
            jsonb_extract_path_text(auth.jwt(), 'user_metadata', 'team') = 'a' or (auth.jwt() #>> '{tenant,id}') = 'x'
            or current_setting('request.jwt.claim.phone', true) = '1'
        );
        create policy f on public.audit using (
            (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid = actor and auth.jwt() ->> 'role' = 'x'
        );
        alter table public.audit add method text default (auth.jwt() -> 'amr' -> 0 ->> 'method');
        create function public.team() returns text language plpgsql
        as $$ declare claims jsonb := auth.jwt(); begin return claims -> 'app_metadata' ->> 'team'; end $$;
        create view public.own as select auth.jwt() ->> 'email' as email
        """
    )
    seen = command.json(*STEPS, "inspect")
    assert {each["name"]: each["claims"] for each in seen["callers"] if each["claims"]} == {
        "a": ["aal"],
        "b": ["app_metadata"],
        "c": ["session_id"],
        "d": ["email", "is_anonymous"],
        "e": ["phone", "tenant", "user_metadata"],
        "method": ["amr"],
        "public.team()": ["app_metadata"],
        "own": ["email"],
    }
    assert [each["fails"] for each in seen["callers"] if each["name"] == "f"] == [True]
    todo = {(each["what"], each["todo"].partition(", and null: ")[2]) for each in seen["todo"]}
    assert ("policy c of storage.objects", "the claim sid has the id of the session") in todo
    assert (
        "policy e of public.audit",
        "add to Clerk's session token the claim tenant, which Supabase's token had from a hook of yours",
    ) in todo
    assert ("default method of public.audit", counterpart("amr")) in todo


def test_a_database_without_supabase_auth_is_told_so(new_database: str) -> None:
    failed = Command({"DATABASE_URL": new_database}).run(*STEPS, "inspect", status=1)
    assert "there is no table auth.users" in str(failed.exception)
