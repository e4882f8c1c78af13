"""Many short programs, started by one process: as separate as if the worker had started each."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from queue_runner.model import Job, Resources, Result, State
from queue_runner.workers import spawner
from queue_runner.workers.attempt import attempt_job
from queue_runner.workers.calls import Asked, CallLane, Turn
from queue_runner.workers.measure import DEFAULT_FILE
from queue_runner.workers.runtimes import warm
from queue_runner.workers.runtimes.base import Stop
from queue_runner.workers.runtimes.processes import is_running
from queue_runner.workers.workplace import Workplace
from tests.integration.system import eventually
from tests.integration.test_calls import together

Make = Callable[..., list[Job]]


@pytest.fixture
def jobs(place: Workplace, tmp_path: Path) -> Make:
    files = tmp_path / "files"
    files.mkdir()
    (files / "data.txt").write_text("as it was")
    (files / "own.sh").write_text("#!/bin/sh\necho own $0 $1 | sed s,$PWD,.,\n")
    (files / "own.sh").chmod(0o755)
    sha256 = place.store.put_folder(files)

    def make(script: str | Sequence[str], count: int = 4, **fields: object) -> list[Job]:
        """{x}: the number of the job."""
        argv = ["sh", "-c", script] if isinstance(script, str) else script
        made = [
            Job(f"s.{n:07}", "s", n, "command", {"x": n},
                {"steps": [[each.replace("{x}", str(n)) for each in argv]]}, sha256)
            for n in range(count)
        ]  # fmt: skip
        return [replace(job, **fields) for job in made]  # type: ignore[arg-type]

    return make


def essence(result: Result) -> object:
    """What has to be the same whichever way a job took."""
    artifacts = [(each.name, each.sha256) for each in result.artifacts]
    return (result.job_id, result.state, result.metrics, result.failure, artifacts,
            result.log_tail, result.provenance, result.point, result.attempt, result.final)  # fmt: skip


@pytest.mark.parametrize(
    "script",
    [
        ["true"],
        ["/bin/true"],
        ["false"],
        ["./own.sh", "{x}"],
        ["no-such-program", "{x}"],
        ["./no-such-program"],
        ["data.txt/"],
        ["echo", "a\0b"],
        "echo x is {x}",
        "echo wrong >&2; exit {x}",
        "kill -SEGV $$",
        'echo {\\"y\\": {x}} > metrics.json',
        "cat data.txt; echo changed > data.txt",
        "mkdir deep; touch deep/file; ln -s /etc/passwd link",
        "chmod 0 .",
        "env | grep -v _STEP= | grep -v _OWNER= | sed s,=/.*,=PATH, | sort",
        'ls -A "$TMPDIR"; touch "$TMPDIR/left"; chmod 0 "$TMPDIR"',
        'ls -A "$TMPDIR"; touch "$TMPDIR/left"; [ {x} != 1 ] || rm "$TMPDIR/left"',
        'stat -c %a "$TMPDIR"; rmdir "$TMPDIR"',
        "cat",
        "umask; ulimit -a",
        "kill -PIPE $$; echo that is ignored",
    ],
)
def test_a_job_comes_to_the_same_either_way(
    place: Workplace, jobs: Make, script: str | Sequence[str]
) -> None:
    some = jobs(script)
    apart = [attempt_job(place, job, 1, Stop()) for job in some]
    assert list(map(essence, together(place, some))) == list(map(essence, apart))


@pytest.fixture
def ignored() -> Iterator[None]:
    """As under nohup(1)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("ignored")
def test_what_the_worker_ignores_is_ignored_either_way(place: Workplace, jobs: Make) -> None:
    some = jobs("kill -HUP $$; echo ignored; exit 1")
    apart = [attempt_job(place, job, 1, Stop()) for job in some]
    assert {result.log_tail for result in apart} == {"ignored"}
    assert list(map(essence, together(place, some))) == list(map(essence, apart))


def test_a_program_is_told_where_it_is(place: Workplace, jobs: Make) -> None:
    """By its environment, too, as OpenFOAM wants it; a shell that is not told keeps it to itself."""
    some = jobs('grep -qzx "PWD=$(pwd -P)" /proc/self/environ')
    apart = [attempt_job(place, job, 1, Stop()) for job in some]
    assert {result.state for result in (*apart, *together(place, some))} == {State.SUCCEEDED}


