"""How a job was computed, as far as this host can tell."""

from __future__ import annotations

import os
import platform
from functools import cache

#: Set in our images: tag and the hash of all that it was built from.
IMAGE_VARIABLE = "QUEUE_RUNNER_IMAGE"


@cache
def host() -> dict[str, str]:
    return {
        "host": platform.node(),
        "cpu": _cpu_model(),
        "kernel": platform.release(),
        "queue-runner": version(),
        **({"image": image} if (image := os.environ.get(IMAGE_VARIABLE)) else {}),
    }


def _cpu_model() -> str:
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


@cache
def version() -> str:
    from importlib.metadata import version as installed

    return installed("queue-runner")
