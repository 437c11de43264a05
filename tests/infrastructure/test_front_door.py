"""The API of template.yaml: accepted requests, rejected requests, and the time until an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clerk_supabase.aws.queue import LARGEST_BODY, Queue
from clerk_supabase.aws.secrets import Secret
from clerk_supabase.ingest import Ingest
from clerk_supabase.postgres.connection import CONNECT_SECONDS, SESSION_PATIENCE_SECONDS, WORKER_PATIENCE_SECONDS
from clerk_supabase.settings import IngestSettings
from clerk_supabase_cli.standin.deliveries import generate_secret
from tests.infrastructure.conditions import SESSION, chosen, names_that_exist
from tests.infrastructure.template import FUNCTIONS, Resource, Template, arn, properties
from tests.kit.aws import LARGEST_MESSAGE, Account

SVIX_WAITS_SECONDS = 15
CLERK_ANSWERS_WITHIN = 3  # or the session function goes on without


def post(template: Template) -> Resource:
    paths = template.only("AWS::ApiGateway::RestApi")["Body"]["paths"]
    assert list(paths) == ["/webhooks/clerk", "/session"]
    assert list(paths["/webhooks/clerk"]) == ["post"]
    method: Resource = paths["/webhooks/clerk"]["post"]
    return method


def test_the_api_has_a_method_and_a_preflight_for_sessions_only_with_the_function(template: Template) -> None:
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


def test_a_request_without_one_of_svix_headers_is_rejected_before_the_function_is_paid_for(
    template: Template,
) -> None:
    required = [
        each["name"] for each in post(template)["parameters"] if each["in"] == "header" and each["required"] is True
    ]
    assert sorted(required) == ["svix-id", "svix-signature", "svix-timestamp"]
    validators = template.only("AWS::ApiGateway::RestApi")["Body"]["x-amazon-apigateway-request-validators"]
    validator = validators[post(template)["x-amazon-apigateway-request-validator"]]
    assert validator == {"validateRequestParameters": True, "validateRequestBody": False}


def test_a_request_without_one_of_svix_headers_gets_the_answer_of_a_forged_request(
    template: Template, account: Account
) -> None:
    responses = template.only("AWS::ApiGateway::RestApi")["Body"]["x-amazon-apigateway-gateway-responses"]
    rejected = responses["BAD_REQUEST_PARAMETERS"]
    queue = Queue(account.sqs, account.sync_queue_url)
    arn_of_secret = account.put_secret("webhook", generate_secret())
    settings = IngestSettings(arn_of_secret, account.sync_queue_url, account.parked_queue_url, "", 1000)
    secret = Secret(account.secrets_manager, arn_of_secret)
    forged = Ingest(settings, secret, sync_queue=queue, parked_queue=queue, clock_ms=lambda: 0).answer({})
    assert rejected["statusCode"] == str(forged.status) == "401"
    assert list(rejected["responseTemplates"].values()) == [forged.message]


def test_a_browser_can_read_what_the_api_answers_by_itself_such_as_a_throttled_429(template: Template) -> None:
    responses = template.only("AWS::ApiGateway::RestApi")["Body"]["x-amazon-apigateway-gateway-responses"]
    for kind, text in (("DEFAULT_4XX", "turned away"), ("DEFAULT_5XX", "try again later")):
        assert responses[kind] == {
            "responseParameters": {"gatewayresponse.header.Access-Control-Allow-Origin": "'*'"},
            "responseTemplates": {"application/json": text},
        }
    # Every origin may read these answers, also on the path of the webhooks: that is safe while no cookie counts, and
    # while no answer repeats a text of the request.
    assert "Allow-Credentials" not in json.dumps(responses)
    assert "$" not in json.dumps(responses)
    assert set(responses) == {"BAD_REQUEST_PARAMETERS", "DEFAULT_4XX", "DEFAULT_5XX"}


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


def test_the_throttle_counts_all_senders_together(template: Template) -> None:
    # A count per sender needs a plan and a key, and Svix sends no key: a flood from others slows Clerk down, too.
    for kind in ("UsagePlan", "UsagePlanKey", "ApiKey"):
        assert template.of_type(f"AWS::ApiGateway::{kind}") == {}


def test_no_second_stage_accepts_requests_without_the_throttle(template: Template) -> None:
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
    addresses: str | None, listed: list[str], root: Path
) -> None:
    template = Template(root, {"WebhookSourceAddresses": addresses} if addresses else {})
    let_in, kept_out, unused = policy_of(template)
    assert (let_in["Effect"], let_in["Resource"]) == ("Allow", "execute-api:/*")
    # Browsers that sign in come from anywhere.
    assert (kept_out["Effect"], kept_out["Resource"]) == ("Deny", "execute-api:/*/POST/webhooks/clerk")
    separator, text = kept_out["Condition"]["NotIpAddress"]["aws:SourceIp"]["Fn::Split"]
    assert text.split(separator) == listed
    # Names the parameters that decide on POST /session, so that SAM deploys the API anew: a user agent of no program.
    assert unused["Effect"] == "Deny"
    [[(condition, text)]] = [each.items() for each in unused["Condition"]["StringEquals"].values()]
    assert (condition, text) == ("Fn::Sub", "UseClerkApi=true ClerkPublishableKey=")


def policy_of(template: Template) -> list[Resource]:
    """The statements that say who may send requests to the API."""
    statements: list[Resource] = template.only("AWS::ApiGateway::RestApi")["Body"]["x-amazon-apigateway-policy"][
        "Statement"
    ]
    return statements


def test_the_api_speaks_no_tls_before_1_2(template: Template) -> None:
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-security-policies-list.html
    api = template.only("AWS::ApiGateway::RestApi")
    assert (api["SecurityPolicy"], api["EndpointAccessMode"]) == ("SecurityPolicy_TLS13_1_2_2021_06", "BASIC")


def test_a_web_acl_turns_away_an_address_that_sends_too_much_if_there_is_to_be_one(template: Template) -> None:
    acl = {"WebAcl", "WebAclAssociation"}
    assert not acl & names_that_exist(template, {})
    assert acl <= names_that_exist(template, {"RequestsPerAddress": "2000"})
    [rule] = template["WebAcl"]["Rules"]
    limit = rule["Statement"]["RateBasedStatement"]
    assert (limit["AggregateKeyType"], limit["Limit"]) == ("IP", {"Ref": "RequestsPerAddress"})
    assert rule["Action"] == {"Block": {}}
    assert template["WebAcl"]["DefaultAction"] == {"Allow": {}}
    # It is counted, and no sample with the headers of a request is kept.
    for each in (rule, template["WebAcl"]):
        assert each["VisibilityConfig"]["CloudWatchMetricsEnabled"] is True
        assert each["VisibilityConfig"]["SampledRequestsEnabled"] is False
    # The association waits for the stage.
    [stage] = template.of_type("AWS::ApiGateway::Stage")
    assert f"/stages/${{{stage}}}" in template["WebAclAssociation"]["ResourceArn"]["Fn::Sub"]


@pytest.mark.parametrize(
    ("function", "parameter"),
    [("IngestFunction", "IngestReservedConcurrency"), ("SessionFunction", "SessionReservedConcurrency")],
)
def test_concurrency_is_kept_and_capped_only_when_it_is_asked_for(
    function: str, parameter: str, template: Template
) -> None:
    reserved = template[function]["ReservedConcurrentExecutions"]
    # Most accounts begin with a concurrency of 10, of which none can be reserved; and 0 would switch the function off.
    assert template.source["Parameters"][parameter]["Default"] == 0
    assert chosen(template, reserved, {}) == {"Ref": "AWS::NoValue"}
    assert chosen(template, reserved, {parameter: "50"}) == {"Ref": parameter}
    others = {"IngestReservedConcurrency": "50", "SessionReservedConcurrency": "50"}
    del others[parameter]
    assert chosen(template, reserved, others) == {"Ref": "AWS::NoValue"}


def test_no_other_function_reserves_concurrency(template: Template) -> None:
    # A queue whose function has less than its MaximumConcurrency would be received and thrown back.
    for function in set(FUNCTIONS) - {"IngestFunction", "SessionFunction"}:
        assert "ReservedConcurrentExecutions" not in template[function]


def access_log(template: Template, given: dict[str, str]) -> Any:
    [stage] = template.of_type("AWS::ApiGateway::Stage").values()
    return chosen(template, properties(stage)["AccessLogSetting"], given)


def test_requests_are_logged_only_when_it_is_asked_for_since_that_needs_a_role_of_the_account(
    template: Template,
) -> None:
    assert access_log(template, {}) == {"Ref": "AWS::NoValue"}
    # The role belongs to the account: a stack must not set the role, nor remove it from other stacks when deleted.
    assert template.of_type("AWS::ApiGateway::Account") == {}
    assert access_log(template, {"AccessLogs": "true"})["DestinationArn"] == arn("AccessLogGroup")
    assert template["AccessLogGroup"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_the_log_of_requests_holds_no_address_no_token_no_query_and_no_body(template: Template) -> None:
    line = json.loads(access_log(template, {"AccessLogs": "true"})["Format"])
    # `requestId` and `path` can be text of the sender's.
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-variables-for-access-logging.html
    assert set(line.values()) == {
        "$context.extendedRequestId",
        "$context.requestTime",
        "$context.httpMethod",
        "$context.resourcePath",
        "$context.status",
        "$context.error.responseType",
        "$context.responseLatency",
        "$context.integrationLatency",
    }


def test_no_request_is_logged_with_what_is_in_it(template: Template) -> None:
    [stage] = template.of_type("AWS::ApiGateway::Stage").values()
    for settings in chosen(template, properties(stage)["MethodSettings"], SESSION):
        assert not {"LoggingLevel", "DataTraceEnabled"} & settings.keys()


def test_a_function_has_longer_than_the_database_may_take_to_connect_and_answer(template: Template) -> None:
    for function in ("SyncFunction", "RetryFunction"):
        assert template[function]["Timeout"] > CONNECT_SECONDS + WORKER_PATIENCE_SECONDS
    assert template["SessionFunction"]["Timeout"] > CONNECT_SECONDS + SESSION_PATIENCE_SECONDS + CLERK_ANSWERS_WITHIN


def test_the_session_function_answers_before_the_api_gives_up(template: Template) -> None:
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html
    assert template["SessionFunction"]["Timeout"] < 29


def test_ingest_answers_before_svix_gives_up(template: Template) -> None:
    assert template["IngestFunction"]["Timeout"] < SVIX_WAITS_SECONDS


def test_the_largest_body_fits_into_a_message_with_all_attributes_it_may_ever_get(template: Template) -> None:
    limit = template.source["Parameters"]["MaxBodyBytes"]
    attributes = 8_000
    assert limit["Default"] <= limit["MaxValue"] == LARGEST_BODY
    assert LARGEST_BODY + attributes <= LARGEST_MESSAGE
