"""The avatars of examples/nextjs in the stand-in for Storage of `dev --app`, with the requests of supabase-js."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from clerk_supabase_cli.local.app.gateway import Gateway
from clerk_supabase_cli.local.app.storage.api import Storage
from clerk_supabase_cli.local.app.storage.callers import Callers
from clerk_supabase_cli.standin.token_mint import Mint, SigningKey
from tests.kit.databases import Connection, Database, rows
from tests.kit.loopback import NO_TLS
from tests.kit.tokens import KEY

PICTURE = b"\x89PNG\r\n\x1a\n--\r\n\x00\xff\r\n"
MINT = Mint(KEY)


@dataclass
class Files:
    """Storage of an app, with the bucket of examples/nextjs and a private one beside."""

    client: httpx.Client
    folder: Path

    def ask(self, method: str, path: str, user_id: str = "", **given: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {MINT.session(user_id)}"} if user_id else {}
        headers |= given.pop("headers", {})
        return self.client.request(method, f"/object/{path}", headers=headers, **given)

    def upload(self, path: str, user_id: str, content: bytes = PICTURE, kind: str = "image/png") -> tuple[str, str]:
        """Uploads as a browser does; returns the status and the message, both empty after a success."""
        form = {"files": {"": ("ada.png", content, kind)}, "data": {"cacheControl": "3600"}}
        answer = self.ask("POST", path, user_id, headers={"x-upsert": "true"}, **form).json()
        return answer.get("statusCode", ""), answer.get("message", "")

    def listed(self, bucket: str, user_id: str, folder: str = "") -> list[str]:
        answer = self.ask("POST", f"list/{bucket}", user_id, json={"prefix": folder})
        return [each["name"] for each in answer.json()]


@pytest.fixture
def files(database: Database, admin: Connection, root: Path, tmp_path: Path) -> Iterator[Files]:
    admin.execute((root / "sql" / "plain_storage.sql").read_bytes())
    [migration] = (root / "examples" / "nextjs" / "supabase" / "migrations").glob("*_avatars.sql")
    admin.execute(migration.read_bytes())
    admin.execute("insert into storage.buckets (id, name) values ('notes', 'notes')")
    admin.execute("select clerk_sync.secure_bucket('notes', 'user')")
    storage = Storage(Callers(database.url, [MINT.key.jwk]), tmp_path)
    with (
        Gateway(0, 0, storage) as gateway,
        httpx.Client(base_url=f"{gateway.url}/storage/v1", trust_env=False, verify=NO_TLS) as client,
    ):
        yield Files(client, tmp_path)


def test_a_user_uploads_an_avatar_that_everybody_sees(files: Files, admin: Connection) -> None:
    assert files.upload("avatars/user_ada/avatar", "user_ada") == ("", "")
    shown = files.ask("GET", "public/avatars/user_ada/avatar?version=1")
    assert (shown.content, shown.headers["content-type"], shown.headers["cache-control"]) == (
        PICTURE,
        "image/png",
        "max-age=3600",
    )
    assert rows(admin, "select owner, owner_id from storage.objects") == [(None, "user_ada")]

    # A second upload replaces the first one, and leaves no file behind.
    assert files.upload("avatars/user_ada/avatar", "user_ada", b"RIFF", "image/webp") == ("", "")
    assert files.ask("GET", "public/avatars/user_ada/avatar?version=2").content == b"RIFF"
    assert len(list(files.folder.iterdir())) == 1
    again = files.ask(
        "POST", "avatars/user_ada/avatar", "user_ada", content=PICTURE, headers={"content-type": "image/png"}
    )
    assert (again.status_code, again.json()["statusCode"], again.json()["error"]) == (400, "409", "Duplicate")

    removed = files.ask("DELETE", "avatars", "user_ada", json={"prefixes": ["user_ada/avatar"]})
    assert [each["name"] for each in removed.json()] == ["user_ada/avatar"]
    assert list(files.folder.iterdir()) == []
    assert files.ask("GET", "public/avatars/user_ada/avatar").json()["message"] == "Object not found"


def test_the_policies_decide_who_uploads_and_the_bucket_what(files: Files, admin: Connection) -> None:
    by_policy = ("403", "new row violates row-level security policy")
    admin.execute("insert into clerk.users (clerk_id, banned) values ('user_mallory', true)")
    assert files.upload("avatars/user_ada/avatar", "user_ada") == ("", "")
    assert files.upload("avatars/user_ada/avatar", "user_eve") == by_policy
    assert files.upload("avatars/avatar", "user_eve") == by_policy
    assert files.upload("avatars/user_mallory/avatar", "user_mallory") == by_policy
    assert files.upload("avatars/user_ada/avatar", "")[0] == "403"
    assert files.ask("DELETE", "avatars", "user_eve", json={"prefixes": ["user_ada/avatar"]}).json() == []
    assert files.ask("GET", "public/avatars/user_ada/avatar").content == PICTURE

    large = ("413", "The object exceeded the maximum allowed size")
    assert files.upload("avatars/user_ada/avatar", "user_ada", b"x" * 1_000_001) == large
    wrong = ("415", "mime type image/svg+xml is not supported")
    assert files.upload("avatars/user_ada/avatar", "user_ada", b"<svg/>", "image/svg+xml") == wrong
    assert files.upload("photos/user_ada/avatar", "user_ada") == ("404", "Bucket not found")
    assert rows(admin, "select count(*) from storage.objects") == [(1,)]
    assert len(list(files.folder.iterdir())) == 1


def test_a_private_file_is_read_and_listed_by_its_owner_alone(files: Files) -> None:
    for name in ("a.txt", "b/c.txt"):
        assert files.upload(f"notes/user_ada/{name}", "user_ada", b"secret", "text/html") == ("", "")
    assert files.listed("notes", "user_ada", "user_ada") == ["a.txt", "b"]
    assert (files.listed("notes", "user_ada"), files.listed("notes", "user_eve")) == (["user_ada"], [])
    own = files.ask("GET", "notes/user_ada/a.txt", "user_ada")
    assert (own.content, own.headers["content-type"]) == (b"secret", "text/plain")
    # The ports of this machine share their cookies: no file may run as a page.
    assert own.headers["content-security-policy"] == "sandbox"
    assert files.ask("GET", "authenticated/notes/user_ada/a.txt", "user_eve").json()["statusCode"] == "404"
    assert files.ask("GET", "public/notes/user_ada/a.txt").json()["message"] == "Bucket not found"


def test_foreign_pages_and_forged_tokens_reach_no_file(files: Files) -> None:
    files.upload("avatars/user_ada/avatar", "user_ada")
    allowed = files.client.options("/object/avatars/x", headers={"origin": "http://localhost:3000"})
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:3000"
    for headers in ({"origin": "https://evil.test"}, {"sec-fetch-site": "cross-site"}, {"host": "evil.test"}):
        answer = files.ask("GET", "public/avatars/user_ada/avatar", headers=headers)
        assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (403, False)
    other = Mint(SigningKey.generate(bits=1024)).session("user_ada")
    expired = MINT.session("user_ada", lifetime=-60)
    superuser = MINT.session("user_ada", role="postgres")
    for token in (other, expired, superuser, other.rpartition(".")[0] + ".", "a.b.c"):
        given = {"authorization": f"Bearer {token}"}
        answer = files.ask("DELETE", "avatars", headers=given, json={"prefixes": ["user_ada/avatar"]})
        assert answer.json()["statusCode"] == "403"
    assert files.ask("GET", "public/avatars/user_ada/avatar").content == PICTURE


def test_garbage_gets_an_error_and_changes_no_file(files: Files) -> None:
    files.upload("avatars/user_ada/avatar", "user_ada")
    answers = [
        *(
            files.ask("POST", path, "user_ada", content=PICTURE, headers={"content-type": "image/png"})
            for path in ("avatars/user_ada/%00", "avatars/user_ada/%FF", "%00/user_ada/avatar", "move")
        ),
        *(
            files.ask("DELETE", "avatars", "user_ada", content=body)
            for body in (b"", b"[]", b"\xff", b'{"prefixes": "user_ada/avatar"}')
        ),
        *(
            files.ask("POST", "list/avatars", "user_ada", content=body)
            for body in (b"", b'{"sortBy": 1}', b'{"sortBy": {"column": ["id"]}}', b'{"limit": "1"}')
        ),
        *(
            files.ask("PUT", "avatars/user_ada/avatar", "user_ada", content=b"--x", headers={"content-type": kind})
            for kind in ("multipart/form-data; boundary=x", "multipart/form-data", "image", "image/png/x")
        ),
    ]
    assert {answer.status_code for answer in answers} <= {400, 404, 500}
    assert all(answer.json()["message"] for answer in answers)
    assert files.ask("GET", "public/avatars/user_ada/avatar").content == PICTURE
