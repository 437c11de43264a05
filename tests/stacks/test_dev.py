"""`clerk-supabase dev`, as a developer types and sees it, with an existing database and code that changes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.operate.install.migrations import migrate, prepare_plain_postgres
from clerk_supabase_cli.standin.deliveries import sign
from tests.kit.console import Visitor
from tests.kit.loopback import NO_TLS
from tests.kit.polling import eventually
from tests.stacks.developer import ADA, FREE_PORTS, Developer, clerk_supabase, copied, typing_dev

SYNC = "layers/shared/clerk_supabase/sync.py"
SAYS_THE_OUTCOME = "logger.info(outcome,"


def environments_of_functions(process: int) -> list[str]:
    """The environment of the emulator below a process, and of each function that runs in it."""
    shown = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,command="], capture_output=True, text=True, check=True)
    table = [line.split(None, 2) for line in shown.stdout.splitlines()]
    children = {pid: command for pid, parent, command in table if parent == str(process)}
    [emulator] = [pid for pid, command in children.items() if "clerk_supabase_cli.local.emulator" in command]
    functions = [pid for pid, parent, _ in table if parent == emulator]
    return [
        subprocess.run(["ps", "eww", "-o", "command=", "-p", pid], capture_output=True, text=True, check=True).stdout
        for pid in [emulator, *functions]
    ]


PASSWORDS = "select rolname, rolpassword from pg_authid where rolname like 'clerk_sync_%'"


def passwords_of_roles(postgres: EmbeddedPostgres) -> dict[str, str | None]:
    """The passwords of the functions' roles, as the server keeps them."""
    with psycopg.connect(postgres.url()) as database:
        return dict(database.execute(PASSWORDS).fetchall())


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that `dev` deploys and watches, which a test may edit."""
    return copied(root, tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture(scope="module")
def developer(
    root: Path, checkout: Path, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Developer]:
    url = f"{postgres.url()}?sslmode=disable"
    prepare_plain_postgres(url, root)
    assert list(migrate(url, root))
    screen = tmp_path_factory.mktemp("terminal") / "screen"
    with typing_dev(root, checkout, screen, url, f"--database-url={url}", "--population") as developer:
        yield developer


def test_dev_prints_all_addresses_and_the_time_of_its_start(developer: Developer) -> None:
    assert re.fullmatch(r"ready, \d+ s after the start; Ctrl-C ends it", developer.sees("^ready, "))
    assert developer.sees("^webhook URL ").endswith("/webhooks/clerk")
    assert developer.sees("^signing secret ").split()[-1].startswith("whsec_")
    assert "clerk webhooks listen --forward-to http://127.0.0.1:" in developer.sees("^Clerk's events ")


def test_nothing_of_the_connection_string_that_was_given_is_shown(
    developer: Developer, postgres: EmbeddedPostgres
) -> None:
    assert "the one that --database-url names" in developer.sees("^database ")
    assert f":{postgres.port}" not in developer.screen.read_text()
    assert postgres.password not in developer.screen.read_text()


def test_the_console_beside_the_stack_knows_its_queues_and_only_looks_at_an_existing_database(
    developer: Developer, postgres: EmbeddedPostgres
) -> None:
    address = developer.sees("^console ").split()[-1]
    with httpx.Client(trust_env=False, verify=NO_TLS, timeout=60) as client:
        page = Visitor(address, client).sees("clerk-supabase-sync-dev", "dead letters", "read-only")
    assert postgres.password not in page


def test_a_shell_reads_the_only_key_that_the_emulator_takes(developer: Developer) -> None:
    key = developer.sees("^ +access key ").split()[2].removesuffix(",")
    typed = subprocess.run(
        ["sh", "-c", '. .local/env && echo "$AWS_ACCESS_KEY_ID" "$CLERK_SUPABASE_STACK" "$AWS_PROFILE"'],
        cwd=developer.checkout,
        env={"AWS_PROFILE": "production"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert typed.stdout.split() == [key, "clerk-supabase-sync-dev"]


def test_an_event_that_is_sent_is_answered_applied_and_shown_on_its_way(developer: Developer) -> None:
    sent = developer.types("event", "user.created", "--send")

    assert (sent.returncode, sent.stdout.splitlines()[-1]) == (0, "202 accepted")
    [svix_id] = re.findall(r"msg_\w+", sent.stdout)
    assert re.search(rf" ingest +accepted +user\.created {ADA} +{svix_id}$", developer.sees(f"ingest .*{svix_id}"))
    assert re.search(
        rf" sync +created +user\.created {ADA} +.* after it happened +{svix_id}$", developer.sees(f"sync .*{svix_id}")
    )
    assert developer.names() == [("Ada", None)]


def test_sessions_become_rows_here(developer: Developer) -> None:
    sent = developer.types("event", "session.created", "--send")
    assert (sent.returncode, sent.stdout.splitlines()[-1]) == (0, "202 accepted")


def test_an_update_is_shown_with_the_columns_that_changed(developer: Developer) -> None:
    developer.types("event", "user.created", "--send")
    sent = developer.types("event", "user.updated", "--send")

    [svix_id] = re.findall(r"msg_\w+", sent.stdout)
    assert "last_name, public_metadata, username" in developer.sees(f"sync .*{svix_id}")
    assert developer.names() == [("Ada", "Lovelace")]


def test_an_event_that_is_rejected_is_shown_with_the_reason(developer: Developer) -> None:
    sent = developer.types(
        "event", "user.created", "--send", "--secret", "whsec_bm90IHRoZSBzZWNyZXQsIGJ1dCBhcyBsb25nIGFzIG9uZQ=="
    )

    assert (sent.returncode, sent.stdout.splitlines()[-1]) == (1, "401 unauthorized")
    assert "reason: no signature matches" in developer.sees("webhook rejected")


def test_an_event_that_nobody_can_apply_is_shown_as_parked_with_the_reason(developer: Developer) -> None:
    request = sign({"type": "user.updated", "data": {}}, developer.stack.webhook_secret)
    url = developer.sees("^webhook URL ").split()[-1]

    assert (
        httpx.post(
            url, content=request.body, headers=dict(request.headers), timeout=60, trust_env=False, verify=NO_TLS
        ).status_code
        == 202
    )

    line = developer.sees(f"ingest .*{request.headers['svix-id']}")
    assert "event parked  reason: data.id is missing" in line


def test_retries_and_comparisons_are_shown(developer: Developer) -> None:
    developer.invokes("retry", (developer.checkout / "events" / "retry.json").read_bytes())
    assert "attempt: 3" in developer.sees(r" retry +sent back .*msg_2SampleDead1$")

    developer.invokes("reconcile", b'{"mode": "full", "dry_run": true}')
    assert "mode: full" in developer.sees(" reconcile +run complete ")


def test_no_secret_and_no_function_holds_the_password_of_the_owner(
    developer: Developer, postgres: EmbeddedPostgres
) -> None:
    store = developer.client("secretsmanager")
    secrets = [
        store.get_secret_value(SecretId=each["ARN"])["SecretString"] for each in store.list_secrets()["SecretList"]
    ]
    environments = environments_of_functions(developer.process.pid)

    assert len(environments) > 2, "the emulator and two functions"
    assert all("AWS_SECRET_ACCESS_KEY=" in each for each in environments)
    users = {urlsplit(each).username for each in secrets if each.startswith("postgresql://")}
    assert users == {"clerk_sync_worker", "clerk_sync_session"}
    for held in [*secrets, *environments]:
        assert postgres.password not in held
        assert "postgres:" not in held
    assert developer.sees(
        "^Functions connect as clerk_sync_worker and clerk_sync_session, with passwords that are good"
    )


def test_an_event_can_be_sent_to_any_address(developer: Developer) -> None:
    url = developer.sees("^webhook URL ").split()[-1]
    assert developer.types("event", "user.created", "--url", url).stdout.splitlines()[-1] == "202 accepted"

    unanswered = developer.types("event", "user.created", "--url", "http://127.0.0.1:9/webhooks/clerk")
    assert unanswered.returncode == 1
    assert "no server answered at http://127.0.0.1:9/webhooks/clerk" in unanswered.stderr


def answer(developer: Developer, typed: str) -> Any:
    """The JSON that a shell prints."""
    done = developer.in_a_shell(typed)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def differences(developer: Developer) -> set[tuple[str, str]]:
    """The differences that a new comparison finds, each with the id of its object; other tests send the samples."""
    found = answer(developer, "clerk-supabase reconcile --json --delete-margin 0")["findings"]
    return {(each["difference"], each["entity_id"]) for each in found if "_2Sample" not in each["entity_id"]}


def signed_up(developer: Developer, *options: str) -> str:
    """The id of a new user of the stand-in for Clerk."""
    return str(answer(developer, " ".join(("clerk-supabase clerk user create --json", *options)))["object"]["id"])


def test_what_dev_says_to_paste_is_one_short_line(developer: Developer) -> None:
    assert developer.sees("source") == "  source .local/env"
    developer.sees("6 users, 2 organizations, with their rows in Postgres")


def test_a_lost_webhook_is_found_and_repaired(developer: Developer) -> None:
    lost, arrived = signed_up(developer, "--first-name Lost --lose"), signed_up(developer)
    developer.sees(f"sync +created +user.created {arrived} ")

    found = differences(developer)
    assert arrived not in str(found)
    assert ("missing", lost) in found
    assert "2Dev" not in str(found), "the rows of the first users were there"
    eventually(lambda: differences(developer), lambda found: lost not in str(found))


def test_after_a_play_with_faults_a_comparison_repairs_all(developer: Developer) -> None:
    faults = "--lose 30 --reorder 20 --duplicate 20"
    played = answer(developer, f"clerk-supabase clerk play --rate 20 --seconds 1 {faults} --json")
    assert sum(played["changes"].values()) == 20
    eventually(lambda: differences(developer), lambda found: not found)


def test_a_sample_is_known_to_clerk_afterwards_and_a_deleted_id_is_never_used_again(developer: Developer) -> None:
    sample = "user_2SampleOfThisTest"
    sent = developer.in_a_shell(f"clerk-supabase event user.created --send --id {sample}")
    assert (sent.returncode, sent.stderr) == (0, "")
    assert sample in developer.in_a_shell("clerk-supabase clerk list").stdout

    developer.in_a_shell(f"clerk-supabase event user.deleted --send --id {sample}")
    again = developer.in_a_shell(f"clerk-supabase event user.created --send --id {sample}").stderr
    assert f"{sample} was deleted, and Clerk uses no id again" in again
    sent = developer.in_a_shell(again.splitlines()[-1].strip())
    assert (sent.returncode, sent.stderr) == (0, "")


def test_resync_setup_token_session_and_doctor_are_green(developer: Developer) -> None:
    user = signed_up(developer)
    developer.sees(f"sync +created +user.created {user} ")
    assert answer(developer, f"clerk-supabase resync {user} --json")["state"] == "complete"

    mint = f"clerk-supabase token mint --user {user} 2>/dev/null"
    assert answer(developer, f"{mint} | clerk-supabase token --json -")["good"] is True
    setup = answer(developer, f"{mint} | clerk-supabase setup --json --token -")
    assert {each["status"] for each in setup["checks"]} == {"ok"}
    origin = "-H 'Origin: http://localhost:3000'"
    post = f'curl -s -X POST "$CLERK_SUPABASE_SESSION_URL" {origin} -H "Authorization: Bearer $({mint})"'
    assert answer(developer, post)["clerk_id"] == user

    examined = json.loads(developer.in_a_shell(f"{mint} | clerk-supabase doctor --json --token -").stdout)["checks"]
    # Another test parks an event.
    assert {each["name"] for each in examined if each["verdict"] == "fail"} <= {"parked"}
    green = {each["name"] for each in examined if each["verdict"] == "ok"}
    assert {"round-trip", "instance", "clerk-keys", "token", "worker-login", "compared", "reconcile"} <= green


def test_code_that_does_not_load_is_shown_and_corrected_code_runs_from_the_next_event_on(developer: Developer) -> None:
    before = (developer.checkout / SYNC).read_text()

    developer.edits(SYNC, lambda text: f"{text}\ndef broken(:\n")
    developer.sees("reload .*would not load; the previous code stays in use:")
    assert developer.sees("SyntaxError: ")
    sent = developer.types("event", "user.created", "--send")
    assert sent.returncode == 0
    [svix_id] = re.findall(r"msg_\w+", sent.stdout)
    assert "changed code" not in developer.sees(f"sync .*{svix_id}")

    developer.edits(SYNC, lambda _: before.replace(SAYS_THE_OUTCOME, 'logger.info(f"changed code: {outcome}",'))
    developer.sees(r"reload +sync\.py: ingest, sync, .*, from the next event on")
    sent = developer.types("event", "user.updated", "--send")
    [svix_id] = re.findall(r"msg_\w+", sent.stdout)
    assert "changed code: " in developer.sees(f"sync .*{svix_id}")


def test_changed_code_of_one_function_leaves_the_others_alone(developer: Developer) -> None:
    developer.edits("functions/ingest/handler.py", lambda text: f"{text}\n\n# edited")

    assert developer.sees(r"reload +functions/ingest/handler\.py: ingest in .*, from the next event on")


def test_a_new_migration_for_a_database_that_was_given_is_left_to_the_developer(developer: Developer) -> None:
    (developer.checkout / "sql" / "migrations" / "0999_of_a_test.sql").write_text("select 1;\n")

    assert "clerk-supabase migrate --database-url" in developer.sees(r"reload +0999_of_a_test\.sql")


def test_dev_names_a_change_that_needs_a_deployment(developer: Developer) -> None:
    developer.edits("template.yaml", lambda text: f"{text}\n# edited")

    assert "start it again" in developer.sees(r"reload +template\.yaml changed")


def test_ctrl_c_ends_all_that_it_started(developer: Developer) -> None:
    logs = Path(developer.sees("^logs ").split()[-1])
    endpoint = developer.sees("^emulated AWS ").split()[-1]
    assert logs.is_dir()

    developer.process.send_signal(signal.SIGINT)

    assert developer.process.wait(60) == 0
    assert not logs.exists()
    assert not (developer.checkout / ".local" / "env").exists()
    sent = developer.types("event", "user.created", "--send")
    assert sent.returncode == 1
    assert "no stack of this checkout runs: start one in another terminal with `make dev`" in sent.stderr
    assert "no server answered" in developer.types("event", "user.created", "--url", endpoint).stderr


def test_the_roles_of_the_functions_have_no_password_once_dev_has_ended(postgres: EmbeddedPostgres) -> None:
    assert passwords_of_roles(postgres) == {"clerk_sync_worker": None, "clerk_sync_session": None}


def test_passwords_that_a_deployed_stack_may_use_are_left_alone(
    developer: Developer, postgres: EmbeddedPostgres, root: Path
) -> None:
    with psycopg.connect(postgres.url()) as database:
        database.execute("alter role clerk_sync_worker password 'of a deployed stack'")
    before = passwords_of_roles(postgres)

    rejected = clerk_supabase(root, "dev", *FREE_PORTS, "--database-url", developer.database_url)

    assert rejected.returncode == 1
    assert (
        "set SYNC_DATABASE_URL and SESSION_DATABASE_URL, or give both roles new ones by --reset-role" in rejected.stderr
    )
    assert passwords_of_roles(postgres) == before
    with psycopg.connect(postgres.url()) as database:
        database.execute("alter role clerk_sync_worker password null")


def test_the_owner_is_not_mistaken_for_the_role_of_the_functions(
    developer: Developer, postgres: EmbeddedPostgres, root: Path
) -> None:
    owner = developer.database_url

    urls = {"SYNC_DATABASE_URL": owner, "SESSION_DATABASE_URL": owner}
    rejected = clerk_supabase(root, "dev", *FREE_PORTS, "--database-url", owner, **urls)

    assert rejected.returncode == 1
    assert "SYNC_DATABASE_URL connects as another role than clerk_sync_worker" in rejected.stderr
    assert postgres.password not in rejected.stderr


def test_a_database_without_the_migrations_is_rejected_with_what_to_type(
    postgres: EmbeddedPostgres, checkout: Path
) -> None:
    rejected = clerk_supabase(checkout, "dev", *FREE_PORTS, "--database-url", postgres.create_database("empty"))

    assert rejected.returncode == 1
    assert rejected.stderr.startswith("clerk-supabase: this database has none of the migrations; type: clerk-supabase")


def test_a_database_whose_certificate_cannot_be_checked_is_rejected_with_what_to_do(
    root: Path, postgres: EmbeddedPostgres
) -> None:
    url = postgres.create_database("migrated")
    prepare_plain_postgres(url, root)
    assert list(migrate(url, root))

    rejected = clerk_supabase(root, "dev", *FREE_PORTS, "--database-url", url)

    assert rejected.returncode == 1
    assert "put the database's CA into layers/shared/ca, or add ?sslmode=require" in rejected.stderr
    assert postgres.password not in rejected.stderr
