"""Results that come over an answer of the collector that stays open, and not each to a question of its own.

For a lone job the questions are a third of the collector's time, and half of the client's. Who asks for what
comes after the results that it has just been given is followed from then on: a thread reads what the
collector sends, for nobody else can wait for it and end in between. What cannot be followed is asked for as
before: where a proxy keeps back what is sent, where the collector does not know this, or has gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from queue_runner.errors import CollectorRefused
from queue_runner.http import Response, Session, Unanswered, chunks, succeeded
from queue_runner.records import FOLLOWED, LENGTH_BYTES, Arrivals

log = logging.getLogger("queue_runner.client")

#: Parts of an answer that are read before somebody takes them, and for how many seconds nobody need do so.
_AHEAD, _UNTAKEN_S = 8, 60.0
_READ_BYTES = 64 * 1024
#: More than the collector makes of the largest message.
_MOST_BYTES = 1024 * 1024 * 1024
#: Answers that one client has open.
_MOST = 8


@dataclass(frozen=True, slots=True)
class Question:
    """For arrivals: the path, what it says besides, and the cursor that it begins at."""

    path: str
    query: Mapping[str, object]
    cursor: int

    @property
    def key(self) -> tuple[object, ...]:
        """All but the cursor."""
        return self.path, *self.query.items()


class Followed:
    """The answers that a client has open. `read` makes arrivals of a part; raises `CollectorRefused`."""

    def __init__(self, session: Session, read: Callable[[bytes], Arrivals]) -> None:
        self._session, self._read = session, read
        self._lock = threading.Lock()
        self._answers: dict[tuple[object, ...], Answer] = {}

    def begin(self, question: Question) -> None:
        """Follow from there on, if nobody does."""
        with self._lock:
            answer = self._answers.get(question.key)
            if answer is not None and answer.leads_to(question.cursor):
                return
            others = [self._answers.pop(question.key, None)]
            if len(self._answers) >= _MOST:
                others.append(self._answers.pop(next(iter(self._answers))))
            self._answers[question.key] = Answer(self._session, question, self._read)
        for other in others:
            if other is not None:
                other.close()

    def take(self, question: Question, wait_s: float) -> Arrivals | None:
        """What came, as the question says; None where that is not known here."""
        with self._lock:
            answer = self._answers.get(question.key)
        return None if answer is None else answer.take(question.cursor, wait_s)

    def close(self) -> None:
        with self._lock:
            answers = list(self._answers.values())
            self._answers.clear()
        for answer in answers:
            answer.close()


class Answer:
    """One that is open, or is to be."""

    def __init__(
        self, session: Session, question: Question, read: Callable[[bytes], Arrivals]
    ) -> None:
        self._session, self._question, self._read = session, question, read
        self._more = "more" in question.query
        self._changed = threading.Condition()
        #: Where each part begins, and what came.
        self._parts: deque[tuple[int, Arrivals]] = deque()
        #: How far those are that somebody has taken.
        self._taken = question.cursor
        self._begun = self._over = False
        self._response: Response | None = None
        threading.Thread(target=self._follow, name="following", daemon=True).start()

    def leads_to(self, cursor: int) -> bool:
        """Whether it may yet tell what comes after this."""
        with self._changed:
            return not self._over and self._taken <= cursor

    def take(self, cursor: int, wait_s: float) -> Arrivals | None:
        """What came after `cursor`, at once or within this time. None where it is to be asked for."""
        end = time.monotonic() + wait_s
        with self._changed:
            # what says nothing at first may be kept back on its way, and for as long as it pleases
            while self._begun:
                if self._taken > cursor:
                    self._lose()
                while self._parts:
                    after, arrived = self._parts.popleft()
                    self._taken = arrived.cursor
                    self._changed.notify_all()
                    if after <= cursor == arrived.cursor and arrived.done and not self._more:
                        return Arrivals((), cursor, done=True)
                    if arrived.cursor > cursor:
                        if after == cursor:
                            return arrived
                        self._lose()
                if self._over:
                    break
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    return Arrivals((), cursor, done=False)
        return None

    def _lose(self) -> None:
        """Somebody asks for what has been taken, or for the rest of a part."""
        self._over = True
        self._parts.clear()
        self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._lose()
            response = self._response
        if response is not None:
            # it may have ended meanwhile
            with suppress(OSError, ValueError, RuntimeError):
                response.shutdown()

    # -- the thread --------------------------------------------------------------------------

    def _follow(self) -> None:
        try:
            self._receive()
        except (Unanswered, CollectorRefused) as error:
            # whoever asks next is told what is wrong, or answered
            log.debug("no longer followed: %s: %s", self._question.path, error)
        finally:
            with self._changed:
                self._response, self._over = None, True
                self._changed.notify_all()

    def _receive(self) -> None:
        asked = self._question
        query = {**asked.query, "cursor": asked.cursor, "format": "parts"}
        with self._session.stream("GET", self._question.path, query) as response:
            # one that does not know this says 400, one that has too many of them 503
            if not succeeded(response) or response.headers.get("content-type") != FOLLOWED:
                return
            with self._changed:
                if self._over:
                    return
                self._response = response
            after = self._question.cursor
            for body in parts(chunks(response, _READ_BYTES)):
                arrived = self._read(body)
                if not self._put(after, arrived):
                    return
                after = arrived.cursor

    def _put(self, after: int, arrived: Arrivals) -> bool:
        """Whether to go on: not where this was closed, or nobody takes anything."""
        with self._changed:
            self._parts.append((after, arrived))
            self._begun = True
            self._changed.notify_all()
            room = self._changed.wait_for(
                lambda: self._over or len(self._parts) < _AHEAD, _UNTAKEN_S
            )
            return room and not self._over


def parts(received: Iterator[bytes]) -> Iterator[bytes]:
    """What each length announces. Raises `CollectorRefused` where that is none."""
    held = bytearray()
    for some in received:
        held += some
        while len(held) >= LENGTH_BYTES:
            size = LENGTH_BYTES + int.from_bytes(held[:LENGTH_BYTES], "big")
            if size > _MOST_BYTES:
                raise CollectorRefused(f"a part of {size} bytes")
            if len(held) < size:
                break
            yield bytes(held[LENGTH_BYTES:size])
            del held[:size]
