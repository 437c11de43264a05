"""The simulator finds each of the faults that broke a guarantee before, when the fault is planted again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final

import msgspec
import psycopg
import pytest

from clerk_supabase.aws import queue
from clerk_supabase.clerk import api as clerk
from clerk_supabase.clerk import http as clerk_http
from clerk_supabase.clerk import pages as clerk_pages
from clerk_supabase.clerk.pages import Page
from clerk_supabase.clerk.walk import OVERLAP, PAGE_SIZE
from clerk_supabase.errors import ClerkRejected, OrganizationsUnavailable, UnusableEvent
from clerk_supabase.model import organizations, storable, user_struct
from clerk_supabase.model.found_kinds import LIST_KINDS
from clerk_supabase.postgres import failures
from clerk_supabase.reconcile import conclusion, drift, pages, runs
from clerk_supabase.reconcile import features as reconcile_features
from clerk_supabase.reconcile import run as reconcile
from clerk_supabase.reconcile import slices as reconcile_slices
from clerk_supabase.reconcile import users as reconcile_users
from clerk_supabase.reconcile.corrections import deletes as reconcile_deletes
from clerk_supabase.reconcile.corrections import emptied as reconcile_emptied
from clerk_supabase.reconcile.corrections import resync
from clerk_supabase.reconcile.pages import ReconcileSettings
from clerk_supabase_cli.simulator.episodes import stage
from clerk_supabase_cli.simulator.episodes.episode import (
    Script,
    describe_script,
    explore_episodes,
    play,
    script_of,
)
from clerk_supabase_cli.simulator.episodes.stage import Theatre
from clerk_supabase_cli.simulator.episodes.steps import GROUPS
from clerk_supabase_cli.simulator.portions import Plan, Portion, Template, search_portions
from clerk_supabase_cli.simulator.silence import silent_telemetry
from tests.kit.databases import Database, Databases
from tests.kit.planting import Plant, by_statement, in_function, in_python, together

# Enough to find any of the faults; a search ends when it has.
_EPISODES: Final = 60
_SEED: Final = "planted"

_rejection: Final = clerk_http._rejection
_looked_up: Final = reconcile_deletes._looked_up


def _any_rejection_of_organizations(status: int, path: str, body: bytes, observed_at: int) -> ClerkRejected:
    """Treats every rejection of Clerk as the message that organizations are switched off."""
    if "organization" in path and status in {402, 403}:
        return OrganizationsUnavailable("switched off")
    return _rejection(status, path, body, observed_at)


_SILENT_FEATURES: Final = [replace(feature, sentence="") for feature in reconcile_features._FEATURES]
"""Features about whose absence a run says nothing."""


def _believing_the_list(clerk: Any, kind: Any, candidates: Any, gone: Any, room: int) -> Any:
    """Treats each object that is not listed as deleted, whatever Clerk answers by id."""
    answers = _looked_up(clerk, kind, candidates, gone, room)
    moment = max(answers.absent.values(), default=clerk.instance().observed_at)
    answers.absent.update(dict.fromkeys(answers.present, moment))
    answers.present.clear()
    return answers


def _silent_about_contradictions(*given: Any, **named: Any) -> Any:
    _confirm(*given, **named)
    return []


_confirm: Final = reconcile_deletes._confirm


def _without_margin(**given: Any) -> ReconcileSettings:
    """Settings by which a single answer of Clerk's proves every delete."""
    return ReconcileSettings(**given | {"delete_margin_ms": 0})


def _nothing(*_: Any, **__: Any) -> Iterator[Any]:
    """Replaces a function that found something."""
    return iter(())


def _always_changed(*_: Any) -> tuple[str, None]:
    """Reports every answer of Clerk as a change of the row."""
    return "changed", None


def _blaming_no_trigger(error: psycopg.Error) -> bool:
    """Treats errors of a trigger as errors of an outage."""
    return not failures._is_raised_by_the_app(error) and _may_be_one_row(error)


def _blaming_no_lock(error: psycopg.Error) -> bool:
    """Treats a lock that is not available as an outage."""
    return error.sqlstate != "55P03" and _may_be_one_row(error)


_add: Final = pages.Comparison._add


def _counting_a_repair_more(comparison: pages.Comparison, name: str, number: int) -> None:
    """Counts one repair more than the page had, also where it had none."""
    _add(comparison, name, number)
    if name == "compared":
        _add(comparison, "repaired", 1)


