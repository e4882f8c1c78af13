"""Who is measured: every contender by name, what it can do, what it needs, what it does not promise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

QUEUE = ("noop", "true", "latency")
WORK = ("sweep", "mpi")
#: Measured once, after all rounds: it takes as long as all of them.
SCALE = "scale"
WORKLOADS = (*QUEUE, *WORK, "container", "startup", SCALE)
BROKERS = ("redis", "rabbitmq", "zeromq")
OURS = "queue-runner"

#: Group of what is no queue, but the most that could be had; measured with the workload that it limits.
LIMIT = "limit"
#: Remarks that the tables show; what is compared with whom depends on them.
ACKS_BEFORE = "acknowledges before the work"
IN_MEMORY = "keeps jobs in memory only"
STUDY_EACH = "each job a study of its own"
CLASSIC = "durable classic queue: it cannot ask for a quorum queue"


@dataclass(frozen=True, slots=True)
class Entry:
    """where: MODULE:CLASS below `measure`. servers: those it is given, the broker first.

    peer: measured under the peers' virtual environment. programs: it needs on PATH.
    """

    name: str
    where: str
    workloads: Sequence[str]
    servers: Sequence[str] = ()
    peer: bool = False
    programs: Sequence[str] = ()
    remarks: Sequence[str] = ()

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]

    @property
    def broker(self) -> str:
        return self.name.partition("/")[2]


def _ours(broker: str) -> Sequence[Entry]:
    """Its ZeroMQ server is part of it."""
    servers = [broker] if broker != "zeromq" else []
    peer = "peers.queue_runner:QueueRunnerPeer"
    return (
        Entry(f"{OURS}/{broker}", peer, [*QUEUE, *WORK], servers),
        Entry(f"{OURS}/{broker}", "scale:Scale", [SCALE], servers),
        Entry(
            f"{OURS}/{broker}-study", "peers.queue_runner:StudyEachPeer", ["latency"], servers,
            remarks=[STUDY_EACH],
        ),
    )  # fmt: skip


def _peer(
    name: str,
    where: str,
    *servers: str,
    remarks: Sequence[str] = (),
    workloads: Sequence[str] = QUEUE,
) -> Entry:
    return Entry(name, f"peers.{where}", workloads, servers, peer=True, remarks=remarks)


def _limit(name: str, where: str, workload: str, *servers: str) -> Entry:
    return Entry(f"{LIMIT}/{name}", f"limits.{where}", [workload], servers)


ENTRIES: Sequence[Entry] = (
    *(entry for broker in BROKERS for entry in _ours(broker)),
    Entry(f"{OURS}/docker", "peers.queue_runner:ContainerPeer", ["container"]),
    Entry(f"{OURS}/docker-warm", "peers.queue_runner:WarmContainerPeer", ["container"]),
    Entry(f"{OURS}/program", "program:Program", ["startup"]),
    _peer("celery/redis", "celery:CeleryPeer", "redis"),
    _peer("celery/rabbitmq", "celery:CeleryPeer", "rabbitmq"),
    _peer("dramatiq/redis", "dramatiq:DramatiqPeer", "redis"),
    _peer("dramatiq/rabbitmq", "dramatiq:DramatiqPeer", "rabbitmq", "redis", remarks=[CLASSIC]),
    _peer("taskiq/redis", "taskiq:TaskiqPeer", "redis"),
    _peer("taskiq/rabbitmq", "taskiq:TaskiqPeer", "rabbitmq", "redis"),
    _peer("rq/redis", "rq:RqPeer", "redis"),
    _peer("huey/redis", "huey:HueyPeer", "redis", remarks=[ACKS_BEFORE]),
    _peer("dask", "dask:DaskPeer", remarks=[IN_MEMORY]),
    _peer("parsl", "parsl:ParslPeer", remarks=[IN_MEMORY]),
    _peer("hyperqueue", "hyperqueue:HyperQueuePeer", remarks=[IN_MEMORY], workloads=["true"]),
    Entry(
        "parallel", "peers.parallel:ParallelPeer", ["true", "sweep"], programs=["parallel"],
        remarks=[IN_MEMORY],
    ),
    _limit("redis-hop", "redis_hop:RedisHopLimit", "noop", "redis"),
    _limit("rabbitmq-hop", "rabbitmq_hop:RabbitmqHopLimit", "noop", "rabbitmq"),
    _limit("zeromq-echo", "zeromq_echo:ZeromqEchoLimit", "noop"),
    _limit("sqlite-rows", "rows:SqliteLimit", "noop"),
    _limit("msgpack-packs", "packs:PacksLimit", "noop"),
    _limit("redis-way", "redis_way:RedisWay", "latency", "redis"),
    _limit("redis-promises", "redis_way:RedisPromises", "latency", "redis"),
    _limit("rabbitmq-way", "rabbitmq_way:RabbitmqWay", "latency", "rabbitmq"),
    _limit("zeromq-way", "zeromq_way:ZeromqWay", "latency"),
    _limit("zeromq-promises", "zeromq_way:ZeromqPromises", "latency"),
    _limit("posix-spawn", "spawn:SpawnLimit", "true"),
    _limit("engine-api", "engine:EngineApiLimit", "container"),
    _limit("docker-run", "engine:DockerRunLimit", "container"),
    _limit("mpiexec", "mpiexec:MpiexecLimit", "mpi"),
)  # fmt: skip


class NoSuch(Exception):
    """A name that is none, with those that are."""


def choose(workloads: Iterable[str], only: Iterable[str]) -> list[tuple[Entry, list[str]]]:
    """The contenders asked for, by full name or by what is before the slash, each with its workloads."""
    wanted, names = list(workloads), list(only)
    _check(wanted, WORKLOADS)
    _check(names, {name for entry in ENTRIES for name in (entry.name, entry.group)})
    chosen = []
    for entry in ENTRIES:
        its = [workload for workload in wanted if workload in entry.workloads]
        if its and (not names or entry.name in names or entry.group in names):
            chosen.append((entry, its))
    return chosen


def _check(names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise NoSuch(f"{name!r} is none of {', '.join(sorted(known))}")
