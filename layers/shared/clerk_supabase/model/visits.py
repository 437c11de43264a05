"""The waitlist and the sessions of an instance of Clerk, and the rows of their tables.

Source of the field names: https://github.com/clerk/openapi-specs (webhooks/2025-04-15, bapi/2026-05-12).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import BeforeValidator

from clerk_supabase.model.clerk_object import (
    ClerkObject,
    ClientText,
    Columns,
    Id,
    Lenient,
    Loss,
    Moment,
    Name,
    TolerantObject,
    YesOrNo,
    timestamp,
)
from clerk_supabase.model.facts import Kind
from clerk_supabase.model.users import User

_OVER: Final = frozenset({"ended", "removed", "revoked", "expired", "abandoned", "replaced"})
# Nothing of the value is kept.
_IsThere = Annotated[bool, BeforeValidator(lambda value: value is not None and value is not False)]


class WaitlistEntry(TolerantObject):
    """Clerk's WaitlistEntry without its invitation, which has a secret link: anybody with the link may sign up."""

    kind: ClassVar[Kind] = "waitlist_entry"

    email_address: ClientText = None
    status: Name = None
    is_locked: YesOrNo = False

    def columns(self) -> Columns:
        """The row of the table waitlist_entries."""
        return {
            "clerk_waitlist_entry_id": self.id,
            "email_address": self.email_address,
            "status": self.status,
            "is_locked": self.is_locked,
            "created_at": timestamp(self.created_at),
        }


class _Device(Lenient):
    """The device of a session, without its address, place and version, which would tell more than what it is."""

    device_type: Name = None
    browser_name: Name = None
    is_mobile: YesOrNo = False


class Session(TolerantObject):
    """Clerk's Session without the user, the client, the address and the place, and without the impersonating person.

    Times of the latest activity and the active organization stay out, too: both change without an event.
    """

    kind: ClassVar[Kind] = "session"

    user_id: Id
    status: Name = None
    actor: _IsThere = False
    latest_activity: Annotated[_Device | None, Loss.whole] = None
    expire_at: Moment = None
    abandon_at: Moment = None

    def columns(self) -> Columns:
        """The row of the table sessions."""
        device = self.latest_activity or _Device()
        return {
            "clerk_session_id": self.id,
            "clerk_user_id": self.user_id,
            "status": self.status,
            "active_until": timestamp(self._ends_at() if self.status == "active" else None),
            # Never before Clerk spoke of the session: an old moment would let housekeeping delete the row at once.
            "ends_at": timestamp(max(self._ends_at(), self.updated_at)),
            "is_impersonated": self.actor,
            "device_type": device.device_type,
            "browser_name": device.browser_name,
            "is_mobile": device.is_mobile,
            "created_at": timestamp(self.created_at),
        }

    def parents(self) -> tuple[ClerkObject, ...]:
        """The user, with the id alone: the user in the event may be missing, and is older than the user's own event."""
        return (User.stub(id=self.user_id, updated_at=0),)

    def _ends_at(self) -> int:
        """The moment at which the session ended or, of a session that goes on, will end without an event.

        Clerk ends a session at the earlier of its end and of its end without activity.
        """
        if self.status in _OVER:
            return self.updated_at
        return min((each for each in (self.expire_at, self.abandon_at) if each is not None), default=self.updated_at)
