"""Where settings come from, and which wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_runner.brokers import connect, redacted
from queue_runner.client.config import DEFAULT_BROKER, load_config
from queue_runner.errors import FixThis, UnknownScheme


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("BROKER", "COLLECTOR", "STORE", "TOKEN"):
        monkeypatch.delenv(f"QUEUE_RUNNER_{name}", raising=False)
        monkeypatch.delenv(f"QUEUE_RUNNER_{name}_FILE", raising=False)


def test_defaults() -> None:
    config = load_config()
    assert config.broker == DEFAULT_BROKER
    assert config.token is None
    assert not config.given


def test_the_nearest_setting_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config" / "queue-runner").mkdir(parents=True)
    user = tmp_path / "config" / "queue-runner" / "config.toml"
    user.write_text('broker = "redis://user"\nstore = "file:///user"\n')
    assert load_config().broker == "redis://user"
    Path("queue-runner.toml").write_text('broker = "redis://project"\n')
    assert load_config().broker == "redis://project"
    monkeypatch.setenv("QUEUE_RUNNER_BROKER", "redis://environment")
    assert load_config().broker == "redis://environment"
    config = load_config(broker="redis://argument")
    assert config.broker == "redis://argument"
    assert config.store == "file:///user"
    assert config.given == {"broker": "the command line", "store": str(user)}


def test_secrets_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    monkeypatch.setenv("QUEUE_RUNNER_TOKEN_FILE", str(tmp_path / "secret"))
    assert load_config().token == "s3cret"


def test_a_missing_secret_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_RUNNER_TOKEN_FILE", "/nowhere/token")
    with pytest.raises(FixThis, match=r"token file named by the environment.*/nowhere/token"):
        load_config()


@pytest.mark.parametrize("text", ["brokr = 'x'", "broker = 3", "broker ="])
def test_a_bad_file_is_named(text: str) -> None:
    Path("queue-runner.toml").write_text(text)
    with pytest.raises(FixThis, match=r"queue-runner\.toml"):
        load_config()


def test_an_unknown_scheme_names_the_nearest() -> None:
    with pytest.raises(UnknownScheme, match=r"installed: amqp, .*Did you mean redis://\?"):
        connect("redi://:secret@host")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://me:secret@host:5672/v", "amqp://me:***@host:5672/v"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis://host", "redis://host"),
        ("amqp://me:se/cret@[host", "amqp://me:***@[host"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown
