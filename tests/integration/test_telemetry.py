"""Logs and metrics of all functions, with and without faults: enough for an operator, and without personal data.

The level is DEBUG, and the libraries' loggers are on, as in Lambda when somebody looks for a fault.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import runpy
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase.model.found_kinds import READ_KINDS
from clerk_supabase.telemetry import logger, metrics
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.deliveries import api_gateway_event, generate_secret, sign, sign_body
from clerk_supabase_cli.standin.faults import Fault, answering
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.token_mint import Mint
from tests.infrastructure.dashboard import watched
from tests.infrastructure.template import Resource, Template
from tests.kit.aws import Account, Region
from tests.kit.aws_http import served
from tests.kit.databases import Database, Databases
from tests.kit.environments import environment_of
from tests.kit.reconciling import MINUTE, Rig, rig_with
from tests.kit.tokens import KEY, OTHER_KEY

MARK = "Pers0nal"
CLERK_KEY = f"sk_live_{MARK}Key"
ORIGIN = "https://app.example.test"
FUNCTIONS = ("ingest", "sync", "retry", "reconcile", "session")
# On the way from ingest to the row.
ROAD = ("ingest", "sync", "retry")

# Words of Clerk's that are the same for everybody.
VOCABULARY_KEYS = {
    "type", "object", "id", "status", "strategy", "role", "role_name", "provider", "instance_id", "enrollment_mode",
    "permissions", "permission", "key",
}  # fmt: skip
# Words of the plans in the samples, which stand in other words of the log, too.
PLANS = {"Team", "Free", "active"}
ID = re.compile(r"^[a-z_]+_[A-Za-z0-9]+$")
NUMBER = re.compile(r"[0-9.]+")

Json = Any


def personal(value: Json, key: str = "") -> Iterator[str]:
    """Every text in an object of Clerk's that may be personal data or a secret."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from personal(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from personal(each, key)
    elif isinstance(value, str) and len(value) > 3 and key not in VOCABULARY_KEYS and not ID.match(value):
        yield value


def marked(value: Json, key: str = "") -> Json:
    """The same object with a mark in every such text, also in texts that were missing."""
    if isinstance(value, dict):
        return {name: marked(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [marked(each, key) for each in value]
    if value is None and key in ("first_name", "last_name", "username", "locale", "external_id"):
        return MARK
    return f"{value}{MARK}" if isinstance(value, str) and value in set(personal(value, key)) else value


@dataclass
class Output:
    """The output while a function ran: its own log, its metrics, and the logs of libraries."""

    lines: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in FUNCTIONS})
    libraries: io.StringIO = field(default_factory=io.StringIO)

    @contextmanager
    def of(self, function: str) -> Iterator[None]:
        """The output of the function, written in this block."""
        handler = logger.registered_handler
        assert isinstance(handler, logging.StreamHandler)
        printed = io.StringIO()
        before, service, level = handler.setStream(printed), metrics.service, logger.log_level
        root, root_level = logging.StreamHandler(self.libraries), logging.getLogger().level
        logging.getLogger().addHandler(root)
        logging.getLogger().setLevel(logging.DEBUG)
        logger.setLevel("DEBUG")
        metrics.service = f"stack-{function}"
        try:
            with redirect_stdout(printed):
                yield
        finally:
            metrics.service = service
            logger.setLevel(level)
            logging.getLogger().removeHandler(root)
            logging.getLogger().setLevel(root_level)
            handler.setStream(before)
            self.lines[function] += printed.getvalue().splitlines()

    def logged(self, function: str) -> list[Resource]:
        """The lines of its own log."""
        return [line for line in map(json.loads, self.lines[function]) if "level" in line]

    def measured(self) -> list[tuple[dict[str, str], str, str]]:
        """The metrics that CloudWatch reads from the output: dimensions, name and unit."""
        found = []
        for line in [json.loads(line) for lines in self.lines.values() for line in lines if '"_aws"' in line]:
            for directive in line["_aws"]["CloudWatchMetrics"]:
                assert directive["Namespace"]
                for names in directive["Dimensions"]:
                    dimensions = {name: line[name] for name in names}
                    found += [(dimensions, each["Name"], each["Unit"]) for each in directive["Metrics"]]
        return found

    def __str__(self) -> str:
        return "\n".join([*(line for lines in self.lines.values() for line in lines), self.libraries.getvalue()])


