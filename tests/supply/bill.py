"""`make sbom`: the bill of materials of the layer made by `sam build`, as CycloneDX JSON."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from clerk_supabase_cli.local.tools import Tools
from clerk_supabase_cli.project import find_root

BUILT: Final = Path(".aws-sam/build/SharedLayer")


def write_bill(root: Path, layer: Path, bill: Path) -> None:
    """The content of the layer, as built and not as planned. The same layer gives the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        # An environment that holds nothing but the layer: the tool must not load what it looks at, which is for
        # another processor.
        environment = Path(folder, "environment")
        _run([str(Tools.of(root).uv), "venv", "--quiet", "--python", sys.executable, str(environment)])
        [site] = environment.glob("lib/python3*/site-packages")
        (site / "layer.pth").write_text(f"{layer.resolve() / 'python'}\n", encoding="utf-8")
        _run(
            [
                *(str(root / ".tools/audit/bin/cyclonedx-py"), "environment", str(environment)),
                *("--pyproject", str(root / "layers/shared/pyproject.toml"), "--mc-type", "library"),
                *("--output-reproducible", "--output-format", "JSON", "--output-file", str(bill)),
            ]
        )


def _run(command: list[str]) -> None:
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if ran.returncode:
        raise click.ClickException(f"{Path(command[0]).name} failed: {ran.stderr.strip()}")


@click.command()
@click.option("--layer", type=click.Path(file_okay=False, path_type=Path), help=f"Default {BUILT}.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Default beside the layer.")
def main(layer: Path | None, output: Path | None) -> None:
    """Writes the bill beside the layer; the next `sam build` removes both."""
    root = find_root(Path(__file__).parent)
    layer = layer or root / BUILT
    if not (layer / "python").is_dir():
        raise click.ClickException(f"there is no layer in {layer}: run `sam build` first")
    output = output or layer.with_suffix(".cdx.json")
    write_bill(root, layer, output)
    click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
