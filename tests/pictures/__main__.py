"""`make pictures`: takes and draws all pictures of the documents.

The recordings and the numbers of the dashboard are taken from a stack on this machine, the pages by Chromium. A
recording that differs from the stored one only in times and ids is dropped, so that a changed picture means a changed
program; delete a file to have it taken anew.
"""

from __future__ import annotations

import logging
import subprocess
import sys

import click

from tests.browser.conftest import NOT_INSTALLED, installed_browser
from tests.infrastructure.dashboard import widgets
from tests.infrastructure.template import Template
from tests.pictures.casts import Cast
from tests.pictures.dashboard import Numbers, shown_by
from tests.pictures.measuring import measure
from tests.pictures.recording import CommandFailed
from tests.pictures.sources import DASHBOARD, FOLDER, ROOT, drawn, picture_of, sources
from tests.pictures.stories import play, record_demo, record_explain, recorded_dev, tells_the_same


@click.command()
@click.option("--draw", is_flag=True, help="Only draw: from the recordings and numbers that are there.")
def main(*, draw: bool) -> None:
    """Take and draw all pictures of the documents."""
    # The translator of SAM says which of its features are off.
    logging.disable(logging.WARNING)
    if not draw and installed_browser() is None:
        raise click.ClickException(f"{NOT_INSTALLED}; `make pictures ARGS=--draw` needs none")
    template = Template(ROOT)
    if not draw:
        try:
            _record(template)
        except CommandFailed as error:
            raise click.ClickException(str(error)) from error
    for source in sources():
        picture_of(source).write_text(drawn(source, template), encoding="utf-8")
        click.echo(picture_of(source).relative_to(ROOT))
    if not draw:
        pages = [sys.executable, "-m", "pytest", "tests/browser", "--pictures", "-q"]
        sys.exit(subprocess.run(pages, cwd=ROOT, check=False).returncode)


def _record(template: Template) -> None:
    with recorded_dev(ROOT) as (dev, stack):
        play(ROOT, stack, dev)
        _keep("dev", dev.cast)
        _keep("explain", record_explain(ROOT, stack))
        keys = shown_by(widgets(template))
        if not DASHBOARD.exists() or Numbers.of(DASHBOARD.read_text(encoding="utf-8")).values.keys() != keys:
            DASHBOARD.write_text(measure(ROOT, stack, keys).written(), encoding="utf-8")
    _keep("demo", record_demo(ROOT))


def _keep(name: str, cast: Cast) -> None:
    """Writes a recording, unless the stored recording tells the same."""
    file = FOLDER / f"{name}.cast"
    if not file.exists() or not tells_the_same(cast, Cast.of(file.read_text(encoding="utf-8"))):
        file.write_text(cast.written(), encoding="utf-8")


if __name__ == "__main__":
    main()
