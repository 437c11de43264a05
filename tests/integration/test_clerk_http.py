"""Requests to Clerk's Backend API, over real HTTP to the stand-in: every fault, and its result."""

from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from clerk_supabase.aws.secrets import Secret
from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.http import ClerkHttp
from clerk_supabase.clerk.walk import Window
from clerk_supabase.credentials import Fixed
from clerk_supabase.errors import (
    ClerkKeyRejected,
    ClerkRejected,
    ClerkUnavailable,
    GoneFromClerk,
    OrganizationsUnavailable,
    OutOfTime,
    Permanent,
    Retryable,
    TooLongToWait,
    WrongInstance,
)
from clerk_supabase_cli.local.processes import free_port
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.faults import Fault, answering
from tests.kit.aws import Account
from tests.kit.clerk import KEY, PassingClock, Reader, api_with, everybody, expected, reader

# The key


def test_a_wrong_key_is_an_error_that_says_what_to_do_and_does_not_repeat_the_key(api: ClerkApi) -> None:
    theirs = reader(api.url, Fixed("sk_test_nobody"))
    with pytest.raises(ClerkKeyRejected, match=r"401 \(clerk_key_invalid\): put the instance's") as rejected:
        theirs.clerk().instance()
    assert "sk_test_nobody" not in str(rejected.value)
    assert api.counts.total() == 1


def test_a_rotated_key_is_looked_up_once(api: ClerkApi, account: Account) -> None:
    secret = Secret(account.secrets_manager, account.put_secret("clerk", "sk_test_old"))
    theirs = reader(api.url, secret)
    assert secret.value() == "sk_test_old"
    account.put_secret("clerk", f" {api.answers.key}\n")
    assert theirs.clerk().instance().value.id == samples.INSTANCE_ID
    assert theirs.clerk().instance().value.id == samples.INSTANCE_ID
    assert len(account.secret_reads) == 2


def test_threads_whose_key_is_rejected_together_all_go_on_with_the_newer_one(api: ClerkApi, account: Account) -> None:
    secret = Secret(account.secrets_manager, account.put_secret("clerk", "sk_test_old"))
    secret.value()
    account.put_secret("clerk", api.answers.key)
    theirs = reader(api.url, secret)
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: theirs.clerk().users_count(Window()).value, range(16)))
    assert counts == [1_201] * 16
    assert len(account.secret_reads) == 2


@pytest.mark.parametrize("key", ["", "whsec_abc", "pk_test_abc", "sk_test_a\nb", "sk_test_é", "sk_prod_abc"])
def test_a_text_that_is_no_secret_key_of_clerk_is_never_sent(api: ClerkApi, key: str) -> None:
    with pytest.raises(ClerkKeyRejected, match="does not hold a secret key") as rejected:
        reader(api.url, Fixed(key)).clerk().instance()
    assert key == "" or key not in str(rejected.value)
    assert api.counts.total() == 0


def test_a_key_of_another_instance_is_rejected_before_anything_is_read(clerk: Clerk) -> None:
    clerk.check_instance(samples.INSTANCE_ID)
    with pytest.raises(WrongInstance, match="ins_other"):
        clerk.check_instance("ins_other")


# The rate limit


@pytest.mark.parametrize(("key", "limit"), [("sk_test_standin", 100), ("sk_live_standin", 1_000)])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_no_more_than_its_share_of_clerks_limit_is_used(key: str, limit: int, share: float) -> None:
    with api_with(key=key) as api:
        theirs = reader(api.url, Fixed(key), share=share)
        started = theirs.clock.now
        for _ in range(limit):
            theirs.clerk().instance()
        assert theirs.clock.now - started >= 10 * (1 / share - 0.2)
        assert sum(theirs.clock.slept[: int(limit * share)]) >= 8


def test_with_the_whole_limit_clerk_never_answers_429() -> None:
    clock = PassingClock()
    with api_with(has_rate_limit=True, monotonic=clock) as api:
        theirs = reader(api.url, clock=clock, share=1.0)
        for _ in range(250):
            theirs.clerk().instance()
        assert api.rate is not None
        assert theirs.http.calls == 250
        assert api.rate.most > 80


def test_when_the_app_uses_the_limit_up_too_the_client_waits_as_long_as_clerk_says() -> None:
    clock = PassingClock()
    with api_with(has_rate_limit=True, monotonic=clock) as api:
        the_app, ours = (reader(api.url, clock=clock, share=1.0) for _ in range(2))
        for _ in range(150):
            the_app.clerk().instance()
            ours.clerk().instance()
        assert ours.http.calls + the_app.http.calls > 300
        assert max(clock.slept) >= 1


