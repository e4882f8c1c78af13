"""Real daemons on each broker, and somebody who sends them whatever comes to mind."""

from __future__ import annotations

from pathlib import Path

import msgpack
import psutil
import pytest

from queue_runner import wire
from queue_runner.brokers import Message, connect
from queue_runner.brokers.base import MAX_BODY_BYTES
from queue_runner.model import INBOX_QUEUE, TOPIC_CONTROL, TOPIC_WORKERS
from tests.integration.system import System, eventually, running_system, study_folder

MIB = 1024**2
QUEUES = ("jobs.default", INBOX_QUEUE)
STUDY = """
study: after
kind: command
parameters: {x: [1, 2, 3]}
command: {files: ., run: [./write.sh, "{x}"]}
"""
WRITE = '#!/bin/sh\necho "{\\"y\\": $1}" > metrics.json\n'
JOB = {"id": "s.1", "study": "s", "index": 1, "kind": "command", "point": {}, "spec": {}}
RESULT = {
    "job_id": "s.1", "study": "s", "index": 1, "attempt": 1, "state": "failed", "final": True, "point": {},
}  # fmt: skip
ABSURD = {
    "job": {"id": "/etc/passwd", "study": "..\n", "index": 2**64 - 1, "queue": "../.."},
    "result": {"job_id": "a\0", "study": "..", "index": -1, "attempt": 2**40, "worker": "\x1b[2J"},
}


def _bodies() -> list[bytes]:
    deep = b"\x93\x01\xa3job" + b"\x91" * 600 + b"\x00"
    nils, lists = MAX_BODY_BYTES - 20, MAX_BODY_BYTES - 20
    return [
        b"",
        b"\xff" * 1000,
        deep,
        b"\x93\x01\xa3job\x82\xa1a\x01\xa1a\x02",
        b"\x93\x01\xa3job\x81\xa1a\xa2\xff\xfe",
        b"\x93\x01\xa3job\x81\xa1a\xd6\xff\x00\x00\x00\x00",
        b"\x93\x01\xa3job\x81\xa1a\xc7\x01\x05x",
        b"\x93\x01\xa3job\xdf\x7f\xff\xff\xff",
        b"\x93\x01\xa3job\xdd" + nils.to_bytes(4, "big") + b"\xc0" * nils,
        b"\x93\x01\xa3job\xdd" + lists.to_bytes(4, "big") + b"\x90" * lists,
        b"x" * MAX_BODY_BYTES,
        msgpack.packb([99, "job", JOB]),
        msgpack.packb([wire.VERSION, "no-such", {}]),
        *(
            msgpack.packb([wire.VERSION, kind, plain | {name: value}])
            for kind, plain in (("job", JOB), ("result", RESULT))
            for name, value in ABSURD[kind].items()
        ),
        msgpack.packb([wire.VERSION, "result", RESULT | {"job_id": "s/../1"}]),
        wire.batch([msgpack.packb([wire.VERSION, "result", RESULT | {"study": ""}])] * 3),
    ]  # fmt: skip


def _memory(system: System) -> dict[str, int]:
    return {
        name: psutil.Process(process.pid).memory_info().rss
        for name, process in system.daemons.items()
    }


def _flood(url: str) -> int:
    """Every body in every queue and as every broadcast; returns how many are in each queue."""
    bodies = _bodies()
    with connect(url) as broker:
        for body in bodies:
            broker.publish([Message(queue, body) for queue in QUEUES])
            for topic in (TOPIC_CONTROL, TOPIC_WORKERS):
                broker.broadcast(topic, body)
    return len(bodies)


@pytest.mark.timeout(400)
def test_daemons_dead_letter_it_all_and_live(tmp_path: Path, broker_url: str) -> None:
    with running_system(tmp_path, broker_url, "--cores", "2") as system:
        study = study_folder(system, STUDY, write__sh=WRITE)
        system.ok("submit", str(study), "--wait")
        before = _memory(system)
        count = _flood(broker_url)
        with connect(broker_url) as broker:
            for queue in QUEUES:
                eventually(lambda queue=queue: broker.depth(queue).dead == count, within_s=120)  # type: ignore[misc]
                letters = broker.dead_letters(queue, count)
                assert all(letter.reason.isprintable() for letter in letters)
                assert len({letter.reason for letter in letters}) > 8
        assert "no dead letters" not in system.ok("dead", "jobs.default", "--limit", "100")
        after = _memory(system)
        more = {name: after[name] - size for name, size in before.items()}
        assert all(size < 80 * MIB for size in more.values()), more
        # the same daemons, which do what they did before
        study = study_folder(system, STUDY.replace("after", "again"), write__sh=WRITE)
        system.ok("submit", str(study), "--wait")
