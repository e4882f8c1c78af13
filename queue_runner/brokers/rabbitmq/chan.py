"""An AMQP channel whose requests can be awaited.

pika takes a callback per request and keeps quiet when the channel goes away in between; here every
request ends, with its answer or with `Lost`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pika
from pika import exceptions, spec

from queue_runner.brokers.rabbitmq.bell import Bell
from queue_runner.brokers.rabbitmq.connection import Taker
from queue_runner.brokers.rabbitmq.lost import Lost, lost
from queue_runner.errors import BrokerRefused


class Chan:
    """Requests are sent one at a time: pika hands a `cancel-ok` to whoever asked first.

    `gone` says why the channel is closed; `on_lost` is called once, when it closes.
    """

    def __init__(self) -> None:
        self.gone: Lost | None = None
        self.on_lost: list[Callable[[], None]] = []
        self._calls: set[asyncio.Future[Any]] = set()
        self._turn = asyncio.Lock()
        self._raw: Any = None
        self._bell = Bell()
        self._empty: asyncio.Future[Any]

    @classmethod
    async def open(cls, connection: Any) -> Chan:
        chan = cls()
        with chan._expecting() as opened:
            try:
                raw = connection.channel(on_open_callback=lambda _: fulfil(opened, None))
            except exceptions.NoFreeChannels as error:
                raise BrokerRefused(
                    "this connection has no channel left: there are too many combinations of queue,"
                    " priority and size. Use fewer, or raise channel_max in rabbitmq.conf."
                ) from error
        chan._raw = raw
        raw.taker = _drop
        raw.add_on_close_callback(lambda _, reason: chan._closed(reason))
        raw.add_on_cancel_callback(chan._cancelled_by_server)
        raw.add_callback(chan._on_empty, [spec.Basic.GetEmpty], one_shot=False)
        await chan._answer(opened)
        return chan

    @property
    def raw(self) -> Any:
        """pika's channel."""
        if self.gone is not None:
            raise self.gone
        return self._raw

    def tell(self, request: str, *args: object, **options: object) -> None:
        """Send what has no answer: put, basic_ack, basic_nack, cancel_at_once."""
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
        async with self._turn:
            with self._expecting() as answer:
                self._empty = answer
                self.raw.basic_get(queue, lambda _, *found: fulfil(answer, found))
            found: tuple[Any, Any, bytes] | None = await self._answer(answer)
            return found

    def _on_empty(self, _: Any) -> None:
        fulfil(self._empty, None)

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
        # shielded: a caller whose deadline passes must not leave an answer behind for the next
        return await asyncio.shield(asyncio.ensure_future(self._exchange(request, args, options)))

    async def _exchange(self, request: str, args: Any, options: Any) -> Any:
        async with self._turn:
            with self._expecting() as answer:
                getattr(self.raw, request)(
                    *args, callback=lambda frame: fulfil(answer, frame), **options
                )
            return await self._answer(answer)

    @contextmanager
    def _expecting(self) -> Iterator[asyncio.Future[Any]]:
        """The answer to what is asked for inside. Raises `Lost` where that cannot be sent."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.add(answer)
        try:
            yield answer
        except BaseException as error:
            self._calls.discard(answer)
            if isinstance(error, exceptions.AMQPError):
                raise lost(error) from error
            raise

    async def _answer(self, answer: asyncio.Future[Any]) -> Any:
        try:
            return await answer
        finally:
            self._calls.discard(answer)

    def _cancelled_by_server(self, frame: Any) -> None:
        # the queue was deleted or moved; a new channel finds out which
        if self._raw.is_open:
            self._raw.close(0, "the server cancelled the consumer")

    def _closed(self, reason: BaseException) -> None:
        self.gone = lost(reason)
        for answer in self._calls:
            if not answer.done():
                answer.set_exception(self.gone)
        for notify in self.on_lost:
            notify()
        self._bell.ring()


def fulfil(answer: asyncio.Future[Any], value: object) -> None:
    """Set a future's result, unless whoever awaited it has gone away."""
    if not answer.done():
        answer.set_result(value)


def _drop(*_: object) -> None:
    """pika insists on a callback; `_Channel.taker` takes the deliveries."""


def properties(**fields: object) -> Any:
    return pika.BasicProperties(**fields)
