"""Conditions on a database: some hold at any moment, others only at rest."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from clerk_supabase.model.clerk_object import Columns
from clerk_supabase.model.found_kinds import FACTS, READ_KINDS
from clerk_supabase_cli.operate.database import Connection
from clerk_supabase_cli.operate.install.mirror import DEFAULT
from clerk_supabase_cli.simulator.snapshots import Place, Snapshot, content_of
from clerk_supabase_cli.standin.billing.life import parent_of
from clerk_supabase_cli.standin.worlds import World

_PROFILES: Final = """
select coalesce(u.clerk_id, p.clerk_id), to_jsonb(p), to_jsonb(u)
from clerk.users as u full join clerk.users_public as p using (clerk_id)
where p.clerk_id is null or u.clerk_id is null
or (p.username, p.first_name, p.last_name, p.avatar_url, p.deleted_at) is distinct from (
    case when u.deleted_at is null then u.username end, case when u.deleted_at is null then u.first_name end,
    case when u.deleted_at is null then u.last_name end, case when u.deleted_at is null then u.image_url end,
    u.deleted_at
)
"""
# Objects without a tombstone, although a webhook reported their delete.
_TOLD: Final = f"""
select e.kind, e.id, d.svix_id
from clerk_sync.deliveries as d
inner join clerk_sync.entities as e on e.id = d.entity_id and e.kind = case split_part(d.event_type, '.', 1)
    {" ".join(f"when '{facts.event}' then '{kind}'" for kind, facts in FACTS.items())}
end
where d.event_type like '%.deleted' and d.event_type not like 'reconcile%' and e.deleted_at is null
"""  # noqa: S608 - names of FACTS
# Tombstones of a run that was undone, for deletes without a webhook.
_UNDONE: Final = """
select e.kind, e.id, f.run_id
from clerk_sync.reconcile_findings as f
inner join clerk_sync.entities as e on e.kind = f.kind and e.id = f.entity_id and e.deleted_at = f.observed_at
where f.run_id = any(%s) and f.action = 'delete' and e.purged_at is null and not exists (
    select from clerk_sync.deliveries as d
    where d.entity_id = e.id and d.event_type like '%%.deleted' and d.event_type not like 'reconcile%%'
)
"""
# After a purge, the audit log keeps the fact of each change without its values.
_REMEMBERED: Final = """
select a.kind, a.entity_id from clerk_sync.audit_log as a
inner join clerk_sync.entities as e on e.kind = a.kind and e.id = a.entity_id and e.purged_at is not null
where a.old_values is not null or a.new_values is not null
group by 1, 2
"""
_REMEMBERED_OF_ORGANIZATIONS: Final = """
select distinct a.kind, a.entity_id from clerk_sync.audit_log as a
inner join clerk_sync.entities as e
    on e.kind = 'organization' and e.purged_at is not null and e.id = a.new_values ->> 'clerk_org_id'
where a.kind <> 'organization'
"""
_AUDIT: Final = """
select kind, entity_id, operation, new_values, old_values is null and new_values is null
from clerk_sync.audit_log where %(ids)s::text[] is null or entity_id = any(%(ids)s) order by audit_id
"""
_ACT: Final = "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)"
# Nobody reads the waitlist, and lost events of sessions stay lost.
_SEEN_KINDS: Final = tuple(kind for kind in READ_KINDS if kind != "waitlist_entry")
_SEEN: Final = "\nunion all ".join(
    [
        "select 'profile', clerk_id from clerk.users_public where clerk_id = any(%(users)s)",
        *(f"select '{kind}', {FACTS[kind].key} from {FACTS[kind].relation(DEFAULT)}" for kind in _SEEN_KINDS),  # noqa: S608 - names of FACTS
    ]
)

_BILLING: Final = frozenset({"org:sys_billing:read", "org:sys_billing:manage"})

# At any moment


def profiles_wrong(connection: Connection) -> Iterator[str]:
    """Public profiles that differ from the projection of their user."""
    for user_id, profile, user in connection.execute(_PROFILES):
        yield f"users_public of {user_id} is {profile}, and the user is {user}"


def deletes_lifted(connection: Connection) -> Iterator[str]:
    """Deletes of Clerk's that were applied and are no longer in force."""
    for kind, object_id, svix_id in connection.execute(_TOLD):
        yield f"{kind} {object_id} is there again, though {svix_id} told its delete"


def undone_deletes(connection: Connection, runs: Collection[int]) -> Iterator[str]:
    """Deletes still in force although their run was undone."""
    for kind, object_id, run_id in connection.execute(_UNDONE, [list(runs)]) if runs else ():
        yield f"{kind} {object_id} is deleted by run {run_id}, which was undone"


