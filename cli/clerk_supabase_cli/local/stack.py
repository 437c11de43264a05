"""The whole bundle on this machine: an embedded Postgres, MiniStack, and the real template deployed into it.

The build is the real `sam build`, the deployment the real `sam deploy`. Clerk's two APIs cannot be run locally, so
there are stand-ins of our own.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from clerk_supabase_cli.local.back_fill import fill
from clerk_supabase_cli.local.build.builds import Build
from clerk_supabase_cli.local.build.sam_build import SamBuild
from clerk_supabase_cli.local.containers import let_containers_in
from clerk_supabase_cli.local.ministack import REGION, MiniStack, execute_api_url
from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.local.processes import Guard, LocalStackError, is_taken
from clerk_supabase_cli.local.tools import Tools, lambda_architecture, python_platform
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.install.migrations import migrate, prepare_plain_postgres
from clerk_supabase_cli.operate.setup.role_urls import SESSION_ROLE, WORKER_ROLE, give_password
from clerk_supabase_cli.project import caches
from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.deliveries import generate_secret
from clerk_supabase_cli.standin.frontend.pages import Pages
from clerk_supabase_cli.standin.frontend.people import People
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.instance.beginning import begin
from clerk_supabase_cli.standin.instance.control import Control
from clerk_supabase_cli.standin.instance.instance import Instance
from clerk_supabase_cli.standin.token_mint import Mint, SigningKey

# The origin of the app's pages.
APP_ORIGIN: Final = "http://localhost:3000"
# The key names clerk.local.test; tokens and keys come from the stand-in.
PUBLISHABLE_KEY: Final = "pk_test_Y2xlcmsubG9jYWwudGVzdCQ="
# The same for pages: with a key for production, clerk-js takes this machine for no development browser.
_KEY_OF_PAGES: Final = "pk_live_Y2xlcmsubG9jYWwudGVzdCQ"
_ARTIFACTS_BUCKET: Final = "artifacts"
_BUILD_STEP: Final = "Build with sam build"
# No schedule runs here, so that differences stay until the developer compares. Nor does the stand-in lag by itself.
_LOCAL_PARAMETERS: Final = {
    "FullReconcileState": "DISABLED",
    "QuickReconcileState": "DISABLED",
    "ReconcileDeleteMarginSeconds": "0",
}
# Variables through which the caller's AWS account, Python environment or `make` would change the build.
_FOREIGN_PREFIXES: Final = ("AWS_", "SAM_CLI_", "PYTHON", "VIRTUAL_ENV", "LAYER_", "MAKE", "MFLAGS")


class ReconcileFailed(LocalStackError):
    """The deployed reconcile function ended with an error."""


class Progress(Protocol):
    """Called twice for every step: at its start (*seconds* is None) and at its end."""

    def __call__(self, step: str, seconds: float | None) -> None: ...


def _silent(step: str, seconds: float | None) -> None:
    """Shows no progress."""


class LocalStack:
    """The deployed bundle, during the `with` block.

    The start of the block builds, starts and deploys everything; its end stops every process and removes every file.
    If a step fails, a LocalStackError names the command and the place of its logs, which are kept.
    """

    def __init__(
        self,
        root: Path,
        *,
        worker_url: str | None = None,
        session_url: str | None = None,
        parameters: Mapping[str, str] | None = None,
        port: int = 0,
        clerk_port: int = 0,
        frontend_port: int = 0,
        webhook_secret: str = "",
        containers: bool = False,
        signing_key: SigningKey | None = None,
        secret_key: str = "",
        has_population: bool = False,
        owner_url: str | None = None,
        tools: Tools | None = None,
        progress: Progress = _silent,
    ) -> None:
        """Describes a stack of the checkout at *root*.

        With *worker_url*, the URL of a migrated database as its worker role, no Postgres is started; *session_url* is
        the URL for the session function, which is not deployed without it.
        *parameters* are added to the template's.
        *port* is the port of the emulated AWS, *clerk_port* and *frontend_port* are the ports of the stand-ins for
        Clerk's Backend and Frontend API. *webhook_secret* and *signing_key* sign webhooks and session tokens, and
        *secret_key* is the key of the Backend API; values not given are made up. With *has_population*, the stand-in
        and the database begin with some users; beside *worker_url*, this needs *owner_url*. With *containers*,
        containers on this machine reach the whole stack as `localhost`: see containers.py. The schedules are off: see
        `reconcile`.
        """
        self._root = root
        self._worker_url = worker_url
        self._session_url = session_url
        self._parameters = _LOCAL_PARAMETERS | dict(parameters or {})
        self._port = port
        self._clerk_port = clerk_port
        self._frontend_port = frontend_port
        self._containers = containers
        self._signing_key = signing_key
        self._secret_key = secret_key or f"sk_live_{secrets.token_hex(16)}"
        self._has_population = has_population
        self._owner_url = owner_url
        self._tools = tools or Tools.of(root)
        self._progress = progress
        self._undo = contextlib.ExitStack()
        self._postgres: EmbeddedPostgres | None = None
        self.stage = self._parameters.get("Stage", "dev")
        self.name = f"clerk-supabase-sync-{self.stage}"
        self.webhook_secret = webhook_secret or generate_secret()
        self.outputs: dict[str, str] = {}
        self.instance = Instance()
        """The made-up Clerk instance that `clerk` answers for; it sends no webhooks before `webhooks.deliver_to()`."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            guard = undo.enter_context(Guard())
            self._guard = guard
            self._folder = guard.folder("clerk-supabase-stack-")
            self.logs = guard.folder("clerk-supabase-logs-")
            try:
                self._bring_up(undo)
            except LocalStackError:
                guard.keep(self.logs)
                raise
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    @property
    def postgres(self) -> EmbeddedPostgres:
        """The embedded Postgres. Raises LocalStackError if the stack was given another database."""
        if self._postgres is None:
            raise LocalStackError("this stack uses a database of its caller's, not the embedded Postgres")
        return self._postgres

    @property
    def database_url(self) -> str:
        """The embedded Postgres's URL as superuser."""
        return self.postgres.url()

    @property
    def webhook_url(self) -> str:
        """The address for webhooks: the deployed API's, in a form that works on this machine."""
        return self._on_this_machine(self.outputs["WebhookUrl"])

    @property
    def session_url(self) -> str:
        """The address to which the app posts after sign-in."""
        return self._on_this_machine(self.outputs["SessionUrl"])

    @property
    def publishable_key(self) -> str:
        """Clerk's publishable key for the pages of an app."""
        return _KEY_OF_PAGES

    @property
    def mint(self) -> Mint:
        """A maker of tokens accepted by the session function."""
        [key, *_] = self.frontend.keys
        return Mint(key, self.frontend.issuer)

    def _on_this_machine(self, url: str) -> str:
        return execute_api_url(url, self.ministack.endpoint)

    def deploy(self, parameters: Mapping[str, str] | None = None) -> None:
        """Deploys the build, with *parameters* added to the stack's. May be called again.

        Raises CommandFailed.
        """
        self._parameters |= parameters or {}
        with self._step("Deploy with sam deploy"):
            environment = self._sam_environment() | self.ministack.environment
            self._guard.run(self._deploy_command(), log=self.logs / "sam-deploy.log", env=environment)
            self.ministack.repair_event_sources()
            self.outputs = self._read_outputs()

    def physical_id(self, logical_id: str) -> str:
        """The physical name or id of a resource of the template. Raises botocore's ClientError for an unknown id."""
        stack = self.ministack.client("cloudformation")
        answer = stack.describe_stack_resource(StackName=self.name, LogicalResourceId=logical_id)
        return str(answer["StackResourceDetail"]["PhysicalResourceId"])

    def function_log(self, logical_id: str) -> list[str]:
        """The output and log of the function *logical_id*, oldest first."""
        return self.ministack.function_log(self.physical_id(logical_id))

    def reconcile(self, mode: Literal["full", "quick"] = "full") -> Any:
        """Invokes the reconcile function as its schedule would, and waits. Returns its answer.

        Raises ReconcileFailed with the function's error.
        """
        functions = self.ministack.client("lambda")
        answer = functions.invoke(
            FunctionName=self.physical_id("ReconcileFunction"), Qualifier="live", Payload=self.scheduled_event(mode)
        )
        payload = json.loads(answer["Payload"].read() or "null")
        if "FunctionError" in answer:
            raise ReconcileFailed(f"the reconcile function failed: {payload.get('errorMessage', payload)}")
        return payload

    def scheduled_event(self, mode: Literal["full", "quick"]) -> str:
        """The event sent to the reconcile function by its schedule."""
        name = self.physical_id(f"ReconcileFunction{mode.capitalize()}")
        return str(self.ministack.client("scheduler").get_schedule(Name=name)["Target"]["Input"])

    @property
    def role_urls(self) -> list[str]:
        """The connection strings with which the functions log in."""
        return [url for url in (self._worker_url, self._session_url) if url is not None]

    # Steps

    def _bring_up(self, undo: contextlib.ExitStack) -> None:
        began = time.monotonic()
        self._progress(_BUILD_STEP, None)
        # The build needs neither database nor emulator, so both start meanwhile.
        build = undo.enter_context(self._build())
        build.begin()
        if self._worker_url is None:
            self._worker_url = self._bring_up_database(undo)
        with self._step("Start MiniStack"):
            self.ministack = undo.enter_context(MiniStack(self._tools, port=self._port, logs=self.logs))
        with self._step("Start the stand-in for Clerk"):
            undo.enter_context(self.instance.webhooks)
            self.clerk = undo.enter_context(self._clerk_api())
            self.frontend = undo.enter_context(self._frontend_api())
            self.clerk.answers.jwks = self.frontend.jwks
        with self._step("Store the secrets"):
            self._create_secrets(self._worker_url)
            self._create_alarm_topic()
            self.ministack.client("s3").create_bucket(Bucket=_ARTIFACTS_BUCKET)
        if self._containers:
            undo.enter_context(let_containers_in(self._ports()))
        if self._has_population:
            with self._step("Begin with some users and organizations"):
                begin(self.instance)
                fill(self._owner_url or self.database_url, self.clerk.url, self._secret_key)
        self._built = build.finish() / "build"
        self._progress(_BUILD_STEP, time.monotonic() - began)
        self.deploy()

    def _ports(self) -> list[int]:
        ports = [self.ministack.port, self.clerk.port, self.frontend.port]
        return ports if self._postgres is None else [*ports, self._postgres.port]

    def _clerk_api(self) -> ClerkApi:
        if self._clerk_port and is_taken(self._clerk_port):
            raise LocalStackError(f"port {self._clerk_port} of 127.0.0.1 is taken: choose another port")
        answers = Answers(self.instance.world, self._secret_key, lock=self.instance.lock, seen=self.instance.seen)
        return ClerkApi(answers, port=self._clerk_port, control=Control(self.instance))

    def _frontend_api(self) -> FrontendApi:
        if self._frontend_port and is_taken(self._frontend_port):
            raise LocalStackError(f"port {self._frontend_port} of 127.0.0.1 is taken: choose another port")
        api = FrontendApi(self._signing_key or SigningKey.generate(), port=self._frontend_port)
        [key] = api.keys
        scripts = self._tools.folder / "app" / "node_modules"
        api.pages = Pages(People(self.instance), Mint(key, api.issuer), self.publishable_key, scripts)
        return api

    def _bring_up_database(self, undo: contextlib.ExitStack) -> str:
        with self._step("Start Postgres"):
            self._postgres = undo.enter_context(EmbeddedPostgres(logs=self.logs))
        with self._step("Apply the migrations"):
            prepare_plain_postgres(self._postgres.url(), self._root)
            for _ in migrate(self._postgres.url(), self._root):
                pass
        self._session_url = self._seen_by_functions(_let_in(self._postgres, SESSION_ROLE))
        return self._seen_by_functions(_let_in(self._postgres, WORKER_ROLE))

    def _seen_by_functions(self, url: str) -> str:
        # To a container, 127.0.0.1 is always itself.
        return url.replace("@127.0.0.1:", "@localhost:") if self._containers else url

    def _build(self) -> Build:
        """The build of the checkout, shared with other stacks that have the same inputs."""
        environment, log = self._sam_environment(), self.logs / "sam-build.log"
        recipe = SamBuild.copied(self._root, self._folder / "source", self._tools, environment, lambda_architecture())

        def start(into: Path) -> subprocess.Popen[bytes]:
            command = recipe.command(into, self._sam_configuration())
            return self._guard.start(command, log=log, env=environment, cwd=self._folder)

        return Build(self._tools.builds, recipe.name(), start, guard=self._guard, log=log)

    def _deploy_command(self) -> list[str]:
        parameters = {
            "Stage": self.stage,
            "Architecture": lambda_architecture(),
            "WebhookSecretArn": self.webhook_secret_arn,
            "DatabaseSecretArn": self.database_secret_arn,
            "AwsEndpointUrl": self.ministack.endpoint,
            "ClerkSecretKeyArn": self.clerk_secret_key_arn,
            "ClerkApiUrl": self.clerk.url,
            "AlarmTopicArn": self.alarm_topic_arn,
            **self._session_parameters(),
        } | self._parameters
        return [
            str(self._tools.sam),
            "deploy",
            f"--template={self._built / 'template.yaml'}",
            f"--config-file={self._sam_configuration()}",
            f"--stack-name={self.name}",
            f"--s3-bucket={_ARTIFACTS_BUCKET}",
            "--capabilities=CAPABILITY_IAM",
            "--no-confirm-changeset",
            "--no-fail-on-empty-changeset",
            "--no-progressbar",
            "--parameter-overrides",
            *(f'{name}="{value}"' for name, value in parameters.items()),
        ]

    def _session_parameters(self) -> dict[str, str]:
        if not self.session_database_secret_arn:
            return {}
        return {
            "ClerkPublishableKey": PUBLISHABLE_KEY,
            "ClerkFrontendApiUrl": self.frontend.issuer,
            "SessionDatabaseSecretArn": self.session_database_secret_arn,
            "SessionAllowedOrigins": APP_ORIGIN,
            "AuthorizedParties": APP_ORIGIN,
        }

    def _create_secrets(self, worker_url: str) -> None:
        store = self.ministack.client("secretsmanager")
        webhook = store.create_secret(Name=f"{self.name}/webhook", SecretString=self.webhook_secret)
        database = store.create_secret(Name=f"{self.name}/database", SecretString=worker_url)
        clerk = store.create_secret(Name=f"{self.name}/clerk", SecretString=self.clerk.answers.key)
        self.webhook_secret_arn: str = webhook["ARN"]
        self.clerk_secret_key_arn: str = clerk["ARN"]
        self.database_secret_arn: str = database["ARN"]
        self.session_database_secret_arn = ""
        if self._session_url is not None:
            session = store.create_secret(Name=f"{self.name}/session-database", SecretString=self._session_url)
            self.session_database_secret_arn = session["ARN"]

    def _create_alarm_topic(self) -> None:
        """The topic of the alarms, with a queue for a listener."""
        name = f"{self.name}-alarms"
        sns, sqs = self.ministack.client("sns"), self.ministack.client("sqs")
        self.alarm_topic_arn: str = sns.create_topic(Name=name)["TopicArn"]
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        [queue_arn] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"].values()
        sns.subscribe(TopicArn=self.alarm_topic_arn, Protocol="sqs", Endpoint=queue_arn)

    def _read_outputs(self) -> dict[str, str]:
        answer = self.ministack.client("cloudformation").describe_stacks(StackName=self.name)
        return {output["OutputKey"]: output["OutputValue"] for output in answer["Stacks"][0]["Outputs"]}

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        self._progress(name, None)
        yield
        self._progress(name, time.monotonic() - began)

    # The environment of SAM

    @property
    def _temporary_folder(self) -> Path:
        folder = self._folder / "tmp"
        folder.mkdir(exist_ok=True)
        return folder

    def _sam_configuration(self) -> Path:
        """An empty configuration: the checkout's samconfig.toml is for real accounts."""
        file = self._folder / "samconfig.toml"
        file.write_text("version = 0.1\n")
        return file

    def _sam_environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_PREFIXES)}
        # MiniStack's folder comes last, with the functions' Python under its versioned name.
        search_path = [
            self._tools.uv.parent,
            os.environ.get("PATH", os.defpath),
            self._tools.ministack_python.parent,
        ]
        no_proxy = ",".join(filter(None, [os.environ.get("no_proxy", os.environ.get("NO_PROXY")), "127.0.0.1"]))
        return inherited | {
            # SAM leaves files behind; this folder is removed with the stack's.
            "TMPDIR": str(self._temporary_folder),
            "PATH": os.pathsep.join(map(str, search_path)),
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "SAM_CLI_TELEMETRY": "0",
            "SAM_CLI_POLL_DELAY": "0.1",
            # Read by the Makefile's addition to SAM: archives that stay on this machine are not compressed.
            "CLERK_SUPABASE_ZIP_LEVEL": "0",
            "__SAM_CLI_APP_DIR": str(self._folder / "sam-state"),
            "LAYER_PYTHON": self._tools.function_python,
            **caches(self._root),
            "LAYER_PLATFORM": python_platform(),
        }


def _let_in(postgres: EmbeddedPostgres, role: str) -> str:
    """Gives a role a password, which the migrations do not set; returns its URL."""
    with open_database(postgres.url()) as database:
        password = give_password(database, role)
    # The embedded server speaks no TLS, and nothing leaves this machine.
    return f"{postgres.url(user=role, password=password)}?sslmode=disable"
