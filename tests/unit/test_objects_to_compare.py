"""The JSON of objects for compare(): in the shorter form where their columns are those of the first object."""

from __future__ import annotations

import json
from typing import Any

from clerk_supabase.model.changes import Changes, Upsert, changes_of_object
from clerk_supabase.postgres.batch import arrays_to_compare, with_page
from clerk_supabase_cli.standin import samples

_AT = 1_750_000_000_000


def test_an_array_has_the_id_the_version_and_the_values_in_the_order_of_the_columns() -> None:
    columns: dict[str, list[str]] = {}
    changes = _user("user_ada")

    arrays = arrays_to_compare(changes, columns)

    assert arrays is not None
    user, private = json.loads(arrays["user"]), json.loads(arrays["private_metadata"])
    assert user[:3] == private[:3] == ["user_ada", _AT, _AT + 7]
    assert dict(zip(columns["user"], user[3:], strict=True)) == _main(changes).content
    assert private[3 + columns["private_metadata"].index("private_metadata")] == {"plan": "pro"}


def test_an_object_with_other_columns_than_the_first_is_no_array() -> None:
    columns: dict[str, list[str]] = {}
    changes = _user("user_ada")
    main = _main(changes)
    shorter = changes._replace(main=main._replace(content=dict(list(main.content.items())[1:])))

    assert arrays_to_compare(changes, columns)
    assert arrays_to_compare(shorter, columns) is None
    assert arrays_to_compare(_user("user_eve"), columns)


def test_a_page_joins_the_argument_as_it_is_written() -> None:
    argument = '{"run":1}'
    assert json.loads(with_page(argument, ['{"id":"a"}', '{"id":"b"}'])) == {
        "run": 1,
        "page": [{"id": "a"}, {"id": "b"}],
    }
    arrays = {"user": ['["a",1]', '["b",2]'], "private_metadata": ['["a",3]']}
    assert json.loads(with_page(argument, [], arrays)) == {
        "run": 1,
        "page": [],
        "arrays": {"user": [["a", 1], ["b", 2]], "private_metadata": [["a", 3]]},
    }


def _user(user_id: str) -> Changes:
    body: Any = samples.user(user_id, created_at=_AT, updated_at=_AT, private_metadata={"plan": "pro"})
    return changes_of_object("user", json.dumps(body).encode(), _AT + 7, _AT, keep_private_metadata=True)


def _main(changes: Changes) -> Upsert:
    assert isinstance(changes.main, Upsert)
    return changes.main