def _counting_no_repair(comparison: pages.Comparison, name: str, number: int) -> None:
    """Counts everything but repairs."""
    if name != "repaired":
        _add(comparison, name, number)


_USER_WITHOUT_ADDRESSES = msgspec.defstruct(
    "_UserWithoutAddresses",
    [
        (each.name, each.type, msgspec.field(default_factory=list))
        for each in msgspec.structs.fields(user_struct.UserStruct)
        if each.name == "email_addresses"
    ],
    bases=(user_struct.UserStruct,),
    kw_only=True,
    gc=False,
)
"""A user whose e-mail addresses need not be said."""


_USER_WITHOUT_VERDICT = msgspec.defstruct(
    "_UserWithoutVerdict",
    [("banned", bool, False)],
    bases=(user_struct.UserStruct,),
    kw_only=True,
    gc=False,
)
"""A user who counts as not banned unless Clerk says so."""


_BLIND_GLANCE: Final = msgspec.defstruct(
    "_BlindGlance",
    [
        ("id", clerk_pages._Id),
        ("created_at", int | None, None),
        ("updated_at", int | None, None),
        ("deleted", bool, False),
    ],
    rename={"deleted": "never said"},
)
"""A look at an object that does not see that Clerk calls the object deleted."""


def _ignoring_refusals(_: Any, compare: Callable[[Any], None], __: Any) -> list[str]:
    """Compares the lists that Clerk does not refuse, and does not report the others."""
    for kind in LIST_KINDS:
        with suppress(ClerkRejected):
            compare(kind)
    return []


def _refusing_all_of_it(*_: Any) -> None:
    raise UnusableEvent("holds what Postgres cannot store")


_may_be_one_row: Final = failures._may_be_one_row


def _never_ending(
    read_page: Callable[[int], Page], page_size: int = PAGE_SIZE, overlap: int = OVERLAP
) -> Iterator[Page]:
    """Walk a list as if every full page had something new."""
    for offset in count(0, page_size - overlap):
        page = read_page(offset)
        yield page
        if page.size < page_size:
            return


def _taking_any_date(tally: Mapping[str, int], what: str) -> str | None:
    """Accepts answers without a date."""
    return _doubts_about_pages({**tally, "undated": 0}, what)


_doubts_about_pages: Final = drift.doubts_about_pages


def _as_it_was(invitation: Any, _: int) -> Any:
    """As if no invitation ever ran out."""
    return invitation


def _no_doubt(*_: Any) -> None:
    """Accepts every list, wherever it ends."""


def _none_expired(*_: Any) -> int:
    return 0


@dataclass(frozen=True)
class PlantedFault:
    """A fault, and the message of the simulator about it."""

    name: str
    happenings: tuple[str, ...]
    """Groups of steps among which the fault shows."""
    says: str
    plant: Plant
    first: int = 0
    """Number of the first episode of the search, so that the search is short."""


