"""`clerk-supabase clerk membership`: the members of organizations in the made-up Clerk instance."""

from __future__ import annotations

from typing import Any

import click

from clerk_supabase_cli.commands.clerk.changes import do, faulty


@click.group("membership")
def membership_group() -> None:
    """Members: add, change, remove, invite, accept.

    \b
    Example:
      clerk-supabase clerk membership add org_2abc user_2abc --role org:admin
    """


@membership_group.command("add")
@click.argument("org_id", metavar="ORG")
@click.argument("user_id", metavar="USER")
@click.option("--role", default="org:member", show_default=True)
@faulty
def add_member_command(org_id: str, user_id: str, role: str, **how: Any) -> None:
    """Make a user a member of an organization.

    \b
    Example:
      clerk-supabase clerk membership add org_2abc user_2abc --role org:admin
    """
    do("add_member", {"org_id": org_id, "user_id": user_id, "role": role}, **how)


@membership_group.command("change")
@click.argument("org_id", metavar="ORG")
@click.argument("user_id", metavar="USER")
@click.argument("role", metavar="ROLE")
@faulty
def change_role_command(org_id: str, user_id: str, role: str, **how: Any) -> None:
    """Give a member another role, such as org:admin.

    \b
    Example:
      clerk-supabase clerk membership change org_2abc user_2abc org:admin
    """
    do("change_role", {"org_id": org_id, "user_id": user_id, "role": role}, **how)


@membership_group.command("remove")
@click.argument("org_id", metavar="ORG")
@click.argument("user_id", metavar="USER")
@faulty
def remove_member_command(org_id: str, user_id: str, **how: Any) -> None:
    """Remove a member from an organization.

    \b
    Example:
      clerk-supabase clerk membership remove org_2abc user_2abc
    """
    do("remove_member", {"org_id": org_id, "user_id": user_id}, **how)


@membership_group.command("invite")
@click.argument("org_id", metavar="ORG")
@click.argument("email_address", metavar="EMAIL")
@click.option("--role", default="org:member", show_default=True)
@faulty
def invite_command(org_id: str, email_address: str, role: str, **how: Any) -> None:
    """Invite a person to an organization.

    \b
    Example:
      clerk-supabase clerk membership invite org_2abc ada@example.test
    """
    do("invite", {"org_id": org_id, "email_address": email_address, "role": role}, **how)


@membership_group.command("accept")
@click.argument("invitation_id", metavar="INVITATION")
@click.argument("user_id", metavar="USER")
@faulty
def accept_command(invitation_id: str, user_id: str, **how: Any) -> None:
    """Accept an invitation, orginv_..., for a user, who becomes a member.

    \b
    Example:
      clerk-supabase clerk membership accept orginv_2abc user_2abc
    """
    do("accept_invitation", {"invitation_id": invitation_id, "user_id": user_id}, **how)
