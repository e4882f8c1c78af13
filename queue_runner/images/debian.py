"""The base image `queue-runner/debian:bookworm`: pulled, else made from the Debian archive.

Sites without a container registry make it with debootstrap (root only): the same packages as Debian's own
slim image, without documentation and translations. Times in it are those of the archive's release file,
so that it is the same image twice in a row as long as the archive stays the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from queue_runner.errors import FixThis, MissingTool

if TYPE_CHECKING:
    from docker import DockerClient

SUITE = "bookworm"
BASE_TAG = f"queue-runner/debian:{SUITE}"
_PUBLIC = ("debian", f"{SUITE}-slim")
#: URL of a Debian archive near you, instead of the one that debootstrap knows.
MIRROR_VARIABLE = "QUEUE_RUNNER_DEBIAN_MIRROR"
_SLIM = """\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
"""
_APT = """\
Acquire::Languages "none";
APT::Install-Recommends "false";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
"""


def ensure_debian(client: DockerClient, cache: Path, say: Callable[[str], None]) -> str:
    """The base image's id; made or pulled where the engine does not have it.

    cache: folder that keeps what was made, for an engine that starts empty. Raises `MissingTool` or
    `FixThis` when it can neither be pulled nor made.
    """
    from docker.errors import ImageNotFound

    try:
        return str(client.images.get(BASE_TAG).id)
    except ImageNotFound:
        archive = cache / f"debian-{SUITE}.tar"
        if not archive.exists() and _pulled(client, say):
            return str(client.images.get(BASE_TAG).id)
    if not archive.exists():
        _make(archive, say)
    _load(client, archive)
    return str(client.images.get(BASE_TAG).id)


def _pulled(client: DockerClient, say: Callable[[str], None]) -> bool:
    from docker.errors import DockerException

    say(f"{BASE_TAG}: pulling {':'.join(_PUBLIC)}")
    try:
        client.images.pull(*_PUBLIC).tag(*BASE_TAG.split(":"))
    except (DockerException, OSError) as error:
        why = str(getattr(error, "explanation", None) or error).strip()
        say(f"{BASE_TAG}: cannot be pulled: {why[:200]}")
        return False
    return True


def _load(client: DockerClient, archive: Path) -> None:
    repository, tag = BASE_TAG.split(":")
    # the low-level call is the one that streams a file of this size
    client.api.import_image(
        src=str(archive), repository=repository, tag=tag, changes=['CMD ["bash"]']
    )


def _make(archive: Path, say: Callable[[str], None]) -> None:
    mirror = os.environ.get(MIRROR_VARIABLE)
    program = _debootstrap()
    say(f"{BASE_TAG}: making it from the Debian archive with debootstrap; about a minute")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".debian-", dir=archive.parent) as made:
        root = Path(made) / "root"
        log = Path(made) / "log"
        include = "--include=ca-certificates"
        where = [] if mirror is None else [mirror]
        _run([program, "--variant=minbase", include, SUITE, str(root), *where], log)
        epoch = _released(root)
        _slim(root)
        _add_updates(root / "etc/apt/sources.list", security=mirror is None)
        _pack(root, epoch, Path(made) / "tar", log)
        (Path(made) / "tar").replace(archive)


def _debootstrap() -> str:
    program = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise MissingTool(
            f"{BASE_TAG} can neither be pulled nor made: there is no debootstrap (on Debian or Ubuntu:"
            " apt-get install debootstrap)"
        )
    if os.geteuid() != 0:
        raise FixThis(
            f"{BASE_TAG} cannot be pulled, and only root can make it: run this command with sudo once,"
            f" or `docker tag` any Debian {SUITE} image to that name"
        )
    return program


def _run(argv: list[str], log: Path) -> None:
    env = {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "LC_ALL": "C"}
    with log.open("ab") as out:
        done = subprocess.run(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env)
    if done.returncode:
        end = log.read_text(errors="replace").splitlines()[-10:]
        raise FixThis(f"{argv[0]} failed ({done.returncode}); its last lines:\n" + "\n".join(end))


def _released(root: Path) -> int:
    """Seconds since 1970 at which the archive's release file was made."""
    for release in (root / "var/lib/apt/lists").glob("*Release"):
        if found := re.search(r"^Date: (.+)$", release.read_text(errors="replace"), re.MULTILINE):
            return int(parsedate_to_datetime(found.group(1)).timestamp())
    return int(datetime(2023, 6, 10, tzinfo=UTC).timestamp())


def _slim(root: Path) -> None:
    """Leave out what a container has no use for, and what differs from one making to the next."""
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(_SLIM)
    (root / "etc/apt/apt.conf.d/slim").write_text(_APT)
    for pattern in (
        "var/cache/apt/archives/*.deb", "var/cache/apt/*.bin", "var/lib/apt/lists/*", "var/log/*",
        "var/cache/ldconfig/*", "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*",
        "etc/hostname", "etc/resolv.conf", "etc/machine-id", "var/cache/debconf/*-old",
        "var/lib/dpkg/*-old",
    ):  # fmt: skip
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for path in (root / "usr/share/doc").rglob("*"):
        if not path.is_dir() and path.name != "copyright":
            path.unlink()


def _add_updates(sources: Path, *, security: bool) -> None:
    """Beside what debootstrap wrote. A mirror of somebody's own may hold no security updates."""
    (line,) = (each for each in sources.read_text().splitlines() if each.startswith("deb "))
    url = line.split()[1].rstrip("/")
    lines = [line, f"deb {url} {SUITE}-updates main"]
    if security:
        lines.append(f"deb {url}-security {SUITE}-security main")
    sources.write_text("\n".join(lines) + "\n")


def _pack(root: Path, epoch: int, to: Path, log: Path) -> None:
    order = ["--sort=name", "--numeric-owner", "--clamp-mtime", f"--mtime=@{epoch}"]
    leave = ["--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*"]
    _run(["tar", "--format=gnu", *order, *leave, "-C", str(root), "-cf", str(to), "."], log)
