"""`make release`: checks a commit, builds everything that is published, and prints the commands that publish it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.local.processes import Guard
from clerk_supabase_cli.operate.deployment.build.programs import ProgramMissing, Programs
from clerk_supabase_cli.project import find_root
from tests.supply.bill import write_bill
from tests.supply.release import artifacts
from tests.supply.release.artifacts import ARCHITECTURES, SUMS, BuildFailed, Inputs
from tests.supply.release.readiness import git, page_of, problems, version_of, wrong_python


@click.command()
@click.option("--passed", default="", metavar="COMMIT", help="The commit that CI tested elsewhere, at least 7 digits.")
@click.option(
    "--page", default="", metavar="URL", help="The page of the project. Default: that of the remote `origin`."
)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Default: dist/<version>.")
def main(passed: str, page: str, output: Path | None) -> None:
    """Builds a release of the commit that is checked out. Without a problem the folder is written anew."""
    root = find_root(Path(__file__).parent)
    page = (page or page_of(_origin(root))).rstrip("/")
    output = (output or root / "dist" / version_of(root)).resolve()
    reasons = problems(root, passed)
    try:
        programs = Programs.found(root)
        reasons += wrong_python(artifacts.python_version(programs.python))
    except ProgramMissing as error:
        reasons.append(str(error))
    if not page.startswith("https://"):
        reasons.append("no page of the project is known: make release PAGE=https://...")
    if not may_replace(output):
        reasons.append(f"{output} holds something else than a release: name another folder")
    if reasons:
        raise click.ClickException("no release:\n" + "\n".join(f"- {reason}" for reason in reasons))
    try:
        inputs = Inputs.of(root, page, programs.python)
        build(root, programs, inputs, output)
    except (BuildFailed, Failure) as error:
        raise click.ClickException(str(error)) from error
    click.echo((output / SUMS).read_text(encoding="utf-8"), nl=False)
    click.echo("\n".join(["", f"written to {output}; with accounts, publish it:", "", *commands(inputs, output)]))


def build(root: Path, programs: Programs, inputs: Inputs, output: Path) -> None:
    """Makes all files, and then puts them in the place of an earlier release.

    However this process ends, no scratch folder is left, and *output* holds a whole release or none.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with Guard() as guard:
        scratch = guard.folder("clerk-supabase-release-")
        source, made = scratch / "source", guard.folder(f".{output.name}-", inside=output.parent) / "made"
        artifacts.export(root, inputs.commit, source)
        made.mkdir()
        layers = {name: scratch / name for name in ARCHITECTURES}
        for architecture, layer in layers.items():
            click.echo(f"building the layer for {architecture}", err=True)
            artifacts.build_layer(source, layer, architecture, programs, guard)
            write_bill(root, layer, made / f"layer-{architecture}.cdx.json")
        artifacts.write(source, layers, inputs, made)
        if output.exists():
            output.replace(made.with_name("earlier"))
        made.replace(output)


def may_replace(folder: Path) -> bool:
    """Tells whether a folder is missing or empty, or holds an earlier release."""
    return not folder.exists() or (folder.is_dir() and ((folder / SUMS).is_file() or not any(folder.iterdir())))


def commands(inputs: Inputs, output: Path) -> Iterator[str]:
    """The commands that publish a release: the tag, the files, the command, the application.

    The tag is for the commit that was built, whatever was committed meanwhile.
    """
    version = inputs.version
    files = sorted(each.name for each in output.iterdir())
    [wheel] = (name for name in files if name.endswith(".whl"))
    yield f'git tag -s v{version} -m "{version}" {inputs.commit}'
    yield f"git push origin v{version}"
    yield f"cd {shlex.quote(str(output))}"
    yield f"sha256sum -c {SUMS}"
    yield f"gh release create v{version} --verify-tag --title {version} --notes-file NOTES.md {' '.join(files)}"
    yield f"uv publish {wheel}"
    yield "sam package --template-file template-arm64.yaml --s3-bucket <bucket> --output-template-file packaged.yaml"
    yield "sam publish --template packaged.yaml --region us-east-1 --fail-on-same-version"


def _origin(root: Path) -> str:
    return git(root, "remote", "get-url", "origin") if "origin" in git(root, "remote").split() else ""


if __name__ == "__main__":
    main()