def audit_wrong(
    connection: Connection,
    rows: Mapping[Place, Columns],
    ids: Iterable[str] | None = None,
    *,
    truncated: Collection[str] = (),
    rekeyed: Collection[str] = (),
) -> Iterator[str]:
    """Finds rows that differ from the end of the audit log, replayed from the insert on.

    `truncated`: kinds whose rows may be missing without a trace; `rekeyed`: ids of rows before or after a change of
    their key.
    """
    replayed: dict[Place, Columns | None] = {}
    forgotten: set[Place] = set()
    for kind, object_id, operation, new_values, is_empty in connection.execute(
        _AUDIT, {"ids": None if ids is None else list(ids)}
    ):
        place = (kind, object_id)
        if is_empty:
            forgotten.add(place)
        elif operation == "delete":
            replayed[place] = None
        else:
            replayed[place] = {**(replayed.get(place) or {}), **new_values}
    for place, row in replayed.items():
        is_excused = place in forgotten or place[1] in rekeyed or (place[0] in truncated and place not in rows)
        if not is_excused and row != rows.get(place):
            yield f"{' '.join(place)} is {rows.get(place)}, and by the audit log {row}"


def remembered(connection: Connection) -> Iterator[str]:
    """Purged objects whose values are still in the audit log."""
    for kind, object_id in connection.execute(_REMEMBERED):
        yield f"the audit log tells of {kind} {object_id}, which was purged"


def remembered_of_organizations(connection: Connection) -> Sequence[Place]:
    """Objects whose values are still in the audit log, although their organization was just purged."""
    return connection.execute(_REMEMBERED_OF_ORGANIZATIONS).fetchall()


# At rest


def tombstones_wrong(snapshot: Snapshot, world: World, told: Collection[str]) -> Iterator[str]:
    """Tombstones of objects never deleted in Clerk. `told`: objects whose delete a webhook reported all the same."""
    objects: Mapping[Any, Mapping[str, Any]] = world.objects()
    for (kind, object_id), entity in snapshot.entities.items():
        if entity.deleted_at is not None and object_id not in told and object_id in objects.get(kind, {}):
            yield f"{kind} {object_id} has a tombstone, and Clerk never deleted it"


def seen_wrong(connection: Connection, world: World, user_ids: Iterable[str]) -> Iterator[str]:
    """Users for whom the policies show more, or less, than the user may see by the state of Clerk."""
    for user_id in user_ids:
        with connection.transaction():
            connection.execute(_ACT, [json.dumps({"sub": user_id, "role": "authenticated"})])
            rows = connection.execute(_SEEN, {"users": list(world.users)}).fetchall()
        seen, wanted = set(rows), to_be_seen(world, user_id)
        if seen != wanted:
            yield f"{user_id} sees {sorted(seen - wanted)} too much, and not {sorted(wanted - seen)}"


def to_be_seen(world: World, user_id: str) -> set[Place]:
    """Objects visible to this user, by the state of Clerk."""
    user = world.users.get(user_id)
    if user is None or user["banned"] or user["deprovisioned"]:
        # A user still unknown to the database sees the others, but every user here was known once.
        return set()
    own = [each for each in world.memberships.values() if each["public_user_data"]["user_id"] == user_id]
    orgs = {each["organization"]["id"] for each in own}
    found = {("user", user_id), *(("profile", each) for each in world.users), *(("organization", org) for org in orgs)}
    found |= {("membership", key) for key, each in world.memberships.items() if each["organization"]["id"] in orgs}
    for kind, objects, needed in (
        ("invitation", world.invitations, {"org:sys_memberships:manage"}),
        ("domain", world.domains, {"org:sys_domains:read", "org:sys_domains:manage"}),
    ):
        managed = {each["organization"]["id"] for each in own if _permissions(each) & needed}
        found |= {(kind, key) for key, each in objects.items() if each["organization_id"] in managed}
    billed = {key: parent_of(each) for key, each in world.billing.items.items()}
    payers = {user_id, *(each["organization"]["id"] for each in own if _permissions(each) & _BILLING)}
    found |= {("subscription_item", key) for key, parent_id in billed.items() if parent_id in payers}
    found |= {("plan", key) for key, each in world.others["plan"].items() if each["publicly_visible"]}
    return found | {(kind, key) for kind in ("permission", "role") for key in world.others[kind]}


def _permissions(membership: Mapping[str, Any]) -> set[str]:
    row = content_of("membership", dict(membership))
    named = set(row["permissions"])
    if row["role"] == "org:admin" and not any(each.startswith("org:sys_") for each in named):
        return named | {"org:sys_memberships:manage", "org:sys_domains:manage", "org:sys_billing:manage"}
    return named
