"""`clerk-supabase clerk organization`: the organizations of the made-up Clerk instance."""

from __future__ import annotations

from typing import Any

import click

from clerk_supabase_cli.commands.clerk.changes import do, faulty


@click.group("organization")
def organization_group() -> None:
    """Organizations: create, rename, delete.

    \b
    Example:
      clerk-supabase clerk organization create Acme --by user_2abc
    """


@organization_group.command("create")
@click.argument("name")
@click.option("--id", "org_id", default="", help="Id of the organization, org_...; by default a new one.")
@click.option("--by", "created_by", default="", metavar="USER", help="Id of the user who becomes its admin.")
@faulty
def create_organization_command(name: str, org_id: str, created_by: str, **how: Any) -> None:
    """Create an organization.

    \b
    Example:
      clerk-supabase clerk organization create Acme --by user_2abc
    """
    do("create_organization", {"name": name, "org_id": org_id, "created_by": created_by}, **how)


@organization_group.command("update")
@click.argument("org_id", metavar="ID")
@click.option("--name", required=True)
@faulty
def update_organization_command(org_id: str, name: str, **how: Any) -> None:
    """Rename an organization.

    \b
    Example:
      clerk-supabase clerk organization update org_2abc --name Acme
    """
    do("update_organization", {"org_id": org_id, "name": name}, **how)


@organization_group.command("delete")
@click.argument("org_id", metavar="ID")
@faulty
def delete_organization_command(org_id: str, **how: Any) -> None:
    """Delete an organization, with all that belongs to it.

    \b
    Example:
      clerk-supabase clerk organization delete org_2abc --lose
    """
    do("delete_organization", {"org_id": org_id}, **how)
