"""`clerk-supabase destroy`: deletes a stack with its queues, and if asked the schema, after showing their content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from clerk_supabase_cli.commands.deploy.uninstall import uninstall_command
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.deployment.account import default_region, in_region
from clerk_supabase_cli.operate.deployment.artifacts import delete_artifacts
from clerk_supabase_cli.operate.deployment.kept_queues import KeptQueue, delete, kept
from clerk_supabase_cli.operate.deployment.stack import Stack, deleted, settled
from clerk_supabase_cli.operate.deployment.stack_file import FILE, read
from clerk_supabase_cli.operate.deployment.values import has_value
from clerk_supabase_cli.operate.setup.stack_secrets import SECRETS
from clerk_supabase_cli.operate.setup.supabase_settings import Access
from clerk_supabase_cli.operate.uninstall.exposed import exposed_of
from clerk_supabase_cli.operate.uninstall.run import look
from clerk_supabase_cli.options import parsed_database_url_option
from clerk_supabase_cli.printing import printable, say
from clerk_supabase_cli.project import find_root, workplace


class NotDestroyed(Failure):
    """Nothing was deleted, for the reason in the message."""


@click.command("destroy")
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"The settings of the stack.  [default: {FILE}]",
)
@click.option(
    "--stack-name", envvar="CLERK_SUPABASE_STACK", default="", help="Name of the stack.  [env: CLERK_SUPABASE_STACK]"
)
@click.option("--region", default="", help="AWS region.  [default: the region of the file, or of AWS's configuration]")
@click.option("--with-events", is_flag=True, help="Also delete the queues if they still hold events.")
@click.option("--schema", "removes_schema", is_flag=True, help="Also run `uninstall` on the database.")
@click.option("--yes", is_flag=True, help="Do not ask for the name of the stack.")
@parsed_database_url_option
@click.pass_context
def destroy_command(
    context: click.Context,
    *,
    file: Path | None,
    stack_name: str,
    region: str,
    with_events: bool,
    removes_schema: bool,
    yes: bool,
    database_url: str | None,
) -> None:
    """Delete the stack, its secrets and its queues. What is still in them is shown first.

    If a queue holds events, the queues are kept, because Clerk was told that these events are accepted: `deploy` takes
    the queues up again, and --with-events deletes them. The database and the settings of Supabase stay as they are
    without --schema. Delete the endpoint in Clerk's dashboard first, so that nothing more arrives. An interrupted run
    can be repeated.

    \b
    Examples:
      clerk-supabase destroy
      clerk-supabase destroy --stack-name clerk-supabase-sync-dev --with-events
    """
    root = find_root()
    found = read(file or workplace(root) / FILE)
    name = stack_name or (found.name if found else "")
    if not name:
        raise click.UsageError("Name the stack: --stack-name or CLERK_SUPABASE_STACK.")
    if removes_schema and database_url is None:
        raise click.UsageError("--schema needs the option --database-url or the environment variable DATABASE_URL.")
    of_file = found.region if found and found.name == name else ""
    with in_region(region or of_file or default_region()):
        stack = settled(name, _tell)
        queues = kept(name)
        if removes_schema and database_url:
            _check_schema(database_url, root)
        for line in _shown(name, stack, queues):
            say(printable(line))
        if not (stack or queues or removes_schema):
            return
        if not yes and click.prompt("Type the name of the stack to delete it", err=True).strip() != name:
            raise NotDestroyed("nothing was deleted: this is not the name of the stack")
        if stack:
            deleted(stack, name, _tell)
        if number := delete_artifacts(name):
            say(f"deleted {number} objects with the code of the stack from SAM's bucket")
        # Last: an interrupted run finds the queues again, and goes on.
        _delete_queues(name, with_events=with_events)
    if removes_schema:
        context.invoke(uninstall_command, database_url=database_url, yes=True)


def _tell(words: str) -> None:
    say(printable(words))


def _check_schema(database_url: str, root: Path) -> None:
    """Raises NotDestroyed or SupabaseFailed if `uninstall` would stop, so that the stack is not deleted alone."""
    with open_database(database_url) as connection:
        found = look(connection, root)
        if found.stops:
            raise NotDestroyed(
                "nothing was deleted: objects of yours need the schema; `clerk-supabase uninstall --dry-run` lists them"
            )
        exposed_of(Access("", database_url), found.schemas)


def _shown(name: str, stack: Stack | None, queues: list[KeptQueue]) -> Iterator[str]:
    if stack is None and not queues:
        yield f"there is no stack {name}, and no queue of such a stack"
    if stack:
        yield f"the stack {name} ({stack.status})"
        for kept_secret in SECRETS:
            if identifier := stack.outputs.get(kept_secret.parameter):
                yield f"  secret: {kept_secret.what}, {_fate(stack, kept_secret.parameter, identifier)}"
    for queue in queues:
        yield f"  queue {queue.words}"


def _fate(stack: Stack, parameter: str, identifier: str) -> str:
    if stack.parameters.get(parameter):
        return "yours, which stays"
    return "filled, deleted with the stack" if has_value(identifier) else "empty"


def _delete_queues(name: str, *, with_events: bool) -> None:
    """Deletes the queues, as they are now; if any of them holds events, only if the operator says so."""
    queues = kept(name)
    if any(queue.depth.total for queue in queues) and not with_events:
        for queue in queues:
            _tell(f"kept the queue {queue.words}")
        _tell("`deploy` takes these queues up again, and `destroy --with-events` deletes them")
        return
    for queue in queues:
        delete(queue)
        _tell(f"deleted the queue {queue.name}")