def test_one_process_starts_all(place: Workplace, jobs: Make) -> None:
    results = together(place, jobs("echo $PPID > parent; exit 1", 10))
    assert {result.state for result in results} == {State.FAILED}
    parents = {result.log_tail for result in together(place, jobs("echo $PPID; exit 1", 10))}
    assert len(parents) == 1
    assert parents != {str(os.getpid())}


@pytest.mark.parametrize(
    "start",
    [
        "sleep 100 & echo $! > pid",
        "setsid sleep 100 & echo $! > pid",
        "env -i setsid sleep 100 & echo $! > pid",
        "(setsid sh -c 'trap \"\" TERM; echo $$ > pid; sleep 100 & wait' &)",
    ],
)
def test_what_a_job_leaves_running_is_ended(place: Workplace, jobs: Make, start: str) -> None:
    """Also what left the session, and even without the mark in its environment."""
    some = jobs(f"{start}; until [ -s pid ]; do sleep 0.01; done; cat pid; exit 1")
    for result in together(place, some):
        assert not is_running(int(result.log_tail))


def test_a_stop_ends_the_one_that_runs_and_starts_no_other(
    place: Workplace, jobs: Make, tmp_path: Path
) -> None:
    begun, ended, late = (tmp_path / name for name in ("begun", "ended", "late"))
    loop = f"trap 'touch {ended}; exit 0' TERM; touch {begun}; while true; do sleep 0.01; done"
    some = jobs(f"if [ {{x}} = 2 ]; then {loop}; elif [ {{x}} = 3 ]; then touch {late}; fi")
    stop, results = Stop(), []
    thread = threading.Thread(target=lambda: results.extend(together(place, some, stop)))
    thread.start()
    eventually(lambda: begun.exists() or None)
    stop.throw("enough")
    thread.join(30)
    assert not thread.is_alive()
    assert ended.exists()
    assert not late.exists()
    assert [result.index for result in results] == [0, 1]


def test_one_that_takes_long_holds_up_no_other(
    place: Workplace, jobs: Make, tmp_path: Path
) -> None:
    told: list[int] = []
    results: list[Result] = []
    go = tmp_path / "go"
    script = f"[ {{x}} != 1 ] || until [ -e {go} ]; do sleep 0.01; done"
    turns = [Turn(job, 1) for job in jobs(script)]

    def held(begun: int) -> None:
        told.append(len(results) + begun)
        if told[-1] == 2:
            go.touch()

    lane = CallLane(place)
    # on a busy machine the server itself takes long to start
    while not go.exists():
        results += list(lane.run(turns[len(results) :], Stop(), held))
    lane.close()
    assert told[-1] == 2
    assert [result.index for result in results] == [0, 1]


def test_one_that_does_not_listen_is_ended_all_the_same(
    place: Workplace, jobs: Make, tmp_path: Path
) -> None:
    stop, results = Stop(), []
    told, partial = tmp_path / "pid", tmp_path / "part"
    some = jobs(
        f"trap '' TERM; echo $$ > {partial}; mv {partial} {told}; while true; do sleep 1; done"
    )
    thread = threading.Thread(target=lambda: results.extend(together(place, some, stop)))
    thread.start()
    eventually(lambda: told.exists() or None)
    stop.throw("enough")
    thread.join(30)
    assert not thread.is_alive()
    assert not is_running(int(told.read_text()))
    assert results == []


def test_which_jobs_take_the_ordinary_way(place: Workplace, jobs: Make) -> None:
    lane = CallLane(place)
    (plain,) = jobs(["true"], 1)
    assert lane.key(plain) is not None
    assert not lane.takes(plain, 1)
    assert lane.takes(plain, 2)
    for fields in (
        {"keep": ("*",)},
        {"measure": {"metrics": "m.json"}},
        {"measure": {"log": [{"name": "x", "pattern": "x"}]}},
        {"resources": Resources(wall_time_s=1.0)},
        {"resources": Resources(memory_bytes=10**9)},
        {"resources": Resources(disk_bytes=10**9)},
        {"spec": {"steps": [["true"], ["true"]]}},
        {"spec": {"steps": "true"}},
    ):
        (job,) = jobs(["true"], 1, **fields)
        assert lane.key(job) is None, fields
    assert CallLane(replace(place, keep="all")).key(plain) is None


