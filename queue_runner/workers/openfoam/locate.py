"""Where OpenFOAM is, and the environment that its programs want."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from queue_runner.errors import MissingTool
from queue_runner.workers.site import Site, current

#: Debian's package needs no sourcing, only to know where its etc/ is.
DEBIAN = "/usr/share/openfoam"
_HINT = "install OpenFOAM (Debian: apt-get install openfoam), or set WM_PROJECT_DIR to where it is"


def environment() -> dict[str, str]:
    """The variables OpenFOAM programs need where jobs run. Raises `MissingTool`."""
    return dict(_environment(current()))


@cache
def _environment(site: Site) -> dict[str, str]:
    given = site.variables.get("WM_PROJECT_DIR")
    if site.which("blockMesh"):
        if given:
            return _ours(site.variables)
        return {"WM_PROJECT_DIR": DEBIAN} if site.is_file(f"{DEBIAN}/etc/controlDict") else {}
    bashrc = f"{given or _newest(site) or DEBIAN}/etc/bashrc"
    if not site.is_file(bashrc):
        raise MissingTool(f"no OpenFOAM here: no blockMesh on PATH and no {bashrc}; {_HINT}")
    return _sourced(site, bashrc)


def program(name: str) -> str | None:
    """The path of one of OpenFOAM's programs, or None."""
    return _program(current(), name, environment().get("PATH"))


@cache
def _program(site: Site, name: str, path: str | None) -> str | None:
    return site.which(name, path)


def run_functions() -> str | None:
    """OpenFOAM's RunFunctions, which an Allrun sources; Debian's package leaves them out."""
    return _run_functions(current(), environment().get("WM_PROJECT_DIR"))


@cache
def _run_functions(site: Site, project: str | None) -> str | None:
    found = f"{project}/bin/tools/RunFunctions"
    return found if project and site.is_file(found) else None


def describe() -> str:
    """What is found, for `doctor`. Raises `MissingTool`."""
    env = environment()
    return f"{program('blockMesh')}, WM_PROJECT_DIR={env.get('WM_PROJECT_DIR', 'not set')}"


def _newest(site: Site) -> str | None:
    found = [site.newest("/opt/openfoam*"), site.newest("/usr/lib/openfoam/openfoam*")]
    return max((each for each in found if each), default=None)


def _sourced(site: Site, bashrc: str) -> dict[str, str]:
    # bashrc returns non-zero where an optional package is missing, so only `env` decides
    script = 'source "$1" >/dev/null 2>&1; env -0'
    printed = site.ask(["bash", "-c", script, "bash", bashrc])
    pairs = (entry.partition("=") for entry in printed.split("\0") if entry)
    return _ours({name: value for name, _, value in pairs})


def _ours(variables: Mapping[str, str]) -> dict[str, str]:
    names = ("PATH", "LD_LIBRARY_PATH", "MPI_BUFFER_SIZE")
    return {
        name: value
        for name, value in variables.items()
        if name in names or name.startswith(("FOAM_", "WM_"))
    }
