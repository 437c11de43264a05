"""`clerk-supabase doctor` on the tables of a database: row-level security, and the rights of the API's roles."""

from __future__ import annotations

import re
from typing import LiteralString

import pytest
from psycopg import sql

from tests.kit.databases import Connection, rows
from tests.kit.doctoring import Doctor
from tests.kit.supabase import PROJECTS, Project, Supabase


@pytest.mark.parametrize(
    ("fault", "verdict", "said"),
    [
        ("alter table clerk.users disable row level security", "fail", "off for clerk.users"),
        ("drop table clerk.organization_domains cascade", "fail", "no table clerk.organization_domains"),
        ("alter table clerk_sync.entities disable row level security", "fail", "off for clerk_sync.entities"),
        ("drop policy users_read_own on clerk.users", "fail", "clerk.users lacks the policies users_read_own"),
        ("create policy mine on clerk.users for select using (true)", "warn", "allow more: mine"),
        ("grant usage on schema clerk_sync to authenticated", "fail", "authenticated may use the schema"),
        ("create table public.notes (id int primary key)", "warn", "off for public.notes"),
        (
            """create schema shown; create table shown.notes (id int primary key);
            grant usage on schema shown to anon; grant select on shown.notes to anon""",
            "warn",
            "off for shown.notes",
        ),
        (
            "create view public.people as select * from clerk.users; grant select on public.people to anon",
            "fail",
            "clerk.users: the view public.people shows its rows to anon, without its policies",
        ),
    ],
)
def test_a_gap_in_row_level_security_is_named(
    doctor: Doctor, admin: Connection, fault: LiteralString, verdict: str, said: str
) -> None:
    admin.execute(fault)
    found, words = doctor.verdict("row-level-security")
    assert (found, said in words) == (verdict, True), words


def test_what_is_said_about_a_table_with_partitions_can_be_done(doctor: Doctor, admin: Connection) -> None:
    admin.execute(
        "create table public.visits (at date) partition by range (at); "
        "create table public.visits_2026 partition of public.visits for values from ('2026-01-01') to ('2027-01-01'); "
        "create table public.notes (id int primary key)"
    )
    found, words = doctor.verdict("row-level-security")
    assert found == "warn"
    assert "row-level security is off for public.notes" in words
    assert "row-level security is off for public.visits, public.visits_2026" in words
    assert "secure takes no such tables" in words
    admin.execute("alter table public.visits enable row level security")
    admin.execute("alter table public.visits_2026 enable row level security")
    assert "public.visits" not in doctor.verdict("row-level-security")[1]


FAULTS_OF_A_SECURED_TABLE = [
    ("select", "ok", "on for all"),
    ("alter table {table} disable row level security", "fail", "its row-level security is off"),
    ("drop policy clerk_sync_delete on {table}", "fail", "it lacks the policies clerk_sync_delete"),
    ("alter policy clerk_sync_select on {table} using (id > 0)", "fail", "no longer asks who the caller is"),
    (
        """select clerk_sync.secure('"Of the app".notes', 'user', feature => 'org:docs');
        alter policy clerk_sync_select on {table} using (user_id = (select c.clerk_id from clerk_sync.caller as c))""",
        "warn",
        "clerk_sync_select does not ask for the feature org:docs",
    ),
    ("create policy mine on {table} for select using (id > 0)", "warn", "its policy mine allows more"),
    ("create view {schema}.v as select * from {table}; grant select on {schema}.v to anon", "fail", "shows its rows"),
    (
        "create materialized view {schema}.m as select * from {table}; grant select on {schema}.m to authenticated",
        "fail",
        "shows its rows to authenticated",
    ),
    ("create view {schema}.v as select * from {table}; revoke all on {schema}.v from anon", "ok", "on for all"),
    ("create rule r as on insert to {table} do also notify inserted", "fail", "the rule r on"),
    (
        "create table {schema}.child () inherits ({table}); alter table {schema}.child enable row level security",
        "fail",
        "child",
    ),
    ("grant truncate on {table} to anon", "fail", "anon has the right to truncate"),
    ("grant all on {table} to service_role", "warn", "service_role has the right to"),
    ("alter table {table} owner to service_role", "fail", "its owner service_role passes its policies"),
    (
        """create function {schema}.f() returns bigint language sql security definer as 'select count(*) from {table}';
        grant execute on function {schema}.f() to anon""",
        "warn",
        "f() mentions it, and anon",
    ),
    ("create publication mine for table {table}", "ok", "on for all"),
]


@pytest.mark.parametrize(("fault", "verdict", "said"), FAULTS_OF_A_SECURED_TABLE)
def test_a_table_that_was_secured_must_stay_so_whatever_its_schema(
    doctor: Doctor, admin: Connection, fault: LiteralString, verdict: str, said: str
) -> None:
    names = {"schema": sql.Identifier("Of the app"), "table": sql.Identifier("Of the app", "notes")}
    create: LiteralString = """
        create schema {schema};
        grant usage on schema {schema} to anon, authenticated;
        create table {table} (id int primary key);
        select clerk_sync.secure('"Of the app".notes', 'user');
    """
    admin.execute(sql.SQL(create).format(**names))
    admin.execute(sql.SQL(fault).format(**names))
    found, words = doctor.verdict("row-level-security")
    assert (found, said in words) == (verdict, True), words
    assert verdict == "ok" or '"Of the app".notes' in words


