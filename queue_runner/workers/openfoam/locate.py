"""Where OpenFOAM is, and the environment that its programs want."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from queue_runner.errors import MissingTool

#: Debian's package needs no sourcing, only to know where its etc/ is.
DEBIAN = Path("/usr/share/openfoam")
_HINT = "install OpenFOAM (Debian: apt-get install openfoam), or set WM_PROJECT_DIR to where it is"


@cache
def environment() -> dict[str, str]:
    """The variables OpenFOAM programs need on this host. Raises `MissingTool`."""
    project = Path(os.environ.get("WM_PROJECT_DIR") or _newest() or DEBIAN)
    bashrc = project / "etc" / "bashrc"
    if shutil.which("blockMesh") and not os.environ.get("WM_PROJECT_DIR"):
        return {"WM_PROJECT_DIR": str(DEBIAN)} if DEBIAN.is_dir() else {}
    if shutil.which("blockMesh"):
        names = ("PATH", "LD_LIBRARY_PATH", "MPI_BUFFER_SIZE")
        return {
            name: value
            for name, value in os.environ.items()
            if name in names or name.startswith(("FOAM_", "WM_"))
        }
    if not bashrc.is_file():
        raise MissingTool(f"no OpenFOAM here: no blockMesh on PATH and no {bashrc}; {_HINT}")
    return _sourced(bashrc)


def program(name: str) -> str | None:
    """The path of one of OpenFOAM's programs, or None."""
    return shutil.which(name, path=environment().get("PATH"))


def run_functions() -> Path | None:
    """OpenFOAM's RunFunctions, which an Allrun sources; Debian's package leaves them out."""
    project = environment().get("WM_PROJECT_DIR")
    found = Path(project) / "bin" / "tools" / "RunFunctions" if project else None
    return found if found is not None and found.is_file() else None


def describe() -> str:
    """What is found, for `doctor`. Raises `MissingTool`."""
    env = environment()
    return f"{program('blockMesh')}, WM_PROJECT_DIR={env.get('WM_PROJECT_DIR', 'not set')}"


def _newest() -> str | None:
    found = [*Path("/opt").glob("openfoam*"), *Path("/usr/lib/openfoam").glob("openfoam*")]
    return str(max(found)) if found else None


def _sourced(bashrc: Path) -> dict[str, str]:
    # bashrc returns non-zero where an optional package is missing, so only `env` decides
    done = subprocess.run(
        ["bash", "-c", 'source "$1" >/dev/null 2>&1; env -0', "bash", str(bashrc)],
        capture_output=True,
        check=True,
    )
    pairs = (entry.partition("=") for entry in done.stdout.decode().split("\0") if entry)
    names = ("PATH", "LD_LIBRARY_PATH", "MPI_BUFFER_SIZE")
    return {
        name: value
        for name, _, value in pairs
        if name in names or name.startswith(("FOAM_", "WM_"))
    }
