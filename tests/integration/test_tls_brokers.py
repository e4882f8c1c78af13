"""RabbitMQ and Redis that speak TLS only, and only with those whose certificate they trust."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from queue_runner.brokers import Message, connect
from queue_runner.errors import BrokerRefused
from tests.integration.secured import KINDS, Secured, start_secured
from tests.integration.system import System


@pytest.fixture(scope="module", params=sorted(KINDS))
def secured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    with ExitStack() as stack:
        yield start_secured(stack, request.param, tmp_path_factory.mktemp(request.param))


def test_who_has_a_certificate_comes_in(secured: Secured) -> None:
    with connect(secured.trusted) as broker:
        broker.publish([Message("q", b"hello")])
        (delivery,) = broker.lease(["q"], 1, 10.0)
        assert delivery.body == b"hello"
        assert broker.settle(done=[delivery]) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("ca.pem", None, None), "does not accept this client's certificate"),
        (("ca.pem", "stranger.pem", "stranger.key"), "does not accept this client's certificate"),
        ((None, "client.pem", "client.key"), "certificate is not trusted"),
        (("other-ca.pem", "client.pem", "client.key"), "certificate is not trusted"),
        (("nowhere.pem", "client.pem", "client.key"), "nowhere.pem cannot be read"),
        (("client.key", "client.pem", "client.key"), "client.key is no certificate"),
        (("ca.pem", "client.pem", "server.key"), "belong together"),
    ],
)
def test_others_get_nothing_and_are_told_why(
    secured: Secured, files: tuple[str | None, ...], said: str, tmp_path: Path
) -> None:
    with connect(secured.trusted) as broker:
        broker.publish([Message("secret", b"not for you")])
        before = broker.depth("secret").ready
    url = secured.with_files(*files)
    done = System(tmp_path).call("health", "broker", "--broker", url)
    assert done.returncode == 4, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(BrokerRefused, match=said), connect(url) as broker:
        broker.lease(["secret"], 1, 20.0)
    with connect(secured.trusted) as broker:
        assert broker.depth("secret").ready == before


def test_without_tls_nothing_is_heard(secured: Secured, tmp_path: Path) -> None:
    url = secured.url.replace("amqps:", "amqp:").replace("rediss:", "redis:")
    done = System(tmp_path).call("health", "broker", "--broker", url)
    assert done.returncode == 4, done.stderr
    assert secured.url.partition(":")[0] in done.stderr.partition("TLS only")[2]
    with pytest.raises(BrokerRefused, match="speaks TLS only"), connect(url) as broker:
        broker.server(timeout_s=20.0)


def test_tls_where_there_is_none(broker_kind: str, request: pytest.FixtureRequest) -> None:
    plain: str = request.getfixturevalue(f"{broker_kind}_url")
    url = plain.replace("amqp:", "amqps:").replace("redis:", "rediss:")
    with pytest.raises(BrokerRefused, match="does not speak TLS"), connect(url) as broker:
        broker.server(timeout_s=20.0)


@pytest.fixture(params=sorted(KINDS))
def broker_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def test_a_server_of_another_name_is_refused(secured: Secured) -> None:
    """Its certificate is for 127.0.0.1 only."""
    url = secured.trusted.replace("127.0.0.1", "localhost", 1)
    with pytest.raises(BrokerRefused, match="CERTIFICATE_VERIFY_FAILED"), connect(url) as broker:
        broker.server(timeout_s=20.0)
