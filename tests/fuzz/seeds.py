"""What fuzzing begins with: messages as the program makes them, and replies as servers give them."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pika

from queue_runner import model, wire
from queue_runner.brokers.rabbitmq.catalogue import _record
from queue_runner.brokers.rabbitmq.envelope import dead_properties, job_properties
from queue_runner.brokers.rabbitmq.topology import Lane
from queue_runner.brokers.zeromq.protocol import pack, pack_request
from queue_runner.model import Artifact, Failure, Reason, State
from queue_runner.store.bundle import write_bundle
from queue_runner.study import load_study

EXAMPLES = Path(__file__).parents[2] / "examples"
_LANE = Lane("jobs.x", 3, 4)


def _messages() -> Iterator[object]:
    for file in sorted(EXAMPLES.glob("*/study.yaml")):
        study = load_study(file)
        record = study.record("0" * 64, 1.8e9)
        job = next(study.jobs("0" * 64))
        yield record
        yield job
        yield dataclasses.replace(
            job, worker="w", held_by="w", held_s=1.0, image="queue-runner/base"
        )
        yield _result(job)
        yield model.JobsSubmitted(study=record.id, upto=500)
        yield model.PointsAdded(study=record.id, first=7, points=(job.point, job.point))
        yield model.CancelRequest(study=record.id, jobs=(job.id,))
        yield model.RetryRequest(study=record.id, jobs=(job.id,))
        yield model.Cancel(study=record.id, jobs=(job.id,))
        yield _heartbeat(job)


def _result(job: model.Job) -> model.Result:
    return model.Result(
        job_id=job.id, study=job.study, index=job.index, attempt=2, state=State.FAILED, final=True,
        point=job.point, metrics={"y": 1.5, "n": 3, "ok": True, "text": "x"},
        failure=Failure(Reason.EXIT_CODE, "step solve ended with 1"),
        artifacts=(Artifact("out/a.csv", "0" * 64, 17),), log_tail="the end\n", worker="w",
        started_at=1.8e9, finished_at=1.8e9, timings={"solve": 1.0},
    )  # fmt: skip


def _heartbeat(job: model.Job) -> model.Heartbeat:
    running = model.RunningJob(job_id=job.id, study=job.study, attempt=1, started_at=1.8e9)
    return model.Heartbeat(
        worker="w", host="h", at=1.8e9, state="working", queues=("default",), cores=2, cores_free=1,
        running=(running,),
    )  # fmt: skip


def _rabbitmq() -> Iterator[bytes]:
    odd = {"qr-reason": 7, "x-delivery-count": 3, "x": {"y": [1, "z", None, True]}}
    for props in (
        job_properties(_LANE, 3),
        dead_properties(_LANE, 3, "no message of ours"),
        pika.BasicProperties(headers=odd, priority=255, expiration="100", content_type="x"),
    ):
        encoded = b"".join(props.encode())[:255]
        yield bytes([len(encoded)]) + encoded + _record(_LANE, 1500)


def _redis() -> Iterator[bytes]:
    yield b"*3\r\n*1\r\n*5\r\n:0\r\n$5\r\n0:1:b\r\n$10\r\n17:abcdef\r\n:1\r\n$4\r\nbody\r\n$1\r\n9\r\n:-1\r\n"
    yield b"*3\r\n$7\r\nmessage\r\n$10\r\n{qr}:topic\r\n$4\r\nbody\r\n"
    for word in (b"WRONGTYPE x", b"OOM command not allowed", b"NOAUTH", b"NOSCRIPT x", b"BUSY x"):
        yield b"-" + word + b"\r\n+OK\r\n"


def _zeromq_server() -> Iterator[bytes]:
    bundle = ["qr:jobs.x", 1, 3, 0.0, 1, [b"body", b"other"]]
    for operation, arguments in (
        ("publish", [[bundle, bundle]]),
        ("lease", [["qr:jobs.x"], 10, 0.0, 60.0, None, 4]),
        ("renew", [[[1], [2]], 60.0]),
        ("settle", [[[1], [2]], [[1, 2, 1.5, True]], [[1, 2, "reason"]], [bundle]]),
        ("subscribe", [["control"]]),
        ("broadcast", ["control", b"x"]),
        ("ping", []),
        ("depth", ["qr:jobs.x"]),
        ("dead-letters", ["qr:jobs.x", 10, 0]),
        ("replay", ["qr:jobs.x", [1]]),
        ("purge", ["qr:jobs.x"]),
        ("forget", [b"12345678"]),
    ):
        yield b"01" + pack_request(operation, *arguments)


def _zeromq_client() -> Iterator[bytes]:
    yield b"\0" + pack(["message", "control", b"body"])
    yield b"\1" + pack(["ok", "instance"])
    yield b"\2" + pack(["ok", None])


def _studies() -> Iterator[bytes]:
    yield from (file.read_bytes() for file in sorted(EXAMPLES.glob("*/study.yaml")))
    page = (EXAMPLES.parent / "docs/study-files.md").read_text()
    head = "study: s\nparameters: {x: [1, 2]}\n"
    for block in page.split("```yaml\n")[1:]:
        yield (head + block.partition("```")[0]).encode()


def _bundles() -> Iterator[bytes]:
    for example in ("cavity", "mpi-kernels"):
        made = io.BytesIO()
        write_bundle(EXAMPLES / example, made, exclude=["runs", "runs/*"])
        yield made.getvalue()[:16384]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo("x")
        info.type, info.linkname = kind, "/etc/passwd"
        yield info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024


def seeds_of(name: str) -> list[bytes]:
    """Of one target."""
    if name in wire._TYPES:
        kind = wire._TYPES[name]
        return [wire.encode(each) for each in _messages() if type(each) is kind]
    if name == "batch":
        return [wire.batch([wire.encode(each) for each in _messages()][:4])]
    return list(_OTHERS[name])


_OTHERS: Mapping[str, Any] = {
    "envelope": [
        bytes([place]) + b"x" * length for place in (0, 9, 40, 90) for length in (0, 1, 40)
    ],
    "rabbitmq-delivery": list(_rabbitmq()),
    "redis-answer": list(_redis()),
    "redis-letter": [b"\0body\0\1" + b"3\0\2" + b"4\0\3" + b"5\0\4no\0\5" + b"17"],
    "zeromq-server": list(_zeromq_server()),
    "zeromq-client": list(_zeromq_client()),
    "study-file": list(_studies()),
    "csv-file": [b"a,b\n1,2.5\ntrue,x\n", b'"a","b c"\r\n 1e-3,"x, ""y"""\r\n,\r\n'],
    "bundle": list(_bundles()),
}


def unpacked(data: bytes) -> Any:
    """Raises `ValueError`, or what else msgpack says."""
    return msgpack.unpackb(data, strict_map_key=False)
