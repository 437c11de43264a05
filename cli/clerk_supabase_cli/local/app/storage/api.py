"""Storage's API for files, as supabase-js asks it to upload, list, download and remove.

Storage itself does not run here. This stand-in keeps files in a folder, and asks the same tables what Storage asks
them, as the caller: the policies decide. Signed addresses, resumable uploads, `move`, `copy` and transformations of
pictures are missing.
Sources: https://github.com/supabase/storage, src/http/routes/object, src/storage/object.ts, uploader.ts, limits.ts and
database/pg.ts.
"""

from __future__ import annotations

import hashlib
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from clerk_supabase_cli.local.app.storage.answers import (
    FileAnswer,
    FileRequest,
    StorageError,
    as_json,
    from_postgres,
    invalid,
    no_bucket,
    no_file,
    too_large,
    wrong_type,
)
from clerk_supabase_cli.local.app.storage.callers import SERVICE, Callers, Claims
from clerk_supabase_cli.local.app.storage.uploads import Upload, read_upload

PREFIX: Final = "/storage/v1"
LARGEST_FILE: Final = 50 * 1024 * 1024
"""The largest file, for a bucket without a smaller limit."""
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_/!.*'() &$=@;:+,?-]+")
_SORTED_BY: Final = ("name", "updated_at", "created_at", "last_accessed_at")

_INSERT: Final = """
    insert into storage.objects (bucket_id, name, owner_id, version, metadata)
    values (%(bucket_id)s, %(name)s, %(owner_id)s, %(version)s, %(metadata)s)
"""
_UPSERT: Final = (
    _INSERT
    + """
    on conflict (name, bucket_id) do update
    set owner_id = excluded.owner_id, version = excluded.version, metadata = excluded.metadata
    returning *
    """
)
_FIND: Final = "select * from storage.objects where bucket_id = %s and name = %s"
_DELETE: Final = "delete from storage.objects where bucket_id = %s and name = any(%s) returning *"
_UNDER: Final = "select * from storage.objects where bucket_id = %s and starts_with(name, %s) order by name"

_Route = Callable[..., FileAnswer]


