"""The file of an upload: the whole body, or a part of a form, as supabase-js sends a `File` of a browser.

Source: https://github.com/supabase/storage, src/storage/uploader.ts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from typing import Final

from clerk_supabase_cli.local.app.storage.answers import invalid

# Both values become headers of a download.
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{1,255}")
_BOUNDARY: Final = re.compile(r'multipart/form-data;.*boundary="?([^";]+)"?', re.IGNORECASE)
_NO_CACHE: Final = "no-cache"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way to a bucket."""

    content: bytes
    mime_type: str
    cache_control: str

    def is_allowed(self, mime_types: list[str] | None) -> bool:
        """Tells whether a bucket takes this type. *mime_types*: such as `image/png` or `image/*`; empty for all."""
        kind, _, subtype = self.mime_type.partition("/")
        if not subtype or _HEADER_VALUE.fullmatch(self.mime_type) is None:
            return False
        return not mime_types or self.mime_type in mime_types or f"{kind}/*" in mime_types


def read_upload(headers: Mapping[str, str], body: bytes) -> Upload:
    """The file of a request. *headers*: by their names in small letters. Raises StorageError without a file."""
    mime_type = headers.get("content-type", "application/octet-stream")
    form = _BOUNDARY.match(mime_type)
    if form is None:
        return Upload(body, mime_type, _printable(headers.get("cache-control", _NO_CACHE)))
    fields: dict[str, str] = {}
    file = None
    for part in _parts(body, form[1].encode("latin-1")):
        if part.is_file:
            file = part
        else:
            fields[part.name] = part.content.decode("utf-8", "replace")
    if file is None:
        raise invalid("No content provided")
    age = fields.get("cacheControl")
    cache_control = _printable(f"max-age={age}") if age else _NO_CACHE
    return Upload(file.content, fields.get("contentType") or file.mime_type, cache_control)


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    is_file: bool
    mime_type: str
    content: bytes


def _parts(body: bytes, boundary: bytes) -> Iterator[_Part]:
    """The parts of a form, of which a file may hold any byte (RFC 7578)."""
    for text in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, content = text.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = BytesHeaderParser().parsebytes(head)
        name = headers.get_param("name", "", "content-disposition")
        yield _Part(str(name), headers.get_filename() is not None, headers.get_content_type(), content)


def _printable(value: str) -> str:
    return value if _HEADER_VALUE.fullmatch(value) else _NO_CACHE
