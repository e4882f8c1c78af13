"""What the ZeroMQ server knows of its messages without a look at the journal."""

from __future__ import annotations

import random

from queue_runner.brokers.zeromq.index import Class, Index, Lease, spans

KIND = Class("x:q", 0, 1)


def _leased(index: Index, numbers: list[int], token: int, expires: float) -> None:
    index.lease(numbers, Lease(token, KIND, 60.0, expires))


def _taken(index: Index, limit: int) -> list[int]:
    return [n for _, numbers in index.take(["x:q"], limit, None, None) for n in numbers]


def test_what_came_back_is_taken_before_what_is_newer() -> None:
    index, dice, ready, last = Index(), random.Random(5), set[int](), 0
    away: list[int] = []
    for _ in range(2000):
        if dice.random() < 0.4:
            numbers = range(last + 1 + dice.randrange(3), last + 4 + dice.randrange(5))
            last = numbers[-1]
            index.append(numbers, KIND)
            ready.update(numbers)
        elif away and dice.random() < 0.5:
            index.add(number := away.pop(dice.randrange(len(away))), KIND)
            ready.add(number)
        else:
            limit = dice.randrange(1, 8)
            taken = _taken(index, limit)
            assert taken == sorted(ready)[:limit]
            ready.difference_update(taken)
            away += taken
        assert index.counts("x:q") == (len(ready), 0, 0)


def test_who_is_renewed_alone_outlasts_those_that_were_leased_with_it() -> None:
    index = Index()
    _leased(index, [1, 2, 3], token=7, expires=10.0)
    index.renew([2, 2], 20.0)
    assert index.pop_lapsed(10.0) == [1, 3]
    assert index.pop_lapsed(19.0) == []
    assert index.pop_lapsed(20.0) == [2]
    assert index.counts("x:q") == (3, 0, 0)


def test_who_is_renewed_for_less_lapses_before_those_that_were_leased_with_it() -> None:
    index = Index()
    _leased(index, [1, 2, 3], token=7, expires=10.0)
    index.renew([2], 5.0)
    assert index.pop_lapsed(5.0) == [2]
    assert index.pop_lapsed(10.0) == [1, 3]


def test_the_last_one_of_a_lease_is_renewed_when_the_others_are_done() -> None:
    index = Index()
    _leased(index, [1, 2, 3], token=7, expires=10.0)
    index.end([(1, 7), (3, 7)], [])
    index.renew([2], 20.0)
    assert index.pop_lapsed(10.0) == []
    assert index.next_event() == 20.0
    assert index.pop_lapsed(20.0) == [2]


def test_a_lapsed_message_that_is_leased_again_does_not_lapse_with_its_first_lease() -> None:
    index = Index()
    _leased(index, [1, 2], token=7, expires=10.0)
    index.renew([1], 5.0)
    assert index.pop_lapsed(5.0) == [1]
    _leased(index, _taken(index, 1), token=8, expires=30.0)
    assert index.pop_lapsed(10.0) == [2]
    assert 1 in index.leases


def test_receipts_of_others_and_second_ones_are_lost() -> None:
    index, lost = Index(), list[int]()
    _leased(index, [1, 2], token=7, expires=10.0)
    ended = index.end([(1, 7), (1, 7), (2, 8), (9, 7)], lost)
    assert [receipt[0] for receipt, _ in ended] == [1]
    assert lost == [1, 2, 3]
    assert index.counts("x:q") == (0, 0, 1)


def test_spans() -> None:
    assert spans([]) == []
    assert spans([4, 5, 6, 8, 2, 3]) == [range(4, 7), range(8, 9), range(2, 4)]
