"""Requests, answers and errors in the form of Storage.

Sources: https://github.com/supabase/storage, src/internal/errors, src/http/error-handler.ts and
src/storage/database/errors.ts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import psycopg


@dataclass(frozen=True, slots=True)
class FileRequest:
    """A request; *headers* by their names in small letters."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """The object in the body. Raises StorageError."""
        try:
            said = json.loads(self.body)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise invalid("body must be object")
        return said


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """An answer."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


class StorageError(Exception):
    """A request without success. The answer has the status 400, and the status meant in its body."""

    def __init__(self, status: int, code: str, message: str, error: str | None = None) -> None:
        super().__init__(message)
        said = {"statusCode": str(status), "code": code, "error": error or code, "message": message}
        self.answer: Final = as_json(said, 500 if status == 500 else 400)


def as_json(said: object, status: int = 200) -> FileAnswer:
    """An answer with JSON."""
    return FileAnswer(json.dumps(said, default=_json_value).encode(), status)


def _json_value(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def invalid(message: str, code: str = "InvalidRequest") -> StorageError:
    """The error for a request that makes no sense."""
    return StorageError(400, code, message)


def denied(message: str) -> StorageError:
    """The error for a token or a policy that does not allow the request."""
    return StorageError(403, "AccessDenied", message, "Unauthorized")


def no_bucket() -> StorageError:
    """The error for a bucket that does not exist, or is not public."""
    return StorageError(404, "NoSuchBucket", "Bucket not found", "Bucket not found")


def no_file() -> StorageError:
    """The error for a file that does not exist, or that the policies hide."""
    return StorageError(404, "NoSuchKey", "Object not found", "not_found")


def too_large() -> StorageError:
    """The error for a file that is larger than its bucket or Supabase allows."""
    return StorageError(413, "EntityTooLarge", "The object exceeded the maximum allowed size", "Payload too large")


def wrong_type(mime_type: str) -> StorageError:
    """The error for a file whose type the bucket does not take."""
    return StorageError(415, "InvalidMimeType", f"mime type {mime_type} is not supported", "invalid_mime_type")


def from_postgres(error: psycopg.Error) -> StorageError:
    """The error of Storage for an error of Postgres."""
    if error.sqlstate == "42501":
        is_policy = "row-level security" in str(error)
        return denied("new row violates row-level security policy" if is_policy else str(error))
    if error.sqlstate == "23505":
        return StorageError(409, "KeyAlreadyExists", "The resource already exists", "Duplicate")
    return StorageError(500, "DatabaseError", f"database error, code: {error.sqlstate}")
