"""The publishable key says where the instance is, or is rejected."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.settings import SettingsError
from clerk_supabase.tokens.publishable_key import frontend_api


def key_of(text: str, prefix: str = "pk_test_") -> str:
    return prefix + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("key", "host"),
    [
        (key_of("brave-otter-7.clerk.accounts.dev$"), "brave-otter-7.clerk.accounts.dev"),
        (key_of("clerk.example.com$", "pk_live_"), "clerk.example.com"),
        (key_of("clerk.acme.test$"), "clerk.acme.test"),
        (key_of("clerk.acme.test$").rstrip("="), "clerk.acme.test"),
        (key_of("clerk.xn--bcher-kva.example$"), "clerk.xn--bcher-kva.example"),
    ],
)
def test_a_publishable_key_names_issuer_and_keys(key: str, host: str) -> None:
    instance = frontend_api(key)
    assert instance.host == host
    assert instance.issuer == f"https://{host}"
    assert instance.jwks_url == f"https://{host}/.well-known/jwks.json"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "pk_test_",
        "pk_other_" + key_of("clerk.example.com$", ""),
        " " + key_of("clerk.example.com$"),
        key_of("clerk.example.com$") + "\n",
        key_of("clerk.example.com"),
        key_of("clerk.example.com$$"),
        key_of("clerk.example.com$x"),
        key_of("$"),
        key_of("localhost$"),
        key_of("127.0.0.1$"),
        key_of("[::1]$"),
        key_of("clerk.example.com:8443$"),
        key_of("clerk.example.com/path$"),
        key_of("user@clerk.example.com$"),
        key_of("https://clerk.example.com$"),
        key_of("clerk..example.com$"),
        key_of("-clerk.example.com$"),
        key_of("clerk.example.com.$"),
        key_of("Clerk.example.com$"),
        key_of("clerk.ex ample.com$"),
        key_of("cl\u0435rk.example.com$"),
        key_of("clerk.example.com\n$"),
        key_of("a." * 130 + "com$"),
        key_of("clerk.example.com$")[:-4],
        "pk_test_Y2xlcmsuZXhhbXBsZS5jb21$",
        # Bits that mean nothing in the last digit.
        "pk_test_Y2xlcmsuZXhhbXBsZS5jb20l",
    ],
)
def test_a_text_that_is_no_publishable_key_is_rejected(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        frontend_api(key)
    assert len(key) < 12 or key not in str(caught.value)


def test_two_spellings_of_one_key_are_not_both_keys() -> None:
    good = key_of("clerk.acme.test$", "pk_live_").rstrip("=")
    assert len(good.removeprefix("pk_live_")) % 4
    with pytest.raises(SettingsError):
        frontend_api(good[:-1] + chr(ord(good[-1]) + 1))


def test_the_secret_key_is_recognised_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match="secret key") as caught:
        frontend_api("sk_test_" + "x" * 40)
    assert "xxx" not in str(caught.value)


@given(st.text(max_size=60))
def test_junk_is_rejected_or_a_plain_host(junk: str) -> None:
    try:
        host = frontend_api(key_of(junk)).host
    except SettingsError:
        return
    assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
