"""Every exception of ours, split by what the caller can do about it.

    QueueRunnerError
    ├── TryLater                 nothing is wrong with the request; the other side is not there (now)
    │   ├── BrokerUnavailable
    │   ├── CollectorUnavailable
    │   ├── StoreUnavailable
    │   ├── EngineUnavailable
    │   └── DiskFull
    ├── FixThis                  the caller has to change something first
    │   ├── StudyError           a study file or Study object is wrong: file, line, field
    │   ├── BrokerRefused        credentials, rights or a dangerous server setting
    │   ├── CollectorRefused     a wrong or missing token, or a request it does not accept
    │   ├── EngineRefused        no permission to use the Docker engine
    │   ├── StoreRefused         credentials, rights or a wrong URL of a store
    │   ├── StoreFull            the store's quota or disk is used up
    │   ├── StoreDamaged         content that is not what its name, a hash, says
    │   ├── UnknownScheme        no adapter is installed for that URL
    │   ├── MalformedUrl         a broker's URL that its adapter cannot read; a ValueError, too
    │   ├── Unsupported          the adapter declared that it cannot do this
    │   ├── NotFound             no such study, job, artifact
    │   ├── KeysRefused          the keys that sign messages are missing, expired, or open to others
    │   ├── MissingTool          a program or an optional package is not installed
    │   └── TooBig               a message or file over the limit
    ├── JobError                 why one attempt failed; becomes the `failure` of its Result
    └── WireError                bytes that are no message of ours; dead-lettered with this text
        └── NotTrusted           a message that is not signed as it has to be
            └── NoKeys           a signed message, and there are no keys to check it with

Anything else that escapes is a bug and may show its stack trace.
"""

from __future__ import annotations


class QueueRunnerError(Exception):
    """Root of all errors that queue-runner raises on purpose."""


class TryLater(QueueRunnerError):
    """The other side did not answer within the deadline the caller gave."""


class BrokerUnavailable(TryLater):
    """No broker server answered before the deadline."""


class CollectorUnavailable(TryLater):
    """The collector did not answer before the deadline."""


class FlushFailed(CollectorUnavailable):
    """Nobody knows whether what was committed is on the disk."""


class StoreUnavailable(TryLater):
    """The store did not answer."""


class EngineUnavailable(TryLater):
    """No Docker engine answered."""


class DiskFull(TryLater):
    """The disk of a worker's scratch folder is full: no job can begin there now."""


class FixThis(QueueRunnerError):
    """The caller has to change something before trying again."""


class StudyError(FixThis):
    """A study is wrong. The text has one line per problem: where, what, what was expected."""


class BrokerRefused(FixThis):
    """The broker server answered and said no."""


class CollectorRefused(FixThis):
    """The collector answered and said no."""


class EngineRefused(FixThis):
    """The Docker engine may not be used by this user."""


class StoreRefused(FixThis):
    """The store may not be used so: credentials, rights, a wrong URL."""


class StoreFull(FixThis):
    """The store's quota or disk is used up; somebody has to make room."""


class StoreDamaged(FixThis):
    """Content in the store, or sent to it, is not what its name says."""


class MalformedUrl(FixThis, ValueError):
    """A broker's URL is not what its adapter expects."""


class UnknownScheme(FixThis):
    """No installed adapter, store, kind or runtime goes by that name."""


class Unsupported(FixThis):
    """The adapter's `capabilities` say that its server cannot do this."""


class NotFound(FixThis):
    """No study, job or artifact goes by that name."""


class KeysRefused(FixThis):
    """A key file, or a key in it, may not or cannot be used; the text holds no secret."""


class MissingTool(FixThis):
    """A program or an optional package is not installed; the text says how to get it."""


class TooBig(FixThis):
    """A message or a file is over the limit; the text says which limit."""


class WireError(QueueRunnerError):
    """Bytes that do not decode to a message of ours."""


class NotTrusted(WireError):
    """A message that is unsigned, altered, expired, or signed with another key or for another place."""


class NoKeys(NotTrusted):
    """A signed message came to a part of the system that was given no keys."""


class JobError(QueueRunnerError):
    """Why one attempt failed.

    `reason` is one of `model.Reason`; `step` names the step of the job that failed, if any did.
    """

    def __init__(
        self, reason: str, message: str, *, step: str | None = None, exit_code: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.step = step
        self.exit_code = exit_code