@dataclass(frozen=True)
class Context:
    """The context of Lambda, as far as the functions read it."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@dataclass
class World:
    """All functions with their surroundings, their output, and the texts that must not be in it."""

    root: Path
    account: Account
    database: Database
    rig: Rig
    frontend: FrontendApi
    output: Output = field(default_factory=Output)
    secret: str = field(default_factory=generate_secret)
    forbidden: set[str] = field(default_factory=lambda: {MARK, CLERK_KEY})

    def environment(self, **other: str) -> dict[str, str]:
        """The environment of all functions together, with these variables in place of the template's."""
        ours = {
            "WEBHOOK_SECRET_ARN": self.account.put_secret("webhook", self.secret),
            "DATABASE_SECRET_ARN": self.account.put_secret("database", self.database.worker_url),
            "SESSION_DATABASE_SECRET_ARN": self.account.put_secret("session", self.database.session_url),
            "CLERK_SECRET_KEY_ARN": self.account.put_secret("clerk", CLERK_KEY),
            "CLERK_API_URL": self.rig.api.url,
            "CLERK_PUBLISHABLE_KEY": "pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA",
            "CLERK_FRONTEND_API_URL": self.frontend.issuer,
            "AUTHORIZED_PARTIES": ORIGIN,
            "CLERK_INSTANCE_ID": "ins_own",
            "SYNC_QUEUE_URL": self.account.sync_queue_url,
            "PARKED_QUEUE_URL": self.account.parked_queue_url,
            "MAX_BODY_BYTES": "200000",
            "RATE_LIMIT_SHARE": "1",
            "SILENCE_MINUTES": "1",
            "DELETE_MARGIN_SECONDS": "0",
            "KEEP_PRIVATE_METADATA": "true",
        }
        return environment_of(*FUNCTIONS, **ours | other)

    @contextmanager
    def function(self, name: str, **other: str) -> Iterator[Callable[[Json], Json]]:
        """Loads a function as a cold start does. Its errors are printed as Lambda prints them."""
        with ExitStack() as undo:
            if name == "ingest":
                # Its client for AWS is none that the account in memory replaces.
                other["AWS_ENDPOINT_URL"] = undo.enter_context(served(self.account))
            with pytest.MonkeyPatch.context() as patch:
                for variable, value in self.environment(**other).items():
                    patch.setenv(variable, value)
                with self.output.of(name):
                    module = runpy.run_path(str(self.root / "functions" / name / "handler.py"))

            def call(event: Json) -> Json:
                with self.output.of(name):
                    try:
                        return module["lambda_handler"](event, Context())
                    except Exception as error:  # noqa: BLE001 - Lambda catches all of them too
                        print(json.dumps({"errorMessage": str(error), "errorType": type(error).__name__}))  # noqa: T201 - as Lambda does
                        return None

            try:
                yield call
            finally:
                held = [module[each] for each in ("store", "clerk_http") if each in module]
                held += [module["session"]._store, module["session"]._first_login._http] if "session" in module else []
                for each in held:
                    each.close()

    def bodies(self) -> Iterator[Json]:
        """Every sample unchanged and with marks, of the stack's own instance."""
        for file in sorted((self.root / "events" / "clerk").glob("*.json")):
            sample = json.loads(file.read_bytes()) | {"instance_id": "ins_own"}
            # A bare number (of a card) stands in a time or an id by chance; the marked sample finds it.
            self.forbidden.update(text for text in personal(sample["data"]) if not NUMBER.fullmatch(text))
            yield sample
            yield sample | {"data": marked(sample["data"])}

    def records(self, queue_url: str) -> Json:
        return self.account.lambda_event(queue_url)


def user(user_id: str, **fields: Any) -> Json:
    now = time.time_ns() // 1_000_000
    about = samples.user(user_id, created_at=now, updated_at=now, first_name=MARK, last_name=MARK)
    return samples.event("user.created", about | fields, timestamp=now) | {"instance_id": "ins_own"}


