"""The tool that changes the code at random: each rule makes a change, and unnoticed changes are reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mutate import equivalents
from tests.mutate.__main__ import KINDS, LISTED, ROOT, Score, in_order, in_stages, mutants_of
from tests.mutate.chosen import Chooser
from tests.mutate.equivalents import Equivalent, ListIsWrong
from tests.mutate.lanes import Outcome, Verdict
from tests.mutate.mutants import Mutant, one_line
from tests.mutate.plans import Planner
from tests.mutate.python_rules import is_python, python_mutants
from tests.mutate.reached import Reached, recording, statement_around
from tests.mutate.results import Results
from tests.mutate.sql_rules import sql_mutants
from tests.mutate.swap import function_around, swap
from tests.mutate.template_rules import template_mutants


@pytest.fixture(scope="module")
def shipped() -> dict[str, list[Mutant]]:
    """Every mutant there is, by kind."""
    return {kind: mutants_of(ROOT, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def chooser() -> Chooser:
    return Chooser(ROOT)


def changed(mutants: list[Mutant]) -> set[tuple[str, str]]:
    return {(each.old, each.new) for each in mutants}


@pytest.mark.parametrize(
    ("code", "mutated"),
    [
        ("a = b < c", "a = b <= c"),
        ("a = b is not c", "a = b is c"),
        ("a = b in c", "a = b not in c"),
        ("a = b and c", "a = b or c"),
        ("a = b and c", "a = b"),
        ("a = b and c", "a = c"),
        ("a = b + c", "a = b - c"),
        ("a = not b", "a = b"),
        ("a = 5", "a = 6"),
        ("a = True", "a = False"),
        ("a = (1, 2, 3)", "a = (1, 2)"),
        ("a = b if c else d", "a = b if not (c) else d"),
        ("a = [b for b in c if d]", "a = [b for b in c if True]"),
        ("a = min(b, c)", "a = max(b, c)"),
        ("a = f(b, c)", "a = f(c, b)"),
        ("a = f(b, c=d)", "a = f(b, )"),
        ("f(a)", "pass"),
        ("a.b = c", "pass"),
        ("def f(): return 1", "def f(): return None"),
        ("raise a", "pass"),
        ("if a: b", "if not (a): b"),
        ("try: a\nexcept B: c", "except (): c"),
        ("try: a\nexcept (B, C): d", "except (C): d"),
    ],
)
def test_python_is_changed(code: str, mutated: str) -> None:
    [mutant] = [each for each in python_mutants("a.py", code) if each.new == mutated]
    assert is_python(mutant.applied(code))


@pytest.mark.parametrize(
    "code",
    [
        '"""A docstring."""',
        "import a",
        "logger.info(5)",
        "def f(a: Literal[1, 2]) -> None: ...",
        'a = f"{b} {5}"',
        "@dataclass(frozen=True)\nclass A: ...",
        "if TYPE_CHECKING: import a",
        "class A(Struct, gc=False): ...",
        "a = zip(b, strict=True)",
    ],
)
def test_python_that_nobody_could_notice_is_left_alone(code: str) -> None:
    assert changed(python_mutants("a.py", code)) == set()


@pytest.mark.parametrize(
    ("code", "mutated"),
    [
        ("select a from b where c < d;", "select a from b where c <= d;"),
        ("select a from b where c and d;", "select a from b where c or d;"),
        ("select a from b where c and d;", "select a from b where d;"),
        ("select a from b where c and d;", "select a from b where c ;"),
        ("select a from b where c between 1 and 2 and d;", "select a from b where c between 1 and 2 ;"),
        ("select a from b where c;", "select a from b where true;"),
        ("select a from b where c is null;", "select a from b where c is not null;"),
        ("select a from b where c is not null;", "select a from b where c ;"),
        ("select a from b where not exists (c);", "select a from b where exists (c);"),
        ("select max(a) from b;", "select min(a) from b;"),
        ("select least(a, b);", "select greatest(a, b);"),
        ("select coalesce(a, b);", "select (a);"),
        ("select coalesce(a, b);", "select coalesce(b, a);"),
        ("select a from b for update;", "select a from b ;"),
        ("insert into a values (b) on conflict do nothing;", "insert into a values (b) ;"),
        ("create index a on b (c);", ";"),
        ("grant select on a to b;", ";"),
        ("create policy a on b using (deleted_at is null and c);", "create policy a on b using (deleted_at is null );"),
        ("create policy a on b using (deleted_at is null and c);", "create policy a on b using (c);"),
        ("select now() - interval '7 days';", "select now() - interval '15 days';"),
    ],
)
def test_sql_is_changed(code: str, mutated: str) -> None:
    assert mutated in {each.new for each in sql_mutants("a.sql", code)}


def test_arguments_of_which_the_order_says_nothing_do_not_change_places() -> None:
    assert {each.new for each in python_mutants("a.py", "a = min(b, c)")} == {"a = max(b, c)"}


BODY = """
create function a.b() returns void language plpgsql as $$
begin
    -- where x and y
    if c then
        perform d;
    end if;
    execute format('select e from f where %I = $1 and g', h);
    raise exception using message = 'this and that';
