"""The pieces of a case: as the study asks, as the case has it, fitted to the ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from foamlib import FoamFile

from queue_runner.errors import JobError
from queue_runner.workers.openfoam.decomposition import FILE, describe, write

HEAD = "FoamFile { version 2.0; format ascii; class dictionary; object decomposeParDict; }\n"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    (tmp_path / "system").mkdir()
    return tmp_path


def written(case: Path, text: str | None, ranks: int, asked: dict[str, Any] | None = None) -> Any:
    if text is not None:
        (case / FILE).write_text(HEAD + text + "\n")
    write(case, ranks, asked)
    return FoamFile(case / FILE).as_dict()


def numbers(found: Any, place: str = "simpleCoeffs") -> list[int]:
    return [int(each) for each in found[place]["n"]]


def test_without_a_dictionary_slices_along_x(case: Path) -> None:
    found = written(case, None, 3)
    assert found["numberOfSubdomains"] == 3
    assert found["method"] == "simple"
    assert numbers(found) == [3, 1, 1]


@pytest.mark.parametrize(
    ("text", "ranks", "place", "expected"),
    [
        ("method simple; simpleCoeffs { n (1 2 1); delta 0.001; }", 2, "simpleCoeffs", [1, 2, 1]),
        ("method simple; simpleCoeffs { n (1 2 1); delta 0.001; }", 4, "simpleCoeffs", [4, 1, 1]),
        ("method simple; coeffs { n (1 2 1); }", 2, "coeffs", [1, 2, 1]),
        (
            "method hierarchical; hierarchicalCoeffs { n (1 2 2); delta 0.001; order zyx; }",
            4,
            "hierarchicalCoeffs",
            [1, 2, 2],
        ),
        ("method hierarchical;", 2, "hierarchicalCoeffs", [2, 1, 1]),
    ],
)
def test_the_cases_own_numbers_are_kept_where_they_fit(
    case: Path, text: str, ranks: int, place: str, expected: list[int]
) -> None:
    found = written(case, f"numberOfSubdomains 8; {text}", ranks)
    assert found["numberOfSubdomains"] == ranks
    assert numbers(found, place) == expected
    if place == "hierarchicalCoeffs":
        assert found[place]["order"] == ("zyx" if "zyx" in text else "xyz")


@pytest.mark.parametrize(
    "text",
    [
        "method scotch; simpleCoeffs { n (2 2 1); delta 0.001; }",
        '/* simple */ method manual; manualCoeffs { dataFile "d"; }',
        "nx 2; method simple; simpleCoeffs { n ($nx 1 1); delta 0.001; }",
    ],
)
def test_all_else_of_the_case_is_left(case: Path, text: str) -> None:
    written(case, f"numberOfSubdomains 8; {text}", 2)
    expected = f"{HEAD}numberOfSubdomains 2; {text}"
    assert (case / FILE).read_text().split() == expected.split()


def test_what_the_study_asks_replaces_the_cases(case: Path) -> None:
    asked = {"method": "hierarchical", "n": [1, 2, 1], "coeffs": {"order": "yxz"}}
    found = written(case, "numberOfSubdomains 8; method scotch;", 2, asked)
    assert found["method"] == "hierarchical"
    assert numbers(found, "hierarchicalCoeffs") == [1, 2, 1]
    assert found["hierarchicalCoeffs"]["order"] == "yxz"


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("method simple; simpleCoeffs { n (2 1 1); delta 0.001; }", "simple (2 1 1)"),
        ("method hierarchical; coeffs { n (2 2 1); }", "hierarchical (2 2 1)"),
        ("method simple; simpleCoeffs { n ($x 1 1); }", "simple"),
        ("method scotch;", "scotch"),
        ("numberOfSubdomains 2;", "unknown"),
        ("method {", "unknown"),
    ],
)
def test_the_decomposition_is_described(case: Path, text: str, described: str) -> None:
    (case / FILE).write_text(HEAD + text + "\n")
    assert describe(case) == described


def test_regions_get_the_same(case: Path) -> None:
    region = case / "system/solid/decomposeParDict"
    region.parent.mkdir()
    region.write_text(HEAD + "numberOfSubdomains 8; method scotch;\n")
    written(case, None, 2)
    assert FoamFile(region).as_dict()["numberOfSubdomains"] == 2
    written(case, None, 2, {"method": "simple"})
    assert numbers(FoamFile(region).as_dict()) == [2, 1, 1]


def test_a_dictionary_that_cannot_be_read_fails_the_job(case: Path) -> None:
    with pytest.raises(JobError, match="decomposeParDict: foamlib cannot read") as caught:
        written(case, "method {", 2)
    assert caught.value.reason == "prepare"


def test_without_a_dictionary_it_is_unknown(case: Path) -> None:
    assert describe(case) == "unknown"
