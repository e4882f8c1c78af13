"""Study files: every message names file, line and field, what was expected, and the nearest name."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queue_runner import plugins
from queue_runner.errors import StudyError
from queue_runner.study import json_schema, load_study

GOOD = """\
study: good
kind: command
parameters:
  x: [1, 2]
command:
  run: [./solve, "{x}"]
"""


def load(folder: Path, text: str) -> str:
    """The error that the text gives, or "fine"."""
    path = folder / "study.yaml"
    path.write_text(text)
    try:
        load_study(path)
    except StudyError as error:
        return str(error)
    return "fine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("study: good", "study: not good"),
         "study.yaml:1: study: expected a name of letters, digits, - and _ (at most 64), found 'not good'"),
        (("study: good\n", ""), "study.yaml:1: 'study' is missing"),
        (("kind: command\n", ""), "study.yaml:1: expected 'kind', one of command, mpi, openfoam, python"),
        (("kind: command", "kind: comand"),
         "study.yaml:2: kind: no kind 'comand' is installed; did you mean 'command'?"),
        (("kind: command", "kind: mpi"),
         "study.yaml:5: command: this section is for kind command; the study's kind is mpi\n"
         "study.yaml:1: the section 'mpi' is missing: it says what to run"),
        (("parameters:", "paramters:"), "study.yaml:3: paramters: unknown field; did you mean 'parameters'?"),
        (("x: [1, 2]", "x: [1, [2]]"),
         "study.yaml:4: parameters.x[1]: expected a number, text or true/false, found [2]"),
        (("x: [1, 2]", "x: []"), "study.yaml:4: parameters.x: expected at least one value"),
        (("x: [1, 2]", "x: {linar: {}}"),
         "study.yaml:4: parameters.x.linar: unknown form of a parameter; did you mean 'linear'?"),
        (("x: [1, 2]", "x: {linear: {from: 0, to: 1, count: 1}}"),
         "study.yaml:4: parameters.x.linear.count: expected a whole number from 2 to 10000000, found 1"),
        (("x: [1, 2]", "x: {log: {from: 0, to: 1, count: 3}}"),
         "study.yaml:4: parameters.x.log.from: expected a number above 0, found 0"),
        (("x: [1, 2]", "x: {range: {from: 0, to: 1, step: -1}}"),
         "study.yaml:4: parameters.x.range.step: a step of -1 does not lead from 0 to 1"),
        (("x: [1, 2]", "x: {sample: {min: 0, max: 1}}"),
         "study.yaml:1: 'sample' is missing, for x: such as {method: sobol, count: 64, seed: 1}"),
        (("x: [1, 2]", "pi: [1]"),
         "study.yaml:4: parameters.pi: 'pi' has a meaning in expressions; choose another name"),
        (("x: [1, 2]", "x y: [1]"),
         "study.yaml:4: parameters.x y: a parameter's name has letters a-z, A-Z, digits and _ only"),
        (("x: [1, 2]", "x: [1]\n  x: [2]"), "study.yaml:5: 'x' is given twice"),
        (('"{x}"]', '"{xx}"]'), "study.yaml:6: command.run[1]: 'xx': no parameter 'xx'; did you mean 'x'?"),
        (('"{x}"]', '"{x"]'),
         "study.yaml:6: command.run[1]: '{x': a '{' without its '}'; write '{{' for the brace itself"),
        (('[./solve, "{x}"]', "7"),
         "study.yaml:6: command.run: expected a list of arguments such as [./solve.sh, --x, '{x}'], found 7"),
        (('[./solve, "{x}"]', '"./solve {x}"'),
         "study.yaml:6: command.run: expected a list of arguments such as [./solve.sh, --x, '{x}'], for there"
         " is no shell in between; [sh, -c, '...'] asks for one, found './solve {x}'"),
        (("run:", "rum:"), "study.yaml:6: command.rum: unknown field; did you mean 'run'?"),
        (("command:", "zip: [[x, z]]\ncommand:"), "study.yaml:5: zip[0][1]: no parameter 'z'; known: x"),
        (("command:", "where: [z > 1]\ncommand:"),
         "study.yaml:5: where[0]: 'z > 1': no parameter 'z'; known: x"),
        (("command:", "derived: {y: 1 +}\ncommand:"),
         "study.yaml:5: derived.y: '1 +' is not an expression: invalid syntax"),
        (("command:", "resources: {memory: 2 gigs}\ncommand:"),
         "study.yaml:5: resources.memory: '2 gigs' is not a size such as 2 GiB or 500 MB"),
        (("command:", "resources: {wall_time: soon}\ncommand:"),
         "study.yaml:5: resources.wall_time: 'soon' is not a time such as 30 s, 10 min, 1 h 30 min or"),
        (("command:", "resources: {cores: 0}\ncommand:"),
         'study.yaml:5: resources.cores: expected a whole number from 1, or "{expression}", found 0'),
        (("command:", "retries: -1\ncommand:"), "study.yaml:5: retries.count: expected at least 0, found -1"),
        (("command:", "retries: {count: 1, wait: 3}\ncommand:"),
         "study.yaml:5: retries.wait: unknown field; known: count, factor, first, max, on"),
        (("command:", "priority: 10\ncommand:"), "study.yaml:5: priority: expected at most 9, found 10"),
        (("command:", "keep: '*.txt'\ncommand:"), "study.yaml:5: keep: expected a list, found '*.txt'"),
        (("command:", "keep: [/etc/passwd]\ncommand:"),
         "study.yaml:5: keep[0]: expected a path in the job's folder, without / before it and without ..,"
         " found '/etc/passwd'"),
        (("command:", "keep: [a, ../b]\ncommand:"), "study.yaml:5: keep[1]: expected a path in the job's"),
        (("command:", "keep: [a**]\ncommand:"), "study.yaml:5: keep[0]: expected a pattern in which ** is"),
        (("command:", "measure: {metrics: /tmp/m.json}\ncommand:"),
         "study.yaml:5: measure.metrics: expected a path in the job's folder"),
        (("command:", "measure: {log: {y: {pattern: (a), file: ../a}}}\ncommand:"),
         "study.yaml:5: measure.log.y.file: expected a path in the job's folder"),
        (("command:", "measure: {openfoam: {}}\ncommand:"),
         "study.yaml:5: measure.openfoam: only for kind openfoam; the study's kind is command"),
        (("command:", "measure: {log: {y: {pattern: a, take: best}}}\ncommand:"),
         "study.yaml:5: measure.log.y.take: expected one of last, first, min, max, mean, sum or count,"
         " found 'best'"),
        (("command:", "points: nosuch.csv\ncommand:"), "study.yaml:5: points: "),
        (("command:", "points: ../x.csv\ncommand:"),
         "study.yaml:5: points: '../x.csv' leads outside the study file's folder"),
        (("run:", "files: nosuch\n  run:"), "study.yaml:6: command.files: there is no folder 'nosuch' in "),
        (("run:", "files: ..\n  run:"),
         "study.yaml:6: command.files: '..' leads outside the study file's folder"),
        (("study: good", "study: !!python/object:os good"),
         "study.yaml:1: tags such as 'tag:yaml.org,2002:python/object:os' are not used in study files"),
        (("study: good", "study: [good"), "study.yaml:2: not YAML: "),
        ((GOOD, "just text"), "study.yaml: expected a map that starts with `study: NAME`"),
        ((GOOD, ""), "study.yaml: expected a map that starts with `study: NAME`"),
        ((GOOD, GOOD + "---\n" + GOOD), "study.yaml:7: a study file holds one document only"),
    ],
)  # fmt: skip
def test_messages(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    found = load(tmp_path, GOOD.replace(*change))
    assert message in found
    if not message.endswith((": ", " in ")):
        assert found.startswith(message)


def test_the_good_one_is_good(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == "fine"


def test_several_problems_are_told_at_once(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD.replace("[1, 2]", "[]").replace("run", "rum") + "priority: 77\n")
    assert {line.split(": ")[0] for line in found.splitlines()} == {
        "study.yaml:4",
        "study.yaml:6",
        "study.yaml:7",
    }


def test_scalars_are_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        GOOD.replace("[1, 2]", "[1e-3, on, no, 010, 0x10, 2020-01-01, 1_000, ~a, true]")
    )
    (column,) = ([point["x"] for point in load_study(path).points()],)
    assert column == [0.001, "on", "no", 10, 16, "2020-01-01", "1_000", "~a", True]


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "values, counting aliases" in load(tmp_path, "\n".join(lines))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    said = load(tmp_path, "a: " + "[" * 100_000)
    # newer versions of the YAML parser have a limit of their own
    assert "levels deep" in said or "maximum nesting depth" in said


def test_anchors_are_allowed(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD.replace("x: [1, 2]", "x: &v [1, 2]\n  y: *v")) == "fine"


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.text(max_size=200))
def test_any_text_is_fine_or_a_study_error(tmp_path: Path, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert load(tmp_path, text)
    assert load(tmp_path, GOOD.replace("[1, 2]", text.replace("\n", " ")))


def test_csv_points(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("a,b,c\n1,0.5,x\n2,1e-3,true\n")
    (tmp_path / "study.yaml").write_text(
        GOOD.replace("command:\n", "points: points.csv\ncommand:\n")
    )
    points = list(load_study(tmp_path / "study.yaml").points())
    assert points[0] == {"a": 1, "b": 0.5, "c": "x", "x": 1}
    assert points[3] == {"a": 2, "b": 0.001, "c": True, "x": 2}
    (tmp_path / "points.csv").write_text("a,b\n1\n")
    with pytest.raises(StudyError, match=r"study.yaml:5: points: points.csv:2: expected 2 values"):
        load_study(tmp_path / "study.yaml")


def test_the_study_file_and_its_runs_are_not_part_of_the_template(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(GOOD.replace("run:", "files: .\n  run:"))
    template = load_study(path).template()
    assert template is not None
    assert set(template.exclude) == {
        *("runs", "runs/*", "verified", "verified/*", "again", "again/*", "study.yaml")
    }


def test_the_schema_names_every_kind() -> None:
    schema = json_schema()
    assert set(schema["properties"]["kind"]["enum"]) >= {"command", "mpi", "openfoam", "python"}
    assert {"study", "parameters", "openfoam", "resources", "retries"} <= set(schema["properties"])
    assert "Retries" in schema["$defs"]


def _forget() -> None:
    plugins._points.cache_clear()
    plugins.load.cache_clear()


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two kinds of another package: one that works (the command kind's), one that cannot be imported."""
    group = "queue_runner.study_kinds"
    points = [
        EntryPoint("mine", "queue_runner.study.kinds.command:CommandStudy", group),
        EntryPoint("broken", "queue_runner.nosuch:Kind", group),
        EntryPoint("command", "queue_runner.study.kinds.command:CommandStudy", group),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    _forget()
    yield
    _forget()


@pytest.mark.usefixtures("third_party")
def test_a_kind_of_another_package(tmp_path: Path) -> None:
    text = GOOD.replace("command", "mine")
    assert load(tmp_path, text) == "fine"
    assert "mine" in json_schema()["properties"]


@pytest.mark.usefixtures("third_party")
def test_a_broken_plug_in_is_named(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD.replace("command", "broken"))
    assert "the kind 'broken' (queue_runner.nosuch:Kind) cannot be loaded" in found
