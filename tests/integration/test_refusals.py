"""A broker that refuses what is asked of it, once daemons are at work: somebody will mend it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from redis import Redis

from tests.integration.system import System, eventually, running_system, study_folder

STUDY = """
study: {name}
kind: command
parameters: {{x: [1, 2]}}
command: {{files: ., run: [./wait.sh, "{go}"]}}
"""
WAIT = '#!/bin/sh\nwhile [ ! -e "$1" ]; do sleep 0.1; done\necho "{\\"y\\": 1}" > metrics.json\n'


@contextmanager
def _another_type(url: str, *names: str) -> Iterator[None]:
    """Somebody's own values under our keys; what was there is put aside meanwhile."""
    parts = urlsplit(url)
    prefix = "{" + parse_qs(parts.query)["prefix"][0] + "}"
    with Redis.from_url(parts._replace(query="").geturl(), protocol=2) as server:
        aside = [name for name in names if server.exists(f"{prefix}:{name}")]
        for name in aside:
            server.rename(f"{prefix}:{name}", f"aside:{prefix}:{name}")
        for name in names:
            server.set(f"{prefix}:{name}", "mine")
        yield
        for name in names:
            server.delete(f"{prefix}:{name}")
        for name in aside:
            server.rename(f"aside:{prefix}:{name}", f"{prefix}:{name}")


def _says(system: System, daemon: str, text: str) -> None:
    eventually(lambda: text in system.log(daemon), within_s=60)


def test_daemons_outlive_a_key_of_another_type_and_go_on_when_it_is_gone(
    tmp_path: Path, redis_url: str
) -> None:
    go = tmp_path / "go"
    with running_system(tmp_path, redis_url, "--cores", "2") as system:
        study = study_folder(system, STUDY.format(name="held", go=go), wait__sh=WAIT)
        system.ok("submit", str(study))
        eventually(lambda: system.json("status")["studies"][0]["running"] == 2)
        with _another_type(redis_url, "c:jobs.default", "c:results"):
            go.touch()
            _says(system, "collector", "no results, asked again in 2 s")
            _says(system, "worker", "results are refused, and wait; tried again in 2 s")
            assert "WRONGTYPE" in system.log("worker")
        eventually(lambda: system.json("status")["studies"][0]["succeeded"] == 2, within_s=60)
        with _another_type(redis_url, "c:jobs.default"):
            _says(system, "worker", "no jobs, asked again in 2 s")
        study = study_folder(system, STUDY.format(name="again", go=go), wait__sh=WAIT)
        system.ok("submit", str(study), "--wait")
        assert all(daemon.poll() is None for daemon in system.daemons.values())
