"""The simulator finds each of the faults that broke a guarantee before, when it is planted again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pytest

from clerk_supabase import clerk_http, reconcile, reconcile_deletes
from clerk_supabase.errors import ClerkRefused, OrganizationsUnavailable
from clerk_supabase_cli.simulator.episodes import describe_script, explore_episodes
from clerk_supabase_cli.simulator.steps import GROUPS
from tests.integration.databases import Database
from tests.integration.planting import Plant, as_it_is, by_statement, in_function, in_python, together

# Enough to find any of the faults; a search ends when it has.
_EPISODES: Final = 60
_SEED: Final = "planted"

_refusal: Final = clerk_http._refusal
_looked_up: Final = reconcile_deletes._looked_up


def _any_refusal_of_organizations(status: int, path: str, body: bytes, observed_at: int) -> ClerkRefused:
    """As if Clerk said with every refusal that organizations are switched off."""
    if "organization" in path and status in {402, 403}:
        return OrganizationsUnavailable("switched off")
    return _refusal(status, path, body, observed_at)


def _believing_the_list(clerk: Any, kind: Any, candidates: Any, gone: Any, room: int) -> Any:
    """As if each object that is not listed were gone, whatever Clerk answers by id."""
    answers = _looked_up(clerk, kind, candidates, gone, room)
    moment = max(answers.absent.values(), default=clerk.instance().observed_at)
    answers.absent.update(dict.fromkeys(answers.present, moment))
    answers.present.clear()
    return answers


def _silent_about_contradictions(*given: Any, **named: Any) -> Any:
    _confirm(*given, **named)
    return []


_confirm: Final = reconcile_deletes._confirm


@dataclass(frozen=True)
class PlantedFault:
    """A fault, and what the simulator says of it."""

    name: str
    happenings: tuple[str, ...]
    """Groups of happenings among which it shows."""
    says: str
    plant: Plant


FAULTS: Final = (
    PlantedFault(
        "a late update lifts a delete",
        (),
        "is there again, though",
        in_function("clerk_sync.apply(jsonb)", {"least(known.deleted_at, c.deleted_at)": "c.deleted_at"}),
    ),
    PlantedFault(
        "who is banned or deleted sees as before",
        (),
        "too much",
        by_statement(
            "create or replace view clerk_sync.caller with (security_barrier) as "
            "select asked.clerk_id from clerk_sync.requesting_user_id() as asked (clerk_id)",
            # The database is thrown away.
            "select",
        ),
    ),
    PlantedFault(
        "invitations are shown to every signed-in user",
        (),
        "('invitation'",
        by_statement(
            "create policy everybody on public.organization_invitations for select to authenticated using (true)",
            "drop policy everybody on public.organization_invitations",
        ),
    ),
    PlantedFault(
        "public profiles do not follow their users",
        (),
        "users_public of",
        by_statement(
            "alter table public.users disable trigger users_project_on_update",
            "alter table public.users enable trigger users_project_on_update",
        ),
    ),
    PlantedFault(
        "updates are missing in the audit log",
        (),
        "by the audit log",
        in_function("clerk_sync.record_changes()", {"where old_row is distinct from new_row": "where false"}),
    ),
    PlantedFault(
        "the audit log remembers what was purged",
        ("housekeeping",),
        "the audit log tells of",
        in_function(
            "clerk_sync.purge(interval, text, integer)",
            {"where a.entity_id = g.id and a.kind = g.kind": "where a.entity_id = g.id and a.kind = g.kind and false"},
        ),
    ),
    PlantedFault(
        "a row that somebody hid is not found",
        ("hide", "run"),
        "is complete (None), but user",
        in_function(
            "clerk_sync.differing_user(jsonb)",
            {"created_at, earliest.deleted_at)": "created_at, kept.deleted_at)"},
        ),
    ),
    PlantedFault(
        "a dry run goes on as a real one",
        ("run", "lost"),
        "was to repair nothing, and changed",
        in_function(
            "clerk_sync.begin_run(jsonb)",
            {"is_dry, is_versions_only, may": "false, is_versions_only, may"},
        ),
    ),
    PlantedFault(
        "any refusal means that organizations are switched off",
        ("refused",),
        "although Clerk answered with 40",
        together(
            in_python(clerk_http, "_refusal", _any_refusal_of_organizations),
            in_python(reconcile, "_SWITCHED_OFF", None),
        ),
    ),
    PlantedFault(
        "answers by id that contradict the list raise no doubt",
        ("short",),
        "although the lists lack",
        in_python(reconcile_deletes, "_confirm", _silent_about_contradictions),
    ),
    PlantedFault(
        "a list is believed that leaves objects out",
        ("short",),
        "has a tombstone, and Clerk never deleted it",
        in_python(reconcile_deletes, "_looked_up", _believing_the_list),
    ),
)


# Nothing is planted yet: the product has these.
OPEN: Final = (
    PlantedFault("an API that lags deletes who signed up a moment ago", ("lag",), "Clerk never deleted it", as_it_is),
    PlantedFault("what only a comparison deleted never comes back", ("lie", "run"), "Clerk never deleted it", as_it_is),
    PlantedFault("undo lifts what a webhook told", ("undo", "run"), "is there again, though", as_it_is),
    PlantedFault("a delete of an undone run is applied", ("undo", "run", "lie"), "which was undone", as_it_is),
    PlantedFault("a row shown by hand stays", ("show", "run"), "is shown, and Clerk does not have it", as_it_is),
    PlantedFault("a version that goes back hides a change", ("clock", "run"), "Set back", as_it_is),
    PlantedFault("resync says more than it did", ("resync",), "and changed nothing", as_it_is),
    PlantedFault("public profiles edited by hand stay", ("profile", "run"), "at rest, users_public of", as_it_is),
    PlantedFault("a trigger that fails for one row holds up others", ("obstacle",), "is held up by", as_it_is),
    PlantedFault("a lock on one row holds up others", ("lock",), "is held up by", as_it_is),
    PlantedFault("a row that the app keeps ends housekeeping", ("keep", "housekeeping"), "to be purged", as_it_is),
    PlantedFault("a trigger that rewrites leaves the profile behind", ("rewrite",), "users_public of", as_it_is),
    PlantedFault("a trigger that rewrites confuses the audit log", ("rewrite",), "by the audit log", as_it_is),
    PlantedFault("invitations are not compared", ("lost",), "at rest, invitation", as_it_is),
    PlantedFault("domains lost in a failover are not compared", ("failover",), "at rest, domain", as_it_is),
    PlantedFault("the brake counts an organization as one row", ("crowd", "lie", "run"), "rows, and the", as_it_is),
    PlantedFault("a field is emptied for everybody", ("crowd", "emptied"), "rows of the same column", as_it_is),
)


@pytest.mark.parametrize("fault", FAULTS + OPEN, ids=[fault.name for fault in FAULTS + OPEN])
def test_a_fault_that_is_planted_is_found(fault: PlantedFault, database: Database) -> None:
    assert set(fault.happenings) <= GROUPS
    with fault.plant(database):
        report = explore_episodes(
            database,
            episodes=_EPISODES,
            seed=_SEED,
            only=fault.happenings or ("life",),
            sought=fault.says,
            shrinks=False,
        )
    assert report.differences, f"not found in {report.episodes} episodes"


def test_a_script_that_goes_wrong_is_shrunk_to_steps_that_go_wrong_again(database: Database) -> None:
    fault = FAULTS[0]
    with fault.plant(database):
        report = explore_episodes(database, episodes=_EPISODES, seed=_SEED, only=("life",), sought=fault.says)
    assert 0 < len(report.smallest) <= 4
    assert len(list(describe_script(report.smallest))) == len(report.smallest)


def test_the_same_seed_plays_the_same_episodes(database: Database) -> None:
    reports = [
        explore_episodes(database, episodes=3, seed=_SEED, only=("run", "undo", "refuse", "failover"), sought="never")
        for _ in range(2)
    ]
    assert reports[0].happened == reports[1].happened
