"""A second stack in the same emulated account, deployed as docs/deploy.md says: `sam deploy --guided`, and Enter."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg

from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.local.tools import Tools, lambda_architecture
from clerk_supabase_cli.standin.deliveries import SignedRequest, sign
from clerk_supabase_cli.standin.samples import new_user_id
from tests.kit.deployed_webhooks import created, now

NAME = "clerk-supabase-sync-guided"


class GuidedStack:
    """A stack deployed by an operator with SAM alone. It shares the database of the stack of all tests."""

    def __init__(self, stack: LocalStack, root: Path, folder: Path) -> None:
        self.shared = stack
        self.name = NAME
        self.waiting: list[SignedRequest] = []
        """Accepted, and in a queue when the stack was deleted."""
        self._folder = folder
        self._sam = str(Tools.of(root).sam)
        self.build = stack._build_folder / "template.yaml"
        # Parameters for this machine, and none that an operator would set on AWS.
        self._here = {
            "AwsEndpointUrl": stack.ministack.endpoint,
            "ClerkApiUrl": stack.clerk.url,
            "Architecture": lambda_architecture(),
            "FullReconcileState": "DISABLED",
            "QuickReconcileState": "DISABLED",
        }

    def sam(self, *arguments: str, answers: str = "", status: int = 0) -> str:
        """The output of SAM, in a folder of its own, where SAM also saves its configuration."""
        done = subprocess.run(
            [self._sam, *arguments],
            input=answers,
            cwd=self._folder,
            env=self.shared._sam_environment() | self.shared.ministack.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def deploy_guided(self) -> str:
        """Asks for everything and gets nothing but Enter."""
        said = self.sam(
            "deploy",
            "--guided",
            f"--stack-name={self.name}",
            f"--template={self.build}",
            *self._overrides({}),
            answers="\n" * 100,
        )
        self.shared.ministack.repair_event_sources()
        return said

    def update(self, parameters: Mapping[str, str], *, template: Path | None = None, status: int = 0) -> str:
        """Deploys again, with the saved answers of the guided deployment and these parameters."""
        said = self.sam(
            "deploy",
            f"--template={template or self.build}",
            "--no-confirm-changeset",
            *self._overrides(parameters),
            status=status,
        )
        self.shared.ministack.repair_event_sources()
        return said

    def _overrides(self, parameters: Mapping[str, str]) -> Iterable[str]:
        return [
            "--parameter-overrides",
            *(f"{name}={value}" for name, value in (self._here | dict(parameters)).items()),
        ]

    def client(self, service: str) -> Any:
        """A client of the emulated account."""
        return self.shared.ministack.client(service)

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the stack."""
        [found] = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]}

    @property
    def status(self) -> str:
        """The status of the stack in CloudFormation."""
        [found] = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return str(found["StackStatus"])

    def sign(self) -> SignedRequest:
        """An event about a user of its own."""
        return sign(created(new_user_id(), now()), self.shared.webhook_secret)

    def post(self, request: SignedRequest) -> httpx.Response:
        """The answer of the stack's webhook URL."""
        address = urlsplit(self.outputs["WebhookUrl"])
        api, _, _ = address.netloc.partition(".")
        url = f"{self.shared.ministack.endpoint}/_aws/execute-api/{api}{address.path}"
        return httpx.post(url, content=request.body, headers=dict(request.headers), timeout=60, trust_env=False)

    def applied(self, requests: Iterable[SignedRequest]) -> set[str]:
        """The svix ids of the events that made a row."""
        ids = [request.headers["svix-id"] for request in requests]
        with psycopg.connect(self.shared.database_url) as database:
            found = database.execute(
                "select svix_id from clerk_sync.deliveries where svix_id = any(%s) and outcome = 'created'", [ids]
            )
            return {svix_id for (svix_id,) in found}
