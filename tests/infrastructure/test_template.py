"""What template.yaml promises, read from what CloudFormation would create."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase.ingest import Ingest
from clerk_supabase.queue import LARGEST_BODY, Queue
from clerk_supabase.retry import MAX_ATTEMPTS
from clerk_supabase.secrets import Secret
from clerk_supabase.settings import (
    IngestSettings,
    ReconcileFunctionSettings,
    RetrySettings,
    SessionSettings,
    SyncSettings,
)
from clerk_supabase.store import CONNECT_SECONDS, SESSION_PATIENCE_SECONDS, WORKER_PATIENCE_SECONDS
from clerk_supabase_cli.deliveries import generate_secret
from tests.aws import Account
from tests.infrastructure.template import ACCOUNT, Resource, Template, arn, properties

FUNCTIONS = ["IngestFunction", "ReconcileFunction", "RetryFunction", "SessionFunction", "SyncFunction"]
# Which function empties which queue. That of failed runs is an operator's to empty.
CONSUMERS = {"SyncQueue": "SyncFunction", "SyncDeadLetterQueue": "RetryFunction", "ParkedQueue": "RetryFunction"}
SVIX_WAITS_SECONDS = 15
CLERK_ANSWERS_WITHIN = 3  # or the session function goes on without
DAY_SECONDS = 86_400
LARGEST_MESSAGE = 1_048_576


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        yield


@pytest.fixture(scope="module")
def template(environment: None, root: Path) -> Template:
    return Template(root)


@pytest.fixture(scope="module")
def gradual(environment: None, root: Path) -> Template:
    """With the canary that samconfig.toml asks for in prod."""
    return Template(root, {"GradualDeployment": "true"})


# Functions


def test_there_is_a_function_for_every_folder_of_functions(template: Template, root: Path) -> None:
    folders = {file.parent.name for file in root.glob("functions/*/handler.py")}
    assert {name.removesuffix("Function").lower() for name in FUNCTIONS} == folders
    assert sorted(template.of_type("AWS::Lambda::Function")) == FUNCTIONS


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_runs_its_handler_on_the_python_the_layer_is_built_for(
    function: str, template: Template, root: Path
) -> None:
    assert template[function]["Runtime"] == "python3.13"
    assert template[function]["Handler"] == "handler.lambda_handler"
    assert template.only("AWS::Lambda::LayerVersion")["CompatibleRuntimes"] == ["python3.13"]
    makefile = (root / "layers" / "shared" / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^LAYER_PYTHON \?= 3\.13$", makefile, re.MULTILINE)
    folder = root / template.source["Resources"][function]["Properties"]["CodeUri"]
    assert (folder / "handler.py").is_file()


def test_everything_is_for_arm64_unless_told_otherwise(template: Template, root: Path) -> None:
    assert template.source["Parameters"]["Architecture"]["Default"] == "arm64"
    for function in FUNCTIONS:
        assert template[function]["Architectures"] == [{"Ref": "Architecture"}]
    assert template.only("AWS::Lambda::LayerVersion")["CompatibleArchitectures"] == [{"Ref": "Architecture"}]
    # Left out, SAM builds for x86_64 without a word.
    assert template.source["Resources"]["SharedLayer"]["Metadata"]["BuildArchitecture"] == "arm64"
    makefile = (root / "layers" / "shared" / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^LAYER_PLATFORM \?= aarch64-", makefile, re.MULTILINE)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_gets_the_shared_layer_and_nothing_else(function: str, template: Template) -> None:
    [layer] = template.of_type("AWS::Lambda::LayerVersion")
    assert template[function]["Layers"] == [{"Ref": layer}]


def test_the_layer_is_built_by_its_makefile_from_hashed_pins(template: Template, root: Path) -> None:
    layer = template.source["Resources"]["SharedLayer"]
    assert layer["Metadata"]["BuildMethod"] == "makefile"
    folder = root / layer["Properties"]["ContentUri"]
    makefile = (folder / "Makefile").read_text(encoding="utf-8")
    assert "build-SharedLayer:" in makefile
    assert "--require-hashes" in makefile
    assert "unchecked-hash" in makefile


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_says_what_it_is_for(function: str, template: Template) -> None:
    assert template[function]["Description"]["Fn::Sub"]


# Versions and aliases


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_change_of_the_layer_alone_publishes_a_new_version_of_a_function(
    function: str, environment: None, template: Template, root: Path
) -> None:
    changed = Template(root, built={"SharedLayer": "second"})
    assert version_of(changed, function) != version_of(template, function)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_change_of_the_code_publishes_a_new_version_of_its_function_only(
    function: str, environment: None, template: Template, root: Path
) -> None:
    changed = Template(root, built={function: "second"})
    assert [each for each in FUNCTIONS if version_of(changed, each) != version_of(template, each)] == [function]


def test_without_a_change_no_version_is_published(environment: None, template: Template, root: Path) -> None:
    again = Template(root)
    assert [version_of(again, each) for each in FUNCTIONS] == [version_of(template, each) for each in FUNCTIONS]


def version_of(template: Template, function: str) -> str:
    """The logical id of the version that the alias points to."""
    return str(template[f"{function}Aliaslive"]["FunctionVersion"]["Fn::GetAtt"][0])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_both_flags_that_publish_a_layers_change_are_set(function: str, template: Template) -> None:
    assert template.source["Resources"]["SharedLayer"]["Properties"]["PublishLambdaVersion"] is True
    assert template.source["Resources"][function]["Properties"]["AutoPublishAliasAllProperties"] is True


# What is too long for the description of a version, which has room for 256 characters: it goes live with the next
# version, and docs/deploy.md says to give a Revision with it.
WITH_A_REVISION = {
    "WebhookSecretArn",
    "DatabaseSecretArn",
    "ClerkSecretKeyArn",
    "SessionDatabaseSecretArn",
    "ClerkPublishableKey",
    "ClerkApiUrl",
    "ClerkFrontendApiUrl",
    "AwsEndpointUrl",
    # Names a file of the layer, which makes a new version anyway.
    "DatabaseCaFile",
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_another_value_of_a_parameter_goes_live(function: str, template: Template, root: Path) -> None:
    version = template[version_of(template, function)]
    named = re.findall(r"\$\{(\w+)\}", version["Description"]["Fn::Sub"])
    given = set(mentioned(template[function]["Environment"])) & set(parameters(template))
    assert named[0] == "Revision"
    # A version whose description changes and whose function does not cannot be published.
    assert set(named[1:]) <= given
    assert given - set(named) <= WITH_A_REVISION
    assert template[function]["Description"]["Fn::Sub"].endswith("${Revision}")
    longest = [longest_value(parameters(template)[name]) for name in named]
    assert sum(longest) + len(longest) <= 256


def longest_value(parameter: Resource) -> int:
    """How many characters a value of a parameter may have; numbers of a sensible size."""
    if "AllowedValues" in parameter:
        return max(map(len, parameter["AllowedValues"]))
    return 12 if parameter["Type"] == "Number" else int(parameter["MaxLength"])


def test_every_event_reaches_the_alias_never_the_latest_code(template: Template) -> None:
    mappings = template.of_type("AWS::Lambda::EventSourceMapping").values()
    permissions = template.of_type("AWS::Lambda::Permission").values()
    targets = [properties(each)["FunctionName"] for each in (*mappings, *permissions)]
    targets += [each["Target"]["Arn"] for each in schedules(template).values()]
    assert sorted(target["Ref"] for target in targets) == [
        "IngestFunctionAliaslive",
        "ReconcileFunctionAliaslive",
        "ReconcileFunctionAliaslive",
        "RetryFunctionAliaslive",
        "RetryFunctionAliaslive",
        "SessionFunctionAliaslive",
        "SessionFunctionAliaslive",
        "SyncFunctionAliaslive",
    ]
    for function in ("IngestFunction", "SessionFunction"):
        assert f"${{{function}Aliaslive}}" in json.dumps(template.only("AWS::ApiGateway::RestApi"))


def test_without_a_gradual_deployment_there_is_nothing_of_codedeploys(template: Template) -> None:
    assert not [each for each in template.transformed["Resources"].values() if "CodeDeploy" in each["Type"]]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_gradual_deployment_is_a_canary_that_its_functions_errors_roll_back(function: str, gradual: Template) -> None:
    group = gradual[f"{function}DeploymentGroup"]
    assert group["DeploymentConfigName"]["Fn::Sub"][1] == {"ConfigName": "Canary10Percent5Minutes"}
    [alarm, *more] = [each["Name"]["Ref"] for each in chosen(gradual, group["AlarmConfiguration"]["Alarms"], {})]
    assert gradual[alarm]["MetricName"] == "Errors"
    assert gradual[alarm]["Dimensions"][0]["Value"] == gradual[function]["FunctionName"]
    assert more == {"IngestFunction": ["WebhookApiErrorsAlarm"], "SyncFunction": ["ParkedAlarm"]}.get(function, [])
    assert group["AutoRollbackConfiguration"]["Enabled"] is True


def test_where_there_is_no_alarm_on_parked_events_no_deployment_waits_for_it(gradual: Template) -> None:
    alarms = gradual["SyncFunctionDeploymentGroup"]["AlarmConfiguration"]["Alarms"]
    emulated = chosen(gradual, alarms, {"AwsEndpointUrl": "http://127.0.0.1:4566"})
    assert emulated == [{"Name": {"Ref": "SyncErrorsAlarm"}}, {"Name": {"Ref": "AWS::NoValue"}}]


# The webhook's front door


def post(template: Template) -> Resource:
    paths = template.only("AWS::ApiGateway::RestApi")["Body"]["paths"]
    assert list(paths) == ["/webhooks/clerk", "/session"]
    assert list(paths["/webhooks/clerk"]) == ["post"]
    method: Resource = paths["/webhooks/clerk"]["post"]
    return method


def test_who_signs_in_finds_a_method_and_a_preflight_only_where_there_is_a_function(template: Template) -> None:
    path = template.only("AWS::ApiGateway::RestApi")["Body"]["paths"]["/session"]
    condition, methods, otherwise = path["Fn::If"]
    assert (condition, otherwise) == ("HasSession", {"Ref": "AWS::NoValue"})
    assert sorted(methods) == ["options", "post"]
    for method in methods.values():
        said = json.dumps(method)
        assert '"type": "aws_proxy"' in said
        assert "${SessionFunctionAliaslive}" in said


def test_the_api_is_regional_and_has_one_method_for_webhooks(template: Template) -> None:
    assert template.only("AWS::ApiGateway::RestApi")["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    assert post(template)["x-amazon-apigateway-integration"]["type"] == "aws_proxy"


def test_a_request_without_one_of_svix_headers_is_refused_before_the_function_is_paid_for(
    template: Template,
) -> None:
    required = [
        each["name"] for each in post(template)["parameters"] if each["in"] == "header" and each["required"] is True
    ]
    assert sorted(required) == ["svix-id", "svix-signature", "svix-timestamp"]
    validators = template.only("AWS::ApiGateway::RestApi")["Body"]["x-amazon-apigateway-request-validators"]
    validator = validators[post(template)["x-amazon-apigateway-request-validator"]]
    assert validator == {"validateRequestParameters": True, "validateRequestBody": False}


def test_it_is_refused_with_the_answer_of_a_forged_request(template: Template, account: Account) -> None:
    responses = template.only("AWS::ApiGateway::RestApi")["Body"]["x-amazon-apigateway-gateway-responses"]
    refused = responses["BAD_REQUEST_PARAMETERS"]
    queue = Queue(account.sqs, account.sync_queue_url)
    arn_of_secret = account.put_secret("webhook", generate_secret())
    settings = IngestSettings(arn_of_secret, account.sync_queue_url, account.parked_queue_url, "", 1000)
    secret = Secret(account.secrets_manager, arn_of_secret)
    forged = Ingest(settings, secret, sync_queue=queue, parked_queue=queue, clock_ms=lambda: 0).answer({})
    assert refused["statusCode"] == str(forged.status) == "401"
    assert list(refused["responseTemplates"].values()) == [forged.message]


def test_every_stage_is_throttled(template: Template) -> None:
    [stage] = template.of_type("AWS::ApiGateway::Stage").values()
    settings, of_session = properties(stage)["MethodSettings"]
    assert (settings["ResourcePath"], settings["HttpMethod"]) == ("/*", "*")
    assert settings["ThrottlingRateLimit"] == {"Ref": "ThrottleRate"}
    assert settings["ThrottlingBurstLimit"] == {"Ref": "ThrottleBurst"}
    assert properties(stage)["StageName"] == {"Ref": "Stage"}
    # A crowd that signs in must not take the webhooks' share, nor they theirs.
    condition, own, otherwise = of_session["Fn::If"]
    assert (condition, otherwise) == ("HasSession", {"Ref": "AWS::NoValue"})
    assert (own["ResourcePath"], own["HttpMethod"]) == ("/~1session", "POST")
    assert own["ThrottlingRateLimit"] == {"Ref": "SessionThrottleRate"}
    assert own["ThrottlingBurstLimit"] == {"Ref": "SessionThrottleBurst"}


def test_no_second_stage_lets_requests_in_past_the_throttle(template: Template) -> None:
    # Without OpenApiVersion, SAM's deployment makes a public stage of its own, named "Stage".
    for deployment in template.of_type("AWS::ApiGateway::Deployment").values():
        assert "StageName" not in properties(deployment)


def test_the_api_may_call_each_function_for_its_own_path_only(template: Template) -> None:
    allowed = {}
    for permission in map(properties, template.of_type("AWS::Lambda::Permission").values()):
        assert permission["Principal"] == "apigateway.amazonaws.com"
        allowed[permission["SourceArn"]["Fn::Sub"][0].rpartition("${__Stage__}/")[2]] = permission["FunctionName"][
            "Ref"
        ]
    assert allowed == {
        "POST/webhooks/clerk": "IngestFunctionAliaslive",
        "POST/session": "SessionFunctionAliaslive",
        "OPTIONS/session": "SessionFunctionAliaslive",
    }


@pytest.mark.parametrize(
    ("addresses", "listed"),
    [(None, ["0.0.0.0/0", "::/0"]), ("192.0.2.1/32,198.51.100.0/24", ["192.0.2.1/32", "198.51.100.0/24"])],
)
def test_webhooks_come_from_anywhere_or_from_the_addresses_that_are_given(
    addresses: str | None, listed: list[str], environment: None, root: Path
) -> None:
    template = Template(root, {"WebhookSourceAddresses": addresses} if addresses else {})
    let_in, kept_out = template.only("AWS::ApiGateway::RestApi")["Body"]["x-amazon-apigateway-policy"]["Statement"]
    assert (let_in["Effect"], let_in["Resource"]) == ("Allow", "execute-api:/*")
    # Browsers that sign in come from anywhere.
    assert (kept_out["Effect"], kept_out["Resource"]) == ("Deny", "execute-api:/*/POST/webhooks/clerk")
    separator, text = kept_out["Condition"]["NotIpAddress"]["aws:SourceIp"]["Fn::Split"]
    assert text.split(separator) == listed


def test_other_addresses_make_a_new_deployment_of_the_api_for_else_they_are_not_live(
    environment: None, template: Template, root: Path
) -> None:
    changed = Template(root, {"WebhookSourceAddresses": "192.0.2.1/32"})
    kind = "AWS::ApiGateway::Deployment"
    assert changed.of_type(kind).keys() != template.of_type(kind).keys()


def test_a_web_acl_turns_away_an_address_that_sends_too_much_if_there_is_to_be_one(template: Template) -> None:
    acl = {"WebAcl", "WebAclAssociation"}
    assert not acl & names_that_exist(template, {})
    assert acl <= names_that_exist(template, {"RequestsPerAddress": "2000"})
    [rule] = template["WebAcl"]["Rules"]
    limit = rule["Statement"]["RateBasedStatement"]
    assert (limit["AggregateKeyType"], limit["Limit"]) == ("IP", {"Ref": "RequestsPerAddress"})
    assert rule["Action"] == {"Block": {}}
    assert template["WebAcl"]["DefaultAction"] == {"Allow": {}}
    # The association waits for the stage.
    [stage] = template.of_type("AWS::ApiGateway::Stage")
    assert f"/stages/${{{stage}}}" in template["WebAclAssociation"]["ResourceArn"]["Fn::Sub"]


def test_concurrency_is_kept_for_webhooks_only_when_it_is_asked_for(template: Template) -> None:
    reserved = template["IngestFunction"]["ReservedConcurrentExecutions"]
    assert chosen(template, reserved, {}) == {"Ref": "AWS::NoValue"}
    asked = chosen(template, reserved, {"IngestReservedConcurrency": "50"})
    assert asked == {"Ref": "IngestReservedConcurrency"}
    # A queue whose function has less than its MaximumConcurrency would be received and thrown back.
    for function in set(FUNCTIONS) - {"IngestFunction"}:
        assert "ReservedConcurrentExecutions" not in template[function]


def test_a_function_has_longer_than_the_database_may_take_to_connect_and_answer(template: Template) -> None:
    for function in ("SyncFunction", "RetryFunction"):
        assert template[function]["Timeout"] > CONNECT_SECONDS + WORKER_PATIENCE_SECONDS
    assert template["SessionFunction"]["Timeout"] > CONNECT_SECONDS + SESSION_PATIENCE_SECONDS + CLERK_ANSWERS_WITHIN


def test_who_signs_in_gets_an_answer_of_ours_before_the_api_gives_up(template: Template) -> None:
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html
    assert template["SessionFunction"]["Timeout"] < 29


def test_ingest_answers_before_svix_gives_up(template: Template) -> None:
    assert template["IngestFunction"]["Timeout"] < SVIX_WAITS_SECONDS


def test_the_largest_body_fits_into_a_message_with_all_attributes_it_may_ever_get(template: Template) -> None:
    limit = template.source["Parameters"]["MaxBodyBytes"]
    attributes = 8_000
    assert limit["Default"] <= limit["MaxValue"] == LARGEST_BODY
    assert LARGEST_BODY + attributes <= LARGEST_MESSAGE


# Queues


def test_every_queue_is_encrypted(template: Template) -> None:
    for queue in template.of_type("AWS::SQS::Queue").values():
        assert properties(queue)["SqsManagedSseEnabled"] is True


def test_no_queue_is_a_fifo_queue(template: Template) -> None:
    for queue in template.of_type("AWS::SQS::Queue").values():
        assert "FifoQueue" not in properties(queue)


def mapping_of(template: Template, queue: str) -> Resource:
    """What hands the messages of a queue to its function."""
    mappings = [properties(each) for each in template.of_type("AWS::Lambda::EventSourceMapping").values()]
    [mapping] = [each for each in mappings if each["EventSourceArn"] == arn(queue)]
    return mapping


@pytest.mark.parametrize("queue", CONSUMERS)
def test_every_queue_is_emptied_by_its_function(queue: str, template: Template) -> None:
    assert mapping_of(template, queue)["FunctionName"] == {"Ref": f"{CONSUMERS[queue]}Aliaslive"}
    assert template.of_type("AWS::SQS::Queue").keys() == CONSUMERS.keys() | {"FailedRunsQueue"}
    assert len(template.of_type("AWS::Lambda::EventSourceMapping")) == len(CONSUMERS)


@pytest.mark.parametrize("queue", CONSUMERS)
def test_a_message_stays_invisible_for_six_times_as_long_as_the_function_may_run(
    queue: str, template: Template
) -> None:
    window = mapping_of(template, queue).get("MaximumBatchingWindowInSeconds", 0)
    timeout = template[CONSUMERS[queue]]["Timeout"]
    assert template[queue]["VisibilityTimeout"] >= 6 * timeout + window


def test_a_message_is_kept_longer_the_further_it_has_come(template: Template) -> None:
    main, dead, parked = (
        template[name]["MessageRetentionPeriod"] for name in ("SyncQueue", "SyncDeadLetterQueue", "ParkedQueue")
    )
    # The clock of a standard queue runs from the first time a message was sent.
    assert 4 * DAY_SECONDS <= main < dead
    assert dead == parked == 14 * DAY_SECONDS


def test_nothing_ever_leaves_the_last_two_queues_but_by_the_retry_function(template: Template) -> None:
    for queue in ("SyncDeadLetterQueue", "ParkedQueue"):
        assert "RedrivePolicy" not in template[queue]


def test_no_event_passes_a_function_as_often_as_lambda_takes_for_a_loop(template: Template) -> None:
    # Lambda stops a chain after about 16 passes through one function; SQS delivering again is no pass.
    # https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
    stopped_after = 16
    passes_through_sync = 1 + MAX_ATTEMPTS  # the first one, and one for every time it is sent back
    passes_through_retry = MAX_ATTEMPTS + 1  # one for every time it is sent back, and the last, which parks it
    assert max(passes_through_sync, passes_through_retry) <= stopped_after * 0.6
    # The only way round: from the sync queue to the dead letters, and back by the retry function.
    senders = {
        function: [
            resource["Fn::GetAtt"][0]
            for actions, resources in template.statements(function)
            if "sqs:SendMessage" in actions
            for resource in resources
        ]
        for function in FUNCTIONS
    }
    assert senders == {
        "IngestFunction": ["SyncQueue", "ParkedQueue"],
        "ReconcileFunction": ["SyncQueue", "FailedRunsQueue"],
        "RetryFunction": ["SyncQueue"],
        "SessionFunction": [],
        "SyncFunction": ["ParkedQueue"],
    }
    for function in FUNCTIONS:
        assert template[function].get("RecursiveLoop", "Terminate") == "Terminate"


def test_an_event_that_waits_for_its_next_attempt_never_outlives_its_queue(template: Template) -> None:
    deliveries = template["SyncQueue"]["RedrivePolicy"]["maxReceiveCount"]
    longest_delay = 900
    one_round = deliveries * template["SyncQueue"]["VisibilityTimeout"] + longest_delay
    assert one_round < template["SyncQueue"]["MessageRetentionPeriod"] / 10


def test_what_fails_five_times_goes_to_the_dead_letters(template: Template) -> None:
    redrive = template["SyncQueue"]["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == arn("SyncDeadLetterQueue")
    assert redrive["maxReceiveCount"] >= 5


def test_only_the_sync_queue_may_send_to_the_dead_letters(template: Template) -> None:
    allowed = template["SyncDeadLetterQueue"]["RedriveAllowPolicy"]
    assert allowed["redrivePermission"] == "byQueue"
    [source] = allowed["sourceQueueArns"]
    queue_name = template["SyncQueue"]["QueueName"]["Fn::Sub"]
    assert source == {"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:" + queue_name}


@pytest.mark.parametrize("queue", CONSUMERS)
def test_a_function_says_which_messages_of_a_batch_failed(queue: str, template: Template) -> None:
    assert mapping_of(template, queue)["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_burst_never_opens_more_connections_than_were_agreed(template: Template) -> None:
    scaling = mapping_of(template, "SyncQueue")["ScalingConfig"]
    assert scaling == {"MaximumConcurrency": {"Ref": "SyncMaximumConcurrency"}}
    for queue in ("SyncDeadLetterQueue", "ParkedQueue"):
        assert mapping_of(template, queue)["ScalingConfig"] == {"MaximumConcurrency": 2}
    limits = template.source["Parameters"]["SyncMaximumConcurrency"]
    assert 2 <= limits["MinValue"] <= limits["Default"] <= limits["MaxValue"] <= 1000


def test_events_are_not_held_back_to_fill_a_batch(template: Template) -> None:
    assert mapping_of(template, "SyncQueue").get("MaximumBatchingWindowInSeconds", 0) == 0


# Reconcile


def schedules(template: Template) -> dict[str, Resource]:
    """The schedules, by the mode they ask for."""
    found = [properties(each) for each in template.of_type("AWS::Scheduler::Schedule").values()]
    return {json.loads(each["Target"]["Input"])["mode"]: each for each in found}


def test_everything_is_compared_every_night_and_what_changed_every_quarter_of_an_hour(template: Template) -> None:
    asked = schedules(template)
    expressions = {
        mode: template.source["Parameters"][schedule["ScheduleExpression"]["Ref"]]["Default"]
        for mode, schedule in asked.items()
    }
    assert expressions == {"full": "cron(30 3 * * ? *)", "quick": "rate(15 minutes)"}


@pytest.mark.parametrize(("mode", "name"), [("full", "Full"), ("quick", "Quick")])
def test_each_schedule_can_be_switched_off_and_its_alarm_with_it(mode: str, name: str, template: Template) -> None:
    state = f"{name}ReconcileState"
    assert schedules(template)[mode]["State"] == {"Ref": state}
    assert parameters(template)[state]["AllowedValues"] == ["ENABLED", "DISABLED"]
    assert parameters(template)[state]["Default"] == "ENABLED"
    off = names_that_exist(template, {state: "DISABLED"})
    on = names_that_exist(template, {})
    assert on - off == {f"{name}ReconcileOverdueAlarm"}


def test_a_schedule_calls_the_reconcile_function_and_may_do_nothing_else(template: Template) -> None:
    for schedule in schedules(template).values():
        role = template[schedule["Target"]["RoleArn"]["Fn::GetAtt"][0]]
        allowed = [
            (statement["Action"], statement["Resource"])
            for policy in role["Policies"]
            for statement in policy["PolicyDocument"]["Statement"]
        ]
        assert allowed == [
            ("lambda:InvokeFunction", {"Ref": "ReconcileFunctionAliaslive"}),
            ("sqs:SendMessage", arn("FailedRunsQueue")),
        ]


def test_a_run_that_could_not_be_started_or_failed_twice_is_kept_for_an_operator(template: Template) -> None:
    for schedule in schedules(template).values():
        assert schedule["Target"]["DeadLetterConfig"] == {"Arn": arn("FailedRunsQueue")}
        assert schedule["Target"]["RetryPolicy"] == {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 900}
    [invocation] = map(properties, template.of_type("AWS::Lambda::EventInvokeConfig").values())
    assert invocation["DestinationConfig"] == {"OnFailure": {"Destination": arn("FailedRunsQueue")}}
    assert (invocation["FunctionName"], invocation["Qualifier"]) == ({"Ref": "ReconcileFunction"}, "live")
    assert invocation["MaximumRetryAttempts"] == 1
    # A quick run that waits longer is done by the next one.
    assert invocation["MaximumEventAgeInSeconds"] <= 900


def test_a_run_may_take_as_long_as_lambda_allows_and_takes_no_concurrency_from_the_others(template: Template) -> None:
    assert template["ReconcileFunction"]["Timeout"] == 900
    # Two runs exclude each other in the database. Reserving would fail in an account with a low limit.
    assert "ReservedConcurrentExecutions" not in template["ReconcileFunction"]


@pytest.mark.parametrize(
    ("name", "limit", "unit"),
    [
        ("FullReconcileOverdueAlarm", "FullReconcileOverdueHours", 3600),
        ("QuickReconcileOverdueAlarm", "QuickReconcileOverdueMinutes", 60),
    ],
)
def test_an_alarm_rings_when_no_run_has_finished_for_two_periods(
    name: str, limit: str, unit: int, template: Template
) -> None:
    alarm, parameter = alarms(template)[name], parameters(template)[limit]
    assert alarm["EvaluationPeriods"] == {"Ref": limit}
    assert (alarm["Period"], alarm["Threshold"], alarm["ComparisonOperator"]) == (unit, 1, "LessThanThreshold")
    period_of_the_schedule = {"Full": 24 * 3600, "Quick": 15 * 60}[name.removesuffix("ReconcileOverdueAlarm")]
    assert parameter["Default"] * unit > 2 * period_of_the_schedule
    # CloudWatch looks back a week when the period is an hour, else a day.
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    assert parameter["MaxValue"] * unit <= (7 if unit >= 3600 else 1) * DAY_SECONDS


KEPT = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:kept-AbCdEf"
TOPIC = f"arn:aws:sns:eu-central-1:{ACCOUNT}:alarms"
SESSION = {"ClerkPublishableKey": "pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA"}
# With everything that parameters can add.
FULL = {
    **SESSION,
    "AlarmEmail": "ops@example.test",
    "RequestsPerAddress": "2000",
    "IngestReservedConcurrency": "50",
}
# The parameter that names a secret, the secret that is made without it, and what it takes besides.
SECRETS = {
    "WebhookSecretArn": ("WebhookSecret", {"UseClerkApi": "false"}),
    "DatabaseSecretArn": ("DatabaseSecret", {"UseClerkApi": "false"}),
    "ClerkSecretKeyArn": ("ClerkSecretKey", {}),
    "SessionDatabaseSecretArn": ("SessionDatabaseSecret", SESSION),
}


def names_that_exist(template: Template, given: Mapping[str, str]) -> set[str]:
    """The logical ids of what CloudFormation creates with these parameters."""
    resources = template.transformed["Resources"]
    return {name for name, each in resources.items() if holds(template, each.get("Condition"), given)}


def holds(template: Template, condition: Any, given: Mapping[str, str]) -> bool:
    """Whether a condition is true; None always is."""
    match condition:
        case None:
            return True
        case str():
            return holds(template, template.transformed["Conditions"][condition], given)
        case {"Condition": name}:
            return holds(template, name, given)
        case {"Fn::Not": [inner]}:
            return not holds(template, inner, given)
        case {"Fn::And": parts}:
            return all(holds(template, part, given) for part in parts)
        case {"Fn::Or": parts}:
            return any(holds(template, part, given) for part in parts)
        case {"Fn::Equals": [{"Ref": name}, value]}:
            return str(given.get(name, parameters(template)[name].get("Default"))) == str(value)
    raise AssertionError(f"not a condition this test can read: {condition}")


def mentioned(value: Any) -> Iterator[str]:
    """Everything that a part of a template refers to."""
    if isinstance(value, list):
        for each in value:
            yield from mentioned(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key == "Ref":
                yield each
            elif key == "Fn::GetAtt":
                yield each[0]
            elif key == "DependsOn":
                yield from [each] if isinstance(each, str) else each
            elif key == "Fn::Sub":
                text = each if isinstance(each, str) else each[0]
                yield from re.findall(r"\$\{([A-Za-z0-9]+)", text)
                yield from mentioned([] if isinstance(each, str) else each[1:])
            else:
                yield from mentioned(each)


@pytest.mark.parametrize("gradual", ["true", "false"])
def test_without_clerks_api_there_is_nothing_of_reconcile_and_nothing_that_looks_for_it(
    gradual: str, environment: None, root: Path
) -> None:
    template = Template(root, {"GradualDeployment": gradual})
    everything = set(template.transformed["Resources"])
    assert names_that_exist(template, FULL) == everything
    without = without_anything_that_looks_for_what_is_left_out(template, {"UseClerkApi": "false", **FULL})
    assert {"ReconcileFunction", "ReconcileRole", "FailedRunsQueue", "ReconcileFunctionFull"} <= everything - without
    assert not [name for name in without if "Reconcile" in name or "Session" in name]
    assert "ClerkSecretKey" not in without


@pytest.mark.parametrize("gradual", ["true", "false"])
@pytest.mark.parametrize("without", [{"UseClerkApi": "false"}, {"ClerkPublishableKey": ""}])
def test_without_all_it_needs_there_is_nothing_of_session_and_nothing_that_looks_for_it(
    gradual: str, without: dict[str, str], environment: None, root: Path
) -> None:
    template = Template(root, {"GradualDeployment": gradual})
    exists = without_anything_that_looks_for_what_is_left_out(template, {**FULL, **without})
    assert not [name for name in exists if "Session" in name]


@pytest.mark.parametrize(
    "given", [{}, FULL, {**FULL, "AlarmTopicArn": TOPIC}, {**FULL, **dict.fromkeys(SECRETS, KEPT)}]
)
def test_nothing_looks_for_what_the_parameters_leave_out(given: dict[str, str], template: Template) -> None:
    assert without_anything_that_looks_for_what_is_left_out(template, given)


def without_anything_that_looks_for_what_is_left_out(template: Template, given: Mapping[str, str]) -> set[str]:
    """The logical ids of what is created with these parameters, nothing of which names anything that is not."""
    exists = names_that_exist(template, given)
    left_out = set(template.transformed["Resources"]) - exists
    kept = [template.transformed["Resources"][name] for name in exists]
    kept += [each for each in template.transformed["Outputs"].values() if holds(template, each.get("Condition"), given)]
    assert not left_out & set(mentioned(chosen(template, kept, given)))
    return exists


def chosen(template: Template, value: Any, given: Mapping[str, str]) -> Any:
    """A part of a template, with the side of each choice that these parameters take."""
    match value:
        case list():
            return [chosen(template, each, given) for each in value]
        case {"Fn::If": [condition, yes, no]}:
            return chosen(template, yes if holds(template, condition, given) else no, given)
        case dict():
            return {key: chosen(template, each, given) for key, each in value.items()}
        case _:
            return value


# Rights

LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
TRACES = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}


def secret_of(parameter: str) -> dict[str, Any]:
    """How the template says a secret that a parameter names, or else the stack makes."""
    logical_id, _ = SECRETS[parameter]
    condition = (
        f"Makes{logical_id}" if parameter in ("WebhookSecretArn", "DatabaseSecretArn") else f"NamesNo{logical_id}"
    )
    return {"Fn::If": [condition, {"Fn::GetAtt": [logical_id, "Id"]}, {"Ref": parameter}]}


RIGHTS: dict[str, list[tuple[set[str], list[Any]]]] = {
    "IngestFunction": [
        (LOGS, [arn("IngestLogGroup")]),
        (TRACES, ["*"]),
        ({"secretsmanager:GetSecretValue"}, [secret_of("WebhookSecretArn")]),
        ({"sqs:SendMessage"}, [arn("SyncQueue"), arn("ParkedQueue")]),
    ],
    "ReconcileFunction": [
        (LOGS, [arn("ReconcileLogGroup")]),
        (TRACES, ["*"]),
        ({"secretsmanager:GetSecretValue"}, [secret_of("ClerkSecretKeyArn"), secret_of("DatabaseSecretArn")]),
        ({"sqs:SendMessage"}, [arn("SyncQueue")]),
        ({"sqs:SendMessage"}, [arn("FailedRunsQueue")]),
    ],
    "RetryFunction": [
        (LOGS, [arn("RetryLogGroup")]),
        (TRACES, ["*"]),
        ({"secretsmanager:GetSecretValue"}, [secret_of("DatabaseSecretArn")]),
        (
            {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"},
            [arn("SyncDeadLetterQueue"), arn("ParkedQueue")],
        ),
        ({"sqs:SendMessage", "sqs:SendMessageBatch"}, [arn("SyncQueue")]),
    ],
    "SessionFunction": [
        (LOGS, [arn("SessionLogGroup")]),
        (TRACES, ["*"]),
        ({"secretsmanager:GetSecretValue"}, [secret_of("ClerkSecretKeyArn"), secret_of("SessionDatabaseSecretArn")]),
    ],
    "SyncFunction": [
        (LOGS, [arn("SyncLogGroup")]),
        (TRACES, ["*"]),
        ({"secretsmanager:GetSecretValue"}, [secret_of("DatabaseSecretArn")]),
        ({"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}, [arn("SyncQueue")]),
        ({"sqs:SendMessage"}, [arn("ParkedQueue")]),
    ],
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_do_its_own_work_and_nothing_else(function: str, template: Template) -> None:
    def in_order(statements: list[tuple[set[str], list[Any]]]) -> list[str]:
        return sorted(f"{sorted(actions)} {json.dumps(resources)}" for actions, resources in statements)

    assert in_order(template.statements(function)) == in_order(RIGHTS[function])


def test_only_traces_are_allowed_on_everything_because_they_know_no_resources(template: Template) -> None:
    for function in FUNCTIONS:
        for actions, resources in template.statements(function):
            assert not any("*" in action for action in actions)
            assert "*" not in resources or actions <= TRACES


def test_nobody_has_a_managed_policy(template: Template) -> None:
    roles = template.of_type("AWS::IAM::Role")
    assert len(roles) == len(FUNCTIONS) + len(schedules(template))
    for role in roles.values():
        assert "ManagedPolicyArns" not in properties(role)


def test_every_function_has_a_role_of_its_own_that_only_lambda_can_take(template: Template) -> None:
    roles = [template[function]["Role"]["Fn::GetAtt"][0] for function in FUNCTIONS]
    assert len(set(roles)) == len(FUNCTIONS)
    for role in roles:
        [statement] = template[role]["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_nobody_else_is_let_into_a_queue(template: Template) -> None:
    assert template.of_type("AWS::SQS::QueuePolicy") == {}


# Settings and secrets


def variables(template: Template, function: str) -> dict[str, Any]:
    found: dict[str, Any] = template[function]["Environment"]["Variables"]
    return found


class Watched(dict[str, str]):
    """An environment that remembers what was asked of it."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        ("IngestFunction", IngestSettings),
        ("SyncFunction", SyncSettings),
        ("RetryFunction", RetrySettings),
        ("ReconcileFunction", ReconcileFunctionSettings),
        ("SessionFunction", SessionSettings),
    ],
)
def test_a_function_is_given_every_variable_it_reads_and_no_other(
    function: str,
    settings: type[IngestSettings | SyncSettings | RetrySettings | ReconcileFunctionSettings | SessionSettings],
    template: Template,
) -> None:
    given = Watched(dict.fromkeys(variables(template, function), "1"))
    settings.from_environment(given)
    ours = {name for name in given if not name.startswith(("POWERTOOLS_", "AWS_"))}
    assert given.asked == ours


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_secret_is_in_an_environment_variable(function: str, template: Template) -> None:
    for name, value in variables(template, function).items():
        text = json.dumps(value)
        assert "{{resolve:" not in text
        if re.search("SECRET|PASSWORD|KEY|TOKEN", name) and name != "CLERK_PUBLISHABLE_KEY":
            assert name.endswith("_ARN")
            assert value == secret_of("".join(word.title() for word in name.split("_")))