FAULTS: Final = (
    PlantedFault(
        "a late update lifts a delete",
        (),
        "is there again, though",
        in_function(
            "clerk_sync.advance_entities(clerk_sync.change[])",
            {"least(known.deleted_at, c.deleted_at)": "c.deleted_at"},
        ),
        first=6,
    ),
    PlantedFault(
        "who is banned or deleted sees as before",
        (),
        "too much",
        by_statement(
            "create or replace view clerk_sync.caller with (security_barrier) as "
            "select asked.clerk_id from clerk_sync.requesting_user_id() as asked (clerk_id)",
            # The database is dropped afterwards.
            "select",
        ),
        first=1,
    ),
    PlantedFault(
        "invitations are shown to every signed-in user",
        (),
        "('invitation'",
        by_statement(
            "create policy everybody on clerk.organization_invitations for select to authenticated using (true)",
            "drop policy everybody on clerk.organization_invitations",
        ),
        first=2,
    ),
    PlantedFault(
        "public profiles do not follow their users",
        (),
        "users_public of",
        by_statement(
            "alter table clerk.users disable trigger users_project_on_update",
            "alter table clerk.users enable trigger users_project_on_update",
        ),
        first=2,
    ),
    PlantedFault(
        "updates are missing in the audit log",
        (),
        "by the audit log",
        in_function(
            "clerk_sync.audit_user()", {"elsif is_as_registered then": "elsif true then null; elsif false then"}
        ),
        first=2,
    ),
    PlantedFault(
        "the audit log remembers what was purged",
        ("housekeeping",),
        "the audit log tells of",
        in_function(
            "clerk_sync.forget_rest_of(jsonb)",
            {"where a.entity_id = g.id and a.kind = g.kind": "where a.entity_id = g.id and a.kind = g.kind and false"},
        ),
        first=2,
    ),
    PlantedFault(
        "a row that somebody hid is not found",
        ("hide", "run"),
        "Clerk has users that it did not list",
        together(
            *(
                in_function(
                    f"clerk_sync.differing_user({arguments})",
                    {"created_at, earliest.deleted_at)": "created_at, kept.deleted_at)"},
                )
                for arguments in ("jsonb", "jsonb,text[]")
            )
        ),
        first=31,
    ),
    PlantedFault(
        "a dry run goes on as a real one",
        ("run", "lost"),
        "was to repair nothing, and changed",
        in_function(
            "clerk_sync.begin_run(jsonb)",
            {"is_dry, is_versions_only, may": "false, is_versions_only, may"},
        ),
        first=4,
    ),
    PlantedFault(
        "any refusal means that organizations are switched off",
        ("refused",),
        "although Clerk answered with 40",
        together(
            in_python(clerk_http, "_rejection", _any_rejection_of_organizations),
            in_python(reconcile_features, "_FEATURES", _SILENT_FEATURES),
        ),
        first=13,
    ),
    PlantedFault(
        "answers by id that contradict the list raise no doubt",
        ("short",),
        "although the lists lack",
        in_python(reconcile_deletes, "_confirm", _silent_about_contradictions),
        first=1,
    ),
    PlantedFault(
        "a list is believed that leaves objects out",
        ("short",),
        "which Clerk has",
        in_python(reconcile_deletes, "_looked_up", _believing_the_list),
        first=17,
    ),
    PlantedFault(
        "an API that lags deletes who signed up a moment ago",
        ("lag",),
        "which Clerk has",
        # The only fault without the margin: its loss is the fault.
        in_python(stage, "ReconcileSettings", _without_margin),
        first=37,
    ),
    PlantedFault(
        "what only a comparison deleted never comes back",
        ("lie", "run"),
        "Clerk never deleted it",
        together(
            in_function(
                "clerk_sync.advance_entities(clerk_sync.change[])",
                {"shown_at > known.deleted_at and": "shown_at is null and"},
            ),
            in_function(
                "clerk_sync.action_against(text, clerk_sync.entities, bigint)",
                {"(known.delete_run is null or known.purged_at is not null)": "true"},
            ),
        ),
        first=1,
    ),
    PlantedFault(
        "undo lifts what a webhook told",
        ("undo",),
        "is there again, though",
        in_function(
            "clerk_sync.settle_tombstones(clerk_sync.change[], clerk_sync.change[])",
            {
                "delete_run = null, delete_recorded_at = case": (
                    "delete_run = case when e.deleted_at > 0 then e.delete_run end, delete_recorded_at = case"
                )
            },
        ),
        first=32,
    ),
    PlantedFault(
        "a delete of an undone run is applied",
        ("undo",),
        "which was undone",
        in_function(
            "clerk_sync.settle_tombstones(clerk_sync.change[], clerk_sync.change[])",
            {"r.run_id = named.run_id and r.undone_at is null": "r.run_id = named.run_id"},
        ),
        first=58,
    ),
    PlantedFault(
        "a row shown by hand stays",
        ("show", "run"),
        "is shown, and Clerk does not have it",
        in_function(
            "clerk_sync.rows_to_correct(clerk_sync.kinds, text[])",
            {"rows_untombstoned(of_kind, keys)": "rows_untombstoned(of_kind, '{}')"},
        ),
        first=8,
    ),
    PlantedFault(
        "public profiles edited by hand stay",
        ("profile", "run"),
        "at rest, users_public of",
        in_function(
            "clerk_sync.rows_to_correct(clerk_sync.kinds, text[])",
            {"case when of_kind.kind = 'user' then keys else '{}' end": "'{}'"},
        ),
        first=2,
    ),
    PlantedFault(
        "a version that goes back hides a change",
        ("clock", "run"),
        "Set back",
        in_function(
            "clerk_sync.difference(clerk_sync.entities, clerk_sync.difference, bigint, bigint, bigint)",
            {"when row_here.id is null or version.observed_at + margin_ms >= listed_at": "when true"},
        ),
    ),
    PlantedFault(
        "resync says more than it did",
        ("resync",),
        "and changed nothing",
        in_python(resync.Resync, "_judge", _always_changed),
    ),
    PlantedFault(
        "a trigger that fails for one row holds up others",
        ("obstacle",),
        "is held up by",
        in_python(failures, "_may_be_one_row", _blaming_no_trigger),
        first=14,
    ),
    PlantedFault(
        "a lock on one row holds up others",
        ("lock",),
        "is held up by",
        in_python(failures, "_may_be_one_row", _blaming_no_lock),
        first=5,
    ),
    PlantedFault(
        "a row that the app keeps ends housekeeping",
        ("keep", "housekeeping"),
        "to be purged",
        in_function(
            "clerk_sync.empty_rows(clerk_sync.kinds, text[], text, timestamptz)",
            {"when others or query_canceled or assert_failure": "when integrity_constraint_violation"},
        ),
        first=6,
    ),
    PlantedFault(
        "a trigger that rewrites leaves the profile behind",
        ("rewrite",),
        "users_public of",
        in_function(
            "clerk_sync.project_users_public()", {"if current_setting('clerk_sync.nested', true) = 'yes'": "if false"}
        ),
        first=14,
    ),
    PlantedFault(
        "a trigger that rewrites confuses the audit log",
        ("rewrite",),
        "by the audit log",
        in_function("clerk_sync.audit_user()", {"if is_nested then": "if false then"}),
        first=57,
    ),
    PlantedFault(
        "invitations are not compared",
        ("lost",),
        "at rest, invitation",
        in_python(reconcile, "LIST_KINDS", ("organization", "membership", "domain")),
        first=52,
    ),
    PlantedFault(
        "domains lost in a failover are not compared",
        ("failover",),
        "at rest, domain",
        in_python(reconcile, "LIST_KINDS", ("organization", "membership", "invitation")),
        first=39,
    ),
    PlantedFault(
        "the brake counts an organization as one row",
        ("lost crowd",),
        "rows, and the",
        in_python(reconcile_deletes, "_too_heavy", _nothing),
        first=1,
    ),
    PlantedFault(
        "a field is emptied for everybody",
        ("crowd", "emptied"),
        "rows of the same column",
        in_python(reconcile_emptied, "_stops", _nothing),
        first=1,
    ),
    PlantedFault(
        "a list of users without e-mail addresses empties them",
        ("refused",),
        "although Clerk answered with no e-mail addresses",
        in_python(user_struct, "_DECODER", msgspec.json.Decoder(_USER_WITHOUT_ADDRESSES)),
        first=39,
    ),
    PlantedFault(
        "a list of users without the field banned lifts bans",
        ("refused",),
        "although Clerk answered with no required fields",
        in_python(user_struct, "_DECODER", msgspec.json.Decoder(_USER_WITHOUT_VERDICT)),
        first=25,
    ),
    PlantedFault(
        "complete is said although a list was refused",
        ("refused",),
        "is complete, although Clerk answered with",
        in_python(reconcile.Reconcile, "_each_list", staticmethod(_ignoring_refusals)),
        first=1,
    ),
    PlantedFault(
        "nobody says that Clerk has what was deleted here",
        ("mislead", "run"),
        "is hidden, and Clerk has it",
        in_python(conclusion, "_deleted_here", _nothing),
        first=11,
    ),
    PlantedFault(
        "attempts that were typed in keep a message and its batch in the queue",
        ("moved",),
        "neither applied nor parked",
        in_python(queue, "_MOST_ATTEMPTS", 10**15),
        first=1,
    ),
    PlantedFault(
        "what Postgres cannot store costs the whole event",
        (),
        ": parked: ",
        in_python(storable, "read_storable", _refusing_all_of_it),
        first=4,
    ),
    PlantedFault(
        "invitations never expire",
        ("expiry", "run"),
        '"status": "pending"',
        together(
            in_python(runs.Runs, "expire_invitations", _none_expired),
            in_python(organizations.Invitation, "at", _as_it_was),
        ),
        first=3,
    ),
    PlantedFault(
        "an organization is purged before its invitations, which come in portions",
        ("invited", "housekeeping"),
        "whose organization was purged",
        together(
            in_function(
                "clerk_sync.purge(interval, text, integer)",
                {
                    "DEFAULT 1000": "DEFAULT 2",
                    "clerk_sync.without_ids(children, clerk_sync.lock_rows(children, true))": "'{}'",
                },
            ),
            in_function(
                "clerk_sync.due_rows(clerk_sync.kinds, timestamptz, integer, jsonb)",
                {"where d not in (select w from unnest(waiting) as w)": "where true"},
            ),
        ),
        first=6,
    ),
    PlantedFault(
        "a walk of a list that repeats itself never ends",
        ("refused",),
        " asked Clerk ",
        in_python(clerk, "by_offset", _never_ending),
        first=102,
    ),
    PlantedFault(
        "an object that Clerk calls deleted counts as there",
        ("refused",),
        "although Clerk answered with called deleted",
        together(
            in_python(clerk_pages, "_GLANCE", msgspec.json.Decoder(_BLIND_GLANCE)),
            in_python(clerk_pages, "_GLANCES", msgspec.json.Decoder(list[_BLIND_GLANCE])),  # type: ignore[valid-type]
            in_python(
                clerk_pages,
                "_GLANCE_ENVELOPE",
                msgspec.json.Decoder(
                    msgspec.defstruct("_Blind", [("total_count", int), ("data", list[_BLIND_GLANCE])])  # type: ignore[valid-type]
                ),
            ),
        ),
        first=25,
    ),
    PlantedFault(
        "a quick run believes that nobody changed, because the list is empty",
        ("quick",),
        "although Clerk answered with no elements",
        in_python(reconcile, "doubts_about_end", _no_doubt),
        first=14,
    ),
    PlantedFault(
        "a quick run believes answers without a Date",
        ("quick",),
        "although Clerk answered with no Date",
        together(
            in_python(reconcile_users, "_UNDATED", None),
            *(
                in_python(each, "doubts_about_pages", _taking_any_date)
                for each in (drift, reconcile_slices, reconcile_users)
            ),
        ),
        first=1,
    ),
    PlantedFault(
        "who may manage members by a role of their own sees no invitations",
        (),
        "('invitation'",
        by_statement(
            "alter policy organization_invitations_read_by_permission on clerk.organization_invitations using ("
            "deleted_at is null and clerk_org_id = any(array("
            "select m.clerk_org_id from clerk_sync.memberships_of_caller as m where m.role = 'org:admin')))",
            # The database is dropped afterwards.
            "select",
        ),
        first=89,
    ),
    PlantedFault(
        "a feed forgets deletes",
        ("feed", "hide"),
        "differs from the mirror (delete)",
        in_function(
            "clerk_sync.definition_of_write_feed(clerk_sync.feeds)",
            {"or gone is not null then {delete} end if": "or gone is not null then null; end if"},
        ),
        first=1,
    ),
    PlantedFault(
        "a feed writes a null key",
        ("feed",),
        "differs from the mirror (insert)",
        in_function(
            "clerk_sync.holes_of_feed(clerk_sync.feeds)",
            {"'said.' || c.alias, ', '": "case c.place when 'key' then 'null' else 'said.' || c.alias end, ', '"},
        ),
        first=1,
    ),
    PlantedFault(
        "a feed skips all rows of a statement in which one fails",
        ("feed", "edit"),
        "differs from the mirror",
        in_function(
            "clerk_sync.feed_rows(integer,text[],jsonb,interval,boolean)",
            {"if failed.code is not null then": "if false then"},
        ),
        first=1,
    ),
    PlantedFault(
        "a value that the app's trigger stores is called updated",
        ("alter",),
        "is called",
        together(
            *(
                in_function(
                    f"clerk_sync.write_{kind}(jsonb, clerk_sync.change[])",
                    {"if is_altered or current_setting('clerk_sync.nested', true) = 'yes' then": "if false then"},
                )
                for kind in ("user", "organization", "membership")
            )
        ),
        first=14,
    ),
    PlantedFault(
        "a comparison says that it repaired what the app's trigger keeps different",
        ("alter", "run"),
        "says that it repaired",
        together(
            in_function(
                "clerk_sync.is_altered(clerk_sync.reconcile_findings, clerk_sync.entities, timestamptz)",
                {"finding.action = 'repair' and": "false and"},
            ),
            in_function("clerk_sync.kept_by_the_app(clerk_sync.entities)", {"a.kind = known.kind and": "false and"}),
        ),
        first=5,
    ),
    PlantedFault(
        "a run does not count the deletes that it made",
        ("undo",),
        "counts deleted 0 of",
        in_function(
            "clerk_sync.count_findings(bigint)",
            {"when f.is_done then 'deleted' else 'deletes sent'": "when f.is_done then 'gone' else 'deletes sent'"},
        ),
        first=5,
    ),
    PlantedFault(
        "a run counts deletes as made that wait in the queue",
        ("undo",),
        "counts deletes sent 0 of",
        in_function(
            "clerk_sync.count_findings(bigint)",
            {"when f.is_done then 'deleted' else 'deletes sent'": "when true then 'deleted'"},
        ),
        first=7,
    ),
    PlantedFault(
        "a run counts more repairs than it made",
        ("run", "lost"),
        "counts repaired",
        in_python(pages.Comparison, "_add", _counting_a_repair_more),
        first=1,
    ),
    PlantedFault(
        "a run does not count its repairs",
        ("run", "lost"),
        ", and repaired [",
        in_python(pages.Comparison, "_add", _counting_no_repair),
        first=1,
    ),
    PlantedFault(
        "an event whose write the app's trigger skips is called unchanged",
        ("skip",),
        "is called unchanged",
        in_function(
            "clerk_sync.refuse_kept_row(text)",
            {"raise restrict_violation using": "return; raise restrict_violation using"},
        ),
        first=14,
    ),
    PlantedFault(
        "a row that the app refuses keeps a delete from all other rows",
        ("refuse",),
        "is parked, and",
        in_function("clerk_sync.apply(jsonb)", {"is_hiding and not leaves_children": "false"}),
        first=39,
    ),
)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_that_is_planted_is_found(fault: PlantedFault, database: Database) -> None:
    assert set(fault.happenings) <= GROUPS
    with fault.plant(database):
        report = explore_episodes(
            database,
            episodes=_EPISODES,
            seed=_SEED,
            first=fault.first,
            only=fault.happenings or ("life",),
            sought=fault.says,
            shrinks=False,
        )
    assert report.differences, f"not found in {report.episodes} episodes"


