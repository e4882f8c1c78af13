"""What people get wrong in study files, and that the answer says what to write instead."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from queue_runner.errors import StudyError
from queue_runner.study import load_study
from queue_runner.units import parse_bytes, parse_seconds

HEAD = 'study: x\nkind: command\ncommand: {run: [echo, "{a}"]}\n'


def write(folder: Path, text: str) -> Path:
    (folder / "s.yaml").write_text(text)
    return folder / "s.yaml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study: x\n\tkind: command", "s.yaml:2: not YAML: found a tab"),
        ("study: x\nknd: command\nparamters: {}", "s.yaml:2: knd: unknown field; did you mean 'kind'"),
        ("study: x\nkind: comand\nparamters: {}", "paramters: unknown field; did you mean 'parameters'"),
        (HEAD + "parameters: {a: }", "parameters.a: expected a list of values, or one of"),
        (HEAD + "parameters: {a: }", "found nothing"),
        (HEAD + "parameters: {a: 1}\nmeasure: {log: {y: '('}}", "measure.log.y: expected a regular exp"),
        (HEAD + "parameters: {a: 1}\nmeasure: {log: {y: 'y='}}", "with a group around the value"),
        (
            HEAD + "parameters: {a: 1}\nretries: {count: 1, on: [exitcode]}",
            "retries.on[0]: expected a reason of failure (did you mean 'exit-code')",
        ),
        (HEAD + "parameters: {a: 1}\nderived: {p: q + 1, q: a}", "'q + 1': q comes further down"),
        (HEAD + "parameters: {a: 1}\nderived: {p: p + 1}", "'p' is computed from itself"),
        (HEAD + "parameters: {a: 1}\nderived: {p: q, q: p}", "derived.p: 'q': q comes further down"),
        (HEAD + "parameters: {a: 1, lambda: 2}", "'lambda' has a meaning in expressions; choose another"),
        (HEAD + "parameters: {a: 1, β: 2}", "parameters.β: a parameter's name has letters a-z, A-Z, digits"),
        (HEAD + "parameters: {a: 1}\nconstraints: [a > 0]", "constraints: unknown field; it is called 'wh"),
        (HEAD + "parameters: {a: {csv: p.csv}}", "parameters.a.csv: unknown form of a parameter; a table of"
         " points is 'points: p.csv', beside 'parameters'"),
        (HEAD + "parameters: {a: {zip: [1, 2]}}", "what varies together is 'zip: [[a, b]]', beside"),
        (HEAD + "parameters: {a: {lin: {from: 1, to: 2, count: 2}}}", "did you mean 'linear'?"),
    ],
)  # fmt: skip
def test_slips(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write(tmp_path, text))
    assert said in str(caught.value)


CASE = """\
study: x
kind: openfoam
parameters: {s: [linear, upwind]}
openfoam:
  case: case
  %s: {system/fvSchemes: {divSchemes: {%s}}}
