"""The worker: leases jobs it has a place for, runs them, and reports.

Threads: one leases; runners, two for each core, take jobs from the slots and attempt them;
the settler reports; the keeper renews leases and sends heartbeats; a listener hears cancels. If one
of them dies of a bug, the worker stops, says so, and gives back what it holds.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from queue_runner import plugins
from queue_runner.brokers.base import Broker, Dead, Delivery, Retry
from queue_runner.brokers.leaving import leave
from queue_runner.brokers.pauses import Pauses
from queue_runner.errors import (
    BrokerRefused,
    BrokerUnavailable,
    JobError,
    NoKeys,
    StoreUnavailable,
    WireError,
)
from queue_runner.model import Failure, Heartbeat, Job, Reason, State, job_queue
from queue_runner.signing import UNSIGNED, Seal, for_worker, on_queue
from queue_runner.store import open_store
from queue_runner.wire import decode
from queue_runner.workers.bundles import Bundles
from queue_runner.workers.calls import CallLane
from queue_runner.workers.claims import Claim, Claims
from queue_runner.workers.endings import Endings
from queue_runner.workers.facts import version
from queue_runner.workers.groups import Groups
from queue_runner.workers.health import HealthServer
from queue_runner.workers.heir import Heir, look_s
from queue_runner.workers.keeper import LISTEN_S, Keeper
from queue_runner.workers.orphans import Orphans
from queue_runner.workers.runtimes.base import DRAINED, HANDED_OVER, RUNTIMES, Runtime
from queue_runner.workers.settings import WorkerSettings
from queue_runner.workers.settler import Ending
from queue_runner.workers.slots import Slots
from queue_runner.workers.workplace import Workplace, missing_kind

log = logging.getLogger("queue_runner.worker")

#: Seconds that one lease call waits while jobs run: how late a change of the free cores may be noticed.
_WAIT_BUSY_S = 0.1
#: Jobs that are done and wait for the broker to take their results: where that takes long, short ones would
#: end by the ten thousand meanwhile, which fill the memory, and whose leases have to be renewed.
_MOST_ENDING = 5000
_WAIT_ENDING_S = 0.05
#: Seconds between looks where there is room for nothing: whoever makes some tells.
_LOOK_S = 0.5
#: Seconds between looks whether results are taken again.
_WAIT_STALLED_S = 1.0
#: Seconds before a job that can never run here is offered again, to anyone.
_NEVER_FITS_S = 30.0
#: Seconds before a signed job is offered again by a worker without keys, to those that have some.
_NO_KEYS_S = 30.0
#: Seconds for what is finished to be reported, and for everything else that waits for the broker.
_REPORT_S, _LEAVE_S = 10.0, 2.0
#: Seconds after which a loop that has not turned is taken to hang; it waits for a broker for less.
_HANGS_S = 180.0
#: How late a signal may be noticed that the kernel gave to another thread, for the main one had one already.
_SIGNAL_S = 1.0
EXIT_OK, EXIT_BUG = 0, 70


class Worker:
    """`run` blocks until `drain` or `hand_over` is called, from any thread or signal handler."""

    def __init__(self, settings: WorkerSettings, broker: Broker, seal: Seal = UNSIGNED) -> None:
        """Raises `UnknownScheme` (runtime), `StoreRefused`, `KeysRefused`, `FixThis` (scratch folder)."""
        self._settings, self._broker, self._seal = settings, broker, seal
        seal.check(for_worker(settings.queues))
        settings.accept.check_runtime(settings.runtime)
        runtime = plugins.load(RUNTIMES, settings.runtime)
        self._store = open_store(
            settings.store_url, settings.store_token, settings.ca_file, settings.bundles
        )
        self._runtime: Runtime = runtime(settings.scratch, **settings.runtime_options())
        self._heir = Heir(self._runtime, settings.name, settings.hand_over_s, seal)
        self._place = self._workplace()
        self._lane = CallLane(self._place)
        self._slots = Slots(settings.cores, settings.memory_bytes)
        self._claims = Claims()
        self._endings = Endings(settings.name, broker, self._claims, self._heir, self._store, seal)
        self._groups = Groups(self._place, self._lane, self._slots, self._claims, self._endings)
        self._keeper = Keeper(
            broker,
            self._claims,
            settings.lease_s,
            self._heartbeat,
            seal,
            listen_s=min(LISTEN_S, settings.wait_s),
        )
        self._pauses = Pauses()
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
            accept=settings.accept,
            handovers=self._heir.handovers,
        )

    def drain(self) -> None:
        """Stop leasing, let running jobs end within the grace period, give back the rest."""
        self._draining.set()

    def hand_over(self) -> None:
        """Stop leasing, and leave what is running to the next worker of this name."""
        self._heir.handing_over = True
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
            self._thread(f"runner-{number}", self._groups.run)
            for number in range(2 * settings.cores)
        ]
        settling = [
            self._thread("settler", self._endings.settler.run),
            self._thread("forgetter", self._endings.forgetter.run),
        ]
        keeping = [
            self._thread("keeper", self._keeper.renew_and_tell),
            self._thread("listener", self._keeper.listen),
        ]
        health = HealthServer(self._runtime.folder, self._health) if settings.health else None
        if health is not None:
            keeping.append(self._thread("health", health.run))
        self._state = "working"
        leaser = self._thread("leaser", self._lease_until_drained)
        try:
            # where another thread got the signal, this one notices when it runs for whatever reason
            while not self._draining.wait(_SIGNAL_S):
                continue
        finally:
            self._wind_up(leaser, runners, settling, keeping, health)
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
            self._endings.give_back(self._slots.overdue(), delay_s=0.0)
            self._slots.free_of_what_takes_long()
            self._heir.end_overdue()
            if self._endings.settler.stalled:
                self._draining.wait(_WAIT_STALLED_S)
                continue
            if self._claims.count() >= _MOST_ENDING and self._claims.ending() >= _MOST_ENDING:
                self._draining.wait(_WAIT_ENDING_S)
                continue
            room = self._slots.room()
            if room <= 0:
                self._slots.await_room(_LOOK_S)
                continue
            idle = self._slots.idle
            try:
                deliveries = self._broker.lease(
                    queues,
                    limit=room,
                    wait_s=self._settings.wait_s if idle else _WAIT_BUSY_S,
                    lease_s=self._settings.lease_s,
                    room=room,
                    max_size=self._max_size(room),
                )
            except BrokerUnavailable as error:
                log.warning("no jobs: %s", error)
                continue
            except BrokerRefused as error:
                pause_s = self._pauses.longer_s()
                log.error("no jobs, asked again in %g s: %s", pause_s, error)
                self._draining.wait(pause_s)
                continue
            self._pauses.over()
            self._admit(deliveries)

    def _max_size(self, room: int) -> int:
        # what is leased ahead may be of any size that fits here at all
        free = self._slots.free_cores
        return min(room, self._settings.cores if room > free else free)

    def _admit(self, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries where they belong: to the slots, back, or among the dead letters."""
        claims = [claim for each in deliveries if (claim := self._read(each)) is not None]
        self._claims.add(claims)
        ours = [claim for claim in claims if self._is_for_us(claim)]
        if not self._slots.put(ours):
            self._endings.give_back(ours, delay_s=0.0)

    def _read(self, delivery: Delivery) -> Claim | None:
        try:
            job = decode(self._seal.open(delivery.body, on_queue(delivery.queue)), Job)
        except NoKeys as error:
            self._leave_to_those_with_keys(delivery, error)
            return None
        except WireError as error:
            log.error("a message in %s is dead-lettered: %s", delivery.queue, error)
            self._endings.end(Ending(delivery, dead=Dead(delivery, str(error))))
            return None
        job = self._with_limits(job)
        return Claim(delivery, job, lane=self._lane.key(job))

    def _with_limits(self, job: Job) -> Job:
        most = self._settings.disk_bytes
        if most is None or job.resources.disk_bytes is not None:
            return job
        return replace(job, resources=replace(job.resources, disk_bytes=most))

    def _is_for_us(self, claim: Claim) -> bool:
        """Whether to run it here; if not, it has been dealt with."""
        settings, job, attempt = self._settings, claim.job, claim.delivery.attempt
        if self._claims.is_cancelled(job):
            self._heir.end(job.id)
            self._endings.report(claim, State.CANCELLED)
        elif (held := self._heir.left_to_others(claim)) is not None:
            self._endings.end(held)
        elif attempt > 1 + job.retry.retries + settings.crash_limit:
            self._endings.report(claim, State.FAILED, _worker_lost(attempt))
        elif job.worker not in (None, settings.name):
            self._endings.give_back([claim], delay_s=look_s())
        elif self._never_fits(claim):
            self._endings.give_back([claim], delay_s=_NEVER_FITS_S)
        elif (refusal := self._refusal(job)) is not None:
            self._endings.report(claim, State.FAILED, refusal)
        elif (error := missing_kind(job.kind)) is not None:
            self._endings.bury(claim, error)
        else:
            return True
        return False

    def _refusal(self, job: Job) -> Failure | None:
        try:
            self._settings.accept.check(job)
        except JobError as error:
            return Failure(error.reason, str(error))
        return None

    def _leave_to_those_with_keys(self, delivery: Delivery, error: NoKeys) -> None:
        if delivery.queue not in self._told:
            self._told.add(delivery.queue)
            log.error("jobs in %s are left to other workers: %s", delivery.queue, error)
        retry = Retry(delivery, delay_s=_NO_KEYS_S, counted=False)
        self._endings.end(Ending(delivery, retry=retry))

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

    def _heartbeat(self) -> Heartbeat:
        settings = self._settings
        if self._settings.own_process:
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
            "running": [running.job_id for running in self._claims.running()],
            "turned_s": round(turned_s, 3),
        }

    # -- the end -----------------------------------------------------------------------------------

    def _wind_up(
        self,
        leaser: threading.Thread,
        runners: list[threading.Thread],
        settling: list[threading.Thread],
        keeping: list[threading.Thread],
        health: HealthServer | None,
    ) -> None:
        self._draining.set()
        self._state = "draining"
        self._keeper.tell()
        self._slots.look_around()
        # where the broker has gone, it waits for it yet; what it gets then is given back, or lapses
        leaser.join(_LEAVE_S)
        self._endings.give_back(self._slots.close(), delay_s=0.0)
        if self._heir.handing_over:
            self._claims.stop_all(HANDED_OVER)
        try:
            if not self._slots.await_idle(self._settings.grace_s):
                log.info("jobs that are still running are given back")
        except KeyboardInterrupt:
            log.info("interrupted again: running jobs are given back at once")
        self._claims.stop_all(DRAINED)
        for runner in runners:
            runner.join()
        self._endings.settler.finish(_REPORT_S)
        leave(self._broker, settling[:1], _REPORT_S)
        self._endings.forgetter.finish()
        settling[1].join()
        self._state = "stopped"
        self._keeper.stop()
        if health is not None:
            health.close()
        leave(self._broker, [leaser, *keeping], _LEAVE_S)
        self._lane.close()
        self._store.close()
        self._heir.settle()
        self._runtime.close()


def _worker_lost(attempt: int) -> Failure:
    return Failure(
        Reason.WORKER_LOST,
        f"{attempt - 1} attempts ended with their worker; the job is suspected to bring workers"
        " down. Look at its memory, then `queue-runner retry` it.",
    )
