"""Tests that share a dear server run in one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_TESTS = """\
import os, pathlib, pytest

@pytest.mark.xdist_group("dear")
@pytest.mark.parametrize("number", range(4))
def test_shared(number):
    pathlib.Path(f"{number}.pid").write_text(str(os.getpid()))
"""


def test_a_group_is_run_by_one_process(tmp_path: Path) -> None:
    (tmp_path / "test_them.py").write_text(_TESTS)
    options = ["-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    processes = [path.read_text() for path in tmp_path.glob("*.pid")]
    assert len(processes) == 4
    assert len(set(processes)) == 1