@pytest.mark.parametrize(("retry_after", "least"), [("7", 7), (None, 10), ("later", 10), ("", 10)])
def test_after_a_429_nobody_asks_again_before_its_time(
    api: ClerkApi, ours: Reader, retry_after: str | None, least: float
) -> None:
    api.faults.add(answering(429, retry_after=retry_after, code="rate_limit_exceeded"))
    assert ours.clerk().users_count(Window()).value == 1_201
    assert least <= sum(ours.clock.slept) <= least + 1
    assert ours.http.calls == 2


def test_many_429s_do_not_end_a_run_that_has_time(api: ClerkApi, ours: Reader) -> None:
    api.faults.add(answering(429, retry_after="1"), times=30)
    assert ours.clerk(seconds=3_600).users_count(Window()).value == 1_201


def test_a_429_that_lasts_longer_than_there_is_time_ends_the_run_at_once(api: ClerkApi, ours: Reader) -> None:
    api.faults.add(answering(429, retry_after="600"))
    before = ours.clock.now
    with pytest.raises(OutOfTime, match="rate limit"):
        ours.clerk(seconds=60).instance()
    assert ours.clock.now == before


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after", ["901", "86400", "9" * 400])
def test_a_longer_pause_than_the_function_may_run_is_an_error_and_silences_nobody(
    api: ClerkApi, ours: Reader, status: int, retry_after: str
) -> None:
    api.faults.add(answering(status, retry_after=retry_after))
    before = ours.clock.now
    with pytest.raises(TooLongToWait, match="asks for a pause") as rejected:
        ours.clerk().instance()
    assert len(str(rejected.value)) < 300
    assert ours.clock.now == before
    assert ours.clerk().instance().value.id == samples.INSTANCE_ID
    assert ours.clock.now - before < 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_long_pause_that_clerk_asks_for_is_logged_and_a_short_one_is_not(
    api: ClerkApi, ours: Reader, log: io.StringIO, status: int
) -> None:
    api.faults.add(answering(status, retry_after="10"))
    ours.clerk().instance()
    assert "waiting" not in log.getvalue()
    api.faults.add(answering(status, retry_after="600"))
    ours.clerk().instance()
    [line] = log.getvalue().splitlines()
    assert json.loads(line)["message"] == "waiting, because Clerk asks for a pause"
    assert json.loads(line)["seconds"] == 600


# Faults that pass


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 520])
def test_an_error_of_clerks_own_passes(api: ClerkApi, ours: Reader, status: int) -> None:
    api.faults.add(answering(status), times=5, path="/users", having="starting_after")
    assert len(everybody(ours.clerk())) == 1_201
    assert ours.http.calls == 3 + 5
    assert ours.clock.slept == [0.5, 1.0, 2.0, 4.0, 8.0]


BROKEN = {
    "reset": Fault(wire="reset"),
    "cut off": Fault(wire="cut"),
    "cut off, its length not told": Fault(wire="cut_chunked"),
    "cut off, and nobody noticed": Fault(body=b'[{"id":"user_1","created_at":1,"updated_at":1},'),
    "empty": Fault(body=b""),
    "a page for people": Fault(body=b"<html>please wait</html>"),
    "an object": Fault(body=b"{}"),
}


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_asked_for_again_and_nobody_is_missed(api: ClerkApi, ours: Reader, fault: Fault) -> None:
    api.faults.add(fault, skip=1)
    assert everybody(ours.clerk()) == expected(api)
    assert ours.http.calls == 4


@pytest.mark.parametrize("fault", [answering(503), *BROKEN.values()], ids=["503", *BROKEN.keys()])
def test_a_fault_that_does_not_pass_ends_the_retries(api: ClerkApi, ours: Reader, fault: Fault) -> None:
    api.faults.add(fault, times=100)
    with pytest.raises(ClerkUnavailable, match=r"GET /users: .* \(6 times\)"):
        everybody(ours.clerk())
    assert ours.http.calls == 6


def test_after_a_503_the_next_request_waits_for_the_announced_seconds(api: ClerkApi, ours: Reader) -> None:
    api.faults.add(answering(503, retry_after="30"))
    ours.clerk().instance()
    assert ours.clock.slept == [30]


def test_trying_again_ends_at_the_deadline_without_sleeping_past_it(api: ClerkApi, ours: Reader) -> None:
    api.faults.add(answering(500), times=100)
    started = ours.clock.now
    with pytest.raises(OutOfTime, match="Clerk answered 500"):
        ours.clerk(seconds=3).instance()
    assert ours.clock.now < started + 3


