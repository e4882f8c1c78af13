"""Where settings come from, and which wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_runner.brokers import connect, redacted
from queue_runner.client.config import DEFAULT_BROKER, load_config
from queue_runner.errors import FixThis, UnknownScheme
from queue_runner.store import BundleLimits


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("BROKER", "COLLECTOR", "STORE", "TOKEN", "KEYS", "CA"):
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


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hush/hush@host",
        "redis://:hush?hush@host",
        "redis://:hush?hush=x@host",
        "redis://:hush#hush@host",
        "amqp://me:hush/hush@host:5672/",
        "amqp://me:5672/hush@host/x",
        "amqp://me:hush-hush@host:port/",
        "amqp://me:hush-hush@host/?prefx=1",
        "redis://:hush-hush@host/one",
        "redis://:hush-hush@host/?nonsense=1",
        "zmq+tcp://me:hush-hush@host:port",
        "zmq+tcp://host:5670?nonsense=1",
    ],
)
def test_a_malformed_url_is_the_users_to_mend_and_shows_no_password(url: str) -> None:
    with pytest.raises(FixThis) as refused:
        connect(url)
    assert "hush" not in str(refused.value)


def test_what_a_worker_accepts_is_settled_rule_by_rule(tmp_path: Path) -> None:
    (tmp_path / "config" / "queue-runner").mkdir(parents=True)
    user = tmp_path / "config" / "queue-runner" / "config.toml"
    user.write_text('[accept]\nkinds = ["mpi"]\nimages = ["a/*"]\n')
    Path("queue-runner.toml").write_text('broker = "redis://x"\n[accept]\nkinds = []\n')
    assert load_config().accept == {"kinds": [], "images": ["a/*"]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("accept = 'all'", "accept: expected a table of rules: kinds, images, networks, runtimes"),
        ("[accept]\nkind = ['mpi']", "accept.kind: no such rule; did you mean 'kinds'"),
        ("[accept]\nkinds = 'mpi'", "accept.kinds: expected a list of patterns"),
        ("[accept]\nkinds = [1]", "accept.kinds: expected a list of patterns"),
    ],
)
def test_a_rule_that_is_none_is_refused(text: str, why: str) -> None:
    Path("queue-runner.toml").write_text(text)
    with pytest.raises(FixThis) as caught:
        load_config()
    assert str(caught.value).startswith(f"queue-runner.toml: {why}")


def test_the_keys_are_a_file_by_the_nearest_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config().keys_file is None
    Path("queue-runner.toml").write_text('keys_file = "~/keys.json"\n')
    assert load_config().keys_file == Path("~/keys.json").expanduser()
    monkeypatch.setenv("QUEUE_RUNNER_KEYS_FILE", "/run/secrets/keys.json")
    assert load_config().keys_file == Path("/run/secrets/keys.json")
    assert load_config(keys_file="other.json").keys_file == Path("other.json")


def test_an_authority_is_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config().ca_file is None
    Path("queue-runner.toml").write_text('ca_file = "ca.pem"\n')
    assert load_config().ca_file == Path("ca.pem")
    monkeypatch.setenv("QUEUE_RUNNER_CA_FILE", "~/ca.pem")
    assert load_config().ca_file == Path("~/ca.pem").expanduser()


def test_how_large_bundles_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config().bundles == BundleLimits(2 * 1024**3, 1_000_000)
    Path("queue-runner.toml").write_text('bundle_size = "3 MiB"\n')
    assert load_config().bundles == BundleLimits(3 * 1024**2, 1_000_000)
    monkeypatch.setenv("QUEUE_RUNNER_BUNDLE_FILES", "7")
    assert load_config(bundle_size="10").bundles == BundleLimits(10, 7)
    for wrong in ("many", "0"):
        monkeypatch.setenv("QUEUE_RUNNER_BUNDLE_FILES", wrong)
        with pytest.raises(FixThis, match=f"bundle_files='{wrong}' from the environment"):
            load_config()