def webhooks_arrive(world: World) -> None:
    with world.function("ingest") as ingest:
        for body in world.bodies():
            assert ingest(api_gateway_event(sign(body, world.secret)))["statusCode"] in (200, 202)
        forged = api_gateway_event(sign(user("user_forged"), generate_secret()))
        stale = api_gateway_event(sign(user("user_stale"), world.secret, at=time.time() - 900))
        malformed = forged | {"headers": forged["headers"] | {"svix-timestamp": MARK, "svix-id": MARK}}
        for event in (forged, stale, malformed, forged | {"headers": {}}):
            assert ingest(event)["statusCode"] == 401
        foreign = sign(user("user_foreign") | {"instance_id": "ins_other"}, world.secret)
        assert ingest(api_gateway_event(foreign))["statusCode"] == 403
        large = sign(user("user_large", public_metadata={"note": MARK * 100_000}), world.secret)
        assert ingest(api_gateway_event(large))["statusCode"] == 413
        for unusable in (MARK, json.dumps({"type": "user.created", "data": {"name": MARK}})):
            assert ingest(api_gateway_event(sign_body(unusable, world.secret)))["statusCode"] == 202
    for broken in ({"SYNC_QUEUE_URL": f"{world.account.sync_queue_url}-gone"}, {"WEBHOOK_SECRET_ARN": "not-there"}):
        with world.function("ingest", **broken) as ingest:
            assert ingest(api_gateway_event(sign(user("user_503"), world.secret)))["statusCode"] == 503


def events_are_applied(world: World) -> None:
    with world.function("sync") as sync, world.function("ingest") as ingest:
        event = world.records(world.account.sync_queue_url)
        assert sync(event) == {"batchItemFailures": []}
        sync(event)  # all of them duplicates
        at = time.time_ns() // 1_000_000
        for later in (0, 1000):  # a sign-in makes a user newer and changes nothing
            ingest(api_gateway_event(sign(user("user_calm", created_at=at, updated_at=at + later), world.secret)))
            sync(world.records(world.account.sync_queue_url))
        sync(altered_by_the_app(world))
        for records in refused_by_postgres(world):
            sync(records)
        with world.function("ingest", CLERK_INSTANCE_ID="") as unnamed:
            unnamed(api_gateway_event(sign(user("user_foreign") | {"instance_id": "ins_other"}, world.secret)))
        assert sync(world.records(world.account.sync_queue_url)) == {"batchItemFailures": []}
    with world.function("sync", DATABASE_SECRET_ARN=nowhere(world)) as sync:
        assert sync(event | {"Records": event["Records"][:2]})["batchItemFailures"]
        assert sync({"Records": [poisoned(event["Records"][0])]}) == {"batchItemFailures": []}  # on the parked queue
    with world.function("sync", DATABASE_SECRET_ARN=broken(world)) as sync:
        assert sync(event | {"Records": event["Records"][:2]})["batchItemFailures"]


def poisoned(record: Json) -> Json:
    return record | {"body": json.dumps({"type": "user.created", "data": {"first_name": MARK}})}


def nowhere(world: World) -> str:
    return world.account.put_secret("nowhere", f"postgresql://{MARK}:{MARK}@127.0.0.1:1/postgres")


def broken(world: World) -> str:
    return world.account.put_secret("broken", f"postgresql://{MARK}:{MARK}%{MARK}@127.0.0.1:1/postgres")


def altered_by_the_app(world: World) -> Json:
    """An event about a user to whom a trigger gives another name."""
    world.rig.admin.execute(
        """
        create function public.alter() returns trigger language plpgsql as $$
        begin new.first_name := 'Other'; return new; end $$;
        create trigger alter before insert on clerk.users
        for each row when (new.clerk_id = 'user_altered') execute function public.alter()
        """
    )
    with world.function("ingest") as ingest:
        ingest(api_gateway_event(sign(user("user_altered"), world.secret)))
    return world.records(world.account.sync_queue_url)