@pytest.mark.parametrize("owner", ["user", "organization"])
def test_a_table_whose_policies_of_secure_were_replaced_by_an_open_one_is_named(
    owner: LiteralString, doctor: Doctor, admin: Connection
) -> None:
    admin.execute("create table public.notes (id int primary key); create table public.news (id int primary key)")
    admin.execute("alter table public.news enable row level security")
    admin.execute("create policy everybody on public.news for select using (true)")
    admin.execute("select clerk_sync.secure('public.notes', %s)", [owner])
    assert doctor.verdict("row-level-security")[0] == "ok"
    for name in ("select", "insert", "update", "delete"):
        admin.execute(sql.SQL("drop policy {} on public.notes").format(sql.Identifier(f"clerk_sync_{name}")))
    admin.execute('create policy "All of it" on public.notes using (true)')
    verdict, words = doctor.verdict("row-level-security")
    assert verdict == "fail"
    assert "public.notes was secured, and its policies now let everybody in: All of it" in words
    assert "public.news" not in words


def test_a_cause_that_several_tables_share_is_named_once(doctor: Doctor, admin: Connection) -> None:
    admin.execute("""
        create table public.notes (id int primary key);
        create table public.lists (id int primary key);
        select clerk_sync.secure('public.notes', 'user'), clerk_sync.secure('public.lists', 'user');
        create view public.pairs as select n.id from public.notes as n cross join public.lists as l;
        grant select on public.pairs to anon;
    """)
    words = doctor.verdict("row-level-security")[1]
    assert words == (
        "public.lists, public.notes: the view public.pairs shows its rows to anon, without its policies"
        " -> alter view public.pairs set (security_invoker = on)"
    )


def test_a_published_table_whose_policy_fails_with_clerks_token_is_named(doctor: Doctor, admin: Connection) -> None:
    admin.execute("""
        create function auth.uid() returns uuid language sql stable as $$ select (auth.jwt() ->> 'sub')::uuid $$;
        create function public.me() returns uuid language plpgsql as $$ begin return auth.uid(); end $$;
        create function public.requesting_user_id() returns text language sql stable
        as $$ select nullif(current_setting('request.jwt.claims', true)::json ->> 'sub', '')::text $$;
        create table public.direct (owner uuid);
        create table public.through (owner uuid);
        create table public.by_text (owner text);
        create table public.written (owner uuid);
        create table public.of_others (owner uuid);
        create table public.private (owner uuid);
        create policy p on public.direct for select to authenticated using (owner = (select auth.uid()));
        create policy p on public.through using (owner = public.me());
        create policy p on public.by_text using (owner = public.requesting_user_id());
        create policy p on public.written for insert with check (owner = auth.uid());
        create policy p on public.of_others to service_role using (owner = auth.uid());
        create policy p on public.private using (owner = auth.uid());
        create domain public.own_id as uuid;
        create domain public."Own id" as public.own_id;
        create function public.my_id() returns public.own_id language plpgsql stable as
        $$ begin return auth.jwt() ->> 'sub'; end $$;
        create table public.by_domain (owner uuid);
        create table public.by_domain_of_domain (owner uuid);
        create table public.by_function (owner uuid);
        create policy p on public.by_domain using (owner = (auth.jwt() ->> 'sub')::public.own_id);
        create policy p on public.by_domain_of_domain using (owner = (auth.jwt() ->> 'sub')::public."Own id");
        create policy p on public.by_function using (owner = public.my_id());
        create publication supabase_realtime
        for table public.direct, public.through, public.by_text, public.written, public.of_others, clerk.users,
            public.by_domain, public.by_domain_of_domain, public.by_function;
    """)
    report = doctor.examine("realtime")
    assert report.verdicts == {"realtime": "fail"}
    words = report.words("realtime")
    assert re.findall(r"(\S+) is published to Realtime", words) == [
        "public.by_domain",
        "public.by_domain_of_domain",
        "public.by_function",
        "public.direct",
        "public.through",
    ]
    for table in re.findall(r"alter publication supabase_realtime drop table [a-z_.]+", words):
        admin.execute(table.encode())
    assert doctor.verdict("realtime")[0] == "ok"
    admin.execute("alter publication supabase_realtime add table clerk_sync.entities")
    assert "drop table clerk_sync.entities" in doctor.verdict("realtime")[1]


