"""The parts of `clerk-supabase deploy` that need no AWS: questions, stack.toml, requirements, and compared values."""

from __future__ import annotations

from pathlib import Path

import pytest

from clerk_supabase.postgres.connection_string import parse
from clerk_supabase_cli.operate.deployment.account import Account, default_region
from clerk_supabase_cli.operate.deployment.build.layer import LayerDoesNotFit, check_architecture
from clerk_supabase_cli.operate.deployment.build.programs import ProgramMissing, Programs
from clerk_supabase_cli.operate.deployment.build.sam import Sam
from clerk_supabase_cli.operate.deployment.first_settings import NoSecretKey, asked_for
from clerk_supabase_cli.operate.deployment.logins import obstacle_for_functions, url_for_functions
from clerk_supabase_cli.operate.deployment.parameters import (
    Declared,
    changes,
    complete,
    declared,
    differences_from_defaults,
    problems,
    with_revision,
)
from clerk_supabase_cli.operate.deployment.plan import AnotherAccount, Plan
from clerk_supabase_cli.operate.deployment.questions import (
    NAME,
    OWNER,
    PUBLISHABLE_KEY,
    QUESTIONS,
    SECRET_KEY,
    Answers,
    AnswerWrong,
    Question,
)
from clerk_supabase_cli.operate.deployment.stack_file import Settings, StackFileWrong, edit, name_problem, read, write
from clerk_supabase_cli.operate.queues import AwsUnreachable

KEY = "pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA=="
ACCOUNT = Account("123456789012", "eu-central-1", concurrency=1000, unreserved=1000)


@pytest.fixture(scope="module")
def known(root: Path) -> dict[str, Declared]:
    return declared(root)


@pytest.fixture(autouse=True)
def _no_answers_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for question in QUESTIONS:
        monkeypatch.delenv(question.variable, raising=False)


# Questions


def test_no_deployment_has_more_than_five_questions() -> None:
    assert len(QUESTIONS) <= 5


def test_a_question_is_asked_once_and_never_if_its_variable_has_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PUBLISHABLE_KEY.variable, f" {KEY} ")
    asked: list[Question] = []

    def ask(question: Question) -> str:
        asked.append(question)
        return "typed"

    answers = Answers(ask)
    assert [answers(NAME), answers(NAME), answers(PUBLISHABLE_KEY)] == ["typed", "typed", KEY]
    assert asked == answers.asked == [NAME]


def test_without_a_terminal_the_defaults_are_the_answers() -> None:
    answers = Answers(None)
    assert [answers(NAME), answers(SECRET_KEY), answers.asked] == ["clerk-supabase-sync", "", []]


@pytest.mark.parametrize(
    ("question", "wrong"),
    [(NAME, "my stack"), (PUBLISHABLE_KEY, "sk_test_abc"), (SECRET_KEY, KEY), (OWNER, "postgresql://x@y@z/postgres")],
    ids=lambda given: given.variable if isinstance(given, Question) else given,
)
def test_a_variable_with_a_fault_is_named_and_its_secret_is_not_quoted(
    question: Question, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(question.variable, wrong)
    with pytest.raises(AnswerWrong, match=question.variable) as raised:
        Answers(None)(question)
    assert not (question.is_secret and wrong in str(raised.value))


def test_an_address_that_no_function_could_use_is_in_the_way() -> None:
    direct = "postgresql://postgres:secret@db.abcdefgh.supabase.co:5432/postgres"
    pooler = "postgresql://postgres.abc:x@aws-0-eu-central-1.pooler.supabase.com:5432/postgres"
    assert "Session pooler" in obstacle_for_functions(direct, has_certificate=True)
    assert "layers/shared/ca" in obstacle_for_functions(pooler, has_certificate=False)
    assert obstacle_for_functions(pooler, has_certificate=True) == ""
    assert obstacle_for_functions("postgresql://postgres:x@127.0.0.1:5432/postgres", has_certificate=False) == ""


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (
            "postgresql://postgres.abc:x@aws-0-eu-central-1.pooler.supabase.com:5432/postgres?sslmode=require",
            "postgresql://clerk_sync_worker.abc:p%40@aws-0-eu-central-1.pooler.supabase.com:6543/postgres",
        ),
        (
            "postgresql://postgres:x@[::1]:5433/app?sslmode=disable&connect_timeout=9",
            "postgresql://clerk_sync_worker.abc:p%40@[::1]:5433/app?sslmode=disable&connect_timeout=9",
        ),
        (
            "postgresql://me:x@db.example.com/app?sslmode=verify-full&sslrootcert=/home/me/ca.crt",
            "postgresql://clerk_sync_worker.abc:p%40@db.example.com:5432/app",
        ),
    ],
)
def test_the_functions_use_the_transaction_pooler_and_verify_the_server(owner: str, expected: str) -> None:
    found = url_for_functions(owner, "clerk_sync_worker.abc", "p@")
    assert found == expected
    assert parse(found, "").password == "p@"


