"""The bench: a value is *ok* only when the whole spread of its turns meets the target."""

from __future__ import annotations

import io
from itertools import count

import pytest
from rich.console import Console

from tests.bench.aws import Aws
from tests.bench.crowd import told
from tests.bench.results import Result, Target, show
from tests.bench.turns import Turns, cost, gain, in_turns, until_clear


@pytest.mark.parametrize(("spread", "verdict"), [((1.0, 1.9), "ok"), ((1.9, 2.1), "unclear"), ((2.1, 3.0), "MISSED")])
def test_a_value_is_ok_when_its_whole_spread_meets_the_target(spread: tuple[float, float], verdict: str) -> None:
    assert Target(2).verdict_on(spread) == verdict
    assert Target(2, at_least=True).verdict_on(spread) == {"ok": "MISSED", "MISSED": "ok"}.get(verdict, verdict)


def test_what_is_within_its_noise_is_repeated_and_not_for_ever() -> None:
    taken = count()

    def noisy(turns: Turns) -> None:
        for ours in (1.0, 3.0) * 2:
            turns.add(1.0, ours)
        next(taken)

    row = cost("a row", "the baseline", noisy, at_most=2)
    assert next(taken) == 4
    assert (row.verdict, row.spread) == ("unclear", (1.0, 3.0))


def test_what_becomes_clear_is_not_repeated_again() -> None:
    speeds = iter([[2.0, 1.0, 1.0, 1.0], [1.0] * 4])
    turns = until_clear(lambda turns: turns.extend(Turns([1.0] * 4, next(speeds))), Target(1.5))
    assert len(turns.ours) == 8


def test_a_gain_is_the_baseline_as_a_multiple_of_ours() -> None:
    row = gain("a row", "the baseline", lambda turns: turns.add(0.5, 0.1), at_least=4, of=10)
    assert (row.value, row.verdict, row.baseline, row.ours) == (5, "ok", "the baseline: 50 ms", "10 ms")


def test_both_are_measured_in_turns_and_none_is_always_first() -> None:
    order: list[str] = []
    in_turns(lambda _: order.append("baseline"), lambda _: order.append("ours"), range(2))(Turns())
    assert order == ["baseline", "ours", "ours", "baseline"]


def test_the_table_has_the_spread_and_the_verdict() -> None:
    written = io.StringIO()
    rows = [
        Result("timed", "", "", 3.0, "x", Target(4, at_least=True), spread=(2.5, 4.5)),
        Result("counted", "", "", 0, "events", Target(0)),
    ]
    show(rows, Console(file=written, width=120))
    timed, counted = (line for line in written.getvalue().splitlines() if "timed" in line or "counted" in line)
    assert "2.5 to 4.5" in timed
    assert "unclear" in timed
    assert "ok" in counted


def test_the_crowd_names_what_is_turned_down_by_its_reason_and_counts_the_rest_as_failures() -> None:
    expected = ["this user was deleted in Clerk", *["a user is forgotten once Clerk has deleted them: user_1"] * 2]
    turned_down = "turned down: 2 erasures of users whom Clerk still has, 1 sign-ins of deleted users; "
    assert told(expected) == f"{turned_down}0 failed"
    assert told(["deadlock detected", *expected]) == f"{turned_down}1 failed, such as: deadlock detected"
    assert told([]) == "0 failed"


def test_the_aws_of_the_bench_answers_as_clients_verify() -> None:
    made = Aws({})
    sent = made.answer("SendMessage", {"QueueUrl": "queue", "MessageBody": "é"})
    entries = [{"Id": "first", "MessageBody": "é"}, {"Id": "second", "MessageBody": ""}]
    batch = made.answer("SendMessageBatch", {"QueueUrl": "queue", "Entries": entries})
    of_both = {each["Id"]: each["MD5OfMessageBody"] for each in batch["Successful"]}
    assert sent["MD5OfMessageBody"] == of_both["first"] == "66ddcd97cfdeabb2f6fb8a999b4bc76f"
    assert of_both["second"] == "d41d8cd98f00b204e9800998ecf8427e"
    assert len(made.messages()) == 3