class Storage:
    """The files of a project, with a row of storage.objects for each."""

    def __init__(self, callers: Callers, folder: Path) -> None:
        """*folder*: for the content of the files, named by their versions."""
        self._callers = callers
        self._folder = folder
        self._writing = threading.Lock()
        self._routes: Sequence[tuple[str, str, _Route]] = (
            ("GET", "public/([^/]+)/(.+)", self._public),
            ("GET", "authenticated/([^/]+)/(.+)", self._download),
            ("POST", "list/([^/]+)", self._list),
            (".*", "(?:sign|upload|info|list|list-v2)/.*|move|copy", self._missing),
            ("GET", "([^/]+)/(.+)", self._download),
            ("POST|PUT", "([^/]+)/(.+)", self._upload),
            ("DELETE", "([^/]+)", self._remove),
            (".*", ".*", self._missing),
        )

    def answer(self, request: FileRequest) -> FileAnswer:
        """Does what a request asks, if the policies let its caller."""
        path = unquote(urlsplit(request.target).path).removeprefix(f"{PREFIX}/object/")
        found = (
            (route, match.groups())
            for method, pattern, route in self._routes
            if re.fullmatch(method, request.method) and (match := re.fullmatch(pattern, path, re.DOTALL))
        )
        route, names = next(found)
        try:
            return route(request, *names)
        except StorageError as error:
            return error.answer
        except psycopg.Error as error:
            return from_postgres(error).answer

    def _upload(self, request: FileRequest, bucket_id: str, name: str) -> FileAnswer:
        claims = self._claims(request)
        bucket = self._bucket(bucket_id)
        upload = read_upload(request.headers, request.body)
        if not upload.is_allowed(bucket["allowed_mime_types"]):
            raise wrong_type(upload.mime_type)
        if _FILE_NAME.fullmatch(name) is None:
            raise invalid(f"Invalid key: {name}", "InvalidKey")
        row = {"bucket_id": bucket_id, "name": name, "owner_id": claims.get("sub")}
        asked = Jsonb({"mimetype": upload.mime_type, "contentLength": len(upload.content)})
        may_replace = request.method == "PUT" or request.headers.get("x-upsert") == "true"
        with self._callers.transaction(claims) as database:
            database.execute(_UPSERT if may_replace else _INSERT, {**row, "version": "1", "metadata": asked})
            database.rollback()
        if len(upload.content) > min(LARGEST_FILE, bucket["file_size_limit"] or LARGEST_FILE):
            raise too_large()
        return as_json({"Id": self._write(row, upload), "Key": f"{bucket_id}/{name}"})

    def _write(self, row: Mapping[str, Any], upload: Upload) -> str:
        """Keeps a file that the policies have let in, in place of the former file; returns its id."""
        version = str(uuid.uuid4())
        with self._writing:
            self._file(version).write_bytes(upload.content)
            with self._callers.transaction(SERVICE) as database:
                former = database.execute(_FIND, [row["bucket_id"], row["name"]]).fetchone()
                new = {**row, "version": version, "metadata": Jsonb(_metadata(upload))}
                [written] = database.execute(_UPSERT, new).fetchall()
            self._forget([former] if former else [])
        return str(written["id"])

    def _public(self, request: FileRequest, bucket_id: str, name: str) -> FileAnswer:
        if not self._bucket(bucket_id)["public"]:
            raise no_bucket()
        return self._content(request, SERVICE, bucket_id, name)

    def _download(self, request: FileRequest, bucket_id: str, name: str) -> FileAnswer:
        claims = self._claims(request)
        is_public = self._bucket(bucket_id)["public"]
        return self._content(request, SERVICE if is_public else claims, bucket_id, name)

    def _list(self, request: FileRequest, bucket_id: str) -> FileAnswer:
        """The files and folders in a folder."""
        asked = request.json()
        prefix, search = (str(asked.get(name) or "") for name in ("prefix", "search"))
        prefix += "" if prefix.endswith("/") or not prefix else "/"
        order = asked.get("sortBy") or {"column": "name"}
        limit, offset = asked.get("limit", 100), asked.get("offset", 0)
        if not (isinstance(order, dict) and isinstance(limit, int) and isinstance(offset, int)):
            raise invalid("body/sortBy must be object, body/limit and body/offset must be integer")
        column = order.get("column")
        if column not in _SORTED_BY:
            raise invalid("body/sortBy/column must be equal to one of the allowed values")
        with self._callers.transaction(self._claims(request)) as database:
            rows = database.execute(_UNDER, [bucket_id, prefix + search]).fetchall()
        ordered = sorted(
            _entries(rows, prefix),
            key=lambda entry: (str(entry[column] or ""), entry["name"]),
            reverse=order.get("order") == "desc",
        )
        return as_json(ordered[offset : offset + limit])

    def _remove(self, request: FileRequest, bucket_id: str) -> FileAnswer:
        names = request.json().get("prefixes")
        if not isinstance(names, list):
            raise invalid("body must have required property 'prefixes'")
        with self._writing:
            with self._callers.transaction(self._claims(request)) as database:
                removed = database.execute(_DELETE, [bucket_id, [str(name) for name in names]]).fetchall()
            self._forget(removed)
        return as_json(removed)

    def _missing(self, request: FileRequest) -> FileAnswer:
        route = f"{request.method}:{urlsplit(request.target).path}"
        said = {"statusCode": "404", "error": "Not Found", "message": f"Route {route} not found in this stand-in"}
        return as_json(said, 404)

    def _claims(self, request: FileRequest) -> Claims:
        return self._callers.claims(request.headers.get("authorization", ""))

    def _bucket(self, bucket_id: str) -> DictRow:
        """A bucket. Raises StorageError without the bucket."""
        with self._callers.transaction(SERVICE) as database:
            found = database.execute("select * from storage.buckets where id = %s", [bucket_id]).fetchone()
        if found is None:
            raise no_bucket()
        return found

    def _content(self, request: FileRequest, claims: Claims, bucket_id: str, name: str) -> FileAnswer:
        """The file, if the policies show its row to the caller. Raises StorageError."""
        with self._callers.transaction(claims) as database:
            row = database.execute(_FIND, [bucket_id, name]).fetchone()
        try:
            content = self._file(row["version"]).read_bytes() if row else None
        except FileNotFoundError:
            content = None
        if row is None or content is None:
            raise no_file()
        return FileAnswer(content, headers=_headers(request, row["metadata"]))

    def _file(self, version: object) -> Path:
        """The file with the content of a row. The version may be any text, or null, in a row that SQL has inserted."""
        return self._folder / f"version-{quote(str(version), safe='')}"

    def _forget(self, rows: Iterable[DictRow]) -> None:
        """Deletes the content of former rows."""
        for row in rows:
            self._file(row["version"]).unlink(missing_ok=True)


def _entries(rows: Iterable[DictRow], prefix: str) -> Iterable[dict[str, Any]]:
    """The files and the folders directly below a prefix. All columns of a folder but its name are null."""
    columns = ("id", "updated_at", "created_at", "last_accessed_at", "metadata")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        name, slash, _ = row["name"].removeprefix(prefix).partition("/")
        found[name, slash] = {"name": name} | {column: None if slash else row[column] for column in columns}
    return found.values()


def _metadata(upload: Upload) -> Mapping[str, Any]:
    return {
        "eTag": f'"{hashlib.md5(upload.content, usedforsecurity=False).hexdigest()}"',
        "size": len(upload.content),
        "mimetype": upload.mime_type,
        "cacheControl": upload.cache_control,
        "lastModified": datetime.now(UTC).isoformat(),
        "contentLength": len(upload.content),
        "httpStatusCode": 200,
    }


def _headers(request: FileRequest, metadata: Mapping[str, str]) -> Mapping[str, str]:
    headers = {
        "content-type": "text/plain" if "text/html" in metadata["mimetype"] else metadata["mimetype"],
        "cache-control": metadata["cacheControl"],
        "etag": metadata["eTag"],
        # All ports of this machine share their cookies: a file must not run as a page.
        "content-security-policy": "sandbox",
        "x-content-type-options": "nosniff",
    }
    is_saved = "download" in parse_qs(urlsplit(request.target).query, keep_blank_values=True)
    return headers | ({"content-disposition": "attachment"} if is_saved else {})