def test_a_template_that_holds_what_is_looked_for_is_looked_at(
    place: Workplace, jobs: Make, tmp_path: Path
) -> None:
    files = tmp_path / "more"
    files.mkdir()
    (files / DEFAULT_FILE).write_text('{"y": 1}')
    some = jobs(["true"], bundle=place.store.put_folder(files))
    assert [result.metrics for result in together(place, some)] == [{"y": 1}] * 4
    assert spawner.METRICS == DEFAULT_FILE


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing counts as long, however busy the machine is."""
    monkeypatch.setattr(warm, "_LONG_S", 1000.0)


def in_two_goes(
    place: Workplace,
    first: list[Job],
    second: list[Job],
    *,
    stop: Stop | None = None,
    held: Callable[[int], None] = lambda begun: None,
    between: Callable[[], object] = lambda: None,
    before: list[Job] | None = None,
    ahead: Callable[[Asked], object] = lambda asked: None,
) -> tuple[list[Result], list[Result]]:
    """The process is asked for the second ones while it has the first.

    ahead: called before the first ones are looked at; between: before the second ones are. before: done
    first of all, so that the process is there.
    """
    lane, asked = CallLane(place), []

    def under_way(first_asked: Asked) -> None:
        turns = [Turn(job, 1) for job in second]
        asked.append(lane.follow(first_asked, turns, Stop(), held))
        ahead(first_asked)

    try:
        if before:
            # one that starts slowly is held before it has begun
            while not list(lane.run([Turn(job, 1) for job in before], Stop(), lambda begun: None)):
                pass
        turns = [Turn(job, 1) for job in first]
        one = list(lane.run(turns, stop or Stop(), lambda begun: None, under_way))
        between()
        return one, list(lane.results(asked[0]))
    finally:
        lane.close()


def test_a_process_goes_on_with_what_it_was_asked_for_ahead(
    place: Workplace, jobs: Make, tmp_path: Path, patient: None
) -> None:
    there = [tmp_path / f"{n}" for n in range(2)]
    some = jobs(f"echo $PPID > {tmp_path}/{{x}}", 2)

    def all_are() -> bool:
        return all(path.exists() for path in there)

    # nobody has asked what came of the first ones yet
    results = in_two_goes(place, some[:1], some[1:], between=lambda: eventually(all_are))
    assert [[each.index for each in part] for part in results] == [[0], [1]]
    assert len({path.read_text() for path in there}) == 1


def test_answers_that_come_together_are_told_apart(
    place: Workplace, jobs: Make, tmp_path: Path, patient: None
) -> None:
    some, held = jobs(f"touch {tmp_path}/{{x}}", 4), list[int]()

    def both_are_there(asked: Asked) -> None:
        answers = asked.calling._server._answers  # type: ignore[attr-defined]
        eventually(lambda: waiting_bytes(answers.fileno()) > 20)

    results = in_two_goes(place, some[:2], some[2:], held=held.append, ahead=both_are_there)
    assert [[each.index for each in part] for part in results] == [[0, 1], [2, 3]]
    assert {each.state for part in results for each in part} == {State.SUCCEEDED}
    assert not held


def waiting_bytes(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_with_a_process_that_is_ended_the_next_ones_are_left(
    place: Workplace, jobs: Make, tmp_path: Path, patient: None
) -> None:
    begun = tmp_path / "begun"
    some = jobs(f"touch {begun}; while true; do sleep 0.01; done")
    stop = Stop()

    def throw() -> None:
        eventually(lambda: begun.exists() or None)
        stop.throw("enough")

    thread = threading.Thread(target=throw)
    thread.start()
    assert in_two_goes(place, some[:1], some[1:], stop=stop) == ([], [])
    thread.join()


def test_who_takes_its_process_down_takes_none_of_the_next_ones(
    place: Workplace, jobs: Make, patient: None
) -> None:
    some = jobs("[ {x} != 0 ] || kill -9 $PPID")
    one, two = in_two_goes(place, some[:1], some[1:])
    assert ([each.state for each in one], two) == ([State.FAILED], [])


def test_one_that_takes_long_holds_up_none_of_the_next_ones(
    place: Workplace, jobs: Make, tmp_path: Path
) -> None:
    told: list[int] = []
    go, late = tmp_path / "go", tmp_path / "late"
    some = jobs(
        f"if [ {{x}} = 0 ]; then until [ -e {go} ]; do sleep 0.01; done; else touch {late}; fi", 3
    )

    def held(begun: int) -> None:
        told.append(begun)
        go.touch()

    one, two = in_two_goes(place, some[:1], some[1:], held=held, before=jobs("true", 1))
    assert ([each.index for each in one], two, told) == ([0], [], [0])
    assert not late.exists()
