"""docs/troubleshooting.md: each symptom is tried, here or in the test that is named here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg

from clerk_supabase.postgres.store import Store
from tests.kit import webhooks
from tests.kit.databases import Connection, acting_as, rows
from tests.kit.documents import ROOT, names_of_tests, table_of

PAGE = ROOT / "docs" / "troubleshooting.md"
ADA = {"sub": "user_ada", "role": "authenticated"}
IN_LABS = ADA | {"v": 2, "o": {"id": "org_labs", "rol": "admin", "slg": "labs"}}

# The first words of a symptom, and the test that meets the symptom with its cause.
TRIED = {
    "`42501` in an organization that was made": "test_a_token_alone_does_not_make_a_member_nor_an_admin",
    "401 `PGRST301`": "test_a_forged_or_expired_token_opens_nothing",
    "401 `PGRST303`": "test_a_forged_or_expired_token_opens_nothing",
    "404 `PGRST205`": "test_the_machinery_is_not_served",
    "406 `PGRST106`": "test_the_machinery_is_not_served",
    "no row of `clerk.users`": "test_a_banned_user_has_no_access_although_their_token_is_good",
    "`null` in place of an embedded profile": "test_one_setting_says_who_sees_profiles_and_doctor_repeats_the_setting",
    "a row is late": "test_an_event_is_parked_listed_replayed_applied_and_settled",
    "a banned user still opens a file": "test_the_files_of_a_bucket_are_protected_after_a_dry_run_and_given_up_again",
    "no message of Realtime": "test_only_tables_whose_policies_decide_are_published",
    "no message of Realtime for anybody": "test_a_published_table_whose_policy_fails_with_clerks_token_is_named",
    "401 `unauthorized`, and the token": "test_a_token_without_origin_passes_only_where_native_apps_are_allowed",
    "401 `unauthorized` with `getToken": "test_a_bad_token_is_answered_unauthorized_and_nothing_more",
    "the browser reports CORS": "test_a_page_of_the_app_may_read_the_answer_and_a_foreign_one_may_not",
    "403 `forbidden`": "test_a_banned_or_deprovisioned_user_is_forbidden",
}

# Statements of a signed-in user, with the words of the page or the symptom without words: no row.
HERE: dict[str, tuple[dict[str, Any], LiteralString, str]] = {
    "`42501`, `permission denied for table`": (ADA, "select * from plain", "permission denied for table plain"),
    "`42501`, `permission denied for function requesting_user_id`": (
        *(ADA, "select * from by_function"),
        "permission denied for function requesting_user_id",
    ),
    "`42501`, `new row violates row-level security policy for table`": (
        *(ADA, "insert into tasks (name, user_id) values ('x', 'user_eve')"),
        'new row violates row-level security policy for table "tasks"',
    ),
    "`42501` for a list of rows, of which some carry `user_id`": (
        *(ADA, "insert into tasks (name, user_id) values ('x', 'user_ada'), ('y', null)"),
        'new row violates row-level security policy for table "tasks"',
    ),
    "`22P02`, `invalid input syntax for type uuid`": (
        *(ADA, "select * from by_uid"),
        'invalid input syntax for type uuid: "user_ada"',
    ),
    '`new row violates row-level security policy for table "objects"`': (
        *(IN_LABS, "insert into storage.objects values ('photos', 'photo.png')"),
        'new row violates row-level security policy for table "objects"',
    ),
    "no rows of your own table": (ADA, "select * from tasks", ""),
}


def symptoms() -> Iterator[str]:
    for heading in ("Errors of Supabase's API", "No error, and not the right rows", "`POST /session`"):
        yield from (row[0] for row in table_of(PAGE, heading))


def test_every_symptom_of_the_page_is_tried() -> None:
    listed = list(symptoms())
    assert len(listed) == len(TRIED) + len(HERE)
    for symptom in listed:
        assert symptom in HERE or any(symptom.startswith(words) for words in TRIED), symptom
    assert set(TRIED.values()) <= names_of_tests().keys()


def test_the_database_answers_in_the_words_of_the_page(store: Store, admin: Connection) -> None:
    store.apply([webhooks.user("user_ada", at=1)])
    admin.execute("""
        create table plain (id int primary key);
        create function auth.uid() returns uuid language sql stable as $$ select (auth.jwt() ->> 'sub')::uuid $$;
        create table by_uid as select gen_random_uuid() as owner;
        create table by_function as select 'user_ada' as owner;
        alter table by_uid enable row level security;
        alter table by_function enable row level security;
        grant select on by_uid, by_function to authenticated;
        create policy own on by_uid using (owner = (select auth.uid()));
        create policy own on by_function using (owner = (select clerk.requesting_user_id()));
        revoke execute on function clerk.requesting_user_id() from public, authenticated;
        create table tasks (id int generated always as identity primary key, name text);
        insert into tasks (name) values ('of nobody');
        select clerk_sync.secure('tasks', 'user');
        create schema storage;
        create table storage.objects (bucket_id text, name text);
        alter table storage.objects enable row level security;
        grant usage on schema storage to authenticated;
        grant all on storage.objects to authenticated;
    """)
    for symptom, (claims, statement, said) in HERE.items():
        assert _answer(admin, claims, statement) == said, symptom


def _answer(admin: Connection, claims: dict[str, Any], statement: LiteralString) -> str:
    """The error of a statement; an empty text for a query without rows."""
    try:
        with acting_as(admin, "authenticated", claims):
            assert rows(admin, statement) == []
    except psycopg.errors.DatabaseError as error:
        return str(error.diag.message_primary)
    return ""
