"""The browsers that the stand-in knows, each with its sessions and its present attempts to sign in and sign up."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

from clerk_supabase_cli.standin.backend.rejections import Rejection, not_found
from clerk_supabase_cli.standin.samples import Json


def now_ms() -> int:
    """The present time in milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Session:
    """A signed-in user in a browser."""

    user_id: str
    organization_id: str | None = None
    """The active organization."""
    id: str = field(default_factory=lambda: f"sess_{secrets.token_hex(13)}")
    created_at: int = field(default_factory=now_ms)


@dataclass(slots=True)
class Attempt:
    """An attempt to sign in or to sign up."""

    id: str
    fields: Json = field(default_factory=dict)
    """The values that the person has entered, without the password."""
    password: str = ""
    user: Json | None = None
    session_id: str | None = None
    """The session that the attempt ended in."""
    has_code: bool = False
    """True: a code was sent."""


@dataclass(slots=True)
class Client:
    """A browser, which a cookie names."""

    id: str = field(default_factory=lambda: f"client_{secrets.token_hex(13)}")
    created_at: int = field(default_factory=now_ms)
    sessions: list[Session] = field(default_factory=list)
    sign_in: Attempt | None = None
    sign_up: Attempt | None = None
    signed_in_at: int = 0
    """The moment of the latest sign-in, in seconds; 0: nobody is signed in."""

    def begin(self, user_id: str) -> Session:
        """Signs a user in; an earlier user is signed out."""
        self.sessions = [Session(user_id)]
        # Not newer than any token: a token older than the sign-in would be renewed by a redirect.
        self.signed_in_at = int(time.time())
        self.sign_in = self.sign_up = None
        return self.sessions[0]

    def end(self) -> None:
        """Signs everybody out."""
        self.sessions, self.signed_in_at = [], 0

    def session(self, session_id: str) -> Session:
        """A session by its id. Raises Rejection."""
        for each in self.sessions:
            if each.id == session_id:
                return each
        raise not_found()

    def the_session(self) -> Session:
        """The only session. Raises Rejection if nobody is signed in."""
        if not self.sessions:
            raise Rejection(401, "authentication_invalid", "Unable to authenticate the request.")
        return self.sessions[0]
