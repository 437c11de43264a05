"""A population is a mapping like any other, and Clerk's order of it is what sorting would give."""

from __future__ import annotations

import json
import tracemalloc
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.model.changes import Upsert, changes_of_object
from clerk_supabase_cli.standin import samples
from clerk_supabase_cli.standin.population import BEGINNING, Entry, Population

FOREVER = 1 << 62


def user(user_id: str, moment: int) -> dict[str, Any]:
    return samples.user(user_id, created_at=moment, updated_at=moment)


# Actions on a population of ten: (action, number, time).
deeds = st.lists(st.tuples(st.sampled_from("wad"), st.integers(0, 12), st.integers(-2, 14)), max_size=25)


@given(deeds=deeds, same_moment=st.integers(1, 4), low=st.integers(-3, 14), length=st.integers(0, 16))
def test_a_population_behaves_like_a_dict_that_is_sorted_at_every_request(
    deeds: list[tuple[str, int, int]], same_moment: int, low: int, length: int
) -> None:
    population = Population(10, start=100, step=1, same_moment=same_moment)
    plain = {user_id: population[user_id] for user_id in population}
    for deed, number, at in deeds:
        user_id = population.id(number) if deed != "a" else f"user_a{number}"
        if deed == "d":
            assert (plain.pop(user_id, None) is not None) is (population.pop(user_id, None) is not None)
        else:
            population[user_id] = plain[user_id] = user(user_id, 100 + at)
    assert dict(population) == plain
    assert len(population) == len(plain)
    entries = sorted(Entry(each["created_at"], each["id"]) for each in plain.values())
    start, end = 100 + low, 100 + low + length
    within = [entry for entry in entries if start <= entry.moment < end]
    assert population.count(start, end) == len(within)
    for after in (None, *entries):
        following = [entry for entry in within if after is None or entry > after]
        before = [entry for entry in within if after is None or entry < after]
        assert list(population.oldest_first(start, end, after)) == following
        assert list(population.newest_first(start, end, after)) == before[::-1]
    changes = sorted((Entry(each["updated_at"], each["id"]) for each in plain.values()), reverse=True)
    assert list(population.latest_change_first()) == changes


def test_the_json_of_a_population_is_its_content_and_a_user_of_clerks() -> None:
    population = Population(30)
    for user_id in population:
        assert json.loads(population.json(user_id)) == population[user_id]
        main = changes_of_object("user", population.json(user_id), BEGINNING, BEGINNING).main
        assert isinstance(main, Upsert)
        assert main.id == user_id
        assert population[user_id].keys() == user("user_1", 1).keys()


def test_users_differ_in_what_matters_to_a_mirror() -> None:
    everybody = list(Population(30).values())
    for field in ("username", "external_id", "primary_email_address_id", "banned", "public_metadata", "created_at"):
        assert len({json.dumps(each[field]) for each in everybody}) > 1, field


@pytest.mark.parametrize("user_id", ["", "user_", "user_1", "user_" + "0" * 25 + "9", "user_" + "0" * 25 + "x", 7])
def test_a_population_holds_no_other_ids(user_id: Any) -> None:
    assert user_id not in Population(9)
    with pytest.raises(KeyError):
        Population(9)[user_id]


def test_a_user_without_a_readable_time_keeps_their_place() -> None:
    population = Population(5, start=100, step=10)
    odd = population.id(2)
    population[odd] = {"id": odd, "created_at": "?"}
    assert population.entry(odd) == Entry(120, odd)


def test_a_million_users_take_no_more_memory_than_a_few() -> None:
    tracemalloc.start()
    try:
        population = Population(1_000_000)
        for number in range(0, 1_000_000, 10_000):
            del population[population.id(number)]
        middle = population.entry(population.id(500_001))
        page = [population.json(entry.id) for entry in islice(population.oldest_first(0, FOREVER, middle), 500)]
        assert len(page) == 500
        assert population.count(0, FOREVER) == len(population) == 999_900
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000