def test_the_answers_become_the_settings_of_a_new_stack(root: Path, known: dict[str, Declared]) -> None:
    def settings(name: str, given: dict[str, str], account: Account = ACCOUNT) -> dict[str, str]:
        answers = Answers(lambda question: KEY if question is PUBLISHABLE_KEY else "")
        made = asked_for(name, account, root=root, given=given, answers=answers, known=known)
        assert (made.name, made.region, made.account) == (name, "eu-central-1", "123456789012")
        return dict(made.parameters)

    # Without a secret key of Clerk, nothing is compared with Clerk.
    prod = {"Stage": "prod", "LogRetentionDays": "90", "GradualDeployment": "true"}
    without_key = {"ClerkPublishableKey": KEY, "UseClerkApi": "false"}
    assert settings("app", {}) == prod | without_key
    assert settings("app", {"LogRetentionDays": "7", "AlarmEmail": "ops@example.com"}) == prod | without_key | {
        "LogRetentionDays": "7",
        "AlarmEmail": "ops@example.com",
    }
    assert settings("clerk-supabase-sync-dev", {}) == {"LogRetentionDays": "14"} | without_key
    of_a_new_account = Account("123456789012", "eu-central-1", concurrency=10, unreserved=10)
    assert settings("app", {}, of_a_new_account) == prod | without_key
    smaller = Account("123456789012", "eu-central-1", concurrency=9, unreserved=9)
    assert settings("app", {}, smaller)["SyncMaximumConcurrency"] == "2"
    with pytest.raises(NoSecretKey, match="set CLERK_SECRET_KEY"):
        asked_for("app", ACCOUNT, root=root, given={}, answers=Answers(None), known=known)
    # A misspelled name is not dropped: the plan rejects it.
    assert settings("app", {"AlarmEmial": "ops@example.com"})["AlarmEmial"] == "ops@example.com"


# stack.toml


def test_what_is_written_is_read_again_and_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    file = tmp_path / "stack.toml"
    settings = Settings("app", "eu-central-1", "123456789012", {"Stage": "prod", "FullReconcileSchedule": 'a "b" \\'})
    write(file, settings)
    assert read(file) == settings
    assert file.stat().st_mode & 0o777 == 0o600
    assert read(tmp_path / "missing.toml") is None


def test_an_edit_changes_one_value_and_leaves_the_rest_as_it_was_typed(tmp_path: Path) -> None:
    file = tmp_path / "stack.toml"
    file.write_text('name = "app" # ours\n[parameters] # see template.yaml\nLogRetentionDays = 90 # days\n')
    edit(file, {"LogRetentionDays": "7", "FullReconcileSchedule": 'a "b" \\1'})
    assert file.read_text() == (
        'name = "app" # ours\n[parameters] # see template.yaml\n'
        'FullReconcileSchedule = "a \\"b\\" \\\\1"\nLogRetentionDays = "7"\n'
    )
    file.write_text('name = "app"\n')
    edit(file, {"Stage": "prod"})
    assert read(file) == Settings("app", parameters={"Stage": "prod"})
    with pytest.raises(StackFileWrong, match="Stage holds a secret"):
        edit(file, {"Stage": "whsec_abc"})
    assert read(file) == Settings("app", parameters={"Stage": "prod"})


