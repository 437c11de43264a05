"""The template of a release: what `sam package` and `sam deploy` read, beside archives that are built already."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Final

import yaml  # type: ignore[import-untyped]
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

APPLICATION: Final = "AWS::ServerlessRepo::Application"
_PLACES: Final = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}


class _Plain(yaml.SafeDumper):  # type: ignore[misc]
    """YAML without anchors and merges, which CloudFormation does not read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class calls it so
        """Tells that each value is written where it is used."""
        return True


def released(template: str, architecture: str, page: str, version: str) -> str:
    """The template for one architecture, with the addresses that the Serverless Application Repository shows.

    The layer is built for one architecture, so the parameter allows no other. *page*: the address of the project.
    """
    content: dict[str, Any] = yaml_parse(template)
    for resource in content["Resources"].values():
        if place := _PLACES.get(resource["Type"]):
            resource["Properties"][place] = archive_of(resource["Properties"][place], architecture)
            resource.pop("Metadata", None)  # how to build the layer
    content["Parameters"]["Architecture"] |= {"AllowedValues": [architecture], "Default": architecture}
    content["Metadata"][APPLICATION] |= {
        "LicenseUrl": "LICENSE",
        "ReadmeUrl": "README.md",
        "HomePageUrl": page,
        "SourceCodeUrl": f"{page}/tree/v{version}",
    }
    written: str = yaml.dump(content, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)
    return written


def archive_of(folder: str, architecture: str) -> str:
    """The name of the archive of a folder that the template names: `functions/ingest`, or `layers/shared`."""
    path = PurePosixPath(folder)
    return f"function-{path.name}.zip" if path.parts[0] == "functions" else f"layer-{architecture}.zip"
