"""`clerk-supabase switch-instance`: moves a database to another Clerk instance, and back until it is confirmed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

import click

from clerk_supabase_cli.adopt.links.writing import Writer
from clerk_supabase_cli.adopt.switching import steps
from clerk_supabase_cli.adopt.switching.state import State, Switch, read_state
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operator_name import operator_name
from clerk_supabase_cli.options import database_url_option, json_option
from clerk_supabase_cli.printing import counted, in_utc, print_json, printable, say

_SHOWN: Final = 20
_DRY: Final = "nothing was changed; add --write to do it"


class NotSwitched(Failure):
    """The step cannot be taken now, for the reason in the message."""


class _InstanceId(click.ParamType[str]):
    name = "ins_..."

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"ins_[A-Za-z0-9]{1,64}", value):
            self.fail(f"{value!r} is no id of a Clerk instance, which begins with ins_", param, ctx)
        return value


@click.command("switch-instance")
@click.option("--to", "to_instance", type=_InstanceId(), help="The new instance; only for the first step.")
@click.option("--pair", "pairs", metavar="OLD=NEW", multiple=True, help="Ids of the same user, or organization.")
@click.option("--column", "columns", metavar="SCHEMA.TABLE.COLUMN", multiple=True, help="One more column with ids.")
@click.option("--without-comparison", is_flag=True, help="Write new ids before a comparison was complete.")
@click.option("--undo", is_flag=True, help="Go back to the old instance.")
@click.option("--confirm", is_flag=True, help="Remove the rows of the old instance for good; no way back.")
@click.option("--write", is_flag=True, help="Do it; without this option, only show what would be done.")
@database_url_option
@json_option
def switch_instance_command(  # noqa: PLR0917 - click passes them by name
    to_instance: str | None,
    pairs: tuple[str, ...],
    columns: tuple[str, ...],
    without_comparison: bool,
    undo: bool,
    confirm: bool,
    write: bool,
    database_url: str,
    as_json: bool,
) -> None:
    """Move the database to another Clerk instance: from development to production.

    First step, with --to: the rows of the old instance go into an archive, and events of the new instance are
    accepted. Second step, after a comparison with the new instance: in your app's tables, ids of the old instance
    become ids of the new instance, for users with the same external_id or the same verified address. Third step:
    --confirm removes the archive, or --undo goes back. Each step can be stopped and run again.

    \b
    Examples:
      clerk-supabase switch-instance --to ins_2abc
      clerk-supabase switch-instance --to ins_2abc --write
      clerk-supabase switch-instance --write
      clerk-supabase switch-instance --confirm --write
    """
    if undo and confirm:
        raise click.UsageError("--undo and --confirm exclude each other")
    with open_database(database_url) as connection:
        state = read_state(connection)
        _check(state, to_instance, undo=undo, confirm=confirm)
        # The first step, typed again, is no second step.
        write = write and not (state.switch and to_instance)
        writer = Writer(
            connection, database_url, operator_name(), lambda words: say(words, err=True), is_trial=not write
        )
        switch = state.switch
        found: Sequence[steps.Found] = ()
        report = steps.Report()
        if switch is None:
            found = steps.look(writer, columns)
            if write and to_instance:
                steps.begin(writer, to_instance)
        elif undo:
            report = steps.undo(writer)
        elif confirm:
            _check_moved(switch)
            if write:
                steps.confirm(writer)
        else:
            if write:
                _check_users(switch, state, without_comparison=without_comparison)
            report = steps.move(writer, pairs, columns)
    if as_json:
        print_json({"written": write, "state": state, "found": found, "report": report})
    else:
        _print(state, to_instance, found, report, undo=undo, confirm=confirm, write=write)
    if not report.is_whole:
        raise NotSwitched("some tables stay as they were, for the printed reasons: run the command again")


def _check(state: State, to_instance: str | None, *, undo: bool, confirm: bool) -> None:
    if state.switch is None:
        if undo or confirm:
            raise NotSwitched("no move to another instance is under way")
        if to_instance is not None and to_instance == state.instance:
            raise NotSwitched(f"the database mirrors {to_instance} already")
    elif to_instance not in {None, state.switch.to_instance}:
        raise NotSwitched(
            f"a move to {state.switch.to_instance} is under way: end it by --confirm or --undo before another begins"
        )


def _check_moved(switch: Switch) -> None:
    if switch.moved_at is None:
        raise NotSwitched("the ids in your app's tables were not replaced yet: clerk-supabase switch-instance --write")


def _check_users(switch: Switch, state: State, *, without_comparison: bool) -> None:
    if not state.mirrored.get("user"):
        raise NotSwitched(
            f"the mirror has no user of {switch.to_instance} yet: with the new secret key, run clerk-supabase reconcile"
        )
    if not switch.is_compared and not without_comparison:
        raise NotSwitched(
            f"users of {switch.to_instance} may still be missing, because no comparison was complete since "
            f"{in_utc(switch.began_at)} UTC: run clerk-supabase reconcile with the new secret key; "
            "without a key of Clerk: --without-comparison"
        )


# The output


def _print(
    state: State,
    to_instance: str | None,
    found: Sequence[steps.Found],
    report: steps.Report,
    *,
    undo: bool,
    confirm: bool,
    write: bool,
) -> None:
    for line in _of_state(state):
        say(printable(line))
    if state.switch is None:
        lines = _of_look(found, to_instance, write=write)
    elif confirm:
        lines = iter(["the archive was removed" if write else "the archive would be removed, for good"])
    else:
        lines = _of_report(report, undo=undo, write=write)
        if not (undo or write or (state.mirrored.get("user") and state.switch.is_compared)):
            say("users of the new instance may be missing: with its secret key, run clerk-supabase reconcile first")
    for line in lines:
        say(printable(line))
    if state.switch and to_instance:
        say("the first step is done; for the second step, leave --to out")
    elif not write and (to_instance or state.switch):
        say(_DRY)


def _of_state(state: State) -> Iterator[str]:
    yield f"the database mirrors {state.instance or 'no instance yet'}: {_of_kinds(state.mirrored)}"
    if switch := state.switch:
        old = switch.from_instance or "the instance before"
        yield f"archive of {old}, since {in_utc(switch.began_at)} UTC: {_of_kinds(state.archived)}"


def _of_kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(counted(number, kind.replace("_", " ")) for kind, number in counts.items()) or "no objects"


def _of_look(found: Sequence[steps.Found], to_instance: str | None, *, write: bool) -> Iterator[str]:
    for each in found:
        yield f"  {each.column}: {counted(each.rows, 'row')} with its ids, known by {each.known_by}"
    if not found:
        yield "  no column of your app is known to hold its ids; name one by --column SCHEMA.TABLE.COLUMN"
    if to_instance and write:
        yield f"the database mirrors {to_instance} now; store its keys, run clerk-supabase reconcile, and then:"
        yield "clerk-supabase switch-instance"
    elif not to_instance:
        yield "to move to another instance: clerk-supabase switch-instance --to ins_..."


def _of_report(report: steps.Report, *, undo: bool, write: bool) -> Iterator[str]:
    for proof, number in report.users.items():
        yield f"  {counted(number, 'user')}: {proof}"
    verb = ("back: " if undo else "") + ("written" if write else "to write")
    for moved in report.moved:
        rows = "" if undo and not write else f"{counted(moved.rows, 'value')} "
        yield f"  {', '.join(moved.columns)}: {moved.why_not or rows + verb}"
    for column, group in groupby(report.left, key=lambda each: each.column):
        rest = list(group)
        yield f"  {column}: {counted(sum(each.rows for each in rest), 'row')} keep an old id"
        for each in rest[:_SHOWN]:
            yield f"    {each.old_id}: {counted(each.rows, 'row')}, {each.reason}"
        if len(rest) > _SHOWN:
            yield f"    and {len(rest) - _SHOWN:,} more ids: --json lists all"
    for key in report.not_valid:
        yield f"  foreign key {key}: made as NOT VALID, because rows keep an old id; a later run validates the key"
    if write and undo and report.is_whole:
        yield "the database is as before the move: put the old keys back, and run clerk-supabase reconcile"
    elif write and not undo:
        yield "go back by --undo --write, or end the move by --confirm --write"
