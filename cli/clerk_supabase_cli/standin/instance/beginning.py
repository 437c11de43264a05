"""The first users and organizations of `make dev`, with the same ids at each start. All people are made up."""

from __future__ import annotations

from itertools import count
from typing import Final

from clerk_supabase_cli.standin.instance.instance import Instance

_DIGITS: Final = 23


def dev_id(prefix: str, name: str) -> str:
    """An id as long as Clerk's, with a name that a person recognizes."""
    return f"{prefix}_2Dev{name:0>{_DIGITS}}"


ADA: Final = dev_id("user", "Ada")
_USERS: Final = ("Ada", "Grace", "Alan", "Radia", "Edsger", "Mallory")
LABS: Final = dev_id("org", "Labs")
WORKS: Final = dev_id("org", "Works")


def begin(instance: Instance) -> None:
    """Signs up six users, one of them banned, and makes two organizations with members, roles and an invitation.

    Clerk's Billing has its plans.
    """
    numbers = count(1)
    with instance.lock:
        former, instance.world.ids = instance.world.ids, lambda prefix: dev_id(prefix, str(next(numbers)))
        try:
            _sign_up(instance)
            _found(instance)
            instance.world.sell_plans()
        finally:
            instance.world.ids = former


def _sign_up(instance: Instance) -> None:
    for first_name in _USERS:
        instance.create_user(
            user_id=dev_id("user", first_name),
            email_address=f"{first_name.lower()}@example.test",
            first_name=first_name,
            last_name="Example",
        )
    instance.ban_user(dev_id("user", "Mallory"))


def _found(instance: Instance) -> None:
    instance.create_organization("Example Labs", org_id=LABS, created_by=ADA)
    instance.add_member(LABS, dev_id("user", "Grace"), role="org:editor")
    instance.add_member(LABS, dev_id("user", "Alan"))
    instance.create_organization("Sample Works", org_id=WORKS, created_by=dev_id("user", "Radia"))
    instance.add_member(WORKS, ADA)
    instance.add_member(WORKS, dev_id("user", "Mallory"))
    instance.invite(LABS, "guest@example.test")