@pytest.mark.parametrize("happenings", [(), ("beside", "slow", "run", "undo", "housekeeping")], ids=["all", "beside"])
def test_nothing_is_found_where_nothing_is_planted(happenings: tuple[str, ...], database: Database) -> None:
    report = explore_episodes(database, episodes=4, seed=_SEED, only=happenings)
    assert (report.differences, report.deadlocks) == ([], 0)


def test_a_complete_run_is_true_although_clerks_api_lost_the_only_user_for_good(database: Database) -> None:
    report = explore_episodes(database, episodes=1, seed="3031", first=58)
    assert report.happened["API loses objects"]
    assert report.happened["quick run, API says nothing"]
    assert report.differences == []


def test_a_script_that_goes_wrong_is_shrunk_to_steps_that_go_wrong_again(database: Database) -> None:
    fault = FAULTS[0]
    with fault.plant(database):
        report = explore_episodes(
            database, episodes=_EPISODES, seed=_SEED, first=fault.first, only=("life",), sought=fault.says
        )
        assert report.failed_episode is not None
        smallest = report.smallest
        with silent_telemetry(), closing(Theatre(database)) as theatre:

            def goes_wrong(script: Script) -> bool:
                return bool(play(theatre, _SEED, report.failed_episode or 0, script).wrong)

            assert goes_wrong(smallest)
            # Not one of its steps can be left out.
            assert not any(goes_wrong([*smallest[:place], *smallest[place + 1 :]]) for place in range(len(smallest)))
    assert len(smallest) < len(script_of(_SEED, report.failed_episode, ("life",)))
    assert len(list(describe_script(smallest))) == len(smallest)


@pytest.fixture
def nobody_there(databases: Databases, database: Database) -> Iterator[Database]:
    """A database without any session: Postgres copies no other, and a session has emptied the database of a test."""
    copy = databases.copy(database)
    yield copy
    databases.drop(copy.name)


def test_the_same_seed_plays_the_same_episodes_in_any_number_of_processes(nobody_there: Database) -> None:
    template = Template(nobody_there.server.url(), nobody_there.name, nobody_there.worker_password)
    plan = Plan(template, _SEED, ("run", "undo", "failover"))
    portions = [Portion("episodes", range(1)), Portion("episodes", range(1, 2))]
    alone, beside = (search_portions(plan, portions, jobs=jobs).episodes for jobs in (1, 2))
    assert (alone.episodes, alone.differences) == (2, [])
    assert alone.happened == beside.happened
