"""Checks of the database: access for the functions, their rights, and the state that the migrations made."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final, LiteralString

from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import ClerkSupabaseError, SetUpWrong
from clerk_supabase.postgres.connection import SESSION_PATIENCE_SECONDS
from clerk_supabase.postgres.connection_string import ConnectionString, parse
from clerk_supabase.postgres.store import Store
from clerk_supabase.tokens.claims import Claims, session_claims
from clerk_supabase_cli.doctor.address import address, tls
from clerk_supabase_cli.doctor.patient import NotLookedAt, Patient
from clerk_supabase_cli.doctor.verdicts import Finding, fail, ok, warn
from clerk_supabase_cli.local.postgres import VERSIONS
from clerk_supabase_cli.operate.database import Connection, DatabaseFailed
from clerk_supabase_cli.operate.install.migrations import (
    applied,
    is_restored_without_list,
    newer_than,
    obstacles,
    read_migrations,
)
from clerk_supabase_cli.operate.install.mirror import mirror_schema
from clerk_supabase_cli.operate.install.preflight import stopping
from clerk_supabase_cli.operate.monitor.database_state import read_not_purged
from clerk_supabase_cli.operate.monitor.problems import purge_problems
from clerk_supabase_cli.operate.retention import PARAMETERS, command_for, shortfalls
from clerk_supabase_cli.operate.retention import allowed as allowed_retention
from clerk_supabase_cli.operate.setup.role_urls import SESSION_ROLE, WORKER_ROLE
from clerk_supabase_cli.operate.versions import UPGRADE

_MIGRATE: Final = "clerk-supabase migrate"
_REPAIR: Final = "clerk-supabase migrate --repair --dry-run, and without --dry-run"
_STORE_ANEW: Final = "store the secret again: clerk-supabase setup --store-secrets PREFIX"
_STRING_IS_RIGHT: Final = "leave the connection string as it is, and look again in some minutes"
_ADVICE: Final = (
    ("and its caller of version", f"upgrade one of both: {UPGRADE}"),
    (
        "certificate verify failed",
        "the file in layers/shared/ca/ is not the authority of this database: fetch the file again",
    ),
    (
        "does not match host name",
        "the certificate is for another host: take the host of the connection string as it is",
    ),
    ("root certificate file", "put the certificate into layers/shared/ca/, as DatabaseCaFile names it"),
    (
        "password authentication failed",
        "give the role that password again, as psql's \\password does, or store the new",
    ),
    ("the pooler knows no such project", "compare the project with the one in Supabase's connection string"),
    ("no answer", _STRING_IS_RIGHT),
    ("starts, stops or recovers", _STRING_IS_RIGHT),
    ("too many connections", _STRING_IS_RIGHT),
    ("the pooler refuses", _STRING_IS_RIGHT),
    ("the pooler keeps this address out", _STRING_IS_RIGHT),
    ("the pooler had no connection", _STRING_IS_RIGHT),
    ("the pooler of Supabase fails", _STRING_IS_RIGHT),
    ("run: clerk-supabase migrate", _MIGRATE),
)
# The error of a statement has a SQLSTATE; the failure of a connection has none.
_OF_STATEMENT: Final = re.compile(r"\([0-9A-Z]{5}\)|read-only")
# Reserved: Clerk's ids have another form.
_NOBODY: Final = json.dumps(
    {
        "sub": "user_doctor",
        "sid": "sess_doctor",
        "iss": "doctor",
        "role": "authenticated",
        "iat": 1_700_000_000,
        "exp": 1_700_000_060,
    }
).encode()

_SERVER: Final = """
    select current_setting('server_version'), current_setting('transaction_read_only') = 'off'
"""
_ROLE: Final = """
    select
        r.rolcanlogin, r.rolvaliduntil < now(),
        array_remove(array[
            case when r.rolsuper then 'superuser' end, case when r.rolbypassrls then 'bypassrls' end,
            case when r.rolcreaterole then 'createrole' end, case when r.rolcreatedb then 'createdb' end,
            case when r.rolreplication then 'replication' end
        ], null),
        array(select m.roleid::regrole::text from pg_auth_members as m where m.member = r.oid order by 1),
        has_schema_privilege(r.oid, 'clerk_sync', 'usage')
    from pg_roles as r where r.rolname = %s
