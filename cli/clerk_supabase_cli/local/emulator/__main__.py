"""`python -m clerk_supabase_cli.local.emulator SOCKET`: MiniStack behind the gate, on an inherited socket.

MiniStack's own Python runs this module. Gate and emulator are a single process with a single socket, so no way leads
around the gate.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import os
import resource
import secrets
import sys
from typing import Any

from hypercorn.asyncio import serve  # type: ignore[import-not-found]  # only MiniStack's environment has it
from hypercorn.config import Config  # type: ignore[import-not-found]
from hypercorn.protocol.h11 import H11Protocol  # type: ignore[import-not-found]
from ministack.core import iam_evaluator, lambda_runtime  # type: ignore[import-not-found]

from clerk_supabase_cli.local.emulator.gate import Gate
from clerk_supabase_cli.local.emulator.layers import extracting_once
from clerk_supabase_cli.local.emulator.translation import with_values


def main() -> None:
    """Serves until the process is ended."""
    # The emulator passes its environment to every function, but only the import of the gate needs this variable.
    del os.environ["PYTHONPATH"]
    _believe_only(os.environ["AWS_ACCESS_KEY_ID"])
    _draw_the_keys_of_functions()
    _speak_only_http_1()
    _replace(lambda_runtime, "zipfile", extracting_once())
    from ministack import app as ministack  # type: ignore[import-not-found]  # noqa: PLC0415 - takes over what was replaced

    _translate_as_aws_does(ministack)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    config = Config()
    config.bind = [f"fd://{sys.argv[1]}"]
    config.keep_alive_timeout = 75
    account = os.environ["MINISTACK_ACCOUNT_ID"]
    asyncio.run(serve(Gate(ministack.app, knows=lambda key: _is_known(key, account)), config))


def _is_known(access_key: str, account: str) -> bool:
    return isinstance(iam_evaluator.resolve_credential(access_key, account), iam_evaluator.ResolvedCredential)


def _believe_only(root: str) -> None:
    """Accepts a single key of the root user, and only with its signature.

    MiniStack itself also accepts `test`, any twelve digits, or no key at all, as the root user, and never checks a
    signature.
    """
    _replace(iam_evaluator, "is_root_access_key", lambda key: hmac.compare_digest(key.encode(), root.encode()))
    # MiniStack asks only in order to skip the check of the signature.
    _replace(iam_evaluator, "_is_root_key", lambda _: False)


def _draw_the_keys_of_functions() -> None:
    """Makes the credentials of functions secret: MiniStack alone derives them from the names of function and role."""
    salt = secrets.token_hex(16)
    derive = lambda_runtime.execution_credentials

    def execution_credentials(config: dict[str, Any]) -> Any:
        path, _, name = config["Role"].rpartition("/")
        return derive({**config, "Role": f"{path}/{salt}/{name}"})

    _replace(lambda_runtime, "execution_credentials", execution_credentials)


def _speak_only_http_1() -> None:
    """Rejects HTTP/2, whose pseudo-headers could name another host."""

    async def stay(*_: Any) -> None:
        """Does nothing."""

    _replace(H11Protocol, "_check_protocol", stay)


def _translate_as_aws_does(ministack: Any) -> None:
    """Corrects the translation of templates when MiniStack loads CloudFormation, which the start need not wait for."""
    load = vars(ministack)["_get_module"]

    def get_module(name: str) -> Any:
        module = load(name)
        if name == "cloudformation":
            _correct_the_translation()
        return module

    _replace(ministack, "_get_module", get_module)


@functools.cache
def _correct_the_translation() -> None:
    from ministack.services.cloudformation import (  # type: ignore[import-not-found]  # noqa: PLC0415
        changesets,
        engine,
        handlers,
    )

    translate, values = (vars(engine)[name] for name in ("_apply_transforms", "_transform_parameters"))
    for module in (changesets, handlers):
        _replace(module, "_apply_transforms", with_values(translate, values))


def _replace(module: Any, name: str, replacement: Any) -> None:
    if not hasattr(module, name):
        raise AttributeError(f"{module.__name__} has no {name}: this is another MiniStack than the one that is pinned")
    setattr(module, name, replacement)


if __name__ == "__main__":
    main()
