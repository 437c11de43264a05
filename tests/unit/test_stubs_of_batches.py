"""The elements of a batch: a stub that several events bring alike is sent once."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from clerk_supabase.model.changes import Changes, Delete, Delivery, Reconciled, Source, Upsert, Version
from clerk_supabase.postgres.batch import elements_of

Batch = Sequence[tuple[Changes, Source]]


def event(number: int, *companions: Upsert | Delete, instance: str = "ins_1") -> tuple[Changes, Source]:
    """An event about a membership, with these companions."""
    main = Upsert("organization_membership", f"orgmem_{number}", Version(5, 5), {})
    return Changes(main, companions), Delivery(f"msg_{number}", "organizationMembership.updated", 0, instance)


def stub(name: object = "Acme", seen_at: int = 3) -> Upsert:
    return Upsert("organization", "org_1", Version(0, seen_at), {"name": name})


def ids_of(batch: Batch) -> list[list[object]]:
    """The ids of the elements of each event."""
    elements, places = elements_of(batch)
    assert [place for each in places for place in each] == list(range(len(elements)))
    return [[elements[place]["id"] for place in each] for each in places]


def test_a_stub_that_several_events_bring_alike_is_sent_once() -> None:
    assert ids_of([event(1, stub()), event(2, stub()), event(3)]) == [["orgmem_1", "org_1"], ["orgmem_2"], ["orgmem_3"]]


def test_stubs_that_differ_are_all_sent() -> None:
    """By their hashes, Postgres decides among stubs of one moment: also between 1 and true, equal to Python."""
    stubs = [stub(), stub("Acme Inc"), stub(seen_at=4), stub(1), stub(True), stub({"a": [1]}), stub({"a": [True]})]
    assert all(len(ids) == 2 for ids in ids_of([event(number, each) for number, each in enumerate(stubs)]))


def test_a_stub_of_another_clerk_instance_is_sent_again_because_the_first_may_be_refused() -> None:
    assert ids_of([event(1, stub()), event(2, stub(), instance="ins_2")])[1] == ["orgmem_2", "org_1"]


def test_a_repair_sends_its_stubs_whatever_its_batch_brings() -> None:
    repair = event(2, stub())[0], Reconciled("reconcile-1-orgmem_2")
    assert ids_of([event(1, stub()), repair, repair]) == [
        ["orgmem_1", "org_1"], ["orgmem_2", "org_1"], ["orgmem_2", "org_1"],
    ]  # fmt: skip


def test_companions_with_a_time_of_their_own_are_sent_each_time() -> None:
    inner = Upsert("organization", "org_1", Version(1, 3), {"name": "Acme"})
    gone = Delete("private_metadata", "org_1", 7)
    assert ids_of([event(1, inner, gone), event(2, inner, gone)])[1] == ["orgmem_2", "org_1", "org_1"]


@given(st.lists(st.lists(st.builds(stub, st.sampled_from(["a", "b", 1, True, None]), st.integers(1, 2)), max_size=3)))
def test_a_batch_brings_every_stub_that_its_events_bring(brought: list[list[Upsert]]) -> None:
    elements, _ = elements_of([event(number, *stubs) for number, stubs in enumerate(brought)])
    sent = [(repr(each["content"]), each["observed_at"]) for each in elements if each["id"] == "org_1"]
    assert len(sent) == len(set(sent))
    assert set(sent) == {(repr(each.content), each.version.observed_at) for stubs in brought for each in stubs}
