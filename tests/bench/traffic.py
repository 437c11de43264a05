"""Events as a busy instance sends them, read and ready for the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from clerk_supabase.model.changes import Changes, Delivery, changes_of
from clerk_supabase.model.events import parse_event
from clerk_supabase.model.facts import Facts
from clerk_supabase.model.found_kinds import FACTS
from clerk_supabase_cli.project import find_root
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.sample_events import sample_event, sample_names
from clerk_supabase_cli.standin.worlds import World
from tests.kit.kinds import OURS

START = 1_750_000_000_000
_ROOT = find_root(Path(__file__).parent)

Applied = tuple[Changes, Delivery | None]
Batch = Sequence[Applied]


@dataclass
class Traffic:
    """A population of users and their actions. Times are Clerk's, a millisecond for every event."""

    chance: Random = field(default_factory=lambda: Random(1))
    revisions: list[int] = field(default_factory=list)
    """Per user, how often something visible changed."""
    now: int = START

    def batch(self, size: int) -> list[Applied]:
        """25 % sign up; 62 % are updates, half of them mere sign-ins; the rest comes late or twice, or is a delete."""
        batch: list[Applied] = []
        while len(batch) < size:
            dice = self.chance.random()
            if dice < 0.25 or not self.revisions:
                batch.append(self.sign_up())
            elif dice < 0.56:
                batch.append(self.sign_in())
            elif dice < 0.87:
                batch.append(self.edit())
            elif dice < 0.92:
                batch.append(self._upsert(self._someone(), START - 1))
            elif dice < 0.97 and batch:
                batch.append(self.chance.choice(batch))
            else:
                batch.append(self._delete())
        return batch

    def sign_up(self) -> Applied:
        """A new user."""
        self.revisions.append(0)
        return self._upsert(len(self.revisions) - 1, self._tick())

    def sign_in(self, user: int | None = None) -> Applied:
        """Moves a user's `updated_at`, and nothing that is mirrored."""
        return self._upsert(self._someone() if user is None else user, self._tick())

    def edit(self) -> Applied:
        """A user's metadata changes, every third time their name as well."""
        user = self._someone()
        self.revisions[user] += 1
        return self._upsert(user, self._tick())

    def edits(self, size: int) -> list[Applied]:
        """An edit each of so many users."""
        users = self.chance.sample(range(len(self.revisions)), size)
        for user in users:
            self.revisions[user] += 1
        return [self._upsert(user, self._tick()) for user in users]

    def poison(self) -> Applied:
        """A delete that Postgres refuses: jsonb cannot hold a NUL."""
        now = self._tick()
        return self._read("user.deleted", samples.deleted("user", f"user_poison{now}\0"), now)

    def _someone(self) -> int:
        return self.chance.randrange(len(self.revisions))

    def _tick(self) -> int:
        self.now += 1
        return self.now

    def _upsert(self, user: int, updated_at: int) -> Applied:
        revision = self.revisions[user]
        data = samples.user(
            _user_id(user),
            created_at=START - 1_000_000 + user,
            updated_at=updated_at,
            first_name=f"Ada {revision // 3}",
            public_metadata={"revision": revision},
        )
        return self._read("user.updated", data, updated_at)

    def _delete(self) -> Applied:
        return self._read("user.deleted", samples.deleted("user", _user_id(self._someone())), self._tick())

    def _read(self, event_type: str, data: dict[str, Any], timestamp: int) -> Applied:
        event = parse_event(json.dumps(samples.event(event_type, data, timestamp=timestamp)).encode())
        svix_id = f"msg_{self.chance.getrandbits(108):027x}"  # as long as Svix's
        return changes_of(event, timestamp + 50), Delivery(svix_id, event_type, timestamp + 50)


def world(name: str, happenings: int) -> list[Applied]:
    """The events of a small world with organizations, whose users write only storable text."""
    life = World(Random(name), name, odd_values=("odd",))
    life.live(happenings)
    read: list[Applied] = []
    for number, told in enumerate(life.events[:happenings]):
        event = parse_event(msgspec.json.encode(told))
        read.append((changes_of(event, START), Delivery(f"msg_{name}_{number}", event.type, START)))
    return read


def all_kinds(name: str, size: int) -> list[Applied]:
    """Events of every kind of this project: of a small world, and the samples of kinds that no world has."""
    batch = world(name, 2 * size)
    with_events = [FACTS[kind] for kind in OURS if FACTS[kind].verbs]
    missing = [facts for facts in with_events if facts.kind not in {changes.main.kind for changes, _ in batch}]
    share = size // len(with_events)
    others = [_sample(facts, f"{name}{number}") for facts in missing for number in range(share)]
    return [*batch[: size - len(others)], *others]


def _sample(facts: Facts, name: str) -> Applied:
    """A sample event of a kind, about an object of its own."""
    types = [f"{facts.event}.{verb}" for verb in facts.verbs if verb != "deleted"]
    event_type = next(each for each in types if each in sample_names(_ROOT))
    told = sample_event(_ROOT, event_type)
    told["data"]["id"] += name
    event = parse_event(msgspec.json.encode(told))
    return changes_of(event, event.timestamp), Delivery(f"msg_{name}_{facts.kind}", event.type, event.timestamp)


def _user_id(number: int) -> str:
    return f"user_{number:027}"
