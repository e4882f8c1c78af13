"""What stands twice in the repository, code inside and deployment outside, agrees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INNER = ROOT / "queue_runner" / "brokers"
OUTER = ROOT / "brokers"
COPIES = ROOT / "queue_runner" / "testing" / "servers"


def folders(where: Path) -> set[str]:
    return {path.name for path in where.iterdir() if path.is_dir() and path.name[0] not in "_."}


def test_each_adapter_has_a_deployment_and_each_deployment_an_adapter() -> None:
    assert folders(INNER) == folders(OUTER)


@pytest.mark.parametrize("outer", ["brokers", "workers"])
def test_outer_folders_hold_no_importable_python(outer: str) -> None:
    assert list((ROOT / outer).rglob("*.py")) == []


@pytest.mark.parametrize("name", sorted(folders(COPIES)))
def test_package_data_equals_what_is_deployed(name: str) -> None:
    copies = sorted(path for path in (COPIES / name).iterdir() if path.is_file())
    assert copies
    for copy in copies:
        assert copy.read_bytes() == (OUTER / name / copy.name).read_bytes(), copy


def imported_with(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_plugin_imports_no_driver_before_a_fixture_is_used() -> None:
    heavy = {"docker", "pika", "redis", "zmq", "testcontainers", "sqlalchemy"}
    assert heavy & imported_with("queue_runner.testing.plugin") == set()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("queue_runner.workers.daemon", {"httpx", "fsspec", "sqlalchemy", "pydantic", "docker"}),
        (
            "queue_runner.client.runs",
            {"httpx", "fsspec", "rich", "sqlalchemy.dialects.postgresql", "docker", "starlette"},
        ),
        ("queue_runner.cli.app", {"httpx", "sqlalchemy", "pydantic", "rich"}),
    ],
)
def test_a_start_imports_nothing_that_takes_long_and_may_not_be_needed(
    module: str, heavy: set[str]
) -> None:
    assert heavy & imported_with(module) == set()
