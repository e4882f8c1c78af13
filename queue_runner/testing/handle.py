"""What a test may do to a broker server."""

from __future__ import annotations

from abc import ABC, abstractmethod


class BrokerServerHandle(ABC):
    """One throwaway server. What it has stored outlives everything here but `close`.

    Methods return when what they ask for is so: `start` and `resume` when the server answers its
    clients, `stop` and `kill` when its processes have ended. They raise `BrokerUnavailable`, with the
    end of the server's log, when that does not come about.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """Stays the same over `restart`."""

    @abstractmethod
    def start(self) -> None:
        """Start it again after `stop` or `kill`."""

    @abstractmethod
    def stop(self) -> None:
        """End it in an orderly way."""

    @abstractmethod
    def kill(self) -> None:
        """End it with SIGKILL."""

    @abstractmethod
    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""

    @abstractmethod
    def resume(self) -> None:
        """Go on after `pause`."""

    @abstractmethod
    def log(self) -> str:
        """The end of what it has printed so far."""

    @abstractmethod
    def close(self) -> None:
        """End it and remove what it has stored. Idempotent."""

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()