"""


@pytest.mark.parametrize("how", ["set", "add"])
@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('div(phi,U): "Gauss {s}"', "divSchemes.div(phi: there is no value; a name with a comma in it"),
        ('default: , div(a): "{s}"', "divSchemes.default: there is no value"),
    ],
)  # fmt: skip
def test_names_that_yaml_ends_at_a_comma(tmp_path: Path, how: str, entry: str, said: str) -> None:
    (tmp_path / "case/system").mkdir(parents=True)
    (tmp_path / "case/system/controlDict").write_text("application icoFoam;\n")
    (tmp_path / "case/system/fvSchemes").write_text("divSchemes { default none; div(a) none; }\n")
    with pytest.raises(StudyError) as caught:
        load_study(write(tmp_path, CASE % (how, entry)))
    assert f"s.yaml:6: openfoam.{how}.system/fvSchemes.{said}" in str(caught.value)


def test_counting_lines_needs_no_group(tmp_path: Path) -> None:
    counted = "measure: {log: {n: {pattern: '^Time', take: count}}}"
    load_study(write(tmp_path, f"{HEAD}parameters: {{a: 1}}\n{counted}")).check()


def test_conditions_that_leave_nothing(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, HEAD + "parameters: {a: [1, 2]}\nwhere: a > 5"))
    with pytest.raises(
        StudyError, match=r"s\.yaml:5: where: there is no job: none of the 2 points"
    ):
        study.check()


@pytest.mark.parametrize(
    ("value", "said"),
    [("yes", "the truth value is true"), ("Off", "is false"), ("'0,5'", "look like 1000, 0.5 and 1e-3"),
     ("1_000", "look like 1000"), ("1.5d-3", "look like 1000")],
)  # fmt: skip
def test_text_that_was_meant_otherwise_is_warned_of(tmp_path: Path, value: str, said: str) -> None:
    summary = load_study(write(tmp_path, f"{HEAD}parameters: {{a: [{value}]}}")).check()
    assert said in summary.warnings[0]


@pytest.mark.parametrize(
    "value", ["1e-5", "1E5", ".5", "-3", "010", "0x10", "true", "text", "2026-11-24"]
)
def test_values_that_need_no_warning(tmp_path: Path, value: str) -> None:
    assert not load_study(write(tmp_path, f"{HEAD}parameters: {{a: [{value}]}}")).check().warnings


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a;b\n1;2\n", "p.csv:1: the columns are separated by ';'; save it with commas"),
        ("a\tb\n1\t2\n", "p.csv:1: the columns are separated by"),
        ("a,,c\n1,2,3\n", "p.csv:1: column 2 has no name"),
        ("a,b\n1,\n", "p.csv:2: a value is missing"),
        ("a,b\n1\n", "p.csv:2: expected 2 values (a, b), found 1"),
        ("a\nnan\n", "p.csv:2: expected finite numbers, found nan"),
        ("a\n", "a first row of names and at least one row"),
        ("", "a first row of names and at least one row"),
        ("b\n1\n", "no parameter 'a'"),
    ],
)
def test_tables_of_points_that_are_wrong(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(StudyError) as caught:
        load_study(write(tmp_path, HEAD + "points: p.csv"))
    assert said in str(caught.value)


def test_a_table_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    content = '\ufeffa, "b"\r\n1,"x, y"\r\n\r\n2.5, true \r\n,\r\n'
    (tmp_path / "p.csv").write_bytes(content.encode())
    points = list(load_study(write(tmp_path, HEAD + "points: p.csv")).points())
    assert [point["a"] for point in points] == [1, 2.5]
    assert list(points[0].values()) == [1, "x, y"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90 s", 90), ("2h", 7200), ("1 h 30 min", 5400), ("1h30m", 5400), ("1:30:00", 5400), (3, 3),
     ("1.5 min", 90), ("0.5", 0.5), ("2 days", 172800), ("250 ms", 0.25)],
)  # fmt: skip
def test_times(text: object, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "1 2", "1:30", "1:99:00", "h", "-3 s",
     "1 h -3 s", "1 h 3", "0:00:00", "inf", True, None, "1 fortnight"]
)  # fmt: skip
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a time such as"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["", "2 GB/s", "1,5 GB", "-1", "0", True, "GiB", "nan"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size such as"):
        parse_bytes(text)


def test_the_same_file_gives_the_same_jobs(tmp_path: Path) -> None:
    sampled = (
        "parameters: {a: {sample: {min: 1, max: 9}}, b: {sample: {min: 1e-5, max: 1, scale: log}}}\n"
        "sample: {method: METHOD, count: 8, seed: 7}\n"
    )
    for method in ("sobol", "latin-hypercube", "random"):
        file = write(tmp_path, HEAD + sampled.replace("METHOD", method))
        first, second = (list(load_study(file).jobs(None)) for _ in range(2))
        assert first == second
        other = write(
            tmp_path, HEAD + sampled.replace("METHOD", method).replace("seed: 7", "seed: 8")
        )
        assert {job.id for job in load_study(other).jobs(None)}.isdisjoint(job.id for job in first)


def test_a_grid_of_a_million_million_points_is_described_at_once(tmp_path: Path) -> None:
    wide = "parameters: {a: {range: {from: 1, to: 1000000}}, b: {range: {from: 1, to: 1000000}}}"
    study = load_study(write(tmp_path, HEAD + wide))
    assert study.total == 10**12
    assert len(list(itertools.islice(study.jobs(None), 3))) == 3
    assert study.job(10**12 - 1, None).point == {"a": 10**6, "b": 10**6}


def test_a_misspelt_section_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"'command' is missing.*\(is 'comand' meant\?\)"):
        load_study(write(tmp_path, "study: x\nkind: command\ncomand: {run: [echo]}\n"))


def test_a_study_says_what_it_is(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, HEAD + "parameters: {a: [1, 2]}"))
    assert repr(study) == "Study('x', kind='command', parameters=['a'])"


def test_a_parameter_that_nothing_uses_is_warned_of_and_a_derived_one_is_for_the_table(
    tmp_path: Path,
) -> None:
    text = (
        "study: s\nkind: command\nparameters: {x: [1], y: [2], unused: [3]}\n"
        "derived: {product: x * y}\ncommand: {run: [echo, '{x}']}\n"
    )
    warnings = load_study(write(tmp_path, text)).check().warnings
    assert warnings == ("nothing uses the parameter 'unused'",)
