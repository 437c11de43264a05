"""Credentials: connection strings and keys, and the question for a newer value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class Credential(Protocol):
    """A secret, which can be asked for a newer value after the other side has rejected the present value."""

    @property
    def source(self) -> str:
        """The name of the secret or of the variable, for errors."""
        ...

    def value(self) -> str:
        """The present value."""
        ...

    def changed(self) -> bool:
        """Looks for a newer value. True: `value()` returns another value than before."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """A credential whose value never changes."""

    text: str = field(repr=False)
    source: str = "a fixed credential"

    def value(self) -> str:
        """The only value."""
        return self.text

    def changed(self) -> bool:
        """False: there is no newer value."""
        return False
