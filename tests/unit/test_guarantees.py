"""docs/guarantees.md promises nothing that no test shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/guarantees.md"
NAMED = re.compile(r"`((?:tests|queue_runner/testing)/[\w/]+\.py)::(\w+)`")


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def _promises() -> list[str]:
    """The bullets of the page, each with the lines that go on with it."""
    text = PAGE.read_text()
    found = re.findall(r"^- .*(?:\n {2,}\S.*)*", text, re.MULTILINE)
    rows = [row for row in re.findall(r"^\| \d+ \|.*$", text, re.MULTILINE)]
    return [*found, *rows]


@pytest.mark.parametrize("promise", _promises(), ids=lambda text: text[2:40])
def test_every_promise_names_a_test_that_exists(promise: str) -> None:
    named = NAMED.findall(promise)
    assert named, f"no test is named here (`path::name`): {promise}"
    for path, name in named:
        assert (ROOT / path).is_file(), f"{path} does not exist"
        assert name in _functions(ROOT / path), f"{path} has no {name}"
