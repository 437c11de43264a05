"""HTTP without TLS to servers of the same machine."""

from __future__ import annotations

import ssl
from typing import Final

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""The argument `verify` of httpx, which otherwise reads all authorities of certificates for each client: 20 ms.

The context knows no authority, so that with TLS no server would be trusted.
"""
