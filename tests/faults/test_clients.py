"""A client that is killed half-way through submitting 100,000 jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from queue_runner.brokers import connect
from queue_runner.client.submit import BATCH
from queue_runner.collector.database import Database
from queue_runner.model import Result, State, job_queue
from tests.faults.moments import Moments
from tests.faults.rig import Rig
from tests.integration.system import eventually

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

_JOBS = 100_000
_QUEUE = job_queue("default")
_STUDY = f"""\
study: many
kind: python
parameters:
  n: {{range: {{from: 1, to: {_JOBS}, step: 1}}}}
python: {{files: ., call: "nothing:nothing"}}
"""


def test_killed_half_way_and_run_again_it_sends_each_job(system: Rig, moments: Moments) -> None:
    folder = system.folder / "study"
    folder.mkdir()
    (folder / "study.yaml").write_text(_STUDY)
    (folder / "nothing.py").write_text("def nothing(n):\n    return {'n': n}\n")
    command = ("submit", str(folder / "study.yaml"))
    system.start_collector()
    client = system.popen(*command)
    half = moments.random.randrange(_JOBS // 4, _JOBS // 2)
    database = system.records
    with connect(system.url) as broker:
        eventually(lambda: broker.depth(_QUEUE).ready >= half, within_s=120)
        client.kill()
        assert client.wait() < 0, "it had sent them all before it was killed"
        system.ok(*command, timeout_s=200)
        sent = broker.depth(_QUEUE).ready
        # a batch may have been stored in part, and the note of the one before with it
        assert _JOBS <= sent <= _JOBS + 2 * BATCH
        study = database.studies()[0].id
        system.start_worker()
        eventually(lambda: database.status(study).done, within_s=300)
        eventually(lambda: broker.depth(_QUEUE).ready == 0, within_s=60)
        assert database.status(study).succeeded == _JOBS
        # every row is the job's own, of its first attempt
        rows = ((each.index, each.metrics["n"], each.attempt) for each in finals(database, study))
        wrong = [(n, row) for n, row in enumerate(rows) if row != (n, n + 1, 1)]
        assert not wrong, (len(wrong), wrong[:20], wrong[-5:])
        assert {each.state for each in finals(database, study)} == {State.SUCCEEDED}
    system.stop()
    system.await_nothing_left()


def finals(database: Database, study: str) -> Iterator[Result]:
    after = -1
    while page := database.results(study, after=after, limit=10_000):
        yield from page
        after = page[-1].index
