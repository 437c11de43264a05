"""The packages that each function imports at its cold start."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

from tests.kit.environments import environment_of

_TELEMETRY: Final = {"aws-lambda-powertools", "jmespath", "botocore", "typing-extensions"}
_BOTO3: Final = {"boto3", "botocore", "certifi", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3"}
_POSTGRES: Final = {"psycopg", "psycopg-binary"}
_MODELS: Final = {"annotated-types", "pydantic", "pydantic-core", "typing-extensions", "typing-inspection"}
_SYNC: Final = _TELEMETRY | _BOTO3 | _POSTGRES | _MODELS
PACKAGES: Final = {
    "ingest": _TELEMETRY | {"awscrt", "msgspec"},
    "sync": _SYNC,
    "retry": _SYNC,
    "reconcile": _SYNC | {"msgspec"},
    "session": _SYNC | {"cffi", "cryptography", "msgspec", "pyjwt"},
}
SECRETS: Final = ("WEBHOOK_SECRET", "DATABASE_SECRET", "SESSION_DATABASE_SECRET", "CLERK_SECRET_KEY")


@pytest.mark.parametrize("function", PACKAGES)
def test_a_function_imports_these_packages_and_no_others(function: str, root: Path) -> None:
    loaded = {name.partition(".")[0] for name in modules_loaded_by(function, root)}
    packages = {name.lower().replace("_", "-") for top in loaded for name in _packages().get(top, [])}
    # The layer itself is installed in this environment, too.
    assert {name for name in packages if not name.startswith("clerk-supabase")} == PACKAGES[function]


def test_ingest_starts_without_what_only_sync_needs(root: Path) -> None:
    loaded = modules_loaded_by("ingest", root)
    assert "clerk_supabase.ingest" in loaded
    assert not loaded & {"pydantic", "psycopg", "clerk_supabase.postgres.store", "clerk_supabase.model.changes"}
    # Boto3 would double the cold start. Powertools loads botocore's empty first module alone.
    assert not loaded & {"boto3", "botocore.exceptions", "botocore.session", "urllib3"}


def test_sync_starts_without_what_only_ingest_needs(root: Path) -> None:
    loaded = modules_loaded_by("sync", root)
    assert "botocore.session" in loaded
    # boto3 imports awscrt wherever awscrt is installed.
    assert not loaded & {"awscrt", "_awscrt", "clerk_supabase.ingest", "clerk_supabase.tokens.verifiers"}


def test_sync_starts_with_the_models_of_users_and_makes_the_others_for_their_first_event(root: Path) -> None:
    models = {
        name
        for module in modules_loaded_by("sync", root)
        if (name := module.removeprefix("clerk_supabase.model."))
        in {"billing", "organizations", "roles", "users", "visits"}
    }
    assert models == {"users"}


@pytest.mark.parametrize("function", PACKAGES)
def test_garbage_is_searched_for_after_the_start_and_outside_its_objects(function: str, root: Path) -> None:
    program = """
import gc
begun = [each["collections"] for each in gc.get_stats()]
import handler, json
searched = [each["collections"] - before for each, before in zip(gc.get_stats(), begun)]
print(json.dumps([searched, gc.isenabled(), gc.get_freeze_count()]))
"""
    searched, is_enabled, left_out = json.loads(printed(program, function, root))
    # Before the first line of the layer, the standard library imports a little. Without any care there are 40 to 160.
    assert sum(searched) < 20
    assert is_enabled
    assert left_out > 10_000


def test_a_second_start_in_one_process_leaves_no_more_objects_out_of_the_search(root: Path) -> None:
    program = """
import gc, runpy
runpy.run_path("handler.py")
before = gc.get_freeze_count()
runpy.run_path("handler.py")
print(before > 0, gc.get_freeze_count() <= before, gc.isenabled())
"""
    assert printed(program, "sync", root).split() == ["True"] * 3


@functools.cache
def _packages() -> Mapping[str, Sequence[str]]:
    """The packages that an import of each name finds."""
    return packages_distributions()


@functools.cache
def modules_loaded_by(function: str, root: Path) -> set[str]:
    """The names of all modules in the process in which a handler was imported as Lambda does."""
    return set(printed("import handler, sys; print(*sys.modules, sep='\\n')", function, root).split())


def printed(program: str, function: str, root: Path) -> str:
    """The output of a program that runs in the folder and in the environment of a function."""
    environment = environment_of(
        function,
        PATH=os.environ["PATH"],
        AWS_DEFAULT_REGION="eu-central-1",
        AWS_EC2_METADATA_DISABLED="true",
        # Nobody answers there.
        AWS_ENDPOINT_URL="http://127.0.0.1:1",
        CLERK_PUBLISHABLE_KEY="pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA==",
        **dict.fromkeys(("SYNC_QUEUE_URL", "PARKED_QUEUE_URL"), "url"),
        **{f"{name}_ARN": "arn" for name in SECRETS},
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root / "functions" / function,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout
