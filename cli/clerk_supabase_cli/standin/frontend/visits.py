"""One request of an app's page to the Frontend API, with the browser that sent the request."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from clerk_supabase_cli.standin.backend.rejections import Rejection, not_found
from clerk_supabase_cli.standin.frontend import shapes
from clerk_supabase_cli.standin.frontend.clients import Attempt, Client, Session
from clerk_supabase_cli.standin.frontend.people import People
from clerk_supabase_cli.standin.samples import Json
from clerk_supabase_cli.standin.token_mint import Mint

CODE = "424242"
"""The only valid one-time code: Clerk's own code for test addresses."""


@dataclass(slots=True)
class Visit:
    """A request, and all that its answer depends on."""

    people: People
    mint: Mint
    client: Client
    origin: str
    """The origin of the app's page, which becomes `azp` in tokens."""
    form: Mapping[str, str]
    lifetime: int
    """Of tokens, in seconds."""

    def token(self, session: Session) -> str:
        """A new token of the session, for its active organization."""
        organization = self.people.organization_in_token(session.user_id, session.organization_id)
        payer_id = organization.id if organization else session.user_id
        plans, features = self.people.instance.entitled(payer_id)
        return self.mint.session(
            session.user_id,
            organization,
            lifetime=self.lifetime,
            sid=session.id,
            azp=self.origin,
            plans=plans,
            features=features,
        )

    def session_json(self, session: Session) -> Json:
        """The session as clerk-js reads it. Raises Rejection for a user whose sessions have ended."""
        user = self.people.user(session.user_id)
        if user is None:
            raise not_found()
        return shapes.session(session, user, self.people.memberships(session.user_id), self.token(session))

    def client_json(self) -> Json:
        """The browser; sessions of deleted and banned users have ended."""
        self.client.sessions = [each for each in self.client.sessions if self.people.user(each.user_id)]
        if not self.client.sessions:
            self.client.end()
        return shapes.client(self.client, [self.session_json(each) for each in self.client.sessions])

    def check_code(self, attempt: Attempt) -> None:
        """Raises Rejection for a wrong one-time code."""
        if not attempt.has_code or not secrets.compare_digest(self.form.get("code", "").encode(), CODE.encode()):
            raise Rejection(422, "form_code_incorrect", "Incorrect code", "code")


Handler = Callable[..., Json]
"""Called with the visit and the ids of the path; returns the response."""
Routes = Mapping[tuple[str, str], Handler]
"""Handlers by method and path, with `{id}` for an id."""
