"""`clerk-supabase secure-bucket`: policies for the files of a bucket of Supabase Storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, get_args

import click
import psycopg

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import Connection, DatabaseFailed, open_database
from clerk_supabase_cli.operate.known_plans import doubts_about
from clerk_supabase_cli.operate.locking import in_turns
from clerk_supabase_cli.options import (
    check_entitlement,
    database_url_option,
    entitlement_options,
    json_option,
    lock_timeout_option,
)
from clerk_supabase_cli.printing import counted, print_json, printable, say

Owner = Literal["user", "organization", "user-or-organization"]
Reader = Literal["owner", "signed-in", "everybody"]

_LOOK: Final = """
select
    clerk_sync.present_bucket(%(bucket)s),
    clerk_sync.words_of_bucket(
        %(owner)s, %(read_by)s, clerk_sync.entitlements_asked(%(plan)s, %(feature)s, %(from_mirror)s)
    ),
    clerk_sync.files_of_nobody(%(bucket)s, %(owner)s),
    clerk_sync.statements_against_wider_policies(%(bucket)s)
where to_regclass('storage.objects') is not null
"""
_NO_STORAGE: Final = (
    "this database has no table storage.objects, where Supabase Storage keeps its files: take the database of a "
    'Supabase project, or on this machine that of an app with files: make dev ARGS="--app examples/nextjs"'
)
_SECURE: Final = """
select clerk_sync.secure_bucket(
    %(bucket)s, %(owner)s, write_roles => %(write_roles)s, delete_roles => %(delete_roles)s, read_by => %(read_by)s,
    replace_policies => %(replace_policies)s,
    plan => %(plan)s, feature => %(feature)s, from_mirror => %(from_mirror)s
)
"""
_UNSECURE: Final = "select clerk_sync.unsecure_bucket(%(bucket)s)"
_ONLY_THE_BUCKET: Final = "--remove drops all policies of the bucket: give the BUCKET only"
_OPENINGS: Final = "select verdict, found, todo from clerk_sync.bucket_openings(%(bucket)s) where verdict <> 'note'"


class BucketNotSecured(Failure):
    """The bucket stays unchanged, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Look:
    """The state of a bucket before the command changes its policies."""

    was: str | None
    """Owners and readers as secure_bucket() describes them; None for a bucket that is not secured."""
    becomes: str
    files_of_nobody: int
    """Number of files that no user will read or write, because their first folder is no id of such an owner."""
    about_policies_of_app: list[str]
    """Statements that drop or alter policies of the app."""


@click.command("secure-bucket")
@click.argument("bucket")
@click.argument("owner", type=click.Choice(get_args(Owner)), required=False)
@click.option(
    "--read-by",
    type=click.Choice(get_args(Reader)),
    default="owner",
    show_default=True,
    help="Who reads the files; everybody: only for a public bucket.",
)
@click.option(
    "--write-role", "write_roles", multiple=True, metavar="org:ROLE", help="Role that may upload and replace."
)
@click.option("--delete-role", "delete_roles", multiple=True, metavar="org:ROLE", help="Role that may delete.")
@click.option("--read-only", is_flag=True, help="No member may write, only your servers.")
@entitlement_options
@click.option("--replace-policies", is_flag=True, help="Drop or alter policies of your app that would allow more.")
@click.option("--remove", is_flag=True, help="Drop the policies that this command made.")
@click.option("--yes", is_flag=True, help="Do not ask for a confirmation.")
@click.option("--dry-run", is_flag=True, help="Only print the SQL and the findings; locks Storage for that moment.")
@lock_timeout_option
@database_url_option
@json_option
def secure_bucket_command(
    *,
    bucket: str,
    owner: Owner | None,
    read_by: Reader,
    write_roles: tuple[str, ...],
    delete_roles: tuple[str, ...],
    read_only: bool,
    plan: str | None,
    feature: str | None,
    from_mirror: bool,
    replace_policies: bool,
    remove: bool,
    yes: bool,
    dry_run: bool,
    lock_seconds: float,
    database_url: str,
    as_json: bool,
) -> None:
    """Protect the files of BUCKET. The first folder of each name is the id of the user or organization that owns it.

    Makes four policies on storage.objects that name this bucket; other buckets stay as they are. Safe to run twice. A
    public bucket is rejected without --read-by everybody: Storage sends its files without asking any policy.

    A policy of your app that would allow more is named, with the statement against it, and stays without
    --replace-policies.

    \b
    Examples:
      clerk-supabase secure-bucket avatars user --dry-run
      clerk-supabase secure-bucket documents organization --write-role org:admin
      clerk-supabase secure-bucket exports user --plan user:pro
    """
    check_entitlement(plan, feature, from_mirror=from_mirror)
    if remove and (plan or feature):
        raise click.UsageError(_ONLY_THE_BUCKET)
    _check_options(owner, remove=remove, read_only=read_only, has_roles=bool(write_roles or delete_roles))
    options: dict[str, object] = {
        "bucket": bucket,
        "owner": owner,
        "read_by": read_by,
        "write_roles": [] if read_only else list(write_roles) or None,
        "delete_roles": list(delete_roles) or None,
        "replace_policies": replace_policies,
        "plan": plan,
        "feature": feature,
        "from_mirror": from_mirror,
    }
    with open_database(database_url) as connection:
        look = _look(connection, options)
        for doubt in doubts_about(connection, plan, feature, from_mirror=from_mirror):
            say(printable(f"warn: {doubt}"), err=True)
        if not dry_run:
            _ask(look, options, remove=remove, may_ask=not yes, as_json=as_json)
        statements, findings = in_turns(
            connection,
            database_url,
            lambda: _change(connection, options, remove=remove),
            lock_seconds=lock_seconds,
            is_trial=dry_run,
            report=lambda words: say(words, err=True),
        )
    files = 0 if remove else look.files_of_nobody
    if as_json:
        print_json(
            {
                "bucket": bucket,
                "was": look.was,
                "files_of_nobody": files,
                "changed": not dry_run,
                "statements": statements,
                "findings": findings,
            }
        )
        return
    _print(bucket, statements, findings, files_of_nobody=files)
    if not dry_run:
        outcome = "is secured" if not remove else "is no longer secured" if statements else "was not secured"
        say(f"the bucket {printable(bucket)} {outcome}: {counted(len(statements), 'statement')}", err=True)


def _check_options(owner: Owner | None, *, remove: bool, read_only: bool, has_roles: bool) -> None:
    """Raises UsageError for contradicting options."""
    if remove and (owner or read_only or has_roles):
        raise click.UsageError(_ONLY_THE_BUCKET)
    if not remove and owner is None:
        raise click.UsageError("give the BUCKET and its owner: user, organization or user-or-organization")
    if read_only and has_roles:
        raise click.UsageError("--read-only and roles that write contradict each other")
    if owner == "user" and (read_only or has_roles):
        raise click.UsageError("roles are of organizations: the files of a user are written by that user")


def _look(connection: Connection, options: Mapping[str, object]) -> Look:
    with _explained():
        found = connection.execute(_LOOK, options).fetchone()
    if found is None:
        raise BucketNotSecured(_NO_STORAGE)
    return Look(*found)


def _ask(look: Look, options: Mapping[str, object], *, remove: bool, may_ask: bool, as_json: bool) -> None:
    """Asks before users may lose files, or a policy of the app changes. Raises BucketNotSecured for a program."""
    said = []
    if remove and look.was is not None:
        said.append("No user will read or write the files any more, unless a policy of your app allows it.")
    if not remove and look.was is not None and look.was != look.becomes:
        said.append(f"Now: {look.was} Then: {look.becomes}")
    if not remove and options["replace_policies"]:
        said += [f"A policy of your app changes: {statement}." for statement in look.about_policies_of_app]
    if not said or not may_ask:
        return
    words = printable(" ".join(said))
    if as_json:
        raise BucketNotSecured(f"nothing was changed: {words} Add --yes to confirm")
    say(words, err=True)
    click.confirm(f"Change the policies of {printable(str(options['bucket']))}?", abort=True, err=True)


def _change(
    connection: Connection, options: Mapping[str, object], *, remove: bool
) -> tuple[list[str], list[Mapping[str, str]]]:
    with _explained(), connection.transaction():
        statements = [statement for (statement,) in connection.execute(_UNSECURE if remove else _SECURE, options)]
        findings = [] if remove else connection.execute(_OPENINGS, options).fetchall()
    return statements, [{"verdict": verdict, "found": found, "todo": todo} for verdict, found, todo in findings]


@contextmanager
def _explained() -> Iterator[None]:
    """Turns errors about the bucket into one line with the next command."""
    try:
        yield
    except (psycopg.errors.WrongObjectType, psycopg.errors.InvalidParameterValue) as error:
        found = str(error.diag.message_primary)
        found = found.replace("call with replace_policies => true for", "add --replace-policies for")
        raise BucketNotSecured(found.replace("call with read_by => '", "add --read-by '")) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise BucketNotSecured(f"{error.diag.message_primary}. {error.diag.message_hint or ''}".strip()) from error
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
        raise DatabaseFailed("clerk_sync.secure_bucket() is missing; run: clerk-supabase migrate") from error


def _print(
    bucket: str, statements: Sequence[str], findings: Sequence[Mapping[str, str]], *, files_of_nobody: int
) -> None:
    for statement in statements:
        say(f"{printable(statement)};", as_it_is=True)
    for each in findings:
        say(f"-- {each['verdict']}: {printable(each['found'])}: {printable(each['todo'])}", as_it_is=True)
    if files_of_nobody:
        nobodys = f"{counted(files_of_nobody, 'file')} of {printable(bucket)} will belong to nobody"
        say(f"{nobodys}: move each file into a folder with the id of its owner", err=True)
