"""Plans and features: SQL and Python answer alike, and never yes where Clerk's library says no."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, LiteralString

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.errors import InvalidParameterValue

from clerk_supabase.errors import TokenRejected
from clerk_supabase.tokens.claims import session_claims
from tests.kit.databases import Connection, Database, acting_as, value
from tests.kit.entitlement_examples import ADA, EXAMPLES, LABS, Example

Claims = dict[str, Any]

MADE = {"sid": "sess_1", "iss": "https://clerk.example.com", "iat": 1, "exp": 2}
JAVASCRIPT_BLANKS = " \t\n\u00a0\ufeff"
SCOPES = {"u": "u", "user": "u", "o": "o", "org": "o", "organization": "o"}

# A good token and a good question, often with one claim or with the question replaced by something odd.
good_slugs = st.sampled_from(["pro", "team"])
good_lists = st.lists(
    st.builds("{}:{}".format, st.sampled_from(["u", "o", "uo", "ou", "x"]), good_slugs), min_size=2, max_size=6
).map(",".join)
good_organizations = st.just({"id": "org_labs", "per": "read", "fpm": "1"})
good_tokens = st.fixed_dictionaries(
    {"pla": good_lists, "fea": good_lists, "o": st.one_of(good_organizations, good_organizations, st.none())}
).map(lambda claims: ADA | claims)
good_questions = st.builds("{}:{}".format, st.sampled_from(sorted(SCOPES)), good_slugs)

odd_elements = st.sampled_from([" u:pro\ufeff", "\x1cu:pro", "pro", "", "u:a:b", "u:", "U:pro", "u :pro", "u: pro"])
junk: st.SearchStrategy[Any] = st.sampled_from([None, 5, True, "", "pro", [], ["u:pro"], {}])
claimed = st.builds("{},{}".format, good_lists, odd_elements) | junk
odd_claims: list[st.SearchStrategy[dict[str, Any]]] = [
    st.fixed_dictionaries({name: values})
    for name, values in {
        "v": st.sampled_from([2.0, 1, None, "2", True, 3]),
        "sub": st.sampled_from(["", None]),
        "sts": st.sampled_from(["active", "", None, "pending", "odd"]),
        "pla": claimed,
        "fea": claimed,
        "o": junk | st.fixed_dictionaries({"id": st.sampled_from(["org_labs", "", None]), "per": junk, "fpm": junk}),
    }.items()
]
tokens = st.builds(operator.or_, good_tokens, st.one_of(st.just({}), *odd_claims))
questions = st.one_of(
    good_questions,
    good_questions,
    good_questions,
    st.sampled_from(["pro", "x:pro", "User:pro", "", "u:", "u:a:b", "u: pro", " u:pro"]),
)


@pytest.fixture(scope="module")
def connection(shared_database: Database) -> Iterator[Connection]:
    with shared_database.connect() as connection:
        yield connection


def ask(connection: Connection, claims: Claims | str | None, query: LiteralString) -> Any:
    """The answer to a signed-in user."""
    with acting_as(connection, "authenticated", claims):
        return value(connection, query)


def in_sql(connection: Connection, claims: Claims, claim: str, question: str) -> bool | None:
    """The answer of Postgres; None for an error."""
    try:
        with acting_as(connection, "authenticated", claims):
            if claim == "pla":
                return bool(value(connection, "select clerk.requesting_user_has_plan(%s)", question))
            return bool(value(connection, "select clerk.requesting_user_has_feature(%s)", question))
    except InvalidParameterValue:
        return None


def in_python(claims: Claims, claim: str, question: str) -> bool | None:
    """The answer of the layer; None for an error, False for a token that the layer rejects."""
    try:
        read = session_claims(json.dumps(MADE | claims).encode())
    except TokenRejected:
        # The question alone can still be an error.
        read = session_claims(json.dumps(MADE | ADA).encode())
    try:
        return read.has_plan(question) if claim == "pla" else read.has_feature(question)
    except ValueError:
        return None


def split_by_scope(claim: Any) -> dict[str, list[str]]:
    """The lists of Clerk's splitByScope(), with its errors."""
    lists: dict[str, list[str]] = {"o": [], "u": []}
    if not claim:
        return lists
    for element in claim.split(","):
        scope, slug = element.strip(JAVASCRIPT_BLANKS).split(":", 1)
        for each in {"o": "o", "u": "u", "ou": "ou", "uo": "ou"}.get(scope, ""):
            lists[each].append(slug)
    return lists


