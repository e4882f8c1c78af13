"""The worker: leases jobs it has a place for, runs them, and reports.

Threads: the main loop leases; one runner for each core takes jobs from the slots and attempts them;
the settler reports; the keeper renews leases and sends heartbeats; a listener hears cancels. If one
of them dies of a bug, the worker stops, says so, and gives back what it holds.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from queue_runner import plugins
from queue_runner.brokers.base import Broker, Dead, Delivery, Retry
from queue_runner.errors import (
    BrokerUnavailable,
    DiskFull,
    EngineUnavailable,
    StoreRefused,
    StoreUnavailable,
    WireError,
)
from queue_runner.model import Failure, Heartbeat, Job, Reason, State, job_queue
from queue_runner.store import open_store
from queue_runner.wire import decode
from queue_runner.workers.attempt import Stopped, Workplace, attempt_job, version, without_run
from queue_runner.workers.bundles import Bundles
from queue_runner.workers.claims import CANCELLED, DRAINED, Claim, Claims
from queue_runner.workers.health import HealthServer
from queue_runner.workers.keeper import Keeper
from queue_runner.workers.orphans import Orphans
from queue_runner.workers.runtimes.base import Runtime
from queue_runner.workers.settler import Ending, Settler
from queue_runner.workers.slots import Slots

log = logging.getLogger("queue_runner.worker")

RUNTIMES = "queue_runner.runtimes"
#: Seconds that one lease call waits: how late a change of the free cores may be noticed.
_WAIT_IDLE_S = 1.0
_WAIT_BUSY_S = 0.1
#: Seconds before a job that can never run here is offered again, to anyone.
_NEVER_FITS_S = 30.0
#: Seconds before a job that names another worker is offered again, to anyone.
_MEANT_FOR_OTHERS_S = 1.0
_REPORT_S = 10.0
#: Seconds before a job whose bundle could not be fetched is offered again, to anyone.
_STORE_AWAY_S = 10.0
#: Seconds after which a loop that has not turned is taken to hang; it waits for a broker for less.
_HANGS_S = 180.0
EXIT_OK, EXIT_BUG = 0, 70


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """memory_bytes: None for no limit on the sum of the jobs' memory.

    scratch: where work folders are made. grace_s: what running jobs get to end by themselves when the
    worker drains. crash_limit: so many attempts more than asked for may vanish with their worker.
    keep_folders: which work folders stay: "none", "failed" or "all". image: of the runtime `docker`, for
    jobs that name none. health: whether to answer `queue-runner health worker`.
    """

    name: str
    queues: tuple[str, ...]
    cores: int
    memory_bytes: int | None
    scratch: Path
    store_url: str
    store_token: str | None = None
    lease_s: float = 60.0
    grace_s: float = 30.0
    runtime: str = "process"
    image: str | None = None
    crash_limit: int = 5
    keep_folders: str = "none"
    health: bool = False


class Worker:
    """`run` blocks until `drain` is called, from any thread or signal handler."""

    def __init__(self, settings: WorkerSettings, broker: Broker) -> None:
        """Raises `UnknownScheme` (runtime), `StoreRefused`, `FixThis` (scratch folder)."""
        self._settings, self._broker = settings, broker
        runtime = plugins.load(RUNTIMES, settings.runtime)
        self._store = open_store(settings.store_url, settings.store_token)
        options = {} if settings.image is None else {"image": settings.image}
        self._runtime: Runtime = runtime(settings.scratch, **options)
        self._place = self._workplace()
        self._slots = Slots(settings.cores, settings.memory_bytes)
        self._claims = Claims()
        self._settler = Settler(broker, self._claims.remove)
        self._keeper = Keeper(broker, self._claims, settings.lease_s, self._heartbeat)
        self._draining = threading.Event()
        self._failed: BaseException | None = None
        self._state = "starting"
        self._turned_at = time.monotonic()
        self._orphans = Orphans()
        self._told: set[str] = set()

    def _workplace(self) -> Workplace:
        settings, folder = self._settings, self._runtime.folder
        return Workplace(
            worker=settings.name,
            runtime=self._runtime,
            runtime_name=settings.runtime,
            store=self._store,
            bundles=Bundles(self._store, folder / "bundles"),
            folder=folder,
            kept=settings.scratch,
            keep=settings.keep_folders,
        )

    def drain(self) -> None:
        """Stop leasing, let running jobs end within the grace period, give back the rest."""
        self._draining.set()

    def run(self) -> int:
        """Work until drained; returns the process's exit code. Raises `StoreRefused` at the start."""
        self._check_store()
        ended = self._runtime.sweep()
        if ended:
            log.warning("ended %d processes that a dead worker had left", ended)
        settings = self._settings
        log.info(
            "%s: %d cores, queues %s, scratch %s",
            settings.name, settings.cores, ", ".join(settings.queues), settings.scratch,
        )  # fmt: skip
        runners = [
            self._thread(f"runner-{number}", self._run_jobs) for number in range(settings.cores)
        ]
        settling = self._thread("settler", self._settler.run)
        keeping = [
            self._thread("keeper", self._keeper.renew_and_tell),
            self._thread("listener", self._keeper.listen),
        ]
        health = HealthServer(settings.scratch, self._health) if settings.health else None
        if health is not None:
            keeping.append(self._thread("health", health.run))
        try:
            self._state = "working"
            self._lease_until_drained()
        finally:
            self._wind_up(runners, settling, keeping, health)
        return EXIT_OK if self._failed is None else EXIT_BUG

    def _check_store(self) -> None:
        try:
            self._store.check()
        except StoreUnavailable as error:
            log.warning("jobs wait for the store: %s", error)

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                target()
            except BaseException as error:
                log.critical("the worker's %s failed; it stops", name, exc_info=True)
                self._failed = error
                self._draining.set()

        thread = threading.Thread(target=guarded, name=f"{self._settings.name}-{name}", daemon=True)
        thread.start()
        return thread

    # -- leasing -----------------------------------------------------------------------------------

    def _lease_until_drained(self) -> None:
        queues = [job_queue(name) for name in self._settings.queues]
        while not self._draining.is_set():
            self._turned_at = time.monotonic()
            self._give_back(self._slots.overdue(), delay_s=0.0)
            room = self._slots.room()
            if room <= 0:
                self._slots.await_room(_WAIT_BUSY_S)
                continue
            idle = self._slots.idle
            try:
                deliveries = self._broker.lease(
                    queues,
                    limit=room,
                    wait_s=_WAIT_IDLE_S if idle else _WAIT_BUSY_S,
                    lease_s=self._settings.lease_s,
                    room=room,
                    max_size=self._max_size(room),
                )
            except BrokerUnavailable as error:
                log.warning("no jobs: %s", error)
                continue
            for delivery in deliveries:
                self._admit(delivery)

    def _max_size(self, room: int) -> int:
        # what is leased ahead may be of any size that fits here at all
        free = self._slots.free_cores
        return min(room, self._settings.cores if room > free else free)

    def _admit(self, delivery: Delivery) -> None:
        """Put a delivery where it belongs: to the slots, back, or among the dead letters."""
        try:
            job = decode(delivery.body, Job)
        except WireError as error:
            log.error("a message in %s is dead-lettered: %s", delivery.queue, error)
            self._settler.add(Ending(delivery, dead=Dead(delivery, str(error))))
            return
        claim = Claim(delivery, job)
        self._claims.add(claim)
        settings = self._settings
        if self._claims.is_cancelled(job):
            self._report(claim, State.CANCELLED)
        elif delivery.attempt > 1 + job.retry.retries + settings.crash_limit:
            self._report(claim, State.FAILED, _worker_lost(delivery.attempt))
        elif job.worker not in (None, settings.name):
            self._give_back([claim], delay_s=_MEANT_FOR_OTHERS_S)
        elif self._never_fits(claim):
            self._give_back([claim], delay_s=_NEVER_FITS_S)
        else:
            self._slots.put(claim)

    def _never_fits(self, claim: Claim) -> bool:
        memory = self._settings.memory_bytes
        never = claim.cores > self._settings.cores or (
            memory is not None and claim.memory_bytes > memory
        )
        if never and claim.job.study not in self._told:
            self._told.add(claim.job.study)
            log.warning(
                "%s needs %d cores and %d MiB, more than this worker has; it is left to others",
                claim.job.id, claim.cores, claim.memory_bytes // 1024**2,
            )  # fmt: skip
        return never

    # -- running -----------------------------------------------------------------------------------

    def _run_jobs(self) -> None:
        while (claim := self._slots.take()) is not None:
            started = time.monotonic()
            try:
                self._run_job(claim)
            finally:
                self._claims.finish(claim)
                self._slots.free(claim, time.monotonic() - started)

    def _run_job(self, claim: Claim) -> None:
        job, delivery = claim.job, claim.delivery
        stop = self._claims.start(claim)
        try:
            if stop.thrown:
                raise Stopped(stop.reason or "")
            result = attempt_job(self._place, job, delivery.attempt, stop)
        except Stopped as stopped:
            self._end_stopped(claim, stopped.reason)
            return
        except (StoreUnavailable, StoreRefused, EngineUnavailable, DiskFull) as error:
            # nothing is wrong with the job
            log.warning("%s is given back: %s", job.id, error)
            if claim.lost:
                self._claims.remove([delivery])
            else:
                self._give_back([claim], delay_s=_STORE_AWAY_S)
            return
        if claim.lost:
            log.warning("%s finished after its lease was lost; not reported", job.id)
            self._claims.remove([delivery])
            return
        failure = result.failure
        if failure is not None and job.retry.wants(delivery.attempt, failure.reason):
            retry = Retry(delivery, delay_s=job.retry.delay_s(delivery.attempt))
            self._settler.add(Ending(delivery, replace(result, final=False), retry))
        else:
            self._settler.add(Ending(delivery, result))

    def _end_stopped(self, claim: Claim, reason: str) -> None:
        if reason == CANCELLED:
            self._report(claim, State.CANCELLED)
        elif claim.lost:
            self._claims.remove([claim.delivery])
        else:
            self._give_back([claim], delay_s=0.0)

    def _report(self, claim: Claim, state: State, failure: Failure | None = None) -> None:
        attempt = claim.delivery.attempt
        result = without_run(self._settings.name, claim.job, attempt, state, failure)
        self._settler.add(Ending(claim.delivery, result))

    def _give_back(self, claims: list[Claim], delay_s: float) -> None:
        for claim in claims:
            retry = Retry(claim.delivery, delay_s=delay_s, counted=False)
            self._settler.add(Ending(claim.delivery, retry=retry))

    def _heartbeat(self) -> Heartbeat:
        settings = self._settings
        self._orphans.reap()
        return Heartbeat(
            worker=settings.name,
            host=socket.gethostname(),
            at=time.time(),
            state=self._state,
            queues=settings.queues,
            cores=settings.cores,
            cores_free=self._slots.free_cores,
            running=self._claims.running(),
            version=version(),
        )

    def _health(self) -> dict[str, object]:
        turned_s = time.monotonic() - self._turned_at
        return {
            "worker": self._settings.name,
            "healthy": self._failed is None and (self._draining.is_set() or turned_s < _HANGS_S),
            "state": self._state,
            "cores": self._settings.cores,
            "cores_free": self._slots.free_cores,
            "running": list(self._claims.running()),
            "turned_s": round(turned_s, 3),
        }

    # -- the end -----------------------------------------------------------------------------------

    def _wind_up(
        self,
        runners: list[threading.Thread],
        settling: threading.Thread,
        keeping: list[threading.Thread],
        health: HealthServer | None,
    ) -> None:
        self._state = "draining"
        self._keeper.tell()
        self._give_back(self._slots.close(), delay_s=0.0)
        try:
            if not self._slots.await_idle(self._settings.grace_s):
                log.info("jobs that are still running are given back")
        except KeyboardInterrupt:
            log.info("interrupted again: running jobs are given back at once")
        self._claims.stop_all(DRAINED)
        for runner in runners:
            runner.join()
        self._settler.finish(_REPORT_S)
        settling.join()
        self._state = "stopped"
        self._keeper.stop()
        if health is not None:
            health.close()
        for thread in keeping:
            thread.join()
        self._store.close()
        self._runtime.close()


def _worker_lost(attempt: int) -> Failure:
    return Failure(
        Reason.WORKER_LOST,
        f"{attempt - 1} attempts ended with their worker; the job is suspected to bring workers"
        " down. Look at its memory, then `queue-runner retry` it.",
    )