@pytest.mark.parametrize("parameter", SECRETS)
def test_a_secret_that_no_parameter_names_is_made_by_the_stack(parameter: str, template: Template) -> None:
    logical_id, needed = SECRETS[parameter]
    assert logical_id in names_that_exist(template, {**SESSION, **needed})
    assert logical_id not in names_that_exist(template, {**SESSION, **needed, parameter: KEPT})
    output = template.transformed["Outputs"][parameter]["Value"]
    assert output == secret_of(parameter)
    assert chosen(template, output, {}) == {"Fn::GetAtt": [logical_id, "Id"]}
    assert chosen(template, output, {parameter: KEPT}) == {"Ref": parameter}


def test_an_update_of_the_stack_can_never_write_over_the_value_of_a_secret(template: Template) -> None:
    secrets = template.of_type("AWS::SecretsManager::Secret")
    assert sorted(secrets) == sorted(logical_id for logical_id, _ in SECRETS.values())
    for secret in secrets.values():
        assert properties(secret).keys() == {"Description"}


def test_what_clerk_was_told_is_accepted_outlives_the_stack_and_the_secrets_do_not(template: Template) -> None:
    for queue in CONSUMERS:
        kept = template.transformed["Resources"][queue]
        # A first deployment that fails leaves nothing behind that the second one would fall over.
        assert kept["DeletionPolicy"] == "RetainExceptOnCreate"
        assert kept["UpdateReplacePolicy"] == "Retain"
    for secret in template.of_type("AWS::SecretsManager::Secret").values():
        assert (secret["DeletionPolicy"], secret["UpdateReplacePolicy"]) == ("Delete", "Delete")


