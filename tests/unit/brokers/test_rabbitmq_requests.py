"""Requests on a channel of RabbitMQ, and how bytes go to its socket, without a server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import exceptions
from pika.adapters.asyncio_connection import _AsyncioIOServicesAdapter
from pika.adapters.utils.io_services_utils import _AsyncPlaintextTransport

from queue_runner.brokers.rabbitmq.chan import Chan
from queue_runner.brokers.rabbitmq.connection import Connection
from queue_runner.brokers.rabbitmq.lost import Lost
from queue_runner.brokers.rabbitmq.together import together


class FakeChannel:
    """What pika has for a channel: `asked` are the requests that went out, with where their answers go."""

    is_open = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, Callable[[Any], None]]] = []
        self.refuses: str | None = None
        self.taker: object = None

    def channel(self, on_open_callback: Callable[[Any], None]) -> FakeChannel:
        asyncio.get_running_loop().call_soon(on_open_callback, self)
        return self

    def add_on_close_callback(self, callback: Callable[[Any, Exception], None]) -> None:
        self.closes = callback

    def add_on_cancel_callback(self, callback: object) -> None: ...

    def add_callback(
        self, callback: Callable[[Any], None], replies: object, one_shot: bool
    ) -> None:
        self.empty = callback

    def queue_purge(self, queue: str, callback: Callable[[Any], None]) -> None:
        if queue == self.refuses:
            raise exceptions.ChannelWrongStateError("closing")
        self.asked.append((queue, callback))

    def basic_get(self, queue: str, callback: Callable[..., None]) -> None:
        self.asked.append((queue, callback))

    def answer(self, count: int) -> None:
        """The answer to what was asked last."""
        self.asked[-1][1](SimpleNamespace(method=SimpleNamespace(message_count=count)))


def channel_test(
    test: Callable[[Chan, FakeChannel], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    async def with_channel() -> None:
        raw = FakeChannel()
        await test(await Chan.open(raw), raw)

    def run() -> None:
        asyncio.run(with_channel())

    return run


async def _turns(raw: FakeChannel, asked: Sequence[str]) -> None:
    """Wait until so much has gone out."""
    async with asyncio.timeout(5):
        while [queue for queue, _ in raw.asked] != list(asked):
            await asyncio.sleep(0)


@channel_test
async def test_one_goes_out_at_a_time_and_each_gets_its_own_answer(
    chan: Chan, raw: FakeChannel
) -> None:
    purges = [asyncio.create_task(chan.purge(name)) for name in "abc"]
    for number, name in enumerate("abc"):
        await _turns(raw, "abc"[: number + 1])
        raw.answer(number)
        assert await purges["abc".index(name)] == number


@channel_test
async def test_the_answer_for_one_who_was_cut_short_is_not_the_next_ones(
    chan: Chan, raw: FakeChannel
) -> None:
    first, second = asyncio.create_task(chan.purge("a")), asyncio.create_task(chan.purge("b"))
    await _turns(raw, "a")
    first.cancel()
    await asyncio.wait([first])
    await _turns(raw, "a")
    raw.answer(1)
    await _turns(raw, "ab")
    raw.answer(2)
    assert await second == 2


@channel_test
async def test_one_that_was_cut_short_before_its_turn_is_asked_all_the_same(
    chan: Chan, raw: FakeChannel
) -> None:
    purges = [asyncio.create_task(chan.purge(name)) for name in "abc"]
    await _turns(raw, "a")
    purges[1].cancel()
    await asyncio.wait([purges[1]])
    raw.answer(1)
    await _turns(raw, "ab")
    raw.answer(2)
    await _turns(raw, "abc")
    raw.answer(3)
    assert [await purges[0], await purges[2]] == [1, 3]


@channel_test
async def test_what_cannot_be_sent_is_its_own_trouble(chan: Chan, raw: FakeChannel) -> None:
    raw.refuses = "b"
    purges = [asyncio.create_task(chan.purge(name)) for name in "abc"]
    await _turns(raw, "a")
    raw.answer(1)
    with pytest.raises(Lost, match="closing"):
        await purges[1]
    await _turns(raw, "ac")
    raw.answer(3)
    assert await purges[2] == 3


@channel_test
async def test_all_that_is_asked_ends_with_the_channel(chan: Chan, raw: FakeChannel) -> None:
    purges = [asyncio.create_task(chan.purge(name)) for name in "ab"]
    await _turns(raw, "a")
    raw.closes(raw, exceptions.ChannelClosedByBroker(404, "gone"))
    for purge in purges:
        with pytest.raises(Lost, match="gone"):
            await purge
    # an answer that comes late belongs to nobody
    raw.answer(1)
    with pytest.raises(Lost, match="gone"):
        await chan.purge("c")
    assert [queue for queue, _ in raw.asked] == ["a"]


@channel_test
async def test_an_empty_queue_is_an_answer(chan: Chan, raw: FakeChannel) -> None:
    got, purge = asyncio.create_task(chan.get("a")), asyncio.create_task(chan.purge("b"))
    await _turns(raw, "a")
    raw.empty(SimpleNamespace())
    assert await got is None
    await _turns(raw, "ab")
    raw.answer(2)
    assert await purge == 2


async def _fails(error: Exception, ended: list[str]) -> int:
    await asyncio.sleep(0)
    ended.append(str(error))
    raise error


@pytest.mark.parametrize("count", [1, 2])
def test_together_raises_the_first_error_when_all_have_ended(count: int) -> None:
    async def run() -> None:
        ended: list[str] = []
        errors = [ValueError("first"), KeyError("second")][:count]
        with pytest.raises(ValueError, match="first"):
            await together(_fails(error, ended) for error in errors)
        assert len(ended) == count

    asyncio.run(run())


class Writing(Connection):
    """A connection of which there is nothing but the way to its socket. lost: why that ended."""

    def __init__(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._outgoing, self._outgoing_bytes = [], 0
        self.lost: asyncio.Future[object] = loop.create_future()
        protocol = SimpleNamespace(connection_lost=self.lost.set_result)
        self._transport = _AsyncPlaintextTransport(sock, protocol, _AsyncioIOServicesAdapter(loop))


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_what_there_is_room_for_is_gone_after_one_turn(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async def run() -> None:
        connection = Writing(pair[0])
        connection._adapter_emit_data(b"one, ")
        connection._adapter_emit_data(b"two")
        pair[1].setblocking(False)
        with pytest.raises(BlockingIOError):  # what a turn brings goes together
            pair[1].recv(100)
        await asyncio.sleep(0)
        assert pair[1].recv(100) == b"one, two"
        assert connection._transport.get_write_buffer_size() == 0

    asyncio.run(run())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=12), st.data())
def test_it_comes_whole_and_in_order_to_who_reads_slowly(
    sizes: Sequence[int], data: st.DataObject
) -> None:
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            loop, connection, came = asyncio.get_running_loop(), Writing(ours), b""
            for part in parts:
                connection._adapter_emit_data(part)
                if data.draw(st.booleans()):
                    await asyncio.sleep(0)
                if data.draw(st.booleans()) and sum(map(len, parts)) > len(came):
                    came += await loop.sock_recv(theirs, 5000) if _has_come(theirs) else b""
            async with asyncio.timeout(20):
                while len(came) < sum(sizes):
                    came += await loop.sock_recv(theirs, 65536)
            assert came == b"".join(parts)
            assert connection._transport.get_write_buffer_size() == 0

    asyncio.run(run())


def _has_come(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_that_the_other_side_has_gone_ends_the_connection(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async def run() -> None:
        connection = Writing(pair[0])
        pair[0].shutdown(socket.SHUT_WR)
        connection._adapter_emit_data(b"nobody reads this")
        async with asyncio.timeout(5):
            assert isinstance(await connection.lost, BrokenPipeError)

    asyncio.run(run())
