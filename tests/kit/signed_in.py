"""Claims of a signed-in user, as if the token had been verified."""

from __future__ import annotations

import json
from typing import Any

from clerk_supabase.tokens.claims import Claims, Organization, session_claims
from clerk_supabase_cli.standin.token_mint import Mint
from tests.kit.tokens import KEY

_MINT = Mint(KEY)


def claims_of(user_id: str, organization: Organization | None = None, **changes: Any) -> Claims:
    """The claims of a session token; *changes* as in Mint.session()."""
    return session_claims(json.dumps(_MINT.payload(user_id, organization, **changes)).encode())
