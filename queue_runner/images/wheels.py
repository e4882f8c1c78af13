"""The Python packages of the worker images, fetched outside: a build needs no package index.

They are named with their hashes by `workers/base/requirements.lock`, resolved for the Python of the base.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from queue_runner.errors import FixThis

LOCK = "workers/base/requirements.lock"
#: The glibc of Debian 12, and the oldest for which wheels are still made.
_GLIBC = range(36, 4, -1)
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def wheel_files(
    lock: Path, machine: str, cache: Path, say: Callable[[str], None]
) -> dict[str, bytes]:
    """The wheels as files of a build's context, in `wheels/`.

    machine: as the engine calls it, such as "amd64". Raises `FixThis` where one cannot be fetched.
    """
    key = hashlib.sha256(lock.read_bytes() + machine.encode()).hexdigest()[:16]
    folder = cache / f"wheels-{key}"
    if not folder.is_dir():
        say("fetching the Python packages of the worker images")
        _fetch(lock, machine, folder)
    return {f"wheels/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.whl"))}


def _fetch(lock: Path, machine: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=folder.parent) as made:
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--only-binary=:all:", "--require-hashes", "--python-version", "3.11",
            "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none",
            *_platforms(machine), "--requirement", str(lock), "--dest", f"{made}/wheels",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            end = "\n".join(f"    {line}" for line in done.stderr.splitlines()[-8:])
            raise FixThis(f"{lock}: pip cannot fetch what it names:\n{end}")
        Path(made, "wheels").rename(folder)


def _platforms(machine: str) -> Iterator[str]:
    cpu = _MACHINES.get(machine, machine)
    old = ("manylinux2014", "manylinux2010", "manylinux1")
    for platform in (*(f"manylinux_2_{minor}" for minor in _GLIBC), *old):
        yield from ("--platform", f"{platform}_{cpu}")