def in_clerks_library(claims: Claims, claim: str, question: str) -> bool:
    """The answer of has() in @clerk/shared 4.41; False for its errors."""
    if not claims.get("sub") or claims.get("sts") == "pending":
        return False
    try:
        if claims.get("v") == 2 and claims["v"] is not True and (organization := claims.get("o")):
            split_by_scope(claims.get("fea"))
            if isinstance(organization, dict) and organization.get("per") and organization.get("fpm"):
                organization["per"].split(","), organization["fpm"].split(",")
        lists = split_by_scope(claims.get(claim))
    except (AttributeError, ValueError):
        return False
    scope, *rest = question.split(":")
    slug = rest[0] if rest and rest[0] else scope
    if not rest:
        return slug in lists["o"] + lists["u"]
    return scope in SCOPES and slug in lists[SCOPES[scope]]


@pytest.mark.parametrize("case", EXAMPLES, ids=lambda case: case.title)
def test_plans_and_features_are_what_the_example_says_in_sql_and_in_python(
    case: Example, connection: Connection
) -> None:
    assert in_clerks_library(case.claims, case.claim, case.question) is case.clerk
    assert in_sql(connection, case.claims, case.claim, case.question) is case.here
    assert in_python(case.claims, case.claim, case.question) is case.here


def test_the_answer_to_no_question_opens_no_rows_behind_a_not(connection: Connection) -> None:
    """A policy may ask for the plan in a column that is null."""
    query: LiteralString = """
        select
            clerk.requesting_user_has_plan(null), clerk.requesting_user_has_feature(null),
            clerk.requesting_user_subscribes_to(null), clerk.requesting_user_subscribes_to_feature(null)
        """
    with acting_as(connection, "authenticated", ADA | {"pla": "u:pro"}):
        assert connection.execute(query).fetchall() == [(None, None, None, None)]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tokens, st.sampled_from(["pla", "fea"]), questions)
@example(ADA | LABS | {"pla": "o:team,u:pro", "fea": "o:x"}, "pla", "org:team")
def test_sql_and_python_answer_alike_and_grant_nothing_that_clerk_denies(
    connection: Connection, claims: Claims, claim: str, question: str
) -> None:
    answer = in_sql(connection, claims, claim, question)
    assert not answer or in_clerks_library(claims, claim, question)
    try:
        session_claims(json.dumps(MADE | claims).encode())
    except TokenRejected:
        # Perhaps for an organization without an id, which leaves the user's own plans to SQL.
        assert (answer is None) == (in_python(claims, claim, question) is None)
        return
    assert answer is in_python(claims, claim, question)
    plan = ask(connection, claims, "select clerk.requesting_plan()")
    assert plan is None or in_sql(connection, claims, "pla", plan)


# The mirrored subscriptions

HOUR = timedelta(hours=1)


@pytest.fixture
def subscribers(admin: Connection) -> Connection:
    """Ada, banned Bea, and Labs, whose member is Bob and was Carl."""
    admin.execute("""
        insert into clerk.users (clerk_id, banned, deleted_at) values
        ('user_ada', false, null), ('user_bea', true, null), ('user_bob', false, null), ('user_carl', false, null),
        ('user_dan', false, now());
        insert into clerk.organizations (clerk_org_id) values ('org_labs');
        insert into clerk.organization_memberships (clerk_membership_id, clerk_org_id, clerk_user_id, role, deleted_at)
        values ('mem_bob', 'org_labs', 'user_bob', 'org:member', null),
        ('mem_carl', 'org_labs', 'user_carl', 'org:member', now());
        insert into clerk.plans (clerk_plan_id, slug, features) values ('cplan_pro', 'pro', '{export}')
    """)
    return admin


def subscribe(admin: Connection, payer: str, status: str, *, ends_in: timedelta | None = None, **more: Any) -> None:
    """Writes the only item of all, of the plan `pro`, which has the feature `export`."""
    item = {
        "user": payer if payer.startswith("user_") else None,
        "organization": payer if payer.startswith("org_") else None,
        "status": status,
        "ends_in": ends_in,
        "plan": "pro",
        "deleted_at": None,
    } | more
    admin.execute("delete from clerk.subscription_items")
    admin.execute(
        """
        insert into clerk.subscription_items (
            clerk_subscription_item_id, clerk_user_id, clerk_org_id, plan_id, plan_slug, status, period_end, deleted_at
        )
        values (
            'subi_1', %(user)s, %(organization)s, 'cplan_' || %(plan)s, %(plan)s, %(status)s, now() + %(ends_in)s,
            %(deleted_at)s
        )
        """,
        item,
    )


