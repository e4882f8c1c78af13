"""Certificates of a throwaway authority, and of another one that nobody here trusts."""

from __future__ import annotations

from pathlib import Path

import trustme


class Certificates:
    """PEM files below `folder`: `ca.pem`, and `NAME.pem` with `NAME.key` for a server and clients.

    `elsewhere` is a server's of another name, `stranger` a client's of the other authority `other-ca.pem`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        ours, other = trustme.CA(), trustme.CA()
        ours.cert_pem.write_to_path(str(folder / "ca.pem"))
        other.cert_pem.write_to_path(str(folder / "other-ca.pem"))
        self._write("server", ours.issue_cert("127.0.0.1"))
        self._write("elsewhere", ours.issue_cert("elsewhere.example"))
        self._write("client", ours.issue_cert("client@example.org"))
        self._write("stranger", other.issue_cert("stranger@example.org"))

    def _write(self, name: str, issued: trustme.LeafCert) -> None:
        issued.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))
        path = self.folder / f"{name}.pem"
        path.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))

    def path(self, name: str) -> str:
        return str(self.folder / name)