def test_each_function_knows_only_its_own_secret(template: Template) -> None:
    assert "DatabaseSecretArn" not in json.dumps(template["IngestFunction"])
    for function in ("SyncFunction", "RetryFunction", "ReconcileFunction"):
        assert "WebhookSecretArn" not in json.dumps(template[function])
    for function in ("IngestFunction", "SyncFunction", "RetryFunction"):
        assert "ClerkSecretKeyArn" not in json.dumps(template[function])
        assert "SessionDatabaseSecretArn" not in json.dumps(template[function])
    assert "SessionDatabaseSecretArn" not in json.dumps(template["ReconcileFunction"])
    assert "WebhookSecretArn" not in json.dumps(template["SessionFunction"])
    assert '"DatabaseSecretArn"' not in json.dumps(template["SessionFunction"])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_metrics_and_log_lines_name_their_function(function: str, template: Template) -> None:
    given = variables(template, function)
    assert given["POWERTOOLS_METRICS_NAMESPACE"] == "ClerkSupabaseSync"
    # The stack's name in it, because two stacks of one account must not share their metrics.
    name = function.removesuffix("Function").lower()
    assert given["POWERTOOLS_SERVICE_NAME"] == {"Fn::Sub": f"${{AWS::StackName}}-{name}"}


def test_on_aws_the_functions_talk_to_aws(template: Template) -> None:
    assert template.source["Parameters"]["AwsEndpointUrl"]["Default"] == ""
    for function in FUNCTIONS:
        endpoint = variables(template, function)["AWS_ENDPOINT_URL"]
        assert endpoint["Fn::If"][2] == {"Ref": "AWS::NoValue"}


