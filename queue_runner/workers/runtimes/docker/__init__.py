"""Runtime `docker`: each step of a job is a container of its own. See docs/containers.md."""

from queue_runner.workers.runtimes.docker.runtime import DockerRuntime

__all__ = ["DockerRuntime"]
