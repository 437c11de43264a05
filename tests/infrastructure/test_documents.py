"""The documents: every command exists, every block is run by a test, every link leads somewhere."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import subprocess
import tomllib
from typing import Any

import botocore.session
import click
import pytest
from botocore import xform_name
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from clerk_supabase_cli.local.tools import Tools
from clerk_supabase_cli.main import commands as our_commands
from tests.kit.documents import (
    OURS,
    ROOT,
    Block,
    Command,
    all_blocks,
    commands,
    documents,
    headings,
    name_of,
    names_of_tests,
    text_of,
)

# Too plain to be wrong.
PLAIN = {"cd", "cp", "git", "mkdir", "sha256sum", "zip"}
PROGRAMS = {OURS, "aws", "clerk", "make", "npm", "psql", "python3", "sam", "supabase", "uv"}
COMMANDS = commands(PROGRAMS)

# Operations and options of the AWS CLI that the services do not have.
# https://docs.aws.amazon.com/cli/latest/reference/logs/tail.html
AWS_GLOBAL_OPTIONS = {"--query", "--output", "--region", "--profile", "--cli-binary-format"}
AWS_LOGS_TAIL_OPTIONS = {"--since", "--filter-pattern", "--follow", "--format"}
# Options of two programs that are not installed for every test. tests/outside runs Supabase's command.
# https://www.postgresql.org/docs/current/app-psql.html, https://supabase.com/docs/reference/cli
PSQL_OPTIONS = {"-1", "-c", "-f"}
SUPABASE = {("db", "push"), ("migration", "repair", "--status", "applied")}

# The test that really does what is typed, the fixture of the deployed stack, or CI's script. Whatever a document names
# is here or in ONLY_HELD.
DONE_FOR_REAL = {
    "clerk-supabase clerk entitle": "test_a_subscriber_of_the_stand_in_passes_the_policies_of_the_mirror",
    "clerk-supabase clerk list": "test_a_sample_is_known_to_clerk_afterwards_and_a_deleted_id_is_never_used_again",
    "clerk-supabase clerk plan create": "test_a_plan_is_made_and_changed_without_an_event",
    "clerk-supabase clerk plan list": "test_a_plan_is_made_and_changed_without_an_event",
    "clerk-supabase clerk play": "test_after_a_play_with_faults_a_comparison_repairs_all",
    "clerk-supabase clerk user ban": "test_a_change_is_printed_with_its_webhooks_and_what_to_look_at_next",
    "clerk-supabase clerk user create": "test_a_lost_webhook_is_found_and_repaired",
    "clerk-supabase switch-instance": "test_twelve_users_go_to_production_with_their_rows_and_back_by_undo",
    "clerk-supabase adopt compare": "test_the_way_of_an_app_from_the_first_look_to_the_cut_over_and_back",
    "clerk-supabase adopt inspect": "test_the_way_of_an_app_from_the_first_look_to_the_cut_over_and_back",
    "clerk-supabase adopt link": (
        "test_a_verified_address_of_one_user_and_one_row_links_after_a_dry_run_that_changes_nothing"
    ),
    "clerk-supabase adopt switch": "test_a_switch_fills_the_table_and_an_undo_leaves_the_rows",
    "clerk-supabase adopt undo": "test_a_switch_fills_the_table_and_an_undo_leaves_the_rows",
    "python3 -c": "test_the_command_that_encodes_a_password_works_and_is_that_of_the_guide",
    "clerk-supabase adopt supabase-auth export": "test_the_story_ends_with_clerks_ids_everywhere",
    "clerk-supabase adopt supabase-auth inspect": "test_the_story_ends_with_clerks_ids_everywhere",
    "clerk-supabase adopt supabase-auth link": "test_the_story_ends_with_clerks_ids_everywhere",
    "clerk-supabase adopt supabase-auth move": "test_the_story_ends_with_clerks_ids_everywhere",
    "clerk-supabase expose": "test_what_was_made_is_there_the_second_time_and_leaves_no_trace_when_removed",
    "clerk-supabase doctor": "test_a_stack_in_use_is_healthy",
    "clerk-supabase reconcile reset": "test_a_reset_says_what_it_does_asks_and_lets_the_next_run_compare_everything",
    "clerk-supabase retention": "test_the_command_shows_what_is_allowed_and_changes_what_it_is_told",
    "clerk-supabase deploy": "test_five_answers_lead_from_nothing_to_a_green_doctor",
    "clerk-supabase destroy": "test_a_destroyed_stack_leaves_nothing_in_aws_and_if_asked_nothing_in_the_database",
    "clerk-supabase console": (
        "test_the_console_beside_the_stack_knows_its_queues_and_only_looks_at_an_existing_database"
    ),
    "clerk-supabase event": "test_a_freshly_signed_event_is_accepted_by_the_ingest_function",
    "clerk-supabase explain": "test_an_event_is_parked_listed_replayed_applied_and_settled",
    "clerk-supabase export": "test_the_export_prints_every_place_that_holds_something",
    "clerk-supabase forget": "test_a_person_is_erased_in_every_column_of_every_table",
    "clerk-supabase migrate": "test_supabases_repair_command_marks_the_migrations_of_migrate_as_applied",
    "clerk-supabase parked discard": "test_discarding_asks_first_and_leaves_a_trace",
    "clerk-supabase parked list": "test_an_event_is_parked_listed_replayed_applied_and_settled",
    "clerk-supabase parked replay": "test_an_event_is_parked_listed_replayed_applied_and_settled",
    "clerk-supabase parked show": "test_a_parked_event_is_shown_with_its_body",
    "clerk-supabase publish": "test_a_published_table_tells_only_the_key_of_a_deleted_row",
    "clerk-supabase reconcile": "test_the_brake_holds_until_an_operator_allows_the_deletes",
    "clerk-supabase reconcile runs": "test_the_runs_are_listed_newest_first",
    "clerk-supabase reconcile show": "test_a_run_shows_every_object_that_differed_and_what_became_of_it",
    "clerk-supabase resync": "test_one_user_is_read_again_by_id",
    "clerk-supabase secure": "test_each_user_sees_their_own_rows_afterwards",
    "clerk-supabase secure-bucket": ("test_the_files_of_a_bucket_are_protected_after_a_dry_run_and_given_up_again"),
    "clerk-supabase setup": "test_secrets_are_stored_once_and_changed_only_when_they_changed",
    "clerk-supabase status": "test_the_status_finds_the_queues_by_the_name_of_the_stack",
    "clerk-supabase token": "test_a_token_is_read_from_standard_input_as_people_paste_it",
    "clerk-supabase token mint": "test_the_command_prints_the_event_of_a_token_that_this_checkout_signs",
    "clerk-supabase undo": "test_a_lost_delete_is_repeated_by_a_run_and_can_be_undone",
    "clerk-supabase uninstall": "test_the_database_of_an_app_is_afterwards_as_it_was_before",
    "clerk-supabase simulate": "test_a_run_says_what_it_explored_and_how_to_repeat_it",
    "clerk-supabase types": "test_drizzle_joins_the_mirror_and_its_push_leaves_the_mirror_alone",
    "make audit": ".ci/run",
    "make browser": ".ci/run",
    "make check": ".ci/run",
    "make freeze": "test_a_release_lists_each_migration_with_its_checksum",
    "make version": "test_another_version_is_written_into_every_place",
    "make cost": "test_the_document_says_what_follows_from_the_figures",
    "make demo": ".ci/run",
    "make dev": "test_dev_prints_all_addresses_and_the_time_of_its_start",
    "make licenses": "test_all_that_ships_has_a_licence_that_is_wanted_and_the_document_lists_it",
    "make mirrored": "test_the_page_says_what_the_code_does",
    "make objects": "test_the_list_of_objects_is_that_of_the_migrations",
    "make outside": ".ci/run",
    "make pictures": "test_a_picture_is_drawn_from_its_source",
    "make release": "test_a_release_holds_what_the_stack_and_the_command_need",
    "make sam-local": ".ci/run",
    "make sbom": "test_the_bill_of_materials_lists_what_lies_in_the_layer_and_nothing_else",
    "make setup": "stack",
    "make stacks": ".ci/run",
    "make test": ".ci/run",
    "psql -1 -f": "test_migrations_applied_by_psql_are_adopted_and_compared_from_then_on",
    "psql -c": "test_a_query_that_is_typed_into_psql_runs",
    "sam build": "stack",
    "sam deploy": "stack",
    "sam publish": "test_sam_publishes_the_application_with_a_request_that_the_service_takes",
    "sam local": "test_a_sample_event_goes_through_ingest_in_a_container_and_becomes_a_row",
    "supabase db": "test_supabase_db_push_makes_what_migrate_makes",
    "supabase migration": "test_supabases_repair_command_marks_the_migrations_of_migrate_as_applied",
}
# Commands that no test runs, but whose options are checked, and the reason.
ONLY_HELD = {
    "aws": "an account is needed; held to the services' own models",
    "clerk migrate": "Clerk's own command, which needs an account; what it reads is played by a test",
    "clerk webhooks": "Clerk's own command, which needs an account",
    "make bench": "measures for a quarter of an hour; CI must not depend on how fast it is",
    "make lock": "asks the package index; what it wrote is checked by `make check`",
    "make mutate": "takes half a minute for ten mutants; tests/unit/test_mutate.py tests what it does",
    "make simulate": "as long as one likes; the command it calls is tested",
    "npm ci": "installs what package-lock.json pins; tests/browser builds and serves these pages",
    "npm run": "serves the pages to their developer; tests/browser builds and serves them",
    "sam package": "needs a bucket; it is the first half of `sam deploy`",
    "uv": "may download a Python; the command exists",
}
# The test of each block that is no shell text, by document and heading. A block without a language is output.
BLOCKS_RUN = {
    (
        "README.md",
        "Protect your own tables",
    ): "test_the_tables_of_the_documents_are_protected_as_they_say",
    (
        "docs/protect-your-tables.md",
        "Tables for subscribers",
    ): "test_the_tables_of_the_documents_are_protected_as_they_say",
    (
        "docs/protect-your-tables.md",
        "Policies of your own",
    ): "test_the_tables_of_the_documents_are_protected_as_they_say",
    ("docs/clients.md", "React with Vite"): "test_a_client_of_the_documents_has_no_error_of_types",
    ("docs/clients.md", "Expo"): "test_a_client_of_the_documents_has_no_error_of_types",
    ("docs/clients.md", "A Python server (FastAPI)"): "test_a_python_server_answers_each_user_with_their_own_rows",
    ("docs/storage.md", "Protect a bucket"): "test_files_belong_to_the_user_or_the_organization_of_their_folder",
    ("docs/storage.md", "In the app"): "test_a_client_of_the_documents_has_no_error_of_types",
    (
        "docs/operate.md",
        "Metrics for OpenTelemetry",
    ): "test_the_collector_of_the_documents_reads_the_format_of_the_metric_stream",
    ("docs/realtime.md", "Publish tables"): "test_a_client_of_the_documents_has_no_error_of_types",
    (
        "docs/realtime.md",
        "Private channels of an organization",
    ): "test_a_private_channel_is_heard_by_the_members_of_the_organization_in_its_name",
    (
        "docs/first-login.md",
        "Ask `POST /session`",
    ): "test_a_user_who_signs_in_has_a_row_before_the_webhook_arrives",
    (
        "docs/first-login.md",
        "Or insert your own id",
    ): "test_a_first_login_can_say_that_the_row_may_be_there_already",
    (
        "docs/first-login.md",
        "From Python",
    ): "test_python_queries_as_the_user_of_a_token",
    ("docs/from-your-app.md", "A role of the whole app"): "test_a_role_of_the_whole_app_decides_who_writes",
    (
        "docs/from-your-app.md",
        "Roles, devices and the waitlist",
    ): "test_a_role_shows_the_present_keys_of_its_permissions",
    ("docs/from-your-app.md", "The client"): "test_the_client_of_the_document_writes_and_reads_the_tasks_of_its_user",
    (
        "docs/from-your-app.md",
        "The tables of users and organizations",
    ): "test_the_queries_of_the_document_read_the_tables_in_both_ways",
    ("docs/security.md", "Repair forged data"): "test_forged_rows_are_corrected_as_the_document_says",
    (
        "docs/sync-another-type.md",
        "Sync another type",
    ): "test_another_type_is_synced_with_two_new_files",
    ("docs/adopt.md", "3. Map"): "test_the_mapping_of_the_document_switches_the_table_of_the_document",
    (
        "docs/migrate-from-supabase-auth.md",
        "6. Tidy up",
    ): "test_the_story_ends_with_clerks_ids_everywhere",
}


def parameters(of: str) -> list[Any]:
    """The commands of a program, as parameters of a test."""
    return [pytest.param(command, id=str(command)) for command in COMMANDS if command.program == of]


def test_no_program_is_typed_that_is_not_checked_here() -> None:
    assert {command.program for command in COMMANDS} - {"export", "source"} <= PROGRAMS | PLAIN


@pytest.mark.parametrize("command", parameters(OURS))
def test_a_command_of_ours_exists_with_these_options(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres:password@127.0.0.1/postgres")
    monkeypatch.setenv("CLERK_PUBLISHABLE_KEY", "pk_test_Y2xlcmsuZXhhbXBsZS50ZXN0JA")
    found, rest = resolved(command.arguments)
    # A command remembers how it may be asked for help, and that is said above it.
    with contextlib.suppress(click.exceptions.Exit):  # of --version
        found.make_context(OURS, list(rest), parent=click.Context(our_commands, **our_commands.context_settings))


def resolved(arguments: tuple[str, ...]) -> tuple[click.Command, tuple[str, ...]]:
    """The sub-command of a line, and the arguments left for it."""
    command: click.Command = our_commands
    rest = arguments
    while isinstance(command, click.Group) and rest:
        found = command.get_command(click.Context(command), rest[0])
        if found is None:
            break
        command, rest = found, rest[1:]
    return command, rest


@pytest.mark.parametrize("command", parameters("make"))
def test_a_target_of_make_exists_and_takes_these_variables(command: Command) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for argument in command.arguments:
        variable, assigned, _ = argument.partition("=")
        if assigned:
            assert re.search(rf"\$[({{]{variable}\b|^{variable} \?=", makefile, re.MULTILINE), variable
        else:
            assert re.search(rf"^{re.escape(argument)}:[^=\n]*## ", makefile, re.MULTILINE), (
                "no target that has a help text"
            )


@functools.cache
def model_of(service: str) -> Any:
    return botocore.session.get_session().get_service_model(service)


@functools.cache
def template() -> dict[str, Any]:
    found: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("command", parameters("aws"))
def test_a_command_of_aws_exists_with_these_options(command: Command) -> None:
    service, operation, *rest = command.arguments
    model = model_of(service)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    if operation == "wait":
        waiters = botocore.session.get_session().get_waiter_model(service)
        waited_for = {xform_name(name, "-"): name for name in waiters.waiter_names}[rest.pop(0)]
        operation = xform_name(waiters.get_waiter(waited_for).operation, "-")
    options = {each for each in rest if each.startswith("--")} - AWS_GLOBAL_OPTIONS
    if (service, operation) == ("logs", "tail"):
        assert options <= AWS_LOGS_TAIL_OPTIONS
        return
    shape: Any = model.operation_model(operations[operation]).input_shape
    given = {f"--{xform_name(name, '-')}": name for name in shape.members} if shape else {}
    required = {option for option, name in given.items() if name in shape.required_members} if shape else set()
    assert required <= options <= set(given)


@functools.cache
def options_of_sam(*command: str) -> set[str]:
    """The options in the source of the installed SAM CLI for a command; its help takes ten times as long."""
    [package] = (ROOT / ".tools" / "sam").glob("lib/python3*/site-packages/samcli")
    sources = [package / "commands" / "_utils" / "options.py", *(package / "commands").joinpath(*command).glob("*.py")]
    sources += [package / "cli" / "cli_config_file.py", package / "commands" / "local" / "cli_common" / "options.py"]
    declared = "".join(source.read_text(encoding="utf-8") for source in sources)
    # A switch is declared with its opposite: "--resolve-s3/--no-resolve-s3".
    return set(re.findall(r'"(--?[a-z][a-z0-9-]*)(?:/--no-[a-z0-9-]+)?"', declared))


@pytest.mark.parametrize("command", parameters("sam"))
def test_a_command_of_sam_exists_with_these_options_and_what_they_name_exists(command: Command) -> None:
    words = command.arguments
    group = 2 if words[0] == "local" else 1
    rest = words[group:]
    assert {each for each in rest if each.startswith("-") and each != "-"} <= options_of_sam(*words[:group])
    assert {each.partition("=")[0] for each in rest if "=" in each} <= set(template()["Parameters"])
    if words[:2] == ("local", "invoke"):
        assert rest[0] in template()["Resources"]
    for option, value in itertools.pairwise(rest):
        if option == "--config-env":
            assert value in tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
        if option in ("-e", "-n") and value != "-":
            assert (ROOT / value).is_file()


@pytest.mark.parametrize("command", parameters("uv"))
def test_uv_has_this_command(command: Command) -> None:
    words = itertools.takewhile(str.isalpha, command.arguments)
    subprocess.run([Tools.of(ROOT).uv, "help", *words], check=True, capture_output=True)


@pytest.mark.parametrize("command", parameters("psql"))
def test_every_documented_option_of_psql_exists(command: Command) -> None:
    assert {each for each in command.arguments if each.startswith("-")} <= PSQL_OPTIONS


@pytest.mark.parametrize("command", parameters("supabase"))
def test_supabases_command_is_one_that_is_tried(command: Command) -> None:
    assert any(command.arguments[: len(known)] == known for known in SUPABASE)


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if each.program not in PLAIN | {"export", "source"}], ids=str
)
def test_every_documented_command_runs_in_a_test_or_has_a_reason_not_to(command: Command) -> None:
    names = spoken_of(command)
    assert set(names) & (DONE_FOR_REAL.keys() | ONLY_HELD.keys()), (
        f"add {names[0]!r} to DONE_FOR_REAL with the test that does it, or to ONLY_HELD with the reason why none does"
    )


def spoken_of(command: Command) -> list[str]:
    """The names under which a command may be listed, the longest first."""
    if command.program == OURS:
        _, rest = resolved(command.arguments)
        return [" ".join((OURS, *command.arguments[: len(command.arguments) - len(rest)]))]
    words = [each for each in command.arguments if "=" not in each and not each.startswith(("'", "$", "postgresql:"))]
    return [" ".join((command.program, *words[:length])) for length in (2, 1, 0)]


def test_nothing_is_listed_that_no_document_speaks_of_any_more() -> None:
    spoken = {name for command in COMMANDS for name in spoken_of(command)}
    assert DONE_FOR_REAL.keys() | ONLY_HELD.keys() <= spoken
    assert set(BLOCKS_RUN) <= {(block.document, block.heading) for block in all_blocks()}


def test_the_tests_that_run_documented_commands_exist() -> None:
    known = {".ci/run", "stack"} | names_of_tests().keys()
    assert {*DONE_FOR_REAL.values(), *BLOCKS_RUN.values()} <= known


def test_ci_runs_the_commands_that_the_list_assigns_to_it() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    made = re.findall(r'^(?:make|(?:TESTED=1 )?begin)((?: "?[a-z-]+"?)+)', script, re.MULTILINE)
    done = {f"make {target}" for targets in made for target in targets.replace('"', "").split()}
    if {"make test", "make linters"} <= done:
        # `make test` reads the language of the texts, which is the rest of `make check`.
        done.add("make check")
    assert {command for command, where in DONE_FOR_REAL.items() if where == ".ci/run"} <= done


@pytest.mark.parametrize(
    "block", [each for each in all_blocks() if each.language not in ("", "sh")], ids=lambda each: each.heading
)
def test_a_block_that_is_no_shell_text_is_run_by_a_test(block: Block) -> None:
    assert (block.document, block.heading) in BLOCKS_RUN


def test_every_link_within_the_documents_leads_somewhere() -> None:
    for document in documents():
        for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
            if target.startswith(("https:", "mailto:")):
                continue
            file, _, anchor = target.partition("#")
            other = (document.parent / file).resolve() if file else document
            assert other.exists(), f"{name_of(document)}: {target}"
            if anchor:
                assert anchor in {anchor_of(heading) for heading in headings(text_of(other))}, (
                    f"{name_of(document)}: {target}"
                )


def anchor_of(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
