"""Operations on an instance as JSON, for commands in other processes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import msgspec

from clerk_supabase_cli.standin.backend.rejections import Rejection, unprocessable
from clerk_supabase_cli.standin.instance.instance import Instance
from clerk_supabase_cli.standin.instance.play import Play
from clerk_supabase_cli.standin.instance.webhooks import DeliveryFaults
from clerk_supabase_cli.standin.samples import Json

PATH: Final = "/control"
_OPERATIONS: Final = (
    "create_user",
    "update_user",
    "ban_user",
    "unban_user",
    "lock_user",
    "unlock_user",
    "sign_in",
    "delete_user",
    "create_organization",
    "update_organization",
    "delete_organization",
    "entitle",
    "create_plan",
    "update_plan",
    "add_member",
    "change_role",
    "remove_member",
    "invite",
    "accept_invitation",
    "revoke_invitation",
    "add_domain",
    "verify_domain",
    "delete_domain",
)
_FAULTS: Final = ("lose", "duplicate", "reorder", "delay")


class Control:
    """Answers requests such as `{"operation": "ban_user", "arguments": {"user_id": "user_1"}, "faults": {"lose": 1}}`.

    The answer has the operation, the object, and the webhooks that follow. The operation `play` does a random
    change, `learn` takes the event of another program, `list` returns the users and organizations, and `list_plans`
    the plans.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._play = Play(instance)

    def answer(self, body: bytes) -> Json:
        """Does the operation of a request. Raises Rejection."""
        request = _read(body)
        name, arguments = request.get("operation"), request.get("arguments", {})
        if not isinstance(arguments, dict):
            raise unprocessable("arguments", "must be an object")
        if name == "list":
            return {"operation": name, "objects": self._listed()}
        if name == "list_plans":
            with self._instance.lock:
                self._instance.plans.default("user")
                return {"operation": name, "objects": list(self._instance.world.others["plan"].values())}
        if name == "learn":
            return {"operation": name, "learned": self._learn(arguments)}
        with self._instance.operating(_faults(request), api_lag=_number(request, "api_lag")) as webhooks:
            if name == "play":
                name, found = self._play.once()
            elif name in _OPERATIONS:
                found = _called(getattr(self._instance, name), arguments)
            else:
                raise unprocessable("operation", f"there is no operation {name!r}")
            return {"operation": name, "object": found, "webhooks": [each.summary() for each in webhooks]}

    def _listed(self) -> list[Json]:
        """The users and organizations, by id."""
        with self._instance.lock:
            world = self._instance.world
            found = [*world.users.values(), *world.organizations.values()]
        return [
            {
                "id": each["id"],
                "name": each.get("name") or " ".join(filter(None, (each.get("first_name"), each.get("last_name")))),
                "email": _primary_address(each),
                "banned": each.get("banned", False),
            }
            for each in found
        ]

    def _learn(self, arguments: Json) -> bool:
        event = arguments.get("event")
        if not isinstance(event, dict) or not isinstance(data := event.get("data"), dict):
            raise unprocessable("event", "must be an event of Clerk's")
        if [type(each) for each in (event.get("type"), event.get("timestamp"), data.get("id"))] != [str, int, str]:
            raise unprocessable("event", "must have a type, a timestamp and data with an id")
        return self._instance.learn(event)


def _read(body: bytes) -> Json:
    try:
        # Stricter than Python's decoder: no NaN, and no half characters, which could not be sent again.
        request = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise Rejection(400, "request_body_invalid", "not a JSON object")
    return request


def _called(operation: Callable[..., Json], arguments: Json) -> Json:
    """Calls an operation. Raises Rejection for unknown and missing arguments, and for an argument without text."""
    signature = inspect.signature(operation)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise unprocessable("arguments", str(error)) from error
    for name in signature.parameters.keys() & arguments.keys():
        if not isinstance(arguments[name], str):
            raise unprocessable(name, "must be text")
    return operation(**arguments)


def _faults(request: Json) -> DeliveryFaults:
    faults = request.get("faults", {})
    if not isinstance(faults, dict) or set(faults) - set(_FAULTS):
        raise unprocessable("faults", f"may have {', '.join(_FAULTS)}")
    return DeliveryFaults(**{name: _number(faults, name) for name in faults})


def _number(values: Json, name: str) -> float:
    value: Any = values.get(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:
        raise unprocessable(name, "must be a number from 0 to 3600")
    return float(value)


def _primary_address(found: Json) -> str | None:
    """The primary e-mail address of a user; None without one, and for an organization."""
    addresses = {each["id"]: each["email_address"] for each in found.get("email_addresses") or ()}
    address: str | None = addresses.get(found.get("primary_email_address_id"))
    return address
