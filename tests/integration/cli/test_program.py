"""The program as a newcomer, a script and a hostile shell meet it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import polars
import pytest
from typer.main import get_command

from queue_runner.cli import app as program
from queue_runner.cli.commands import COMMANDS as LISTED

from .conftest import PROGRAM, STUDY, Call


def _all(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    yield name, command
    for each, inner in getattr(command, "commands", {}).items():
        yield from _all(inner, f"{name} {each}".strip())


for module, _ in LISTED.values():
    import_module(f"queue_runner.cli.{module}")
COMMANDS = dict(_all(get_command(program.app)))


def test_the_list_has_every_command_and_each_is_in_its_module() -> None:
    assert set(LISTED) == {name for name in COMMANDS if name and " " not in name}
    with ThreadPoolExecutor(4) as threads:
        helps = dict(zip(LISTED, threads.map(_help_of, LISTED), strict=True))
    for name, said in helps.items():
        assert said.startswith(f"Usage: queue-runner {name} "), name
    shown = _help_of()
    assert all(line in shown for _, line in LISTED.values())


def _help_of(*command: str) -> str:
    environment = {**os.environ, "COLUMNS": "80"}
    argv = [PROGRAM, *command, "--help"]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name])
def test_every_command_says_what_it_does_with_an_example(name: str) -> None:
    command = COMMANDS[name]
    first = name.split()[0]
    assert command.help
    assert command.epilog.startswith(f"Example: queue-runner {first}")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nosuch"], 2, "No such command 'nosuch'"),
        (["run"], 2, "Missing argument 'STUDY.yaml'"),
        (["run", "nosuch.yaml"], 2, "nosuch.yaml: No such file"),
        (["run", "."], 2, "is a folder; name the study file in it"),
        (
            ["status"],
            3,
            "there are no runs in runs/ (`queue-runner run STUDY.yaml` makes them), and",
        ),
        (["status", "--collector", "nonsense"], 2, "expected a URL such as http://head:8787"),
        (["status", "--collector", "http://127.0.0.1:9"], 3, "no collector answers at"),
        (["status", "--token-file", "nosuch"], 2, "--token-file"),
        (["check", "nosuch.yaml", "--json"], 2, "No such file"),
    ],
)
def test_wrong_calls_are_answered_in_words(
    call: Call, arguments: list[str], code: int, said: str
) -> None:
    done = call(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_word_that_is_no_collector_makes_no_folder(call: Call, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("study: s\nkind: command\ncommand: {run: [echo]}\n")
    assert call("submit", "s.yaml", "--collector", "nonsense").returncode == 2
    assert not (tmp_path / "nonsense").exists()


@pytest.mark.parametrize("arguments", [["results"], ["results", "-f", "csv"], ["status"]])
def test_a_reader_that_has_seen_enough_ends_it_well(folder: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody_reads:
        done = subprocess.run(
            [PROGRAM, *arguments], cwd=folder, stdout=nobody_reads, stderr=subprocess.PIPE,
            timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "arguments",
    [["results"], ["results", "-f", "csv"], ["results", "--json"], ["status", "--json"]],
)
def test_output_that_cannot_be_written_is_said_in_one_line(
    folder: Path, arguments: list[str]
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [PROGRAM, *arguments], cwd=folder, stdout=full, stderr=subprocess.PIPE, timeout=60,
            check=False, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "queue-runner: writing the output: No space left on device\n"


@pytest.mark.parametrize("form", ["csv", "json", "table", "parquet"])
def test_a_file_that_cannot_be_made_is_named(folder: Path, call: Call, form: str) -> None:
    done = call("results", "-f", form, "-o", "nosuch/x", cwd=folder)
    assert done.returncode == 2
    assert done.stderr == "queue-runner: nosuch/x: No such file or directory\n"


def test_a_bug_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**options: object) -> None:
        raise RuntimeError("of a plug-in")

    monkeypatch.setattr(program, "app", broken)
    assert program._run(["status"]) == program.EXIT_BUG
    assert "RuntimeError: of a plug-in" in capsys.readouterr().err


# -- the four forms of a table -----------------------------------------------------------------------


def _rows(call: Call, folder: Path, form: str) -> list[dict[str, Any]]:
    if form == "parquet":
        assert call("results", "-f", form, "-o", "r.parquet", cwd=folder).returncode == 0
        return polars.read_parquet(folder / "r.parquet").to_dicts()
    text = call("results", "-f", form, cwd=folder).stdout
    if form == "csv":
        return list(csv.DictReader(io.StringIO(text)))
    return list(json.loads(text, parse_constant=_no_constant))


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_json_is_strict_where_numbers_are_not_finite(folder: Path, call: Call) -> None:
    rows = _rows(call, folder, "json")
    assert [row.get("y") for row in rows] == [1.5, None, -1e-300, None]
    shown = call("show", f"{STUDY}.0000000", "--json", cwd=folder)
    logged = call("logs", f"{STUDY}.0000001", "--json", cwd=folder)
    assert json.loads(logged.stdout, parse_constant=_no_constant)["metrics"]["y"] is None
    assert "Traceback" not in shown.stderr


def test_csv_json_and_parquet_hold_the_same(folder: Path, call: Call) -> None:
    tables = {form: _rows(call, folder, form) for form in ("csv", "json", "parquet")}
    names = list(tables["csv"][0])
    assert names == list(tables["parquet"][0])
    for name in names:
        written = [row[name] for row in tables["csv"]]
        for form in ("json", "parquet"):
            values = [row.get(name) for row in tables[form]]
            assert _same(written, values), (form, name, written, values)


def _same(written: list[str], values: list[Any]) -> bool:
    return all(map(_equal, written, values))


def _equal(text: str, value: Any) -> bool:
    if value is None:
        return text in ("", "nan", "inf")
    if isinstance(value, bool):
        return text == str(value).lower()
    if isinstance(value, float) and math.isnan(value):
        return text == "nan"
    if isinstance(value, int):
        return int(text) == value
    return float(text) == value if isinstance(value, float) else text == value


# -- odd terminals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "env", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"NO_COLOR": "1"}, {"COLUMNS": "20"}, {"TERM": ""}]
)
@pytest.mark.parametrize("command", ["results", "status"])
def test_odd_environments(folder: Path, call: Call, command: str, env: dict[str, str]) -> None:
    done = call(command, cwd=folder, **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert STUDY in done.stdout
    assert "\x1b" not in done.stdout


def test_without_a_home(folder: Path) -> None:
    env = {key: os.environ[key] for key in ("PATH", "VIRTUAL_ENV") if key in os.environ}
    done = subprocess.run(
        [PROGRAM, "status"], cwd=folder, env=env, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


# -- nothing to show, and names that are something else ----------------------------------------------


def test_a_table_without_rows(folder: Path, call: Call) -> None:
    nothing = ["results", "--state", "cancelled"]
    assert call(*nothing, cwd=folder).stdout == f"{STUDY}: no results to show\n"
    assert call(*nothing, "--json", cwd=folder).stdout == "[]\n"
    header = call(*nothing, "-f", "csv", cwd=folder).stdout
    assert header == "index,x,on,state,reason,attempt,wall_s,worker,job\n"


def test_logs_of_a_study_name_its_jobs(folder: Path, call: Call) -> None:
    done = call("logs", "odd", cwd=folder)
    assert done.returncode == 2
    assert f"odd is a study; name one of its jobs, such as {STUDY}.0000000" in done.stderr


def test_doctor_names_each_url_once_and_what_to_do(call: Call) -> None:
    done = call("doctor", "--broker", "redis://127.0.0.1:9", "--json")
    findings = {each["name"]: each for each in json.loads(done.stdout)}
    assert done.returncode == 1
    assert findings["broker"]["level"] == "failed"
    assert findings["broker"]["detail"].count("redis://127.0.0.1:9") == 1
    assert findings["collector"]["fix"].startswith("Start one with `queue-runner collector`")
    assert findings["docker"]["level"] in ("ok", "note")


def test_a_password_on_the_command_line_is_warned_of(call: Call) -> None:
    broker = ("health", "broker", "--broker")
    warned = call(*broker, "redis://:hush-hush@127.0.0.1:port/0")
    assert "warning: everyone on this machine can read the password" in warned.stderr
    assert "QUEUE_RUNNER_BROKER_FILE" in warned.stderr
    assert "hush" not in warned.stderr
    assert warned.returncode == 2
    assert "warning" not in call(*broker, "redis://127.0.0.1:port/0").stderr
