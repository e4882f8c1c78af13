"""What is said to the supervisor of a warm container, and what its answers mean."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from queue_runner.errors import JobError
from queue_runner.workers.kinds.base import Step
from queue_runner.workers.runtimes.docker.supervisor import (
    MOST_BYTES,
    SCRIPT,
    Said,
    command,
    heard,
    spoken,
)
from queue_runner.workers.runtimes.docker.warm_container import Told, _take_back

STEP = Step("solve", ("solve",), "log.solve")
TIMES = b"0m0.01s 0m0.02s\n1m0.50s 0m0.25s\n"


def test_a_step_is_told_as_texts_with_their_number_of_lines() -> None:
    said = spoken("t", "/work", "log", {"A": "1\n2"}, ("solve", "", "$(x)"), call=False)
    assert said == b"t 1 3 0\n1\n/work\n1\nlog\n2\nA=1\n2\n1\nsolve\n1\n\n1\n$(x)\n"


@pytest.mark.parametrize(
    ("argv", "variables"),
    [
        (("-c",), {}),
        (("solve", "x\0y"), {}),
        (("solve", "x" * MOST_BYTES), {}),
        (("solve",), {"a.b": "1"}),
        (("solve",), {"": "1"}),
        (("solve",), {"IFS": "1"}),
        (("solve",), {"BASH_ENV": "1"}),
        (("solve",), {"qr_token": "1"}),
        (("solve",), {"A\n": "1"}),
    ],
)
def test_what_a_shell_would_take_otherwise_is_not_told(
    argv: tuple[str, ...], variables: dict[str, str]
) -> None:
    assert spoken("t", "/work", "log", variables, argv, call=False) is None


def test_tokens_are_new_for_every_step() -> None:
    told = [Told.of(STEP, STEP.argv, Path("/work"), {}) for _ in range(2)]
    assert len({each.token for each in told if each is not None}) == 2


def test_an_answer_has_the_token_of_its_step() -> None:
    assert heard("t", b"") is None
    assert heard("t", TIMES + b"t 3 0 1") is None
    assert heard("t", TIMES + b"t 3 2 1\n") == Said(3, 60.75, 2, True)
    assert heard("t", b"other 0 0 1\n" + TIMES + b"t 3 - 0\n") == Said(3, 60.75, None, False)
    assert heard("t", b"other 0 0 1\n") is None


@pytest.mark.parametrize("words", [b"x 0 1", b"-1 0 1", b"9999 0 1", b"0 0", b"0 0 1 1"])
def test_an_answer_that_makes_no_sense_is_none(words: bytes) -> None:
    assert heard("t", b"t " + words + b"\n") is None


@pytest.mark.parametrize("times", [b"", b"nonsense\n", b"\xff\n"])
def test_cpu_time_that_cannot_be_read_is_not_known(times: bytes) -> None:
    assert heard("t", times + b"t 0 x 1\n") == Said(0, None, None, True)


def test_the_supervisor_does_nothing_unless_it_is_process_1() -> None:
    """It ends all processes that it may."""
    assert SCRIPT.strip().splitlines()[0] == "[ $$ = 1 ] || exit 70"


@pytest.mark.parametrize(
    ("folder", "kept"),
    [
        ("/home/me/scratch/.owner-1", ""),
        ("/tmp/scratch/.owner-1", "/tmp/scratch"),
        ("/home/../tmp/scratch/.owner-1", "/tmp/scratch"),
        ("/dev/shm/a/b", "/dev/shm/a"),
        ("/tmpfs/a", ""),
    ],
)
def test_work_folders_below_tmp_are_not_cleared_away(folder: str, kept: str) -> None:
    assert command(Path(folder))[-1] == kept


def test_a_work_folder_comes_back(tmp_path: Path) -> None:
    place, folder = tmp_path / "slot", tmp_path / "work"
    place.mkdir()
    (place / "result").write_text("1")
    made = os.lstat(place)
    place.chmod(0o500)
    _take_back(place, folder, made, STEP)
    assert (folder / "result").read_text() == "1"


@pytest.mark.parametrize("instead", ["nothing", "link", "folder"])
def test_what_a_job_put_in_the_place_of_its_work_folder_is_not_taken(
    tmp_path: Path, instead: str
) -> None:
    place, folder, secret = tmp_path / "slot", tmp_path / "work", tmp_path / "secret"
    place.mkdir()
    secret.mkdir()
    made = os.lstat(place)
    place.rename(tmp_path / "moved")
    if instead == "link":
        place.symlink_to(secret)
    elif instead == "folder":
        place.mkdir()
    with pytest.raises(JobError, match="moved its work folder"):
        _take_back(place, folder, made, STEP)
    assert folder.is_dir()
    assert not folder.is_symlink()
