"""What a solver's log tells of how its case was solved."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_runner.workers.openfoam.provenance import solver

ESI = """\
| =========                 |                                                 |
|  \\\\    /   O peration     | Version:  v2312                                 |
Build  : _fbf00d6b-20231220 OPENFOAM=2312 version=v2312
"""
DEBIAN = """\
|  \\\\    /   O peration     | Version:                                        |
Build  : OPENFOAM=1912 patch=200626
"""
FOUNDATION = """\
  \\\\    /   O peration     | Website:  https://openfoam.org
Build  : 11-e2a3b4c5
"""


@pytest.mark.parametrize(
    ("head", "facts"),
    [
        (
            ESI,
            {
                "openfoam": "v2312",
                "openfoam_build": "_fbf00d6b-20231220 OPENFOAM=2312 version=v2312",
            },
        ),
        (DEBIAN, {"openfoam": "1912", "openfoam_build": "OPENFOAM=1912 patch=200626"}),
        (FOUNDATION, {"openfoam_build": "11-e2a3b4c5"}),
        ("no head at all\n", {}),
    ],
)
def test_the_solver_names_itself(tmp_path: Path, head: str, facts: dict[str, str]) -> None:
    log = tmp_path / "log.icoFoam"
    log.write_text(head + "Time = 1\n" * 100)
    assert solver(log) == facts


def test_without_a_log_nothing_is_known(tmp_path: Path) -> None:
    assert solver(tmp_path / "log.none") == {}
