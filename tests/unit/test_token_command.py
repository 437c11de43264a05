"""`clerk-supabase token`: describes a token in words, and makes tokens for this machine."""

from __future__ import annotations

import io
import json
import os
import pty
import stat
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from clerk_supabase.errors import KeysUnavailable, Rejection
from clerk_supabase.tokens.claims import Organization
from clerk_supabase_cli.local.stack import PUBLISHABLE_KEY
from clerk_supabase_cli.main import commands
from clerk_supabase_cli.operate.setup.token_report import ADVICE
from clerk_supabase_cli.project import CHECKOUT_VARIABLE
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.token_mint import LOCAL_ISSUER, LOCAL_JWT_SECRET, Mint, SigningKey, legacy_token
from tests.kit.tokens import KEY, OTHER_KEY

ADA: Final = "user_2Ada"
MINT: Final = Mint(KEY)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a checkout, so that no test leaves a key in the real one."""
    (tmp_path / "sql" / "migrations").mkdir(parents=True)
    (tmp_path / "template.yaml").touch()
    (tmp_path / "key.pem").write_text(KEY.public_pem)
    monkeypatch.setenv(CHECKOUT_VARIABLE, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, stdin: str = "") -> Result:
    names = ("CLERK_PUBLISHABLE_KEY", "CLERK_FRONTEND_API_URL", "SUPABASE_JWT_SECRET", "DATABASE_URL")
    environment = dict.fromkeys(names)
    return CliRunner().invoke(commands, ["token", *arguments], input=stdin, env=environment)


def checked(token: str, *arguments: str) -> Result:
    return run(token, "--pem", "key.pem", "--issuer", LOCAL_ISSUER, *arguments)


def report(token: str, *arguments: str) -> dict[str, Any]:
    found = json.loads(run(token, "--json", *arguments).stdout)
    assert isinstance(found, dict)
    return found


def reasons(found: dict[str, Any]) -> list[str]:
    return [problem["reason"] for problem in found["problems"]]


@pytest.mark.usefixtures("checkout")
def test_a_good_token_is_called_good_and_ends_with_success() -> None:
    done = checked(MINT.session(ADA))
    assert done.exit_code == 0
    assert done.stdout.startswith("good: ")
    assert "NOT CHECKED" not in done.stdout
    assert f"user           {ADA}" in done.stdout


def test_without_a_key_the_command_says_loudly_that_nothing_is_proven() -> None:
    done = run(MINT.session(ADA))
    assert done.exit_code == 1
    assert done.stdout.startswith("SIGNATURE NOT CHECKED")
    assert "good" not in done.stdout


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("issuer", [LOCAL_ISSUER, "http://localhost:4568"])
def test_a_token_that_was_minted_in_this_checkout_is_checked_without_any_option(issuer: str) -> None:
    minted = run("mint", "--user", ADA, "--issuer", issuer).stdout
    done = run("-", stdin=minted)
    assert (done.exit_code, done.stdout[:6]) == (0, "good: ")


@pytest.mark.usefixtures("checkout")
def test_a_foreign_token_is_not_called_valid_for_the_key_of_this_checkout() -> None:
    run("mint", "--user", ADA)
    done = run("-", stdin=MINT.session(ADA))
    assert done.exit_code == 1
    assert done.stdout.startswith("SIGNATURE NOT CHECKED")


def test_without_a_key_the_command_still_names_the_faults() -> None:
    assert reasons(report(MINT.session(ADA, exp=1))) == [Rejection.EXPIRED]
    assert reasons(report(legacy_token(ADA, role="anon", exp=1))) == [Rejection.EXPIRED, Rejection.ROLE]
    assert reasons(report(MINT.session(ADA, sid=None))) == [Rejection.CLAIM_MISSING]


@pytest.mark.usefixtures("checkout")
def test_the_printed_sql_says_which_schema_it_assumes_and_why() -> None:
    said = "-- assumes that the mirror has the schema clerk: "
    assert f"{said}no database is named" in checked(MINT.session(ADA)).stdout
    nowhere = "postgresql://a:b@127.0.0.1:1/c"
    done = checked(MINT.session(ADA), "--database-url", nowhere)
    assert (done.exit_code, said in done.stdout, "no database is named" in done.stdout) == (0, True, False)
    assert "select clerk.requesting_user_id();" in done.stdout


@pytest.mark.usefixtures("checkout")
def test_every_problem_comes_with_advice() -> None:
    done = checked(MINT.session(ADA, exp=1, sts="pending"), "--authorized-party", "https://app.example.test")
    assert done.exit_code == 1
    assert "rejected (expired): the token has expired\n    session tokens live 60 seconds" in done.stdout
    assert "rejected (authorized_party)" in done.stdout
    assert "rejected (session_not_active)" in done.stdout


def test_there_is_advice_for_every_rejection() -> None:
    assert set(ADVICE) == set(Rejection)


@pytest.mark.usefixtures("checkout")
def test_claims_of_a_forged_token_are_shown_but_not_called_good() -> None:
    forged = OTHER_KEY.sign(MINT.payload(ADA))
    done = checked(forged)
    assert done.exit_code == 1
    assert "rejected (signature)" in done.stdout
    assert ADA in done.stdout


@pytest.mark.parametrize("given", ["{}", "  {}\n", "Bearer {}\n"])
@pytest.mark.usefixtures("checkout")
def test_a_token_is_read_from_standard_input_as_people_paste_it(given: str) -> None:
    arguments = ["-", "--pem", "key.pem", "--issuer", LOCAL_ISSUER]
    assert run(*arguments, stdin=given.format(MINT.session(ADA))).exit_code == 0


@pytest.mark.usefixtures("checkout")
def test_bytes_that_are_no_text_are_no_token_and_no_key() -> None:
    done = CliRunner().invoke(commands, ["token", "-"], input=b"\xff\x00\x80")
    assert (done.exit_code, "rejected (malformed)" in done.stdout) == (1, True)
    Path("binary").write_bytes(b"-----BEGIN \xff\x00")
    done = run(MINT.session(ADA), "--pem", "binary")
    assert (done.exit_code, "not a public RSA key" in done.stderr) == (2, True)


def test_a_text_that_is_no_token_is_rejected_with_advice() -> None:
    done = run("pk_test_whatever")
    assert done.exit_code == 1
    assert "rejected (malformed)" in done.stdout
    assert "getToken()" in done.stdout


def test_options_may_come_before_the_token() -> None:
    assert json.loads(run("--json", MINT.session(ADA)).stdout)["claims"]["user_id"] == ADA
    assert json.loads(run("verify", "--json", MINT.session(ADA)).stdout)["claims"]["user_id"] == ADA


@pytest.mark.parametrize("arguments", [("-h",), ("--help",)])
def test_help_shows_both_uses(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 0
    assert {"mint", "verify"} <= set(done.stdout.split())


def test_a_jwks_says_the_issuer_too() -> None:
    with FrontendApi(KEY) as api:
        good = run(Mint(KEY, api.issuer).session(ADA), "--jwks-url", api.jwks_url)
        other = run(MINT.session(ADA), "--jwks-url", api.jwks_url)
    assert good.exit_code == 0
    assert "rejected (issuer)" in other.stdout


def test_an_issuer_of_this_machine_replaces_the_host_of_the_publishable_key() -> None:
    with FrontendApi(KEY) as api:
        token = Mint(KEY, api.issuer).session(ADA)
        given = ("--publishable-key", PUBLISHABLE_KEY, "--frontend-api-url", api.issuer)
        assert report(token, *given)["good"] is True
        assert reasons(report(MINT.session(ADA), *given)) == [Rejection.ISSUER]


def test_keys_that_cannot_be_fetched_are_no_verdict() -> None:
    with FrontendApi(KEY) as gone:
        url = gone.jwks_url
    done = run(MINT.session(ADA), "--jwks-url", url)
    assert isinstance(done.exception, KeysUnavailable)


@pytest.mark.usefixtures("checkout")
def test_a_pem_without_an_issuer_asks_for_it() -> None:
    done = run(MINT.session(ADA), "--pem", "key.pem")
    assert done.exit_code == 2
    assert "--issuer" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--publishable-key", "sk_test_x"),
        *(("--jwks-url", url) for url in ("http://clerk.example.test", "http://[", "https://[x]", "https://")),
    ],
)
def test_settings_that_cannot_be_are_usage_errors(arguments: tuple[str, ...]) -> None:
    assert run(MINT.session(ADA), *arguments).exit_code == 2


def test_a_legacy_token_needs_the_projects_secret() -> None:
    token = legacy_token(ADA)
    assert run(token, "--secret", LOCAL_JWT_SECRET).exit_code == 0
    assert reasons(report(token, "--secret", LOCAL_JWT_SECRET[::-1])) == [Rejection.SIGNATURE]
    assert not report(token)["signature_checked"]


@pytest.mark.usefixtures("checkout")
def test_a_secret_does_not_make_the_public_key_a_secret() -> None:
    # Both are given; the algorithm in the token says which is tried, never what with.
    done = checked(legacy_token(ADA, secret=KEY.public_pem), "--secret", LOCAL_JWT_SECRET)
    assert "rejected (signature)" in done.stdout


def test_impersonation_and_a_missing_role_are_pointed_out() -> None:
    done = run(MINT.session(ADA, act={"sub": "user_2Boss"}, role=None))
    assert "note: user_2Boss acts as this user" in done.stdout
    assert '"role": "authenticated"' in done.stdout


def test_nothing_in_a_token_moves_the_cursor() -> None:
    hostile = "\x1b[2J\u009b2J\u202e"
    token = MINT.session(ADA, azp=hostile, act={"sub": hostile}, name=f"o'{hostile}", o={"id": hostile, "slg": hostile})
    assert not [line for line in run(token).stdout.splitlines() if not line.isprintable()]


def test_a_terminal_gets_the_sql_without_a_break_in_the_claims(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        token = MINT.session(ADA, full_name="Ada of the " + "very long name " * 10)
        commands.main(["token", token, "--pem", "key.pem", "--issuer", LOCAL_ISSUER], standalone_mode=False)
    with os.fdopen(reader, "rb", buffering=0) as screen:
        text = b"".join(iter(partial(_read, screen), b"")).decode()
    assert "very long name " * 10 in text


def _read(screen: io.FileIO) -> bytes:
    try:
        return screen.read(4096) or b""
    except OSError:  # the end, on Linux
        return b""


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_minted_token_passes_its_own_check(checkout: Path, version: str) -> None:
    minted = run(
        *("mint", "--user", ADA, "--org", "org_2Acme", "--role", "org:admin", "--version", version),
        *("--permission", "org:docs:read", "--permission", "org:billing:manage"),
    )
    assert minted.exit_code == 0
    token = minted.stdout.strip()
    assert "--pem" in minted.stderr
    pem = str(checkout / ".local" / "clerk-public-key.pem")
    found = report(token, "--pem", pem, "--issuer", LOCAL_ISSUER)
    assert found["good"]
    assert found["claims"]["organization"] == {
        "id": "org_2Acme",
        "slug": None,
        "role": "org:admin",
        "permissions": ["org:docs:read", "org:billing:manage"],
    }


@pytest.mark.usefixtures("checkout")
def test_a_minted_token_names_plans_and_features_and_the_check_shows_them() -> None:
    entitled = ("--plan", "org:team", "--plan", "user:pro", "--feature", "organization:export", "--feature", "o:docs")
    organization = ("--org", "org_2Acme", "--permission", "org:docs:read")
    minted = run("mint", "--user", ADA, *organization, *entitled).stdout
    claims = report(minted.strip())["claims"]
    assert claims["plans"] == ["o:team", "u:pro"]
    assert claims["features"] == ["o:docs", "o:export"]
    assert claims["organization"]["permissions"] == ["org:docs:read"]
    assert "count for nothing" not in run("-", stdin=minted).stdout
    shown = run(MINT.session(ADA, plans=["o:team"], features=["u:export"])).stdout
    assert ("plans          o:team" in shown, "count for nothing" in shown) == (True, True)


def test_a_token_of_version_2_has_none_of_clerks_own_permissions_as_at_clerk() -> None:
    permissions = ("org:sys_memberships:read", "org:docs:read")
    said = MINT.payload(ADA, Organization("org_2Acme", None, "org:admin", permissions))
    assert (said["fea"], said["o"]["per"], said["o"]["fpm"]) == ("o:docs", "read", "1")


@pytest.mark.usefixtures("checkout")
def test_a_minted_legacy_token_passes_its_own_check() -> None:
    token = run("mint", "--user", ADA, "--version", "legacy").stdout.strip()
    assert report(token, "--secret", LOCAL_JWT_SECRET)["good"]


def test_the_checkouts_key_is_made_once_and_readable_by_its_owner_only(checkout: Path) -> None:
    first = SigningKey.of_checkout(checkout)
    assert SigningKey.of_checkout(checkout).public_pem == first.public_pem
    file = checkout / ".local" / "clerk-signing-key.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), ""),
        (("--user", ADA, "--permission", "org:docs:read"), "name it with --org"),
        (("--user", ADA, "--org", "org_2Acme", "--permission", "docs:read"), "org:FEATURE:NAME"),
        (("--user", ADA, "--org", "org_2Acme", "--permission", "org:sys_memberships:read"), ""),
        (("--user", ADA, "--version", "3"), ""),
        (("--user", ADA, "--plan", "pro"), "spelled user:pro or org:pro (short u:pro, o:pro), not 'pro'"),
        (("--user", ADA, "--feature", "x:reports"), "spelled user:reports or org:reports"),
        (("--user", ADA, "--plan", ""), "spelled user:<slug> or org:<slug>"),
        (("--user", ADA, "--plan", "org:team"), "name it with --org, or spell user: for a user"),
        (("--user", ADA, "--feature", "user:export", "--version", "1"), ""),
    ],
)
@pytest.mark.usefixtures("checkout")
def test_a_token_that_cannot_be_minted_is_a_usage_error(arguments: tuple[str, ...], said: str) -> None:
    failed = run("mint", *arguments)
    assert (failed.exit_code, said in " ".join(failed.stderr.split())) == (2, True)
