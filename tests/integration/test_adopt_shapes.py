"""`adopt inspect` and `adopt compare` on the tables of apps that exist."""

from __future__ import annotations

import pytest

from tests.kit.app_shapes import SHAPES, Shape, person
from tests.kit.databases import Connection


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest, admin: Connection) -> Shape:
    """The tables of an app."""
    found: Shape = request.param
    found.install(admin)
    return found


def count(admin: Connection, shape: Shape) -> int:
    return int(admin.execute(f"select count(*) from {shape.table}".encode()).fetchall()[0][0])  # noqa: S608


def test_the_old_handler_of_a_shape_writes_and_deletes_a_user(shape: Shape, admin: Connection) -> None:
    if not shape.table:
        return
    before = count(admin, shape)
    for user in ("user_ada", "user_bo", "user_bo"):
        shape.old_upsert(admin, person(user))
    assert count(admin, shape) == before + 1
    shape.old_delete(admin, "user_bo")
    assert count(admin, shape) == before
