"""Steps in Clerk: changes of users and organizations, a clock set back, a webhook with a wrong delete."""

from __future__ import annotations

from random import Random
from typing import Any, Literal

from clerk_supabase.model.found_kinds import FACTS, READ_KINDS
from clerk_supabase_cli.simulator.app_rules import TABLES
from clerk_supabase_cli.simulator.episodes.stage import MARGIN_MS, Stage
from clerk_supabase_cli.standin import samples


def live(stage: Stage, chance: Random) -> None:
    def happen() -> None:
        world = stage.world
        world.live(chance.choice((1, 3, 6)))
        # Changes that are rare in a world of users.
        for seldom in (world.invite, world.add_domain, world.remove_domain, world.leave, world.delete_user):
            if chance.random() < 0.25:
                seldom()

    stage.lets(happen)


def crowd(stage: Stage, _: Random) -> None:
    """Many users join an organization, more than a run may hide at once without a person."""

    def happen() -> None:
        world = stage.world
        org_id = world.create_organization({})["id"]
        for _ in range(12):
            world.sign_up()
            world.add_membership(org_id, list(world.users)[-1], role="org:member")

    stage.lets(happen)
    stage.send(stage.untold())
    stage.work_off()
    stage.pass_time(2 * MARGIN_MS / 1000)


def invite_many(stage: Stage, chance: Random) -> None:
    """An organization with many invitations is deleted."""

    def happen() -> None:
        world = stage.world
        org_id = world.create_organization({})["id"]
        for _ in range(chance.choice((3, 5))):
            world.invite(org_id)
        world.remove_organization(org_id)

    stage.lets(happen)


def set_back(stage: Stage, chance: Random) -> None:
    """Another server of Clerk's, with a clock 10 ms behind, writes the next change."""
    kind = chance.choice([kind for kind in READ_KINDS if "updated" in FACTS[kind].verbs and not FACTS[kind].carrier])
    objects: Any = stage.world.objects()[kind]
    if not objects:
        return
    object_id = chance.choice(list(objects))
    before = objects[object_id]["updated_at"]
    column = TABLES[kind][2]

    def happen() -> None:
        stage.world.update(kind, object_id, {column: f"Set back {chance.random()}"})
        objects[object_id] = objects[object_id] | {"updated_at": max(objects[object_id]["created_at"], before - 10)}
        stage.world.events[-1]["data"] = objects[object_id]

    stage.lets(happen)
    stage.setbacks.add(object_id)


def run_out(stage: Stage, chance: Random) -> None:
    """A short invitation begins. At its end Clerk sends no event, and the API may not show the end."""

    def happen() -> None:
        world = stage.world
        if not world.organizations:
            world.create_organization({})
        world.invite()
        invitation_id = list(world.invitations)[-1]
        # Runs know Clerk's time to the second.
        until = (world.now // 1_000 + chance.choice((1, 60))) * 1_000
        world.invitations[invitation_id] = world.invitations[invitation_id] | {"expires_at": until}
        world.events[-1]["data"] = world.invitations[invitation_id]

    stage.lets(happen)
    stage.theatre.views.tells_expiry = chance.random() < 0.5


def mislead(stage: Stage, chance: Random) -> None:
    """A webhook reports the delete of an object that still exists in Clerk."""
    world = stage.world
    kind: Literal["user", "organization"] = chance.choice(("user", "organization"))
    objects = world.objects()[kind]
    if not objects:
        return
    object_id = chance.choice(list(objects))
    world.now += 7
    world.events.append(samples.event(f"{kind}.deleted", samples.deleted(kind, object_id), timestamp=world.now))
    stage.misled.add(object_id)
