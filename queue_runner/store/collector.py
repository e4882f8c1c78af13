"""The store of a collector, over its HTTP API: all that machines without a shared disk need.

The routes are described in the collector's /openapi.json. A transfer that breaks goes on where it
stopped, as long as it gets any further within `_PATIENCE_S` seconds.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, NoReturn

from queue_runner.errors import (
    FixThis,
    NotFound,
    StoreDamaged,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    TooBig,
    Unsupported,
)
from queue_runner.http import Response, Session, Unanswered, chunks, succeeded
from queue_runner.store.base import Entry, Store
from queue_runner.store.content import CHUNK_BYTES, checked, checked_mark, measure, seekable
from queue_runner.store.uploads import PIECE_BYTES, Standing
from queue_runner.tls import distrust

_TIMEOUT_S = 60.0
#: Seconds without any progress after which a transfer is given up.
_PATIENCE_S = 20.0
#: Seconds for the first answer: who is not there at all is reported soon.
_FIRST_S = 3.0
_BACK_OFF_S = (0.1, 2.0)
#: How often content that arrived damaged is sent again.
_SENDS = 3
_EMPTY = hashlib.sha256().hexdigest()


class _Patience:
    """Waits between tries, longer each time, and gives up when nothing went forward for too long."""

    def __init__(self) -> None:
        self._pause_s, self._end = _BACK_OFF_S[0], time.monotonic() + _FIRST_S

    def progressed(self) -> None:
        self._pause_s, self._end = _BACK_OFF_S[0], time.monotonic() + _PATIENCE_S

    def wait(self, error: StoreUnavailable) -> None:
        if time.monotonic() + self._pause_s > self._end:
            raise error
        time.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _BACK_OFF_S[1])


class CollectorStore(Store):
    """url: the collector's, such as http://head:8787; token: its bearer token; ca_file: of its HTTPS."""

    def __init__(self, url: str, token: str | None, ca_file: Path | None = None) -> None:
        self.name = url.rstrip("/")
        try:
            self._http = Session(url, token, ca_file, timeout_s=_TIMEOUT_S)
        except ValueError as error:
            raise StoreRefused(f"{self.name!r} is no collector URL: {error}") from error

    def close(self) -> None:
        self._http.close()

    # -- put -------------------------------------------------------------------------------------

    def put(self, source: IO[bytes]) -> tuple[str, int]:
        with seekable(source) as content:
            start = content.tell()
            for left in reversed(range(_SENDS)):
                content.seek(start)
                sha256, size_bytes = measure(content)
                try:
                    self._send(content, start, sha256, size_bytes)
                    return sha256, size_bytes
                except StoreDamaged as error:
                    # the file changed under us, or what the collector had of it was something else
                    if not left:
                        text = f"store {self.name}: {error} Is the file still being written to?"
                        raise StoreUnavailable(text) from error
        raise AssertionError("unreachable")

    def renewed(self, sha256: str, size_bytes: int) -> bool:
        standing = self._standing(self._ask("GET", _upload(sha256), _Patience()))
        return standing.complete and standing.received_bytes == size_bytes

    def _send(self, content: IO[bytes], start: int, sha256: str, size_bytes: int) -> None:
        patience = _Patience()
        standing = self._standing(self._ask("GET", _upload(sha256), patience))
        patience.progressed()
        # complete, but of another size: an object that the collector's disk has lost a part of
        while not standing.complete or standing.received_bytes != size_bytes:
            received = 0 if standing.complete else standing.received_bytes
            piece = _Piece(content, start, received, size_bytes)
            standing = self._append(_upload(sha256), patience, piece)
            if standing.complete or standing.received_bytes > received:
                patience.progressed()
            else:
                patience.wait(StoreUnavailable(f"store {self.name}: an upload does not go on"))

    def _append(self, path: str, patience: _Patience, piece: _Piece) -> Standing:
        return self._standing(self._ask("PATCH", path, patience, piece.options))

    def _standing(self, response: Response) -> Standing:
        try:
            answer = response.json()
            return Standing(int(answer["received_bytes"]), bool(answer["complete"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreRefused(f"{self.name} answers, but is no collector") from error

    def check(self) -> None:
        self._standing(self._ask("GET", _upload(_EMPTY), _Patience()))

    # -- get -------------------------------------------------------------------------------------

    def size_bytes(self, sha256: str) -> int | None:
        try:
            answer = self._ask("HEAD", f"/v1/store/{checked(sha256)}", _Patience())
        except NotFound:
            return None
        size_bytes = answer.headers.get("content-length", "")
        if not size_bytes.isdecimal():
            raise StoreRefused(f"{self.name} answers, but is no collector")
        return int(size_bytes)

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        path, patience, at = f"/v1/store/{checked(sha256)}", _Patience(), offset
        while True:
            try:
                headers = {"range": f"bytes={at}-", "accept-encoding": "identity"}
                with self._http.stream("GET", path, headers=headers) as response:
                    if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                        return  # there is nothing after what is here already
                    if not succeeded(response):
                        self._refuse(response)
                    for chunk in chunks(response, CHUNK_BYTES):
                        at += len(chunk)
                        patience.progressed()
                        yield chunk
                return
            except Unanswered as error:
                self._check_trust(error)
                patience.wait(self._unavailable(error))
            except StoreUnavailable as error:
                patience.wait(error)

    # -- marks -----------------------------------------------------------------------------------

    def mark(self, name: str, sha256: str) -> None:
        body = {"sha256": checked(sha256)}
        self._ask("PUT", _mark(name), _Patience(), lambda: {"json": body})

    def marked(self, name: str) -> str | None:
        try:
            answer = self._ask("GET", _mark(name), _Patience())
        except NotFound:
            return None
        try:
            return checked(str(answer.json()["sha256"]))
        except (ValueError, KeyError, TypeError, NotFound) as error:
            raise StoreRefused(f"{self.name} answers, but is no collector") from error

    def unmark(self, name: str) -> None:
        self._ask("DELETE", _mark(name), _Patience())

    # -- the collector's own business --------------------------------------------------------------

    def usage(self) -> dict[str, Any]:
        """What the collector's store holds and may hold, in bytes."""
        usage: dict[str, Any] = self._ask("GET", "/v1/store", _Patience()).json()
        return usage

    def collect_garbage(self, older_than_s: float, *, dry_run: bool) -> dict[str, Any]:
        """Have the collector remove what none of its studies refers to; see `garbage.Collected`."""
        body = {"older_than_s": older_than_s, "dry_run": dry_run}
        # it looks at every result there is, however long that takes
        answer = self._ask(
            "POST", "/v1/store/gc", _Patience(), lambda: {"json": body, "patient": True}
        )
        collected: dict[str, Any] = answer.json()
        return collected

    def entries(self) -> Iterator[Entry]:
        raise Unsupported(f"the store of the collector {self.name} lists nothing over HTTP")

    def marks(self) -> Iterator[tuple[str, str]]:
        raise Unsupported(f"the store of the collector {self.name} lists nothing over HTTP")

    def delete(self, sha256: str, older_than_s: float) -> bool:
        raise Unsupported(f"the collector {self.name} removes objects itself: `store gc`")

    def sweep(self, older_than_s: float, *, dry_run: bool = False) -> int:
        raise Unsupported(f"the collector {self.name} removes uploads itself: `store gc`")

    # -- requests --------------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        path: str,
        patience: _Patience,
        options: Callable[[], dict[str, Any]] = dict,
    ) -> Response:
        while True:
            try:
                response = self._http.request(method, path, **options())
                if succeeded(response):
                    return response
                self._refuse(response)
            except Unanswered as error:
                self._check_trust(error)
                patience.wait(self._unavailable(error))
            except StoreUnavailable as error:
                patience.wait(error)

    def _check_trust(self, error: Unanswered) -> None:
        if (why := distrust(error)) is not None:
            raise StoreRefused(f"the store of the collector at {self.name}: {why}") from error

    def _unavailable(self, error: Unanswered) -> StoreUnavailable:
        return StoreUnavailable(
            f"the store of the collector at {self.name} does not answer:"
            f" {error or type(error).__name__}. Is the collector running?"
        )

    def _refuse(self, response: Response) -> NoReturn:
        code, text = _error(response)
        where = f"the store of the collector at {self.name}"
        if code == "unauthorized":
            raise StoreRefused(
                f"{where} wants its token: set QUEUE_RUNNER_TOKEN_FILE to the file that holds it"
            )
        if code in _ERRORS:
            raise _ERRORS[code](f"{where}: {text}")
        if response.status >= 500 or response.status in (408, 429):
            raise StoreUnavailable(f"{where}: {text}")
        if code is None:
            raise StoreRefused(f"{where}: {text}; that is no collector, or a proxy before it")
        raise StoreRefused(f"{where}: {text}")


_ERRORS: dict[str | None, type[FixThis]] = {
    "not-found": NotFound,
    "too-big": TooBig,
    "store-full": StoreFull,
    "other-content": StoreDamaged,
}


def _upload(sha256: str) -> str:
    return f"/v1/store/{sha256}/upload"


def _mark(name: str) -> str:
    return f"/v1/marks/{checked_mark(name)}"


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of `content`, whose first byte is at `start`."""

    content: IO[bytes]
    start: int
    offset: int
    size_bytes: int

    @property
    def length(self) -> int:
        return min(PIECE_BYTES, max(0, self.size_bytes - self.offset))

    def options(self) -> dict[str, Any]:
        return {
            "query": {"offset": self.offset, "size_bytes": self.size_bytes},
            "headers": {"content-length": str(self.length)},
            "body": self._chunks(),
        }

    def _chunks(self) -> Iterator[bytes]:
        self.content.seek(self.start + self.offset)
        left = self.length
        while left:
            chunk = self.content.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise StoreDamaged("the file became shorter.")
            left -= len(chunk)
            yield chunk


def _error(response: Response) -> tuple[str | None, str]:
    try:
        error = response.json()["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        # an answer to HEAD has no body
        code = {401: "unauthorized", 404: "not-found"}.get(response.status)
        return code, f"{response.status} {response.reason}"
