"""The metadata for the Serverless Application Repository: within its limits, and as `sam publish` sends it.

Limits: https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-template-publishing-applications-metadata-properties.html
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from tests.infrastructure.template import Template
from tests.supply.release.template import APPLICATION, released

PAGE: Final = "https://git.example/acme/sync"
# What SAM itself does with a packaged template, up to the request: the answers are played, and botocore holds each
# request to the model of the service.
PUBLISH: Final = """
import json, sys
import boto3
from botocore.stub import Stubber
from samcli.commands._utils.template import get_template_data
from samcli.vendor.serverlessrepo.publish import publish_application

sent = {}
client = boto3.client("serverlessrepo", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
client.meta.events.register("provide-client-params.*.*", lambda params, **_: sent.update(params))
with Stubber(client) as stub:
    stub.add_response("create_application", {"ApplicationId": "arn:aws:serverlessrepo:us-east-1:1:applications/a"})
    done = publish_application(get_template_data(sys.argv[1]), client)
print(json.dumps({"actions": done["actions"], "sent": sent}))
"""


@pytest.fixture(scope="module")
def application(template: Template) -> dict[str, Any]:
    found: dict[str, Any] = template.source["Metadata"][APPLICATION]
    return found


@pytest.mark.parametrize(
    ("name", "pattern", "longest"),
    [
        ("Name", r"[a-zA-Z0-9\-]+", 140),
        ("Description", r"[^\n]+", 256),
        ("Author", r"[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?", 127),
        # https://semver.org: no build metadata, so that each version of the command is one of Python's too.
        ("SemanticVersion", r"\d+\.\d+\.\d+", 20),
    ],
)
def test_each_text_keeps_to_the_form_and_the_length_of_the_repository(
    name: str, pattern: str, longest: int, application: dict[str, Any]
) -> None:
    assert re.fullmatch(pattern, application[name])
    assert len(application[name]) <= longest


def test_the_labels_are_few_and_of_the_form_of_the_repository(application: dict[str, Any]) -> None:
    labels = application["Labels"]
    assert 1 <= len(labels) <= 10
    assert len(set(labels)) == len(labels)
    assert [label for label in labels if not re.fullmatch(r"[a-zA-Z0-9+\-_:/@]{1,127}", label)] == []


def test_the_licence_is_that_of_the_packages_and_the_version_theirs(root: Path, application: dict[str, Any]) -> None:
    for package in ("cli", "layers/shared"):
        facts = tomllib.loads((root / package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert (application["SpdxLicenseId"], application["SemanticVersion"]) == (facts["license"], facts["version"])
    assert "MIT License" in (root / "LICENSE").read_text(encoding="utf-8")


def test_no_value_is_computed_because_the_repository_reads_plain_text_only(application: dict[str, Any]) -> None:
    values = [value for each in application.values() for value in (each if isinstance(each, list) else [each])]
    assert [value for value in values if not isinstance(value, str)] == []
    # `sam deploy` would upload a file that is named here with each deployment: `make release` names them.
    assert not {"LicenseUrl", "ReadmeUrl", "LicenseBody", "ReadmeBody"} & application.keys()


def test_whoever_deploys_the_application_acknowledges_roles_and_policies_of_resources_and_nothing_else(
    template: Template,
) -> None:
    """https://docs.aws.amazon.com/serverlessrepo/latest/devguide/acknowledging-application-capabilities.html"""
    resources = template.transformed["Resources"].values()
    types = {each["Type"] for each in resources}
    assert "AWS::IAM::Role" in types
    assert not [each for each in resources if each["Type"] == "AWS::IAM::Role" and "RoleName" in each["Properties"]]
    assert "AWS::Lambda::Permission" in types
    assert not {"AWS::Serverless::Application", "AWS::CloudFormation::Stack"} & types
    guide = (Path(__file__).parents[2] / "docs" / "release.md").read_text(encoding="utf-8")
    assert "CAPABILITY_IAM CAPABILITY_RESOURCE_POLICY" in guide


def test_the_template_of_a_release_is_smaller_than_cloudformation_takes_from_s3(root: Path) -> None:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""
    text = released((root / "template.yaml").read_text(encoding="utf-8"), "arm64", PAGE, "1.0.0")
    assert len(text.encode()) < 1_000_000


def test_sam_publishes_the_application_with_a_request_that_the_service_takes(root: Path, tmp_path: Path) -> None:
    """The template as `sam package` leaves it, whose files lie in S3."""
    text = released((root / "template.yaml").read_text(encoding="utf-8"), "arm64", PAGE, "1.0.0")
    for name in ("LicenseUrl: LICENSE", "ReadmeUrl: README.md"):
        assert name in text
        text = text.replace(name, re.sub(r": .*", ": s3://bucket/0123", name))
    packaged = tmp_path / "packaged.yaml"
    packaged.write_text(re.sub(r"Uri: [\w-]+\.zip", "Uri: s3://bucket/0123", text), encoding="utf-8")
    python = root / ".tools" / "sam" / "bin" / "python"
    done = subprocess.run([python, "-c", PUBLISH, packaged], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["actions"] == ["CREATE_APPLICATION"]
    sent = answer["sent"]
    template = sent.pop("TemplateBody")
    assert "s3://bucket/0123" in template
    assert APPLICATION not in template
    assert sent == {
        "Author": "clerk-supabase-sync",
        "Description": sent["Description"],
        "HomePageUrl": PAGE,
        "Labels": sent["Labels"],
        "LicenseUrl": "s3://bucket/0123",
        "Name": "clerk-supabase-sync",
        "ReadmeUrl": "s3://bucket/0123",
        "SemanticVersion": sent["SemanticVersion"],
        "SourceCodeUrl": f"{PAGE}/tree/v1.0.0",
        "SpdxLicenseId": "MIT",
    }
