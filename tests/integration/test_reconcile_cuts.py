"""Cutting our users into equal parts: with exact counts, and where nobody can be on the wrong side of a cut."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from psycopg.types.json import Jsonb

from clerk_supabase.postgres.store import Store
from clerk_supabase.reconcile.runs import Runs
from tests.kit.databases import Connection, value
from tests.kit.polling import eventually

BEGINNING = 1_700_000_000_000
EVERY = 50


def sign_ups(gaps: list[int]) -> list[int]:
    """Moments of creation, so many milliseconds apart."""
    moments = [BEGINNING]
    for gap in gaps:
        moments.append(moments[-1] + gap)
    return moments


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(sign_ups([1_000] * 400), id="a second apart"),
        pytest.param(sign_ups([Random(1).choice([0, 0, 1, 2, 3, 50]) for _ in range(400)]), id="in bursts"),
        pytest.param(sign_ups([1_000] * 60 + [1] * 250 + [1_000] * 90), id="a long burst in between"),
        pytest.param(sign_ups([0] * 400), id="all at once"),
        pytest.param(sign_ups([1_000] * 20), id="fewer than a part"),
    ],
)
def test_cuts_count_exactly_who_came_before_and_lie_where_nobody_did(
    store: Store, admin: Connection, moments: list[int]
) -> None:
    admin.execute(
        "insert into clerk.users (clerk_id, created_at) select 'user_' || n, to_timestamp(moment / 1000.0) "
        "from unnest(%s::bigint[]) with ordinality as u (moment, n)",
        [moments],
    )
    # Neither who is deleted nor who came later counts.
    admin.execute(
        "insert into clerk.users (clerk_id, created_at, deleted_at) values ('user_gone', to_timestamp(%s), now())",
        [BEGINNING / 1000],
    )
    before = moments[-1] - 5
    cuts = Runs(store).cuts(EVERY, before)
    counted = [moment for moment in moments if moment < before]
    for moment, earlier in cuts:
        assert earlier == sum(each < moment for each in counted)
        assert not {moment, moment - 1} & set(moments)
    possible = [place for place, (one, next_one) in enumerate(pairwise(counted), 1) if next_one - one >= 3]
    # A part ends at the first place where it may, once it has enough.
    expected, last = [], 0
    for place in possible:
        if place >= last + EVERY:
            expected.append(place)
            last = place
    assert [earlier for _, earlier in cuts] == expected


def test_cuts_are_found_by_the_index_alone(admin: Connection) -> None:
    admin.execute(
        "insert into clerk.users (clerk_id, created_at) select 'user_' || n, to_timestamp(1700000000 + n) "
        "from generate_series(1, 20000) as n"
    )
    # A transaction elsewhere keeps a vacuum from marking pages as visible to all.
    eventually(lambda: vacuumed(admin), bool)
    with admin.transaction():
        cuts = value(admin, "select clerk_sync.cut_users(%s)", Jsonb({"every": 1_000, "before": BEGINNING * 2}))
        fetched = value(
            admin,
            "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relid = 'clerk.users'::regclass",
        )
    # An index-only scan fetches no row of a page that is visible to all.
    assert (len(cuts), fetched) == (19, 0)


def vacuumed(admin: Connection) -> bool:
    """Vacuums the users, and says whether all of their pages are visible to all."""
    # Without the option, a vacuum leaves a few dead rows of an earlier test alone, and their page is not visible.
    admin.execute("vacuum (analyze, index_cleanup on) clerk.users")
    return bool(value(admin, "select relallvisible = relpages from pg_class where oid = 'clerk.users'::regclass"))