def test_a_published_table_is_named_whose_policy_reads_what_fails_with_clerks_token(
    doctor: Doctor, admin: Connection
) -> None:
    admin.execute("""
        create function auth.uid() returns uuid language sql stable as $$ select (auth.jwt() ->> 'sub')::uuid $$;
        create view public.me as select auth.uid() as id;
        create view public.same with (security_invoker) as select * from public.me;
        create table public.members (team int, owner uuid);
        alter table public.members enable row level security;
        create policy p on public.members using (owner = auth.uid());
        create view public.everybody as select * from public.members;
        create view public.fellows with (security_invoker) as select * from public.members;
        create table public.by_view (owner uuid);
        create table public.by_view_of_view (owner uuid);
        create table public.by_table (team int);
        create table public.by_view_of_table (team int);
        create table public.by_view_of_its_owner (team int);
        create table public.open (team int);
        create policy p on public.by_view using (owner = (select m.id from public.me as m));
        create policy p on public.by_view_of_view using (owner = (select s.id from public.same as s));
        create policy p on public.by_table using (team in (select m.team from public.members as m));
        create policy p on public.by_view_of_table using (team in (select f.team from public.fellows as f));
        create policy p on public.by_view_of_its_owner using (team in (select e.team from public.everybody as e));
        create policy p on public.open using (team > 0);
        create publication supabase_realtime for table public.by_view, public.by_view_of_view, public.by_table,
            public.by_view_of_table, public.by_view_of_its_owner, public.open;
    """)
    assert re.findall(r"(\S+) is published to Realtime", doctor.verdict("realtime")[1]) == [
        "public.by_table",
        "public.by_view",
        "public.by_view_of_table",
        "public.by_view_of_view",
    ]


GUIDE: LiteralString = "revoke execute on all functions in schema clerk from public, anon, authenticated"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (GUIDE, "anon may not execute clerk.requesting_claims(), clerk.requesting_user_id(), "),
        (GUIDE, "authenticated may not execute clerk.requesting_claims(), clerk.requesting_user_id(), "),
        (
            "revoke usage on schema clerk from anon, authenticated",
            "anon may not use the schema clerk; authenticated may not use the schema clerk",
        ),
        ("revoke select on clerk_sync.caller from authenticated", "select (clerk_id) of clerk_sync.caller"),
        (
            "revoke select (role) on clerk_sync.memberships_of_caller from authenticated",
            "authenticated may not select (clerk_org_id, role, permissions) of clerk_sync.memberships_of_caller",
        ),
        (
            "revoke execute on function clerk_sync.requesting_user_id(jsonb) from authenticated",
            "authenticated may not execute clerk_sync.requesting_user_id(jsonb)",
        ),
        ("revoke insert (clerk_id) on clerk.users from authenticated", "insert (clerk_id) of clerk.users"),
        ("revoke select on clerk.organizations from authenticated", "may not select clerk.organizations"),
        ("revoke delete on clerk.users from service_role", "service_role may not delete clerk.users"),
    ],
)
def test_a_right_that_policies_or_apps_need_is_missed_and_given_back_by_the_advice(
    doctor: Doctor, admin: Connection, fault: LiteralString, said: str
) -> None:
    admin.execute(fault)
    verdict, words = doctor.verdict("grants")
    assert (verdict, said in words) == ("fail", True), words
    for advice in re.findall(r"in SQL, as the owner: (.*;)", words):
        admin.execute(advice)
    assert doctor.verdict("grants")[0] == "ok"


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_on_a_project_of_supabases_only_rights_that_were_revoked_afterwards_are_missed(
    project: Project, supabase: Supabase
) -> None:
    checks = ("database", "worker-rights", "session-rights", "migrations", "grants")
    report = Doctor({"DATABASE_URL": supabase.url(project)}).examine(*checks)
    bad = [name for name, verdict in report.verdicts.items() if verdict != "ok"]
    assert bad == (["grants"] if project.after_migrations else []), report.text


def test_a_function_of_the_apps_names_that_was_dropped_is_missed(doctor: Doctor, admin: Connection) -> None:
    admin.execute("drop function clerk.requesting_permissions()")
    verdict, words = doctor.verdict("grants")
    assert verdict == "fail"
    assert "there is no clerk.requesting_permissions()" in words


def test_the_checked_rights_are_all_rights_of_the_roles_of_the_api(doctor: Doctor, admin: Connection) -> None:
    [(granted,)] = rows(
        admin,
        """
        select count(*) from (
            select a.grantee, a.privilege_type, c.oid, 0 as place
            from pg_class as c cross join aclexplode(c.relacl) as a
            where c.relnamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace)
            union all
            select distinct a.grantee, a.privilege_type, t.attrelid, 1
            from pg_attribute as t inner join pg_class as c on c.oid = t.attrelid cross join aclexplode(t.attacl) as a
            where c.relnamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace)
            union all
            select a.grantee, a.privilege_type, p.oid, 2
            from pg_proc as p cross join aclexplode(p.proacl) as a
            where p.pronamespace in ('clerk'::regnamespace, 'clerk_sync'::regnamespace)
            union all
            select a.grantee, a.privilege_type, n.oid, 3
            from pg_namespace as n cross join aclexplode(n.nspacl) as a where n.nspname in ('clerk', 'clerk_sync')
        ) as every where grantee in ('anon'::regrole, 'authenticated'::regrole, 'service_role'::regrole)
        """,
    )
    assert f"all {granted} rights" in doctor.verdict("grants")[1]
