"""TLS between an adapter and its server: the files it takes, and why the two do not come to terms."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from queue_runner.errors import BrokerRefused

#: Alerts with which a server does not speak of us: https://www.rfc-editor.org/rfc/rfc8446#section-6
_NOT_OF_US = ("INTERNAL_ERROR", "USER_CANCELLED")


def client_context(
    shown: str, files: Mapping[str, str], names: tuple[str, str, str]
) -> ssl.SSLContext:
    """Trusts what the authority's file signed, or what the system trusts where none is named.

    names: what the URL `shown` calls the files of the authority, of our own certificate, of its key.
    Raises `BrokerRefused` for files that cannot be used.
    """
    for name in names:
        _readable(shown, name, files.get(name))
    ca, own, key = (files.get(name) for name in names)
    if key is not None and own is None:
        raise BrokerRefused(
            f"{shown}: {names[2]} is the key of a certificate: name it with {names[1]}"
        )
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one, too
        raise BrokerRefused(
            f"{shown}: {names[0]} {ca} is no certificate in PEM: {error}"
        ) from error
    try:
        if own is not None:
            # a password, and be it a wrong one, keeps it from asking for one
            context.load_cert_chain(own, key, password="")
    except OSError as error:
        raise BrokerRefused(
            f"{shown}: cannot use the certificate {own} with the key {key or own}: {error}. Expected PEM"
            f" files that belong together ({names[1]}, {names[2]}), the key without a password."
        ) from error
    return context


def _readable(shown: str, name: str, path: str | None) -> None:
    if path is None:
        return
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise BrokerRefused(f"{shown}: {name} {path} cannot be read: {error.strerror}") from error


def distrust(error: BaseException | str) -> bool:
    """Whether it is us who do not trust the server's certificate."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def rejection(
    host: str, port: int, context: ssl.SSLContext, name: str, timeout_s: float
) -> str | None:
    """What the server has against us or our certificate; None where that is not why it went away.

    With TLS 1.3 a server says so after our part of the handshake. If we have sent more by then, its
    answer may be lost in the reset that follows, so this connection sends nothing.
    """
    try:
        with (
            socket.create_connection((host, port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            secured.recv(1)
    except ssl.SSLError as error:
        return _alert(error)
    except OSError:
        return None
    return None


def speaks_tls(host: str, port: int, timeout_s: float) -> bool:
    """Whether TLS is spoken there; nothing is sent to it that would be worth to hide."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout_s) as plain:
            context.wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLError as error:
        return _alert(error) is not None
    except OSError:
        return False
    return True


def answers_plainly(host: str, port: int, question: bytes, timeout_s: float) -> bytes:
    """The first bytes of what comes back for `question` without TLS; none where nothing does."""
    answer = b""
    with suppress(OSError), socket.create_connection((host, port), timeout_s) as plain:
        plain.sendall(question)
        answer = plain.recv(64)
    return answer


def _alert(error: ssl.SSLError) -> str | None:
    reason = error.reason or ""
    if "_ALERT_" not in reason or reason.endswith(_NOT_OF_US):
        return None
    return reason.partition("_ALERT_")[2].lower().replace("_", " ")
