"""Answers to webhooks: verify, read the instance, the type and the id, enqueue. The answer never waits for Postgres."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import msgspec

from clerk_supabase.answer import Answer
from clerk_supabase.aws.queue import Queue
from clerk_supabase.aws.secrets import Secret
from clerk_supabase.errors import EventTooLarge, QueueUnavailable, SecretUnavailable, SignatureRejected
from clerk_supabase.model.envelope import Envelope, ParkedEvent
from clerk_supabase.model.found_kinds import CANARY_TYPE, FACTS, SYNCED_TYPES
from clerk_supabase.settings import IngestSettings
from clerk_supabase.signature import Verifier
from clerk_supabase.telemetry import count, count_by, logger

_UNAUTHORIZED = "unauthorized"
# Tells Svix not to send this message again; other messages still come.
# https://docs.svix.com/receiving/delivery-control
_ABORT = MappingProxyType({"webhook-delivery": "abort-message"})


@dataclass(frozen=True, slots=True)
class Request:
    """A webhook request: header names in lower case, and the body unchanged."""

    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def from_api_gateway(cls, event: Mapping[str, Any]) -> Request:
        """Reads a proxy event of a REST API. Raises SignatureRejected for a body wrongly called base64."""
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        text = event.get("body") or ""
        if not event.get("isBase64Encoded"):
            # A body outside UTF-8 passes here, and is rejected with the signature.
            return cls(headers, text.encode(errors="surrogatepass"))
        try:
            return cls(headers, base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as error:
            raise SignatureRejected("the body is not base64", "malformed") from error


class _Data(msgspec.Struct):
    id: str = ""


class _Glance(msgspec.Struct):
    """The fields by which ingest decides; a field is empty if the body lacks the field or has another type there."""

    type: str = ""
    instance_id: str = ""
    data: _Data = msgspec.field(default_factory=_Data)


class Ingest:
    """Answers webhooks. A 2xx goes out only after SQS holds the event."""

    def __init__(
        self,
        settings: IngestSettings,
        secret: Secret,
        sync_queue: Queue,
        parked_queue: Queue,
        clock_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._types = _types_to_sync(settings)
        self._secret = secret
        self._sync_queue = sync_queue
        self._parked_queue = parked_queue
        self._clock_ms = clock_ms
        self._verifier: tuple[str, Verifier] | None = None

    def answer(self, api_gateway_event: Mapping[str, Any]) -> Answer:
        """The answer to one request. Neither the sender nor an unavailable service can make the method raise."""
        try:
            return self._answer(Request.from_api_gateway(api_gateway_event))
        except SignatureRejected as rejection:
            count("Rejected")
            count_by("Rejected", "reason", rejection.reason)
            logger.warning("webhook rejected", reason=str(rejection), svix_id=_claimed_id(api_gateway_event))
            return Answer(401, _UNAUTHORIZED)
        except (SecretUnavailable, QueueUnavailable) as error:
            count("Unavailable")
            svix_id = _claimed_id(api_gateway_event)
            logger.error("webhook not accepted, Svix sends it again", reason=str(error), svix_id=svix_id)
            return Answer(503, "try again later")

    def _answer(self, request: Request) -> Answer:
        envelope = Envelope(self._verify(request), request.body, self._clock_ms())
        if len(request.body) > self._settings.max_body_bytes:
            return _too_large(envelope, f"the body is over {self._settings.max_body_bytes} bytes")
        try:
            return self._take(envelope)
        except EventTooLarge as error:
            return _too_large(envelope, str(error))

    def _take(self, envelope: Envelope) -> Answer:
        svix_id = envelope.svix_id
        try:
            glance, is_json = _glance_at(envelope.body)
        except ValueError as error:
            return self._park(envelope, str(error))
        if self._is_foreign(glance.instance_id):
            count("WrongInstance")
            logger.error("event of another Clerk instance", svix_id=svix_id, instance_id=glance.instance_id)
            return Answer(403, "wrong instance", _ABORT)
        if not glance.type:
            return self._park(envelope, "the event has no type")
        if glance.type not in self._types:
            count("Ignored")
            logger.info("event type is not synced", svix_id=svix_id, event_type=glance.type)
            return Answer(200, "not synced")
        envelope = _without_secrets(envelope, glance.type)
        if not glance.data.id:
            return self._park(envelope, "data.id is missing")
        self._sync_queue.send(envelope, is_json=is_json)
        count("Accepted")
        logger.info("accepted", svix_id=svix_id, event_type=glance.type, object_id=glance.data.id)
        return Answer(202, "accepted")

    def _verify(self, request: Request) -> str:
        secrets = self._secret.value()
        try:
            return self._verifier_for(secrets).verify(request.body, request.headers)
        except (SignatureRejected, SecretUnavailable):
            if not self._secret.changed():
                raise
        return self._verifier_for(self._secret.value()).verify(request.body, request.headers)

    def _verifier_for(self, secrets: str) -> Verifier:
        if self._verifier is None or self._verifier[0] != secrets:
            self._verifier = secrets, Verifier(secrets.split())
        return self._verifier[1]

    def _is_foreign(self, instance_id: str) -> bool:
        # Messages from before February 2025 name no instance, and may still be replayed.
        own = self._settings.clerk_instance_id
        return bool(own and instance_id and instance_id != own)

    def _park(self, envelope: Envelope, reason: str) -> Answer:
        self._parked_queue.park(ParkedEvent(envelope, "unusable", reason))
        count("Parked")
        logger.error("event parked", svix_id=envelope.svix_id, reason=reason)
        return Answer(202, "parked")


def _types_to_sync(settings: IngestSettings) -> frozenset[str]:
    """The event types to put on the queue: all that are synced, except of kinds whose parameter is 0."""
    parameters = {"SessionsDays": settings.sessions_days}
    synced = (name for name, meaning in SYNCED_TYPES.items() if parameters.get(FACTS[meaning.kind].parameter, True))
    return frozenset((CANARY_TYPE, *synced))


# A forged request can hold any text there.
_SVIX_ID = re.compile(r"msg_[A-Za-z0-9]{1,64}")


def _claimed_id(api_gateway_event: Mapping[str, Any]) -> str | None:
    """The unproven id of a request, for the log: by this id, a rejection in Clerk's dashboard is found there."""
    headers = api_gateway_event.get("headers") or {}
    claimed = next((value for name, value in headers.items() if name.lower() in ("svix-id", "webhook-id")), "")
    return claimed if _SVIX_ID.fullmatch(claimed or "") else None


