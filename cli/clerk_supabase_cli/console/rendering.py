"""HTML from the state. Jinja escapes every value; no text of the database becomes markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from clerk_supabase_cli.console import plots
from clerk_supabase_cli.console.minutes import Minute
from clerk_supabase_cli.console.seen import Seen
from clerk_supabase_cli.console.tail import Entry
from clerk_supabase_cli.console.verdict import MOODS, last_complete, repaired, stopped_run, verdict
from clerk_supabase_cli.doctor.verdicts import Result, Verdict
from clerk_supabase_cli.event_types import in_words, is_compared, plural, why_not_compared
from clerk_supabase_cli.operate.monitor.explain import describe
from clerk_supabase_cli.operate.queues import IN_WORDS
from clerk_supabase_cli.operate.reconcile_report import WHEN_STOPPED, differences, total, what_was_done
from clerk_supabase_cli.printing import counted, how_long, in_utc, printable

PANELS: Final = ("verdict", "way", "plots", "queues", "stuck", "parked", "brake", "compared", "runs", "doctor")
_LONGEST: Final = 300
"""Characters of a text of the database in a row of a table."""


@dataclass(frozen=True, slots=True)
class About:
    """Facts about this start of the page."""

    database: str
    """The host and the name of the database, without user and password."""
    stack: str
    can_write: bool
    can_replay: bool
    """False without the sync queue."""
    form_token: str
    operator: str


class Rendering:
    """The templates, with the facts that all pages share."""

    def __init__(self, about: About) -> None:
        self.about = about
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals |= {
            "about": about,
            "differences": differences,
            "total": total,
            "repaired": repaired,
            "what_was_done": what_was_done,
            "describe": describe,
            "counted": counted,
            "plural": plural,
            "is_compared": is_compared,
            "why_not_compared": why_not_compared,
            "queue_names": IN_WORDS,
            "when_stopped": WHEN_STOPPED,
        }
        self._templates.filters |= {
            "utc": in_utc,
            "clock": _clock,
            "ago": _ago,
            "lasting": how_long,
            "line": _line,
            "words": in_words,
            "dotted": _dotted,
            "seconds_between": _seconds_between,
            "worst_first": _worst_first,
        }
        self._rows = self._templates.get_template("rows.html").module.row  # type: ignore[attr-defined]

    def rows(self, entries: Sequence[Entry]) -> list[str]:
        """The rows of the live list."""
        return [str(self._rows(entry)) for entry in entries]

    def panels(self, seen: Seen, minutes: Sequence[Minute]) -> dict[str, str]:
        """All panels but the live list."""
        facts: dict[str, Any] = {
            "seen": seen,
            "verdict": verdict(seen),
            "moods": MOODS,
            "minutes": minutes,
            "volume": plots.volume(minutes),
            "lag": plots.lag(minutes),
            "plots": plots,
            "stopped": stopped_run(seen),
            "complete": last_complete(seen),
            "problems": seen.status.problems,
            "as_of": f" (read at {in_utc(seen.read_at)} UTC)"
            if seen.read_at and (seen.outage or seen.is_stale)
            else "",
        }
        return {name: self._templates.get_template(f"panels/{name}.html").render(facts) for name in PANELS}

    def page(self, version: int, panels: Mapping[str, str], rows: Sequence[str], notice: str) -> str:
        """The page."""
        return self.sheet(
            "page.html",
            version=version,
            panels={name: Markup(html) for name, html in panels.items()},  # noqa: S704 - made by `panels`, escaped there
            rows=Markup("".join(rows)),  # noqa: S704 - made by `rows`
            notice=notice,
        )

    def sheet(self, template: str, **facts: object) -> str:
        """A page with a subject of its own, such as the timeline of an id."""
        return self._templates.get_template(template).render(facts)


def _line(text: object) -> str:
    """A text of the database on one line, cut after some hundred characters."""
    shown = printable("" if text is None else str(text))
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} ..."


def _dotted(text: str) -> Markup:
    """A type of event, which may go on in the next line after its dot, and before a word in capitals."""
    return Markup("<wbr>").join(re.split(r"(?<=\.)|(?<=[a-z])(?=[A-Z])", text))


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M:%S}"


def _ago(moment: datetime) -> str:
    seconds = (datetime.now(UTC) - moment).total_seconds()
    return "just now" if seconds < 1 else f"{how_long(seconds)} ago"


def _seconds_between(later: datetime | None, earlier: datetime | None) -> str:
    """The time from one moment to another; empty if one is unknown."""
    return "" if later is None or earlier is None else how_long((later - earlier).total_seconds())


def _worst_first(results: Sequence[Result]) -> list[Result]:
    severity = list(Verdict)
    return sorted(results, key=lambda each: severity.index(each.verdict), reverse=True)
