"""What a worker is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from queue_runner.store import DEFAULT_LIMITS, BundleLimits
from queue_runner.workers.acceptance import ANYTHING, Acceptance


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """memory_bytes: None for no limit on the sum of the jobs' memory. disk_bytes: what a job may write that
    does not say so itself.

    scratch: where work folders are made. grace_s: what running jobs get to end by themselves when the
    worker drains. crash_limit: so many attempts more than asked for may vanish with their worker.
    keep_folders: which work folders stay: "none", "failed" or "all". image: of the runtime `docker`, for
    jobs that name none. health: whether to answer `queue-runner health worker`.
    own_process: whether all children of this process are the worker's. accept: what of that which
    messages ask is accepted. hand_over_s: seconds for which `hand_over` leaves running jobs to the next
    worker of this name; None where it is not called. bundles: what template folders may be. wait_s: how long
    an idle worker waits for jobs in one call, and how late it notices that it is to end. warm: of the
    runtime `docker`, whether containers serve one job after another.
    """

    name: str
    queues: tuple[str, ...]
    cores: int
    memory_bytes: int | None
    scratch: Path
    store_url: str
    store_token: str | None = None
    ca_file: Path | None = None
    lease_s: float = 60.0
    grace_s: float = 30.0
    runtime: str = "process"
    image: str | None = None
    crash_limit: int = 5
    keep_folders: str = "none"
    health: bool = False
    disk_bytes: int | None = None
    own_process: bool = False
    accept: Acceptance = ANYTHING
    hand_over_s: float | None = None
    bundles: BundleLimits = DEFAULT_LIMITS
    wait_s: float = 1.0
    warm: bool = False

    def runtime_options(self) -> dict[str, object]:
        """What the runtime is told, where that is not what it does anyway."""
        options: dict[str, object] = {}
        if self.image is not None:
            options["image"] = self.image
        if self.hand_over_s is not None:
            options["successor_of"] = self.name
        if self.warm:
            options["warm"] = True
        return options
