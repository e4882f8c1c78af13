"""`queue-runner keys`: made, listed, rotated, carried; nothing of a secret is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from queue_runner.signing.file import read_key_file
from tests.integration.cli.conftest import Call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that others get to: pytest closes its own to them whenever it starts."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


def test_a_life_of_keys(call: Call, path: Path) -> None:
    env = {"QUEUE_RUNNER_KEYS_FILE": str(path)}
    said = ""

    def keys(*arguments: str) -> str:
        nonlocal said
        done = call("keys", *arguments, **env)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
        return done.stdout

    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(keys("list", "--json"))
        return found

    keys("new", "2026")
    assert path.stat().st_mode & 0o777 == 0o600
    keys("new", "2027", "--not-after", "2099-01-31")
    assert [(each["name"], each["signs"]) for each in listed()] == [("2026", True), ("2027", False)]
    keys("use", "2027")
    first, second = (key.secret for key in read_key_file(path).keys.values())
    keys("retire", "2026")
    keys("max-age", "30d")
    (only,) = listed()
    assert (only["name"], only["signs"], only["not_after"]) == (
        "2027",
        True,
        "2099-01-31T00:00:00Z",
    )
    assert "30 days old" in keys("list")

    carried = path.with_name("mpi.json")
    keys("export", str(carried), "--role", "worker", "--queue", "mpi")
    (limited,) = json.loads(call("keys", "list", "--json", "--keys-file", str(carried)).stdout)
    assert limited["fingerprint"] == only["fingerprint"]
    assert limited["purposes"] == [
        "broadcasts: control",
        "broadcasts: workers",
        "queue: jobs.mpi",
        "results: from workers",
    ]
    assert first is not None
    assert second is not None
    assert second.hex() not in carried.read_text()
    assert first.hex()[:12] not in said
    assert second.hex()[:12] not in said


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["list"], "which key file? Name it with --keys-file"),
        (["list", "--keys-file", "none.json"], "none.json: no such key file"),
        (["use", "b", "--keys-file", "keys.json"], "no key 'b' here; there are: a"),
        (["new", "a", "--keys-file", "keys.json"], "there is a key 'a' already"),
        (["new", "../a", "--keys-file", "keys.json"], "is no name for a key"),
        (["retire", "a", "--keys-file", "keys.json"], "the key 'a' signs: make another one"),
        (["new", "b", "--not-after", "soon", "--keys-file", "keys.json"], "is no date such as"),
        (["max-age", "0", "--keys-file", "keys.json"], "messages take some time"),
    ],
)
def test_wrong_calls_are_answered_in_words(
    call: Call, path: Path, arguments: list[str], text: str
) -> None:
    assert call("keys", "new", "a", "--keys-file", str(path)).returncode == 0
    done = call("keys", *arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["worker"], ["collector"], ["submit", "study.yaml"]])
def test_a_key_file_that_others_can_read_stops_at_the_start(
    call: Call, tmp_path: Path, public: Path, command: list[str]
) -> None:
    path = public / "keys.json"
    call("keys", "new", "a", "--keys-file", str(path))
    path.chmod(0o604)
    (tmp_path / "study.yaml").write_text(
        "study: s\nkind: command\nparameters: {x: [1]}\ncommand: {run: [echo, '{x}']}\n"
    )
    done = call(*command, QUEUE_RUNNER_KEYS_FILE=str(path))
    assert done.returncode == 2
    assert "others on this machine can read or change these keys" in done.stderr


def test_doctor_tells_of_keys(call: Call, path: Path) -> None:
    def found(**env: str) -> dict[str, str]:
        findings = json.loads(call("doctor", "--json", **env).stdout)
        (finding,) = (each for each in findings if each["name"] == "signing")
        return dict(finding)

    assert found()["level"] == "note"
    # no adapter has it, which is told at once: each of the others gets its time to answer
    env = {"QUEUE_RUNNER_BROKER": "nowhere://127.0.0.1"}
    unsigned = found(**env)
    assert unsigned["level"] == "warning"
    assert "keys new" in unsigned["fix"]
    call("keys", "new", "a", "--keys-file", str(path))
    env["QUEUE_RUNNER_KEYS_FILE"] = str(path)
    assert found(**env) == {
        "name": "signing",
        "level": "ok",
        "detail": f"{path}: keys a; a signs",
        "fix": "",
    }
    path.write_text("{}")
    assert found(**env)["level"] == "failed"
