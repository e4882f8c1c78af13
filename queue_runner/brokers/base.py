"""The broker contract: what every adapter promises, in our words.

No exchange, channel, tag or stream id crosses this boundary. Messages are bytes; what they mean is
the caller's business. `queue_runner.testing.contract` holds the test suite that runs against every
adapter; an adapter from outside this package runs the same one.

Delivery is *at least once*: whatever is published is leased until somebody settles it, and may be
leased twice when a lease lapses or a connection breaks at a bad moment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

#: A message's body may not be longer; `publish` raises `TooBig`. RabbitMQ 3.10 takes 128 MiB and
#: advises far less; bulk data belongs in the store.
MAX_BODY_BYTES = 16 * 1024 * 1024

#: Priorities go from 0 to 9, higher first, as in AMQP and JMS.
MAX_PRIORITY = 9


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish.

    queue: any name of 1 to 100 characters out of `A-Za-z0-9._-`.
    size: what it takes of a consumer's room, in the caller's unit (for jobs: cores), >= 1.
    priority: 0 to 9, higher first.
    delay_s: not to be leased before so many seconds have passed.
    attempt: the number its first delivery will carry, from 1; higher when a job is sent again by hand.
    """

    queue: str
    body: bytes
    size: int = 1
    priority: int = 0
    delay_s: float = 0.0
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Delivery:
    """A leased message. `receipt` is the adapter's own; nobody else looks into it."""

    queue: str
    body: bytes
    size: int
    priority: int
    attempt: int
    receipt: object = field(repr=False)


@dataclass(frozen=True, slots=True)
class Retry:
    """Give a delivery back. `counted=False` leaves its attempt number as it is (a drain, a surplus)."""

    delivery: Delivery
    delay_s: float = 0.0
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Dead:
    """Take a delivery out of its queue for good and keep it, with the reason, for an operator."""

    delivery: Delivery
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the dead-letter queue of `queue`. `id` is opaque and stable until it is replayed."""

    id: str
    queue: str
    body: bytes
    size: int
    priority: int
    attempt: int
    reason: str
    at: float  # unix time, seconds


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages a queue holds. None: this server cannot tell."""

    ready: int
    delayed: int | None
    leased: int | None
    dead: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server can tell or do; the contract suite checks both answers."""

    counts_leased: bool = True
    counts_delayed: bool = True


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """For `doctor`: `warnings` name a setting, what it costs, and the exact fix."""

    product: str
    version: str
    warnings: tuple[str, ...] = ()


class Subscription(ABC):
    """What `Broker.subscribe` returns; a context manager. One thread reads from it."""

    @abstractmethod
    def get(self, timeout_s: float) -> tuple[str, bytes] | None:
        """The next (topic, body), or None when none came within `timeout_s` seconds."""

    @abstractmethod
    def close(self) -> None:
        """Stop receiving. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Broker(ABC):
    """A connection to one broker server. All methods may be called from any thread.

    An adapter is made with a URL and connects lazily or at once; it reconnects by itself with back-off
    and jitter. A method raises `BrokerUnavailable` only when its deadline has passed, and
    `BrokerRefused` at once when the server answered no (credentials, rights, a setting that loses data).
    After `close` every method raises `BrokerUnavailable`.
    """

    capabilities: Capabilities = Capabilities()

    @abstractmethod
    def publish(self, messages: Sequence[Message], timeout_s: float = 30.0) -> None:
        """Store messages durably: when it returns, the server has confirmed every one of them.

        The order within one queue, size and priority is kept. When it raises, some of them may have
        been stored; publishing all of them again is right, as consumers accept duplicates.

        Raises `TooBig` or `ValueError` before anything is sent.
        """

    @abstractmethod
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
        """Claim up to `limit` messages; an empty list if none came within `wait_s` seconds.

        The sizes of all returned add up to at most `room`, and none is larger than `max_size` (nor
        than `room`): a message that does not fit stays in its queue for somebody else. Higher
        priorities come first, then earlier names in `queues`, then larger sizes, then older messages.
        Returns as soon as there is anything; it does not wait for `limit` to be reached.

        A claim lasts `lease_s` seconds by the *server's* clock (where the server has no such notion,
        by the connection's life and this process's monotonic clock) unless renewed. Then the message
        is leased again, to anyone, with `attempt` one higher, and the old receipt is void.

        `timeout_s` bounds how long an unreachable server is waited for, on top of `wait_s`.
        """

    @abstractmethod
    def renew(
        self, deliveries: Sequence[Delivery], lease_s: float = 60.0, timeout_s: float = 30.0
    ) -> list[Delivery]:
        """Extend claims to `lease_s` from now; returns those that were lost (lapsed, settled, unknown)."""

    @abstractmethod
    def settle(
        self,
        done: Sequence[Delivery] = (),
        retry: Sequence[Retry] = (),
        dead: Sequence[Dead] = (),
        publish: Sequence[Message] = (),
        timeout_s: float = 30.0,
    ) -> list[Delivery]:
        """End claims, after `publish` has been confirmed by the server.

        Returns the deliveries whose claim was lost before: nothing is done to those, and it is no
        error, for another consumer has them. What `publish` holds is stored in any case. After
        `BrokerUnavailable` the same call may be made again: receipts that were settled in between are
        then returned as lost.
        """

    @abstractmethod
    def broadcast(self, topic: str, body: bytes, timeout_s: float = 10.0) -> None:
        """Tell everyone who is subscribed right now. Fire and forget."""

    @abstractmethod
    def subscribe(self, topics: Sequence[str], timeout_s: float = 30.0) -> Subscription:
        """Hear what is broadcast on these topics from the moment this returns.

        Survives reconnects; what is broadcast while disconnected is missed.
        """

    @abstractmethod
    def depth(self, queue: str, timeout_s: float = 30.0) -> Depth:
        """Count what a queue holds; an unknown queue is an empty one."""

    @abstractmethod
    def dead_letters(
        self, queue: str, limit: int = 100, timeout_s: float = 30.0
    ) -> list[DeadLetter]:
        """Look at dead letters of a queue, oldest first, without taking them."""

    @abstractmethod
    def replay(self, queue: str, ids: Sequence[str] | None = None, timeout_s: float = 30.0) -> int:
        """Put dead letters (all, or those with these ids) back into their queue; returns how many.

        Each is published before it is removed. Its attempt number starts from 1 again.
        """

    @abstractmethod
    def purge(self, queue: str, timeout_s: float = 30.0) -> int:
        """Remove what is ready or delayed in a queue, not what is leased or dead; returns how many."""

    @abstractmethod
    def server(self, timeout_s: float = 10.0) -> ServerInfo:
        """Name, version and dangerous settings of the server. Reaching it is the health check."""

    @abstractmethod
    def close(self) -> None:
        """Give up the connection. Idempotent.

        What is still leased here comes back to others, at the latest when its lease lapses, and the
        attempt counts. Calls that wait in other threads end with `BrokerUnavailable`, those for a server
        that is away as well: a daemon that is to end need not wait for it.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
