"""The pages and their actions."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from clerk_supabase.errors import ClerkSupabaseError
from clerk_supabase_cli.console.actions import discard_event, replay_event
from clerk_supabase_cli.console.hub import Hub
from clerk_supabase_cli.console.rendering import Rendering
from clerk_supabase_cli.console.wanted import Wanted
from clerk_supabase_cli.console.watch import Watch
from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.operate.comparing import NoSuchRun, details_of, open_runs
from clerk_supabase_cli.operate.database import open_database
from clerk_supabase_cli.operate.monitor.explain import Entity, Moment, UnknownId, is_event, object_of_event, timeline
from clerk_supabase_cli.operate.parked import NoSuchEvent, body_as_text, read

_STATIC: Final = Path(__file__).with_name("static")
_FIRST_LOOK_SECONDS: Final = 0.7
_BEAT_SECONDS: Final = 10.0
"""Seconds after which an empty message is sent, so that both sides notice a lost connection."""
_MOMENTS: Final = 1000
_FINDINGS: Final = 500
_LONGEST_ID: Final = 255
_READ_ONLY: Final = "read-only: start the console with --write"


class Pages:
    """The handlers of requests. The application `app` needs a Guard in front."""

    def __init__(self, wanted: Wanted, hub: Hub, rendering: Rendering, watch: Watch, folder: str) -> None:
        """*folder*: the path of all pages."""
        self._wanted = wanted
        self._hub = hub
        self._rendering = rendering
        self._watch = watch
        self._is_over = False
        routes = [
            Route("/", self._show),
            Route("/stream", self._stream),
            Route("/timeline", self._timeline),
            Route("/run", self._run),
            Route("/parked", self._parked),
            Route("/body", self._body, methods=["POST"]),
            Route("/replay", self._replay, methods=["POST"]),
            Route("/discard", self._discard, methods=["POST"]),
            Route("/doctor", self._doctor, methods=["POST"]),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ]
        self.app = Starlette(routes=[Mount(folder.rstrip("/"), routes=routes)], lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._watch.start()
        yield
        await run_in_threadpool(self._watch.stop)

    def end(self) -> None:
        """Ends the streams, which would keep the server from ending."""
        self._is_over = True
        self._hub.wake()

    # Pages

    async def _show(self, request: Request) -> Response:
        self._hub.touch()
        await run_in_threadpool(self._watch.wait_for_first_look, _FIRST_LOOK_SECONDS)
        version, panels, rows = self._hub.everything()
        notice = request.query_params.get("notice", "")
        return HTMLResponse(self._rendering.page(version, panels, rows, notice))

    async def _stream(self, request: Request) -> Response:
        """Server-sent events: what is newer than the browser's version, for as long as the browser stays."""
        asked = request.headers.get("last-event-id") or request.query_params.get("after", "")
        version = int(asked) if asked.isdecimal() and len(asked) < 16 else 0

        async def messages() -> AsyncIterator[str]:
            now = version
            # The first words open the connection at once.
            yield "retry: 2000\n\n"
            while not self._is_over:
                self._hub.touch()
                for message in self._hub.after(now):
                    now = message.version
                    yield message.as_text()
                await self._hub.wait(now, _BEAT_SECONDS)
                yield ": still here\n\n"

        return StreamingResponse(messages(), media_type="text/event-stream")

    def _timeline(self, request: Request) -> Response:
        clerk_id = request.query_params.get("id", "").strip()[:_LONGEST_ID]
        problem, status = "", 200
        entities: Sequence[Entity] = []
        moments: Sequence[Moment] = []
        try:
            self._watch.require_answers()
            if is_event(clerk_id) and (found := object_of_event(self._wanted.database_url, clerk_id)):
                return RedirectResponse(f"timeline?id={quote(found, safe='')}", 303)
            entities, moments = timeline(self._wanted.database_url, clerk_id)
        except (Failure, ClerkSupabaseError) as error:
            problem, status = str(error), _status(error)
        return self._sheet(
            "timeline.html",
            status,
            clerk_id=clerk_id,
            problem=problem,
            entities=entities,
            moments=moments[-_MOMENTS:],
            left_out=max(0, len(moments) - _MOMENTS),
        )

    def _run(self, request: Request) -> Response:
        asked = request.query_params.get("id", "")
        run_id = int(asked) if asked.isdecimal() and len(asked) < 16 else 0
        try:
            self._watch.require_answers()
            with open_runs(self._wanted.database_url) as runs:
                details = details_of(runs, run_id, limit=_FINDINGS)
        except NoSuchRun:
            return self._sheet("run.html", 404, run_id=run_id, details=None, problem="There is no such run.")
        except (Failure, ClerkSupabaseError) as error:
            return self._sheet("run.html", 503, run_id=run_id, details=None, problem=str(error))
        return self._sheet("run.html", run_id=run_id, details=details, problem="")

    def _parked(self, request: Request) -> Response:
        return self._event(request.query_params.get("id", ""), with_body=False)

    def _body(self, request: Request) -> Response:
        return self._event(request.state.form.get("id", ""), with_body=True)

    def _event(self, svix_id: str, *, with_body: bool) -> Response:
        svix_id = svix_id[:_LONGEST_ID]
        try:
            self._watch.require_answers()
            with open_database(self._wanted.database_url) as connection:
                event, body = read(connection, svix_id)
        except (Failure, ClerkSupabaseError) as error:
            return self._sheet("event.html", _status(error), svix_id=svix_id, event=None, body=None, problem=str(error))
        text = body_as_text(body) if with_body and body is not None else None
        return self._sheet("event.html", svix_id=svix_id, event=event, body=text, problem="")

    # Actions

    def _replay(self, request: Request) -> Response:
        return self._act(lambda svix_id: replay_event(self._wanted.database_url, self._wanted.queues, svix_id), request)

    def _discard(self, request: Request) -> Response:
        return self._act(lambda svix_id: discard_event(self._wanted.database_url, svix_id), request)

    def _act(self, action: Callable[[str], str], request: Request) -> Response:
        if not self._rendering.about.can_write:
            return HTMLResponse(_READ_ONLY, 403)
        try:
            said = action(request.state.form.get("id", ""))
        except (Failure, ClerkSupabaseError) as error:
            said = str(error)
        self._watch.look_now()
        return RedirectResponse(f"./?notice={quote(said)}", 303)

    def _doctor(self, _: Request) -> Response:
        self._watch.ask_doctor()
        return RedirectResponse("./", 303)

    def _sheet(self, template: str, status: int = 200, **facts: object) -> Response:
        return HTMLResponse(self._rendering.sheet(template, **facts), status)


def _status(error: Exception) -> int:
    return 404 if isinstance(error, (UnknownId, NoSuchEvent)) else 503
