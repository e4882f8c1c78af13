"""A connection to RabbitMQ that comes back by itself."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from copy import copy
from typing import Any

from pika.adapters.utils.connection_workflow import AMQPConnectorWrongState

from queue_runner.brokers.rabbitmq.address import Address
from queue_runner.brokers.rabbitmq.chan import Chan, fulfil
from queue_runner.brokers.rabbitmq.connection import Connection
from queue_runner.brokers.rabbitmq.io_thread import IoThread
from queue_runner.brokers.rabbitmq.lost import Lost, Unheard, connecting, lost
from queue_runner.brokers.rabbitmq.tls import refused_for_tls
from queue_runner.errors import BrokerRefused

logger = logging.getLogger(__name__)

#: Seconds between attempts: doubled from the first to the last, and spread, so that a thousand workers
#: do not come back in the same instant to a server that has just restarted.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.05, 5.0

#: A connection that lived so long was a good one; the next attempt starts from the first pause.
_STEADY_S = 5.0

#: Seconds that a broken-off attempt to connect gets to close its socket.
_ABORT_S = 1.0

#: Without a heartbeat in the URL: the longest, and the shortest that a busy host keeps up with.
_MOST_HEARTBEAT_S, _LEAST_HEARTBEAT_S = 30, 5

#: Older servers have no message TTL in quorum queues and lose what they dead-letter.
_OLDEST = (3, 10)


class Link:
    """One AMQP connection, made when it is first asked for and remade whenever it breaks.

    Of several nodes it takes any, so that clients spread over them, and the next one when it has to.

    `trouble` says why there is none at the moment, `blocked` why the server takes no messages.
    """

    def __init__(self, io: IoThread, address: Address, role: str) -> None:
        self.trouble: str | None = "not connected yet"
        self.blocked: str | None = None
        self._io = io
        self._address = address
        self._role = role
        self._heartbeat_s = address.heartbeat_s or _MOST_HEARTBEAT_S
        self._connection: Any = None
        self._node = random.randrange(len(address.nodes))
        self._keeper: asyncio.Task[None] | None = None
        self._waiting: set[asyncio.Future[Any]] = set()
        self._refused = False
        self._hurry = asyncio.Event()

    async def up(self) -> Any:
        """The open connection. Waits as long as it takes; raises `BrokerRefused` at once."""
        if self._connection is not None:
            return self._connection
        if self._keeper is None:
            self._keeper = self._io.spawn(self._keep())
        waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        if self._refused:
            self._hurry.set()
        try:
            return await waiting
        finally:
            self._waiting.discard(waiting)

    async def channel(self) -> Chan:
        return await Chan.open(await self.up())

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[Chan]:
        """A channel for one errand; what it leaves unsettled goes back to its queue."""
        chan = await self.channel()
        try:
            yield chan
        finally:
            self._io.spawn(chan.close())

    def heed(self, lease_s: float, idle: bool) -> None:
        """Make the heartbeat short enough for claims of `lease_s` seconds.

        A frozen client is noticed within two heartbeats, so half of a lease brings its messages back
        as the lease would have. A change takes a new connection, which waits until this one is `idle`.
        """
        wanted_s = min(_MOST_HEARTBEAT_S, max(_LEAST_HEARTBEAT_S, int(lease_s / 2)))
        if self._address.heartbeat_s is None and wanted_s < self._heartbeat_s:
            self._heartbeat_s = wanted_s
        connection = self._connection
        if idle and connection is not None and connection.params.heartbeat > self._heartbeat_s:
            self._drop()

    async def close(self) -> None:
        """Say goodbye to the server; when cancelled, hang up on it. Leaves no socket behind."""
        connection = self._connection
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if connection is None or connection.is_closed:
            return
        gone = asyncio.Event()
        connection.add_on_close_callback(lambda *_: gone.set())
        try:
            if connection.is_open:
                connection.close()
            await gone.wait()
        finally:
            if not gone.is_set():
                connection.hang_up()
                await gone.wait()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.is_open:
            connection.close()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s, tried = _FIRST_PAUSE_S, 0
        while True:
            since = loop.time()
            try:
                await self._live(await self._connect())
            except BrokerRefused as error:
                self._refuse(error)
            except Lost as error:
                self.trouble = str(error)
                logger.info("%s (%s): %s", self._address.shown, self._role, error)
            if loop.time() - since > _STEADY_S:
                pause_s, tried = _FIRST_PAUSE_S, 0
            self._node = (self._node + 1) % len(self._address.nodes)
            await self._pause(pause_s * random.uniform(0.5, 1.0))
            tried += 1
            if tried % len(self._address.nodes) == 0:  # all of them: the next round is slower
                pause_s = min(_LAST_PAUSE_S, 2 * pause_s)

    async def _pause(self, pause_s: float) -> None:
        self._hurry.clear()
        try:
            async with asyncio.timeout(pause_s):
                await self._hurry.wait()
        except TimeoutError:
            return

    def _refuse(self, error: BrokerRefused) -> None:
        self._refused = True
        self.trouble = str(error)
        text = f"{self._address.shown}: {error}"
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(BrokerRefused(text))

    async def _connect(self) -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        workflow = Connection.create_connection(
            [self._parameters()],
            on_done=lambda outcome: fulfil(done, outcome),
            custom_ioloop=asyncio.get_running_loop(),
        )
        try:
            outcome = await asyncio.shield(done)
        except asyncio.CancelledError:
            _break_off(workflow)
            # it closes its socket before it says that it is over
            await asyncio.wait([done], timeout=_ABORT_S)
            if done.done() and isinstance(done.result(), Connection):
                done.result().hang_up()
            raise
        if isinstance(outcome, BaseException):
            raise await self._failed(connecting(outcome))
        return outcome

    async def _failed(self, error: BrokerRefused | Lost) -> BrokerRefused | Lost:
        if not isinstance(error, Unheard):
            return error
        return await asyncio.to_thread(refused_for_tls, self._address.nodes[self._node]) or error

    def _parameters(self) -> Any:
        parameters = copy(self._address.nodes[self._node])
        parameters.heartbeat = self._heartbeat_s
        name = parameters.client_properties["connection_name"]
        parameters.client_properties = {"connection_name": f"{name} ({self._role})"}
        return parameters

    async def _live(self, connection: Any) -> None:
        """Serve the waiting with this connection until it ends, which raises `Lost`."""
        ended: asyncio.Future[Lost] = asyncio.get_running_loop().create_future()
        connection.add_on_close_callback(lambda _, reason: fulfil(ended, lost(reason)))
        try:
            _insist_on_version(connection.server_properties)
        except BrokerRefused:
            connection.close()
            raise
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self._connection, self._refused, self.blocked = connection, False, None
        self.trouble = None
        for waiting in self._waiting:
            fulfil(waiting, connection)
        try:
            raise await ended
        finally:
            self._connection = None

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self.blocked = str(frame.method.reason or "resource alarm")
        logger.warning("%s takes no messages: %s", self._address.shown, self.blocked)

    def _on_unblocked(self, *_: Any) -> None:
        self.blocked = None


def _break_off(workflow: Any) -> None:
    """Abort an attempt to connect.

    pika 1.4 fails an assertion of its own where the attempt waits for the server's handshake; closing
    the connection it waits with ends the attempt, too.
    """
    half_open = getattr(getattr(workflow, "_connector", None), "_amqp_conn", None)
    if half_open is None:
        # it may be over in this very moment
        with suppress(AMQPConnectorWrongState):
            workflow.abort()
    elif not half_open.is_closing:
        half_open.close(320, "the client gave up")


def _insist_on_version(server: Any) -> None:
    version = version_of(server)
    if server.get("product") == "RabbitMQ" and version[: len(_OLDEST)] < _OLDEST:
        raise BrokerRefused(
            f"RabbitMQ {server.get('version')} is too old: quorum queues keep delayed and dead"
            " messages safe from 3.10 on. Upgrade the server."
        )


def version_of(server: Any) -> tuple[int, ...]:
    """The server's version as numbers; what is not a number ends it."""
    numbers = []
    for part in str(server.get("version", "")).split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
