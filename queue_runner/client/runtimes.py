"""Which runtime an embedded run takes when none is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from queue_runner import plugins
from queue_runner.errors import QueueRunnerError
from queue_runner.workers.runtimes.base import RUNTIMES

if TYPE_CHECKING:
    from queue_runner.study import Study

AUTO, PROCESS, DOCKER = "auto", "process", "docker"


def known_runtime(name: str) -> str:
    """`name`, which is `auto` or that of a runtime that is installed. Raises `ValueError`."""
    known = sorted({AUTO, *plugins.names(RUNTIMES)})
    if name not in known:
        raise ValueError(f"no runtime {name!r} is installed; expected one of {', '.join(known)}")
    return name


def choose_runtime(study: Study, say: Callable[[str], None]) -> str:
    """`docker` where the study asks for an image, or its kind has one of ours and an engine has it.

    An image of ours that is missing is built where the host cannot run the study without. Kinds without
    an image of ours (command, python) use what is installed on the host, so they stay on it; so does an
    MPI program that is named by a path of the host. `say` gets one line about the choice.
    """
    from queue_runner.workers.runtimes.docker.images import DEFAULTS

    if study.image is not None:
        say(f"in containers of {study.image}")
        return DOCKER
    image = DEFAULTS.get(study.kind)
    if image is None or not _portable(study):
        return PROCESS
    try:
        return _with_engine(study, image, say)
    except QueueRunnerError as error:
        # nobody who has set up no engine wants to hear of that
        why = f" ({str(error).splitlines()[0]})" if os.environ.get("DOCKER_HOST") else ""
        say(f"as processes of this machine{why}")
        return PROCESS


def _portable(study: Study) -> bool:
    if study.kind != "mpi":
        return True
    program = str(study.job(0, None).spec["program"])
    return program.startswith("./")


def _with_engine(study: Study, image: str, say: Callable[[str], None]) -> str:
    from queue_runner.images.catalog import build_image, recipes, source_folder
    from queue_runner.images.engine import engine_errors, open_engine

    with open_engine(timeout_s=600.0) as client, engine_errors():
        # only now it is known that the package is there
        from docker.errors import ImageNotFound

        try:
            client.images.get(image)
        except ImageNotFound:
            if study.kind != "openfoam" or shutil.which("blockMesh"):
                say(f"as processes of this machine (this Docker engine has no image {image})")
                return PROCESS
            from queue_runner.client.config import cache_home

            source = source_folder()
            for recipe in recipes([image.partition("/")[2].partition(":")[0]]):
                build_image(client, recipe, source, cache_home(), say)
    say(f"in containers of {image}")
    return DOCKER