def _too_large(envelope: Envelope, reason: str) -> Answer:
    """The answer to an event that is too large. The answer asks for no retry, which would be as large."""
    count("TooLarge")
    logger.error("event too large", svix_id=envelope.svix_id, reason=reason, bytes=len(envelope.body))
    return Answer(413, reason, _ABORT)


_DECODER = msgspec.json.Decoder(_Glance)


def _glance_at(body: bytes) -> tuple[_Glance, bool]:
    """The names in a body, and whether the whole body is JSON. Raises ValueError, which quotes no part of the body."""
    # Models of the objects would double the cold start and cost five times as much at every request.
    try:
        try:
            return _DECODER.decode(body), True
        except msgspec.ValidationError:
            return _glance_at_odd_types(msgspec.json.decode(body)), True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _glance_at_parts(body), False


def _glance_at_parts(body: bytes) -> _Glance:
    """Reads a body with a part that no JSON parser takes: a user's own text must not stop an event."""
    from clerk_supabase.model.json_split import fields  # noqa: PLC0415 - most environments never need it

    try:
        event = fields(body)
    except ValueError as error:
        raise ValueError("the body is not a JSON object") from error
    data: dict[str, object] = {}
    with contextlib.suppress(ValueError):
        data = {"id": _text(fields(event.get(b'"data"', b"")).get(b'"id"'))}
    return _glance_at_odd_types(
        {"type": _text(event.get(b'"type"')), "instance_id": _text(event.get(b'"instance_id"')), "data": data}
    )


def _without_secrets(envelope: Envelope, event_type: str) -> Envelope:
    """The event without the fields that its kind calls secrets. A kind without secrets: the same bytes."""
    meaning = SYNCED_TYPES.get(event_type)
    if meaning is None or not (secrets := FACTS[meaning.kind].secrets):
        return envelope
    from clerk_supabase.model.json_split import fields  # noqa: PLC0415 - most environments never need it

    event = {_text(name): value for name, value in fields(envelope.body).items()}
    try:
        data = {_text(name): value for name, value in fields(event["data"]).items()}
    except (KeyError, ValueError):
        # Text that is no object may hold a secret anywhere.
        data = {}
    event["data"] = _joined({name: value for name, value in data.items() if name not in secrets})
    return replace(envelope, body=_joined(event))


def _joined(values: Mapping[str, bytes]) -> bytes:
    """The JSON object with these values."""
    return b"{%b}" % b",".join(b"%b:%b" % (msgspec.json.encode(name), value) for name, value in values.items())


def _text(json: bytes | None) -> str:
    try:
        return msgspec.json.decode(json or b"", type=str)
    except ValueError:
        return ""


def _glance_at_odd_types(event: object) -> _Glance:
    if not isinstance(event, dict):
        raise ValueError("the body is not a JSON object")  # noqa: TRY004 - a TypeError would be our mistake, this is the sender's
    data = event.get("data")
    fields = event.get("type"), event.get("instance_id"), data.get("id") if isinstance(data, dict) else None
    event_type, instance_id, object_id = (field if isinstance(field, str) else "" for field in fields)
    return _Glance(event_type, instance_id, _Data(object_id))
