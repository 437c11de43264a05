"""An object of any kind, made of the sample event of the kind: tests of all kinds need no list of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import FACTS, REPAIR_PREFIX
from clerk_supabase_cli.project import find_root
from clerk_supabase_cli.standin.billing.objects import PLANS, plan_of_api
from clerk_supabase_cli.standin.samples import Json
from tests.kit.histories import CREATED_AT, Applied
from tests.kit.kinds import OURS
from tests.kit.webhooks import told

_SAMPLES: Final = find_root(Path(__file__).parent) / "events" / "clerk"
# The user and the organization of the samples.
_USER: Final = "user_2Sample000000000000000000A"
_ORGANIZATION: Final = "org_2Sample000000000000000000A1"


# A time of the samples.
_TIME: Final = re.compile(r"\b17637\d{8}\b")


# Objects of kinds without events, as Clerk's API lists them.
_OF_API: Final[Mapping[Kind, Json]] = {"plan": plan_of_api(PLANS["pro"])}


def first_type(kind: Kind) -> str:
    """A type of events about a kind: of a kind without events, the type of repairs."""
    facts = FACTS[kind]
    return f"{facts.event}.{facts.verbs[0]}" if facts.verbs else whole_type(kind)


def whole_type(kind: Kind) -> str:
    """A type of events that carry the whole object: of a kind without events, the type of repairs."""
    facts = FACTS[kind]
    return facts.whole if facts.verbs else f"{REPAIR_PREFIX}{facts.event}.updated"


def example(kind: Kind, object_id: str, *, created_at: int, user_id: str, org_id: str, **fields: Any) -> Json:
    """An object of a kind, with these parents and these fields; every other time in it is `created_at`."""
    if not FACTS[kind].verbs:
        return _OF_API[kind] | {"id": object_id} | fields
    text = (_SAMPLES / f"{first_type(kind)}.json").read_text().replace(_USER, user_id).replace(_ORGANIZATION, org_id)
    data: Json = json.loads(_TIME.sub(str(created_at), text))["data"]
    return data | {"id": object_id} | fields


def samples_of(kind: Kind, *, at: int) -> list[tuple[str, Json]]:
    """The type and the object of every sample event of a kind, without deletes. Every time in an object is `at`."""
    paths = sorted(path for verb in FACTS[kind].verbs for path in _SAMPLES.glob(f"{FACTS[kind].event}.{verb}*.json"))
    events = [json.loads(_TIME.sub(str(at), path.read_text())) for path in paths if ".deleted" not in path.name]
    return [(event["type"], event["data"]) for event in events]


def examples_besides(*kinds: Kind, at: int, user_id: str, org_id: str) -> list[Applied]:
    """An event about an object `<kind>_ada` of each kind of this project, except of these kinds."""
    fields: Any = {"created_at": CREATED_AT, "updated_at": CREATED_AT + at, "user_id": user_id, "org_id": org_id}
    return [told(first_type(kind), example(kind, f"{kind}_ada", **fields), at=at) for kind in OURS if kind not in kinds]
