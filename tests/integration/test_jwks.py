"""An issuer's keys over HTTP: fetched seldom, rotated without a deploy, kept through an outage."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from clerk_supabase.errors import KeysUnavailable, Rejection, TokenRejected
from clerk_supabase.settings import SettingsError
from clerk_supabase.tokens.jwks import Jwks, KeySet
from clerk_supabase.tokens.verifiers import SessionVerifier, keys_in_jwks
from clerk_supabase_cli.standin.frontend_api import FrontendApi, Mood
from clerk_supabase_cli.standin.token_mint import Mint, SigningKey
from tests.kit.clock import Clock
from tests.kit.polling import eventually
from tests.kit.tls import Authority, TlsTerminator
from tests.kit.tokens import KEY, OTHER_KEY

ADA = "user_2Ada"
OLD = SigningKey(KEY.private, "ins_2One")
NEW = SigningKey(OTHER_KEY.private, "ins_2New")
SAME_NAME = SigningKey(NEW.private, OLD.kid)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api() -> Iterator[FrontendApi]:
    with FrontendApi(OLD) as api:
        yield api


@pytest.fixture
def jwks(api: FrontendApi, clock: Clock) -> Jwks:
    return Jwks(api.jwks_url, keys_in_jwks, clock)


@pytest.fixture
def verifier(api: FrontendApi, jwks: Jwks) -> SessionVerifier:
    return SessionVerifier(api.issuer, jwks)


def accepts(verifier: SessionVerifier, api: FrontendApi, key: SigningKey) -> bool:
    try:
        return verifier.verify(Mint(key, api.issuer).session(ADA)).user_id == ADA
    except TokenRejected as rejected:
        if rejected.reason not in {Rejection.UNKNOWN_KEY, Rejection.SIGNATURE}:
            raise
        return False


def test_keys_are_fetched_when_the_first_token_comes_and_kept_for_five_minutes(
    api: FrontendApi, verifier: SessionVerifier, clock: Clock
) -> None:
    assert api.requests == 0
    for _ in range(20):
        assert accepts(verifier, api, OLD)
    assert api.requests == 1
    clock.now += 299
    assert accepts(verifier, api, OLD)
    assert api.requests == 1
    clock.now += 1
    assert accepts(verifier, api, OLD)
    assert api.requests == 2


@pytest.mark.parametrize("rotated", [NEW, SAME_NAME], ids=["another name", "the same name"])
def test_a_rotated_key_is_found_at_once(api: FrontendApi, verifier: SessionVerifier, rotated: SigningKey) -> None:
    assert accepts(verifier, api, OLD)
    api.keys = [rotated]
    assert accepts(verifier, api, rotated)
    assert not accepts(verifier, api, OLD)


def test_during_a_rotation_both_keys_are_good(api: FrontendApi, verifier: SessionVerifier) -> None:
    api.keys = [OLD, SAME_NAME]
    assert accepts(verifier, api, OLD)
    assert accepts(verifier, api, SAME_NAME)
    assert api.requests == 1


def test_a_key_that_was_withdrawn_is_rejected_after_five_minutes(
    api: FrontendApi, verifier: SessionVerifier, clock: Clock
) -> None:
    assert accepts(verifier, api, OLD)
    api.keys = [NEW]
    clock.now += 300
    assert not accepts(verifier, api, OLD)


@pytest.mark.parametrize("forger", [NEW, SAME_NAME], ids=["unknown key", "bad signature"])
def test_forged_tokens_cause_one_fetch_a_minute_at_most(
    api: FrontendApi, verifier: SessionVerifier, clock: Clock, forger: SigningKey
) -> None:
    assert accepts(verifier, api, OLD)
    for _ in range(50):
        assert not accepts(verifier, api, forger)
    assert api.requests == 2
    clock.now += 59
    assert not accepts(verifier, api, forger)
    assert api.requests == 2
    clock.now += 1
    assert not accepts(verifier, api, forger)
    assert api.requests == 3


def test_during_an_outage_known_keys_stay_valid_for_an_hour(
    api: FrontendApi, verifier: SessionVerifier, clock: Clock
) -> None:
    assert accepts(verifier, api, OLD)
    api.mood = "failing"
    clock.now += 300 + 3599
    for _ in range(20):
        assert accepts(verifier, api, OLD)
    assert api.requests == 2
    clock.now += 1
    with pytest.raises(KeysUnavailable):
        accepts(verifier, api, OLD)


def test_during_an_outage_the_issuer_is_asked_once_a_minute(
    api: FrontendApi, verifier: SessionVerifier, clock: Clock
) -> None:
    assert accepts(verifier, api, OLD)
    api.mood = "failing"
    clock.now += 300
    for _ in range(60):
        assert accepts(verifier, api, OLD)
        clock.now += 1
    assert api.requests == 2
    assert accepts(verifier, api, OLD)
    assert api.requests == 3


def test_after_an_outage_the_new_keys_are_found(api: FrontendApi, verifier: SessionVerifier, clock: Clock) -> None:
    api.mood = "failing"
    with pytest.raises(KeysUnavailable):
        accepts(verifier, api, OLD)
    api.mood = "well"
    clock.now += 4
    assert accepts(verifier, api, OLD)


def test_a_verifier_that_never_had_keys_says_so_and_asks_seldom(api: FrontendApi, verifier: SessionVerifier) -> None:
    api.mood = "failing"
    for _ in range(20):
        with pytest.raises(KeysUnavailable):
            accepts(verifier, api, OLD)
    assert api.requests == 1


@pytest.mark.parametrize("mood", ["failing", "garbage", "no keys", "huge", "redirecting"])
def test_no_answer_of_another_kind_replaces_the_keys(
    api: FrontendApi, verifier: SessionVerifier, clock: Clock, mood: Mood
) -> None:
    api.mood = mood
    with pytest.raises(KeysUnavailable):
        accepts(verifier, api, OLD)
    clock.now += 4
    api.mood = "well"
    assert accepts(verifier, api, OLD)
    api.mood = mood
    clock.now += 300
    assert accepts(verifier, api, OLD)
    assert api.requests == 3


@pytest.mark.parametrize("mood", ["silent", "dripping"])
def test_an_issuer_that_never_finishes_its_answer_is_not_waited_for(api: FrontendApi, jwks: Jwks, mood: Mood) -> None:
    api.mood = mood
    started = time.monotonic()
    with pytest.raises(KeysUnavailable):
        jwks.current()
    assert time.monotonic() - started < 20


def test_an_issuer_that_is_not_there_is_unavailable(clock: Clock) -> None:
    with FrontendApi(OLD) as gone:
        url = gone.jwks_url
    with pytest.raises(KeysUnavailable):
        Jwks(url, keys_in_jwks, clock).current()


def test_threads_that_come_first_share_one_fetch(api: FrontendApi, verifier: SessionVerifier) -> None:
    together = threading.Barrier(8)

    def verify() -> bool:
        together.wait()
        return accepts(verifier, api, OLD)

    with ThreadPoolExecutor(8) as pool:
        assert all(done.result() for done in [pool.submit(verify) for _ in range(8)])
    assert api.requests == 1


def test_nobody_waits_while_another_thread_refreshes(api: FrontendApi, jwks: Jwks, clock: Clock) -> None:
    first = jwks.current()
    api.mood = "silent"
    clock.now += 300
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(jwks.current)
        eventually(lambda: api.requests, lambda requests: requests == 2)
        assert jwks.current() is first
        assert not refreshing.done()
        assert refreshing.result() is first


def test_a_look_up_by_one_thread_counts_for_all_threads(api: FrontendApi, verifier: SessionVerifier) -> None:
    assert accepts(verifier, api, OLD)
    api.keys = [NEW]
    together = threading.Barrier(8)

    def verify() -> bool:
        together.wait()
        return accepts(verifier, api, NEW)

    with ThreadPoolExecutor(8) as pool:
        assert all(done.result() for done in [pool.submit(verify) for _ in range(8)])
    assert api.requests == 2


def test_keys_are_parsed_once(api: FrontendApi, clock: Clock) -> None:
    parsed: list[bytes] = []

    def parse(document: bytes) -> KeySet:
        parsed.append(document)
        return keys_in_jwks(document)

    verifier = SessionVerifier(api.issuer, Jwks(api.jwks_url, parse, clock))
    for _ in range(20):
        assert accepts(verifier, api, OLD)
    assert [json.loads(document) for document in parsed] == [api.jwks()]


@pytest.mark.parametrize(
    "url",
    [
        "http://clerk.example.test/.well-known/jwks.json",
        "http://127.0.0.1.example.test/jwks.json",
        "file:///etc/passwd",
        "clerk.example.test",
        "",
    ],
)
def test_keys_come_over_tls_or_from_this_machine(url: str) -> None:
    with pytest.raises(SettingsError):
        Jwks(url, keys_in_jwks)


def test_a_server_without_a_valid_certificate_is_rejected(api: FrontendApi, clock: Clock, tmp_path: Path) -> None:
    port = int(api.issuer.rpartition(":")[2])
    with TlsTerminator(port, Authority(tmp_path).server("127.0.0.1")) as terminator:
        jwks = Jwks(f"https://127.0.0.1:{terminator.port}/.well-known/jwks.json", keys_in_jwks, clock)
        with pytest.raises(KeysUnavailable):
            jwks.current()
    assert api.requests == 0


def test_the_stand_in_tells_openid_clients_where_its_keys_are(api: FrontendApi) -> None:
    found = httpx.get(f"{api.issuer}/.well-known/openid-configuration").json()
    assert (found["issuer"], found["jwks_uri"]) == (api.issuer, api.jwks_url)
