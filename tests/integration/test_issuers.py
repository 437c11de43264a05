"""Several issuers, as behind a proxy or with satellite domains: each is believed by its own keys only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clerk_supabase.errors import Rejection, TokenRejected
from clerk_supabase.settings import SettingsError, issuers_in
from clerk_supabase.tokens.verifiers import IssuerChoice
from clerk_supabase_cli.main import commands
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.token_mint import Mint, SigningKey
from tests.kit.tokens import KEY

PATHS = ("", "/__clerk", "/clerk/proxy")
ADA = "user_2Ada"
KEY_OF_ANOTHER_INSTANCE = KEY


@pytest.fixture(scope="module")
def apis() -> Iterator[list[FrontendApi]]:
    """Three issuers, whose keys all have the same name: Clerk's `kid` is no secret."""
    with ExitStack() as undo:
        yield [
            undo.enter_context(FrontendApi(SigningKey(SigningKey.generate().private, "ins_2Same"), path=path))
            for path in PATHS
        ]


@pytest.fixture(scope="module")
def choice(apis: list[FrontendApi]) -> IssuerChoice:
    return IssuerChoice.of(api.issuer for api in apis)


def key_of(api: FrontendApi) -> SigningKey:
    [key] = api.keys
    return key


def test_a_token_of_each_issuer_is_taken_also_below_a_path(apis: list[FrontendApi], choice: IssuerChoice) -> None:
    for api in apis:
        assert choice.verify(Mint(key_of(api), api.issuer).session(ADA)).issuer == api.issuer


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(signer=st.integers(0, 2), named=st.integers(0, 2), ending=st.sampled_from(["", "/", "/.", "#", "?", " ", "%2F"]))
def test_a_key_of_one_issuer_never_speaks_for_another(
    signer: int, named: int, ending: str, apis: list[FrontendApi], choice: IssuerChoice
) -> None:
    token = Mint(key_of(apis[signer]), apis[named].issuer + ending).session(ADA)
    if signer == named and not ending:
        assert choice.verify(token).user_id == ADA
    else:
        with pytest.raises(TokenRejected) as caught:
            choice.verify(token)
        assert caught.value.reason is (Rejection.ISSUER if ending else Rejection.SIGNATURE)


@pytest.mark.parametrize("issuer", ["https://evil.test", "http://127.0.0.1:1", "", None, 7, ["https://evil.test"], {}])
def test_a_token_of_an_issuer_that_nobody_configured_costs_no_request(issuer: object) -> None:
    with FrontendApi(KEY_OF_ANOTHER_INSTANCE, path="/__clerk") as api:
        token = Mint(KEY_OF_ANOTHER_INSTANCE, api.issuer).session(ADA, iss=issuer)
        with pytest.raises(TokenRejected) as caught:
            IssuerChoice.of([api.issuer]).verify(token)
        assert caught.value.reason is Rejection.ISSUER
        assert api.requests == 0


@pytest.mark.parametrize("wrong", ["https://a.test/", "https://a.test/..", "a.test", "https://*.a.test", "file:///x"])
def test_an_issuer_that_no_token_can_name_is_rejected_and_the_setting_is_named(wrong: str) -> None:
    with pytest.raises(SettingsError, match="CLERK_FRONTEND_API_URL"):
        issuers_in(f"https://b.test,{wrong}", "CLERK_FRONTEND_API_URL")


def test_the_command_checks_a_token_with_the_keys_of_the_issuer_that_it_names(apis: list[FrontendApi]) -> None:
    named = [part for api in apis for part in ("--issuer", api.issuer)]
    for api, other in zip(apis, [*apis[1:], apis[0]], strict=True):
        good = Mint(key_of(api), api.issuer).session(ADA)
        forged = Mint(key_of(other), api.issuer).session(ADA)
        strange = Mint(key_of(api), "https://evil.test").session(ADA)
        codes = [
            CliRunner().invoke(commands, ["token", "-", *named], input=token).exit_code
            for token in (good, forged, strange)
        ]
        assert codes == [0, 1, 1]


def test_several_issuers_never_share_keys(apis: list[FrontendApi]) -> None:
    named = [part for api in apis for part in ("--issuer", api.issuer)]
    token = Mint(key_of(apis[0]), apis[1].issuer).session(ADA)
    done = CliRunner().invoke(commands, ["token", "-", *named, "--jwks-url", apis[0].jwks_url], input=token)
    assert done.exit_code == 2
    assert "each of several issuers has its own keys" in done.output


def test_setup_looks_at_each_issuer(apis: list[FrontendApi]) -> None:
    key = "pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA"
    urls = ",".join(api.issuer for api in apis)
    said = CliRunner().invoke(commands, ["setup", "--publishable-key", key, "--frontend-api-url", urls]).stdout
    for api in apis:
        assert f"signing key(s) at {api.jwks_url}" in said
        assert f"names the issuer {api.issuer}" in said
