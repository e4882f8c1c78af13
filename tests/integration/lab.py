"""A worker and a collector in this process, on a real broker: for tests that lie to them."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from queue_runner.brokers import connect
from queue_runner.brokers.base import Broker
from queue_runner.collector.database import Database
from queue_runner.collector.service import Collector
from queue_runner.errors import NotFound
from queue_runner.model import Job, Result
from queue_runner.signing import Seal, open_seal
from queue_runner.signing.file import write_key_file
from queue_runner.signing.keys import DAY_S, Key, KeySet
from queue_runner.workers.daemon import Worker
from queue_runner.workers.settings import WorkerSettings
from tests.integration.system import eventually


class Lab:
    """A worker and a collector in this process, on a real broker, with the keys `lab` and `old`."""

    def __init__(self, folder: Path, url: str, stack: ExitStack) -> None:
        self.folder, self.url = folder, url
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.seal = open_seal(self._keys())
        self.broker: Broker = stack.enter_context(connect(url))
        self.database = Database(f"sqlite:///{folder}/collector.sqlite")
        stack.callback(self.database.close)
        self._stack = stack

    def _keys(self) -> Path:
        """`old` has expired since; `old.json` signs with it as if it had not."""
        lab, old = Key.make("lab", time.time()), Key.make("old", 0.0)
        write_key_file(self.folder / "old.json", KeySet({}).with_key(old))
        expired = Key("old", old.secret, {}, 0.0, not_after=time.time() - 3 * DAY_S)
        path = self.folder / "keys.json"
        write_key_file(path, KeySet({}).with_key(lab).with_key(expired))
        return path

    def start_collector(self) -> None:
        collector = Collector(
            self._stack.enter_context(connect(self.url)), self.database, self.seal
        )
        self._start(collector.run, collector.drain)

    def start_worker(self, seal: Seal, name: str = "w", **settings: Any) -> None:
        chosen = WorkerSettings(
            name=name,
            queues=("default",),
            cores=2,
            memory_bytes=None,
            scratch=self.folder / name,
            store_url=(self.folder / "store").as_uri(),
            grace_s=1.0,
            **settings,
        )
        worker = Worker(chosen, self._stack.enter_context(connect(self.url)), seal)
        self._start(worker.run, worker.drain)

    def _start(self, run: object, drain: object) -> None:
        assert callable(run)
        assert callable(drain)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(drain)

    def job(self, number: int, script: str = "true", **fields: Any) -> Job:
        steps = {"steps": [["sh", "-c", f"echo study-a {number} >> {self.ledger}; {script}"]]}
        job = Job(f"study-a.{number:07}", "study-a", number, "command", {"x": number}, steps)
        return replace(job, **fields)

    def result(self, job_id: str) -> Result | None:
        try:
            return self.database.result(job_id)
        except NotFound:
            return None

    def reasons(self, queue: str, count: int) -> list[str]:
        """The reasons of `count` dead letters, once there are as many."""
        eventually(lambda: self.broker.depth(queue).dead >= count)
        letters = self.broker.dead_letters(queue)
        assert len(letters) == count
        return [letter.reason for letter in letters]
