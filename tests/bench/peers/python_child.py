"""`python -m tests.bench.peers.python_child WAY`: this project's functions, or a pasted handler in Python.

Reads the path of a file with signed requests from each line of standard input, takes them all the way to their rows,
and prints the seconds this took, by the clock and of the processor.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from clerk_supabase.aws.lean_client import LeanClient

_BATCH: Final = 10
STATEMENTS: Final = Path(__file__).with_name("statements.json")
Request = Mapping[str, Any]
"""The headers and the body of a webhook."""
Work = Callable[[Sequence[Any]], None]


class _Kept:
    """Stands for SQS where nothing is sent: keeps the messages."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self.messages: list[dict[str, Any]] = []

    def send_message(self, **parameters: Any) -> None:
        self.messages.append(parameters)

    def get_secret_value(self, **_: object) -> dict[str, str]:
        return {"SecretString": self._secret}


class _Sent:
    """Keeps what it sends through a client, so that a worker can be given the messages without receiving them."""

    def __init__(self, client: SQSClient | LeanClient) -> None:
        self._client = client
        self.messages: list[dict[str, Any]] = []

    def send_message(self, **parameters: Any) -> None:
        self._client.send_message(**parameters)
        self.messages.append(parameters)


def _ours(settings: Mapping[str, str], *, sends: bool) -> tuple[Work, Callable[[Sequence[Request]], Sequence[Any]]]:
    """Ingest and sync, with their log lines and metrics."""
    from clerk_supabase.aws import lean_client  # noqa: PLC0415 - only the way that needs it loads it
    from clerk_supabase.aws.queue import Queue, messages_of  # noqa: PLC0415
    from clerk_supabase.aws.secrets import Secret  # noqa: PLC0415
    from clerk_supabase.credentials import Fixed  # noqa: PLC0415
    from clerk_supabase.ingest import Ingest  # noqa: PLC0415
    from clerk_supabase.parking import Parking  # noqa: PLC0415
    from clerk_supabase.postgres.store import Store  # noqa: PLC0415
    from clerk_supabase.settings import IngestSettings  # noqa: PLC0415
    from clerk_supabase.sync import Sync  # noqa: PLC0415
    from clerk_supabase.telemetry import measured  # noqa: PLC0415
    from clerk_supabase_cli.simulator.sqs import record  # noqa: PLC0415
    from clerk_supabase_cli.standin.deliveries import SignedRequest, api_gateway_event  # noqa: PLC0415

    kept = _Kept(settings["secret"])
    sqs = _Sent(lean_client.sqs()) if sends else kept
    queue = Queue(cast("SQSClient", sqs), "https://sqs.example.test/sync")
    ingest = Ingest(
        IngestSettings("arn", "https://sqs.example.test/sync", "https://sqs.example.test/parked", "", 1_040_000),
        Secret(cast("LeanClient", kept), "arn"),
        sync_queue=queue,
        parked_queue=queue,
        clock_ms=lambda: time.time_ns() // 1_000_000,
    )
    store = Store(Fixed(settings["database"]))
    sync = Sync(store, Parking(store))

    @measured
    def answer(event: Any, _: object) -> dict[str, Any]:
        return ingest.answer(event).to_api_gateway()

    @measured
    def apply(event: Any, _: object) -> dict[str, Any]:
        return {"batchItemFailures": sync.process(messages_of(event))}

    def work(events: Sequence[Any]) -> None:
        sqs.messages.clear()
        for event in events:
            if answer(event, None)["statusCode"] != 202:
                raise RuntimeError("ingest did not accept")
        # Lambda makes the records of a batch, so making them is not counted in CPU that a function has to spend.
        records = [_record_of(number, sent, record) for number, sent in enumerate(sqs.messages)]
        for at in range(0, len(records), _BATCH):
            if apply({"Records": records[at : at + _BATCH]}, None)["batchItemFailures"]:
                raise RuntimeError("sync did not apply")

    def prepared(requests: Sequence[Request]) -> Sequence[Any]:
        return [api_gateway_event(SignedRequest(each["headers"], each["body"].encode())) for each in requests]

    return work, prepared


