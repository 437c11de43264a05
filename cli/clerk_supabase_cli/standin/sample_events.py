"""The sample events of the folder `events`, with the present time."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.standin.samples import Json


class NoSuchSample(Failure):
    """No sample event has this name."""


class UnusableId(Failure):
    """The id does not have the form of Clerk's ids for the object of a sample."""


def sample_names(root: Path) -> list[str]:
    """The names of the samples: event types, some with a variant (`user.created.google`)."""
    return sorted(file.stem for file in (root / "events" / "clerk").glob("*.json"))


def sample_event(root: Path, name: str, object_id: str | None = None) -> Json:
    """The sample with the present time, newer than all samples before; about `object_id` if given.

    Another user has another username and other e-mail addresses. Raises NoSuchSample and UnusableId.
    """
    # A name in the list cannot lead out of the folder.
    if name not in sample_names(root):
        raise NoSuchSample(f"no sample is called {name!r}; there are: {', '.join(sample_names(root))}")
    event: Json = json.loads((root / "events" / "clerk" / f"{name}.json").read_text())
    # An event without an instance is taken by every stack, and never decides which instance a database mirrors.
    event.pop("instance_id", None)
    event["timestamp"] = time.time_ns() // 1_000_000
    if "updated_at" in event["data"]:
        event["data"]["updated_at"] = event["timestamp"]
    if object_id is not None and object_id != event["data"]["id"]:
        _check_id(object_id, like=event["data"]["id"])
        event["data"]["id"] = object_id
        _rename(event["data"], object_id.partition("_")[2].lower())
    return event


def _rename(data: Json, name: str) -> None:
    """Gives an object another person's addresses and username, because no two users of Clerk share any of these."""
    for listed in ("email_addresses", "external_accounts", "enterprise_accounts", "saml_accounts"):
        for each in data.get(listed, ()):
            each["email_address"] = f"{name}.{each['email_address']}"
    if data.get("username"):
        data["username"] = f"{data['username']}_{name}"


def _check_id(object_id: str, *, like: str) -> None:
    prefix, _, _ = like.rpartition("_")
    if not re.fullmatch(rf"{prefix}_[A-Za-z0-9_-]{{1,250}}", object_id):
        raise UnusableId(f"{object_id!r} is no such id: it begins with {prefix}_, then come letters, digits, _ and -")
