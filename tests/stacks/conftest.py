"""A first stack: tests of whole stacks run beside it, in the same emulated AWS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clerk_supabase_cli.local.stack import LocalStack


@pytest.fixture(scope="session")
def stack(root: Path) -> Iterator[LocalStack]:
    """The real template, deployed with the real SAM CLI; IAM is enforced."""
    with LocalStack(root) as deployed:
        yield deployed
