"""Builds and deploys with SAM. The values of all parameters are sent, and no tracked file is rewritten."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.deployment.build.programs import Programs
from clerk_supabase_cli.operate.deployment.stack import failures
from clerk_supabase_cli.operate.queues import AwsUnreachable
from clerk_supabase_cli.operate.setup.management_http import ACCESS_TOKEN
from clerk_supabase_cli.operate.setup.stack_secrets import SECRETS
from clerk_supabase_cli.printing import printable
from clerk_supabase_cli.project import caches

_FOLDER: Final = ".aws-sam"
_SECRETS: Final = ("DATABASE_URL", ACCESS_TOKEN, *(kept.variable for kept in SECRETS))
"""Variables that no program of a build needs."""
_LAST_LINES: Final = 12
_MOST_REASONS: Final = 5
_CLOCKS_DIFFER: Final = timedelta(minutes=1)


class SamFailed(Failure):
    """SAM ended with an error."""

    has_lines: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Sam:
    """The SAM of a checkout, for one architecture of the functions."""

    root: Path
    programs: Programs
    architecture: str

    @property
    def built(self) -> Path:
        """The folder with the built template, functions and layer."""
        return self.root / _FOLDER / "build"

    def build(self) -> None:
        """Builds the functions and the layer. Raises SamFailed."""
        self._run(
            "build",
            f"--template={self.root / 'template.yaml'}",
            f"--build-dir={self.built}",
            f"--cache-dir={self._cache}",
            f"--parameter-overrides=Architecture={self.architecture}",
            "--cached",
            "--parallel",
        )

    def deploy(self, name: str, region: str, parameters: Mapping[str, str]) -> None:
        """Deploys the build, with the values of all parameters. Raises SamFailed with the reasons of CloudFormation."""
        began = datetime.now(UTC) - _CLOCKS_DIFFER
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as values:
            # A file needs no quoting, and `ps` shows no value. JSON is YAML, and SAM reads no file named .json here.
            json.dump(dict(parameters), values)
            values.flush()
            try:
                self._run(
                    "deploy",
                    f"--template={self.built / 'template.yaml'}",
                    f"--stack-name={name}",
                    f"--region={region}",
                    f"--s3-prefix={name}",
                    f"--parameter-overrides=file://{values.name}",
                    "--resolve-s3",
                    "--capabilities=CAPABILITY_IAM",
                    "--no-confirm-changeset",
                    "--no-fail-on-empty-changeset",
                    "--no-progressbar",
                )
            except SamFailed as error:
                raise _explained(error, name, began) from error

    def _run(self, command: str, *arguments: str) -> None:
        """Runs a command of SAM; its output is the log. Raises SamFailed with the end of the log."""
        log = self.root / _FOLDER / "logs" / f"{command}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="clerk-supabase-") as folder, log.open("wb") as output:
            # An empty configuration: samconfig.toml is for SAM alone.
            configuration = Path(folder) / "samconfig.toml"
            configuration.write_text("version = 0.1\n")
            done = subprocess.run(
                [self.programs.sam, command, f"--config-file={configuration}", *arguments],
                cwd=self.root,
                env=self._environment | {"TMPDIR": folder},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            last = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-_LAST_LINES:]
            raise SamFailed("\n".join([f"`sam {command}` failed; its log is {log}", *map(printable, last)]))

    @property
    def _environment(self) -> dict[str, str]:
        return {
            # A home folder may be read-only.
            "__SAM_CLI_APP_DIR": str(self.root / _FOLDER / "state"),
            **{name: value for name, value in os.environ.items() if name not in _SECRETS},
            "PATH": self.programs.search_path(),
            **caches(self.root),
            "SAM_CLI_TELEMETRY": "0",
        }

    @property
    def _cache(self) -> Path:
        """The cache of the builds for this layer: SAM's cache knows neither the platform nor the Python of a layer."""
        environment = self._environment
        platform = environment.get("LAYER_PLATFORM", self.architecture)
        kind = f"{platform}-{environment.get('LAYER_PYTHON', '')}"
        return self.root / _FOLDER / "cache" / kind.replace("/", "-")


def _explained(error: SamFailed, name: str, began: datetime) -> SamFailed:
    """The error with the reasons of CloudFormation, if it has any, instead of the log."""
    try:
        reasons = failures(name, began)
    except AwsUnreachable:
        return error
    if not reasons:
        return error
    first = str(error).partition("\n")[0].replace(" failed;", " failed, and CloudFormation rolled the stack back;", 1)
    return SamFailed("\n".join([first, *map(printable, reasons[:_MOST_REASONS])]))
