"""Dictionaries are read as OpenFOAM reads them: includes, macros, patterns."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import foamlib
import pytest

from queue_runner.openfoam.entries import Entries, read

HEAD = "FoamFile { version 2.0; format ascii; class dictionary; object d; }\n"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    for name in ("constant", "system", "0"):
        (tmp_path / name).mkdir()
    return tmp_path


def entries(case: Path, text: str) -> Entries:
    path = case / "constant" / "d"
    path.write_text(HEAD + text + "\n")
    return read(case, path)


def test_what_an_include_brings_is_there_with_its_value(case: Path) -> None:
    (case / "constant" / "x").write_text('nu 0.01;\n#include "$FOAM_CASE/system/y"\n')
    (case / "system" / "y").write_text("deep { a 1; }\n")
    found = entries(case, '#include "x"')
    assert found.values[("nu",)] == 0.01
    assert found.values[("deep", "a")] == 1
    assert "did you mean 'nu'" in found.missing("nuu")


@pytest.mark.parametrize(
    "include",
    [
        '#includeEtc "caseDicts/x"',
        '#include "$WM_PROJECT_DIR/x"',
        '#include "/etc/passwd"',
        '#include "../../../outside"',
        '#include "not there"',
        "$undefined",
        "a $undefined;",
    ],
)
def test_what_cannot_be_read_here_may_bring_the_entry(case: Path, include: str) -> None:
    entry = "a/nuu" if include.startswith("a ") else "nuu"
    assert entries(case, include).missing(entry) == ""


def test_it_may_bring_it_in_its_own_dictionary_only(case: Path) -> None:
    found = entries(case, 'sub { #includeEtc "x"\n }\nnu 1;')
    assert found.missing("sub/any") == ""
    assert "did you mean 'nu'" in found.missing("nuu")


def test_an_optional_include_that_is_not_there_brings_nothing(case: Path) -> None:
    assert entries(case, '#includeIfPresent "x"\nnu 1;').missing("nuu")


def test_files_that_include_each_other_end(case: Path) -> None:
    (case / "constant" / "x").write_text('#include "d"\n')
    assert entries(case, '#include "x"\nnu 1;').values[("nu",)] == 1


@pytest.mark.parametrize(
    ("text", "keys", "value"),
    [
        ("base { a 1; } sub { $base; b 2; }", ("sub", "a"), 1),
        ("base { a 1; } sub { $:base; }", ("sub", "a"), 1),
        ("base { in { a 1; } } sub { $base.in; }", ("sub", "a"), 1),
        ("top { base { a 1; } sub { $..base; } }", ("top", "sub", "a"), 1),
        ("base { a 1; } sub $base;", ("sub", "a"), 1),
        ("app icoFoam; application $app;", ("application",), "icoFoam"),
        ("x 3; sub { y $x; }", ("sub", "y"), 3),
    ],
)
def test_macros(case: Path, text: str, keys: tuple[str, ...], value: object) -> None:
    found = entries(case, text)
    assert found.values[keys] == value
    assert found.missing("/".join((*keys[:-1], "misspelt")))


def test_quotes_of_a_pattern_may_be_left_out_but_its_members_are_not_entries(case: Path) -> None:
    found = entries(case, 'solvers { "(k|omega).*" { tolerance 1; } }')
    assert found.find("solvers/(k|omega).*/tolerance") == ("solvers", '"(k|omega).*"', "tolerance")
    assert """write 'solvers/"(k|omega).*"/tolerance'""" in found.missing("solvers/k/tolerance")


def test_a_part_of_a_value_is_no_entry(case: Path) -> None:
    assert "'blocks' is not a dictionary; set it as a whole" in entries(
        case, "blocks (hex (0 1));"
    ).missing("blocks/0/2")


@pytest.mark.filterwarnings("ignore:Duplicate")
def test_a_dictionary_that_is_there_twice_is_named(case: Path) -> None:
    with pytest.raises(ValueError, match="cannot read 'd': 'sub' is in it more than once"):
        entries(case, "sub { a 1; } sub { b 2; }")


def test_a_file_that_cannot_be_read_is_named(case: Path) -> None:
    with pytest.raises(ValueError, match="cannot read 'd'"):
        entries(case, "a { b")


def test_a_file_is_read_once_for_its_content(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    as_dict = foamlib.FoamFile.as_dict

    def counting(file: Any) -> Any:
        asked.append(Path(file.path))
        return as_dict(file)

    monkeypatch.setattr(foamlib.FoamFile, "as_dict", counting)
    first, second = case / "system" / "first", case / "system" / "second"
    mark = uuid.uuid4().hex
    first.write_text(f"mark m{mark};\nnumber 1;\n")
    second.write_bytes(first.read_bytes())
    assert [read(case, each).values[("number",)] for each in (first, second, first)] == [1, 1, 1]
    assert asked == [first]
    first.write_text(f"mark m{mark};\nnumber 2;\n")
    assert read(case, first).values[("number",)] == 2


def test_what_changes_while_it_is_read_is_not_taken_for_what_it_was(
    case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_dict = foamlib.FoamFile.as_dict
    file, mark = case / "system" / "file", uuid.uuid4().hex
    before, after = f"mark m{mark};\nnumber 1;\n", f"mark m{mark};\nnumber 2;\n"

    def changing(of: Any) -> Any:
        file.write_text(after)
        return as_dict(of)

    file.write_text(before)
    with monkeypatch.context() as patched:
        patched.setattr(foamlib.FoamFile, "as_dict", changing)
        assert read(case, file).values[("number",)] == 2
    file.write_text(before)
    assert read(case, file).values[("number",)] == 1


def test_what_a_file_includes_is_read_again(case: Path) -> None:
    (case / "constant" / "x").write_text("nu 1;\n")
    assert entries(case, '#include "x"').values[("nu",)] == 1
    (case / "constant" / "x").write_text("nu 2;\n")
    assert entries(case, '#include "x"').values[("nu",)] == 2


def test_a_file_of_many_cases_is_put_together_once(case: Path) -> None:
    text = f"mark m{uuid.uuid4().hex};\nnumber 1;"
    assert entries(case, text) is entries(case, text)
