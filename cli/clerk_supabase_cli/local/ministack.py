"""The AWS emulator on loopback: MiniStack behind our gate (see emulator), in its own process and environment."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config

from clerk_supabase_cli.local.processes import Guard, LocalStackError, is_taken, last_lines
from clerk_supabase_cli.local.tools import Tools

REGION: Final = "us-east-1"
ACCOUNT: Final = "000000000000"
_START_SECONDS: Final = 30.0
_BACKLOG: Final = 128
# The folder from which the emulator's process imports the gate.
_OUR_PACKAGES: Final = Path(__file__).parents[2]
# Our clients neither need nor read an AWS profile of the caller's.
_NO_PROFILE: Final = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
# A proxy from the environment could not reach this machine's loopback.
_WITHOUT_PROXY: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def execute_api_url(url: str, endpoint: str) -> str:
    """The address at the emulator's *endpoint* for a deployed API whose address on AWS would be *url*."""
    address = urlsplit(url)
    api, _, _ = address.netloc.partition(".")
    return f"{endpoint}/_aws/execute-api/{api}{address.path}"


class MiniStackFailed(LocalStackError):
    """MiniStack did not start."""


class MiniStack:
    """An emulated AWS account on 127.0.0.1, during the `with` block.

    The account keeps nothing. Deployed functions run as child processes of the emulator, and end with it. IAM is
    enforced, so that a function has the rights of its role only.
    """

    def __init__(self, tools: Tools, *, port: int = 0, logs: Path | None = None) -> None:
        """*port*: the port to listen on; 0 for a free port.

        *logs*: a folder for a log that outlives the emulator.
        """
        self._python = tools.ministack_python
        self._logs = logs
        self._guard: Guard | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._access_key = f"local{secrets.token_hex(8)}"
        self._secret_key = secrets.token_hex(20)
        self._session: Any = botocore.session.Session(session_vars=_NO_PROFILE)
        self._clients: dict[str, Any] = {}
        self._wanted_port = port
        self.port = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self._guard = undo.enter_context(Guard())
            self._folder = self._guard.folder("clerk-supabase-ministack-")
            self._start(self._guard)
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.close()

    @property
    def endpoint(self) -> str:
        """The URL of every AWS service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The emulator's log."""
        return (self._logs or self._folder) / "ministack.log"

    @property
    def running(self) -> bool:
        """Tells whether the emulator's process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int:
        """The emulator's process id. Raises LocalStackError if no emulator is running."""
        if self._process is None:
            raise LocalStackError("MiniStack is not running")
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which AWS tools use this account alone, as its root user."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self._access_key,
            "AWS_SECRET_ACCESS_KEY": self._secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """A client of *service*, like boto3's, with the root user's credentials; the same for all threads."""
        if service not in self._clients:
            self._clients[service] = self._session.create_client(
                service,
                region_name=REGION,
                endpoint_url=self.endpoint,
                aws_access_key_id=self._access_key,
                aws_secret_access_key=self._secret_key,
                config=Config(retries={"mode": "standard"}, max_pool_connections=50, proxies={}),
            )
        return self._clients[service]

    def function_log(self, function: str) -> list[str]:
        """The output and log of *function* (its physical name), oldest first, with START and END lines."""
        pages = self.client("logs").get_paginator("filter_log_events")
        events = pages.paginate(logGroupName=f"/aws/lambda/{function}")
        return [event["message"] for page in events for event in page["events"]]

    def repair_event_sources(self) -> None:
        """Corrects the numbers in event source mappings; to be called after every deployment.

        CloudFormation parameters of type Number arrive in MiniStack as text. MiniStack compares a mapping's
        MaximumConcurrency with a number, so its poller would fail for ever. A client reads the value as a number, and
        writes the number back.
        """
        functions = self.client("lambda")
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            if scaling := mapping.get("ScalingConfig"):
                functions.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig=scaling)

    def _start(self, guard: Guard) -> None:
        # The socket is ours from the first moment: no other process can listen there and receive the secrets.
        with _listening(self._wanted_port) as listening:
            self.port = listening.getsockname()[1]
            self._clients.clear()
            descriptor = listening.fileno()
            self._process = guard.start(
                [str(self._python), "-m", "clerk_supabase_cli.local.emulator", str(descriptor)],
                log=self.log,
                env=self._server_environment(),
                cwd=self._folder,
                descriptors=[descriptor],
            )
        self._wait_until_it_answers()

    def _server_environment(self) -> dict[str, str]:
        """The environment without the caller's variables: the emulator passes all of its own to every function."""
        folder = str(self._folder)
        return {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "HOME": folder,
            "TMPDIR": folder,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(_OUR_PACKAGES),
            "AUTH": "true",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self._access_key,
            "AWS_SECRET_ACCESS_KEY": self._secret_key,
            # Services that would listen on every address, at their own ports.
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            # MiniStack would remove containers that look like its own; this MiniStack makes no containers.
            "DOCKER_HOST": f"unix://{folder}/no-docker",
        }

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                raise MiniStackFailed(f"MiniStack did not start; last lines of its log:\n{last_lines(self.log, 20)}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            _WITHOUT_PROXY.open(self.endpoint, timeout=5).close()
        except urllib.error.HTTPError:
            # The emulator rejects a request without a key, and so has answered.
            return True
        except OSError:
            return False
        return True


def _listening(port: int) -> socket.socket:
    """A socket of 127.0.0.1 that listens on *port*; 0 for a free port. Raises MiniStackFailed for a port in use."""
    # Some systems allow a second socket beside a socket that listens on all addresses.
    if not (port and is_taken(port)):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
    raise MiniStackFailed(f"port {port} of 127.0.0.1 is taken: choose another port")