def refused_by_postgres(world: World) -> Iterator[Json]:
    """A value that no text of Postgres holds and that is left out, a constraint, and triggers that quote the row."""
    hostile = sign(user("user_null", first_name=f"{MARK}\u0000"), world.secret)
    trigger = """
        create or replace function public.refuse() returns trigger language plpgsql as $body$
        begin
            raise exception 'no % here', new.first_name using errcode = '{code}', detail = new.first_name;
        end $body$;
        create or replace trigger refuse before insert on clerk.users for each row execute function public.refuse()
    """
    mending = "drop trigger if exists refuse on clerk.users"
    constraint = f"alter table clerk.users add constraint no_{MARK[:4]} check (first_name <> '{MARK}') not valid"
    for number, (hurt, mend) in enumerate(
        [
            ("select 1", "select 1"),
            (constraint, f"alter table clerk.users drop constraint no_{MARK[:4]}"),
            (trigger.format(code="P0001"), mending),
            (trigger.format(code="40001"), mending),
            (trigger.format(code="XX000"), mending),
            (trigger.format(code="42501"), mending),
        ]
    ):
        with world.function("ingest") as ingest:
            request = hostile if number == 0 else sign(user(f"user_refused{number}"), world.secret)
            ingest(api_gateway_event(request))
        world.rig.admin.execute(hurt)
        try:
            yield world.records(world.account.sync_queue_url)
        finally:
            world.rig.admin.execute(mend)


def dead_letters_come_back(world: World) -> None:
    with world.function("ingest") as ingest:
        for number in range(2):
            ingest(api_gateway_event(sign(user(f"user_dead{number}"), world.secret)))
    event = world.records(world.account.sync_queue_url)
    old = [with_attempts(each, "8") for each in event["Records"]]
    with world.function("retry") as retry:
        retry(event)
        retry({"Records": [*old, with_attempts(poisoned(old[0]), "8")]})
        retry(world.records(world.account.parked_queue_url))
    for unusable in (nowhere(world), broken(world)):
        with world.function("retry", DATABASE_SECRET_ARN=unusable) as retry:
            retry(event)
    with world.function("retry", SYNC_QUEUE_URL=f"{world.account.sync_queue_url}-gone") as retry:
        retry(event)


def with_attempts(record: Json, attempts: str) -> Json:
    more = {"attempts": {"stringValue": attempts, "dataType": "Number"}}
    return record | {"messageAttributes": record["messageAttributes"] | more}


def clerk_is_compared(world: World) -> None:
    rig = world.rig
    for raw in list(rig.world.users.values()):
        # Objects made in great numbers have a part of their id for a name.
        world.forbidden.update(text for text in personal(raw) if text not in raw["id"])

    def run(mode: str, fault: Fault | None = None, path: str = "/users") -> Json:
        rig.world.now += 5 * MINUTE
        if fault is not None:
            rig.api.faults.add(fault, path=path)
        with world.function("reconcile") as reconcile:
            answer = reconcile({"mode": mode})
        with world.function("sync") as sync:
            sync(world.records(world.account.sync_queue_url))
        return answer

    assert run("full")["state"] == "complete"
    first, second, *_ = sorted(rig.shown())
    rig.forget(first)
    rig.admin.execute("update clerk.users set last_name = %s where clerk_id = %s", [MARK, second])
    assert run("full")["findings"] == 2
    assert run("quick")["state"] == "complete"
    said = json.dumps({"errors": [{"code": "odd", "message": MARK, "long_message": MARK}]}).encode()
    for fault in (answering(401), Fault(status=422, body=said), Fault(body=f'[{{"id": "{MARK}'.encode())):
        run("full", fault)
        rig.api.faults.clear()
    rig.lose_lease()
    for user_id in sorted(set(rig.world.users))[:14]:
        rig.world.remove_user(user_id)
    assert run("full")["state"] == "stopped"
    for unusable in (nowhere(world), broken(world)):
        with world.function("reconcile", DATABASE_SECRET_ARN=unusable) as reconcile:
            reconcile({"mode": "full"})


