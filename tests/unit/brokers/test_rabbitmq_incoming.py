"""What comes over a connection to RabbitMQ is what pika makes of it, read fast or not."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from pika.callback import CallbackManager

from queue_runner.brokers.rabbitmq import connection as module
from queue_runner.brokers.rabbitmq.connection import Connection, TakingChannel
from queue_runner.brokers.rabbitmq.incoming import delivery
from queue_runner.brokers.rabbitmq.outgoing import LaneProperties, before_id

CHANNELS = (1, 2)
_names = st.text(max_size=20).filter(lambda text: len(text.encode()) <= 60)
_ours = st.builds(
    LaneProperties,
    _names,
    st.dictionaries(st.text(max_size=8), st.integers(0, 2**31 - 1), max_size=4).map(before_id),
)
_others = st.builds(
    pika.BasicProperties,
    content_type=st.none() | _names,
    headers=st.none() | st.dictionaries(st.text(max_size=8), _names | st.booleans(), max_size=3),
    delivery_mode=st.none() | st.sampled_from([1, 2]),
    message_id=st.none() | _names,
    timestamp=st.none() | st.integers(0, 2**32),
)


@st.composite
def _deliveries(draw: st.DrawFn) -> bytes:
    channel, body = draw(st.sampled_from(CHANNELS)), draw(st.binary(max_size=300))
    method = spec.Basic.Deliver(
        draw(_names), draw(st.integers(0, 2**63)), draw(st.booleans()), draw(_names), draw(_names)
    )
    largest = draw(st.sampled_from([300, 100]))
    frames = [
        frame.Method(channel, method),
        frame.Header(channel, len(body), draw(_ours | _others)),
        *(frame.Body(channel, body[at : at + largest]) for at in range(0, len(body), largest)),
    ]
    return b"".join(each.marshal() for each in frames)


_heartbeats = st.just(frame.Heartbeat().marshal())


class Wire(Connection):
    """A connection without a socket; what its channels are given is in `taken`."""

    def __init__(self) -> None:
        self._frame_buffer = b""
        self.bytes_received = self.frames_received = 0
        self.callbacks = CallbackManager()
        self._heartbeat_checker = self
        self.heartbeats = 0
        self.taken: list[object] = []
        self._channels = {number: TakingChannel(self, number, None) for number in CHANNELS}
        for number, channel in self._channels.items():
            channel.taker = lambda *what, number=number: self._take(number, *what)

    def received(self) -> None:
        self.heartbeats += 1

    def _take(self, channel: int, method: Any, properties: Any, body: bytes) -> None:
        said = (method.consumer_tag, method.delivery_tag, method.redelivered, method.routing_key)
        self.taken.append((channel, said, properties.headers, properties.message_id, body))


def read(parts: Sequence[bytes]) -> Wire:
    wire = Wire()
    for part in parts:
        wire._on_data_available(part)
    return wire


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(
    st.lists(_deliveries() | _heartbeats, max_size=6).map(b"".join),
    st.lists(st.integers(0, 10_000), max_size=5),
)
def test_it_is_what_pika_reads_however_it_comes(data: bytes, places: Sequence[int]) -> None:
    fast = read(cut(data, places))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "delivery", lambda buffer, at: None)
        slow = read([data])
    assert fast.taken == slow.taken
    assert (fast.bytes_received, fast.frames_received, fast.heartbeats) == (
        len(data), slow.frames_received, slow.heartbeats,
    )  # fmt: skip
    assert fast._frame_buffer == slow._frame_buffer == b""


def _delivery(body: bytes = b"job") -> bytes:
    frames = [
        frame.Method(1, spec.Basic.Deliver("tap1", 7, True, "", "lane")),
        frame.Header(1, len(body), LaneProperties("id-1", before_id({"qr-attempt": 3}))),
        frame.Body(1, body),
    ]
    return b"".join(each.marshal() for each in frames)


def test_ours_are_read_at_once() -> None:
    found = delivery(b"before" + _delivery(), len(b"before"))
    assert found is not None
    assert found.end == len(b"before" + _delivery())
    said = (1, "tap1", 7, True, "lane", {"qr-attempt": 3}, "id-1", b"job")
    assert found[1:] == said


def test_what_is_not_whole_is_left() -> None:
    whole = _delivery()
    assert all(delivery(whole[:end], 0) is None for end in range(len(whole)))


@given(st.integers(0, len(_delivery()) - 1), st.binary(min_size=1, max_size=4))
def test_nothing_is_made_of_what_makes_no_sense(at: int, wrong: bytes) -> None:
    data = _delivery()
    data = data[:at] + wrong + data[at + len(wrong) :]
    found = delivery(data, 0)
    if found is None:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "delivery", lambda buffer, at: None)
        slow = read([data])
    (_, channel, *method, headers, message_id, body) = found
    if channel in CHANNELS:
        assert slow.taken == [(channel, tuple(method), headers, message_id, body)]


def test_one_that_comes_in_the_midst_of_another_is_pikas_to_complain_of() -> None:
    begun = frame.Method(1, spec.Basic.Deliver("tap1", 6, False, "", "lane")).marshal()
    wire = read([begun])
    assert not wire._channels[1].takes_whole
    wire._on_data_available(_delivery())
    assert len(wire.taken) == 1
    assert wire._channels[1].takes_whole


def test_a_taker_that_fails_is_not_given_the_same_again() -> None:
    wire = Wire()

    def fail(*_: object) -> None:
        raise LookupError("a bug")

    wire._channels[1].taker = fail
    with pytest.raises(LookupError):
        wire._on_data_available(_delivery() + _delivery(b"next"))
    assert delivery(wire._frame_buffer, 0) is not None
    assert struct.unpack_from(">B", wire._frame_buffer) == (spec.FRAME_METHOD,)
    assert len(wire._frame_buffer) == len(_delivery(b"next"))
