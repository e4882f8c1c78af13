"""One container from its start to its end."""

from __future__ import annotations

import math
import os
import select
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from queue_runner.errors import EngineUnavailable
from queue_runner.workers.disk import DiskWatch
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.leavings import open_log
from queue_runner.workers.runtimes.base import HANDED_OVER, Left, Outcome, Stop
from queue_runner.workers.runtimes.docker.ends import End, Waited, Watched
from queue_runner.workers.runtimes.docker.events import OOM_S, has_noted, seconds
from queue_runner.workers.runtimes.docker.refusals import refused
from queue_runner.workers.runtimes.docker.stream import Attached, Followed
from queue_runner.workers.runtimes.warm import unpacked

#: Seconds between SIGTERM and SIGKILL.
_TERM_GRACE_S = 1
#: Seconds for the last of a log to arrive after the container's end.
_LOG_S = 10.0
_KILLED = 128
#: Of what our server for Python calls says; what runs in it may say more.
_MOST_ANSWER = 4096

#: Takes the number of a stream and what came of it.
Sink = Callable[[int, bytes], None]


class Attempt:
    """`run` or `take_over` is called once. Raises `JobError` where the engine refuses to start it, or to
    attach to it.
    """

    def __init__(self, container: Any, step: Step, folder: Path) -> None:
        self._container, self._step, self._log = container, step, folder / step.log
        self._answer = b""
        self._end: End | None = None

    def run(self, wall_time_s: float | None, stop: Stop, disk_bytes: int | None = None) -> Outcome:
        with open_log(self._log) as log:
            log_start = os.fstat(log.fileno()).st_size

        def attach(sink: Sink) -> Attached:
            attached = self._attach(sink)
            try:
                self._end = Watched(self._container)
                self._start()
                if self._step.request is not None:
                    request = self._step.request
                    attached.send(struct.pack(">I", len(request)) + request)
            except BaseException:
                attached.close(_LOG_S)
                raise
            return attached

        return self._logged(
            attach, Left(str(self._container.id), log_start), wall_time_s, stop, disk_bytes
        )

    def take_over(
        self, left: Left, wall_time_s: float | None, stop: Stop, disk_bytes: int | None = None
    ) -> Outcome:
        """As `run`, for a container that another worker has started."""
        answers = self._step.request is not None
        if not answers:
            # the engine has all of its log; what the other worker had of it may end in the middle of a line
            with open_log(self._log) as log:
                log.truncate(left.log_start)
        self._container.reload()
        if self._container.status != "running":
            # it ended by itself, however late it is by now
            wall_time_s = None

        def follow(sink: Sink) -> Followed:
            self._end = Waited(self._container)
            return Followed(self._container, sink, answers=answers)

        outcome = self._logged(follow, left, wall_time_s, stop, disk_bytes)
        if outcome.left is not None:
            return outcome
        # it ran before this worker did
        self._container.reload()
        state = self._container.attrs["State"]
        wall_s = max(0.0, seconds(state["FinishedAt"]) - seconds(state["StartedAt"]))
        return replace(outcome, wall_s=wall_s)

    def _logged(
        self,
        attach: Callable[[Sink], Attached | Followed],
        left: Left,
        wall_time_s: float | None,
        stop: Stop,
        disk_bytes: int | None,
    ) -> Outcome:
        self._disk = DiskWatch(disk_bytes, [self._log.parent])
        outcome: Outcome | None = None
        with open_log(self._log) as log:

            def sink(stream: int, data: bytes) -> None:
                if stream == 1 and self._step.request is not None:
                    self._answer += data[: _MOST_ANSWER - len(self._answer)]
                else:
                    log.write(data)

            started = time.monotonic()
            try:
                attached = attach(sink)
                try:
                    outcome = self._attended(attached, started, left, wall_time_s, stop)
                finally:
                    attached.close(_LOG_S)
            finally:
                if self._end is not None:
                    self._end.close()
        return outcome

    def _attach(self, sink: Sink) -> Attached:
        from docker.errors import APIError

        try:
            return Attached(self._container, sink, stdin=self._step.request is not None)
        except APIError as error:
            # podman attaches to what runs only, and the first lines would be lost
            raise refused(error, self._step, "does not attach, before its start, to") from error

    def _attended(
        self,
        attached: Attached | Followed,
        started: float,
        left: Left,
        wall_time_s: float | None,
        stop: Stop,
    ) -> Outcome:
        assert self._end is not None
        deadline = math.inf if wall_time_s is None else started + wall_time_s
        ended_by = self._await_end(self._end, deadline, stop)
        if ended_by == "stop" and stop.reason == HANDED_OVER:
            attached.close(0.0)
            return Outcome(0, time.monotonic() - started, 0.0, 0, ended_by, left)
        if ended_by is not None:
            self._container.stop(timeout=_TERM_GRACE_S)
        error = self._end.join()
        wall_s = time.monotonic() - started
        if error is not None and ended_by is None:
            raise error
        attached.close(_LOG_S)
        return self._outcome(self._end, ended_by, wall_s)

    def _start(self) -> None:
        from docker.errors import APIError

        try:
            self._container.start()
        except APIError as error:
            raise refused(error, self._step, "does not start") from error

    def _await_end(self, end: End, deadline: float, stop: Stop) -> str | None:
        """Why it has to be ended, as in `Outcome.ended_by`; None when it has ended."""
        poller = select.poll()
        poller.register(end, select.POLLIN)
        poller.register(stop.fileno(), select.POLLIN)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return "wall-time"
            if self._disk.over():
                return "disk-limit"
            wait_s = max(0.0, min(left_s, self._disk.wait_s()))
            events = dict(poller.poll(None if math.isinf(wait_s) else math.ceil(wait_s * 1000)))
            if end.fileno() in events:
                return None
            if events:
                return "stop"

    def _outcome(self, end: End, ended_by: str | None, wall_s: float) -> Outcome:
        code, cpu_s, max_rss_bytes = end.code, 0.0, 0
        if ended_by is None:
            if code != 0 and self._ran_out_of_memory(end):
                ended_by = "out-of-memory"
            elif end.killed:
                # programs may take the signal for a wish to end, and end well: that is no result either
                raise EngineUnavailable(
                    f"the container of {self._step.name} was ended from outside (exit code {code}):"
                    " by somebody, or by an engine that was shut down"
                )
            elif (answer := unpacked(self._said())) is not None:
                code, cpu_s, max_rss_bytes, _ = answer
        if _KILLED < code < _KILLED + signal.NSIG:
            # the engine's way to name a signal, in ours
            code = _KILLED - code
        return Outcome(code, wall_s, cpu_s, max_rss_bytes, ended_by)

    def _said(self) -> bytes:
        """What our server for Python calls answered; an engine that remembers it adds the end of a line."""
        if self._step.request is None or len(self._answer) < 4:
            return b""
        (length,) = struct.unpack(">I", self._answer[:4])
        return self._answer[4 : 4 + length]

    def _ran_out_of_memory(self, end: End) -> bool:
        if isinstance(end, Watched) and end.noted & {"oom", "kill"}:
            return "oom" in end.noted
        self._container.reload()
        if self._container.attrs["State"].get("OOMKilled"):
            return True
        # where the engine hears of the end first, it never puts the flag up
        return end.code == _KILLED + signal.SIGKILL and has_noted(self._container, "oom", OOM_S)
