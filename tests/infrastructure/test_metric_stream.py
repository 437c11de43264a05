"""The metric stream of template.yaml, and the collector of docs/operate.md behind the stream."""

from __future__ import annotations

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from tests.infrastructure.template import Template
from tests.kit.documents import all_blocks


def test_the_metric_stream_sends_our_metrics_to_the_one_stream_that_the_parameter_names(template: Template) -> None:
    stream, role = template["MetricStream"], template["MetricStreamRole"]
    assert stream["IncludeFilters"] == [{"Namespace": "ClerkSupabaseSync"}]
    assert (stream["FirehoseArn"], stream["OutputFormat"]) == ({"Ref": "MetricsFirehoseArn"}, "opentelemetry1.0")
    [policy] = role["Policies"]
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch-metric-streams-trustpolicy.html
    assert policy["PolicyDocument"]["Statement"] == {
        "Effect": "Allow",
        "Action": ["firehose:PutRecord", "firehose:PutRecordBatch"],
        "Resource": {"Ref": "MetricsFirehoseArn"},
    }
    [principal] = role["AssumeRolePolicyDocument"]["Statement"]["Principal"].values()
    assert principal == "streams.metrics.cloudwatch.amazonaws.com"


def test_the_collector_of_the_documents_reads_the_format_of_the_metric_stream(template: Template) -> None:
    [block] = [each for each in all_blocks() if each.heading == "Metrics for OpenTelemetry"]
    collector = yaml_parse(block.text)
    [(name, encoding)] = collector["extensions"].items()
    assert collector["receivers"]["awsfirehose"]["encoding"] == name == "awscloudwatchmetricstreams_encoding"
    # OutputFormat of AWS::CloudWatch::MetricStream and `format` of the extension have the same words for this format.
    assert encoding == {"format": template["MetricStream"]["OutputFormat"]}
