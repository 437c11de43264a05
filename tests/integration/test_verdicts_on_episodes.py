"""The simulator calls no guarantee broken where a run does what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from clerk_supabase.reconcile.records import RunDetails
from clerk_supabase.reconcile.report import Report
from clerk_supabase.reconcile.request import Request
from clerk_supabase.reconcile.runs import Runs
from clerk_supabase_cli.simulator.episodes import said
from clerk_supabase_cli.simulator.episodes.episode import come_to_rest
from clerk_supabase_cli.simulator.episodes.happenings.comparisons import run_with_answer
from clerk_supabase_cli.simulator.episodes.happenings.webhooks import rows_in_trouble
from clerk_supabase_cli.simulator.episodes.stage import MARGIN_MS, Stage, Theatre
from clerk_supabase_cli.simulator.silence import silent_telemetry
from clerk_supabase_cli.standin.access.life import happenings
from clerk_supabase_cli.standin.faults import answering
from clerk_supabase_cli.standin.worlds import World
from tests.kit.databases import Database

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem


class _First(Random):
    """Takes the first of several values: no time passes between two changes in Clerk."""

    def choice(self, seq: SupportsLenAndGetItem[Any]) -> Any:
        return seq[0]


@pytest.fixture
def stage(database: Database) -> Iterator[Stage]:
    with silent_telemetry(), closing(Theatre(database)) as theatre:
        yield Stage(theatre, World(_First(1), "1"))


def test_a_row_known_only_from_a_child_waits_for_a_later_run_and_is_gone_in_the_end(stage: Stage) -> None:
    def happen() -> None:
        org_id = stage.world.create_organization({})["id"]
        stage.world.invite(org_id)
        stage.world.remove_organization(org_id)

    stage.lets(happen)
    # The events of the organization are lost.
    stage.send(each for each in stage.untold() if b"organizationInvitation" in each.body)
    stage.work_off()

    _waits_for_a_later_run(stage)


def test_a_subscription_waits_with_its_payer_who_is_known_only_from_it(stage: Stage) -> None:
    def happen() -> None:
        stage.world.sign_up()
        stage.world.bill()
        stage.world.delete_user()

    stage.lets(happen)
    # The events of the user are lost.
    stage.send(each for each in stage.untold() if b'"subscription' in each.body and b'"type":"user.' not in each.body)
    stage.work_off()
    assert {kind for (kind, _), _ in stage.snapshot().rows.items()} >= {"user", "subscription"}

    _waits_for_a_later_run(stage)


@pytest.mark.parametrize("about", ["user", "organization"])
def test_what_clerk_deleted_is_gone_with_its_subscription_although_its_row_was_hidden_by_hand(
    stage: Stage, about: str
) -> None:
    world = stage.world

    def happen() -> None:
        if about == "user":
            world.sign_up()
        else:
            world.create_organization({})
        world.bill()

    _happened(stage, happen)
    stage.admin.execute("update clerk.users set deleted_at = now(); update clerk.organizations set deleted_at = now()")
    stage.lets({"user": world.delete_user, "organization": world.delete_organization}[about])
    stage.untold()
    come_to_rest(stage)
    assert stage.wrong == []
    assert not [
        place for place in stage.snapshot().rows if place[0] == "subscription" and stage.snapshot().shows(place)
    ]


@pytest.mark.parametrize("versions_only", [False, True])
def test_a_row_that_the_app_keeps_hidden_is_not_taken_for_one_that_clerk_does_not_list(
    stage: Stage, versions_only: bool
) -> None:
    stage.admin.execute("""
        create function public.hide() returns trigger language plpgsql as $$
        begin new.deleted_at := now(); return new; end $$;
        create trigger hide before insert or update on clerk.users for each row execute function public.hide();
    """)
    _happened(stage, stage.world.sign_up)
    for _ in range(3):
        stage.pass_time(2 * MARGIN_MS / 1000)
        with stage.theatre.store() as store:
            request = Request("full", versions_only=versions_only)
            report = stage.reconcile(store, is_direct=True).run(request, stage.deadline())
        assert (report.state, report.counts.get("user", {}).get("extra")) == ("complete", None)


def test_a_row_as_young_as_a_run_is_left_to_the_next_run(stage: Stage) -> None:
    _happened(stage, stage.world.sign_up)
    stage.admin.execute("update clerk.users set first_name = 'by hand'")
    report = _compared(stage)
    assert (report.state, report.reason) == ("complete", None)
    assert list(_untrue(stage, report)) == []

    stage.pass_time(1)
    assert _compared(stage).counts["user"]["repaired"] == 1


def test_a_run_need_not_notice_that_a_list_lacks_a_user_as_young_as_the_run(stage: Stage) -> None:
    _happened(stage, stage.world.sign_up)
    run_with_answer(stage, _First(1), "no elements", "/users", modes=("full",))
    assert (stage.counts["run complete"], stage.wrong) == (1, [])

    # A run one second later has to.
    stage.pass_time(1)
    run_with_answer(stage, _First(1), "no elements", "/users", modes=("full",))
    assert (stage.counts["run incomplete"], stage.wrong) == (1, [])


def test_a_continued_run_may_be_complete_although_the_list_it_has_read_is_refused_now(stage: Stage) -> None:
    _happened(stage, stage.world.sign_up)
    stage.pass_time(1)
    faults = stage.theatre.api.faults
    faults.add(answering(429, retry_after="600"), path="/organizations")
    with stage.theatre.store() as store:
        begun = stage.reconcile(store, is_direct=True).run(Request("full"), stage.deadline(60))
    assert begun.state == "running"
    faults.clear()

    run_with_answer(stage, _First(1), "no elements", "/users", modes=("quick",))
    assert (stage.counts["run complete"], stage.wrong) == (1, [])


def test_a_run_may_keep_an_answered_invitation_that_clerk_does_not_list(stage: Stage) -> None:
    def happen() -> None:
        stage.world.invite(stage.world.create_organization({})["id"])
        stage.world.answer_invitation()

    _happened(stage, happen)
    [invitation_id] = stage.world.invitations
    stage.history.hidden.add(invitation_id)
    stage.pass_time(2 * MARGIN_MS / 1000)
    report = _compared(stage)
    assert (report.state, report.reason) == ("complete", None)
    assert stage.snapshot().shows(("invitation", invitation_id))
    assert list(_untrue(stage, report)) == []


def test_a_run_need_not_notice_that_an_object_is_gone_which_no_answer_of_clerk_names(stage: Stage) -> None:
    def happen() -> None:
        stage.world.sign_up()
        [begin_session] = [change for change in happenings(stage.world) if change.__name__ == "begin_session"]
        begin_session()

    _happened(stage, happen)
    [session_id] = stage.world.others["session"]
    stage.history.hidden.add(session_id)
    stage.pass_time(2 * MARGIN_MS / 1000)
    assert list(_untrue(stage, _compared(stage))) == []
    assert stage.snapshot().shows(("session", session_id))


def test_a_run_may_correct_the_moment_at_which_a_row_was_hidden(stage: Stage) -> None:
    def happen() -> None:
        stage.world.sign_up()
        stage.world.delete_user()

    _happened(stage, happen)
    stage.admin.execute("update clerk.users set deleted_at = now()")
    before = stage.snapshot()
    report = _compared(stage)
    assert report.counts["user"]["repaired"] == 1
    assert list(said.run_untrue(stage, before, _details(stage, report), report, is_direct=True)) == []


def test_a_resync_may_delete_an_object_whose_row_somebody_removed(stage: Stage) -> None:
    _happened(stage, stage.world.sign_up)
    [user_id] = stage.world.users
    stage.admin.execute("truncate clerk.users cascade")
    stage.history.hidden.add(user_id)
    stage.pass_time(2 * MARGIN_MS / 1000)

    before = stage.snapshot()
    with stage.theatre.store(is_owner=True) as store:
        report = stage.reconcile(store, is_direct=True).resync(user_id, stage.deadline())
    assert report.counts == {"user": {"deleted": 1}}
    assert list(said.resync_untrue(stage, user_id, before, report)) == []
    # A report without any effect would be noticed.
    assert list(said.resync_untrue(stage, user_id, stage.snapshot(), report)) != []


def test_the_counts_of_a_run_are_compared_with_its_effect(stage: Stage) -> None:
    _happened(stage, stage.world.sign_up)
    [user_id] = stage.world.users

    def delete() -> None:
        stage.history.hidden.add(user_id)
        stage.pass_time(2 * MARGIN_MS / 1000)
        assert _compared(stage).counts["user"]["awaiting"] == 1

    def edit() -> None:
        stage.admin.execute("update clerk.users set first_name = 'by hand'")

    for act, name in ((delete, "deleted"), (stage.history.hidden.clear, "restored"), (edit, "repaired")):
        act()
        stage.pass_time(2 * MARGIN_MS / 1000)
        before = stage.snapshot()
        report = _compared(stage)
        assert report.counts["user"][name] == 1
        for number in (1, 0, 2):
            told = replace(report, counts={"user": {name: number}})
            untrue = said.fresh_run_untrue(
                stage, before, _details(stage, report), told, stage.history.now(), is_direct=True
            )
            assert {name in each for each in untrue} == (set() if number == 1 else {True}), number


def test_the_parents_of_a_row_in_trouble_are_in_trouble_whoever_pays(stage: Stage) -> None:
    def happen() -> None:
        stage.world.create_organization({})
        stage.world.sign_up()
        while len(stage.world.billing.subscriptions) < 2:
            stage.world.bill()

    _happened(stage, happen)
    payers = {*stage.world.users, *stage.world.organizations}
    for subscription_id in stage.world.billing.subscriptions:
        stage.rules.begin(stage.admin, subscription_id, "slow")
    assert rows_in_trouble(stage) == payers | {*stage.world.billing.subscriptions}


def _happened(stage: Stage, happening: Callable[[], object]) -> None:
    """Changes something in Clerk, and lets its events arrive."""
    stage.lets(happening)
    stage.send(stage.untold())
    stage.work_off()


def _waits_for_a_later_run(stage: Stage) -> None:
    """Asserts that a run leaves an object to a later run, which is no fault, and that nothing is wrong in the end."""
    stage.pass_time(2 * MARGIN_MS / 1000)
    report = _compared(stage)
    assert report.reason is not None
    assert "a later run asks about them" in report.reason
    assert list(_untrue(stage, report)) == []

    come_to_rest(stage)
    assert stage.wrong == []


def _compared(stage: Stage) -> Report:
    with stage.theatre.store() as store:
        return stage.reconcile(store, is_direct=True).run(Request("full"), stage.deadline())


def _details(stage: Stage, report: Report) -> RunDetails:
    with stage.theatre.store(is_owner=True) as store:
        details = Runs(store).show(report.run_id or 0)
    assert details is not None
    return details


def _untrue(stage: Stage, report: Report) -> Iterator[str]:
    return said.complete_untrue(stage, _details(stage, report), report, stage.history.now())
