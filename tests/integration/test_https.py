"""A collector with a certificate: who does not trust it, or has no token, gets nothing and is told why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.secured import Https
from tests.integration.system import System
from tests.integration.tls import Certificates


@pytest.fixture(scope="module")
def https(tmp_path_factory: pytest.TempPathFactory, _zeromq_session: object) -> Iterator[Https]:
    url = getattr(_zeromq_session, "url")  # noqa: B009 - its type is the plug-in's own business
    system = Https(tmp_path_factory.mktemp("https"), f"{url}?prefix=https")
    try:
        yield system
    finally:
        system.stop()


def _refused(system: System, *changes: tuple[str, str | None]) -> str:
    """What `status` says when it is refused with these changes of its environment."""
    before = dict(system.env)
    for name, value in changes:
        system.env.pop(name, None)
        if value is not None:
            system.env[name] = value
    try:
        done = system.call("status")
    finally:
        system.env = before
    assert done.returncode == 4, done.stderr
    assert done.stdout == ""
    return done.stderr


def test_who_trusts_it_is_served(https: Https) -> None:
    assert https.json("status")["studies"] == []
    assert '"ok"' in https.ok("health", "collector")
    findings = {finding["name"]: finding for finding in https.json("doctor")}
    assert findings["collector"]["level"] == findings["store"]["level"] == "ok"


@pytest.mark.parametrize("ca", [None, "other-ca.pem"])
def test_who_does_not_trust_it_is_told_how(https: Https, ca: str | None) -> None:
    path = None if ca is None else https.certificates.path(ca)
    said = _refused(https, ("QUEUE_RUNNER_CA_FILE", path))
    assert "not trusted" in said
    assert "QUEUE_RUNNER_CA_FILE" in said


def test_the_store_is_not_trusted_either(https: Https) -> None:
    before = https.env.pop("QUEUE_RUNNER_CA_FILE")
    try:
        done = https.call("store", "gc", "--dry-run")
    finally:
        https.env["QUEUE_RUNNER_CA_FILE"] = before
    assert done.returncode == 4, done.stderr
    assert "QUEUE_RUNNER_CA_FILE" in done.stderr


def test_a_token_is_asked_for_as_ever(https: Https) -> None:
    said = _refused(https, ("QUEUE_RUNNER_TOKEN_FILE", None), ("QUEUE_RUNNER_TOKEN", "wrong"))
    assert "wants its token" in said


def test_without_tls_nothing_is_said(https: Https) -> None:
    before = https.env["QUEUE_RUNNER_COLLECTOR"]
    https.env["QUEUE_RUNNER_COLLECTOR"] = f"http://{https.address}"
    try:
        done = https.call("status")
    finally:
        https.env["QUEUE_RUNNER_COLLECTOR"] = before
    assert done.returncode == 3, done.stderr
    assert "https://" in done.stderr


def test_an_authority_that_is_no_certificate_is_named(https: Https) -> None:
    https.env["QUEUE_RUNNER_CA_FILE"] = "/nowhere/ca.pem"
    try:
        done = https.call("status")
    finally:
        https.env["QUEUE_RUNNER_CA_FILE"] = https.certificates.path("ca.pem")
    assert done.returncode == 2
    assert "/nowhere/ca.pem" in done.stderr


def test_a_certificate_for_another_name_is_refused(tmp_path: Path, zeromq_url: str) -> None:
    system = Https(tmp_path, zeromq_url, certificate="elsewhere")
    try:
        assert "host name that stands in it" in _refused(system)
    finally:
        system.stop()


def test_https_where_there_is_none(tmp_path: Path, zeromq_url: str) -> None:
    system = System(tmp_path, zeromq_url)
    try:
        system.start_collector()
        plain = system.env["QUEUE_RUNNER_COLLECTOR"]
        said = _refused(system, ("QUEUE_RUNNER_COLLECTOR", plain.replace("http:", "https:")))
        assert "does not speak TLS" in said
    finally:
        system.stop()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tls-cert", "server.pem"), "go together"),
        (("--tls-cert", "nowhere.pem", "--tls-key", "server.key"), "nowhere.pem"),
        (("--tls-cert", "server.pem", "--tls-key", "client.key"), "client.key"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named_at_the_start(
    tmp_path: Path, zeromq_url: str, options: tuple[str, ...], said: str
) -> None:
    files = Certificates(tmp_path / "certificates")
    given = [files.path(option) if "." in option else option for option in options]
    done = System(tmp_path, zeromq_url).call("collector", *given)
    assert done.returncode == 2
    assert said in done.stderr
