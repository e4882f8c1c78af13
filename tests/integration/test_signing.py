"""Signed messages through real brokers: what is forged is neither run nor stored, and keys rotate."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from queue_runner.brokers import connect
from queue_runner.brokers.base import Message
from queue_runner.client.embedded import embedded
from queue_runner.client.folder import RunFolder
from queue_runner.client.submit import job_message, to_inbox
from queue_runner.model import (
    TOPIC_CONTROL,
    Cancel,
    CancelRequest,
    Heartbeat,
    Job,
    Result,
    State,
    StudyRecord,
)
from queue_runner.signing import (
    CONTROL,
    HEARTBEATS,
    REQUESTS,
    RESULTS,
    UNSIGNED,
    Seal,
    on_queue,
    open_seal,
)
from queue_runner.signing.file import read_key_file, write_key_file
from queue_runner.signing.keys import DAY_S, Key, KeySet
from queue_runner.wire import encode
from queue_runner.workers.settings import WorkerSettings
from tests.integration.lab import Lab
from tests.integration.system import System, eventually, study_folder

QUEUE = "jobs.default"
PLACE = on_queue(QUEUE)


@pytest.fixture
def lab(broker_url: str, tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(tmp_path, broker_url, stack)


def stranger(folder: Path) -> Seal:
    path = folder / "stranger.json"
    write_key_file(path, KeySet({}).with_key(Key.make("stranger", 0.0)))
    return open_seal(path)


def long_ago(seal: Seal, body: bytes, purpose: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Signed 400 days ago."""
    with monkeypatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: int((time.time() - 400 * DAY_S) * 1e9))
        return seal.seal(body, purpose)