def subscribes(admin: Connection, person: str, scope: str, *, organization: str | None = None) -> bool:
    """The answers to a user, whose token names no plan: those for the plan and for its feature are equal."""
    claims = {"sub": f"user_{person}", "v": 2} | ({"o": {"id": organization}} if organization else {})
    with acting_as(admin, "authenticated", claims):
        plan = value(admin, "select clerk.requesting_user_subscribes_to(%s)", f"{scope}:pro")
        feature = value(admin, "select clerk.requesting_user_subscribes_to_feature(%s)", f"{scope}:export")
    assert plan is feature
    return bool(plan)


def test_a_subscription_counts_while_it_is_active_or_paid(subscribers: Connection) -> None:
    counts = {("active", None), ("active", HOUR), ("active", -HOUR), ("canceled", HOUR)}
    others = ["past_due", "upcoming", "incomplete", "ended", "abandoned", "expired", "a status of tomorrow"]
    cases = counts | {("canceled", -HOUR), ("canceled", None), *((other, HOUR) for other in others)}
    for status, ends_in in cases:
        subscribe(subscribers, "user_ada", status, ends_in=ends_in)
        assert subscribes(subscribers, "ada", "user") is ((status, ends_in) in counts), (status, ends_in)
        assert not subscribes(subscribers, "ada", "org", organization="org_labs")
        assert not subscribes(subscribers, "bob", "user")


def test_a_subscription_of_an_organization_is_of_its_members_while_it_is_active(subscribers: Connection) -> None:
    subscribe(subscribers, "org_labs", "active")
    assert subscribes(subscribers, "bob", "org", organization="org_labs")
    assert not subscribes(subscribers, "bob", "org")
    assert not subscribes(subscribers, "bob", "user", organization="org_labs")
    for no_member in ("ada", "carl"):
        assert not subscribes(subscribers, no_member, "org", organization="org_labs")


def test_no_subscription_counts_for_a_user_who_sees_nothing_or_when_it_was_deleted(subscribers: Connection) -> None:
    for nobody in ("bea", "dan"):
        subscribe(subscribers, f"user_{nobody}", "active")
        assert not subscribes(subscribers, nobody, "user")
    subscribe(subscribers, "user_ada", "active", deleted_at="2026-01-01")
    assert not subscribes(subscribers, "ada", "user")
    subscribe(subscribers, "user_ada", "active", plan=None)
    assert not subscribes(subscribers, "ada", "user")


def test_only_the_features_of_the_plan_itself_are_granted(subscribers: Connection) -> None:
    """Another plan of the same slug lends no feature, nor does a plan that Clerk lists no more. The plan is hidden."""
    subscribe(subscribers, "user_ada", "active")
    subscribers.execute("""
        insert into clerk.plans (clerk_plan_id, slug, features, is_publicly_visible)
        values ('cplan_2', 'pro', '{search}', true)
    """)
    asked: LiteralString = """
        select
            clerk.requesting_user_subscribes_to_feature('user:export'),
            clerk.requesting_user_subscribes_to_feature('user:search')
        """
    changes: list[tuple[LiteralString, tuple[bool, bool]]] = [
        ("select", (True, False)),
        ("update clerk.plans set features = '{search,export:search}' where clerk_plan_id = 'cplan_pro'", (False, True)),
        ("update clerk.plans set deleted_at = now() where clerk_plan_id = 'cplan_pro'", (False, False)),
        ("delete from clerk.plans where clerk_plan_id = 'cplan_pro'", (False, False)),
    ]
    for change, answers in changes:
        subscribers.execute(change)
        with acting_as(subscribers, "authenticated", {"sub": "user_ada", "v": 2}):
            assert subscribers.execute(asked).fetchall() == [answers], change
            assert subscribers.execute("select clerk_plan_id from clerk.plans").fetchall() == [("cplan_2",)]
    with acting_as(subscribers, "authenticated", {"sub": "user_ada", "v": 2}), pytest.raises(InvalidParameterValue):
        value(subscribers, "select clerk.requesting_user_subscribes_to_feature('export')")


def test_equal_questions_have_equal_words_and_questions_about_others_do_not(connection: Connection) -> None:
    words: LiteralString = "select clerk_sync.entitlements_asked(%s, %s, %s)"
    assert value(connection, words, "u:pro", "o:docs", False) == ["feature org:docs", "plan user:pro"]
    assert value(connection, words, "user:pro", "org:docs", False) == ["feature org:docs", "plan user:pro"]
    assert value(connection, words, "org:pro", None, True) == ["mirrored plan org:pro"]
