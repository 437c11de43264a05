"""An operator with an emulated AWS account, a database and a checkout, who types `clerk-supabase` into a terminal."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import psycopg

from clerk_supabase_cli.local.ministack import MiniStack
from clerk_supabase_cli.local.postgres import EmbeddedPostgres
from clerk_supabase_cli.local.tools import TOOLS_VARIABLE, Tools, lambda_architecture, python_platform
from clerk_supabase_cli.operate.install.migrations import prepare_plain_postgres
from clerk_supabase_cli.project import CHECKOUT_VARIABLE
from clerk_supabase_cli.standin.backend.answers import Answers
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.deliveries import SignedRequest, generate_secret, sign
from clerk_supabase_cli.standin.frontend_api import FrontendApi
from clerk_supabase_cli.standin.samples import new_user_id
from clerk_supabase_cli.standin.token_mint import SigningKey
from clerk_supabase_cli.standin.worlds import World
from tests.kit.deployed_webhooks import created, now
from tests.kit.loopback import NO_TLS

COMMAND = Path(sys.executable).with_name("clerk-supabase")
# For this stack, the values of samconfig.toml are those of its environment `default`.
NAME = "clerk-supabase-sync-dev"
PUBLISHABLE_KEY = "pk_test_Y2xlcmsubG9jYWwudGVzdCQ="
# Variables of the caller that would reach another account, or change the build.
_FOREIGN = (
    "AWS_",
    "SAM_CLI_",
    "PYTHON",
    "VIRTUAL_ENV",
    "LAYER_",
    "MAKE",
    "MFLAGS",
    "CLERK_",
    "DATABASE_URL",
    "SYNC_",
    "SUPABASE_",
)
# A terminal of its own, where hidden answers can be typed, too.
_IN_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


@dataclass
class Operator:
    """The operator; `start` makes the account, the database and the checkout, and `stack` undoes all of them."""

    root: Path
    folder: Path
    waiting: list[SignedRequest] = field(default_factory=list)
    """Accepted, and in a queue when the stack was deleted."""
    undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self.postgres = undo.enter_context(EmbeddedPostgres())
            self.owner_url = f"{self.postgres.url()}?sslmode=disable"
            prepare_plain_postgres(self.owner_url, self.root)
            self.tools = Tools.of(self.root)
            self.ministack = undo.enter_context(MiniStack(self.tools))
            world = World(random.Random(7), "", now=time.time_ns() // 1_000_000)
            self.clerk = undo.enter_context(ClerkApi(Answers(world, "sk_test_of_the_operator"), port=0))
            self.frontend = undo.enter_context(FrontendApi(SigningKey.generate(), port=0))
            undo.enter_context(self._numbers_repaired())
            self.webhook_secret = generate_secret()
            self.checkout = self._copied()
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.undo.close()

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters for this machine, and none that an operator would set on AWS."""
        return {
            "AwsEndpointUrl": self.ministack.endpoint,
            "ClerkApiUrl": self.clerk.url,
            "ClerkFrontendApiUrl": self.frontend.issuer,
            "Architecture": lambda_architecture(),
            "FullReconcileState": "DISABLED",
            "QuickReconcileState": "DISABLED",
        }

    def types(self, *arguments: str, answers: Sequence[tuple[str, str]], status: int = 0) -> str:
        """The output of the command in a terminal. Each answer is typed once its question, a pattern, is asked."""
        said, seen, left = "", 0, list(answers)
        with subprocess.Popen(
            [sys.executable, "-c", _IN_A_TERMINAL, str(COMMAND), *arguments],
            cwd=self.checkout,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdin
            assert process.stdout
            while more := os.read(process.stdout.fileno(), 65536):
                said += more.decode(errors="replace").replace("\r\n", "\n")
                if left and (asked := re.search(left[0][0], said[seen:], re.MULTILINE)):
                    seen += asked.end()
                    process.stdin.write(f"{left.pop(0)[1]}\n".encode())
                    process.stdin.flush()
        assert process.returncode == status, said
        assert not left, said
        return said

    def runs(self, *arguments: str, status: int = 0, variables: Mapping[str, str] | None = None) -> str:
        """The output of the command without a terminal."""
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=self.checkout,
            env=self.environment | dict(variables or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    @property
    def changed_files(self) -> str:
        """The tracked files that differ, and the files that are neither tracked nor ignored."""
        return git(self.checkout, "status", "--porcelain")

    def client(self, service: str) -> Any:
        """A client of the emulated account."""
        return self.ministack.client(service)

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the stack."""
        [found] = self.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]}

    @property
    def values(self) -> dict[str, str]:
        """The values of the stack's parameters."""
        [found] = self.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"]
        return {each["ParameterKey"]: each["ParameterValue"] for each in found["Parameters"]}

    @property
    def status(self) -> str:
        """The status of the stack in CloudFormation."""
        [found] = self.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"]
        return str(found["StackStatus"])

    def variable(self, function: str, name: str) -> str:
        """A variable of a deployed function."""
        functions = self.client("lambda")
        found = functions.get_function_configuration(FunctionName=f"{NAME}-{function}", Qualifier="live")
        return str(found["Environment"]["Variables"][name])

    def sign(self) -> SignedRequest:
        """An event about a user of its own."""
        return sign(created(new_user_id(), now()), self.webhook_secret)

    def post(self, request: SignedRequest) -> httpx.Response:
        """The answer of the stack's webhook URL."""
        address = urlsplit(self.outputs["WebhookUrl"])
        api, _, _ = address.netloc.partition(".")
        url = f"{self.ministack.endpoint}/_aws/execute-api/{api}{address.path}"
        return httpx.post(
            url, content=request.body, headers=dict(request.headers), timeout=60, trust_env=False, verify=NO_TLS
        )

    def applied(self, requests: Iterable[SignedRequest]) -> set[str]:
        """The svix ids of the events that made a row."""
        ids = [request.headers["svix-id"] for request in requests]
        with psycopg.connect(self.owner_url) as database:
            found = database.execute(
                "select svix_id from clerk_sync.deliveries where svix_id = any(%s) and outcome = 'created'", [ids]
            )
            return {svix_id for (svix_id,) in found}

    def events_in(self, output: str) -> int:
        """The number of events in the queue with this output, waiting or in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client("sqs").get_queue_attributes(QueueUrl=self.outputs[output], AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        python = self.tools.ministack_python.parent
        no_proxy = ",".join(filter(None, [os.environ.get("no_proxy", os.environ.get("NO_PROXY")), "127.0.0.1"]))
        return (
            inherited
            | self.ministack.environment
            | {
                TOOLS_VARIABLE: str(self.tools.folder),
                CHECKOUT_VARIABLE: str(self.folder / "checkout"),
                "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), str(python)]),
                "NO_PROXY": no_proxy,
                "no_proxy": no_proxy,
                "SAM_CLI_POLL_DELAY": "0.1",
                "CLERK_SUPABASE_ZIP_LEVEL": "0",
                "LAYER_PYTHON": self.tools.function_python,
                "LAYER_PLATFORM": python_platform(),
            }
        )

    def _copied(self) -> Path:
        """A copy of the checkout, with everything committed."""
        copy = self.folder / "checkout"
        for name in git(self.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
            if name and (self.root / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.root / name, copy / name)
        git(copy, "init", "--quiet")
        git(copy, "add", "--all")
        git(copy, "-c", "user.name=operator", "-c", "user.email=operator@example.test", "commit", "-qm", "copy")
        return copy

    @contextlib.contextmanager
    def _numbers_repaired(self) -> Iterator[None]:
        """Corrects the numbers of new event source mappings, as `dev` does after a deployment."""
        over = threading.Event()

        def repair() -> None:
            while not over.wait(1):
                with contextlib.suppress(Exception):
                    self.ministack.repair_event_sources()

        thread = threading.Thread(target=repair)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout
