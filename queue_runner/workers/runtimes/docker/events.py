"""What an engine has noted about a container."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

#: Seconds by which the engine may note a signal later than the end that it brought.
EVENT_S = 0.05
#: The same for the kernel's want of memory, which reaches the engine by a way of its own.
OOM_S = 1.0


def has_noted(container: Any, event: str, late_s: float) -> bool:
    """Whether the engine was asked to send it a signal ("kill"), or the kernel ended something in it for
    want of memory ("oom"), up to so many seconds after its end. It is to be reloaded since.
    """
    state = container.attrs["State"]
    events = container.client.api.events(
        since=f"{seconds(state['StartedAt']) - 1:.6f}",
        until=f"{seconds(state['FinishedAt']) + late_s:.6f}",
        filters={"container": container.id, "event": event},
        decode=True,
    )
    try:
        return next(iter(events), None) is not None
    finally:
        let_go(events)


def let_go(stream: Any) -> None:
    """Close a stream of docker-py's that nobody reads. It leaves the connection itself to the garbage
    collector (docker/types/daemon.py), which a daemon seldom runs.
    """
    # the engine, or another thread, may have ended it
    with suppress(OSError):
        stream.close()
    stream._response.close()


def seconds(timestamp: str) -> float:
    """Since 1970, by the engine's own clock, of a time in its form."""
    return datetime.fromisoformat(timestamp).timestamp()
