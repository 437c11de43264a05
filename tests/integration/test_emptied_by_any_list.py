"""No list of Clerk's, of whatever kind, empties columns: such repairs wait for a second answer and for the brake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import pytest
from psycopg import sql

from clerk_supabase.model.facts import Kind
from clerk_supabase.model.found_kinds import ENCLOSED_KINDS, FACTS, KIND_NAMES, READ_KINDS
from clerk_supabase_cli.standin.faults import Fault
from clerk_supabase_cli.standin.worlds import World
from tests.kit.databases import Rows
from tests.kit.every_list import PATHS, fill_every_list
from tests.kit.kinds import OURS
from tests.kit.reconciling import MINUTE, Rig

EACH: Final = 12
"""More objects of each kind than the brake lets a run empty."""

EMPTIED: Final[Mapping[Kind, tuple[str, str]]] = {
    "user": ("last_name", "last_name"),
    "organization": ("slug", "slug"),
    "membership": ("permissions", "permissions"),
    "invitation": ("email_address", "email_address"),
    "domain": ("name", "name"),
    "permission": ("name", "name"),
    "role": ("name", "name"),
    "subscription_item": ("period_start", "period_start"),
    "payment_attempt": ("charge_type", "charge_type"),
    "waitlist_entry": ("email_address", "email_address"),
    "plan": ("name", "name"),
}
"""A field of the objects of each compared kind, and the column of the field."""

every_kind = pytest.mark.parametrize("kind", PATHS)


def with_objects(world: World) -> None:
    fill_every_list(world, EACH)
    for _ in range(EACH):
        world.create_organization({})
    for each in world.memberships.values():
        each |= {"permissions": ["org:docs:read"]}
    some = next(iter(world.others["plan"].values()))
    for number in range(EACH):
        world.others["plan"][f"cplan_{number}"] = some | {"id": f"cplan_{number}", "slug": f"plan_{number}"}
    while len(world.billing.attempts) < EACH:
        world.bill()


pytestmark = pytest.mark.mirror(EACH, with_objects)
"""At least twelve objects of every kind that Clerk lists, all of them mirrored."""


def in_table(rig: Rig, kind: Kind) -> Rows:
    table = sql.Identifier("clerk", FACTS[kind].table)
    return rig.admin.execute(sql.SQL("select to_jsonb(t) from {} as t order by 1").format(table)).fetchall()


def lists_without(rig: Rig, kind: Kind, lacking: Mapping[str, Sequence[str]]) -> None:
    """Lets the next list of a kind answer null in these fields of these objects, by id."""

    def lacks(found: Any) -> Any:
        if isinstance(found, list):
            return [lacks(each) for each in found]
        if not isinstance(found, dict):
            return found
        fields = [field for field in lacking.get(found.get("id", ""), ()) if field in found]
        inner = {key: lacks(value) for key, value in found.items()} if kind in ENCLOSED_KINDS else found
        return inner | dict.fromkeys(fields)

    def alter(elements: list[bytes]) -> list[bytes]:
        return [msgspec.json.encode(lacks(msgspec.json.decode(each))) for each in elements]

    # A list that Clerk gives newest first is asked for its length before.
    rig.api.faults.add(Fault(alter=alter), path=PATHS[kind], times=2 if FACTS[kind].is_listed_newest_first else 1)


def test_a_field_of_every_compared_kind_is_tried_here() -> None:
    assert EMPTIED.keys() == {kind for kind in (*READ_KINDS, *ENCLOSED_KINDS) if kind in OURS}


@every_kind
def test_a_field_that_single_objects_of_a_list_lack_empties_no_column(rig: Rig, kind: Kind) -> None:
    objects = dict(rig.world.objects()[kind])
    ids = list(objects)
    fields = sorted({field for each in objects.values() for field in each} - {"id"})
    before = in_table(rig, kind)
    for start in range(0, len(fields), len(ids)):
        lists_without(rig, kind, {key: [field] for key, field in zip(ids, fields[start:], strict=False)})
        report = rig.run()
        assert report.state in ("complete", "incomplete")
        changed = [pair for pair in zip(before, in_table(rig, kind), strict=True) if pair[0] != pair[1]]
        assert changed == []
        rig.api.faults.clear()


@every_kind
def test_a_field_that_a_whole_list_lacks_stops_the_run_before_the_first_row(rig: Rig, kind: Kind) -> None:
    field, column = EMPTIED[kind]
    before = in_table(rig, kind)
    lists_without(rig, kind, {key: [field] for key in rig.world.objects()[kind]})
    report = rig.run()
    assert report.state == "stopped"
    assert f"{column} would lose its value in " in str(report.reason)
    assert f" {KIND_NAMES[kind]}, and one run may empty 10" in str(report.reason)
    assert in_table(rig, kind) == before
    rig.api.faults.clear()
    assert rig.run().findings == 0


@every_kind
def test_a_column_that_clerk_empties_is_emptied_when_an_operator_allows_it(rig: Rig, kind: Kind) -> None:
    field, column = EMPTIED[kind]
    rig.world.now += MINUTE
    objects: Any = rig.world.objects()[kind]
    for key, each in list(objects.items()):
        objects[key] = {**each, field: None, "updated_at": rig.world.now}
    before = in_table(rig, kind)
    assert rig.run().state == "stopped"
    assert in_table(rig, kind) == before
    report = rig.run(allow_emptied=len(objects))
    assert (report.state, report.reason) == ("complete", None)
    counted = "select count(*) from {} where {} is not null and {}::text not in ('', '{{}}')"
    names = [sql.Identifier("clerk", FACTS[kind].table), sql.Identifier(column), sql.Identifier(column)]
    assert rig.admin.execute(sql.SQL(counted).format(*names)).fetchall() == [(0,)]
    assert rig.run().findings == 0


def test_a_list_without_requests_for_single_objects_is_walked_once_for_all_of_them(rig: Rig) -> None:
    plans: Any = rig.world.others["plan"]
    some = next(iter(plans.values()))
    for number in range(250):
        plans[f"cplan_{number}"] = some | {"id": f"cplan_{number}", "slug": f"plan_{number}"}
    rig.run()
    calls = rig.run().calls
    rig.world.now += MINUTE
    for key, each in list(plans.items()):
        plans[key] = {**each, EMPTIED["plan"][0]: None, "updated_at": rig.world.now}
    report = rig.run(allow_emptied=len(plans))
    assert (report.state, report.counts["plan"]["repaired"]) == ("complete", len(plans))
    # All plans fit on one page.
    assert report.calls == calls + 1


def test_a_subscription_loses_a_value_only_by_clerks_answer_about_its_own_payer(rig: Rig) -> None:
    """No list shows subscriptions. A run reads the subscriptions of items that differ, and no others."""
    items = dict(rig.world.billing.items)
    for each in rig.world.billing.subscriptions.values():
        each |= {"active_at": None}
    before = in_table(rig, "subscription")
    report = rig.run()
    assert (report.state, in_table(rig, "subscription")) == ("complete", before)
    [one, *_] = items
    rig.admin.execute(
        "update clerk.subscription_items set status = 'by hand' where clerk_subscription_item_id = %s", [one]
    )
    assert rig.run().state == "complete"
    emptied = rig.admin.execute(
        "select clerk_subscription_id from clerk.subscriptions where active_at is null"
    ).fetchall()
    [(of_item,)] = rig.admin.execute(
        "select clerk_subscription_id from clerk.subscription_items where clerk_subscription_item_id = %s", [one]
    ).fetchall()
    assert emptied == [(of_item,)]