def test_past_the_deadline_nothing_is_sent(ours: Reader) -> None:
    with pytest.raises(OutOfTime):
        ours.clerk(seconds=0).instance()
    assert ours.http.calls == 0


@pytest.mark.parametrize("wire", ["hang", "drip"])
def test_clerk_keeping_silent_or_dripping_keeps_us_no_longer_than_the_deadline(api: ClerkApi, wire: Any) -> None:
    api.faults.add(Fault(wire=wire), times=100)
    http = ClerkHttp(Fixed(KEY), api.url)
    started = time.monotonic()
    with pytest.raises(OutOfTime):
        Clerk(http, deadline=started + 0.5).instance()
    assert time.monotonic() - started < 15
    http.close()


def test_when_nobody_listens_clerk_is_unavailable() -> None:
    theirs = reader(f"http://127.0.0.1:{free_port()}/v1")
    with pytest.raises(ClerkUnavailable, match="connection failed"):
        theirs.clerk().instance()


def test_an_answer_without_end_is_not_read_to_its_end(
    api: ClerkApi, clerk: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clerk_supabase.clerk.http._LARGEST_BODY", 100_000)
    with pytest.raises(ClerkUnavailable, match="larger than"):
        everybody(clerk)
    assert clerk.http.calls == 1
    # The connection was not left half read.
    assert clerk.instance().value.id == samples.INSTANCE_ID


def test_connections_are_kept(api: ClerkApi, clerk: Clerk) -> None:
    for _ in range(5):
        clerk.instance()
        everybody(clerk)
    assert clerk.http._pool.num_connections == 1


# Faults that do not pass


@pytest.mark.parametrize("status", [400, 409, 422, 403])
def test_a_rejection_is_permanent_and_names_its_code(api: ClerkApi, clerk: Clerk, status: int) -> None:
    api.faults.add(answering(status, code="form_param_value_invalid"))
    with pytest.raises(ClerkRejected, match=rf"GET /users/count: Clerk answered {status} \(form_param_value_invalid\)"):
        clerk.users_count(Window())
    assert clerk.http.calls == 1


def test_messages_of_clerk_are_not_repeated_because_they_may_hold_personal_data(api: ClerkApi, clerk: Clerk) -> None:
    body = {"errors": [{"code": "x", "message": "ada@example.test", "meta": {"param_name": "email_address"}}, 7]}
    for errors in (body, {"errors": body["errors"][:1]}):
        api.faults.add(Fault(status=422, body=json.dumps(errors).encode()))
        with pytest.raises(ClerkRejected) as rejected:
            clerk.instance()
        assert "ada" not in str(rejected.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_no_other_host_gets_the_key(api: ClerkApi, clerk: Clerk, status: int) -> None:
    with api_with() as elsewhere:
        api.faults.add(Fault(status=status, body=b"", headers={"Location": f"{elsewhere.url}/instance"}))
        with pytest.raises(ClerkRejected, match="address of its Backend API"):
            clerk.instance()
        assert elsewhere.counts.total() == 0


def test_every_error_says_whether_the_same_may_work_later() -> None:
    assert issubclass(OutOfTime, ClerkUnavailable)
    assert issubclass(ClerkUnavailable, Retryable)
    for permanent in (ClerkKeyRejected, WrongInstance, OrganizationsUnavailable, GoneFromClerk):
        assert issubclass(permanent, ClerkRejected)
        assert issubclass(permanent, Permanent)


# The address of the API


@pytest.mark.parametrize(
    "url",
    ["http://api.clerk.com/v1", "http://127.0.0.1.example.test/v1", "ftp://127.0.0.1", "https:///v1", "api.clerk.com"],
)
def test_the_key_is_only_ever_sent_encrypted_unless_it_stays_on_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="must begin with https"):
        ClerkHttp(Fixed(KEY), url)


@pytest.mark.parametrize("url", ["http://localhost:4567/v1", "http://127.0.0.1/v1", "http://[::1]/v1"])
def test_an_address_on_this_machine_needs_no_encryption(url: str) -> None:
    ClerkHttp(Fixed(KEY), url).close()


@pytest.mark.parametrize("share", [0, -1, 1.1])
def test_a_share_of_the_limit_that_cannot_be_is_rejected(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        ClerkHttp(Fixed(KEY), share=share)


def test_the_key_is_in_no_error_and_no_log(api: ClerkApi, log: io.StringIO) -> None:
    theirs = reader(api.url, Fixed("sk_test_top_secret"))
    with pytest.raises(ClerkKeyRejected) as rejected:
        theirs.clerk().instance()
    assert "top_secret" not in log.getvalue() + repr(rejected.value) + repr(theirs.http) + repr(theirs.clerk())
