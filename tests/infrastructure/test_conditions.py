"""Parameters of template.yaml leave resources out, and no other resource refers to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.infrastructure.conditions import KEPT, SECRETS, SESSION, TOPIC, chosen, holds, mentioned, names_that_exist
from tests.infrastructure.template import Template

# Stay without their function, because they hold data.
WITH_DATA = {"ReconcileLogGroup", "SessionLogGroup", "SessionDatabaseSecret"}
# With everything that parameters can add.
FULL = {
    **SESSION,
    "AlarmEmail": "ops@example.test",
    "RequestsPerAddress": "2000",
    "IngestReservedConcurrency": "50",
    "SessionReservedConcurrency": "20",
    "AccessLogs": "true",
    "MetricsFirehoseArn": "arn:aws:firehose:eu-central-1:123456789012:deliverystream/metrics",
}


@pytest.mark.parametrize("gradual", ["true", "false"])
def test_without_clerks_api_no_part_of_the_reconcile_function_exists(gradual: str, root: Path) -> None:
    template = Template(root, {"GradualDeployment": gradual})
    everything = set(template.transformed["Resources"])
    assert names_that_exist(template, FULL) == everything
    without = without_anything_that_looks_for_what_is_left_out(template, {"UseClerkApi": "false", **FULL})
    assert {"ReconcileFunction", "ReconcileRole", "FailedRunsAlarm", "ReconcileFunctionFull"} <= everything - without
    assert {name for name in without if "Reconcile" in name or "Session" in name} == WITH_DATA


@pytest.mark.parametrize("gradual", ["true", "false"])
@pytest.mark.parametrize("without", [{"UseClerkApi": "false"}, {"ClerkPublishableKey": ""}])
def test_without_all_its_parameters_no_part_of_the_session_function_exists(
    gradual: str, without: dict[str, str], root: Path
) -> None:
    template = Template(root, {"GradualDeployment": gradual})
    exists = without_anything_that_looks_for_what_is_left_out(template, {**FULL, **without})
    assert {name for name in exists if "Session" in name} == WITH_DATA - {"ReconcileLogGroup"}


@pytest.mark.parametrize(
    "given", [{}, FULL, {**FULL, "AlarmTopicArn": TOPIC}, {**FULL, **dict.fromkeys(SECRETS, KEPT)}]
)
def test_nothing_looks_for_what_the_parameters_leave_out(given: dict[str, str], template: Template) -> None:
    assert without_anything_that_looks_for_what_is_left_out(template, given)


def without_anything_that_looks_for_what_is_left_out(template: Template, given: Mapping[str, str]) -> set[str]:
    """The logical ids of the resources created with these parameters; each name used by them exists."""
    exists = names_that_exist(template, given)
    left_out = set(template.transformed["Resources"]) - exists
    kept = [template.transformed["Resources"][name] for name in exists]
    kept += [each for each in template.transformed["Outputs"].values() if holds(template, each.get("Condition"), given)]
    assert not left_out & set(mentioned(chosen(template, kept, given)))
    return exists
