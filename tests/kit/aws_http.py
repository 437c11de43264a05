"""The account of a test behind HTTP, for a client that is not boto3's."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from tests.kit.aws import Account


@contextmanager
def served(account: Account, silent: Collection[str] = ()) -> Iterator[str]:
    """The address at which the queues and secrets of an account answer in AWS's JSON protocol.

    `silent`: AmazonSQS, secretsmanager or both, as in the header X-Amz-Target. Requests to them are read, and neither
    obeyed nor answered. The test may change the collection meanwhile.
    """
    is_over = Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(account, silent, is_over)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        is_over.set()
        server.shutdown()


def _handler(account: Account, silent: Collection[str], is_over: Event) -> type[BaseHTTPRequestHandler]:
    clients = {"AmazonSQS": account.sqs, "secretsmanager": account.secrets_manager}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            service, _, operation = self.headers["X-Amz-Target"].partition(".")
            parameters = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if service in silent:
                self.close_connection = True
                is_over.wait()
                return
            try:
                self._answer(200, getattr(clients[service], xform_name(operation))(**parameters))
            except ClientError as error:
                said = error.response["Error"]
                self._answer(400, {"__type": f"example#{said['Code']}", "message": said["Message"]})

        def _answer(self, status: int, answer: Any) -> None:
            content = json.dumps(answer, default=str).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class calls it so
            """Says nothing."""

    return Handler
