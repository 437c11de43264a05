"""`clerk-supabase demo`: the main job, end to end, on this machine."""

from __future__ import annotations

import sys

import click

from clerk_supabase_cli.local.demo import Demo
from clerk_supabase_cli.project import find_checkout
from clerk_supabase_cli.terminal import Terminal


@click.command("demo")
@click.option(
    "--users", default=300, show_default=True, type=click.IntRange(1, 5000), help="Number of users who sign up."
)
@click.option("--seed", default=None, type=int, help="Repeats the traffic of an earlier run.")
def demo_command(users: int, seed: int | None) -> None:
    """Deploy to an emulated AWS on this machine, and send webhooks. In the end Postgres is compared with Clerk.

    \b
    Examples:
      clerk-supabase demo
      clerk-supabase demo --users 50 --seed 7
    """
    if Demo(find_checkout("demo"), users=users, seed=seed, console=Terminal()).run() != 0:
        sys.exit(1)