end
$$;
"""


def test_the_body_of_a_function_and_sql_in_a_string_are_changed_and_what_is_said_is_not() -> None:
    found = {each.new for each in sql_mutants("a.sql", BODY)}
    assert {"if not (c) then", "null;", "execute format('select e from f where %I = $1 ', h);"} <= found
    assert {each.subject for each in sql_mutants("a.sql", BODY)} == {"b"}
    assert not any("x or y" in each or "this or that" in each for each in found)


TEMPLATE = """
Description: Says true
Resources:
  Alarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      AlarmDescription: It is true
      Threshold: 5
      ComparisonOperator: GreaterThanThreshold
      Actions: [!If [HasTopic, !Ref Topic, !Ref "AWS::NoValue"]]
"""


def test_a_template_is_mutated_and_its_descriptions_are_not() -> None:
    found = {each.new for each in template_mutants("template.yaml", TEMPLATE)}
    assert "Threshold: 51" in found
    assert "ComparisonOperator: LessThanThreshold" in found
    assert 'Actions: [!If [HasTopic, !Ref "AWS::NoValue", !Ref Topic]]' in found
    assert not any("false" in each for each in found)


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_many_mutants_of_the_shipped_code_and_each_changes_the_line_it_names(
    kind: str, shipped: dict[str, list[Mutant]]
) -> None:
    mutants = shipped[kind]
    assert len(mutants) > 500
    for mutant in mutants[::97]:
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert one_line(text.splitlines()[mutant.line - 1]) in mutant.old
        assert mutant.applied(text) != text


def test_every_mutant_has_tests_that_can_notice_it(shipped: dict[str, list[Mutant]], chooser: Chooser) -> None:
    by_file = {mutant.file: mutant for mutants in shipped.values() for mutant in mutants}
    assert [file for file, mutant in by_file.items() if not chooser.files(mutant)] == []


def test_unit_tests_of_the_same_subject_come_before_those_that_need_a_database(
    shipped: dict[str, list[Mutant]], chooser: Chooser
) -> None:
    for mutant in shipped["python"][::997]:
        files = chooser.files(mutant)
        unit, likeliest, rest = in_stages(files)
        assert [*unit, *likeliest, *rest] == files
        assert all(file.startswith("tests/unit/") for file in unit)
        assert not any(file.startswith("tests/unit/") for file in (*likeliest, *rest))


def test_a_seed_draws_the_same_mutants_when_others_come_or_go(shipped: dict[str, list[Mutant]]) -> None:
    some = shipped["template"]
    drawn = in_order(some, 7)
    assert drawn != some
    assert drawn != in_order(some, 8)
    assert in_order(some[::2], 7) == [each for each in drawn if each in some[::2]]


def test_mutants_in_the_output_of_a_run_can_be_run_again(shipped: dict[str, list[Mutant]]) -> None:
    one, other = shipped["sql"][0], shipped["python"][0]
    printed = "".join(
        f"   1/2 survived  12.0 s  {each.file}:{each.line}  \n{equivalents.as_text(each.name)}\n\n"
        for each in (one, other)
    )
    assert list(equivalents.names_in(f"2 of 9 mutants, seed 7\n{printed}")) == [one.name, other.name]


def test_the_likeliest_tests_come_first(shipped: dict[str, list[Mutant]], chooser: Chooser) -> None:
    mutant = next(each for each in shipped["python"] if each.file.endswith("/signature.py"))
    assert chooser.files(mutant)[0] == "tests/unit/test_signature.py"


# The list of those that change nothing


def test_the_list_names_mutants_that_exist_and_says_why(shipped: dict[str, list[Mutant]]) -> None:
    listed = equivalents.read(LISTED)
    assert all(len(each.reason.split()) > 3 for each in listed)
    equivalents.check(listed, {each.name for mutants in shipped.values() for each in mutants})


def test_a_listed_mutant_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "listed.txt"
    path.write_text("# Why\n\na\n- a = 5\n+ a = 6\n= nobody reads it\n")
    listed = equivalents.read(path)
    there = python_mutants("a.py", "a = 5")
    equivalents.check(listed, {each.name for each in there})
    assert equivalents.without(there, listed) == []
    with pytest.raises(ListIsWrong, match="a = 5"):
        equivalents.check(listed, set())


def test_a_list_without_reasons_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "listed.txt"
    path.write_text("a\n- a = 5\n+ a = 6\n")
    with pytest.raises(ListIsWrong, match="reason"):
        equivalents.read(path)
    assert Equivalent(("a", "b", "c"), "why").name == ("a", "b", "c")


# Running


CODE = "def larger(a, b):\n    return a if a > b else b\n"
TEST = "from larger import larger\n\n\ndef test_it():\n    assert (larger(1, 2), larger(3, 2)) == (2, 3)\n"
SLOW = "import time\n\n\ndef test_it():\n    time.sleep(60)\n"
# In a process of its own, as `make mutate` does: pytest is not run within pytest.
PROGRAM = """
import sys
from pathlib import Path
from tests.mutate.lanes import lane
from tests.mutate.python_rules import python_mutants

