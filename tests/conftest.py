"""The base of every test: the checkout, a printed seed, an AWS account in memory, and the log."""

from __future__ import annotations

import gc
import io
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from clerk_supabase.telemetry import forget, logger, metrics
from clerk_supabase_cli.local.postgres import NEWEST, VERSIONS
from clerk_supabase_cli.project import find_root
from tests.kit.aws import Account, Region
from tests.kit.cases import EXHAUSTIVE, Share, every, left_out, share

# In Lambda, template.yaml sets it.
metrics.namespace = "Tests"

LONGEST: Final = ("tests/deployed/", "tests/integration/test_sql.py", "tests/unit/test_storable.py")

# The time of an example depends on the machine: no deadline.
hypothesis.settings.register_profile("here", deadline=None, print_blob=True, database=None)
hypothesis.settings.load_profile("here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        EXHAUSTIVE,
        action="store_true",
        help="try all combinations of the costly tests. Without it, each value of each parameter is tried",
    )
    parser.addoption(
        "--through-pooler",
        action="store_true",
        help="integration tests: sync reaches Postgres through pgbouncer in transaction mode",
    )
    parser.addoption(
        "--postgres",
        type=int,
        choices=VERSIONS,
        help=f"integration tests: run all of them on this major version of Postgres. Without it they run on {NEWEST},"
        " and those about what is in the database on each other version, too",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for all generated examples: every run tries the same ones, unless it asks for a random seed."""
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = "1"
    elif config.option.hypothesis_seed == "random":
        config.option.hypothesis_seed = str(secrets.randbelow(2**32))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begins with the stack and the longest files, so that no process works alone in the end."""
    if not config.getoption(EXHAUSTIVE):
        without = set(left_out(items))
        config.hook.pytest_deselected(items=[*without])
        items[:] = [item for item in items if item not in without]
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_collectstart() -> None:
    """Stops the search for garbage: all that a collection makes lives as long as the tests."""
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Searches for garbage again, outside the objects of the collection and its little garbage."""
    gc.freeze()
    gc.enable()


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Runs the tests of a file in one process, one after the other, and so all tests that share the deployed stack."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        return "tests/deployed" if file.startswith("tests/deployed/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Distributes the tests of `make test` over processes."""
    return ByFile(config, log)


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.option.hypothesis_seed
    return f"seed of generated examples: {seed} (other examples: --hypothesis-seed=random)"


@pytest.fixture(scope="session")
def exhaustive(pytestconfig: pytest.Config) -> bool:
    """Tells whether a costly test tries all that it can."""
    return bool(pytestconfig.getoption(EXHAUSTIVE))


@pytest.fixture(scope="session")
def some(exhaustive: bool) -> Share:
    """The function that chooses the values that a test tries in a loop: `share()`, or all of them."""
    return every if exhaustive else share


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout these tests belong to."""
    return find_root(Path(__file__).parent)


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    """AWS in memory, and nothing of the caller's own."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        with Region.in_memory() as region:
            yield region


@pytest.fixture
def account(region: Region) -> Account:
    """An account for one test, in the shared region."""
    return region.account()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Every line the project's logger writes during the test."""
    handler = logger.registered_handler
    assert isinstance(handler, logging.StreamHandler)
    lines = io.StringIO()
    before = handler.setStream(lines)
    yield lines
    handler.setStream(before)


@pytest.fixture(autouse=True)
def _forget_counts() -> Iterator[None]:
    """Resets the counters, which normally grow until a handler ends, so that each test begins without counts."""
    yield
    forget()
