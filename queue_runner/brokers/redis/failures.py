"""What the driver and the server say when something is wrong, in our words."""

from __future__ import annotations

from builtins import TimeoutError as OSTimeout
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    ConnectionError,
    DataError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from queue_runner.errors import BrokerRefused, QueueRunnerError

#: First words of answers that pass: loading, failing over, out of memory or disk, a script of others.
#: https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
_PASSING = {
    "OOM": (
        "the server is out of memory (maxmemory): let consumers work the queues off, purge what is"
        " not needed, or raise maxmemory"
    ),
    "MISCONF": "the server cannot write to its disk: look at its log and its free space",
    "LOADING": "the server is still loading its data",
    "READONLY": "the server is a read-only replica: connect to the primary",
    "UNBLOCKED": "the server has just become a replica",
    "MASTERDOWN": "the server is a replica without its primary",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "the cluster is moving slots",
    "BUSY": "the server is busy with somebody's script",
    "NOREPLICAS": "too few replicas are connected (min-replicas-to-write)",
    "max": "the server has too many clients (maxclients)",
}
_DENIED = ("NOAUTH", "WRONGPASS", "NOPERM")
_LOGIN = (
    "Check user and password in the URL, redis://user:password@host; the user needs the rights"
    " ~{prefix}:* &{prefix}:* +@all -@admin +info."
)


READONLY = _PASSING["READONLY"]


class Passing(QueueRunnerError):
    """Worth another try until the caller's deadline has passed; never leaves the adapter."""


class Unanswered(Passing):
    """Nothing came in the time that there was."""


class ScriptMissing(QueueRunnerError):
    """The server has not seen this script since it started; never leaves the adapter."""


@contextmanager
def speaking_to(text: str) -> Iterator[None]:
    """Turns the driver's exceptions into `BrokerRefused`, `Passing`, `ScriptMissing` and `ValueError`."""
    try:
        yield
    except (AuthenticationError, AuthenticationWrongNumberOfArgsError, NoPermissionError) as error:
        raise BrokerRefused(f"{text}: the server said: {error}. {_LOGIN}") from error
    except ResponseError as error:
        raise _of_answer(text, error) from error
    except InvalidResponse as error:
        raise BrokerRefused(
            f"{text}: what answers there is no Redis server ({error}). Check host and port."
        ) from error
    except DataError as error:  # raised before anything is sent
        raise ValueError(f"{text}: {error}") from error
    except (RedisError, OSError) as error:
        raise _of_connection(error) from error


def _of_answer(text: str, error: ResponseError) -> QueueRunnerError:
    answer = str(error)
    # redis-py keeps the first word of some answers and drops that of others
    word = answer.split(" ", 1)[0]
    if type(error).__name__ == "NoScriptError":
        return ScriptMissing(answer)
    if type(error).__name__ == "OutOfMemoryError" or answer.startswith(
        "command not allowed when used"
    ):
        word = "OOM"
    if type(error).__name__ == "ReadOnlyError":
        word = "READONLY"
    if word in _PASSING:
        return Passing(f"{_PASSING[word]}. It said: {answer}")
    if word in _DENIED:
        return BrokerRefused(f"{text}: the server said: {answer}. {_LOGIN}")
    return BrokerRefused(
        f"{text}: the server refused what was asked of it: {answer}. It has to be Redis 7.0 or later."
    )


def _of_connection(error: Exception) -> QueueRunnerError:
    if isinstance(error, ConnectionError) and "max number of clients" in str(error):
        return Passing(f"{_PASSING['max']}: {error}")
    unanswered = isinstance(error, (TimeoutError, OSTimeout))
    return (Unanswered if unanswered else Passing)(str(error) or type(error).__name__)