def people_sign_in(world: World) -> None:
    now = time.time_ns() // 1_000_000
    about = {"first_name": MARK, "last_name": MARK, "public_metadata": {"note": MARK}}
    with world.rig.api.writing() as clerks:
        for name in ("user_fetched", "user_stub"):
            clerks.users[name] = samples.user(name, created_at=now, updated_at=now) | about
    mint = Mint(KEY, world.frontend.issuer)

    def ask(session: Callable[[Json], Json], token: str) -> int:
        world.forbidden.add(token)
        answer = session({"httpMethod": "POST", "headers": {"authorization": f"Bearer {token}"}, "body": None})
        return int(answer["statusCode"])

    with world.function("session") as session:
        token = mint.session("user_fetched", azp=ORIGIN)
        assert [ask(session, token), ask(session, token)] == [200, 200]
        assert ask(session, Mint(OTHER_KEY, world.frontend.issuer).session("user_x", azp=ORIGIN)) == 401
        assert ask(session, f"{token}{MARK}") == 401
        assert ask(session, mint.session("user_gone", azp=ORIGIN)) == 403
        world.rig.api.faults.add(answering(422), path="/users/user_stub")
        assert ask(session, mint.session("user_stub", azp=ORIGIN)) == 202
        world.rig.api.faults.clear()
    for unusable in (nowhere(world), broken(world)):
        with world.function("session", SESSION_DATABASE_SECRET_ARN=unusable) as session:
            assert ask(session, mint.session("user_fetched", azp=ORIGIN)) == 503


@pytest.fixture(scope="module")
def world(region: Region, databases: Databases, root: Path) -> Iterator[World]:
    """Everything has happened."""
    with contextlib.ExitStack() as undo:
        database = databases.take()
        undo.callback(databases.give_back, database)
        rig = undo.enter_context(rig_with(database, 30))
        rig.api.answers.key = CLERK_KEY
        rig.api.answers.instance_id = "ins_own"
        frontend = undo.enter_context(FrontendApi(KEY))
        world = World(root, region.account(), database, rig, frontend)
        world.forbidden.update({world.secret, world.secret.removeprefix("whsec_")})
        for happening in (
            webhooks_arrive,
            events_are_applied,
            dead_letters_come_back,
            clerk_is_compared,
            people_sign_in,
        ):
            happening(world)
        yield world


def test_nothing_personal_and_no_secret_is_in_any_line(world: World) -> None:
    printed = str(world.output)
    assert len(printed) > 20_000
    assert len(world.forbidden) > 100
    assert not [text for text in world.forbidden - PLANS if text in printed]


def test_the_search_finds_text_that_a_library_logs_at_debug(world: World) -> None:
    output = Output()
    with output.of("ingest"):
        logging.getLogger("some.library").debug("sent %s", MARK)
        logger.debug("a line of ours")
    assert MARK in str(output)
    assert "a line of ours" in str(output)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_line_is_json(function: str, world: World) -> None:
    assert len(world.output.logged(function)) > 3


@pytest.mark.parametrize("function", ROAD)
def test_every_line_from_ingest_to_the_row_says_which_webhooks_it_is_about(function: str, world: World) -> None:
    for line in world.output.logged(function):
        about = line.get("svix_ids") or [line.get("svix_id")]
        unnamed = line["message"] == "webhook rejected"  # its headers were missing, or nothing that Svix sends
        assert all(about) or unnamed, line


def test_a_webhook_is_found_in_the_log_at_every_step(world: World) -> None:
    answered = {line["svix_id"] for line in world.output.logged("sync") if line["level"] == "INFO"}
    accepted = {line["svix_id"] for line in world.output.logged("ingest") if line["message"] == "accepted"}
    assert len(answered & accepted) > 20


def test_units_and_dimensions_are_few(world: World) -> None:
    assert {unit for _, name, unit in world.output.measured() if name == "Lag"} == {"Milliseconds"}
    assert {unit for _, name, unit in world.output.measured() if name != "Lag"} == {"Count"}
    values: dict[str, set[str]] = {}
    for dimensions, _, _ in world.output.measured():
        for name, value in dimensions.items():
            values.setdefault(name, set()).add(value)
    assert values == {
        "service": {f"stack-{name}" for name in FUNCTIONS},
        "reason": {"missing", "malformed", "timestamp", "signature"},
        "kind": set(READ_KINDS),
    }
    # Each costs money.
    assert len({(name, *sorted(dimensions.items())) for dimensions, name, _ in world.output.measured()}) <= 78


def test_every_metric_of_the_dashboard_and_the_alarms_is_measured(world: World, root: Path) -> None:
    measured = [({**dimensions}, name) for dimensions, name, _ in world.output.measured()]
    shown = [each for each in watched(Template(root)) if each[0] == "ClerkSupabaseSync"]
    assert len(shown) > 40
    assert not [(name, dimensions) for _, name, dimensions in shown if (dimensions, name) not in measured]
