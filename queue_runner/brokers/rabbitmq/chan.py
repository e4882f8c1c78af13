"""An AMQP channel whose requests can be awaited.

pika takes a callback per request and keeps quiet when the channel goes away in between; here every
request ends, with its answer or with `Lost`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import pika
from pika import exceptions, spec

from queue_runner.brokers.rabbitmq.bell import Bell
from queue_runner.brokers.rabbitmq.connection import Taker
from queue_runner.brokers.rabbitmq.lost import Lost, lost
from queue_runner.errors import BrokerRefused

#: Called with the answer to a request.
Answered = Callable[[Any], None]
#: Sends a request, whose answer goes where it is told.
Send = Callable[[Answered], None]


class Chan:
    """Requests are sent one at a time: pika hands a `cancel-ok` to whoever asked first.

    `gone` says why the channel is closed; `on_lost` is called once, when it closes.
    """

    def __init__(self) -> None:
        self.gone: Lost | None = None
        self.on_lost: list[Callable[[], None]] = []
        #: The first is on its way.
        self._requests: deque[tuple[asyncio.Future[Any], Send]] = deque()
        self._raw: Any = None
        self._bell = Bell()
        self._on_empty: Answered = _drop

    @classmethod
    async def open(cls, connection: Any) -> Chan:
        chan = cls()
        await chan._ask(partial(chan._open, connection))
        return chan

    def _open(self, connection: Any, answered: Answered) -> None:
        try:
            raw = connection.channel(on_open_callback=answered)
        except exceptions.NoFreeChannels as error:
            raise BrokerRefused(
                "this connection has no channel left: there are too many combinations of queue,"
                " priority and size. Use fewer, or raise channel_max in rabbitmq.conf."
            ) from error
        self._raw = raw
        raw.taker = _drop
        raw.add_on_close_callback(lambda _, reason: self._closed(reason))
        raw.add_on_cancel_callback(self._cancelled_by_server)
        raw.add_callback(lambda _: self._on_empty(None), [spec.Basic.GetEmpty], one_shot=False)

    @property
    def raw(self) -> Any:
        """pika's channel."""
        if self.gone is not None:
            raise self.gone
        return self._raw

    def put(
        self, exchange: str, routing_key: str, body: bytes, properties: Any, mandatory: bool
    ) -> None:
        """Publish one message, whose confirm goes where `confirm` was told."""
        try:
            self.raw.put(exchange, routing_key, body, properties, mandatory)
        except exceptions.AMQPError as error:
            raise lost(error) from error

    def tell(self, request: str, *args: object, **options: object) -> None:
        """Send what has no answer: basic_ack, basic_nack, cancel_at_once."""
        try:
            getattr(self.raw, request)(*args, **options)
        except exceptions.AMQPError as error:
            raise lost(error) from error

    def take_with(self, taker: Taker) -> None:
        self._raw.taker = taker

    async def declare(self, queue: str, arguments: Mapping[str, object], **flags: bool) -> Any:
        """Queue.Declare; answers with the queue's name and `message_count`."""
        answer = await self._call(
            "queue_declare", queue, durable=not flags, arguments=dict(arguments), **flags
        )
        return answer.method

    async def ready(self, queue: str) -> int:
        """How many messages wait in a queue. `Lost` with code 404, and the channel, where it is not."""
        answer = await self._call("queue_declare", queue, passive=True)
        return int(answer.method.message_count)

    async def ready_or_none(self, queue: str) -> int | None:
        """None, and the channel is closed, where there is no such queue."""
        try:
            return await self.ready(queue)
        except Lost as error:
            if error.code == 404 and "down" not in str(error):
                return None
            raise

    async def get(self, queue: str) -> tuple[Any, Any, bytes] | None:
        """One message, or None where there is none. `Lost` with code 404 where there is no such queue."""
        found: tuple[Any, Any, bytes] | None = await self._ask(partial(self._get, queue))
        return found

    def _get(self, queue: str, answered: Answered) -> None:
        self._on_empty = answered
        self.raw.basic_get(queue, lambda _, *found: answered(found))

    async def declare_exchange(self, exchange: str, exchange_type: str) -> None:
        await self._call("exchange_declare", exchange, exchange_type=exchange_type, durable=True)

    async def bind(self, queue: str, exchange: str, routing_key: str = "") -> None:
        await self._call("queue_bind", queue, exchange, routing_key=routing_key)

    async def purge(self, queue: str) -> int:
        answer = await self._call("queue_purge", queue)
        return int(answer.method.message_count)

    async def qos(self, prefetch: int) -> None:
        await self._call("basic_qos", prefetch_count=prefetch)

    async def consume(
        self, queue: str, tag: str, *, auto_ack: bool = False, arguments: Mapping[str, object] = {}
    ) -> None:
        await self._call(
            "basic_consume",
            queue,
            on_message_callback=_drop,
            auto_ack=auto_ack,
            consumer_tag=tag,
            arguments=dict(arguments),
        )

    async def cancel(self, tag: str) -> None:
        await self._call("basic_cancel", tag)

    async def confirm(self, on_answer: Callable[[Any], None]) -> None:
        await self._call("confirm_delivery", on_answer)

    async def ended(self) -> Lost:
        """Wait until the channel is closed; returns why."""
        await self._bell.wait_for(lambda: self.gone is not None)
        assert self.gone is not None
        return self.gone

    async def close(self) -> None:
        """Whatever was delivered and not settled goes back to its queue. No error if it is closed."""
        if self.gone is None:
            with suppress(exceptions.ChannelWrongStateError):  # is closing already
                self._raw.close()
            await self.ended()

    async def _call(self, request: str, *args: object, **options: object) -> Any:
        return await self._ask(
            lambda answered: getattr(self.raw, request)(*args, callback=answered, **options)
        )

    async def _ask(self, send: Send) -> Any:
        """The answer, or why it could not be sent.

        Who is cut short leaves it on its way: its answer must not be taken for that of the next.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._requests.append((answer, send))
        if len(self._requests) == 1:
            self._send_first()
        return await answer

    def _send_first(self) -> None:
        while self._requests:
            answer, send = self._requests[0]
            try:
                send(partial(self._answered, answer))
            except Exception as error:  # noqa: BLE001 - the future brings it to who asked
                self._requests.popleft()
                fail(answer, lost(error) if isinstance(error, exceptions.AMQPError) else error)
            else:
                return

    def _answered(self, answer: asyncio.Future[Any], value: Any) -> None:
        fulfil(answer, value)
        # those of a channel that was lost are none of the next
        if self._requests and self._requests[0][0] is answer:
            self._requests.popleft()
            self._send_first()

    def _cancelled_by_server(self, frame: Any) -> None:
        # the queue was deleted or moved; a new channel finds out which
        if self._raw.is_open:
            self._raw.close(0, "the server cancelled the consumer")

    def _closed(self, reason: BaseException) -> None:
        self.gone = lost(reason)
        requests, self._requests = self._requests, deque()
        for answer, _ in requests:
            fail(answer, self.gone)
        for notify in self.on_lost:
            notify()
        self._bell.ring()


def fulfil(answer: asyncio.Future[Any], value: object) -> None:
    """Set a future's result, unless whoever awaited it has gone away."""
    if not answer.done():
        answer.set_result(value)


def fail(answer: asyncio.Future[Any], error: Exception) -> None:
    """Set a future's error, unless whoever awaited it has gone away."""
    if not answer.done():
        answer.set_exception(error)


def _drop(*_: object) -> None:
    """pika insists on a callback; `_Channel.taker` takes the deliveries."""


def properties(**fields: object) -> Any:
    return pika.BasicProperties(**fields)
