"""HTTPS from a client's side: whom it trusts, and what went wrong where it does not."""

from __future__ import annotations

import ssl
from pathlib import Path

from queue_runner.errors import FixThis

_TRUST = (
    "set QUEUE_RUNNER_CA_FILE to the certificate of the authority that signed it (or to its own, where it"
    " signed itself), and use a host name that stands in it"
)


def trusting(url: str, ca_file: Path | None) -> ssl.SSLContext | bool:
    """Trusts what `ca_file` signed and nobody else; without one, the authorities that the system trusts.

    False where `url` is no `https:`: reading the system's authorities takes longer than many a request.
    Raises `FixThis` for a file that is none.
    """
    if not url.lower().startswith("https:"):
        return False
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:  # ssl.SSLError is one, too
        raise FixThis(
            f"cannot read the authority's certificate {ca_file} (QUEUE_RUNNER_CA_FILE): {error}"
        ) from error


def distrust(error: BaseException) -> str | None:
    """Why there can be no TLS with the other side, where that is what `error` says."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"its certificate is not trusted ({text}): {_TRUST}"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return "it does not speak TLS: write http:// if that is meant to be so"
    if "CERTIFICATE_REQUIRED" in text:
        return f"it wants a certificate of the client, which there is no setting for ({text})"
    return None
