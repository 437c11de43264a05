"""Rejections of Clerk's API, and its rules for the parameters of every list."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final, overload

from clerk_supabase_cli.standin.faults import Request

DEFAULT_LIMIT: Final = 10
LARGEST_LIMIT: Final = 500
VERSION_PARAMETER: Final = "__clerk_api_version"


class Rejection(Exception):
    """An error answer."""

    def __init__(self, status: int, code: str, message: str, parameter: str = "") -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.parameter = parameter

    def body(self) -> bytes:
        """The answer in Clerk's form."""
        error: dict[str, object] = {"code": self.code, "message": self.message, "long_message": self.message}
        if self.parameter:
            error["meta"] = {"param_name": self.parameter}
        return json.dumps({"errors": [error], "clerk_trace_id": "0" * 32}).encode()


def not_found() -> Rejection:
    """The error for an unknown id."""
    return Rejection(404, "resource_not_found", "not found")


def unprocessable(parameter: str, message: str) -> Rejection:
    """The value of a parameter is invalid."""
    return Rejection(422, "form_param_value_invalid", message, parameter)


def check_parameters(request: Request, known: Collection[str]) -> None:
    """Raises Rejection for a parameter unknown to the endpoint."""
    for name, _ in request.parameters:
        if name not in known and name != VERSION_PARAMETER:
            raise Rejection(422, "form_param_unknown", f"{name} is not a valid parameter for this request.", name)


def limit_of(request: Request) -> int:
    """The requested number of objects on a page. Raises Rejection."""
    return integer(request, "limit", DEFAULT_LIMIT, least=1, most=LARGEST_LIMIT)


@overload
def integer(request: Request, name: str, default: int, *, least: int, most: int = ...) -> int: ...
@overload
def integer(request: Request, name: str, default: None, *, least: int, most: int = ...) -> int | None: ...
def integer(request: Request, name: str, default: int | None, *, least: int, most: int = 1 << 62) -> int | None:
    """Reads a parameter with a whole number. Raises Rejection."""
    text = request.value(name)
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()) or not least <= int(text) <= most:
        raise unprocessable(name, f"must be a whole number from {least} on")
    return int(text)
