"""One container from its start to its end."""

from __future__ import annotations

import math
import os
import select
import signal
import struct
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgpack

from queue_runner.errors import EngineUnavailable
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.runtimes.base import Outcome, Stop
from queue_runner.workers.runtimes.docker.refusals import refused
from queue_runner.workers.runtimes.docker.stream import Attached

#: Seconds between SIGTERM and SIGKILL.
_TERM_GRACE_S = 1
#: Seconds for the last of a log to arrive after the container's end.
_LOG_S = 10.0
#: Seconds by which the engine may note a signal later than the end that it brought.
_EVENT_S = 0.05
_KILLED = 128


class Attempt:
    """`run` is called once. Raises `JobError` where the engine refuses to start it, or to attach to it."""

    def __init__(self, container: Any, step: Step, folder: Path) -> None:
        self._container, self._step, self._folder = container, step, folder
        self._answer = b""
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._status: dict[str, Any] = {}
        self._error: BaseException | None = None

    def run(self, wall_time_s: float | None, stop: Stop) -> Outcome:
        with (self._folder / self._step.log).open("ab", buffering=0) as log:

            def sink(stream: int, data: bytes) -> None:
                if stream == 1 and self._step.request is not None:
                    self._answer += data
                else:
                    log.write(data)

            try:
                attached = self._attach(sink)
                try:
                    return self._attended(attached, wall_time_s, stop)
                finally:
                    attached.close(_LOG_S)
            finally:
                os.close(self._ended)

    def _attach(self, sink: Callable[[int, bytes], None]) -> Attached:
        from docker.errors import APIError

        try:
            return Attached(self._container, sink, stdin=self._step.request is not None)
        except APIError as error:
            # podman attaches to what runs only, and the first lines would be lost
            raise refused(error, self._step, "does not attach, before its start, to") from error

    def _attended(self, attached: Attached, wall_time_s: float | None, stop: Stop) -> Outcome:
        started = time.monotonic()
        self._start()
        if self._step.request is not None:
            attached.send(struct.pack(">I", len(self._step.request)) + self._step.request)
        waiter = threading.Thread(target=self._wait, name="docker-wait", daemon=True)
        waiter.start()
        deadline = math.inf if wall_time_s is None else started + wall_time_s
        ended_by = self._await_end(deadline, stop)
        if ended_by is not None:
            self._container.stop(timeout=_TERM_GRACE_S)
        waiter.join()
        wall_s = time.monotonic() - started
        if self._error is not None and ended_by is None:
            raise self._error
        attached.close(_LOG_S)
        return self._outcome(ended_by, wall_s)

    def _start(self) -> None:
        from docker.errors import APIError

        try:
            self._container.start()
        except APIError as error:
            raise refused(error, self._step, "does not start") from error

    def _wait(self) -> None:
        try:
            self._status = self._container.wait(timeout=None)
        except Exception as error:  # noqa: BLE001 - raised by the thread that waits for this one
            self._error = error
        finally:
            os.eventfd_write(self._ended, 1)

    def _await_end(self, deadline: float, stop: Stop) -> str | None:
        """Why it has to be ended, as in `Outcome.ended_by`; None when it has ended."""
        poller = select.poll()
        poller.register(self._ended, select.POLLIN)
        poller.register(stop.fileno(), select.POLLIN)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return "wall-time"
            events = dict(poller.poll(None if math.isinf(left_s) else math.ceil(left_s * 1000)))
            if self._ended in events:
                return None
            if events:
                return "stop"

    def _outcome(self, ended_by: str | None, wall_s: float) -> Outcome:
        self._container.reload()
        state: Mapping[str, Any] = self._container.attrs["State"]
        code = int(state["ExitCode"])
        cpu_s, max_rss_bytes = 0.0, 0
        if ended_by is None and state.get("OOMKilled") and code != 0:
            ended_by = "out-of-memory"
        elif ended_by is None and self._was_signalled():
            # programs may take the signal for a wish to end, and end well: that is no result either
            raise EngineUnavailable(
                f"the container of {self._step.name} was ended from outside (exit code {code}):"
                " by somebody, or by an engine that was shut down"
            )
        elif ended_by is None and self._step.request is not None and len(self._answer) > 4:
            code, cpu_s, max_rss_bytes, _ = msgpack.unpackb(self._answer[4:])
        if _KILLED < code < _KILLED + signal.NSIG:
            # the engine's way to name a signal, in ours
            code = _KILLED - code
        return Outcome(code, wall_s, cpu_s, max_rss_bytes, ended_by)

    def _was_signalled(self) -> bool:
        """Whether the engine was asked to send it a signal; that is no doing of the job."""
        state = self._container.attrs["State"]
        client = self._container.client
        events = client.api.events(
            since=f"{_seconds(state['StartedAt']) - 1:.6f}",
            until=f"{_seconds(state['FinishedAt']) + _EVENT_S:.6f}",
            filters={"container": self._container.id, "event": "kill"},
            decode=True,
        )
        try:
            return next(iter(events), None) is not None
        finally:
            events.close()


def _seconds(timestamp: str) -> float:
    """Since 1970, by the engine's own clock, of a time in its form."""
    return datetime.fromisoformat(timestamp).timestamp()
