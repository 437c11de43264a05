"""SQS and Secrets Manager over HTTP on this machine: functions send real requests, by boto3 or awscrt, without TLS."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

ACCOUNT: Final = {
    # Lambda sets both; the SDK for JavaScript reads the first.
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    # As the template sets it for every function.
    "POWERTOOLS_METRICS_NAMESPACE": "Bench",
}


@dataclass
class Aws:
    """The secrets by ARN, and the messages that SQS has accepted."""

    secrets: Mapping[str, str]
    url: str = ""
    _accepted: SimpleQueue[dict[str, Any]] = field(default_factory=SimpleQueue)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a function that shall find this AWS."""
        return ACCOUNT | {"AWS_ENDPOINT_URL": self.url}

    def messages(self) -> list[dict[str, Any]]:
        """The accepted messages that no call has returned yet, as parameters of SendMessage."""
        return [self._accepted.get() for _ in range(self._accepted.qsize())]

    def answer(self, operation: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to a request; an accepted message is kept before."""
        if operation == "GetSecretValue":
            return {"ARN": asked["SecretId"], "SecretString": self.secrets[asked["SecretId"]]}
        if operation == "SendMessage":
            self._accepted.put(dict(asked))
            return _taken(asked)
        assert operation == "SendMessageBatch", operation
        for entry in asked["Entries"]:
            self._accepted.put({"QueueUrl": asked["QueueUrl"], **entry})
        return {"Successful": [{"Id": entry["Id"], **_taken(entry)} for entry in asked["Entries"]], "Failed": []}


def _taken(message: Mapping[str, Any]) -> dict[str, str]:
    """The answer of SQS to an accepted message; the SDK for JavaScript verifies the MD5."""
    body = str(message["MessageBody"]).encode()
    return {"MessageId": "message", "MD5OfMessageBody": hashlib.md5(body, usedforsecurity=False).hexdigest()}


@contextmanager
def aws(secrets: Mapping[str, str]) -> Iterator[Aws]:
    """Answers during the `with` block, in threads of this process: what a function's process does stays its own."""
    made = Aws(secrets)
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(made)) as server:
        made.url = f"http://127.0.0.1:{server.server_port}"
        # Connections of functions stay open, and their threads end with this process.
        server.daemon_threads, server.block_on_close = True, False
        Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


def _handler(made: Aws) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = json.dumps(made.answer(self.headers["X-Amz-Target"].rpartition(".")[2], asked)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class calls it so
            """Says nothing."""

    return Handler
