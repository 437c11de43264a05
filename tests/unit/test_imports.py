"""The packages that each function imports at its cold start."""

from __future__ import annotations

import functools
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


@functools.cache
def _packages() -> Mapping[str, Sequence[str]]:
    """The packages that an import of each name finds."""
    return packages_distributions()


@functools.cache
def modules_loaded_by(function: str, root: Path) -> set[str]:
    """The names of all modules in the process in which a handler was imported as Lambda does."""
    program = "import handler, sys; print(*sys.modules, sep='\\n')"
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
    return set(done.stdout.split())
