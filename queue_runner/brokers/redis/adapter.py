"""The broker contract, each method a script or two. The page docs/decisions/redis-delivery.md says why so."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from queue_runner.brokers.base import (
    MAX_BODY_BYTES,
    Broker,
    Dead,
    DeadLetter,
    Delivery,
    Depth,
    Message,
    Retry,
    ServerInfo,
    Subscription,
)
from queue_runner.brokers.checks import check_lease, check_messages, check_name
from queue_runner.brokers.redis import scripts
from queue_runner.brokers.redis.address import parse
from queue_runner.brokers.redis.arguments import (
    CHUNK,
    End,
    Settlement,
    by_bytes,
    by_count,
    claim_of,
    deliveries_of,
    letter_of,
    milliseconds,
    published,
    settlement,
)
from queue_runner.brokers.redis.link import Command, Link
from queue_runner.brokers.redis.server import INFO, describe, parse_info
from queue_runner.brokers.redis.subscription import RedisSubscription
from queue_runner.errors import BrokerRefused, TooBig

#: A waiting lease looks again after so many seconds though nobody woke it: a claim that was made
#: meanwhile may have lapsed, and telling every waiting consumer of every claim would cost more.
_LOOK_S = 1.0
#: As far as Lua counts.
_NO_LIMIT = 2**53
#: Bytes of bodies after which a lease claims no more: ANSWER_BYTES in lease.lua.
_ANSWER_BYTES = 4 * 1024 * 1024
#: Dead letters that are asked for at once: each may be as large as a message may be.
_LETTERS = 10
_LETTER_ID = re.compile(r"[0-9]{1,18}")


def open_redis(url: str) -> RedisBroker:
    """`redis(s)://[user:password@]host[:port][/db]`, connected to when first used.

    Where Sentinels tell which server is the primary:
    `redis(s)+sentinel://[user:password@]sentinel[:port],sentinel[:port]/service[/db]`, and their own
    `sentinel_username` and `sentinel_password_file`.
    Options: `prefix`, `wait_replicas=N` (what is published or settled is confirmed when N replicas have
    it), `allow_eviction=1`, and for TLS `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` (paths of PEM files).
    Raises `ValueError`, and `BrokerRefused` for a password file that cannot be read.
    """
    return RedisBroker(Link(parse(url)))


@dataclass(frozen=True, slots=True)
class _Most:
    """What a lease may take: messages, sizes together, size of one."""

    count: int
    room: int
    size: int

    def left(self, found: Sequence[Delivery]) -> int:
        """The size up to which everything was taken that was ready; 0 where some of it may be left."""
        if len(found) == self.count or sum(len(each.body) for each in found) >= _ANSWER_BYTES:
            return 0
        taken = 0 if self.room == _NO_LIMIT else sum(each.size for each in found)
        return min(self.room - taken, self.size)


@dataclass(frozen=True, slots=True)
class _Drained:
    """When `seen` was the last wake-up, nothing was ready in these queues of a size up to `fit`; and until
    that monotonic second nothing becomes so without a wake-up, as far as is known.
    """

    queues: Sequence[str]
    fit: int
    seen: bytes
    until: float

    def tells(self, queues: Sequence[str], most: _Most) -> bool:
        """Whether such a lease finds nothing before the next wake-up."""
        fits = min(most.room, most.size) <= self.fit
        return fits and queues == self.queues and time.monotonic() < self.until


class RedisBroker(Broker):
    def __init__(self, link: Link) -> None:
        self._link = link
        self._drained: _Drained | None = None
        self._subscriptions: set[RedisSubscription] = set()
        self._lock = threading.Lock()

    def publish(self, messages: Sequence[Message], timeout_s: float = 30.0) -> None:
        check_messages(messages)
        self._link.check_open()
        end = time.monotonic() + timeout_s
        for chunk in by_bytes(messages):
            self._publish(chunk, end)

    def _publish(self, chunk: Sequence[Message], end: float) -> None:
        self._link.run(end, scripts.PUBLISH, len(chunk), *published(chunk))

    def lease(
        self,
        queues: Sequence[str],
        limit: int,
        wait_s: float,
        *,
        lease_s: float = 60.0,
        room: int | None = None,
        max_size: int | None = None,
        timeout_s: float = 30.0,
    ) -> list[Delivery]:
        check_lease(queues, limit, lease_s)
        # a queue named twice would be waited for twice, which the server refuses
        queues = list(dict.fromkeys(queues))
        most = _Most(min(limit, CHUNK), _or_no_limit(room), _or_no_limit(max_size))
        # a claim is this call's alone even where ids come again, after a failover that lost some
        token = secrets.token_hex(4)
        wanted = (most.count, milliseconds(lease_s), most.room, most.size, token, *queues)
        self._link.check_open()
        wait_end = time.monotonic() + max(wait_s, 0.0)
        end = wait_end + timeout_s
        drained, answer = self._drained, None
        if wait_s > 0 and drained is not None and drained.tells(queues, most):
            # who takes one message after the other need not ask whether there is one before waiting for it
            answer = self._await_news(drained, wait_end, end, wanted)
        while True:
            rows, seen, next_ms = answer or self._link.run(end, scripts.LEASE, *wanted)
            found = [each for row in rows for each in deliveries_of(queues, row)]
            next_s = min(next_ms / 1000, _LOOK_S) if next_ms >= 0 else _LOOK_S
            drained = _Drained(queues, most.left(found), seen, time.monotonic() + next_s)
            self._drained = drained
            if found or time.monotonic() >= wait_end:
                return found
            answer = self._await_news(drained, wait_end, end, wanted)

    def _await_news(
        self, drained: _Drained, wait_end: float, end: float, wanted: Command
    ) -> Any | None:
        """What there is to lease when it is over: the server looks at once, and need not be asked."""
        wait_s = max(0.0, min(wait_end, drained.until) - time.monotonic())
        streams = [f"{self._link.root}:w:{queue}" for queue in drained.queues]
        ids = [b"%s-0" % drained.seen] * len(streams)
        # 0 would block for ever
        block_ms = max(1, milliseconds(wait_s))
        block = ("COUNT", 1, "BLOCK", block_ms, "STREAMS", *streams, *ids)
        return self._link.run_woken(end, wait_s, ("XREAD", *block), scripts.LEASE, *wanted)

    def renew(
        self, deliveries: Sequence[Delivery], lease_s: float = 60.0, timeout_s: float = 30.0
    ) -> list[Delivery]:
        self._link.check_open()
        end = time.monotonic() + timeout_s
        lost: list[Delivery] = []
        for chunk in by_count(deliveries):
            claims = [part for delivery in chunk for part in claim_of(delivery)]
            places = self._link.run(end, scripts.RENEW, milliseconds(lease_s), *claims)
            lost += [chunk[place] for place in places]
        return lost

    def settle(
        self,
        done: Sequence[Delivery] = (),
        retry: Sequence[Retry] = (),
        dead: Sequence[Dead] = (),
        publish: Sequence[Message] = (),
        timeout_s: float = 30.0,
    ) -> list[Delivery]:
        check_messages(publish)
        self._link.check_open()
        end = time.monotonic() + timeout_s
        ends: list[End] = [*done, *retry, *dead]
        parts = [settlement(some) for some in by_count(ends)]
        *first, together = list(by_bytes(publish)) or [[]]
        for chunk in first:
            self._publish(chunk, end)
        lost: list[Delivery] = []
        for part in parts or ([settlement([])] if together else []):
            lost += self._settle(part, together, end)
            together = []
        return lost

    def _settle(self, part: Settlement, publish: Sequence[Message], end: float) -> list[Delivery]:
        counts = (len(publish), *part.counts)
        places = self._link.run(end, scripts.SETTLE, *counts, *published(publish), *part.arguments)
        return [part.claims[place] for place in places]

    def broadcast(self, topic: str, body: bytes, timeout_s: float = 10.0) -> None:
        check_name(topic, "topic")
        if len(body) > MAX_BODY_BYTES:
            raise TooBig(f"a broadcast of {len(body)} bytes; the limit is {MAX_BODY_BYTES}")
        self._link.call(time.monotonic() + timeout_s, "PUBLISH", self._channel(topic), body)

    def _channel(self, topic: str) -> str:
        return f"{self._link.root}:{check_name(topic, 'topic')}"

    def subscribe(self, topics: Sequence[str], timeout_s: float = 30.0) -> Subscription:
        channels = [self._channel(topic) for topic in dict.fromkeys(topics)]
        if not channels:
            raise ValueError("a subscription names at least one topic")
        subscription = RedisSubscription(self._link, channels, self._subscriptions.discard)
        subscription.start(time.monotonic() + timeout_s)
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription

    def depth(self, queue: str, timeout_s: float = 30.0) -> Depth:
        end = time.monotonic() + timeout_s
        return Depth(*self._link.run(end, scripts.DEPTH, check_name(queue)))

    def dead_letters(
        self, queue: str, limit: int = 100, timeout_s: float = 30.0
    ) -> list[DeadLetter]:
        end = time.monotonic() + timeout_s
        stream = f"{self._link.root}:dead:{check_name(queue)}"
        letters: list[DeadLetter] = []
        start = b"-"
        while len(letters) < limit:
            count = min(_LETTERS, limit - len(letters))
            rows = self._link.call(end, "XRANGE", stream, start, "+", "COUNT", count)
            letters += [letter_of(queue, *row) for row in rows]
            if len(rows) < count:
                break
            start = b"(" + rows[-1][0]
        return letters

    def replay(self, queue: str, ids: Sequence[str] | None = None, timeout_s: float = 30.0) -> int:
        check_name(queue)
        end = time.monotonic() + timeout_s
        if ids is None:
            return self._replay_all(queue, end)
        valid = [one for one in dict.fromkeys(ids) if _LETTER_ID.fullmatch(one)]
        self._link.check_open()
        return sum(
            self._link.run(end, scripts.REPLAY, queue, "", *chunk)[0] for chunk in by_count(valid)
        )

    def _replay_all(self, queue: str, end: float) -> int:
        total = 0
        last: bytes | str = ""
        while True:
            count, last = self._link.run(end, scripts.REPLAY, queue, last)
            if count == 0:
                return total
            total += count

    def purge(self, queue: str, timeout_s: float = 30.0) -> int:
        check_name(queue)
        end = time.monotonic() + timeout_s
        total = 0
        while count := self._link.run(end, scripts.PURGE, queue):
            total += count
        return total

    def server(self, timeout_s: float = 10.0) -> ServerInfo:
        end = time.monotonic() + timeout_s
        info = parse_info(self._link.call(end, *INFO))
        return describe(info, self._fsync(end), self._link.address, self._link.doubts(end))

    def _fsync(self, end: float) -> str | None:
        try:
            answer = self._link.call(end, "CONFIG", "GET", "appendfsync")
        except BrokerRefused:  # managed servers and careful operators keep CONFIG to themselves
            return None
        return answer[1].decode() if answer else None

    def close(self) -> None:
        self._link.close()
        with self._lock:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()


def _or_no_limit(most: int | None) -> int:
    return _NO_LIMIT if most is None else most
