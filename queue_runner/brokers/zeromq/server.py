"""The broker server: a ROUTER socket before a journal. One thread owns both.

Requests are served in groups: all that have arrived are executed in one transaction, which is committed
before any of them is answered. So an answer means that the journal has it, and the cost of a commit is
shared by as many requests as there are.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from queue_runner.brokers.checks import check_lease
from queue_runner.brokers.zeromq.arguments import check_arguments
from queue_runner.brokers.zeromq.journal import Journal, JournalError
from queue_runner.brokers.zeromq.keys import ServerKeys
from queue_runner.brokers.zeromq.protocol import (
    MAX_FRAME_BYTES,
    ProtocolError,
    Request,
    Status,
    pack,
    unpack_request,
)
from queue_runner.brokers.zeromq.silence import notice
from queue_runner.brokers.zeromq.state import State
from queue_runner.brokers.zeromq.zap import Doorkeeper
from queue_runner.errors import BrokerRefused

log = logging.getLogger(__name__)

#: Requests executed in one transaction, and the bytes they may add up to.
_GROUP = 256
_GROUP_BYTES = 32 * 1024 * 1024
#: Answers that are remembered for requests that come again.
_REMEMBERED = 4096
_REMEMBERED_BYTES = 64 * 1024 * 1024
#: Lease requests that wait at once, clients that listen, and messages in a client's pipe that wait to be
#: read: each bounds what strangers can have kept in memory.
_MAX_WAITERS, _MAX_SUBSCRIBERS, _PIPE = 10_000, 10_000, 32
#: A push about a topic of nobody.
_NOTHING = pack(["message", "", b""])
#: At most this much later is a stop noticed when nothing happens, in milliseconds.
_IDLE_MS = 1000

Frames = list[bytes]


@dataclass(slots=True)
class Waiter:
    """A lease request that found nothing yet; its client is who has sent it last."""

    request: Request
    queues: tuple[str, ...]
    limit: int
    deadline: float
    lease_s: float
    room: int | None
    max_size: int | None


class BrokerServer:
    """bind: URLs such as `zmq+tcp://127.0.0.1:0` (any free port) or `zmq+ipc:///path/to/socket`.

    keys: let in only clients whose key is allowed, encrypted; without, whoever reaches the address.
    release_leases: free leases that an earlier, dead session left (their attempts count). Only right
    where every client of this journal lives in the server's own process.
    Raises `BrokerRefused` when an address or the journal cannot be had.
    """

    def __init__(
        self,
        bind: Sequence[str],
        journal: Path,
        *,
        sync: str = "normal",
        release_leases: bool = False,
        keys: ServerKeys | None = None,
    ) -> None:
        self._clock: Callable[[], float] = time.monotonic
        self._journal = Journal(journal, sync)
        self._state = State(self._journal, release_leases=release_leases, clock=self._clock)
        self._instance = uuid.uuid4().hex
        self._waiters: OrderedDict[bytes, Waiter] = OrderedDict()
        self._subscribers: dict[bytes, frozenset[str]] = {}
        self._answers: OrderedDict[bytes, bytes] = OrderedDict()
        self._answers_bytes = 0
        self._quiet_until = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._doorkeeper = Doorkeeper(self._context, keys) if keys is not None else None
        self._socket = self._context.socket(zmq.ROUTER)
        self._wake_in, self._wake_out = self._wake_pair()
        #: What clients connect to, with the ports that were really bound.
        self.urls: tuple[str, ...] = self._bind(bind)

    def _wake_pair(self) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        address = f"inproc://{uuid.uuid4().hex}"
        inner = self._context.socket(zmq.PAIR)
        inner.bind(address)
        outer = self._context.socket(zmq.PAIR)
        outer.connect(address)
        return inner, outer

    def _bind(self, bind: Sequence[str]) -> tuple[str, ...]:
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._socket.setsockopt(zmq.RCVHWM, _PIPE)
        # without it, answers to clients that have gone would vanish unseen
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        notice(self._socket)
        if self._doorkeeper is not None:
            self._doorkeeper.secure(self._socket)
        urls = []
        for url in bind:
            try:
                self._socket.bind(url.removeprefix("zmq+"))
            except zmq.ZMQError as error:
                self._close()
                raise BrokerRefused(
                    f"cannot listen on {url}: {error}. Is another server there? Choose another"
                    " address."
                ) from error
            bound = self._socket.getsockopt(zmq.LAST_ENDPOINT)
            assert isinstance(bound, bytes)
            urls.append("zmq+" + bound.rstrip(b"\0").decode())
            if self._doorkeeper is None and not is_local(urls[-1]):
                log.warning(
                    "%s is open to all who reach it, and nothing is encrypted: give this server keys",
                    urls[-1],
                )
        return tuple(urls)

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Serve in a thread of its own; addresses are bound already."""
        self._thread = threading.Thread(target=self.run, name="zeromq-broker", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Serve until `stop` is called, then close everything."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_in, zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                poller.poll(self._idle_ms())
                self._turn(self._receive())
        finally:
            self._close()

    def stop(self) -> None:
        """End `run`, from any thread or a signal handler. Idempotent."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        try:
            self._wake_out.send(b"", zmq.NOBLOCK)
        except zmq.ZMQError:  # closed by itself in between
            log.debug("the server had ended already")
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _close(self) -> None:
        for socket in (self._socket, self._wake_in, self._wake_out):
            socket.close()
        self._context.term()
        self._journal.close()

    def _idle_ms(self) -> int:
        events = [waiter.deadline for waiter in self._waiters.values()]
        event = self._state.index.next_event()
        if event is not None:
            events.append(event)
        if not events:
            return _IDLE_MS
        return min(_IDLE_MS, max(0, int((min(events) - self._clock()) * 1000) + 1))

    # -- one turn --------------------------------------------------------------------------------

    def _receive(self) -> list[Frames]:
        group: list[Frames] = []
        size = 0
        while len(group) < _GROUP and size < _GROUP_BYTES:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            group.append(frames)
            size += sum(map(len, frames))
        return group

    def _turn(self, group: Sequence[Frames]) -> None:
        """Execute a group and whatever time has brought, commit, answer."""
        undeliverable = self._serve(group)
        while undeliverable:  # each is one waiter less, and there may be thousands
            self._give_back(undeliverable)
            undeliverable = self._serve(())

    def _serve(self, group: Sequence[Frames]) -> list[list[Any]]:
        """Returns what was leased to clients that are not there any more."""
        read = [request for frames in group if (request := self._read(frames)) is not None]
        # one that was sent again may be here with the first; the answer goes where the last came from
        requests = {request.id: request for request in read}.values()
        answers: list[tuple[Request, Status, Any]] = []
        try:
            with self._journal.transaction():
                self._state.tick()
                for request in requests:
                    answers += self._execute(request)
                answers += self._serve_waiters()
        except JournalError as error:
            log.error("nothing of %d requests was kept: %s", len(requests), error)
            self._state.load()
            text = f"the broker server cannot write its journal: {error}"
            answers = [(request, Status.UNAVAILABLE, text) for request in requests]
        return [entry for answer in answers for entry in self._answer(*answer)]

    def _complain(self, text: str) -> None:
        """At most once a second: whoever sends nonsense must not fill the disk with what we say of it."""
        if self._clock() >= self._quiet_until:
            self._quiet_until = self._clock() + 1.0
            log.warning("%s", text)

    def _read(self, frames: Frames) -> Request | None:
        """The request, unless it was answered before, is being served, or makes no sense."""
        try:
            request = unpack_request(frames[0], frames[1:])
        except ProtocolError as error:
            self._complain(f"dropped a request: {error}")
            if len(frames) > 1:
                self._send(frames[0], frames[1][:64], pack([Status.REFUSED, str(error)]))
            return None
        remembered = self._answers.get(request.id)
        if remembered is not None:
            self._send(request.client, request.id, remembered)
            return None
        waiter = self._waiters.get(request.id)
        if waiter is None:
            return request
        waiter.request = request
        return None

    def _execute(self, request: Request) -> list[tuple[Request, Status, Any]]:
        handler = _HANDLERS.get(request.operation)
        if handler is None:
            return [(request, Status.REFUSED, f"unknown operation {request.operation!r:.80}")]
        try:
            check_arguments(request.operation, request.arguments)
            value = handler(self, request, *request.arguments)
        except ValueError as error:
            return [(request, Status.BAD_VALUE, str(error))]
        return [] if value is _LATER else [(request, Status.OK, value)]

    def _serve_waiters(self) -> list[tuple[Request, Status, Any]]:
        answers: list[tuple[Request, Status, Any]] = []
        now = self._clock()
        # those that have waited longest; they ask again if they are still there
        surplus = len(self._waiters) - _MAX_WAITERS
        # what there was nothing for there is nothing for a moment later: thousands may wait for the same
        vain: set[object] = set()
        for place, (number, waiter) in enumerate(list(self._waiters.items())):
            wanted = (waiter.queues, waiter.room, waiter.max_size)
            leased: list[list[Any]] = []
            if wanted not in vain:
                leased = self._state.lease(
                    waiter.queues, waiter.limit, waiter.lease_s, waiter.room, waiter.max_size
                )
            if not leased:
                vain.add(wanted)
            if leased or waiter.deadline <= now or place < surplus:
                del self._waiters[number]
                answers.append((waiter.request, Status.OK, leased))
        return answers

    def _answer(self, request: Request, status: Status, value: Any) -> list[list[Any]]:
        """Send an answer; returns what was leased to a client that is not there any more."""
        packed = pack([status, value])
        if status is Status.OK and request.operation in _REMEMBERED_OPERATIONS:
            self._remember(request.id, packed)
        if self._send(request.client, request.id, packed) or request.operation != "lease":
            return []
        return list(value) if status is Status.OK else []

    def _remember(self, number: bytes, packed: bytes) -> None:
        self._answers[number] = packed
        self._answers_bytes += len(packed)
        while len(self._answers) > _REMEMBERED or self._answers_bytes > _REMEMBERED_BYTES:
            _, oldest = self._answers.popitem(last=False)
            self._answers_bytes -= len(oldest)

    def _send(self, client: bytes, number: bytes, packed: bytes) -> bool:
        """Whether the client is still connected. A full pipe drops: the client will ask again."""
        try:
            self._socket.send_multipart([client, number, packed], zmq.NOBLOCK)
        except zmq.Again:
            self._complain("a client does not read what it asked for; dropped an answer")
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            self._subscribers.pop(client, None)
            return False
        return True

    def _give_back(self, leased: Sequence[list[Any]]) -> None:
        try:
            with self._journal.transaction():
                self._state.undo_lease(leased)
        except JournalError as error:
            log.error("leases of a client that has gone will lapse instead: %s", error)
            self._state.load()

    # -- operations ------------------------------------------------------------------------------

    def _publish(self, request: Request, bundles: list[list[Any]]) -> None:
        self._state.publish(bundles)

    def _lease(
        self,
        request: Request,
        queues: list[str],
        limit: int,
        wait_s: float,
        lease_s: float,
        room: int | None,
        max_size: int | None,
    ) -> Any:
        check_lease([queue.rpartition(":")[2] for queue in queues], limit, lease_s)
        leased = self._state.lease(queues, limit, lease_s, room, max_size)
        if leased or wait_s <= 0:
            return leased
        self._waiters[request.id] = Waiter(
            request, tuple(queues), limit, self._clock() + wait_s, lease_s, room, max_size
        )
        return _LATER

    def _forget(self, request: Request, number: bytes) -> None:
        """The client no longer waits for this lease request."""
        self._waiters.pop(number, None)

    def _renew(self, request: Request, receipts: list[list[int]], lease_s: float) -> list[int]:
        return self._state.renew(receipts, lease_s)

    def _settle(
        self,
        request: Request,
        done: list[list[int]],
        retry: list[list[Any]],
        dead: list[list[Any]],
        publish: list[list[Any]],
    ) -> list[list[int]]:
        return self._state.settle(done, retry, dead, publish)

    def _broadcast(self, request: Request, topic: str, body: bytes) -> None:
        push = pack(["message", topic, body])
        for client in [c for c, topics in self._subscribers.items() if topic in topics]:
            self._send(client, b"", push)

    def _subscribe(self, request: Request, topics: list[str]) -> None:
        """All topics that this client wants from now on."""
        self._subscribers.pop(request.client, None)
        if topics and len(self._subscribers) >= _MAX_SUBSCRIBERS:
            self._forget_subscribers_that_have_gone()
        if topics:
            self._subscribers[request.client] = frozenset(topics)

    def _forget_subscribers_that_have_gone(self) -> None:
        for client in list(self._subscribers):
            self._send(client, b"", _NOTHING)  # which drops those that are not there
        while len(self._subscribers) >= _MAX_SUBSCRIBERS:
            del self._subscribers[next(iter(self._subscribers))]

    def _ping(self, request: Request) -> str:
        return self._instance

    def _depth(self, request: Request, queue: str) -> list[int]:
        return self._state.depth(queue)

    def _dead_letters(
        self, request: Request, queue: str, limit: int, after: int
    ) -> list[list[Any]]:
        return self._state.dead_letters(queue, limit, after)

    def _replay(self, request: Request, queue: str, ids: list[int] | None) -> int:
        return self._state.replay(queue, ids)

    def _purge(self, request: Request, queue: str) -> int:
        return self._state.purge(queue)


_LATER = object()
#: Asking again for any of these would do something twice.
_REMEMBERED_OPERATIONS = frozenset({"publish", "lease", "settle", "replay", "purge"})
_HANDLERS: dict[str, Callable[..., Any]] = {
    "publish": BrokerServer._publish,
    "lease": BrokerServer._lease,
    "forget": BrokerServer._forget,
    "renew": BrokerServer._renew,
    "settle": BrokerServer._settle,
    "broadcast": BrokerServer._broadcast,
    "subscribe": BrokerServer._subscribe,
    "ping": BrokerServer._ping,
    "depth": BrokerServer._depth,
    "dead-letters": BrokerServer._dead_letters,
    "replay": BrokerServer._replay,
    "purge": BrokerServer._purge,
}


def is_local(url: str) -> bool:
    host = url.removeprefix("zmq+tcp://")
    return url.startswith("zmq+ipc:") or host.startswith(("127.", "localhost", "[::1]"))