"""
_CALLABLE: Final = """
    select p.proname::text from pg_proc as p
    where p.pronamespace = to_regnamespace('clerk_sync') and has_function_privilege(%s, p.oid, 'execute')
"""
_TABLES_OPEN_TO: Final = """
    select format('%%I.%%I', n.nspname, c.relname)
    from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname in ('public', clerk_sync.mirror_schema(), 'clerk_sync')
    and c.relkind in ('r', 'p', 'v', 'm', 'f')
    and (
        has_table_privilege(%(role)s, c.oid, 'select, insert, update, delete, truncate, references, trigger')
        or has_any_column_privilege(%(role)s, c.oid, 'select, insert, update')
    )
    order by 1
"""
_GRANTS: Final = re.compile(r"grant execute on function\s+([^;]*?)\s+to (clerk_sync_\w+);", re.IGNORECASE)
_SETTINGS: Final = re.compile(r"alter role (clerk_sync_\w+) set (\w+) = '(\w+)';", re.IGNORECASE)
_SETTINGS_OF_ROLES: Final = """
    select r.rolname::text, split_part(option, '=', 1), substr(option, strpos(option, '=') + 1), quote_ident(d.datname)
    from pg_db_role_setting as s
    inner join pg_roles as r on r.oid = s.setrole
    left join pg_database as d on d.oid = s.setdatabase
    cross join unnest(s.setconfig) as option
    where r.rolname = any(%s) and (s.setdatabase = 0 or d.datname = current_database())
    order by s.setdatabase
"""
_FUNCTION: Final = re.compile(r"clerk_sync\.(\w+)\(")
# The roles of which each may be a member.
_MEMBER_OF: Final = {WORKER_ROLE: [], SESSION_ROLE: ["authenticated"]}


def database(patient: Patient) -> Iterator[Finding]:
    """Checks that the tables' owner can reach the database, and that the database accepts writes."""
    with patient.database() as connection:
        [(version, takes_writes)] = connection.execute(_SERVER).fetchall()
    if takes_writes:
        tested = " and ".join(map(str, sorted(VERSIONS)))
        yield ok(f"Postgres {version} takes writes; this project is tested on {tested}")
    else:
        yield fail(
            f"Postgres {version} is read-only",
            "Supabase switches a project to read-only when its disk is full; events wait meanwhile",
        )


def worker_address(patient: Patient) -> Iterator[Finding]:
    """Pooler, IP and user of sync's connection string."""
    yield from _of_url(patient.worker_url(), lambda given: address(given, WORKER_ROLE))


def session_address(patient: Patient) -> Iterator[Finding]:
    """Pooler, IP and user of the session function's connection string."""
    yield from _of_url(patient.session_url(), lambda given: address(given, SESSION_ROLE))


def database_tls(patient: Patient) -> Iterator[Finding]:
    """Checks the server's certificate against the stack's settings for TLS."""
    yield from _of_url(patient.worker_url(), lambda given: tls(given, patient.ca_file()))


def worker_login(patient: Patient) -> Iterator[Finding]:
    """Connects as sync and retry do, with their own code."""
    yield from _log_in(patient, patient.worker_url(), WORKER_ROLE, _check_as_worker)


def session_login(patient: Patient) -> Iterator[Finding]:
    """Acts as a user, as the session function does with every request; the user of the check does not exist."""
    yield from _log_in(patient, patient.session_url(), SESSION_ROLE, _check_as_session)


def worker_rights(patient: Patient) -> Iterator[Finding]:
    """Checks that the worker's role has the rights granted by the migrations, and no others."""
    yield from _rights(patient, WORKER_ROLE)


def session_rights(patient: Patient) -> Iterator[Finding]:
    """Checks the rights of the session function's role in the same way."""
    yield from _rights(patient, SESSION_ROLE)


