"""The small, clean environment of a job's processes: the same on every worker, whoever started it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # the janitor is one more process beside each worker, and does without what this would load
    from queue_runner.model import Job, Resources

#: Passed on from the worker's own environment: where programs, MPI and OpenFOAM are.
_PASSED = ("PATH", "LD_LIBRARY_PATH", "USER", "LOGNAME", "TZ")
_PASSED_PREFIXES = ("WM_", "FOAM_", "OMPI_", "PMIX_", "PRTE_", "MPICH_", "I_MPI_", "UCX_", "FI_")

#: Path of the owner's lock: whoever finds a process can tell whether its worker still lives.
OWNER = "QUEUE_RUNNER_OWNER"
#: Different for every step, so that what escaped from its process group is found.
MARK = "QUEUE_RUNNER_STEP"


def environment(
    job: Job, folder: Path, temporary: Path, limits: Resources, owner: Path, mark: str
) -> dict[str, str]:
    """For a step of `job` in `folder`; a step's own variables come on top."""
    names = [name for name in os.environ if name in _PASSED or name.startswith(_PASSED_PREFIXES)]
    passed = {name: os.environ[name] for name in names}
    passed.setdefault("PATH", os.defpath)
    if os.geteuid() == 0:
        # in a container root is an ordinary user; Open MPI refuses it unless told so
        passed |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return {
        **passed,
        "HOME": str(folder),
        # what it inherits is a folder of the worker, and OpenFOAM says so in each of its logs
        "PWD": str(folder),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(max(1, limits.cores // max(1, limits.ranks))),
        "QUEUE_RUNNER_JOB": job.id,
        "QUEUE_RUNNER_STUDY": job.study,
        OWNER: str(owner),
        MARK: mark,
    }