# Logs, traces, alarms


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_has_a_log_group_that_forgets(function: str, template: Template) -> None:
    name = template[function]["FunctionName"]["Fn::Sub"]
    groups = [properties(each) for each in template.of_type("AWS::Logs::LogGroup").values()]
    [group] = [each for each in groups if each["LogGroupName"] == {"Fn::Sub": f"/aws/lambda/{name}"}]
    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_traced_and_logs_json(function: str, template: Template) -> None:
    assert template[function]["TracingConfig"] == {"Mode": "Active"}
    assert template[function]["LoggingConfig"] == {"LogFormat": "JSON"}


def test_the_api_is_traced_and_measured(template: Template) -> None:
    stage = template.only("AWS::ApiGateway::Stage")
    assert stage["TracingEnabled"] is True
    assert stage["MethodSettings"][0]["MetricsEnabled"] is True


def alarms(template: Template) -> dict[str, Resource]:
    return {name: properties(each) for name, each in template.of_type("AWS::CloudWatch::Alarm").items()}


def test_every_alarm_says_what_happened_and_tells_the_topic(template: Template) -> None:
    assert alarms(template)
    for name, alarm in alarms(template).items():
        assert len(alarm["AlarmDescription"].split()) > 4, name
        for given, told in (
            ({}, "AWS::NoValue"),
            ({"AlarmTopicArn": TOPIC}, "AlarmTopicArn"),
            ({"AlarmEmail": "ops@example.test"}, "AlarmTopic"),
            ({"AlarmEmail": "ops@example.test", "AlarmTopicArn": TOPIC}, "AlarmTopicArn"),
        ):
            assert chosen(template, alarm["AlarmActions"], given) == [{"Ref": told}], name


