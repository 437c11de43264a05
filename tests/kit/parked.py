"""Events, parked by the real code, and the command for parked events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from click.testing import CliRunner, Result

from clerk_supabase.model.envelope import Envelope, ParkedEvent, ReasonClass
from clerk_supabase.postgres.store import Store
from clerk_supabase_cli.main import commands
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.samples import Json
from tests.kit.histories import CREATED_AT, RECEIVED_AT


def created(user_id: str = "user_1", **fields: Any) -> Json:
    """The event of a new user."""
    user = samples.user(user_id, created_at=CREATED_AT, updated_at=CREATED_AT, **fields)
    return samples.event("user.created", user, timestamp=CREATED_AT)


def park(
    store: Store,
    svix_id: str = "msg_1",
    event: Json | bytes | None = None,
    *,
    reason_class: ReasonClass = "refused",
    reason: str = "Postgres refuses the data",
    attempts: int = 0,
) -> None:
    """Parks one event; without a body, the event of a new user."""
    body = event if isinstance(event, bytes) else json.dumps(event or created()).encode()
    store.park([ParkedEvent(Envelope(svix_id, body, RECEIVED_AT, attempts), reason_class, reason)])


# Variables of the caller, from which a command would learn more than the test says.
_VARIABLES: Final = (
    *("DATABASE_URL", "CLERK_SUPABASE_STACK", "AWS_PROFILE", "AWS_ENDPOINT_URL"),
    *("SUPABASE_URL", "SUPABASE_ACCESS_TOKEN"),
)


@dataclass
class Command:
    """`clerk-supabase` with an environment of its own, and nothing of the caller's."""

    environment: dict[str, str | None] = field(default_factory=dict)

    def run(self, *arguments: str, answer: str = "", status: int | None = 0) -> Result:
        """Runs the command; `answer` is typed at its question. Fails unless the command ends with the status.

        status None: any.
        """
        unset = dict.fromkeys(_VARIABLES)
        result = CliRunner().invoke(commands, arguments, input=answer, env={**unset, **self.environment})
        assert status in (None, result.exit_code), result.output + repr(result.exception)
        return result

    def json(self, *arguments: str, status: int = 0) -> Any:
        """The output of the command with --json."""
        return json.loads(self.run(*arguments, "--json", status=status).stdout)

    def listed(self, *filters: str) -> list[str]:
        """The svix ids of `parked list`, last parked first."""
        return [event["svix_id"] for event in self.json("parked", "list", *filters)["events"]]

    def states(self) -> dict[str, str]:
        """The state of every parked event, past or present, by svix id."""
        events: Sequence[Json] = self.json("parked", "list", "--state", "all")["events"]
        return {event["svix_id"]: event["state"] for event in events}
