"""Broker server, collector and worker in one process, on a folder: what `queue-runner run` uses.

Nothing here is a short cut: jobs and results cross the ZeroMQ server's journal and the collector's
database as they do between hosts, which is why a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from queue_runner.brokers.base import Broker
from queue_runner.brokers.registry import connect
from queue_runner.brokers.zeromq.server import BrokerServer
from queue_runner.client.folder import RunFolder
from queue_runner.client.private import private_folder
from queue_runner.collector.database import Database
from queue_runner.collector.service import Collector
from queue_runner.errors import QueueRunnerError
from queue_runner.workers.daemon import Worker
from queue_runner.workers.settings import WorkerSettings

#: Seconds for which the parts wait at the broker when there is nothing to do, and how late they notice that
#: they are to end. It is in the same process, where asking again costs nothing.
WAIT_S = 0.1


class Embedded:
    """A running embedded system. `broker` is a connection for the caller's own use, `seal` goes with it;
    `database` is the collector's, which tells its news.
    """

    def __init__(self, run: RunFolder, url: str, broker: Broker, database: Database) -> None:
        self.run = run
        self.url = url
        self.broker = broker
        self.database = database
        self.seal = run.seal()
        self.failed: BaseException | None = None
        self._worker: Worker | None = None
        self._worker_thread: threading.Thread | None = None

    def drain(self) -> None:
        """Stop leasing, let running jobs end within the worker's grace period, give back the rest."""
        if self._worker is not None:
            self._worker.drain()

    def start_worker(self, settings: WorkerSettings, stack: ExitStack) -> None:
        worker = Worker(settings, stack.enter_context(connect(self.url)), self.seal)
        thread = self.watch("worker", worker.run)
        self._worker, self._worker_thread = worker, thread
        stack.callback(thread.join)
        stack.callback(worker.drain)

    def watch(self, name: str, run: Callable[[], object]) -> threading.Thread:
        """Run a part in a named thread; if it ends with an error, `check` raises it."""

        def guarded() -> None:
            try:
                run()
            except BaseException as error:  # noqa: BLE001 - handed to the main thread by `check`
                self.failed = error

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def check(self) -> None:
        """Raise what ended a part of the system, if anything did."""
        if self.failed is not None:
            raise self.failed
        if self._worker_thread is not None and not self._worker_thread.is_alive():
            raise QueueRunnerError(
                f"the embedded worker stopped; the same command goes on with {self.run.root}"
            )


@contextmanager
def embedded(run: RunFolder, worker: WorkerSettings | None) -> Iterator[Embedded]:
    """Start the system on a run's folder, with a worker if one is wanted, and stop it in order.

    Raises `FixThis` when another process is running this study in this folder.
    """
    run.make()
    with ExitStack() as stack:
        stack.enter_context(run.locked())
        run.make_keys()
        # the run's own folder may have too long a path
        private = stack.enter_context(private_folder())
        database = run.open_database()
        stack.callback(database.close)
        server = BrokerServer([f"zmq+ipc://{private}/broker"], run.journal, release_leases=True)
        server.start()
        stack.callback(server.stop)
        url = server.urls[0]
        _announce(run, url, stack)

        system = Embedded(run, url, stack.enter_context(connect(url)), database)
        _start_collector(system, stack)
        if worker is not None:
            system.start_worker(worker, stack)
        yield system


def _start_collector(system: Embedded, stack: ExitStack) -> None:
    broker = stack.enter_context(connect(system.url))
    collector = Collector(broker, system.database, system.seal, wait_s=WAIT_S)
    thread = system.watch("collector", collector.run)
    stack.callback(thread.join)
    stack.callback(collector.drain)


def _announce(run: RunFolder, url: str, stack: ExitStack) -> None:
    """Let `queue-runner cancel` in another terminal find the broker."""
    partial = run.broker_url.with_suffix(".part")
    partial.write_text(url)
    os.replace(partial, run.broker_url)
    stack.callback(run.broker_url.unlink, missing_ok=True)
