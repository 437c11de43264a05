"""adopt.toml: what is read, what is rejected, and with which sentence."""

from __future__ import annotations

import json

import pytest

from clerk_supabase_cli.adopt.mapping import MappingWrong, fault_of_expression, parse_mappings

WHOLE = """
[organization_memberships]
table = "public.members"
key = { user_id = "(select u.id from public.users as u)", organization_id = "mirror.clerk_org_id" }
on_delete = "delete"

[users]
table = 'public."User"'
key = "clerkUserId"
on_insert = { username = "coalesce(mirror.username, mirror.clerk_id)" }
update = ["email", "first_name"]
on_delete = { clear = ["email"] }
guard = true
"""


def test_a_mapping_becomes_the_json_that_the_database_takes() -> None:
    users, members = (json.loads(json.dumps(each.as_json())) for each in parse_mappings(WHOLE))
    assert users == {
        "kind": "user",
        "table": 'public."User"',
        "key": {"clerkUserId": "mirror.clerk_id"},
        "insert": True,
        "on_insert": {"username": "coalesce(mirror.username, mirror.clerk_id)"},
        "update": {"email": "mirror.email", "first_name": "mirror.first_name"},
        "on_delete": {"clear": ["email"]},
        "guard": True,
    }
    assert (members["kind"], members["on_delete"], members["update"]) == ("membership", "delete", {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[users", "is not valid TOML"),
        ("", "no table is mapped"),
        ("users = 1", "write [users] on a line of its own"),
        ("[user]\ntable = 'a'\nkey = 'b'", "did you mean users?"),
        ("[users]\nkey = 'b'", "table is missing"),
        ("[users]\ntable = 'a'", "key is missing"),
        ("[users]\ntable = 'a'\nkey = {}", "key is missing"),
        ("[users]\ntable = 'a'\nkey = 'b'\nupdated = []", "unknown field updated (did you mean update?)"),
        ("[users]\ntable = 'a'\nkey = 'b'\nupdate = 'email'", "a list of columns"),
        ("[users]\ntable = 'a'\nkey = 'b'\nupdate = [1, ['a']]", "update.1: an SQL expression in quotes"),
        ("[users]\ntable = 'a'\nkey = 'b'\nupdate = ['a', 'a']", "update names a more than once"),
        ("[users]\ntable = 'a'\nkey = 'b'\nupdate = ['b']", "update.b: the key is not mapped a second time"),
        ("[users]\ntable = 'a'\nkey = 'b'\nupdate = ['c']\non_insert = {c = '1'}", "c is in on_insert and in update"),
        ("[users]\ntable = 'a'\nkey = 'b'\non_insert = {c = 'TODO: a name'}", "on_insert.c is still to do"),
        ("[users]\ntable = 'a'\nkey = 'b'\non_delete = 'cascade'", 'on_delete is "keep", "delete" or'),
        ("[users]\ntable = 'a'\nkey = 'b'\non_delete = {clear = ['b']}", "on_delete.clear names b"),
        ("[users]\ntable = 'a'\nkey = 'b'\nguard = true", "update names none"),
        ("[users]\ntable = 'a'\nkey = 'b'\nguard = 'yes'", "guard is true or false"),
    ],
)
def test_a_wrong_mapping_is_rejected_with_the_fault(text: str, said: str) -> None:
    with pytest.raises(MappingWrong) as rejected:
        parse_mappings(text)
    assert said in str(rejected.value)


@pytest.mark.parametrize(
    "text",
    [
        *("mirror.email", "'a;b' || mirror.email", 'mirror."a)b"', "(select ')--')", "$$;)$$ || $a$ $$ ; $a$"),
        *(r"e'\';' || 'x'", r"e'\'; drop table users; --'", r"'\' || 'x'", "array[1, 2]", "a -> 'b' - 1"),
    ],
)
def test_one_expression_is_taken(text: str) -> None:
    assert not fault_of_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        *("1; drop table users", "1) union select (2", "1 -- x", "1 /* x", "'a", 'mirror."a', "$$ a", "((1)"),
        *(
            r"e'\\'; drop table users",
            "'a' || '''",
            "1]",
            "a$b$; drop table users; $b$",
            "😀$$; drop table users $$",
        ),
        "mirror.email, mirror.phone",
        "$😀$ ' $😀$) union select ($😀$ ' $😀$",
    ],
)
def test_a_text_that_leaves_its_parentheses_is_rejected(text: str) -> None:
    assert fault_of_expression(text)
