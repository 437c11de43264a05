"""The architecture for which a layer was built, read from its compiled modules."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from clerk_supabase_cli.failure import Failure

# https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html: e_machine, two bytes at offset 18.
_MACHINES: Final = {62: "x86_64", 183: "arm64"}
_MAGIC: Final = b"\x7fELF"
_HEADER_BYTES: Final = 20


class LayerDoesNotFit(Failure):
    """The layer was built for another processor than the functions have: no import would succeed."""


def check_architecture(layer: Path, wanted: str) -> None:
    """Raises LayerDoesNotFit unless the compiled modules of the layer are of the wanted architecture."""
    found = {architecture for module in layer.rglob("*.so*") if (architecture := _architecture(module))}
    if found != {wanted}:
        raise LayerDoesNotFit(
            f"the layer was built for {' and '.join(sorted(found)) or 'another system than Linux'}, and the parameter "
            f"Architecture is {wanted}: unset LAYER_PLATFORM, remove {layer.parents[1]}, and run this again"
        )


def _architecture(file: Path) -> str:
    """The architecture of a compiled module; empty for another file."""
    if not file.is_file():
        return ""
    with file.open("rb") as content:
        header = content.read(_HEADER_BYTES)
    if not header.startswith(_MAGIC):
        return ""
    return _MACHINES.get(int.from_bytes(header[18:20], "little"), "another processor")
