"""`python -m clerk_supabase_cli.standin`: the stand-in with a population, until the process is ended."""

from __future__ import annotations

from random import Random

import click

from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.population import BEGINNING, Population
from clerk_supabase_cli.standin.worlds import World


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--key", default="sk_test_standin", help="The accepted secret key.")
@click.option("--users", type=int, default=0, help="Number of users.")
@click.option("--step", type=int, default=1_000, help="Milliseconds between two sign-ups.")
@click.option("--same-moment", type=int, default=1, help="Number of users with the same time of sign-up.")
@click.option("--delete", "deletes", type=int, default=0, help="Number of users deleted afterwards.")
@click.option("--delete-among", type=int, help="Delete only among this number of newest users.")
@click.option("--change", "changes", type=int, default=0, help="Number of users changed afterwards.")
@click.option("--seed", default="0", help="Seed for the choice of these users.")
@click.option("--rate-limit/--no-rate-limit", default=False)
def main(  # noqa: PLR0917 - click passes them by name
    port: int,
    key: str,
    users: int,
    step: int,
    same_moment: int,
    deletes: int,
    delete_among: int | None,
    changes: int,
    seed: str,
    rate_limit: bool,
) -> None:
    """Answers on 127.0.0.1 as Clerk's Backend API does."""
    population = Population(users, step=step, same_moment=same_moment)
    chance = Random(seed)  # noqa: S311 - to be repeated, not to be secret
    world = World(chance, "", users=population, now=BEGINNING + users // same_moment * step + 1_000)
    deleted = set(chance.sample(range(users)[-(delete_among or users) :], deletes))
    for number in deleted:
        world.remove_user(population.id(number))
    picked = chance.sample(range(users), min(users, deletes + changes))
    for number in [each for each in picked if each not in deleted][:changes]:
        world.update("user", population.id(number), {"last_name": "Changed"})
    with ClerkApi(Answers(world, key), port=port, has_rate_limit=rate_limit) as api:
        api.stopped.wait()


if __name__ == "__main__":
    main()
