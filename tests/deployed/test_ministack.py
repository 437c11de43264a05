"""The emulated AWS keeps to itself and leaves nothing behind."""

import io
import json
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase_cli.local.ministack import MiniStack, MiniStackFailed
from clerk_supabase_cli.local.tools import TOOLS_VARIABLE, ToolMissing, Tools

PATIENCE_SECONDS = 20.0

HANDLER = """
import os

def answer(event, context):
    return {"process": os.getpid(), "environment": dict(os.environ)}
"""

# Brings an emulator up, runs a function in it, says where they are and waits for its end.
PARENT = """
import sys
from pathlib import Path
from clerk_supabase_cli.local.ministack import MiniStack, MiniStackFailed
from clerk_supabase_cli.local.tools import Tools
from tests.deployed.test_ministack import deploy_witness, question_witness

with MiniStack(Tools.of(Path(sys.argv[1]))) as ministack:
    deploy_witness(ministack)
    print(ministack.process_id, question_witness(ministack)["process"], ministack.log.parent, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def ministack(root: Path) -> Iterator[MiniStack]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_PROFILE", "production")
        environment.setenv("DATABASE_PASSWORD", "of the caller")
        with MiniStack(Tools.of(root)) as server:
            deploy_witness(server)
            yield server


def test_only_this_machine_can_reach_it(ministack: MiniStack) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing: it only asks which address a packet to a documentation network would leave from.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            # A machine without another address cannot be reached from outside, so there is nothing to try.
            pytest.skip("this machine has no other address, so no other machine could reach it")
        address = probe.getsockname()[0]

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, ministack.port), timeout=5)


def test_a_port_that_is_taken_is_refused(ministack: MiniStack, root: Path) -> None:
    with (
        pytest.raises(MiniStackFailed, match=f"port {ministack.port} of 127.0.0.1 is taken"),
        MiniStack(Tools.of(root), port=ministack.port),
    ):
        pass


def test_functions_see_nothing_of_the_callers_environment(ministack: MiniStack) -> None:
    environment = question_witness(ministack)["environment"]

    assert "AWS_PROFILE" not in environment
    assert "DATABASE_PASSWORD" not in environment
    assert environment["AWS_ENDPOINT_URL"] == ministack.endpoint


def test_functions_act_as_their_role_and_not_as_root(ministack: MiniStack) -> None:
    environment = question_witness(ministack)["environment"]

    assert environment["AWS_ACCESS_KEY_ID"] != ministack.environment["AWS_ACCESS_KEY_ID"]
    assert environment["AWS_SESSION_TOKEN"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_is_left_when_the_parent_is_ended_by(number: signal.Signals, root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=root,
    ) as parent:
        assert parent.stdout is not None
        server, function, folder = parent.stdout.readline().split()

        parent.send_signal(number)

    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_running(server) or is_running(function) or Path(folder).exists():
        assert time.monotonic() < deadline, "the emulator, its function or its folder is still there"
        time.sleep(0.02)


def test_a_missing_tool_is_named_with_what_to_do(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOOLS_VARIABLE, str(tmp_path))

    with pytest.raises(ToolMissing, match="make setup"):
        MiniStack(Tools.of(root))


def deploy_witness(ministack: MiniStack) -> None:
    """Deploy a function that answers with its process id and its environment."""
    anybody = {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": "*"},
    }
    role = ministack.client("iam").create_role(RoleName="witness", AssumeRolePolicyDocument=json.dumps(anybody))
    ministack.client("lambda").create_function(
        FunctionName="witness",
        Runtime="python3.13",
        Handler="handler.answer",
        Role=role["Role"]["Arn"],
        Code={"ZipFile": zipped(HANDLER)},
    )


def question_witness(ministack: MiniStack) -> Any:
    """The answer of the witness function."""
    return json.load(ministack.client("lambda").invoke(FunctionName="witness")["Payload"])


def zipped(handler: str) -> bytes:
    """The code of a function as a zip, as Lambda takes it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("handler.py", handler)
    return archive.getvalue()


def is_running(process: str) -> bool:
    """Tells whether there is such a process; a zombie has ended."""
    answer = subprocess.run(["ps", "-o", "stat=", "-p", process], capture_output=True, text=True, check=False)
    return answer.stdout.strip()[:1] not in ("", "Z")
