"""Every change from one set of parameters to another: what is replaced, what goes live, and that no data is deleted."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.infrastructure.changes import SETS, Change, change, resources_of
from tests.infrastructure.template import FUNCTIONS, Resource

Stacks = dict[str, dict[str, Resource]]
Changes = dict[tuple[str, str], Change]
DATA = {"AWS::SQS::Queue", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup"}
# The resources that some of the sets have, by the reason.
COMPARISON = {
    "ReconcileFunction",
    *(f"ReconcileFunction{part}" for part in ("Aliaslive", "EventInvokeConfig", "Version")),
    *(f"ReconcileFunction{mode}{part}" for mode in ("Full", "Quick") for part in ("", "Role")),
    "ReconcileRole",
    *(f"Reconcile{part}Alarm" for part in ("Errors", "Throttles")),
    *(f"{mode}ReconcileOverdueAlarm" for mode in ("Full", "Quick")),
    *(f"{part}Alarm" for part in ("FailedRuns", "Drift", "Brake", "DeletedHere", "Housekeeping", "UnfedRows")),
    "SilenceAlarm",
}
SESSION = {
    "SessionFunction",
    *(f"SessionFunction{part}" for part in ("Aliaslive", "Version")),
    *(f"SessionFunction{event}PermissionStage" for event in ("SignIn", "Preflight")),
    "SessionRole",
    *(f"Session{part}Alarm" for part in ("Errors", "Throttles", "ApiErrors", "Stubs")),
}
WEB_ACL = {"WebAcl", "WebAclAssociation"}
CODEDEPLOY = {
    *("ServerlessDeploymentApplication", "CodeDeployServiceRole"),
    *(f"{function}DeploymentGroup" for function in FUNCTIONS if function != "SessionFunction"),
}
PARTS = {name: COMPARISON for name in SETS if name != "no Clerk API"} | {
    "no Clerk API": set(),
    "session": COMPARISON | SESSION,
    "own secrets": COMPARISON | SESSION,
    "web ACL": COMPARISON | WEB_ACL,
    "prod": COMPARISON | CODEDEPLOY,
    "gradual": COMPARISON | CODEDEPLOY,
}
VERSIONS = {f"{function}Version" for function in FUNCTIONS}
# The resources that another value of a parameter replaces, and no parameter replaces others.
REPLACED_BY = {
    "Stage": {"WebhookApiStage"},
    **{name: {"WebhookApiDeployment"} for name in ("UseClerkApi", "ClerkPublishableKey", "WebhookSourceAddresses")},
    "Revision": VERSIONS,
    "Architecture": VERSIONS | {"SharedLayer"},
}


@pytest.fixture(scope="module")
def stacks(root: Path) -> Stacks:
    """The resources of each set, translated once."""
    return {name: resources_of(root, given) for name, given in SETS.items()}


@pytest.fixture(scope="module")
def changes(stacks: Stacks) -> Changes:
    """The change from each set to each other set."""
    return {(old, new): change(stacks[old], stacks[new]) for old, new in itertools.permutations(SETS, 2)}


def test_a_change_adds_and_removes_the_parts_of_its_parameters_and_replaces_only_what_it_must(
    stacks: Stacks, changes: Changes
) -> None:
    assert len(changes) == 72
    for (old, new), done in changes.items():
        differing = {name for name, _ in SETS[old].items() ^ SETS[new].items()}
        replaced = set[str]().union(*(REPLACED_BY.get(name, ()) for name in differing))
        assert done.added == PARTS[new] - PARTS[old], (old, new)
        assert done.removed == PARTS[old] - PARTS[new], (old, new)
        assert done.replaced == replaced & stacks[old].keys() & stacks[new].keys(), (old, new)


def test_no_change_deletes_or_replaces_a_resource_with_data(stacks: Stacks, changes: Changes) -> None:
    [with_data, *others] = [{name for name, each in stack.items() if each["Type"] in DATA} for stack in stacks.values()]
    assert len(with_data) == 4 + 4 + 6  # queues, secrets, log groups
    assert others == [with_data] * 8
    for named, done in changes.items():
        assert not with_data & (done.removed | done.replaced), named


def test_each_change_of_the_api_makes_a_new_deployment_and_nothing_else_does(stacks: Stacks, changes: Changes) -> None:
    for named, done in changes.items():
        assert ("WebhookApi" in done.updated) is ("WebhookApiDeployment" in done.replaced), named
    for stack in stacks.values():
        deployment = {"Ref": stack["WebhookApiDeployment"]["LogicalId"]}
        assert stack["WebhookApiStage"]["Properties"]["DeploymentId"] == deployment


def test_each_change_of_a_function_makes_a_version_to_which_the_alias_points(stacks: Stacks, changes: Changes) -> None:
    for named, done in changes.items():
        changed = {f"{function}Version" for function in FUNCTIONS if function in done.updated}
        assert changed <= done.replaced, named
    for stack in stacks.values():
        for function in stack.keys() & set(FUNCTIONS):
            live = {"Fn::GetAtt": [stack[f"{function}Version"]["LogicalId"], "Version"]}
            assert stack[f"{function}Aliaslive"]["Properties"]["FunctionVersion"] == live
