"""The leading server of several is killed in the midst of a sweep, and comes back."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from queue_runner.brokers import Broker, Delivery, Message, connect
from tests.faults.clusters import RabbitCluster, RedisGroup, rabbit_cluster, redis_group
from tests.faults.moments import Moments
from tests.faults.rig import SWEEP_S, WORKERS, Rig, rig
from tests.faults.sweep import Sweep
from tests.faults.verdict import Expected
from tests.integration.system import eventually

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

_KILLS = 2
#: The tests of one cluster run one after the other, in one process.
of_rabbitmq = pytest.mark.xdist_group("rabbitmq cluster")
of_redis = pytest.mark.xdist_group("redis group")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitCluster]:
    with rabbit_cluster(tmp_path_factory.mktemp("secrets")) as made:
        yield made


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisGroup]:
    with redis_group(tmp_path_factory.mktemp("secrets")) as made:
        yield made


def prefix() -> str:
    return f"faults-{uuid.uuid4().hex[:8]}"


def start(system: Rig) -> Sweep:
    """A sweep that is long enough for servers to come back in the midst of it."""
    system.start_collector()
    sweep = system.submit(jobs=400, shortest_s=0.5, longest_s=2.0)
    for name in WORKERS:
        system.start_worker(name)
    return sweep


@of_rabbitmq
def test_nothing_is_lost_with_the_leader_of_a_rabbitmq_cluster(
    cluster: RabbitCluster, tmp_path: Path, moments: Moments
) -> None:
    with rig(tmp_path, cluster, prefix()) as system:
        sweep = start(system)
        assert set(cluster.replicas(system.prefix).values()) == {3}
        for _ in moments.during([sweep], _KILLS):
            leader = cluster.leader(f"{system.prefix}:jobs.default:p0:s1")
            leader.kill()
            leader.start()
            cluster.await_in_step(system.prefix)
        system.judge(sweep, expected=Expected(lost=_KILLS))


@of_rabbitmq
def test_what_was_claimed_through_a_node_that_is_gone_is_given_out_again(
    cluster: RabbitCluster,
) -> None:
    one, other = cluster.nodes[1], cluster.nodes[0]
    mine = prefix()
    with connect(one.part(mine)) as holder, connect(other.part(mine)) as taker:
        taker.publish([Message("q", b"%d" % number) for number in range(4)])
        held = taken(holder, 4)
        assert holder.settle(done=held[:1]) == []
        one.kill()
        found = taken(taker, 3)
        assert sorted(each.body for each in found) == sorted(each.body for each in held[1:])
        assert taker.settle(done=found) == []
        one.start()
        cluster.await_in_step(mine)


def taken(broker: Broker, count: int) -> list[Delivery]:
    found: list[Delivery] = []

    def complete() -> bool:
        found.extend(broker.lease(["q"], count - len(found), 1.0))
        return len(found) == count

    eventually(complete, within_s=120)
    return found


@of_redis
def test_nothing_is_lost_with_a_redis_primary_where_replicas_are_waited_for(
    group: RedisGroup, tmp_path: Path, moments: Moments
) -> None:
    with rig(tmp_path, group, prefix(), options="&wait_replicas=1") as system:
        sweep = start(system)
        for _ in moments.during([sweep], _KILLS):
            replace_primary(group)
        # a claim may lapse while there is no primary, and again while it has no replica
        system.judge(sweep, expected=Expected(lost=2 * _KILLS))


@of_redis
def test_replicas_and_sentinels_speak_tls_with_each_other_and_with_clients(tmp_path: Path) -> None:
    with redis_group(tmp_path, tls=True) as group:
        url = group.part(prefix())
        with connect(f"{url}&wait_replicas=1") as broker:
            broker.publish([Message("q", b"hello")])
            replace_primary(group)
            (held,) = broker.lease(["q"], 1, 60.0)
            assert held.body == b"hello"
            assert broker.settle(done=[held], timeout_s=60.0) == []


@of_redis
def test_what_a_redis_primary_takes_with_it_is_sent_again(
    group: RedisGroup, tmp_path: Path, moments: Moments
) -> None:
    """Jobs that were published shortly before, and results and claims of a sweep that runs."""
    with rig(tmp_path, group, prefix()) as system, alone(group):
        kept = start(system)
        for _ in moments.during([kept], 1):
            new = group.replica
            new.cut()
            lost = system.submit("lost", jobs=200, shortest_s=0.05, longest_s=0.2)
            await_noted(system, lost)
            group.primary.kill()
            new.mend()
            group.await_promoted(new)
        eventually(lambda: system.finished(kept) == kept.jobs, within_s=SWEEP_S)
        # it has all been submitted, as far as anybody knows
        system.hand_over(lost)
        assert system.finished(lost) == 0
        # it refuses while a job of the other sweep runs again, whose end was lost
        retry = ("retry", lost.study, "--missing")
        eventually(lambda: system.call(*retry).returncode == 0, within_s=SWEEP_S)
        system.judge(kept, lost, expected=Expected(lost=2))


def await_noted(system: Rig, sweep: Sweep) -> None:
    """Returns when the collector knows of all jobs."""
    eventually(lambda: system.records.status(sweep.study).submitted == sweep.jobs)


def replace_primary(group: RedisGroup) -> None:
    """Kill it, and start it again when its replica has its place."""
    old, new = group.primary, group.replica
    old.kill()
    group.await_promoted(new)
    old.start()
    group.await_in_step()


@contextmanager
def alone(group: RedisGroup) -> Iterator[None]:
    """A primary takes messages whether or not it has a replica. All are back in step afterwards."""
    for each in group.servers:
        each.ask("config", "set", "min-replicas-to-write", "0")
    yield
    for each in group.servers:
        each.start()
        each.ask("config", "set", "min-replicas-to-write", "1")
    group.await_in_step()
