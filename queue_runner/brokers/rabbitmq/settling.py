"""Ending claims: acknowledge, give back, dead-letter.

What AMQP cannot do to a delivery (return it later, or without counting, or elsewhere with a reason) is
done to a copy: published, confirmed, and only then is the delivery acknowledged. A crash in between
leaves two messages, never none.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from queue_runner.brokers.base import Dead, Delivery, Retry
from queue_runner.brokers.rabbitmq.envelope import Letter, check_delay
from queue_runner.brokers.rabbitmq.lost import Lost
from queue_runner.brokers.rabbitmq.post import Post
from queue_runner.brokers.rabbitmq.taps import Claim, State, Tap, Taps
from queue_runner.brokers.rabbitmq.together import together

#: A spare goes back as a copy if the server takes one within so many seconds; else it is returned as
#: it is, which counts an attempt, but does not keep it from others.
_COPY_S = 5.0


@dataclass(slots=True, eq=False)  # not frozen: that takes longer, for every delivery
class Order:
    """What is to become of one delivery: a `copy` elsewhere, and then `returned` or acknowledged."""

    delivery: Delivery
    copy: Letter | None = None
    returned: bool = False


def orders(
    post: Post, done: Sequence[Delivery], retry: Sequence[Retry], dead: Sequence[Dead]
) -> list[Order]:
    """Raises `ValueError` for a delay that cannot be."""
    return [
        *(Order(delivery) for delivery in done),
        *(_retry(post, each) for each in retry),
        *(Order(each.delivery, post.dead(each.delivery, each.reason)) for each in dead),
    ]


def _retry(post: Post, retry: Retry) -> Order:
    check_delay(retry.delay_s)
    if retry.counted and not retry.delay_s:
        return Order(retry.delivery, returned=True)
    attempt = retry.delivery.attempt + int(retry.counted)
    return Order(retry.delivery, post.again(retry.delivery, attempt, retry.delay_s))


async def settle(
    post: Post, taps: Taps, wanted: Sequence[Order], publish: Sequence[Letter]
) -> list[Delivery]:
    """Carry out the orders, after `publish` and all copies are confirmed.

    Returns the deliveries whose claims were lost.
    """
    by_claim: dict[Claim, Order] = {}
    for order in wanted:
        claim = taps.mine(order.delivery.receipt)
        if claim is not None:
            by_claim.setdefault(claim, order)
    with _ending(list(by_claim), State.HELD):
        copies = [order.copy for order in by_claim.values() if order.copy is not None]
        await post.send([*publish, *copies])
        done = [claim for claim, order in by_claim.items() if not order.returned]
        returned = [claim for claim, order in by_claim.items() if order.returned]
        settled = {by_claim[claim] for claim in await conclude(done, returned)}
    return [order.delivery for order in wanted if order not in settled]


async def conclude(done: Iterable[Claim], returned: Iterable[Claim] = ()) -> list[Claim]:
    """Acknowledge and return on every tap, and wait until the server has heard.

    Returns the claims that ended so; the others were lost with their channel.
    """
    by_tap: defaultdict[Tap, tuple[list[Claim], list[Claim]]] = defaultdict(lambda: ([], []))
    for claim in done:
        by_tap[claim.tap][0].append(claim)
    for claim in returned:
        by_tap[claim.tap][1].append(claim)
    ended = await together(_conclude(tap, *some) for tap, some in by_tap.items())
    return [claim for claims in ended for claim in claims]


async def _conclude(tap: Tap, done: Sequence[Claim], returned: Sequence[Claim]) -> list[Claim]:
    done = [claim for claim in done if claim.state is not State.OVER]
    returned = [claim for claim in returned if claim.state is not State.OVER]
    try:
        tap.acknowledge(done)
        for claim in returned:
            tap.give_back(claim)
        await tap.fence()
    except Lost:
        return []
    return [*done, *returned]


async def give_back_uncounted(post: Post, claims: Sequence[Claim]) -> None:
    """Return spares to their lanes; no attempt is counted."""
    alive = [claim for claim in claims if claim.state is State.SPARE]
    try:
        with _ending(alive, State.SPARE):
            async with asyncio.timeout(_COPY_S):
                await post.send([post.job(each.lane, each.body, each.attempt) for each in alive])
            await conclude(alive)
    except TimeoutError:
        for claim in alive:
            give_back_counted(claim)


def give_back_counted(claim: Claim) -> None:
    """Return a delivery to its lane, its attempt counted, unless it was lost with its channel."""
    with suppress(Lost):
        if claim.state is not State.OVER:
            claim.tap.give_back(claim)


@contextmanager
def _ending(claims: Sequence[Claim], before: State) -> Iterator[None]:
    """Keep others off these claims; those that have not ended when this fails are as before."""
    for claim in claims:
        claim.state = State.ENDING
    try:
        yield
    except BaseException:
        for claim in claims:
            if claim.state is State.ENDING:
                claim.state = before
        raise