def _record_of(number: int, sent: Mapping[str, Any], record: Callable[..., Any]) -> Any:
    attributes = {name: value["StringValue"] for name, value in sent["MessageAttributes"].items()}
    return record(str(number), sent["MessageBody"], **attributes)


class _Pasted:
    """The handler of Clerk's documentation: svix, psycopg, a kept connection.

    `plain`: one upsert. `careful`: what makes the handler right as well: a look at the version under a lock, the
    delivery recorded, both in one transaction. `queue`: the handler sends the event to SQS by boto3, and a worker does
    the careful part.
    """

    def __init__(self, settings: Mapping[str, str], way: str) -> None:
        import psycopg  # noqa: PLC0415 - only the ways that need it load it
        from svix.webhooks import Webhook  # noqa: PLC0415

        self._connection = psycopg.connect(settings["database"], autocommit=True)
        self._webhook = Webhook(settings["secret"])
        statements = json.loads(STATEMENTS.read_text(encoding="utf-8"))
        self._known, self._upsert, self._record = (
            re.sub(r"\$\d+", "%s", statements[name]).encode() for name in ("known", "upsert", "record")
        )
        self._sqs: Any = None
        if way == "queue":
            import boto3  # noqa: PLC0415

            self._sqs = boto3.client("sqs")

    def plain(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._connection.execute(self._upsert, values_of(self._verified(request)["data"]))

    def careful(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._carefully(request, self._verified(request))

    def queue(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._verified(request)
            attributes = {"svix_id": {"DataType": "String", "StringValue": request["headers"]["svix-id"]}}
            self._sqs.send_message(
                QueueUrl="https://sqs.example.test/q", MessageBody=request["body"], MessageAttributes=attributes
            )
        for request in requests:
            self._carefully(request, json.loads(request["body"]))

    def _verified(self, request: Request) -> Any:
        self._webhook.verify(request["body"], request["headers"])
        return json.loads(request["body"])

    def _carefully(self, request: Request, event: Any) -> None:
        user = event["data"]
        with self._connection.transaction():
            row = self._connection.execute(self._known, [user["id"]]).fetchone()
            if row is None or row[0] < user["updated_at"]:
                self._connection.execute(self._upsert, values_of(user))
            self._connection.execute(self._record, [request["headers"]["svix-id"], event["type"], user["id"]])


def values_of(user: Mapping[str, Any]) -> list[Any]:
    """The parameters of the upsert for a user as Clerk sends it."""
    from psycopg.types.json import Jsonb  # noqa: PLC0415 - only the ways that need it load it

    primary = user["primary_email_address_id"]
    email = next((each["email_address"] for each in user["email_addresses"] if each["id"] == primary), None)
    names = [user["first_name"], user["last_name"], user["username"], user["image_url"]]
    metadata = [Jsonb(user["public_metadata"]), Jsonb(user["unsafe_metadata"])]
    return [user["id"], email, *names, *metadata, user["created_at"], user["updated_at"]]


@click.command()
@click.argument("way", type=click.Choice(["ours", "ours-sending", "plain", "careful", "queue"]))
def main(way: str) -> None:
    """Works until standard input ends; the settings are in the variable PEER."""
    # The log lines of the functions go nowhere.
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    settings = json.loads(os.environ["PEER"])
    prepared: Callable[[Sequence[Request]], Sequence[Any]] = list
    if way.startswith("ours"):
        work, prepared = _ours(settings, sends=way != "ours")
    else:
        work = getattr(_Pasted(settings, way), way)
    for line in sys.stdin:
        requests = prepared(json.loads(Path(line.strip()).read_text(encoding="utf-8")))
        began, cpu_began = time.perf_counter(), time.process_time()
        work(requests)
        spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu_began}
        print(json.dumps(spent), file=told, flush=True)


if __name__ == "__main__":
    main()
