"""Faults that change the objects of an answer leave the rest of each object as it is."""

from __future__ import annotations

import pytest

from clerk_supabase_cli.standin import faults
from clerk_supabase_cli.standin.faults import Fault

LONG = b"9" * 5_000


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.without_field("banned"), b'{"id":"user_1","x":%s}'),
        (faults.with_null("banned"), b'{"id":"user_1","x":%s,"banned":null}'),
        (faults.called_deleted("user_1"), b'{"id":"user_1","x":%s,"banned":true,"deleted":true}'),
        (faults.called_deleted("user_2"), b'{"id":"user_1","x":%s,"banned":true}'),
        (faults.all_called_deleted(), b'{"id":"user_1","x":%s,"banned":true,"deleted":true}'),
    ],
    ids=["without_field", "with_null", "called_deleted", "another_called_deleted", "all_called_deleted"],
)
def test_a_number_that_python_does_not_read_stays_as_it_is(fault: Fault, said: bytes) -> None:
    assert fault.alter is not None
    assert fault.alter([b'{"id":"user_1","x":%s,"banned":true}' % LONG]) == [said % LONG]