def migrations(patient: Patient) -> Iterator[Finding]:
    """Checks that the list of applied migrations equals the migrations of this checkout."""
    with patient.database() as connection:
        recorded = applied(connection)
        is_without_list = is_restored_without_list(connection, patient.named.root)
        in_the_way = stopping(obstacles(connection, patient.named.root))
        of_checkout = read_migrations(patient.named.root, mirror_schema(connection))
    files = {migration.name: migration.checksum for migration in of_checkout}
    if is_without_list:
        yield fail(
            "the database has objects, but no list of the migrations that made them (restored without rows?)", _REPAIR
        )
        return
    if missing := [name for name in files if name not in recorded]:
        yield fail(f"not applied: {', '.join(missing)}", "" if in_the_way else _MIGRATE)
    for each in in_the_way if missing else ():
        yield fail(f"in the way of the migrations: {each.found}", each.todo)
    if changed := [name for name, checksum in recorded.items() if checksum and files.get(name, checksum) != checksum]:
        yield fail(
            f"changed after they were applied: {', '.join(changed)}",
            "if you changed the files, put them back, and write the change as a new migration; "
            f"if the database is of an older version: {_REPAIR}",
        )
    newer = newer_than(files, recorded)
    if newer:
        yield warn(
            f"of a newer version than this command: {', '.join(newer)}",
            "use the command of that version; functions of an earlier minor version work with it: docs/upgrade.md",
        )
    if older := sorted(recorded.keys() - files.keys() - set(newer)):
        yield fail(f"of another version than this checkout: {', '.join(older)}", _REPAIR)
    if not (missing or changed or newer or older):
        yield ok(f"all {len(files)} are applied and unaltered")


def role_settings(patient: Patient) -> Iterator[Finding]:
    """Checks the settings of the roles. A role may change its own settings, which outlast a stolen password."""
    faults = [*_faults_of_settings(patient)]
    for each in faults:
        yield warn(each.found, f"{each.todo} (the role itself may set it: see docs/security.md, After a leak)")
    if not faults:
        yield ok("statements, locks and idle transactions of both roles end in time, and nothing else is set for them")


@dataclass(frozen=True, slots=True)
class _FaultOfSetting:
    """A setting of a role that differs from the migrations, and the statements that put it right."""

    role: str
    found: str
    todo: str


def _faults_of_settings(patient: Patient) -> Iterator[_FaultOfSetting]:
    wanted = {
        (role, name): value
        for migration in read_migrations(patient.named.root)
        for role, name, value in _SETTINGS.findall(migration.text)
    }
    with patient.database() as connection:
        # A setting for one database overrides a setting for all databases.
        found = connection.execute(_SETTINGS_OF_ROLES, [[WORKER_ROLE, SESSION_ROLE]]).fetchall()
    effective = {(role, name): (value, of_database) for role, name, value, of_database in found}
    altered = [each for each in wanted if effective.get(each, ("", False))[0] != wanted[each]]
    for role, name in altered:
        value, of_database = effective.get((role, name), ("", False))
        restore = [f"alter role {role} in database {of_database} reset {name};"] if of_database else []
        restore.append(f"alter role {role} set {name} = '{wanted[role, name]}';")
        yield _FaultOfSetting(
            role,
            f"{role}: {name} is {value or 'not set'}, the migrations set {wanted[role, name]}",
            " ".join(restore),
        )
    added = [(role, name, of_database) for role, name, _, of_database in found if (role, name) not in wanted]
    for role, name, of_database in added:
        place = f" in database {of_database}" if of_database else ""
        yield _FaultOfSetting(
            role, f"{role}: {name} is set, which no migration does", f"alter role {role}{place} reset {name};"
        )


def retention(patient: Patient) -> Iterator[Finding]:
    """Checks for parameters that ask for a shorter time than the database's owner allows, and for failed purges."""
    settings = patient.functions().reconcile
    if settings is None:
        raise NotLookedAt("this stack has no reconcile function, so nothing is purged or pruned (UseClerkApi=false)")
    with patient.database() as connection:
        found = shortfalls(settings.keep, allowed_retention(connection))
        refused = list(purge_problems(read_not_purged(connection)))
    for name, (asked, allows) in found.items():
        yield warn(
            f"{PARAMETERS[name]} of the stack asks for {asked}, the database allows {allows} and keeps to that",
            command_for({name: asked}),
        )
    for problem in refused:
        yield fail(problem, "docs/runbook.md#housekeepingalarm")
    if not found and not refused:
        yield ok("the database keeps nothing longer than the stack asks for")