root = Path(sys.argv[1])
mutants = {each.new: each for each in python_mutants("larger.py", (root / "larger.py").read_text())}
with lane(root) as one:
    for new, test, seconds in (
        ("return a if a >= b else b", "test_larger", 60),
        ("return a if not (a > b) else b", "test_larger", 60),
        ("return None", "test_slow", 0.5),
    ):
        outcome = one.run(mutants[new], [f"tests/{test}.py"], seconds)
        print(outcome.verdict, outcome.by)
"""


def test_tests_are_run_against_a_copy_and_a_planted_survivor_is_found(root: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "tests").mkdir(parents=True)
    (checkout / "larger.py").write_text(CODE)
    (checkout / "tests" / "test_larger.py").write_text(TEST)
    (checkout / "tests" / "test_slow.py").write_text(SLOW)
    (checkout / "pytest.ini").write_text("[pytest]\npythonpath = .\naddopts = -ra\n")
    program = [sys.executable, "-c", PROGRAM, str(checkout)]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(program, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["survived ", "noticed tests/test_larger.py::test_it", "timeout "]
    assert (checkout / "larger.py").read_text() == CODE


def test_the_score_counts_what_was_noticed_or_did_not_end_and_leaves_out_what_could_not_be_tried() -> None:
    [mutant, *_] = python_mutants("larger.py", CODE)
    score = Score()
    verdicts: tuple[Verdict, ...] = ("noticed", "timeout", "survived", "not valid", "too slow")
    for verdict in verdicts:
        score.add(mutant, Outcome(verdict, "", 1.0))
    assert score.text == "2 of 3 noticed, 66.7 %"
    assert (score.survivors, score.left_out) == ([mutant], 2)


# The tests of one mutant


BRANCHES = """
LIMIT = 5


class Larger:
    def of(self, a, b=LIMIT + 1):
        \"\"\"The larger one.\"\"\"
        if a > b:
            return a
        return (
            b
        )
"""


def test_a_change_in_the_body_of_a_function_needs_no_new_import_and_any_other_does() -> None:
    mutants = python_mutants("larger.py", BRANCHES)
    around = {each.old: function_around(BRANCHES, each) for each in mutants}
    assert around == {
        "LIMIT = 5": None,
        "def of(self, a, b=LIMIT + 1):": None,
        "if a > b:": "Larger.of",
        "return a": "Larger.of",
        "b": "Larger.of",
    }


def test_a_changed_function_is_put_into_the_loaded_module(tmp_path: Path) -> None:
    path = tmp_path / "larger.py"
    path.write_text(BRANCHES)
    loaded: dict[str, Any] = {}
    exec(compile(BRANCHES, str(path), "exec"), loaded)  # noqa: S102 - our own text
    larger = loaded["Larger"]().of
    assert (larger(1, 2), larger(3, 2)) == (2, 3)
    assert swap(path, "Larger.of", BRANCHES.replace("a > b", "a < b"))
    assert (larger(1, 2), larger(3, 2)) == (1, 2)
    assert not swap(path, "Larger.gone", BRANCHES)


def test_a_record_names_the_statements_that_were_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("builtins.__mutate_reached__", seen.append, raising=False)
    loaded: dict[str, Any] = {}
    exec(compile(recording(BRANCHES, "larger.py"), "larger.py", "exec"), loaded)  # noqa: S102 - our own text
    assert loaded["Larger"]().of(1, 2) == 2
    assert seen == ["larger.py:8", "larger.py:10"]
    # A mutant in the third line of the statement is one of its tests.
    assert statement_around(BRANCHES, 11) == 10


def test_the_narrowest_tests_that_run_a_line_come_first_and_others_are_left_out(chooser: Chooser) -> None:
    mutant = next(each for each in mutants_of(ROOT, "python") if each.file.endswith("/signature.py") and each.subject)
    key = f"{mutant.file}:{statement_around((ROOT / mutant.file).read_text(encoding='utf-8'), mutant.line)}"
    reached = Reached()
    reached.add("tests/integration/test_sync.py::test_all", 0.1, [key, *map(str, range(500))])
    reached.add("tests/integration/test_sync.py::test_narrow", 0.1, [key])
    reached.add("tests/unit/test_signature.py::test_other", 0.1, [])
    reached.files |= {each.partition("::")[0] for each in reached.seconds} | {*chooser.files(mutant)}
    plan = Planner(ROOT, chooser, reached, list(reached.seconds)).plan(mutant)
    assert plan.tests == ["tests/integration/test_sync.py::test_narrow", "tests/integration/test_sync.py::test_all"]


def test_outcomes_are_taken_over_by_a_later_run(tmp_path: Path, shipped: dict[str, list[Mutant]]) -> None:
    one, other = shipped["sql"][:2]
    Results(tmp_path / "results").add(one, Outcome("noticed", "tests/a.py::test_b[c]", 1.0))
    later = Results(tmp_path / "results")
    assert later.outcome(one) == Outcome("noticed", "tests/a.py::test_b[c]", 1.0)
    assert later.outcome(other) is None
    assert later.green == {"tests/a.py::test_b"}
