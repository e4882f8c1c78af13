"""Drawing messages from the lanes: what a `lease` call asks for, and no more.

RabbitMQ pushes; we pull. A consumer takes only while a `lease` call lasts, with a prefetch of what the
call can still take. The server is first asked how much each lane holds, and the call's limit and room
are allotted in the order of the contract; when all are empty, a consumer on each waits for the first
message, which is handed out at once: what came with it is the next call's. Where calls follow each other at
once, those consumers stay for the next (`consumers.Standing`), which need not ask then.
See docs/decisions/rabbitmq-delivery.md.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from queue_runner.brokers.rabbitmq.bell import Bell
from queue_runner.brokers.rabbitmq.catalogue import Catalogue
from queue_runner.brokers.rabbitmq.consumers import MOST, Consumer, Standing, shut
from queue_runner.brokers.rabbitmq.io_thread import IoThread
from queue_runner.brokers.rabbitmq.spares import Spares
from queue_runner.brokers.rabbitmq.taps import Claim, State, Tap, Taps
from queue_runner.brokers.rabbitmq.together import together
from queue_runner.brokers.rabbitmq.topology import Lane
from queue_runner.brokers.rabbitmq.want import Want

#: What the server has counted comes within so many seconds of the message before it, unless another
#: consumer got it.
_QUIET_S = 0.1


#: What the messages of one call may add up to, more or less, and how many the first takes.
_MANY_BYTES = 8 * 1024 * 1024
_FIRST = 128
#: Of messages that are larger no others are let come meanwhile.
_SMALL_BYTES = 256 * 1024
#: So many messages have a consumer each, which stays until its message is settled. They may be long jobs,
#: and all else that one consumer brought is left behind by it when the first of it is settled: see `Tap`.
_EACH_ITS_OWN = 64


class _Call:
    """One `lease` call. `expired`: it waits no longer, and takes what it can have at once.

    standing: consumers that are there for it already. comes_back: it followed at once on another.
    """

    def __init__(self, want: Want, comes_back: bool) -> None:
        self.want = want
        self.comes_back = comes_back
        self.expired = False
        self.standing: Sequence[Consumer] = ()

    def watched(self) -> set[Lane]:
        """Lanes that have sent all that they hold, and send what comes next by themselves."""
        return {each.tap.lane for each in self.standing if each.free}


class _Draw:
    """What arrives from a few consumers; once it is over, what still comes is spare."""

    def __init__(self, spares: Spares, bell: Bell) -> None:
        self.claims: list[Claim] = []
        self._spares = spares
        self._bell = bell
        self._over = False

    def take(self, claim: Claim) -> None:
        if self._over:
            self._spares.put(claim)
        else:
            self.claims.append(claim)
            self._bell.ring()

    async def fill(self, count: int) -> None:
        """Wait for so many, or until no more come."""
        while (had := len(self.claims)) < count:
            try:
                async with asyncio.timeout(_QUIET_S):
                    await self._bell.wait_for(lambda had=had: len(self.claims) > had)  # type: ignore[misc]
            except TimeoutError:
                return

    def finish(self, want: Want) -> list[Claim]:
        """Those that fit, in order."""
        self._over = True
        by_lane: defaultdict[Lane, list[Claim]] = defaultdict(list)
        for claim in self.claims:
            if claim.state is State.SPARE:
                by_lane[claim.lane].append(claim)
        lanes = sorted(by_lane, key=want.order)
        shares = want.allot(lanes, {lane: len(claims) for lane, claims in by_lane.items()})
        kept: list[Claim] = []
        for lane in lanes:
            share = shares.get(lane, 0)
            kept += by_lane[lane][:share]
            for claim in by_lane[lane][share:]:
                self._spares.put(claim)
        return kept


class Leasing:
    """`bell` is rung by whatever may end a wait: a delivery, a spare, a new lane, a lost channel."""

    def __init__(
        self, io: IoThread, catalogue: Catalogue, taps: Taps, spares: Spares, bell: Bell
    ) -> None:
        self._io = io
        self._catalogue = catalogue
        self._taps = taps
        self._spares = spares
        self._bell = bell
        self._standing = Standing(io, spares.empty)
        self._most = _FIRST

    async def lease(self, want: Want, wait_s: float) -> list[Claim]:
        """Claims for `want`; empty if there was nothing for `wait_s`. Raises `Lost`.

        When it is cancelled, what it had drawn becomes spare.
        """
        want = replace(want, limit=min(want.limit, self._most))
        call = _Call(want, self._standing.comes_back())
        timer = asyncio.get_running_loop().call_later(wait_s, self._expire, call)
        work = self._io.spawn(self._serve(call))
        try:
            return self._measured(await asyncio.shield(work))
        except asyncio.CancelledError:
            work.add_done_callback(self._spare_all)
            self._expire(call)
            raise
        finally:
            timer.cancel()

    def _measured(self, claims: list[Claim]) -> list[Claim]:
        """The server counts messages and not their bytes; so the next call takes more, or fewer."""
        size = sum(len(claim.body) for claim in claims)
        if size > _MANY_BYTES:
            self._most = max(1, len(claims) * _MANY_BYTES // size)
        elif len(claims) == self._most:
            self._most *= 2
        return claims

    def _expire(self, call: _Call) -> None:
        call.expired = True
        self._bell.ring()

    def _spare_all(self, work: asyncio.Task[list[Claim]]) -> None:
        if not work.cancelled() and work.exception() is None:
            for claim in work.result():
                self._spares.put(claim)

    async def rest(self) -> None:
        """Have what came here, and no call has taken, back in its lane."""
        await self._standing.end()
        await self._spares.empty()

    async def _serve(self, call: _Call) -> list[Claim]:
        try:
            while True:
                edition = self._catalogue.edition
                claims = await self._turn(call, edition)
                if claims:
                    return claims
                if call.expired:
                    await self._catalogue.refresh()
                    if self._catalogue.edition == edition:
                        return []
        finally:
            await self._shut_standing(call)

    async def _turn(self, call: _Call, edition: int) -> list[Claim]:
        """What there is, or what comes first. Nothing where the wait ends, or there is news."""
        lanes = self._lanes(call.want)
        call.standing = await self._standing.take(call.want, lanes, call.standing)
        known = self._known(call, lanes)
        if any(known.values()):
            return self._hand_out(call, known)
        if known and len(known) == len(lanes):
            return await self._watch(call, lanes, (), edition)
        await self._close_for(call)
        # what becomes spare from now on may have been counted as ready
        spare = {lane: self._spares.count(lane) for lane in lanes}
        # most often there is no new lane, and both answers come in the time of one
        taps, ready = await self._look(lanes)
        if self._catalogue.edition != edition:
            return []
        counts = zip(lanes, ready, strict=True)
        claims = await self._take(call, taps, {lane: n + spare[lane] for lane, n in counts})
        if not claims and not call.expired:
            claims = await self._watch(call, lanes, taps, edition)
        return claims

    def _known(self, call: _Call, lanes: Sequence[Lane]) -> dict[Lane, int]:
        """How much there is of each lane, from the first on, as long as that is known without asking: where a
        consumer could have got more. Of the lane after those, what is here is its first.
        """
        if call.expired or not call.standing:
            return {}
        known, watched = dict[Lane, int](), call.watched()
        for lane in lanes:
            count = self._spares.count(lane)
            if lane in watched or count:
                known[lane] = count
            if lane not in watched:
                break
        return known

    def _hand_out(self, call: _Call, known: Mapping[Lane, int]) -> list[Claim]:
        """Spares. `known` is in the order of the lanes."""
        draw = self._draw(call)
        for claim in self._spares.take(call.want.allot(known, known)):
            draw.take(claim)
        claims = draw.finish(call.want)
        self._leave(call, claims)
        return claims

    async def _close_for(self, call: _Call) -> None:
        """Before the lanes are asked: what is on its way to a consumer is spare when that is closed."""
        if call.expired:
            await self._shut_standing(call)
        elif call.want.room is not None:
            # what it has no room for it must not get
            free = [each for each in call.standing if each.free]
            call.standing = [each for each in call.standing if not each.free]
            await shut(free)

    async def _shut_standing(self, call: _Call) -> None:
        consumers, call.standing = call.standing, ()
        await shut(consumers)

    async def _look(self, lanes: Sequence[Lane]) -> tuple[Sequence[Tap], Sequence[int]]:
        """How much each holds, when at least all lanes are known that there were when this was called."""
        knowing = self._io.spawn(self._catalogue.refresh())
        try:
            taps = await together(self._taps.on(lane) for lane in lanes)
            ready = await together(tap.ready() for tap in taps)
        finally:
            await knowing
        return taps, ready

    def _lanes(self, want: Want) -> list[Lane]:
        known = [lane for queue in want.queues for lane in self._catalogue.lanes[queue]]
        return sorted(filter(want.fits, known), key=want.order)

    async def _take(
        self, call: _Call, taps: Sequence[Tap], there: Mapping[Lane, int]
    ) -> list[Claim]:
        """Take what is there now."""
        draw = self._draw(call)
        shares = call.want.allot([tap.lane for tap in taps], there)
        expected = sum(shares.values())
        for claim in self._spares.take(shares):
            draw.take(claim)
            shares[claim.lane] -= 1
        consumers = await self._open(taps, shares, draw)
        await draw.fill(expected)
        few = call.want.room is None and len(draw.claims) <= MOST
        if few and (claims := draw.finish(call.want)):
            self._leave(call, claims, consumers)
            return claims
        full = not any(each.free for each in consumers)
        if full and (claims := draw.finish(call.want)):
            # nothing more comes to them before some of this is settled
            self._standing.close(consumers)
            return claims
        await shut(consumers)
        return draw.finish(call.want) or _none(consumers)

    async def _watch(
        self, call: _Call, lanes: Sequence[Lane], taps: Sequence[Tap], edition: int
    ) -> list[Claim]:
        """Wait for the first that comes, or for news: of further lanes, or of spares.

        taps: of the lanes that may need a consumer; none where each is known to have one.
        """
        draw = self._draw(call)
        # one each: a consumer that has all it may have gets nothing more while it is being closed, and
        # what a server sends to a closed consumer it counts as an attempt
        shares = dict.fromkeys({tap.lane for tap in taps} - call.watched(), 1)
        call.standing = consumers = [*call.standing, *await self._open(taps, shares, draw)]
        await self._bell.wait_for(
            lambda: (
                bool(draw.claims)
                or call.expired
                or self._catalogue.edition != edition
                or self._spares.any(lanes)
                or any(each.tap.gone or each.trouble for each in consumers)
            )
        )
        if draw.claims and (claims := draw.finish(call.want)):
            self._leave(call, claims)
            return claims
        if call.expired:
            await self._shut_standing(call)
        return draw.finish(call.want) or _none(consumers)

    def _draw(self, call: _Call) -> _Draw:
        draw = _Draw(self._spares, self._bell)
        for each in call.standing:
            each.turn(draw.take)
        return draw

    def _leave(self, call: _Call, claims: Sequence[Claim], opened: Sequence[Consumer] = ()) -> None:
        """To the next call, or closed: nobody waits for that, and what still comes to them is spare."""
        consumers, call.standing = [*call.standing, *opened], ()
        # each of them may bring one more, which would all be in memory at a time
        small = sum(len(claim.body) for claim in claims) <= _SMALL_BYTES
        self._standing.leave(consumers, open_=call.comes_back and small)

    async def _open(
        self, taps: Sequence[Tap], shares: Mapping[Lane, int], draw: _Draw
    ) -> list[Consumer]:
        parts = [(Consumer(tap), part) for tap in taps for part in _parts(shares.get(tap.lane, 0))]
        await together(consumer.open(part, draw.take) for consumer, part in parts)
        return [consumer for consumer, _ in parts]


def _parts(share: int) -> Sequence[int]:
    """The prefetch of each consumer for so many messages."""
    return [1] * share if share <= _EACH_ITS_OWN else [share]


def _none(consumers: Sequence[Consumer]) -> list[Claim]:
    """Nothing came. Raises the trouble that there was with one."""
    for each in consumers:
        if each.trouble is not None:
            raise each.trouble
    return []