def changed(message: bytes, old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    assert old in message
    return message.replace(old, new)


def matched(reasons: list[str], expected: dict[str, bytes]) -> bool:
    return all(any(text in reason for reason in reasons) for text in expected)


def test_forged_jobs_are_dead_lettered_and_never_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = lab.job(0)
    body, sealed = encode(job), lab.seal.seal(encode(job), PLACE)
    result = Result(job.id, "study-a", 0, 1, State.SUCCEEDED, True, {})
    forged = {
        "it is not signed": body,
        "'stranger', which is not known here": stranger(lab.folder).seal(body, PLACE),
        "its signature is wrong": changed(sealed, b"echo ", b"rm -r"),
        "it was altered": changed(sealed, b"study-a", b"study-b"),
        "signed for 'queue: jobs.other'": lab.seal.seal(body, on_queue("jobs.other")),
        "signed for 'results: from workers'": lab.seal.seal(encode(result), RESULTS),
        "signed 400 days ago": long_ago(lab.seal, body, PLACE, monkeypatch),
        "the key 'old', which has expired": open_seal(lab.folder / "old.json").seal(body, PLACE),
    }
    lab.broker.publish([Message(QUEUE, message) for message in forged.values()])
    lab.broker.publish([job_message(lab.job(1), seal=lab.seal)])
    lab.start_collector()
    lab.start_worker(lab.seal)
    reasons = lab.reasons(QUEUE, len(forged))
    assert matched(reasons, forged), reasons
    eventually(lambda: lab.result("study-a.0000001"))
    assert lab.broker.replay(QUEUE) == len(forged)
    assert matched(lab.reasons(QUEUE, len(forged)), forged)
    assert lab.ledger.read_text() == "study-a 1\n"
    assert lab.result(job.id) is None


def test_forged_results_and_requests_are_dead_lettered_and_never_stored(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie = Result("study-a.0000000", "study-a", 0, 9, State.FAILED, True, {})
    body, sealed = encode(lie), lab.seal.seal(encode(lie), RESULTS)
    job = encode(lab.job(0))
    forged = {
        "it is not signed": body,
        "'stranger', which is not known here": stranger(lab.folder).seal(body, RESULTS),
        "its signature is wrong": changed(sealed, b"study-a", b"study-b"),
        "signed for 'queue: jobs.default'": lab.seal.seal(job, PLACE),
        "signed 400 days ago": long_ago(lab.seal, body, RESULTS, monkeypatch),
        # a worker is no client, and a client no worker
        "type 'cancel-request' is not accepted": lab.seal.seal(
            encode(CancelRequest("study-a")), RESULTS
        ),
        "type 'result' is not accepted": lab.seal.seal(body, REQUESTS),
    }
    lab.broker.publish([Message("results", message) for message in forged.values()])
    record = StudyRecord("study-a", "a", "command", 1, ("x",), {}, None, "default", 1.0)
    lab.broker.publish([to_inbox(record, lab.seal)])
    lab.start_collector()
    reasons = lab.reasons("results", len(forged))
    assert matched(reasons, forged), reasons
    (status,) = eventually(lab.database.studies)
    assert (status.id, status.finished, status.cancelled) == ("study-a", 0, 0)


def test_forged_broadcasts_are_ignored(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    cancel = encode(Cancel("study-a"))
    genuine = lab.seal.seal(cancel, CONTROL)
    lifted = lab.seal.seal(encode(Cancel("study-a", lifted=True)), CONTROL)
    heartbeat = encode(Heartbeat("w", "h", 0.0, "working", ("default",), 2, 2, (), "1"))
    lab.start_collector()
    lab.start_worker(lab.seal)

    def ignored(body: bytes, why: str) -> bool:
        lab.broker.broadcast(TOPIC_CONTROL, body)
        return why in caplog.text

    eventually(lambda: ignored(cancel, "it is not signed"))  # the worker listens by now
    lab.broker.broadcast(TOPIC_CONTROL, genuine)
    lab.broker.broadcast(TOPIC_CONTROL, lifted)
    # a job that comes before the worker has heard of it would end as cancelled
    eventually(lambda: ignored(lifted, "it was broadcast before"))
    gate = lab.folder / "gate"
    waiting = lab.job(0, script=f"while [ ! -e {gate} ]; do sleep 0.05; done")
    lab.broker.publish([job_message(waiting, seal=lab.seal)])
    eventually(lambda: lab.ledger.read_text())
    forged = {
        "'stranger', which is not known here": stranger(lab.folder).seal(cancel, CONTROL),
        "its signature is wrong": changed(lab.seal.seal(cancel, CONTROL), b"study-a", b"study-b"),
        "signed for 'broadcasts: workers'": lab.seal.seal(heartbeat, HEARTBEATS),
    }
    lab.broker.broadcast(TOPIC_CONTROL, genuine)
    for why, body in forged.items():
        eventually(lambda body=body, why=why: ignored(body, why))
    gate.touch()
    result = eventually(lambda: lab.result(waiting.id))
    assert result.state is State.SUCCEEDED


def test_without_keys_signed_jobs_are_left_to_workers_that_have_some(
    broker_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        lab = Lab(tmp_path, broker_url, stack)
        lab.start_worker(UNSIGNED, name="keyless")
        lab.broker.publish([job_message(lab.job(0), seal=lab.seal)])
        eventually(lambda: "left to other workers: it is signed, and there are no" in caplog.text)
    with connect(broker_url) as broker:  # the worker has given back what it held
        assert broker.depth(QUEUE).dead == 0
    assert lab.ledger.read_text() == ""


def test_results_wait_for_a_key_that_may_sign(
    zeromq_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with ExitStack() as stack:
        lab = Lab(tmp_path, zeromq_url, stack)
        path, gate = tmp_path / "keys.json", tmp_path / "gate"
        job = lab.job(0, script=f"while [ ! -e {gate} ]; do sleep 0.05; done")
        lab.broker.publish([job_message(job, seal=lab.seal)])
        lab.start_collector()
        lab.start_worker(lab.seal)
        eventually(lambda: lab.ledger.read_text())
        keys = read_key_file(path)
        write_key_file(path, KeySet(keys.keys))
        eventually(lambda: "signing: none" in caplog.text)
        gate.touch()
        eventually(lambda: "results wait for a key" in caplog.text)
        assert lab.result(job.id) is None
        write_key_file(path, keys)
        assert eventually(lambda: lab.result(job.id)).state is State.SUCCEEDED


def test_a_run_has_keys_of_its_own(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    settings = WorkerSettings("w", ("default",), 1, None, run.work, (tmp_path / "s").as_uri())
    with embedded(run, settings) as system:
        assert run.keys.stat().st_mode & 0o777 == 0o600
        job = Job("s.0000000", "s", 0, "command", {}, {"steps": [["touch", str(tmp_path / "ran")]]})
        system.broker.publish([job_message(job)])
        eventually(lambda: system.broker.depth(QUEUE).dead == 1)
        assert not (tmp_path / "ran").exists()
        (letter,) = system.broker.dead_letters(QUEUE)
        assert letter.reason.startswith("it is not signed")
        system.broker.publish([job_message(job, seal=system.seal)])
        eventually(lambda: (tmp_path / "ran").exists())
    made = run.keys.read_bytes()
    with embedded(run, None):
        assert run.keys.read_bytes() == made


# -- whole programs ------------------------------------------------------------------------------

WAITING = """\
study: waiting
kind: command
parameters: {x: [1, 2, 3, 4]}
command: {files: ., run: [./job.sh, "{x}"]}
"""


@contextmanager
def keyed_system(folder: Path, broker: str) -> Iterator[System]:
    system = System(folder, broker)
    system.env["QUEUE_RUNNER_KEYS_FILE"] = str(folder / "keys.json")
    system.ok("keys", "new", "first")
    try:
        system.start_collector()
        system.start_worker("worker", "--cores", "2", "--log-level", "debug")
        yield system
    finally:
        system.stop()


def test_keys_rotate_while_a_study_runs_and_no_secret_is_shown(
    broker_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    with keyed_system(tmp_path, broker_url) as system:
        gate, ledger = tmp_path / "gate", tmp_path / "ledger"
        script = f"#!/bin/sh\necho $1 >> {ledger}\nwhile [ ! -e {gate} ]; do sleep 0.05; done\n"
        study = study_folder(system, WAITING, job__sh=script)
        said = [system.ok("submit", str(study))]
        eventually(lambda: ledger.exists() and len(ledger.read_text().split()) == 2)

        said.append(system.ok("keys", "new", "second"))
        said.append(system.ok("keys", "use", "second"))
        secrets = [key.secret for key in read_key_file(path).keys.values()]
        gate.touch()  # two jobs ran under the first key, and two that it has signed still wait
        said.append(system.ok("watch", "waiting", timeout_s=100))
        said.append(system.ok("keys", "retire", "first"))
        other = study_folder(system, WAITING.replace("waiting", "other"), job__sh=script)
        said.append(system.ok("submit", str(other), "--wait", "--json", timeout_s=100))
        counts = {each["id"][:5]: each["succeeded"] for each in system.json("status")["studies"]}
        assert counts == {"waiti": 4, "other": 4}
        for queue in ("jobs.default", "results"):
            assert "no dead letters" in system.ok("dead", queue)

        for command in (["keys", "list"], ["keys", "list", "--json"], ["doctor", "--json"]):
            said.append(system.call(*command).stdout)
        said += [system.log("worker"), system.log("collector")]
        for daemon in system.daemons.values():
            said.append(Path(f"/proc/{daemon.pid}/cmdline").read_text())
        # a worker looks at its keys when a message asks for them, so it may have seen the last change only
        assert "has changed: keys " in system.log("worker")
        assert ", signing: second" in system.log("worker")
        assert len(secrets) == 2
        for secret in secrets:
            assert secret is not None
            assert not any(secret.hex()[:12] in text for text in said)
