"""One study through each broker, with worker and collector as processes of their own: equal tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.system import (
    EXAMPLES,
    System,
    Tables,
    eventually,
    running_system,
    study_folder,
    submitted_table,
)


def test_tables_are_equal_digit_for_digit(
    broker_url: str, tmp_path: Path, embedded: Tables
) -> None:
    with running_system(tmp_path, broker_url) as system:
        for name, expected in embedded.items():
            assert len(expected) >= 6
            assert submitted_table(system, EXAMPLES / name / "study.yaml") == expected


SLEEPER = """\
study: sleeper
kind: command
parameters: {x: [1, 2, 3]}
command: {files: ., run: [./job.sh, "{x}"]}
resources: {cores: 2}
"""


def test_cancel_reaches_a_running_job_within_two_seconds(broker_url: str, tmp_path: Path) -> None:
    with running_system(tmp_path, broker_url, "--cores", "2") as system:
        ledger = tmp_path / "ledger"
        script = f"#!/bin/sh\necho $$ > {ledger}\nsleep 300\n"
        study = study_folder(system, SLEEPER, job__sh=script)
        system.ok("submit", str(study))
        pid = int(eventually(lambda: (ledger.exists() and ledger.read_text().strip()) or None))
        system.ok("cancel", "sleeper")
        # two seconds are promised; a program's start-up and a noisy machine come on top
        eventually(lambda: not Path(f"/proc/{pid}").exists(), within_s=10)
        status = eventually(
            lambda: next((s for s in _studies(system) if s["cancelled"] == 3), None)
        )
        assert status["succeeded"] == 0


def _studies(system: System) -> list[dict[str, int]]:
    studies: list[dict[str, int]] = system.json("status")["studies"]
    return studies


MIXED = """\
study: mixed
kind: command
parameters: {x: {range: {from: 1, to: 30, step: 1}}}
command: {files: ., run: [./job.sh, "{x}"]}
measure: {log: {y: 'y = (\\S+)'}}
retries: {count: 1, first: 0.1 s}
"""
MIXED_SCRIPT = """\
#!/bin/sh
[ "$1" = 7 ] && exit 9
[ "$1" = 8 ] && { [ -e {mark} ] || { touch {mark}; exit 1; }; }
echo "y = $1"
"""


def test_a_worker_that_is_killed_loses_nothing(broker_url: str, tmp_path: Path) -> None:
    with running_system(tmp_path, broker_url, "--cores", "2", "--lease", "5") as system:
        gate, ledger = tmp_path / "gate", tmp_path / "ledger"
        script = f"#!/bin/sh\necho $1 >> {ledger}\nwhile [ ! -e {gate} ]; do sleep 0.1; done\n"
        text = MIXED.replace("measure:", "# ").replace("to: 30", "to: 6")
        system.ok("submit", str(study_folder(system, text, job__sh=script)))
        eventually(lambda: ledger.exists() and len(ledger.read_text().split()) == 2)
        first = system.daemons["worker"]
        first.kill()
        first.wait()
        gate.touch()
        system.start_worker("second", "--cores", "2", "--lease", "5")
        told = system.ok("watch", "mixed", "--json", timeout_s=100).splitlines()
        counts = [json.loads(line)["succeeded"] for line in told]
        assert (counts, counts[-1]) == (sorted(counts), 6)
        (status,) = _studies(system)
        assert (status["succeeded"], status["failed"]) == (6, 0)


def test_failures_and_retries(broker_url: str, tmp_path: Path) -> None:
    with running_system(tmp_path, broker_url) as system:
        script = MIXED_SCRIPT.replace("{mark}", str(tmp_path / "mark"))
        study = study_folder(system, MIXED, job__sh=script)
        assert system.call("submit", str(study), "--wait").returncode == 1
        rows = {row["x"]: row for row in json.loads(system.ok("results", "--json"))}
        assert (rows[7]["state"], rows[7]["reason"], rows[7]["attempt"]) == (
            "failed",
            "exit-code",
            2,
        )
        assert (rows[8]["state"], rows[8]["attempt"]) == ("succeeded", 2)
        assert sum(row["state"] == "succeeded" for row in rows.values()) == 29
        assert "code 9" in system.ok("logs", rows[7]["job"])


def test_hostile_messages_become_dead_letters(broker_url: str, tmp_path: Path) -> None:
    from queue_runner.brokers import connect
    from queue_runner.brokers.base import Message

    with running_system(tmp_path, broker_url) as system, connect(broker_url) as broker:
        bodies = [b"", b"\xc1", b"\x93\x01\xa3job\x80", b"\xdd\xff\xff\xff\xff", b"x" * 100]
        for queue in ("jobs.default", "results"):
            broker.publish([Message(queue, body) for body in bodies])
        for queue in ("jobs.default", "results"):
            eventually(lambda queue=queue: broker.depth(queue).dead == len(bodies))
        study = study_folder(system, MIXED, job__sh="#!/bin/sh\necho y = 1\n")
        system.ok("submit", str(study), "--wait")
        listed = system.ok("dead", "jobs.default")
        assert "message" in listed


def test_without_its_token_the_collector_tells_nothing(zeromq_url: str, tmp_path: Path) -> None:
    with running_system(tmp_path, zeromq_url) as system:
        (tmp_path / "wrong").write_text("wrong")
        done = system.call("status", "--token-file", str(tmp_path / "wrong"))
        assert done.returncode == 4
        assert "wants its token" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "url", ["amqp://127.0.0.1:9", "redis://127.0.0.1:9", "zmq+tcp://127.0.0.1:9"]
)
def test_an_unreachable_broker_is_told_in_one_line(url: str, tmp_path: Path) -> None:
    system = System(tmp_path, url)
    done = system.call("worker")
    assert done.returncode == 3, done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
