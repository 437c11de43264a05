"""The message of the tier on a machine without a container engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_where_no_engine_can_be_had_the_tier_says_so_and_passes(root: Path, tmp_path: Path) -> None:
    # Of an unprivileged container, root has not the right to mount.
    without_the_right = ["setpriv", "--bounding-set", "-sys_admin"] if os.geteuid() == 0 else []

    tier = subprocess.run(
        [
            *without_the_right,
            sys.executable,
            "-m",
            "pytest",
            "tests/sam_local/test_develop.py",
            "-p",
            "no:cacheprovider",
        ],
        cwd=root,
        env={**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "SAM LOCAL WAS NOT TESTED: no engine answers, and " in tier.stdout
    assert " passed" not in tier.stdout
    assert tier.returncode == 0
