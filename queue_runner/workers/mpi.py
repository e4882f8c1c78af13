"""Finding an MPI: a launcher with the compiler beside it, and which flavour it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from queue_runner.errors import MissingTool

_HINT = "apt-get install openmpi-bin libopenmpi-dev, or pip install 'queue-runner[mpi]'"
_VERSION_WAIT_S = 30
#: What chooses how ranks talk: Open MPI, UCX, libfabric, MPICH, Intel MPI.
_TRANSPORT = {
    "OMPI_MCA_pml", "OMPI_MCA_btl", "OMPI_MCA_mtl", "UCX_TLS", "UCX_NET_DEVICES", "FI_PROVIDER",
    "MPICH_NETMOD", "MPIR_CVAR_CH4_NETMOD", "I_MPI_FABRICS", "I_MPI_OFI_PROVIDER",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mpi:
    """launcher: absolute path of mpiexec. flavour: "openmpi", "mpich", "intel" or "unknown"."""

    launcher: str
    flavour: str
    version: str

    def argv(self, ranks: int, extra: tuple[str, ...] = ()) -> tuple[str, ...]:
        """How to start `ranks` ranks; the program and its arguments come after."""
        flags: tuple[str, ...] = ()
        if self.flavour == "openmpi":
            # several jobs share a node: bound ranks of two jobs would sit on the same core
            flags = ("--oversubscribe", "--bind-to", "none")
            if os.geteuid() == 0:
                flags += ("--allow-run-as-root",)
        return (self.launcher, *flags, "-n", str(ranks), *extra)

    def provenance(self) -> dict[str, str]:
        """Flavour and version, and what the environment says of the transport between ranks."""
        chosen = (
            f"{name}={value}" for name, value in sorted(os.environ.items()) if name in _TRANSPORT
        )
        return {
            "mpi": f"{self.flavour} {self.version}",
            "mpi_transport": " ".join(chosen) or "the default of its version, one host",
        }

    def environment(self) -> dict[str, str]:
        """PATH with this MPI's programs first, so that mpicc and mpiexec agree."""
        path = f"{Path(self.launcher).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {"PATH": path}


@cache
def find(flavour: str | None = None) -> Mpi:
    """The first MPI on PATH that has mpicc too, else the first at all. Raises `MissingTool`."""
    found = [each for each in _all() if flavour in (None, each.flavour)]
    if not found:
        raise MissingTool(f"no {flavour or 'MPI'} mpiexec on PATH; {_HINT}")
    return next(
        (each for each in found if (Path(each.launcher).parent / "mpicc").exists()), found[0]
    )


def describe() -> str:
    """What is found, for `doctor`. Raises `MissingTool`."""
    mpi = find()
    return f"{mpi.flavour} {mpi.version}: {mpi.launcher}"


def _all() -> Iterator[Mpi]:
    own = str(Path(sys.prefix) / "bin")
    on_path = [entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry]
    # the wheel serves where the machine has none, also when its folder comes first on PATH
    for folder in [*(entry for entry in on_path if entry != own), own]:
        launcher = shutil.which("mpiexec", path=folder) or shutil.which("mpirun", path=folder)
        if launcher:
            yield _classified(launcher)


@cache
def _classified(launcher: str) -> Mpi:
    try:
        done = subprocess.run(
            [launcher, "--version"], capture_output=True, text=True, timeout=_VERSION_WAIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingTool(f"{launcher} --version does not answer: {error}; {_HINT}") from error
    text = done.stdout + done.stderr
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if "Open MPI" in text or "OpenRTE" in text:
        return Mpi(launcher, "openmpi", lines[0][-1])
    if "HYDRA" in text:
        versions = [words[-1] for words in lines if words[0] == "Version:"]
        return Mpi(launcher, "mpich", versions[0] if versions else "?")
    return Mpi(launcher, "intel" if "Intel" in text else "unknown", "?")