def _of_url(url: Fixed, judge: Callable[[ConnectionString], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        given = parse(url.value(), url.source)
    except SetUpWrong as error:
        yield fail(str(error), _STORE_ANEW)
    else:
        yield from judge(given)


def _log_in(patient: Patient, url: Fixed, role: str, check: Callable[[Store], None]) -> Iterator[Finding]:
    with closing(Store(url, patient.ca_file(), SESSION_PATIENCE_SECONDS)) as store:
        try:
            check(store)
        except ClerkSupabaseError as error:
            todo = next((todo for sign, todo in _ADVICE if sign in str(error)), _STORE_ANEW)
            is_of_statement = bool(_OF_STATEMENT.search(str(error)))
            yield fail(str(error), (is_of_statement and _advice_about_settings(patient, role)) or todo)
        else:
            mode = parse(url.value(), url.source).parameters.get("sslmode", "verify-full")
            verified = "; the certificate is good" if mode == "verify-full" else ""
            yield ok(f"its role logs in and may do its work{verified}")


def _advice_about_settings(patient: Patient, role: str) -> str:
    """Return the statements that end the role's own settings: first of all, these may keep the role from its work."""
    try:
        faults = [each.todo for each in _faults_of_settings(patient) if each.role == role]
    except (DatabaseFailed, NotLookedAt):
        return ""
    return f"settings of the role may be the cause: {' '.join(faults)} then look again" if faults else ""


def _check_as_worker(store: Store) -> None:
    store.check()


def _check_as_session(store: Store) -> None:
    with store.as_user(_nobody()) as queries:
        queries.rows("select count(*) from users")


def _nobody() -> Claims:
    return session_claims(_NOBODY)


def _rights(patient: Patient, role: str) -> Iterator[Finding]:
    granted = _granted(patient, role)
    with patient.database() as connection:
        row = connection.execute(_ROLE, [role]).fetchone()
        if row is None:
            yield fail(f"the role {role} does not exist", _MIGRATE)
            return
        can_log_in, has_expired, powers, member_of, may_use_schema = row
        may_call = _column(connection, _CALLABLE, role)
        tables = [name for (name,) in connection.execute(_TABLES_OPEN_TO, {"role": role})]
    too_little = [f"{role} may not call clerk_sync.{name}" for name in sorted(granted - may_call)]
    if not may_use_schema:
        too_little.append(f"{role} may not use the schema clerk_sync")
    if not can_log_in or has_expired:
        too_little.append(f"{role} may not log in, or its password is no longer valid")
    too_much = [f"may call clerk_sync.{name}" for name in sorted(may_call - granted)]
    too_much += [f"may use the table {name}" for name in tables]
    too_much += [f"is {power}" for power in powers]
    too_much += [f"can become {name}" for name in member_of if name not in _MEMBER_OF[role]]
    too_little += [f"{role} cannot become {name}" for name in _MEMBER_OF[role] if name not in member_of]
    if too_little:
        todo = "grant it again as sql/migrations do; without it, events wait in the queues"
        yield fail("; ".join(too_little), todo)
    if too_much:
        todo = "revoke it, also from public: a thief of the role's password could use it"
        yield fail(f"{role} {', '.join(too_much)}", todo)
    if not (too_little or too_much):
        yield ok(f"{role} may call {_counted(granted)}, use no table, and become {_named(_MEMBER_OF[role])}")


def _granted(patient: Patient, role: str) -> set[str]:
    """The functions that a role may call by the migrations of this checkout."""
    return {
        function
        for migration in read_migrations(patient.named.root)
        for functions, grantee in _GRANTS.findall(migration.text)
        if grantee == role
        for function in _FUNCTION.findall(functions)
    }


def _column(connection: Connection, query: LiteralString, role: str) -> set[str]:
    return {name for (name,) in connection.execute(query, [role])}


def _counted(functions: set[str]) -> str:
    return "one function" if len(functions) == 1 else f"{len(functions)} functions"


def _named(roles: list[str]) -> str:
    return ", ".join(roles) or "nobody else"
