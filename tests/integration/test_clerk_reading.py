"""Reading from Clerk's Backend API, over real HTTP from the stand-in: every user, once, beside changes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import Any

import pytest

from clerk_supabase.clerk.api import Clerk
from clerk_supabase.clerk.lookups import Held, read_again
from clerk_supabase.clerk.walk import Window
from clerk_supabase.errors import (
    ClerkRejected,
    ContradictoryAnswer,
    DomainsUnavailable,
    GoneFromClerk,
    OrganizationsUnavailable,
)
from clerk_supabase.model.found_kinds import FACTS, LIST_KINDS
from clerk_supabase_cli.standin.backend_api import ClerkApi
from clerk_supabase_cli.standin.faults import Elements, Fault, firewall, ignoring_offset, without_every
from clerk_supabase_cli.standin.population import BEGINNING
from tests.kit.clerk import Reader, api_with, everybody, expected, ids, reader

SECOND = 1_000

# Reading


def held(object_ids: list[str]) -> list[Held]:
    """Users or organizations to ask for, which have no parents."""
    return [(each, None, None) for each in object_ids]


def test_all_users_are_read_with_a_cursor_and_without_an_offset(api: ClerkApi, clerk: Clerk) -> None:
    assert everybody(clerk) == expected(api)
    assert api.counts == {"GET /users": 3}
    assert clerk.http.calls == 3
    assert [bool(each.value("starting_after")) for each in api.requests] == [False, True, True]


def test_every_request_names_the_api_version_and_asks_for_ascending_order(api: ClerkApi, clerk: Clerk) -> None:
    everybody(clerk)
    for request in api.requests:
        assert request.headers["clerk-api-version"] == "2026-05-12"
        assert request.value("order_by") == "+created_at"
        assert request.value("limit") == "500"


@pytest.mark.parametrize("inclusive", [False, True])
def test_windows_read_in_parallel_report_everybody_once_whatever_clerks_bounds_mean(
    api: ClerkApi, clerk: Clerk, inclusive: bool
) -> None:
    api.answers.inclusive = inclusive
    cuts = [0, *(BEGINNING + number * SECOND for number in (1, 2, 500, 501, 900)), None]
    windows = [Window(start or 0, end) for start, end in pairwise(cuts)]
    with ThreadPoolExecutor(len(windows)) as pool:
        found = list(pool.map(lambda window: ids(clerk.users(window)), windows))
    assert [len(each) for each in found] == [1, 1, 498, 1, 399, 301]
    assert list(chain.from_iterable(found)) == expected(api)


def test_two_users_of_one_moment_on_both_sides_of_a_page_are_reported_together() -> None:
    with api_with(1_003, same_moment=3) as api:
        stretches = list(reader(api.url).clerk().users(Window()))
        assert ids(stretches) == expected(api)
        for stretch in stretches:
            assert all(item.created_at in stretch.window for item in stretch.items)


def test_a_page_knows_when_clerk_sent_it(api: ClerkApi, ours: Reader) -> None:
    api.clock = lambda: 1_700_000_123_456
    [first, *_] = ours.clerk().users(Window())
    assert {item.observed_at for item in first.items} == {1_700_000_123_000}


@pytest.mark.parametrize(
    "date",
    [
        None,
        "",
        "soon",
        "Tue, 99 Nov 2023 22:15:23 GMT",
        "Tue, 14 Nov 9999 22:15:23 GMT",
        "Tue, 14 Nov 1923 22:15:23 GMT",
    ],
)
def test_an_answer_without_a_date_that_can_be_true_wins_over_older_states_only(
    api: ClerkApi, clerk: Clerk, date: str | None
) -> None:
    api.faults.add(Fault(headers={"Date": date}))
    look = clerk.users_count(Window())
    assert (look.value, look.observed_at) == (1_201, 0)


def test_users_are_counted_in_a_window(clerk: Clerk) -> None:
    start = BEGINNING + 100 * SECOND - SECOND // 2
    assert clerk.users_count(Window(start, start + 50 * SECOND)).value == 50


def test_the_latest_changes_come_first_and_no_page_is_read_that_nobody_asks_for(api: ClerkApi, clerk: Clerk) -> None:
    changed = api.world.update("user", expected(api)[3], {"last_name": "New"})
    first = next(clerk.users_newest_change_first())
    assert first.items[0].id == changed["id"]
    assert first.items[0].updated_at == changed["updated_at"]
    assert clerk.http.calls == 1


def test_pages_by_offset_overlap_and_join(api: ClerkApi, clerk: Clerk) -> None:
    pages = list(clerk.users_newest_change_first())
    assert set(ids(pages)) == set(expected(api))
    assert [page.joins for page in pages] == [True, True, True]


def test_users_are_asked_for_by_id_and_those_who_are_gone_are_not_answered(api: ClerkApi, clerk: Clerk) -> None:
    asked = expected(api)[:100]
    for user_id in asked[:3]:
        api.world.remove_user(user_id)
    assert {each.id for each in read_again(clerk, "user", held(asked))} == set(asked[3:])
    assert clerk.http.calls == 1


def test_no_more_than_a_hundred_users_can_be_asked_for_at_once(clerk: Clerk) -> None:
    with pytest.raises(ValueError, match="100 objects at once"):
        list(read_again(clerk, "user", held([f"user_{number}" for number in range(101)])))
    assert list(read_again(clerk, "user", [])) == []
    assert clerk.http.calls == 0


@pytest.mark.parametrize("body", [b'[{"id":"user_somebody_else"}]', b'[{"id":null}]'])
def test_an_answer_that_overlooks_the_ids_does_not_make_everybody_look_gone(
    api: ClerkApi, clerk: Clerk, body: bytes
) -> None:
    api.faults.add(Fault(body=body))
    with pytest.raises(ContradictoryAnswer, match="other objects"):
        list(read_again(clerk, "user", held(expected(api)[:2])))


def test_one_user_is_read_and_one_who_is_gone_is_not_an_error(api: ClerkApi, clerk: Clerk) -> None:
    api.clock = lambda: 1_700_000_123_456
    user_id = expected(api)[0]
    found = clerk.user(user_id).value
    assert found is not None
    assert json.loads(found.json()) == api.world.users[user_id]
    api.world.remove_user(user_id)
    gone = clerk.user(user_id)
    assert (gone.value, gone.observed_at) == (None, 1_700_000_123_000)


def test_a_404_that_is_not_from_clerk_does_not_delete_a_user(api: ClerkApi, clerk: Clerk) -> None:
    api.faults.add(Fault(status=404, body=b"<html>404 page not found</html>"))
    with pytest.raises(ClerkRejected, match="address of its Backend API") as rejected:
        clerk.user(expected(api)[0])
    assert not isinstance(rejected.value, GoneFromClerk)


@pytest.mark.parametrize("odd", ["", ".", "..", "a/b", "a?b", "a#b", "a%2Fb", "é", " "])
def test_an_odd_id_never_becomes_another_path(clerk: Clerk, odd: str) -> None:
    try:
        assert clerk.user(odd).value is None
    except ValueError:
        assert clerk.http.calls == 0


# Organizations


@pytest.fixture
def organizations(api: ClerkApi) -> list[str]:
    """520 organizations, the first with two members."""
    made = [api.world.create_organization({})["id"] for _ in range(520)]
    for user_id in expected(api)[:2]:
        api.world.add_membership(made[0], user_id, role="org:member")
    return made


def test_organizations_and_memberships_are_read_whole(api: ClerkApi, clerk: Clerk, organizations: list[str]) -> None:
    pages = list(clerk.oldest_first("organization"))
    assert set(ids(pages)) == set(organizations)
    assert {(page.total_count, page.joins) for page in pages} == {(520, True)}
    assert ids(clerk.oldest_first("membership")) == list(api.world.memberships)
    assert ids(clerk.memberships_of_organization(organizations[0])) == list(api.world.memberships)
    assert ids(clerk.memberships_of_organization(organizations[1])) == []
    member = expected(api)[1]
    assert ids(clerk.memberships_of_user(member)) == ids(clerk.memberships_of_organization(organizations[0], [member]))
    assert len(ids(clerk.memberships_of_user(member))) == 1


def test_organizations_are_asked_for_by_id(api: ClerkApi, clerk: Clerk, organizations: list[str]) -> None:
    api.world.remove_organization(organizations[1])
    found = {each.id for each in read_again(clerk, "organization", held(organizations[:100]))}
    assert found == set(organizations[:100]) - {organizations[1]}
    assert clerk.organization(organizations[1]).value is None
    assert clerk.organization(organizations[2]).value is not None
    with pytest.raises(GoneFromClerk):
        next(clerk.memberships_of_organization(organizations[1]))


def test_organizations_that_go_between_two_pages_do_not_go_unnoticed(
    api: ClerkApi, clerk: Clerk, organizations: list[str]
) -> None:
    def remove_many() -> None:
        for org_id in organizations[:30]:
            api.world.remove_organization(org_id)

    api.faults.add(Fault(happening=remove_many), skip=1)
    pages = list(clerk.oldest_first("organization"))
    assert [page.total_count for page in pages] == [520, 490]
    assert [page.joins for page in pages] == [True, False]


@pytest.mark.parametrize(
    ("answer", "is_switched_off"),
    [
        ((403, "organization_not_enabled_in_instance"), True),
        ((402, "unsupported_subscription_plan_features"), False),
        ((403, "forbidden"), False),
        ((404, "not_found"), False),
    ],
)
def test_only_one_code_says_that_organizations_are_switched_off(
    api: ClerkApi, clerk: Clerk, answer: tuple[int, str], is_switched_off: bool
) -> None:
    api.answers.no_organizations = answer
    for kind in [each for each in LIST_KINDS if "organization" in FACTS[each].list_path]:
        with pytest.raises(ClerkRejected) as rejected:
            next(clerk.oldest_first(kind))
        assert isinstance(rejected.value, OrganizationsUnavailable) is is_switched_off
    assert len(everybody(clerk)) == 1_201


def test_domains_that_are_switched_off_are_told_apart(api: ClerkApi, clerk: Clerk) -> None:
    api.answers.no_domains = (403, "organization_domains_not_enabled")
    with pytest.raises(DomainsUnavailable):
        next(clerk.oldest_first("domain"))
    api.answers.no_domains = (403, "forbidden")
    with pytest.raises(ClerkRejected) as rejected:
        next(clerk.oldest_first("domain"))
    assert not isinstance(rejected.value, DomainsUnavailable)


def test_an_answer_of_a_firewall_is_not_read_as_organizations_switched_off(api: ClerkApi, clerk: Clerk) -> None:
    api.faults.add(firewall())
    with pytest.raises(ClerkRejected, match="not in Clerk's format") as rejected:
        next(clerk.oldest_first("organization"))
    assert not isinstance(rejected.value, OrganizationsUnavailable)


@pytest.mark.parametrize("filled", [500, 520, 1_000])
def test_a_list_ends_when_the_server_ignores_the_offset(
    api: ClerkApi, clerk: Clerk, organizations: list[str], filled: int
) -> None:
    for _ in range(filled - len(organizations)):
        api.world.create_organization({})
    api.faults.add(ignoring_offset(), times=100)
    pages = list(clerk.oldest_first("organization"))
    assert len(pages) == 2
    assert [page.is_new for page in pages] == [True, False]


def test_a_list_ends_when_the_server_shows_two_pages_in_turn(
    api: ClerkApi, clerk: Clerk, organizations: list[str]
) -> None:
    for skip in range(1, 100, 2):
        api.faults.add(ignoring_offset(), skip=skip)
    assert organizations
    assert len(list(clerk.oldest_first("organization"))) <= 3


# Others write while one reads


@pytest.mark.parametrize("answer", ["not_found", "unprocessable", "ignored"])
def test_a_cursor_whose_user_was_deleted_skips_no_other_user(api: ClerkApi, clerk: Clerk, answer: Any) -> None:
    api.answers.lost_cursor = answer
    at_the_cursor = expected(api)[499]
    api.faults.add(Fault(happening=lambda: api.world.remove_user(at_the_cursor)), having="starting_after")
    assert everybody(clerk) == expected(api)
    assert api.counts["offset > 0"] == 0


def test_a_cursor_whose_user_was_deleted_may_end_the_list_early_and_the_count_shows_it(
    api: ClerkApi, clerk: Clerk
) -> None:
    api.answers.lost_cursor = "empty"
    at_the_cursor = expected(api)[499]
    api.faults.add(Fault(happening=lambda: api.world.remove_user(at_the_cursor)), having="starting_after")
    told = everybody(clerk)
    assert clerk.users_count(Window()).value == 1_200 != len(told)


def test_users_created_changed_and_deleted_between_two_pages(api: ClerkApi, clerk: Clerk) -> None:
    before = expected(api)
    created: list[str] = []

    def live() -> None:
        created.append(api.world.create_user({})["id"])
        api.world.remove_user(before[0])
        api.world.remove_user(before[700])
        api.world.update("user", before[800], {"last_name": "New"})

    api.faults.add(Fault(happening=live), having="starting_after")
    told = everybody(clerk)
    assert set(told) == (set(before) | set(created)) - {before[700]}
    assert len(told) == len(set(told))


def test_half_the_users_missing_from_a_valid_answer_end_the_list_early_and_the_count_shows_it(
    api: ClerkApi, clerk: Clerk
) -> None:
    api.faults.add(without_every(2))
    told = everybody(clerk)
    assert len(told) == 250
    assert clerk.users_count(Window()).value == 1_201 != len(told)


def test_one_odd_user_never_costs_the_page(api: ClerkApi, clerk: Clerk) -> None:
    def make_odd(elements: Elements) -> Elements:
        no_id, no_object, deep = json.loads(elements[3]), json.loads(elements[4]), elements[5]
        del no_id["id"]
        no_object["email_addresses"] = [{"id": "idn", "email_address": "a@b", "verification": {"status": "new"}}]
        del no_object["created_at"], no_object["mfa_enabled_at"]
        deep = deep.replace(
            b'"unsafe_metadata":{', b'"unsafe_metadata":{"deep":' + b"[" * 4_000 + b"]" * 4_000 + b",", 1
        )
        deep = deep.replace(b"],}", b"]}", 1)
        return [*elements[:3], json.dumps(no_id).encode(), json.dumps(no_object).encode(), deep, *elements[6:]]

    api.faults.add(Fault(alter=make_odd))
    stretches = list(clerk.users(Window()))
    assert [reason for stretch in stretches for reason in stretch.odd] == ["element 3: no usable id"]
    assert set(ids(stretches)) == set(expected(api)) - {expected(api)[3]}
    assert next(item for item in stretches[0].items if item.id == expected(api)[4]).created_at is None
