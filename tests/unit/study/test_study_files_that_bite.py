"""Study files that would eat the memory, the time or the disk of whoever checks them."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_runner.cli.app import _run
from queue_runner.errors import StudyError
from queue_runner.study import study as study_module
from queue_runner.study.load import load_study

HEAD = "study: s\nkind: command\nparameters: {x: [1]}\n"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
)
SPACE = (
    "study: s\nkind: command\nparameters:\n"
    + "".join(f"  p{n}: {{range: {{from: 1, to: 1000000, step: 1}}}}\n" for n in range(3))
    + "command: {run: [echo, '{p0}', '{p1}', '{p2}']}\n"
)


def _study(folder: Path, text: str) -> Path:
    (folder / "study.yaml").write_text(text)
    return folder / "study.yaml"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LAUGHS, "study.yaml:7: more than 3000000 values"),
        (HEAD + "derived: {y: '1 << 99999999'}\ncommand: {run: [a, '{y}']}\n", "study.yaml:4: "),
        (HEAD + "command: {run: [a, '{factorial(10**7)}']}\n", "study.yaml:4: "),
        (HEAD + "command: {run: [a, '{x:999999999.1f}']}\n", "study.yaml:4: "),
        (HEAD + f"where: ['{'(' * 400}x{')' * 400}']\ncommand: {{run: [a]}}\n", "study.yaml:4: "),
        (HEAD + "command: {files: ../.., run: [a]}\n", "study.yaml:4: command.files"),
    ],
    ids=["aliases", "shift", "factorial", "format", "parentheses", "template"],
)
def test_it_is_refused_with_its_file_and_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(_study(tmp_path, text))
    assert says in str(caught.value)


@pytest.mark.parametrize("file", ["../outside", "/etc/passwd", "ring", "system/out"])
def test_a_case_is_set_inside_only(tmp_path: Path, file: str) -> None:
    system = tmp_path / "case" / "system"
    system.mkdir(parents=True)
    (tmp_path / "outside").write_text("a 1;\n")
    (system / "controlDict").write_text("application icoFoam;\n")
    (tmp_path / "case" / "ring").symlink_to("ring")
    (system / "out").symlink_to("../../outside")
    text = "study: s\nkind: openfoam\nopenfoam:\n  case: case\n  set:\n"
    with pytest.raises(StudyError, match=r"study.yaml:6: .* leads outside the case folder"):
        load_study(_study(tmp_path, f"{text}    {file}: {{a: 2}}\n"))


@pytest.mark.parametrize("text", ["9**9**9", '"a" * 10**10', "10.0**400"])
def test_an_expression_costs_little_whatever_it_says(tmp_path: Path, text: str) -> None:
    study = load_study(
        _study(tmp_path, HEAD + f"derived: {{y: '{text}'}}\ncommand: {{run: [a, '{{y}}']}}\n")
    )
    with pytest.raises(StudyError, match=r"^study.yaml:4: derived\.y"):
        list(study.points())


POINTS = "study: s\nkind: command\nparameters: {x: [1, 0]}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "derived:\n  y: 2 * x\n  z: 1 / x\ncommand: {run: [a]}",
            "study.yaml:6: derived.z: '1 / x' divides by zero at the point x=0, y=0",
        ),
        (
            "derived: {y: 'exp(1000 - x)'}\ncommand: {run: [a]}",
            "study.yaml:4: derived.y: 'exp(1000 - x)': math range error at the point x=1",
        ),
        (
            "where:\n- x < 9\n- 1 / x > 0\ncommand: {run: [a]}",
            "study.yaml:6: where[1]: '1 / x > 0' divides by zero at the point x=0",
        ),
        (
            "command:\n  run:\n  - a\n  - '{1 / x}'",
            "study.yaml:7: command.run[1]: '1 / x' divides by zero at point 1 (x=0)",
        ),
        (
            "command:\n  run: [a]\n  env:\n    Y: 'y{log(x):.3f}'",
            "study.yaml:7: command.env.Y: 'log(x)': math domain error at point 1 (x=0)",
        ),
        (
            "resources:\n  cores: '{x}'\ncommand: {run: [a]}",
            "study.yaml:5: resources.cores: expected a whole number from 1, found 0 at point 1 (x=0)",
        ),
        (
            f"derived: {{y: '\"{'y' * 900}\"'}}\ncommand:\n  run: [a, '{'{y}' * 200}']",
            "study.yaml:6: command.run[1]: '{y}{y}",
        ),
    ],
    ids=["derived", "overflow", "where", "argument", "environment", "cores", "long"],
)  # fmt: skip
def test_an_expression_without_a_value_is_named_by_line_field_and_point(
    tmp_path: Path, text: str, says: str
) -> None:
    study = load_study(_study(tmp_path, POINTS + text + "\n"))
    with pytest.raises(StudyError) as caught:
        study.check()
    assert says in str(caught.value)
    assert "point" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_texts_with_braces_are_counted(tmp_path: Path) -> None:
    text = HEAD + "command:\n  run:\n" + "  - '{x}'\n" * 10_001
    with pytest.raises(StudyError, match=r"more than 10000 texts with braces"):
        load_study(_study(tmp_path, text))


def test_a_space_of_10_to_the_18_points_is_loaded_at_once_and_not_submitted(tmp_path: Path) -> None:
    study = load_study(_study(tmp_path, SPACE))
    assert study.total == study.check().jobs == 10**18
    with pytest.raises(StudyError, match=r"study.yaml:3: parameters: 1000000000000000000 jobs, of"):
        study.record(None, 0.0)


def test_where_goes_through_no_space_of_10_to_the_18_points(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study.yaml:8: where: it would go through 1000000000000"):
        load_study(_study(tmp_path, SPACE + "where:\n- p0 < 0\n"))


def test_check_counts_for_no_longer_than_a_minute_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "_TRIED_POINTS", 3)
    path = _study(
        tmp_path,
        "study: s\nkind: command\nparameters: {x: [1, 2, 3, 4]}\nwhere: [x > 1]\ncommand: {run: [a]}\n",
    )
    summary = load_study(path).check()
    assert (summary.jobs, summary.tried, summary.before) == (2, 3, 4)
    assert _run(["check", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "at least 2 jobs (1 of 3 points left out by `where`), and perhaps more: only 3 of 4" in said
    )
