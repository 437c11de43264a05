"""Makes up webhooks of a few hundred Clerk users, and the state that Postgres must have in the end."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from clerk_supabase_cli.standin.deliveries import new_svix_id
from clerk_supabase_cli.standin.samples import Json, deleted, event, new_user_id, user

# Of this number of webhooks of each type, a single one never arrives.
_LOST = 30
# Below the brake of reconcile, which deletes no more at once.
_MOST_DELETES_LOST = 10
_FIRST_NAMES = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Radia", "Linus", "Margaret", "Ken")


@dataclass(frozen=True, slots=True)
class Message:
    """A webhook; its id is the same in every delivery."""

    svix_id: str
    event: Json


@dataclass(slots=True)
class Traffic:
    """The webhooks in order of arrival, and the final state in Clerk."""

    arrivals: list[Message] = field(default_factory=list)
    messages: int = 0
    """The number of different webhooks that arrive."""
    lost: int = 0
    """The number of webhooks that never arrive."""
    users: dict[str, Json] = field(default_factory=dict)
    """The users who exist in Clerk in the end, by id."""


def make_traffic(user_count: int, rng: random.Random, *, start: int) -> Traffic:
    """Sign-ups, changes and deletes of `user_count` users, starting at `start` (milliseconds).

    The webhooks arrive shuffled, a tenth of them twice, some updates long after the delete, and some never.
    """
    traffic = Traffic()
    on_time: list[Message] = []
    late: list[Message] = []
    for number in range(user_count):
        history, survivor = _life_of_a_user(number, rng, start)
        traffic.messages += len(history)
        if survivor is None and rng.random() < 0.5:
            # The last change before the delete arrives after all other webhooks.
            late.append(history.pop(-2))
        else:
            traffic.users |= {survivor["id"]: survivor} if survivor else {}
        on_time += history
    on_time += rng.sample(on_time, k=len(on_time) // 10)
    rng.shuffle(on_time)
    lost = _lost(on_time + late, rng)
    traffic.arrivals = [each for each in on_time + late if each.svix_id not in lost]
    traffic.lost = len(lost)
    traffic.messages -= traffic.lost
    return traffic


def _lost(messages: list[Message], rng: random.Random) -> set[str]:
    """The ids of the messages that never arrive: sign-ups, changes and deletes."""
    lost: set[str] = set()
    for event_type in ("user.created", "user.updated", "user.deleted"):
        ids = list(dict.fromkeys(each.svix_id for each in messages if each.event["type"] == event_type))
        number = min(len(ids), max(1, len(ids) // _LOST))
        lost |= set(rng.sample(ids, min(number, _MOST_DELETES_LOST) if event_type == "user.deleted" else number))
    return lost


def _life_of_a_user(number: int, rng: random.Random, start: int) -> tuple[list[Message], Json | None]:
    """The messages about a user in the order of the changes, and the final user; None for a deleted user."""
    user_id = new_user_id()
    now = start + number * 1000
    state = user(user_id, created_at=now, updated_at=now, first_name=rng.choice(_FIRST_NAMES))
    history = [_message("user.created", state, now)]
    for _ in range(rng.randrange(3)):
        now += rng.randrange(1, 60_000)
        state = state | {
            "updated_at": now,
            "last_name": f"Example {rng.randrange(100)}",
            "public_metadata": {"plan": rng.choice(["free", "pro"])},
        }
        history.append(_message("user.updated", state, now))
    if rng.random() < 0.15:
        now += rng.randrange(1, 60_000)
        history.append(_message("user.deleted", deleted("user", user_id), now))
        return history, None
    return history, state


def _message(event_type: str, data: Json, now: int) -> Message:
    # Clerk's envelope is stamped a moment after the change itself.
    return Message(new_svix_id(), event(event_type, data, timestamp=now + 18))
