"""Finding an MPI: a launcher with the compiler beside it, and which flavour it is."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from queue_runner.errors import MissingTool
from queue_runner.model import Job
from queue_runner.workers.site import Site, current

#: Sonames by flavour: Open MPI's own, and the ABI that MPICH shares with Intel MPI and MVAPICH
#: (www.mpich.org/abi).
_LIBRARIES = {
    "openmpi": (b"libmpi.so.1\0", b"libmpi.so.20\0", b"libmpi.so.40\0"),
    "mpich": (b"libmpi.so.12\0", b"libmpich.so."),
}
HINT = "apt-get install openmpi-bin libopenmpi-dev, or pip install 'queue-runner[mpi]'"
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

    def argv(
        self, ranks: int, extra: tuple[str, ...] = (), *, alone: bool = False
    ) -> tuple[str, ...]:
        """How to start `ranks` ranks; the program and its arguments come after.

        alone: whether no other job can run beside it. Then they may be bound to cores, as the launcher
        does by itself, which is faster; those of two jobs would sit on the same ones.
        """
        flags: tuple[str, ...] = ()
        if self.flavour == "openmpi":
            flags = ("--oversubscribe",) if alone else ("--oversubscribe", "--bind-to", "none")
            if current().root:
                flags += ("--allow-run-as-root",)
        return (self.launcher, *flags, "-n", str(ranks), *extra)

    def runs(self, linked: str | None) -> bool:
        """Whether it can start a program that is linked with that flavour; None: with none of ours."""
        return linked in (None, self.flavour) or (linked == "mpich" and self.flavour == "intel")

    def provenance(self) -> dict[str, str]:
        """Flavour and version, and what the environment says of the transport between ranks."""
        chosen = (
            f"{name}={value}"
            for name, value in sorted(current().variables.items())
            if name in _TRANSPORT
        )
        return {
            "mpi": f"{self.flavour} {self.version}",
            "mpi_transport": " ".join(chosen) or "the default of its version, one host",
        }

    def environment(self) -> dict[str, str]:
        """PATH with this MPI's programs first, so that mpicc and mpiexec agree."""
        path = current().variables.get("PATH", os.defpath)
        return {"PATH": f"{Path(self.launcher).parent}{os.pathsep}{path}"}


def alone(job: Job, ranks: int) -> bool:
    """Whether its ranks take every core of this machine: one each."""
    return ranks == job.resources.cores == len(os.sched_getaffinity(0))


def find(flavour: str | None = None) -> Mpi:
    """The first MPI on PATH that can compile, too, else the first at all. Raises `MissingTool`."""
    return _find(current(), flavour)


@cache
def _find(site: Site, flavour: str | None) -> Mpi:
    found = [each for each in _all(site) if flavour in (None, each.flavour)]
    if not found:
        raise MissingTool(f"no {flavour or 'MPI'} mpiexec on PATH; {HINT}")
    return next((each for each in found if _compiles(site, each)), found[0])


def _compiles(site: Site, mpi: Mpi) -> bool:
    """Debian's openmpi-bin has mpicc, and mpi.h is in another package, so it has to be tried."""
    mpicc = f"{Path(mpi.launcher).parent}/mpicc"
    try:
        return "MPI_Init" in site.ask([mpicc, "-E", "-include", "mpi.h", "-x", "c", "/dev/null"])
    except OSError:
        return False


def linked(program: Path) -> str | None:
    """The flavour whose library a program names; None where it names none, or is no such program.

    Under the launcher of another flavour each rank runs alone, as rank 0 of 1, and none says so.
    """
    try:
        with program.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                return None
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for flavour, names in _LIBRARIES.items():
                    if any(content.find(name) >= 0 for name in names):
                        return flavour
    except OSError:
        # what is not there, or not for us to read, is said when it is run
        return None
    return None


def describe() -> str:
    """What is found, for `doctor`. Raises `MissingTool`."""
    mpi = find()
    return f"{mpi.flavour} {mpi.version}: {mpi.launcher}"


def _all(site: Site) -> Iterator[Mpi]:
    own = str(Path(sys.prefix) / "bin")
    on_path = [each for each in site.variables.get("PATH", os.defpath).split(os.pathsep) if each]
    # the wheel serves where the machine has none, also when its folder comes first on PATH
    for folder in [*(entry for entry in on_path if entry != own), own]:
        launcher = site.which("mpiexec", folder) or site.which("mpirun", folder)
        if launcher:
            yield _classified(site, launcher)


def _classified(site: Site, launcher: str) -> Mpi:
    try:
        text = site.ask([launcher, "--version"])
    except OSError as error:
        raise MissingTool(f"{launcher} --version does not answer: {error}; {HINT}") from error
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if "Open MPI" in text or "OpenRTE" in text:
        return Mpi(launcher, "openmpi", lines[0][-1])
    if "HYDRA" in text:
        versions = [words[-1] for words in lines if words[0] == "Version:"]
        return Mpi(launcher, "mpich", versions[0] if versions else "?")
    return Mpi(launcher, "intel" if "Intel" in text else "unknown", "?")
