"""uvicorn in a thread, with a certificate where it serves HTTPS."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from queue_runner.collector.patience import PatientProtocol
from queue_runner.errors import FixThis

_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files: the certificate with those that lead to its authority, and its secret key."""

    chain: Path
    key: Path


def certificate_of(chain: Path | None, key: Path | None) -> Certificate | None:
    """What the options come to, tried out. Raises `FixThis`."""
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        raise FixThis("a certificate and its secret key go together: --tls-cert and --tls-key")
    try:
        # a password, and be it a wrong one, keeps it from asking for one
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password="")
    except OSError as error:  # ssl.SSLError is one, too
        raise FixThis(
            f"cannot use the certificate {chain} with the key {key}: {error}. Expected PEM files, the"
            " key without a password"
        ) from error
    return Certificate(chain, key)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class HttpServer:
    """uvicorn in a thread. `url` is where it listens, with the real port where 0 was asked for."""

    def __init__(
        self, app: Starlette, host: str, port: int, certificate: Certificate | None = None
    ) -> None:
        """Raises `FixThis` when the address cannot be listened on."""
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
            # connections inherit it; asyncio sets it only where a socket names its protocol. An answer's
            # head and body are written one after the other, and would wait 40 ms for each other
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise FixThis(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --listen"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://{shown}:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(_config(app, certificate))
        self._thread = threading.Thread(target=self._run, name="collector-http", daemon=True)

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()


def _config(app: Starlette, certificate: Certificate | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        # where uvloop is installed it would be taken, whose transports raise what asyncio's do not
        loop="asyncio",
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        # nobody here looks at where a request came from
        proxy_headers=False,
        timeout_graceful_shutdown=int(_STOP_S),
        ssl_certfile=None if certificate is None else certificate.chain,
        ssl_keyfile=None if certificate is None else certificate.key,
    )