def test_an_address_makes_a_topic_that_sends_to_it(template: Template) -> None:
    assert template["AlarmTopic"] == {"Subscription": [{"Protocol": "email", "Endpoint": {"Ref": "AlarmEmail"}}]}
    assert "AlarmTopic" in names_that_exist(template, {"AlarmEmail": "ops@example.test"})
    assert "AlarmTopic" not in names_that_exist(template, {"AlarmEmail": "ops@example.test", "AlarmTopicArn": TOPIC})
    assert "AlarmTopic" not in names_that_exist(template, {})


def test_an_alarm_without_data_is_quiet_unless_it_waits_for_something(template: Template) -> None:
    for name, alarm in alarms(template).items():
        assert alarm["TreatMissingData"] == ("breaching" if name.endswith("OverdueAlarm") else "notBreaching"), name


@pytest.mark.parametrize(
    ("namespace", "metric", "about"),
    [
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "SyncDeadLetterQueue"),
        ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "SyncDeadLetterQueue"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "ParkedQueue"),
        ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "ParkedQueue"),
        ("ClerkSupabaseSync", "Parked", "-ingest"),
        ("ClerkSupabaseSync", "Parked", "-sync"),
        ("ClerkSupabaseSync", "Parked", "-retry"),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage", "SyncQueue"),
        ("AWS/Lambda", "Errors", "-ingest"),
        ("AWS/Lambda", "Errors", "-sync"),
        ("AWS/Lambda", "Errors", "-retry"),
        ("AWS/Lambda", "Throttles", "-ingest"),
        ("AWS/Lambda", "Throttles", "-retry"),
        ("AWS/Lambda", "Throttles", "-sync"),
        ("AWS/ApiGateway", "5XXError", "-webhooks"),
        ("ClerkSupabaseSync", "WrongInstance", "-ingest"),
        ("ClerkSupabaseSync", "TooLarge", "-ingest"),
        ("AWS/Lambda", "Errors", "-reconcile"),
        ("AWS/Lambda", "Throttles", "-reconcile"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "FailedRunsQueue"),
        ("ClerkSupabaseSync", "FullRunsComplete", "-reconcile"),
        ("ClerkSupabaseSync", "QuickRunsComplete", "-reconcile"),
        ("ClerkSupabaseSync", "Drift", "-reconcile"),
        ("ClerkSupabaseSync", "BrakePulled", "-reconcile"),
        ("ClerkSupabaseSync", "Silence", "-reconcile"),
        ("AWS/Lambda", "Errors", "-session"),
        ("AWS/Lambda", "Throttles", "-session"),
        ("ClerkSupabaseSync", "Stubs", "-session"),
    ],
)
def test_an_operator_hears_of_what_goes_wrong(namespace: str, metric: str, about: str, template: Template) -> None:
    watching = [
        watched
        for alarm in alarms(template).values()
        for watched in watched_by(alarm)
        if (watched["Namespace"], watched["MetricName"]) == (namespace, metric)
        and about in json.dumps(watched["Dimensions"])
    ]
    assert len(watching) == 1


