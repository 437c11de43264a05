"""Models are built at their first use, by one thread."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from pydantic import create_model

from clerk_supabase.model.clerk_object import Lenient, Text

THREADS = 8


def test_a_model_that_no_event_needed_is_not_built() -> None:
    program = """
import sys
from clerk_supabase.model import changes
from clerk_supabase.model.clerk_object import Lenient
built = [each for each in Lenient.__subclasses__() if each.__pydantic_complete__]
sys.exit(f"built at import: {built}" if built else 0)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_threads_that_first_use_a_model_at_the_same_moment_get_its_objects(
    request: pytest.FixtureRequest,
) -> None:
    # Threads take turns often enough to meet inside of pydantic.
    usual = sys.getswitchinterval()
    request.addfinalizer(lambda: sys.setswitchinterval(usual))
    sys.setswitchinterval(1e-6)
    fields: dict[str, Any] = {f"field_{number}": (Text, None) for number in range(30)}
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(30):
            model = create_model("Made", __base__=Lenient, **fields)
            barrier = Barrier(THREADS)

            def read(model: type[Lenient] = model, barrier: Barrier = barrier) -> Lenient:
                barrier.wait()
                return model.model_validate({"field_29": "text"})

            for found in [each.result() for each in [pool.submit(read) for _ in range(THREADS)]]:
                assert isinstance(found, model)
                assert found.model_dump()["field_29"] == "text"
