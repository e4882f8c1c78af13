"""What a job's container is allowed: the least that it needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from queue_runner.model import Job, Resources

#: Processes and threads in one container.
_PIDS = 4096
_SHM_BYTES = 256 * 1024**2
_TMP = "rw,nosuid,nodev,size={size},mode=1777"
_TMP_BYTES = 1024**3
#: Of jobs whose worker is root: nobody special, and the user of our own images.
_UNPRIVILEGED = 1000


#: `json-file` would change bytes that are no UTF-8. One file that is never begun anew.
_LOGGED = {"type": "local", "config": {"max-file": "1", "max-size": "1t", "compress": "false"}}


def user() -> tuple[int, int]:
    """User and group of what runs in containers: the worker's own, but never root."""
    if os.geteuid() == 0:
        return _UNPRIVILEGED, _UNPRIVILEGED
    return os.geteuid(), os.getegid()


def bare(tmp_bytes: int = _TMP_BYTES) -> dict[str, Any]:
    """For every container: no rights, no network, nothing to write to but memory."""
    return {
        "user": ":".join(map(str, user())),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "tmpfs": {"/tmp": _TMP.format(size=tmp_bytes)},
        "network_mode": "none",
        "pids_limit": _PIDS,
        "ipc_mode": "private",
        # as process 1 a program would not be ended by SIGTERM, nor by its own abort (pid_namespaces(7))
        "init": True,
        # that of our images asks a worker, which is elsewhere
        "healthcheck": {"test": ["NONE"]},
    }


def container_settings(
    job: Job,
    folder: Path,
    limits: Resources,
    cpus: tuple[int, ...] | None,
    *,
    logged: bool = False,
    source: Path | None = None,
) -> dict[str, Any]:
    """For a step of `job`, whose work folder is mounted under the same path as on the host.

    cpus: where it may run, or None to share all, as many at a time as it has cores. logged: the engine
    remembers what it prints, for a worker that comes later. source: what is mounted there instead.
    """
    from docker.types import LogConfig, Mount, Ulimit

    asked = job.container
    settings = bare(min(_TMP_BYTES, limits.disk_bytes or _TMP_BYTES)) | {
        "working_dir": str(folder),
        "mounts": [Mount(str(folder), str(source or folder), type="bind")],
        "network_mode": asked.get("network") or "none",
        "shm_size": int(asked.get("shm") or _SHM_BYTES),
        "nano_cpus": limits.cores * 1_000_000_000,
        "ulimits": [Ulimit(name="core", soft=0, hard=0)],
        # what it prints goes to the step's log as it comes
        "log_config": LogConfig(**(_LOGGED if logged else {"type": "none"})),
    }
    if cpus is not None:
        settings["cpuset_cpus"] = ",".join(map(str, cpus))
    if limits.memory_bytes is not None:
        settings |= {"mem_limit": limits.memory_bytes, "memswap_limit": limits.memory_bytes}
    return settings


def variables(job: Job, folder: Path, limits: Resources, more: Mapping[str, str]) -> dict[str, str]:
    """On top of the image's own."""
    return {
        "HOME": str(folder),
        "PWD": str(folder),
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(max(1, limits.cores // max(1, limits.ranks))),
        # reading another process's memory is a privilege, which no rank has here
        "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
        "QUEUE_RUNNER_JOB": job.id,
        "QUEUE_RUNNER_STUDY": job.study,
        **more,
    }