def watched_by(alarm: Resource) -> list[Resource]:
    """The metrics an alarm looks at: one, or those of an expression."""
    if "Metrics" not in alarm:
        return [alarm]
    return [each["MetricStat"]["Metric"] for each in alarm["Metrics"] if "MetricStat" in each]


def test_an_alarm_on_several_metrics_looks_at_their_sum(template: Template) -> None:
    for alarm in alarms(template).values():
        if "Metrics" in alarm:
            *parts, total = alarm["Metrics"]
            assert all(part["ReturnData"] is False for part in parts)
            assert total["Expression"] in ("SUM(METRICS())", " + ".join(part["Id"] for part in parts))


def test_only_what_the_emulator_does_not_know_is_left_out_there(template: Template) -> None:
    assert template.source["Conditions"]["IsOnAws"] == {"Fn::Not": [{"Condition": "HasAwsEndpointUrl"}]}
    for name, resource in template.transformed["Resources"].items():
        assert (resource.get("Condition") == "IsOnAws") is ("Metrics" in properties(resource)), name


def test_dead_letters_alarm_only_when_the_retry_function_had_time_to_send_them_back(template: Template) -> None:
    for name, queue in (("DeadLettersAlarm", "SyncDeadLetterQueue"), ("ParkedQueueAlarm", "ParkedQueue")):
        alarm = alarms(template)[name]
        period = alarm["Metrics"][0]["MetricStat"]["Period"]
        assert alarm["EvaluationPeriods"] * period > 2 * template[queue]["VisibilityTimeout"]
        assert alarm["Threshold"] == 0


