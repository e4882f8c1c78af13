"""What CI makes of tests that fail: `scripts/steady`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_TESTS = """\
import pathlib, pytest

FAILS = {fails}

@pytest.mark.xdist_group("a group")
@pytest.mark.parametrize("name", ["a", "b@c", "d e"])
def test_it(name):
    tried = pathlib.Path(name + ".tried")
    before = int(tried.read_text()) if tried.exists() else 0
    tried.write_text(str(before + 1))
    assert before >= FAILS.get(name, 0)
"""


def steady(
    folder: Path, fails: dict[str, int], unsteady: str | None
) -> subprocess.CompletedProcess[str]:
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/steady", folder / "scripts")
    (folder / "test_them.py").write_text(_TESTS.format(fails=fails))
    env = {name: value for name, value in os.environ.items() if name != "UNSTEADY"}
    if unsteady is not None:
        env["UNSTEADY"] = unsteady
    # what it needs and no more; and a temporary folder of its own, for it closes that of this run to others
    env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}
    env["PYTEST_DEBUG_TEMPROOT"] = str(folder)
    pytest = str(Path(sys.executable).with_name("pytest"))
    command = ["scripts/steady", pytest, "-n", "2", "--dist", "loadgroup"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def tries(folder: Path) -> dict[str, int]:
    return {path.stem: int(path.read_text()) for path in folder.glob("*.tried")}


def test_what_passes_on_its_second_try_is_named(tmp_path: Path) -> None:
    done = steady(tmp_path, {"b@c": 1, "d e": 1}, "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("UNSTEADY")] == [
        "UNSTEADY, passed on its second try only: test_them.py::test_it[b@c]",
        "UNSTEADY, passed on its second try only: test_them.py::test_it[d e]",
    ]
    assert tries(tmp_path) == {"a": 1, "b@c": 2, "d e": 2}


@pytest.mark.parametrize(
    ("fails", "unsteady", "tried"),
    [
        ({"a": 9}, "2", {"a": 2, "b@c": 1, "d e": 1}),
        ({"a": 1, "b@c": 1}, "1", {"a": 1, "b@c": 1, "d e": 1}),
        ({"a": 1}, None, {"a": 1, "b@c": 1, "d e": 1}),
    ],
    ids=["twice", "too many", "not asked for"],
)
def test_what_fails_fails(
    fails: dict[str, int], unsteady: str | None, tried: dict[str, int], tmp_path: Path
) -> None:
    done = steady(tmp_path, fails, unsteady)
    assert done.returncode != 0
    assert "UNSTEADY" not in done.stdout
    assert tries(tmp_path) == tried
