"""Chooses test files that can notice a mutant, the likeliest first."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

from tests.mutate.mutants import Mutant

MOST_FILES: Final = 8
# Random worlds: they notice much, and take longer than all others together.
_LAST: Final = frozenset(
    {
        "test_simulator",
        "test_simulation",
        "test_simulated_pipeline",
        "test_lost_events",
        "test_embedded_postgres",
        "test_tls",
        "test_containers",
        "test_pooler_errors",
        "test_planted_faults",
        "test_doctor",
        "test_doctor_roles",
        "test_doctor_policies",
        "test_slow_rows",
        "test_row_checks_beside_the_app",
        "test_reconcile_commands",
        "test_hostile_clients",
    }
)
_FOLDERS: Final = {
    "clerk_supabase_cli": "cli/clerk_supabase_cli",
    "clerk_supabase": "layers/shared/clerk_supabase",
    "functions": "functions",
    "tests": "tests",
}
_IMPORT: Final = re.compile(r"^[ \t]*(?:from ([\w.]+) import (\([^)]*\)|[\w, ]+)|import ([\w.]+))", re.MULTILINE)
# Words in the names of migrations, and those in the names of the files that test them.
_OF_MIGRATION: Final = {
    "schema": "migrations rights role_urls bounds columns",
    "users": "users_public session_rights row_level_security no_op_writes token_sql sync first_login organizations",
    "audit": "audit forget erasure columns",
    "kinds": "tombstones parts order batches no_op hostile_data apps_own element_ids migrations register",
    "apply": "tombstones undo parts order batches memberships deliveries apply apps_own migrations no_op hostile_data",
    "organizations": "organizations memberships organization_policies columns",
    "parked": "parking parked retry",
    "retention": "retention housekeeping",
    "identifiers": "erasure purging forget housekeeping",
    "purge": "housekeeping purging purge_refusals retention erasure locks",
    "requests": "bounds reconcile canary",
    "runs": "reconcile_runs reconcile_leases undo bounds",
    "compare": "reconcile emptied older fill invitations delete_margin ages_of_comparisons",
    "sweeps": "reconcile_slices reconcile_watermark reconcile_quick ages_of_comparisons",
    "deletes": "reconcile_deletes delete_margin undo reconcile_invitations held_up",
    "run_reports": "reconcile_runs reconcile_commands reconcile_report explain",
    "housekeeping": "housekeeping purging retention locks",
    "protect": "first_login organization_policies row_level hidden_from users_public rights",
    "openings": "secure row_level sql who_can",
    "secure": "secure row_level sql who_can",
    "session": "session_rights rights session migrations",
    "canary": "canary bounds",
    "erasure": "erasure forget",
    "checks": "row_checks resync older emptied held_up",
    "expose": "expose another_schema",
    "feeds": "feeds feed_failures feed_guard feed_episodes adopt_switch",
    "links": "adopt_link",
    "instance": "switch_instance instance",
    "buckets": "secure_bucket sql",
    "permissions": "permissions organization_policies roles_and_visits",
    "sessions": "roles_and_visits sessions",
    "plans": "entitlements billing sql",
    "subscription": "billing entitlements",
    "payment": "billing",
}
# Modules and the words in the names of the files that test them, where the names differ.
_OF_MODULE: Final = {
    "cold_start": "imports",
    "reconcile_users": "reconcile reconcile_quick reconcile_watermark reconcile_fill reconcile_doubts",
    "reconcile_lists": "reconcile_doubts reconcile_slices reconcile_deletes memberships reconcile_quick",
    "reconcile_slices": "reconcile_quick reconcile_deletes ages_of_comparisons",
    "reconcile_pages": "reconcile_fill reconcile_runs reconcile reconcile_leases",
    "lookups": "reconcile_deletes delete_margin reconcile_invitations",
    "deletes": "delete_margin reconcile_deletes reconcile_invitations",
    "emptied": "emptied_columns row_checks",
    "records": "reconcile_runs reconcile_report reconcile_commands",
    "runs": "reconcile_runs reconcile_report reconcile_leases reconcile_commands undo status",
    "reconcile_report": "reconcile reconcile_function reconcile_commands reconcile_slices",
    "drift": "reconcile_quick reconcile_deletes",
    "clerk": "clerk_http clerk_reading resync hostile_clients",
    "clerk_http": "clerk_http jwks hostile_clients",
    "clerk_object": "element_ids hostile_data hostile_clients parts",
    "users": "changes no_op_writes users_public",
    "store": "connections batches faults slow_rows housekeeping locks undo parking",
    "connection": "connections faults slow_rows parts as_user tls",
    "failures": "connections faults pooler_errors broken_connection_strings",
    "batch": "slow_rows",
    "repairs": "reconcile_runs parts",
    "parking": "sync faults hostile_data",
    "sync": "faults hostile_data slow_rows deliveries",
    "changes": "batches hostile_data organizations",
    "queue": "faults parking retry reconcile_runs",
    "claims": "tokens junk_tokens session",
    "first_login": "membership_at_login session session_forbidden",
    "errors": "faults",
    "ingest": "hostile_data handlers",
    "storable": "hostile_data",
    "json_split": "clerk_pages clerk_walk hostile_data",
    "found_kinds": "kinds retry parking",
}
_RIGHTS: Final = ("test_rights_matrix", "test_worker_rights", "test_session_rights", "test_hostile_objects", "test_sql")


class Chooser:
    """Reads the tests of a checkout once, and ranks them for each mutant."""

    def __init__(self, root: Path) -> None:
        self._root = root
        folders = [root / "tests" / each for each in ("unit", "integration", "infrastructure")]
        self._tests = sorted(path for folder in folders for path in folder.glob("test_*.py"))
        self._texts = {path: path.read_text(encoding="utf-8") for path in self._tests}
        self._claims = "\n".join(
            path.read_text(encoding="utf-8") for path in sorted((root / "sql" / "tests").glob("*.sql"))
        )

    def files(self, mutant: Mutant) -> list[str]:
        """Paths below the root, at most MOST_FILES; for the template all files that read it."""
        score = self._of_python if mutant.file.endswith(".py") else self._of_sql
        if mutant.file == "template.yaml":
            score = self._of_template
        scores = {path: score(path, mutant) for path in self._tests}
        ranked = sorted((path for path in self._tests if scores[path] > 0), key=lambda path: -scores[path])
        most = None if mutant.file == "template.yaml" else MOST_FILES
        # Without a database, unit tests are through before it would have started.
        return [self._name(path) for path in sorted(ranked[:most], key=lambda path: path.parent.name != "unit")]

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _mentions(self, path: Path, subject: str) -> int:
        text = self._texts[path]
        if path.stem == "test_sql":
            text += self._claims
        # Looking for words costs ten times as much as looking for text.
        if subject not in text:
            return 0
        return min(5, len(re.findall(rf"\b{re.escape(subject)}\b", text))) if subject else 0

    def _of_template(self, path: Path, mutant: Mutant) -> int:
        if path.parent.name != "infrastructure":
            return 0
        is_about = "alarm" in path.stem and mutant.subject.endswith("Alarm")
        score = 300 + 100 * is_about + 20 * self._mentions(path, mutant.subject)
        # They read every document, or the template once for each choice of its parameters.
        slow = ("documents", "supply_chain", "conditions", "guide", "runbook", "security", "versions", "guarantees")
        return score - 200 * any(word in path.stem for word in slow)

    def _of_python(self, path: Path, mutant: Mutant) -> int:
        module = Path(mutant.file)
        # A module of a folder may be tested under both of their names.
        names = (
            {module.parent.name} if module.stem == "handler" else {module.stem, f"{module.parent.name}_{module.stem}"}
        )
        about = path.stem.removeprefix("test_")
        is_named = any(name in about or about in _OF_MODULE.get(name, "").split() for name in names)
        mentions = self._mentions(path, mutant.subject)
        if path.stem == "test_documents" or (path.parent.name == "infrastructure" and not is_named and not mentions):
            return 0
        distance = self._distances[path].get(self._root / mutant.file)
        if distance is None and "functions" not in self._texts[path]:
            return 0
        if distance is None and not is_named and "handler" not in mutant.file:
            return 0
        score = 200 - 20 * (1 if distance is None else distance) + 60 * is_named + 15 * mentions
        score += 40 * (path.parent.name == "unit" and (is_named or distance == 1))
        return max(1, score - 150 * (path.stem in _LAST))

    def _of_sql(self, path: Path, mutant: Mutant) -> int:
        if path.parent.name != "integration":
            return 0
        words = " ".join(words for part, words in _OF_MIGRATION.items() if part in Path(mutant.file).stem).split()
        names = set(re.findall(r"\b(?:clerk_sync|clerk)\.(\w+)", mutant.old)) - {mutant.subject}
        score = 15 * self._mentions(path, mutant.subject) + sum(3 * self._mentions(path, each) for each in names)
        score += 40 * any(word in path.stem for word in words)
        score += 30 * (path.stem in _RIGHTS and bool(re.search(r"grant|revoke|security|search_path", mutant.old)))
        return score - 60 * (path.stem in _LAST)

    # Imports

    @cached_property
    def _distances(self) -> dict[Path, dict[Path, int]]:
        return {path: self._reached_from(path) for path in self._tests}

    def _reached_from(self, path: Path) -> dict[Path, int]:
        """The number of imports from a file to each module; modules of fixtures count as further away."""
        return dict(self._by_fixtures[path.parent]) | self._steps_from({path: 0})

    @cached_property
    def _by_fixtures(self) -> dict[Path, dict[Path, int]]:
        """The same for each folder of tests, and the fixtures that its tests share."""
        folders = {path.parent: path for path in self._tests}
        return {
            folder: self._steps_from(dict.fromkeys(self._conftests_of(path), 3)) for folder, path in folders.items()
        }

    def _steps_from(self, reached: dict[Path, int]) -> dict[Path, int]:
        waiting = deque(reached)
        while waiting:
            here = waiting.popleft()
            for there in self._imported_by(here):
                if there not in reached:
                    reached[there] = reached[here] + 1
                    waiting.append(there)
        return reached

    def _imported_by(self, path: Path) -> list[Path]:
        if path not in self._known:
            self._known[path] = [*self._imports_of(path)]
        return self._known[path]

    @cached_property
    def _known(self) -> dict[Path, list[Path]]:
        return {}

    def _conftests_of(self, path: Path) -> Iterator[Path]:
        """The files with the fixtures of a test, without the fixtures of nearly every test."""
        conftest = path.with_name("conftest.py")
        if path in self._texts and conftest.is_file():
            yield conftest

    def _imports_of(self, path: Path) -> Iterator[Path]:
        text = path.read_text(encoding="utf-8")
        if path.stem == "found_kinds":
            # It finds the modules of this package by their files.
            yield from sorted(path.with_name("kinds").glob("[!_]*.py"))
        for match in _IMPORT.finditer(text):
            module, names, alone = match.groups()
            for name in [alone] if alone else [module, *(f"{module}.{each}" for each in re.findall(r"\w+", names))]:
                first, _, rest = name.partition(".")
                found = self._root / _FOLDERS.get(first, "nowhere") / (rest.replace(".", "/") + ".py")
                if first not in _FOLDERS:
                    continue
                yield from (each for each in (found, found.with_suffix("") / "__init__.py") if each.is_file())
