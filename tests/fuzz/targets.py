"""What is fed with bytes, and may raise nothing but what its caller expects of it.

Each target is what stands between a stranger's bytes and the rest of the program: the decoder of each type of
message, the seal, and what each adapter makes of what its server delivers.
"""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import socket
import struct
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import zmq
from pika import frame, spec
from redis._parsers import _HiredisParser

from queue_runner import wire
from queue_runner.brokers.rabbitmq import catalogue
from queue_runner.brokers.rabbitmq.connection import Connection as RabbitConnection
from queue_runner.brokers.rabbitmq.envelope import attempt_of, dead_letter
from queue_runner.brokers.rabbitmq.foreign import Assembler, too_long
from queue_runner.brokers.redis.arguments import letter_of
from queue_runner.brokers.redis.driver import make_wire
from queue_runner.brokers.redis.failures import speaking_to
from queue_runner.brokers.zeromq.channel import Line, read_answer
from queue_runner.brokers.zeromq.listener import Inbox, Listener
from queue_runner.brokers.zeromq.protocol import ProtocolError
from queue_runner.brokers.zeromq.server import BrokerServer
from queue_runner.errors import QueueRunnerError, StudyError, WireError
from queue_runner.signing import CONTROL, REQUESTS, RESULTS, Heard
from queue_runner.signing.file import KeyFile, write_key_file
from queue_runner.signing.keys import Key, KeySet
from queue_runner.signing.seal import Keyed
from queue_runner.store.bundle import BundleLimits, read_bundle
from queue_runner.study import load_study
from queue_runner.study.rows import read_csv

Target = Callable[[bytes], None]

#: Of what is said of a message, in characters; and requests to one server.
_REASON, _TURNS = 2000, 5000


def decoder(*types: type) -> Target:
    """Whatever is let in can be stored, shown and sent on; all else has a reason that can be printed."""

    def decode(data: bytes) -> None:
        try:
            values = [value for value, _ in wire.decode_batch(data, types)]
        except WireError as error:
            _fit_to_show(error)
            return
        for value in values:
            again = wire.decode(wire.encode(value), type(value))
            json.dumps(dataclasses.asdict(again))

    return decode


def _fit_to_show(error: Exception) -> None:
    assert str(error).isprintable(), error
    assert 0 < len(str(error)) < _REASON, error


def envelope(stack: ExitStack) -> Target:
    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "keys.json"
    write_key_file(path, KeySet({}).with_key(Key.make("lab", time.time())))
    seal, heard = Keyed(KeyFile(path)), Heard()
    signed = [seal.seal(b"body", purpose) for purpose in (RESULTS, REQUESTS, CONTROL)]

    def open_(data: bytes) -> None:
        for message in (data, *(_over(data, each) for each in signed)):
            for read in (
                lambda message: seal.open_any(message, (RESULTS, REQUESTS)),
                lambda message: seal.hear(message, CONTROL, heard),
            ):
                try:
                    read(message)
                except WireError as error:
                    _fit_to_show(error)
                else:
                    assert message in signed, "forged"

    return open_


def _over(data: bytes, message: bytes) -> bytes:
    """`message` with `data` in the place that its first byte says."""
    start = data[0] % len(message) if data else 0
    return message[:start] + data[1:] + message[start + len(data[1:]) :]


def rabbitmq(stack: ExitStack) -> Target:
    """A delivery whose properties and body are a stranger's: through pika with what we changed of it."""
    connection = object.__new__(RabbitConnection)

    def deliver(data: bytes) -> None:
        length = data[0] if data else 0
        props, body = data[1 : 1 + length], data[1 + length :]
        head = struct.pack(">HHQ", 60, 0, len(body)) + props
        connection._frame_buffer = (
            struct.pack(">BHL", spec.FRAME_HEADER, 1, len(head)) + head + bytes([spec.FRAME_END])
        )
        consumed, header = connection._read_frame()
        assert consumed == len(connection._frame_buffer)
        _assembled(header, body)

    return deliver


def _assembled(header: Any, body: bytes) -> None:
    assembler = Assembler()
    method = spec.Basic.Deliver("c", 1, False, "", "jobs.x")
    assembler.process(frame.Method(1, method))
    whole = assembler.process(header)
    if whole is None:
        whole = assembler.process(frame.Body(1, body))
    _, header, content = whole
    props = header.properties
    for redelivered in (False, True):
        assert 1 <= attempt_of(props.headers, redelivered) < 2**31
    letter = dead_letter("jobs.x", props, content, "jobs.x")
    assert isinstance(letter.reason, str)
    assert 1 <= letter.size < 2**31
    assert 0 <= letter.priority <= 9
    time.gmtime(letter.at)
    too_long(props)
    try:
        catalogue._read_record(content)
    except (ValueError, KeyError, TypeError, RecursionError):
        return


