"""Password hashes of Supabase Auth, in the form of Clerk's import."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_BCRYPT: Final = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}", re.ASCII)
_ARGON: Final = re.compile(r"\$(argon2id?)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+", re.ASCII)
_FIREBASE: Final = re.compile(
    r"\$fbscrypt\$v=1,n=(?P<cost>\d+),r=(?P<rounds>\d+),p=1,ss=(?P<separator>[^,$]+),sk=(?P<key>[^,$]+)"
    r"\$(?P<salt>[A-Za-z0-9+/=_-]+)\$(?P<hash>[A-Za-z0-9+/=_-]+)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Password:
    """A digest and the name of its hasher, as `POST /v1/users` of Clerk takes both."""

    digest: str
    hasher: str

    def __repr__(self) -> str:
        return f"Password({self.hasher})"


def password_of(encrypted: str) -> Password | None:
    """The password for Clerk; None for a damaged hash, or a hash unknown to Clerk."""
    if _BCRYPT.fullmatch(encrypted):
        return Password(encrypted, "bcrypt")
    if argon := _ARGON.fullmatch(encrypted):
        return Password(encrypted, argon[1])
    if firebase := _FIREBASE.fullmatch(encrypted):
        parts = ("hash", "salt", "key", "separator", "rounds", "cost")
        return Password("$".join(firebase[part] for part in parts), "scrypt_firebase")
    return None