def test_numbers_and_truth_values_may_be_written_without_quotation_marks(tmp_path: Path) -> None:
    file = tmp_path / "stack.toml"
    file.write_text(
        'name = "app"\n[parameters]\nLogRetentionDays = 90\nAccessLogs = true\nClerkRateLimitShare = 0.25\n'
    )
    found = read(file)
    assert found is not None
    assert found.parameters == {"LogRetentionDays": "90", "AccessLogs": "true", "ClerkRateLimitShare": "0.25"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = app", "is not TOML"),
        ("", "name must begin with a letter"),
        ('name = "a b"', "name must begin with a letter"),
        (f'name = "{"a" * 55}"', "at most 54"),
        ('name = "app"\nStage = "prod"', "write a parameter of template.yaml below"),
        ('name = "app"\nparameters = 1', "parameters must be a table"),
        ('name = "app"\n[parameters]\nStage = ["prod"]', "Stage must be a text"),
        ('name = "app"\n[parameters]\nWebhookSecretArn = "whsec_abc"', "WebhookSecretArn holds a secret"),
        ('name = "app"\n[parameters]\nClerkPublishableKey = "sk_live_abc"', "ClerkPublishableKey holds a secret"),
        ('name = "app"\n[parameters]\nDatabaseSecretArn = "postgresql://u:p@h/d"', "DatabaseSecretArn holds a secret"),
        ('name = "app"\n[parameters]\nAwsEndpointUrl = "https://u:p@h/d"', "AwsEndpointUrl holds a secret"),
    ],
)
def test_a_file_with_a_fault_or_a_secret_is_rejected_with_the_place_of_the_fault(
    text: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "stack.toml"
    file.write_text(text)
    with pytest.raises(StackFileWrong, match=words) as raised:
        read(file)
    assert "abc" not in str(raised.value)


# Values


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AlarmEmial", "a@b", "AlarmEmial is no parameter of template.yaml: did you mean AlarmEmail?"),
        ("AlarmEmail", "nobody", "AlarmEmail must be empty or an e-mail address, and is nobody"),
        ("Stage", "production", "Stage must be one of dev, prod, and is production"),
        ("SyncMaximumConcurrency", "1", "SyncMaximumConcurrency must be at least 2, and is 1"),
        ("SyncMaximumConcurrency", "many", "SyncMaximumConcurrency must be a number, and is many"),
        ("ClerkRateLimitShare", "2", "ClerkRateLimitShare must be at most 1, and is 2"),
        ("Revision", "r" * 21, f"Revision must have at most 20 characters, and is {'r' * 21}"),
        ("RequestsPerAddress", "9", "RequestsPerAddress must be 0, or a number from 10 to 2000000000, and is 9"),
    ],
)
def test_a_value_that_aws_would_not_take_is_found_before_anything_is_changed(
    name: str, value: str, words: str, known: dict[str, Declared]
) -> None:
    assert list(problems({name: value}, known)) == [words]


def test_the_defaults_of_the_template_are_good_values(known: dict[str, Declared]) -> None:
    assert list(problems(complete({}, known), known)) == []
    assert differences_from_defaults(complete({"Stage": "prod", "Revision": "r"}, known), known) == {"Stage": "prod"}


def test_every_value_that_differs_from_the_stack_is_a_change_and_an_equal_value_is_none(
    known: dict[str, Declared],
) -> None:
    deployed = complete({"DatabaseSecretArn": "arn:of-before", "LogRetentionDays": "14"}, known)
    wanted = complete({"LogRetentionDays": "14", "MaxBodyBytes": "20000"}, known)
    found = [each.words for each in changes(wanted, deployed)]
    assert found == ["DatabaseSecretArn: arn:of-before -> (empty)", "MaxBodyBytes: 1040000 -> 20000"]
    assert changes(deployed, deployed) == []
    # An older template had fewer parameters.
    assert changes(wanted, {"LogRetentionDays": "14", "MaxBodyBytes": "20000"}) == []


def test_a_value_that_needs_a_revision_gets_a_revision(known: dict[str, Declared]) -> None:
    before = complete({}, known)
    new_key = complete({"ClerkPublishableKey": KEY}, known)
    assert with_revision(before, before) == before
    assert with_revision(new_key, {}) == new_key
    sent = with_revision(new_key, before)
    assert sent["Revision"] != ""
    # Deployed, the same settings change nothing; an interrupted deployment sends the same.
    assert with_revision(new_key, sent) == sent
    assert with_revision(new_key, before) == sent
    assert with_revision(before, sent)["Revision"] not in ("", sent["Revision"])
    named = new_key | {"Revision": "v2"}
    assert with_revision(named, before) == named
    assert with_revision(named, before | {"Revision": "v2"})["Revision"] == sent["Revision"]


# Requirements


