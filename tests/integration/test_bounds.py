"""The functions of a run bound each number, moment, count and lease from a caller with the worker's password."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import CheckViolation, InvalidParameterValue, NotNullViolation

from clerk_supabase.postgres.store import Store
from clerk_supabase.settings import Keep
from tests.kit.databases import Connection, Database, rows, value
from tests.kit.histories import CREATED_AT
from tests.kit.webhooks import membership, user

DAY = 86_400_000
LAST: Final = 253_402_300_799_999
BEGIN: Final = {
    "instance_id": "ins_true",
    "mode": "full",
    "dry_run": False,
    "versions_only": False,
    "allow_deletes": None,
    "allow_emptied": None,
    "as_of": 1_700_000_000_000,
    "lease_seconds": 120.0,
    "delete_margin_ms": 300_000,
}
KEEP: Final = asdict(Keep())
WINDOW: Final = {"number": 0, "kind": "user", "start": None, "end": None}
# Requests that are taken, without the run and the lease they are about.
OF_A_RUN: Final[dict[str, dict[str, Any]]] = {
    "renew_lease": {"lease_seconds": 120},
    "plan_run": {"expected": {"user": 3}, "windows": [WINDOW]},
    "windows_of_run": {},
    "compare": {"number": 0, "kind": "user", "tally": {}, "since": None, "until": None, "observed_at": 1, "page": []},
    "fill": {"page": []},
    "finish_window": {"number": 0, "tally": {}},
    "find_unseen": {"kind": "organization", "since": 0, "until": 1_700_000_000_000, "ids": []},
    "next_slice": {"kind": "membership"},
    "visit_slice": {"kind": "membership", "start": 0, "end": None, "is_whole": True, "is_switched_off": False},
    "settle_sweeps": {},
    "expire_invitations": {},
    "prepare_deletes": {"kinds": ["user"]},
    "delete_candidates": {"kind": "user", "after": "", "limit": 100},
    "weigh_deletes": {},
    "settle_findings": {"kind": "user", "present": [], "gone": {}, "sent": [], "refused": [], "held_up": []},
    "check_rows": {"kind": "user", "limit": 100, "only_look": False},
    "retry_held_up": {"limit": 100},
    "held_repairs": {"kind": "user", "after": "", "limit": 100},
    "emptied_columns": {},
    "altered_columns": {},
    "items_without_subscription": {"ids": ["csub_item_1"]},
    "compare_feed": {"limit": 100},
    "end_run": {"state": "running", "reason": None, "calls": 1, "newest_change": 1, "newest_delivery": 1}
    | {"is_silent": None},
}
OTHERS: Final[dict[str, dict[str, Any]]] = {
    "begin_run": BEGIN,
    "cut_users": {"every": 10, "before": 1_700_000_000_000},
    "count_rows": {"before": 1_700_000_000_000},
    "rank_rows": {"kind": "membership", "moments": [0, 1_700_000_000_000]},
    "keep_house": KEEP,
    "retry_unfed": {"limit": 100, "seconds": 1},
    "continue_deletes": {"kind": "organization", "id": "org_1"},
    "list_unfinished": {},
    "record_canary": {"svix_id": "msg_canary", "occurred_at": 1, "received_at": 1},
}
NUMBERS: Final = {
    "renew_lease": ["lease_seconds"],
    "compare": ["number", "since", "until", "observed_at"],
    "finish_window": ["number"],
    "find_unseen": ["since", "until"],
    "visit_slice": ["start", "end"],
    "delete_candidates": ["limit"],
    "check_rows": ["limit"],
    "retry_held_up": ["limit"],
    "retry_unfed": ["limit", "seconds"],
    "held_repairs": ["limit"],
    "end_run": ["calls", "newest_change", "newest_delivery"],
    "begin_run": ["lease_seconds", "as_of", "allow_deletes", "allow_emptied", "delete_margin_ms"],
    "cut_users": ["every", "before"],
    "count_rows": ["before"],
    "keep_house": ["hold_back_days", "deliveries_days", "audit_days", "runs_days", "sessions_days"],
    "record_canary": ["occurred_at", "received_at"],
}
OPTIONAL: Final = {
    "since",
    "until",
    "end",
    "observed_at",
    "newest_change",
    "newest_delivery",
    "allow_deletes",
    "delete_margin_ms",
} | {
    "count_rows.before",
    "begin_run.allow_emptied",
}
NO_NUMBER: Final = ["NaN", "Infinity", "-Infinity", "1", "", -1, 0.5, 1e300, 2**63, True, [], {}]
NO_RUN: Final[list[Any]] = [None, "NaN", "1", -1, 0, 1.5, 1e300, [], {}]
NO_TALLIES: Final[list[Any]] = [None, 5, [], *({"user": each} for each in ("x", "NaN", -1, 0.5, 1e300, None))]
NO_MOMENTS: Final[list[Any]] = [None, 5, {}, ["NaN"], [-1], [1e300], [None], [0] * 101]
NO_WINDOWS: Final[list[dict[str, Any]]] = [
    *({"number": each} for each in ("NaN", -1, None)),
    *({"kind": each} for each in ("clerk", None)),
    *({"start": each} for each in ("NaN", -1)),
    {"end": 1e300},
]
NOT_AT_MOST_AN_HOUR: Final = [0, 3601, 1_000_000_000]


@pytest.fixture
def worker(database: Database) -> Iterator[Connection]:
    with psycopg.connect(database.worker_url, autocommit=True) as connection:
        yield connection


def call(worker: Connection, function: str, request: dict[str, Any]) -> Any:
    """Call a function; return its answer."""
    query = sql.SQL("select clerk_sync.{}(%s::jsonb)").format(sql.Identifier(function))
    [(answer,)] = worker.execute(query, [json.dumps(request)])
    return answer


def request_of(worker: Connection, function: str) -> dict[str, Any]:
    """A valid request for the function; with the id of a new run, if the request is about a run."""
    if function in OTHERS:
        return OTHERS[function]
    run = call(worker, "begin_run", BEGIN)["run"]
    request = OF_A_RUN[function] | {"run": run["run_id"], "lease": run["lease"]}
    if function == "windows_of_run":
        request.pop("lease")
    return request


def test_every_function_of_the_worker_that_takes_a_request_is_tried_below(admin: Connection) -> None:
    taking = rows(
        admin,
        """
        select p.proname::text from pg_proc as p
        where p.pronamespace = 'clerk_sync'::regnamespace
        and has_function_privilege('clerk_sync_worker', p.oid, 'execute')
        and p.prorettype = 'jsonb'::regtype and p.proargnames = '{request}'
        """,
    )
    assert {name for (name,) in taking} == OF_A_RUN.keys() | OTHERS.keys()


def test_the_part_of_a_list_that_no_run_has_come_to_is_there_and_not_switched_off(
    worker: Connection, admin: Connection
) -> None:
    assert call(worker, "visit_slice", request_of(worker, "visit_slice") | {"end": 1_000})
    parts = "select ends_at = 1000, visited_at > 0, is_switched_off from clerk_sync.sweeps order by ends_at"
    assert rows(admin, parts) == [(True, True, False), (False, False, False)]


@pytest.mark.parametrize(
    "moments", [(0, 0, 0), (1, -1, 0), (1, 0, -1), (LAST + 1, 0, 0), (1, LAST + 1, 0), (1, 0, LAST + 1)]
)
def test_a_part_of_a_list_holds_no_moment_that_postgres_cannot_convert(
    moments: tuple[int, int, int], admin: Connection
) -> None:
    with pytest.raises(CheckViolation, match="sweeps_moments_check"):
        admin.execute(
            "insert into clerk_sync.sweeps (kind, ends_at, visited_at, compared_at) values ('x', %s, %s, %s)", moments
        )


@pytest.mark.parametrize("moments", [(1, 0, 0), (LAST, LAST, LAST)])
def test_a_part_of_a_list_holds_the_first_and_the_last_moment(moments: tuple[int, int, int], admin: Connection) -> None:
    admin.execute(
        "insert into clerk_sync.sweeps (kind, ends_at, visited_at, compared_at) values ('x', %s, %s, %s)", moments
    )
    found = rows(admin, "select ends_at, visited_at, compared_at from clerk_sync.sweeps where kind = 'x'")
    assert found == [moments]


@pytest.mark.parametrize("column", ["hold_back_days", "deliveries_days", "audit_days", "runs_days", "sessions_days"])
def test_every_least_time_is_a_number(column: str, admin: Connection) -> None:
    statement = sql.SQL("insert into clerk_sync.retention ({}) values (null)").format(sql.Identifier(column))
    with pytest.raises(NotNullViolation, match=column):
        admin.execute(statement)


@pytest.mark.parametrize("days", [0, 36_500])
def test_rows_and_records_may_be_kept_for_no_day_and_for_a_century(worker: Connection, days: int) -> None:
    fields = ("hold_back_days", "deliveries_days", "audit_days", "runs_days", "sessions_days")
    assert call(worker, "keep_house", KEEP | dict.fromkeys(fields, days))["purged"] == []


@pytest.mark.parametrize("function", [*OF_A_RUN, *OTHERS])
def test_a_good_request_is_taken(function: str, worker: Connection) -> None:
    assert call(worker, function, request_of(worker, function)) not in (None, False)


@pytest.mark.parametrize(("function", "field"), [(name, field) for name, fields in NUMBERS.items() for field in fields])
def test_a_value_that_is_no_number_within_bounds_is_refused_by_name(
    function: str, field: str, worker: Connection, admin: Connection
) -> None:
    request = request_of(worker, function)
    before = everything(admin)
    wrong: list[Any] = NO_NUMBER + (NOT_AT_MOST_AN_HOUR if field == "lease_seconds" else [])
    if not OPTIONAL & {field, f"{function}.{field}"}:
        wrong.append(None)
    if field in ("limit", "every"):
        wrong.append(0)
    for each in wrong:
        with pytest.raises(InvalidParameterValue, match=f"{field} is no whole number from"):
            call(worker, function, request | {field: each})
    assert everything(admin) == before


@pytest.mark.parametrize("function", OF_A_RUN)
def test_a_value_that_is_no_run_is_refused(function: str, worker: Connection) -> None:
    request = request_of(worker, function)
    for run in NO_RUN:
        with pytest.raises(InvalidParameterValue, match="run is no whole number"):
            call(worker, function, request | {"run": run})


@pytest.mark.parametrize("function", OF_A_RUN)
def test_a_run_that_does_not_exist_belongs_to_no_process(function: str, worker: Connection, admin: Connection) -> None:
    request = request_of(worker, function) | {"run": 4711}
    before = everything(admin)
    assert call(worker, function, request) in (None, False, [])
    assert everything(admin) == before


@pytest.mark.parametrize(
    "function",
    [
        "fill",
        "find_unseen",
        "delete_candidates",
        "settle_findings",
        "check_rows",
        "retry_held_up",
        "held_repairs",
        "emptied_columns",
        "altered_columns",
    ],
)
def test_the_findings_of_a_finished_run_cannot_be_changed(function: str, worker: Connection) -> None:
    request = request_of(worker, function)
    call(worker, "end_run", OF_A_RUN["end_run"] | request | {"state": "complete"})
    assert call(worker, function, request) in (None, False)


@pytest.mark.parametrize(
    ("function", "field", "wrongs"),
    [
        ("begin_run", "mode", [None, "", "slow", 5]),
        ("begin_run", "dry_run", [None, "true", 0]),
        ("begin_run", "versions_only", [None, "true", 0]),
        ("begin_run", "instance_id", [None, "", "a b", "x" * 256]),
        ("keep_house", "purge_by", [None, "", "burn", 5]),
        ("end_run", "state", [None, "", "done", 5]),
        ("compare", "kind", [None, "", "clerk", 5]),
        ("find_unseen", "kind", [None, "", "clerk", 5]),
        ("next_slice", "kind", [None, "", "clerk", 5]),
        ("visit_slice", "kind", [None, "", "clerk", 5]),
        ("visit_slice", "is_whole", [None, "true", 0]),
        ("visit_slice", "is_switched_off", [None, "true", 0]),
        ("visit_slice", "end", [0, 253_402_300_800_000]),
        ("rank_rows", "kind", [None, "", "clerk", 5]),
        ("rank_rows", "moments", NO_MOMENTS),
        ("settle_findings", "kind", [None, "", "clerk", 5]),
        ("delete_candidates", "kind", [None, "", "clerk", 5]),
        ("check_rows", "kind", [None, "", "clerk", 5]),
        ("held_repairs", "kind", [None, "", "clerk", 5]),
        ("compare", "tally", NO_TALLIES),
        ("finish_window", "tally", NO_TALLIES),
        ("plan_run", "expected", NO_TALLIES),
        ("plan_run", "windows", [[WINDOW | each] for each in NO_WINDOWS]),
        ("settle_findings", "gone", [{"user_1": each} for each in ("NaN", -1, 1e300, None)]),
    ],
)
def test_a_meaningless_value_is_refused(
    function: str, field: str, wrongs: list[Any], worker: Connection, admin: Connection
) -> None:
    request = request_of(worker, function)
    if field == "gone":
        admin.execute(
            "insert into clerk_sync.reconcile_findings (run_id, kind, entity_id, difference, action, cause) "
            "values (%s, 'user', 'user_1', 'extra', 'delete', 'its delete did not arrive')",
            [request["run"]],
        )
    before = everything(admin)
    for wrong in wrongs:
        with pytest.raises(InvalidParameterValue):
            call(worker, function, request | {field: wrong})
    assert everything(admin) == before


# Nothing outlasts the password


def test_a_lease_ends_within_the_hour(worker: Connection, admin: Connection) -> None:
    run = call(worker, "begin_run", BEGIN | {"lease_seconds": 3600})["run"]
    left = "select lease_until - now() <= interval '1 hour 1 second' from clerk_sync.reconcile_runs"
    assert value(admin, left)
    call(worker, "renew_lease", {"run": run["run_id"], "lease": run["lease"], "lease_seconds": 3600})
    assert value(admin, left)


def test_the_watermark_never_lies_in_the_future(worker: Connection) -> None:
    now = time.time_ns() // 1_000_000
    complete(worker, BEGIN | {"as_of": now + DAY - 60_000})
    assert call(worker, "begin_run", BEGIN)["watermark"] <= time.time_ns() // 1_000_000
    with pytest.raises(InvalidParameterValue, match="as_of"):
        call(worker, "begin_run", BEGIN | {"as_of": now + DAY + 60_000})


def test_the_time_of_a_comparison_never_lies_in_the_future_and_an_operator_can_reset_it(
    worker: Connection, admin: Connection
) -> None:
    run = call(worker, "begin_run", BEGIN | {"as_of": time.time_ns() // 1_000_000 + DAY - 60_000})["run"]
    of_run = {"run": run["run_id"], "lease": run["lease"]}
    for start, end in ((0, 1), (5, 7), (6, 253_402_300_799_999), (253_402_300_799_998, None), (3, 9)):
        assert call(worker, "visit_slice", OF_A_RUN["visit_slice"] | of_run | {"start": start, "end": end})
    assert call(worker, "settle_sweeps", of_run) == {}
    in_future = "select count(*) from clerk_sync.sweeps where greatest(visited_at, compared_at) > %s"
    assert value(admin, in_future, time.time_ns() // 1_000_000) == 0
    ends = rows(admin, "select ends_at from clerk_sync.sweeps order by 1")
    assert ends[-1] == (253_402_300_799_999,)
    assert call(worker, "visit_slice", OF_A_RUN["visit_slice"] | of_run)
    assert call(worker, "settle_sweeps", of_run).keys() == {"membership"}
    call(admin, "reset_runs", {"instance": False, "dry_run": False})
    assert value(admin, "select count(*) from clerk_sync.sweeps") == 0


def test_a_delivery_from_the_future_does_not_silence_the_alarm_about_silence(
    worker: Connection, store: Store, admin: Connection
) -> None:
    store.apply([user(at=1, svix_id="msg_1")])
    admin.execute("update clerk_sync.deliveries set received_at = now() + interval '3 days'")
    newest = call(worker, "begin_run", BEGIN)["newest_delivery"]
    assert newest <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("moment", [10**14, 253_402_300_799_999])
def test_no_event_has_a_time_in_the_future(moment: int, worker: Connection) -> None:
    request = request_of(worker, "end_run")
    for field in ("newest_change", "newest_delivery"):
        with pytest.raises(InvalidParameterValue, match=field):
            call(worker, "end_run", request | {field: moment})
    for field in ("occurred_at", "received_at"):
        with pytest.raises(InvalidParameterValue, match=field):
            call(worker, "record_canary", OTHERS["record_canary"] | {field: moment})


def test_a_forged_instance_blocks_the_true_one_until_an_operator_resets_it(
    worker: Connection, admin: Connection
) -> None:
    complete(worker, BEGIN | {"instance_id": "ins_forged"})
    refused = {"outcome": "wrong_instance", "instance_id": "ins_forged"}
    assert call(worker, "begin_run", BEGIN) == refused
    call(admin, "reset_runs", {"instance": False, "dry_run": False})
    assert call(worker, "begin_run", BEGIN) == refused
    call(admin, "reset_runs", {"instance": True, "dry_run": False})
    assert call(worker, "begin_run", BEGIN)["outcome"] == "begun"
    assert call(worker, "begin_run", BEGIN | {"instance_id": "ins_forged"})["outcome"] == "wrong_instance"


def test_a_reset_ends_runs_at_work_and_makes_the_next_one_compare_everything(
    worker: Connection, admin: Connection
) -> None:
    complete(worker, BEGIN)
    stolen = call(worker, "begin_run", BEGIN | {"mode": "quick", "lease_seconds": 3600})
    assert (stolen["run"]["mode"], call(worker, "begin_run", BEGIN)["outcome"]) == ("quick", "busy")
    admin.execute(
        "insert into clerk_sync.reconcile_windows (run_id, number, kind, tally) values (%s, 0, 'user', %s)",
        [stolen["run"]["run_id"], '{"listed": "x"}'],
    )

    wanted = {"running": [stolen["run"]["run_id"]], "trusted": 1, "instance_id": None}
    before = everything(admin)
    assert call(admin, "reset_runs", {"instance": False, "dry_run": True}) == wanted
    assert everything(admin) == before
    assert call(admin, "reset_runs", {"instance": False, "dry_run": False}) == wanted

    ended = OF_A_RUN["end_run"] | {"run": stolen["run"]["run_id"], "lease": stolen["run"]["lease"]}
    assert call(worker, "end_run", ended) is None
    again = call(worker, "begin_run", BEGIN | {"mode": "quick"})
    assert (again["outcome"], again["run"]["mode"], again["watermark"]) == ("begun", "full", None)


def complete(worker: Connection, asked: dict[str, Any]) -> None:
    """A run from its beginning to its end."""
    run = call(worker, "begin_run", asked)["run"]
    ended = OF_A_RUN["end_run"] | {"run": run["run_id"], "lease": run["lease"], "state": "complete"}
    assert call(worker, "end_run", ended)["state"] == "complete"


def everything(admin: Connection) -> list[Any]:
    """Reads all data that runs write."""
    return [
        rows(admin, "select * from clerk_sync.reconcile_runs order by 1"),
        rows(admin, "select * from clerk_sync.reconcile_windows order by 1, 2"),
        rows(admin, "select * from clerk_sync.reconcile_findings order by 1, 2, 3"),
        rows(admin, "select * from clerk_sync.sweeps order by 1, 2"),
        rows(admin, "select * from clerk_sync.instance"),
        rows(admin, "select * from clerk_sync.deliveries order by svix_id"),
    ]


# Data that the worker can read


def test_the_worker_learns_ids_and_who_belongs_where_and_no_more(
    worker: Connection, store: Store, admin: Connection
) -> None:
    # A comparison asks for rows that Clerk does not list: the ids of all rows, and the two sides of memberships.
    store.apply([user(at=1, last_name="Lovelace"), membership(at=1)])
    run = call(worker, "begin_run", BEGIN | {"as_of": CREATED_AT + DAY})["run"]
    told = []
    for kind in ("user", "organization", "membership"):
        about = {"run": run["run_id"], "kind": kind}
        told.append(call(worker, "find_unseen", about))
        told.append(call(worker, "delete_candidates", about | {"after": "", "limit": 100}))
    assert told == [
        *({"seen": 0, "extra": 0}, []),
        *({"seen": 0, "extra": 1}, [["org_1", None, None, None]]),
        *({"seen": 0, "extra": 1}, [["orgmem_1", "user_1", "org_1", None]]),
    ]
