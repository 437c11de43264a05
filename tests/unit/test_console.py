"""The parts of `clerk-supabase console` without a database: the verdict, the shared page, the picture of the lag."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from clerk_supabase.reconcile.corrections.deletes import UNLISTED
from clerk_supabase.reconcile.records import RunSummary
from clerk_supabase_cli.console import plots
from clerk_supabase_cli.console.hub import LISTED, Hub
from clerk_supabase_cli.console.minutes import SHOWN, Minute
from clerk_supabase_cli.console.rendering import About, Rendering
from clerk_supabase_cli.console.seen import Seen
from clerk_supabase_cli.console.tail import Entry
from clerk_supabase_cli.console.verdict import verdict
from clerk_supabase_cli.operate.monitor.database_state import Compared, Database, LeftOut
from clerk_supabase_cli.operate.monitor.function_logs import Outage
from clerk_supabase_cli.operate.queues import Depth

NOW = datetime.now(UTC)
HOUR = 3600.0
DATABASE = Database(
    events=dict.fromkeys(("parked", "replayed", "settled", "discarded"), 0),
    overdue=0,
    reasons=[],
    last_delivery=NOW,
    recent={},
    left_out=LeftOut(0, None),
    not_purged=[],
    unfinished=[],
    unfed=[],
    wrong_instances=[],
    compared={"user": Compared(NOW, NOW, False, HOUR), "domain": Compared(None, None, True, None)},
    differing_objects=0,
)
RUN = RunSummary(
    run_id=7,
    mode="full",
    is_dry_run=False,
    versions_only=False,
    allow_deletes=None,
    state="complete",
    reason=None,
    as_of=0,
    started_at=NOW,
    finished_at=NOW,
    invocations=1,
    calls=1,
    expected={},
    counts={"user": {"compared": 9, "missing": 2, "stale": 1, "repaired": 3}},
    newest_change=None,
    newest_delivery=None,
    is_silent=None,
)


def seen(database: Database | None = DATABASE, *runs: RunSummary) -> Seen:
    return Seen(database=database, runs=runs or (RUN,), read_at=NOW)


def compared(age: float | None) -> Database:
    return replace(DATABASE, compared={"user": Compared(NOW, NOW if age else None, False, age)})


def with_counts(**counts: int) -> RunSummary:
    return replace(RUN, counts={"user": {"compared": 9, **counts}}, reason="a later run asks Clerk again")


def with_young(run: RunSummary) -> RunSummary:
    """A run after a list without objects that were there a moment ago."""
    return replace(run, reason=f"{UNLISTED} 300 s: 1; a later run asks about them")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (seen(), "Postgres is true to Clerk"),
        (seen(None), "Reading the database"),
        (seen(replace(DATABASE, events={**DATABASE.events, "parked": 1})), "One thing is stuck"),
        (seen(DATABASE, replace(RUN, state="stopped"), RUN), "A comparison waits for your decision"),
        (seen(DATABASE, RUN, replace(RUN, state="stopped")), "Postgres is true to Clerk"),
        (seen(DATABASE, replace(RUN, state="stopped", is_dry_run=True), RUN), "Postgres is true to Clerk"),
        (seen(DATABASE, replace(RUN, state="incomplete"), RUN), "The last comparison left differences"),
        (seen(DATABASE, with_counts(extra=1, awaiting=1), RUN), "Postgres differs from Clerk in 1 object"),
        (seen(DATABASE, with_counts(refused=1, unusable=2), RUN), "Postgres differs from Clerk in 3 objects"),
        (seen(DATABASE, with_counts(different=2, older=2), RUN), "Postgres differs from Clerk in 2 objects"),
        (seen(DATABASE, with_counts(**{"deleted here": 3, "restored": 2})), "Postgres differs from Clerk in 1 object"),
        (seen(DATABASE, RUN, with_counts(awaiting=1)), "Postgres is true to Clerk"),
        (seen(DATABASE, with_young(RUN)), "Postgres may differ from Clerk in new objects"),
        (seen(DATABASE, with_young(with_counts(awaiting=2))), "Postgres differs from Clerk in 2 objects"),
        (seen(compared(None)), "Postgres was never compared with Clerk as a whole"),
        (seen(compared(50 * HOUR)), "Postgres was not compared with Clerk lately"),
    ],
)
def test_the_most_important_fact_is_the_headline(state: Seen, words: str) -> None:
    assert verdict(state, NOW).words == words
    assert (verdict(state, NOW).mood == "good") == ("true to Clerk" in words)


def test_what_a_complete_comparison_left_for_later_is_told_below_the_headline() -> None:
    told = verdict(seen(DATABASE, with_counts(awaiting=1)), NOW)
    assert "run 7: a later run asks Clerk again" in told.facts
    assert verdict(seen(DATABASE, with_counts()), NOW).facts[-1] == "run 7: a later run asks Clerk again"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (replace(RUN, counts={"user": {"extra": 1, "deleted": 1}, "membership": {"extra": 5}}), "repaired all"),
        (replace(RUN, counts={"user": {"extra": 2, "deleted": 1, "awaiting": 1}}), "repaired 1"),
        # A row held up by a lock is told in the reason alone.
        (replace(RUN, counts={"user": {"stale": 2, "repaired": 1}}, reason="rows held up by locks: 1"), "repaired 1"),
    ],
)
def test_rows_hidden_with_their_user_count_as_repaired(run: RunSummary, words: str) -> None:
    [told] = [each for each in verdict(seen(DATABASE, run), NOW).facts if "differences and" in each]
    assert told.endswith(words)


def test_an_outage_is_told_with_the_earliest_begin_of_all_readers() -> None:
    state = seen()
    state.outages["tables"] = Outage(NOW, NOW, "no answer in the time to connect")
    state.outages["events"] = Outage(NOW - timedelta(minutes=1), NOW, "no answer within 5 s")
    told = verdict(state, NOW)
    assert told.mood == "bad"
    assert told.words == f"The database has not answered since {NOW - timedelta(minutes=1):%Y-%m-%d %H:%M:%S} UTC"
    assert "no answer within 5 s" in told.facts


def test_a_database_that_the_functions_cannot_use_is_told_while_events_wait() -> None:
    state = seen()
    state.outage_of_functions = Outage(NOW, NOW, "the role may not log in")
    state.queues = {"sync": Depth(2, 1, 0, None)}
    told = verdict(state, NOW)
    assert told.mood == "bad"
    assert told.words == f"The database is unavailable to the functions since {NOW:%Y-%m-%d %H:%M:%S} UTC"
    assert "the role may not log in" in told.facts
    assert any(each.startswith("3 events wait on the sync queue: none is lost") for each in told.facts)
    assert len(state.status.problems) == 1
    state.queues = {"sync": Depth(0, 0, 0, None)}
    assert verdict(state, NOW).mood == "good"


def test_an_answer_from_before_an_outage_or_of_long_ago_is_no_good_news() -> None:
    state = seen()
    state.is_stale = True
    assert verdict(state, NOW).mood == "unknown"
    state = seen()
    state.read_at = NOW - timedelta(minutes=10)
    assert (verdict(state, NOW).mood, verdict(state, NOW).words) == ("unknown", "Reading the database again")


@pytest.mark.parametrize(
    "state",
    [
        Seen(),
        Seen(queues={"sync": Depth(0, 0, 0, None)}),
        Seen(outages={"events": Outage(NOW, NOW, "no answer")}),
    ],
    ids=["at the start", "the queues first", "an outage from the start"],
)
def test_nothing_is_said_of_the_tables_before_they_were_read(state: Seen) -> None:
    rendering = Rendering(About("d", "", can_write=False, can_replay=False, form_token="", operator=""))
    panels = rendering.panels(state, [])
    said = " ".join(text(panels[name]) for name in ("verdict", "plots", "stuck", "parked", "brake", "runs"))
    assert not re.search(r"\b0\b|\bno \w+ (parked|comparison|event)|no event in|waits for nothing|is stuck now", said)
    assert said.count("not known yet") + said.count("Not known yet") >= 5


def text(html: str) -> str:
    """The words of a page, without its tags and pictures."""
    return " ".join(re.sub(r"<svg.*?</svg>|<[^>]+>", " ", html, flags=re.DOTALL).split())


def test_the_kind_of_a_changed_row_is_in_words() -> None:
    rendering = Rendering(About("d", "", can_write=False, can_replay=False, form_token="", operator=""))
    entry = Entry("change 1", NOW, "change", None, "waitlist_entry insert", "w_1", "reconcile", None, None, [])
    assert "waitlist entry insert" in rendering.rows([entry])[0]


def test_a_viewer_gets_what_is_newer_and_no_list_grows() -> None:
    hub = Hub()
    hub.publish({"way": "one", "runs": "none"})
    for number in range(10_000):
        hub.append([f"<tr>{number}</tr>"])
    version, panels, rows = hub.everything()
    assert (len(rows), rows[0], panels) == (LISTED, "<tr>9999</tr>", {"way": "one", "runs": "none"})

    hub.publish({"way": "one", "runs": "one"})
    [message] = hub.after(version)
    assert (message.name, message.content) == ("panel", {"name": "runs", "html": "one"})
    # A browser that is cut off before the last message asks for all again.
    assert [each.version for each in hub.after(0)] == [0, 0, message.version]
    assert hub.after(message.version) == []
    # Nothing is newer, and nobody is left behind in the list of viewers.
    asyncio.run(hub.wait(message.version, 0.001))
    assert not hub._viewers


def test_the_looks_stop_some_time_after_the_last_viewer() -> None:
    now = 0.0
    hub = Hub(clock=lambda: now)
    assert not hub.wait_until_wanted(0)
    hub.touch()
    assert hub.wait_until_wanted(0)
    now = 60.0
    assert not hub.wait_until_wanted(0)


def test_the_plots_say_the_same_in_words() -> None:
    minutes = [Minute(NOW + timedelta(minutes=each), 0, None, None) for each in range(SHOWN)]
    assert plots.volume(minutes).words == plots.lag(minutes).words == "no event in the last hour"
    minutes[3] = Minute(NOW, 40, 0.5, 2.0)
    # A replay after two days does not make all other bars invisible.
    minutes[-1] = Minute(NOW, 2, 0.4, 172_800.0)
    assert plots.volume(minutes).words.startswith("42 events in the last hour; most, 40, at ")
    told = plots.lag(minutes)
    assert told.words.endswith("95 % within 2 d; the slowest minute: 2 d")
    assert all(bar.y >= 0 and bar.y + bar.height <= plots.HEIGHT + 3 for bar in told.bars)
    assert [mark.word for mark in told.marks] == ["0.1 s", "1 s", "10 s", "1 h", "1 d"]


def test_the_web_server_is_loaded_when_the_page_is_served_and_not_for_the_help() -> None:
    program = (
        "import sys; import clerk_supabase_cli.commands.operate.console; "
        "sys.exit(bool({'starlette', 'jinja2', 'uvicorn'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