def test_more_reserved_concurrency_than_lambda_grants_is_in_the_way(known: dict[str, Declared]) -> None:
    deployed, wanted = complete({"IngestReservedConcurrency": "5"}, known), {"IngestReservedConcurrency": "20"}
    small = Account("123456789012", "eu-central-1", concurrency=120, unreserved=110)
    assert list(small.problems(complete(wanted, known), deployed))
    assert list(small.problems(deployed, deployed)) == []
    assert list(ACCOUNT.problems(complete(wanted, known), {})) == []
    assert small.is_small_for(complete({"SyncMaximumConcurrency": "114"}, known))
    assert not small.is_small_for(complete({"SyncMaximumConcurrency": "113"}, known))


def test_credentials_of_another_account_are_in_the_way(known: dict[str, Declared], tmp_path: Path) -> None:
    with pytest.raises(AnotherAccount, match="AWS_PROFILE"):
        Plan.of(Settings("app", account="999999999999"), ACCOUNT, None, known=known, certificates=tmp_path)
    assert Plan.of(Settings("app"), ACCOUNT, None, known=known, certificates=tmp_path).problems == []


def test_a_profile_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(AwsUnreachable, match=r"profile \(nobody\) could not be found"):
        default_region()


def test_a_certificate_that_is_not_in_the_layer_is_in_the_way(known: dict[str, Declared], tmp_path: Path) -> None:
    settings = Settings("app", parameters={"DatabaseCaFile": "/opt/ca/supabase.crt"})
    [problem] = Plan.of(settings, ACCOUNT, None, known=known, certificates=tmp_path).problems
    assert "DatabaseCaFile names supabase.crt, which is not in" in problem
    (tmp_path / "supabase.crt").touch()
    assert Plan.of(settings, ACCOUNT, None, known=known, certificates=tmp_path).problems == []


def test_the_longest_name_of_a_stack_fits_every_name_in_the_template(root: Path) -> None:
    """Lambda's names have at most 64 characters, those of SQS 80, and those of alarms and log groups more."""
    template = (root / "template.yaml").read_text(encoding="utf-8")
    longest = "a" * 54
    assert name_problem(longest) == ""
    assert name_problem(f"{longest}a") != ""
    for line in template.splitlines():
        if "FunctionName: !Sub ${AWS::StackName}-" in line:
            assert len(line.partition("!Sub ")[2].replace("${AWS::StackName}", longest)) <= 64


def test_a_missing_program_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CLERK_SUPABASE_TOOLS", raising=False)
    with pytest.raises(ProgramMissing, match=r"sam is neither in .* nor on the search path: run `make setup`"):
        Programs.found(tmp_path)


def test_without_the_python_of_the_layer_and_without_a_network_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sam", "uv"):
        program = tmp_path / ".tools" / name / "bin" / name
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\necho no network; exit 1\n")
        program.chmod(0o755)
    for variable in ("CLERK_SUPABASE_TOOLS", "LAYER_PYTHON"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ProgramMissing, match=r"^Python 3\.13, for which the layer is built, .* LAYER_PYTHON$"):
        Programs.found(tmp_path)


def test_a_layer_for_another_processor_is_rejected_before_the_deployment(tmp_path: Path) -> None:
    layer = tmp_path / "build" / "SharedLayer"
    layer.mkdir(parents=True)
    module = layer / "_psycopg.cpython-313-aarch64-linux-gnu.so"
    module.write_bytes(b"\x7fELF" + bytes(14) + (183).to_bytes(2, "little") + bytes(40))
    check_architecture(layer, "arm64")
    with pytest.raises(LayerDoesNotFit, match="built for arm64, and the parameter Architecture is x86_64"):
        check_architecture(layer, "x86_64")
    module.write_bytes(b"\xcf\xfa\xed\xfe" + bytes(40))
    with pytest.raises(LayerDoesNotFit, match="another system than Linux"):
        check_architecture(layer, "arm64")


def test_no_program_of_a_build_gets_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("DATABASE_URL", "CLERK_SECRET_KEY", "SUPABASE_ACCESS_TOKEN")
    for name in secrets:
        monkeypatch.setenv(name, "notasecret")
    (tmp_path / ".aws-sam").mkdir()
    program = tmp_path / "sam"
    program.write_text("#!/bin/sh\nenv\n")
    program.chmod(0o700)
    Sam(tmp_path, Programs(program, program, program), "arm64").build()
    assert "notasecret" not in (tmp_path / ".aws-sam" / "logs" / "build.log").read_text()
