"""A Clerk of the simulator that lost an object knows nothing of the children of the object, either."""

from __future__ import annotations

from random import Random

import pytest

from clerk_supabase_cli.simulator.episodes.clerk_views import History
from clerk_supabase_cli.standin.worlds import World


@pytest.mark.parametrize("lost", ["user", "organization"])
def test_children_made_after_the_loss_of_their_parent_are_missing_too(lost: str) -> None:
    world = World(Random(1), "1")
    history = History(world)
    world.sign_up()
    [user_id] = world.users
    org_id = world.create_organization({})["id"]
    history.hidden.add({"user": user_id, "organization": org_id}[lost])

    world.add_membership(org_id, user_id, role="org:admin")
    world.invite(org_id)
    world.add_domain()
    history.note()

    of_organizations = 1 if lost == "user" else 0
    for view in (history.now(), history.at(world.now)):
        assert len(view.users) + len(view.organizations) == 1
        assert not view.memberships
        assert (len(view.invitations), len(view.domains)) == (of_organizations, of_organizations)

    history.hidden.clear()
    assert history.now().objects() == world.objects()