# Parameters and outputs


def parameters(template: Template) -> dict[str, Resource]:
    found: dict[str, Resource] = template.source["Parameters"]
    return found


def test_every_parameter_is_described_and_constrained(template: Template) -> None:
    for name, parameter in parameters(template).items():
        assert len(parameter["Description"].split()) > 3, name
        constraints = {"AllowedValues", "AllowedPattern", "MinValue", "MaxValue"}
        assert constraints & parameter.keys(), name
        assert "AllowedPattern" not in parameter or parameter["ConstraintDescription"], name


def test_every_default_keeps_to_its_own_constraint(template: Template) -> None:
    for name, parameter in parameters(template).items():
        if "Default" not in parameter:
            continue
        default = parameter["Default"]
        assert default in parameter.get("AllowedValues", [default]), name
        assert re.fullmatch(parameter.get("AllowedPattern", ".*"), str(default)), name
        if parameter["Type"] == "Number":
            assert parameter.get("MinValue", default) <= default <= parameter.get("MaxValue", default), name


def test_nothing_has_to_be_given(template: Template) -> None:
    assert not [name for name, parameter in parameters(template).items() if "Default" not in parameter]


def test_the_console_shows_every_parameter_once_and_a_guided_deployment_asks_in_the_same_order(
    template: Template,
) -> None:
    groups = template.source["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert [name for group in groups for name in group["Parameters"]] == list(parameters(template))
    assert all(group["Label"]["default"] for group in groups)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("WebhookSecretArn", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:name-AbCdEf", True),
        ("WebhookSecretArn", "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:folder/name-AbCdEf", True),
        ("WebhookSecretArn", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", False),
        ("DatabaseSecretArn", "postgresql://worker:password@db.example.test/postgres", False),
        ("DatabaseSecretArn", "", True),
        ("AlarmEmail", "", True),
        ("AlarmEmail", "ops@example.test", True),
        ("AlarmEmail", "ops", False),
        ("WebhookSourceAddresses", "192.0.2.0/24", True),
        ("WebhookSourceAddresses", "192.0.2.1/32,2001:db8::/32", True),
        ("WebhookSourceAddresses", "", False),
        ("WebhookSourceAddresses", "192.0.2.1", False),
        ("ClerkSecretKeyArn", "", True),
        ("ClerkSecretKeyArn", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:clerk-AbCdEf", True),
        ("ClerkSecretKeyArn", "sk_live_abc", False),
        ("FullReconcileSchedule", "cron(30 3 * * ? *)", True),
        ("FullReconcileSchedule", "30 3 * * *", False),
        ("QuickReconcileSchedule", "rate(15 minutes)", True),
        ("QuickReconcileSchedule", "15 minutes", False),
        ("ClerkInstanceId", "", True),
        ("ClerkInstanceId", "ins_2Abc", True),
        ("ClerkInstanceId", "user_2Abc", False),
        ("AlarmTopicArn", "", True),
        ("AlarmTopicArn", "arn:aws:sns:eu-central-1:123456789012:alarms", True),
        ("AlarmTopicArn", "ops@example.test", False),
        ("ClerkPublishableKey", "", True),
        ("ClerkPublishableKey", "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k", True),
        ("ClerkPublishableKey", "sk_live_Y2xlcmsuZXhhbXBsZS5jb20k", False),
        ("SessionDatabaseSecretArn", "", True),
        ("SessionDatabaseSecretArn", "postgresql://session:password@db.example.test/postgres", False),
        ("SessionAllowedOrigins", "", True),
        ("SessionAllowedOrigins", "https://app.example.test,http://localhost:3000", True),
        ("SessionAllowedOrigins", "*", False),
        ("SessionAllowedOrigins", "https://app.example.test/", False),
        ("SessionAllowedOrigins", "https://a.example.test, https://b.example.test", False),
        ("AuthorizedParties", "https://app.example.test", True),
        ("AuthorizedParties", "app.example.test", False),
        ("DatabaseCaFile", "", True),
        ("DatabaseCaFile", "/opt/ca/supabase-2021.pem", True),
        ("DatabaseCaFile", "/opt/ca/../../etc/passwd", False),
        ("DatabaseCaFile", "supabase.pem", False),
    ],
)
def test_a_parameter_takes_what_it_is_for(name: str, value: str, allowed: bool, template: Template) -> None:
    assert bool(re.fullmatch(parameters(template)[name]["AllowedPattern"], value)) is allowed


def test_every_parameter_is_used(template: Template) -> None:
    rest = json.dumps({key: value for key, value in template.source.items() if key != "Parameters"})
    for name in parameters(template):
        assert f'"Ref": "{name}"' in rest or f"${{{name}}}" in rest, name


def test_the_outputs_say_where_everything_is(template: Template) -> None:
    outputs = template.transformed["Outputs"]
    expected = {
        "WebhookUrl",
        "SyncQueueUrl",
        "SyncDeadLetterQueueUrl",
        "ParkedQueueUrl",
        "IngestFunctionName",
        "SyncFunctionName",
        "RetryFunctionName",
        "ReconcileFunctionName",
        "FailedRunsQueueUrl",
        "SessionUrl",
        "SessionFunctionName",
    }
    assert expected <= outputs.keys()
    for name, output in outputs.items():
        assert output["Description"], name


def test_the_webhook_url_leads_to_the_method_that_exists(template: Template) -> None:
    url = template.transformed["Outputs"]["WebhookUrl"]["Value"]["Fn::Sub"]
    path, _ = template.only("AWS::ApiGateway::RestApi")["Body"]["paths"]
    assert url.startswith("https://${WebhookApi}.execute-api.${AWS::Region}.")
    assert url.endswith("/${Stage}" + path)


def test_two_stacks_can_live_in_one_account(template: Template) -> None:
    names = [
        value
        for resource in template.transformed["Resources"].values()
        for key, value in properties(resource).items()
        if key in ("FunctionName", "QueueName", "LogGroupName", "LayerName", "Name")
    ]
    # The alias has the same name everywhere, and a reference is no name.
    given = [name for name in names if name != "live" and "Ref" not in name]
    assert given
    for name in given:
        assert "${AWS::StackName}" in name["Fn::Sub"]


def test_resources_come_in_the_order_in_which_an_event_travels(template: Template) -> None:
    road = ["WebhookApi", "IngestFunction", "SyncQueue", "SyncFunction", "SyncDeadLetterQueue", "RetryFunction"]
    road.append("ParkedQueue")
    assert [name for name in template.source["Resources"] if name in road] == road
