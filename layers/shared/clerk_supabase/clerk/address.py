"""The address of Clerk's Backend API, apart from the client, which takes a tenth of a second to load."""

from __future__ import annotations

from typing import Final

BASE_URL: Final = "https://api.clerk.com/v1"