def redis_answers(stack: ExitStack) -> Target:
    """The bytes of an answer, or of anything else that listens there."""

    def read(data: bytes) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(data[:65536])
            theirs.close()
            connection: Any = make_wire("nowhere", 1, 1.0, login=(None, None), tls=None)
            connection._sock = ours
            connection._parser = _HiredisParser(socket_read_size=65536)
            connection._parser.on_connect(connection)
            try:
                with speaking_to("redis://nowhere"):
                    for _ in range(5):
                        connection.read_response()
            except (QueueRunnerError, ValueError):
                # whatever it says, it is an error of ours
                return
            finally:
                connection._parser.on_disconnect()

    return read


def redis_letters(stack: ExitStack) -> Target:
    """Fields that somebody wrote into our stream of dead letters."""

    def read(data: bytes) -> None:
        parts = data.split(b"\0")
        known = (b"body", b"size", b"priority", b"attempt", b"reason", b"at_ms")
        names = [known[part[0] % 6] if part else part for part in parts]
        fields = [
            each for name, part in zip(names, parts, strict=True) for each in (name, part[1:])
        ]
        letter = letter_of("jobs.x", b"7-0", fields)
        assert isinstance(letter.reason, str)
        assert min(letter.size, letter.priority, letter.attempt, letter.at) >= 0

    return read


def zeromq_server(stack: ExitStack) -> Target:
    """Frames of a client, served in a transaction of a real journal."""
    turns, server = 0, _fresh_server()
    stack.callback(lambda: server._close())

    def serve(data: bytes) -> None:
        nonlocal turns, server
        turns += 1
        if turns % _TURNS == 0:
            # what was published stays, as it should, and would fill the memory
            server._close()
            server = _fresh_server()
        server._turn([_frames(data)])

    return serve


def _fresh_server() -> BrokerServer:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        return BrokerServer([f"zmq+ipc://{folder}/broker"], folder / "journal")
    finally:
        # its files are open, and gone with it
        shutil.rmtree(folder)


def _frames(data: bytes) -> list[bytes]:
    """A client's name, the number of its request, and the request; or, rarely, other frames."""
    if data[:1] == b"\0":
        return data.split(b"\0")
    return [b"client", data[:2], data[2:]]


def zeromq_client(stack: ExitStack) -> Target:
    """Frames of what calls itself our server: a broadcast, an answer to a call or to a subscription."""
    context: zmq.Context[zmq.Socket[bytes]] = stack.enter_context(zmq.Context())
    listener = Listener(Line(context, "ipc:///dev/shm/nobody", None), Inbox(frozenset({"x:t"})))
    stack.callback(listener.close)

    def take_in(data: bytes) -> None:
        frames = [(b"", b"1", b"forget", b"\0")[data[0] % 4] if data else b"", data[1:]]
        try:
            read_answer(frames, b"1")
            listener.take_in(frames)
        except ProtocolError:
            # what the receiving loop expects, and drops
            return

    return take_in


def study_file(stack: ExitStack) -> Target:
    """A study file: loaded, checked and made into jobs, or refused with a few lines."""
    folder = _folder(stack)

    def load(data: bytes) -> None:
        (folder / "study.yaml").write_bytes(data)
        try:
            study = load_study(folder / "study.yaml")
            for job in islice(study.jobs(None), 3):
                assert wire.decode(wire.encode(job), type(job)) == job
        except QueueRunnerError as error:
            assert str(error)  # noqa: PT017 - any error of ours is right

    return load


def csv_file(stack: ExitStack) -> Target:
    folder = _folder(stack)

    def read(data: bytes) -> None:
        (folder / "p.csv").write_bytes(data)
        try:
            table = read_csv(folder / "p.csv")
        except StudyError:
            return
        assert all(len(row) == len(table["columns"]) for row in table["rows"])

    return read


def bundle(stack: ExitStack) -> Target:
    """An archive: unpacked into its folder, and nowhere else, or refused."""
    folder = _folder(stack)

    def unpack(data: bytes) -> None:
        try:
            read_bundle(io.BytesIO(data), folder / "into", limits=BundleLimits(100_000, 20))
        except tarfile.TarError:
            return
        finally:
            assert {path.name for path in folder.iterdir()} <= {"into"}
            assert not any(path.is_symlink() for path in folder.rglob("*"))
            shutil.rmtree(folder / "into", ignore_errors=True)

    return unpack


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))


@contextmanager
def made(name: str) -> Iterator[Target]:
    """The target of that name."""
    with ExitStack() as stack:
        yield decoder(wire._TYPES[name]) if name in wire._TYPES else _OTHERS[name](stack)


_OTHERS: dict[str, Callable[[ExitStack], Target]] = {
    "batch": lambda _: decoder(*wire._TYPES.values()),
    "envelope": envelope,
    "rabbitmq-delivery": rabbitmq,
    "redis-answer": redis_answers,
    "redis-letter": redis_letters,
    "zeromq-server": zeromq_server,
    "zeromq-client": zeromq_client,
    "study-file": study_file,
    "csv-file": csv_file,
    "bundle": bundle,
}
NAMES: Sequence[str] = (*wire._TYPES, *_OTHERS)
