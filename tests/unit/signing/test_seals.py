"""What a seal lets through: what was signed with a known key for that very place, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_runner.errors import KeysRefused, NoKeys, NotTrusted
from queue_runner.model import Cancel
from queue_runner.signing import (
    CONTROL,
    HEARTBEATS,
    REQUESTS,
    RESULTS,
    UNSIGNED,
    Heard,
    for_client,
    for_collector,
    for_worker,
    on_queue,
    open_seal,
)
from queue_runner.signing.file import write_key_file
from queue_runner.signing.keys import CLOCKS_S, DAY_S, Key, KeySet
from queue_runner.signing.seal import Seal
from queue_runner.wire import encode

JOBS = on_queue("jobs.default")
PURPOSES = [JOBS, on_queue("jobs.other"), RESULTS, REQUESTS, HEARTBEATS, CONTROL]
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    write_key_file(path, KeySet({}).with_key(Key.make("lab", time.time())))
    return path


@pytest.fixture(scope="module")
def seal(path: Path) -> Seal:
    return open_seal(path)


def keys_with(path: Path, keys: KeySet) -> Seal:
    write_key_file(path, keys)
    return open_seal(path)


@contextmanager
def clock_ahead(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """What another host would do whose clock is so much ahead."""
    now, now_ns = time.time, time.time_ns
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now() + seconds)
        patched.setattr(time, "time_ns", lambda: now_ns() + int(seconds * 1e9))
        yield


@given(body=st.binary(max_size=200), purpose=st.sampled_from(PURPOSES))
def test_what_was_sealed_can_be_opened(seal: Seal, path: Path, body: bytes, purpose: str) -> None:
    assert open_seal(path).open(seal.seal(body, purpose), purpose) == body


@given(data=st.data(), body=st.binary(max_size=200), purpose=st.sampled_from(PURPOSES))
def test_any_altered_bit_is_refused(
    seal: Seal, data: st.DataObject, body: bytes, purpose: str
) -> None:
    message = bytearray(seal.seal(body, purpose))
    bit = data.draw(st.integers(0, 8 * len(message) - 1))
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(NotTrusted):
        seal.open_any(bytes(message), PURPOSES)


@given(data=st.data(), body=st.binary(max_size=50))
def test_a_message_cut_off_or_made_longer_is_refused(
    seal: Seal, data: st.DataObject, body: bytes
) -> None:
    message = seal.seal(body, JOBS)
    cut = data.draw(st.integers(0, len(message) - 1))
    more = data.draw(st.binary(min_size=1, max_size=40))
    for other in (message[:cut], message[cut + 1 :], message + more, more + message):
        with pytest.raises(NotTrusted):
            seal.open(other, JOBS)


@given(st.binary(max_size=300))
def test_what_is_not_signed_is_refused(seal: Seal, body: bytes) -> None:
    with pytest.raises(NotTrusted):
        seal.open(body, JOBS)


def test_an_unsigned_message_is_told_so(seal: Seal) -> None:
    with pytest.raises(NotTrusted, match="it is not signed, and here only signed messages are"):
        seal.open(encode(Cancel("s")), CONTROL)


@pytest.mark.parametrize("signed", PURPOSES)
def test_what_was_signed_for_one_place_is_refused_in_all_others(seal: Seal, signed: str) -> None:
    message = seal.seal(b"body", signed)
    for other in PURPOSES:
        if other != signed:
            with pytest.raises(NotTrusted, match=r"it was signed for '.*', and came for '.*'"):
                seal.open(message, other)


def test_a_purpose_that_is_claimed_does_not_verify(seal: Seal) -> None:
    """Each place has a secret of its own: to write another place into a message is of no use."""
    message = seal.seal(b"body", RESULTS)
    forged = message.replace(RESULTS.encode(), REQUESTS.encode())
    assert forged != message
    with pytest.raises(NotTrusted, match="its signature is wrong"):
        seal.open(forged, REQUESTS)


def test_an_unknown_key_is_named(seal: Seal, tmp_path: Path) -> None:
    other = keys_with(tmp_path / "other.json", KeySet({}).with_key(Key.make("stranger", 0.0)))
    with pytest.raises(NotTrusted, match="'stranger', which is not known here; known: lab"):
        seal.open(other.seal(b"body", JOBS), JOBS)


def test_another_key_of_the_same_name_is_refused(seal: Seal, tmp_path: Path) -> None:
    other = keys_with(tmp_path / "other.json", KeySet({}).with_key(Key.make("lab", 0.0)))
    with pytest.raises(NotTrusted, match="another key of the name 'lab'"):
        seal.open(other.seal(b"body", JOBS), JOBS)


def test_without_keys_what_is_signed_is_not_taken_for_granted(seal: Seal) -> None:
    assert UNSIGNED.open(UNSIGNED.seal(b"body", JOBS), JOBS) == b"body"
    with pytest.raises(NoKeys, match="set QUEUE_RUNNER_KEYS_FILE"):
        UNSIGNED.open(seal.seal(b"body", JOBS), JOBS)


# -- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead_s", [-HOUR_S, HOUR_S, -23 * HOUR_S, 23 * HOUR_S])
def test_a_clock_that_is_wrong_changes_nothing(
    seal: Seal, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    with clock_ahead(monkeypatch, ahead_s):
        message, broadcast = seal.seal(b"body", JOBS), seal.seal(b"body", CONTROL)
    assert seal.open(message, JOBS) == b"body"
    assert seal.hear(broadcast, CONTROL, Heard()) == b"body"


def test_jobs_may_wait_for_months_and_not_for_ever(
    seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = seal.seal(b"body", JOBS)
    with clock_ahead(monkeypatch, 180 * DAY_S):
        assert seal.open(message, JOBS) == b"body"
    with (
        clock_ahead(monkeypatch, 182 * DAY_S),
        pytest.raises(NotTrusted, match="signed 182 days ago, and 180 days are allowed"),
    ):
        seal.open(message, JOBS)


def test_what_was_signed_in_the_future_is_refused(
    seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with clock_ahead(monkeypatch, 3 * DAY_S):
        message = seal.seal(b"body", JOBS)
    with pytest.raises(NotTrusted, match="3 days in the future"):
        seal.open(message, JOBS)


def test_the_age_allowed_is_the_key_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeySet({}, max_age_s=7 * DAY_S).with_key(Key.make("lab", 0.0))
    seal = keys_with(tmp_path / "keys.json", keys)
    message = seal.seal(b"body", JOBS)
    with clock_ahead(monkeypatch, 9 * DAY_S), pytest.raises(NotTrusted, match="7 days are allowed"):
        seal.open(message, JOBS)


def test_an_expired_key_signs_nothing_and_then_verifies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeySet({}).with_key(Key.make("old", 0.0, not_after=time.time() + HOUR_S))
    seal = keys_with(tmp_path / "keys.json", keys)
    message = seal.seal(b"body", JOBS)
    with clock_ahead(monkeypatch, 2 * HOUR_S):
        with pytest.raises(KeysRefused, match="'old' has expired; make another"):
            seal.seal(b"body", JOBS)
        assert seal.open(message, JOBS) == b"body"  # other clocks may be behind
    with (
        clock_ahead(monkeypatch, CLOCKS_S + 2 * HOUR_S),
        pytest.raises(NotTrusted, match="the key 'old', which has expired"),
    ):
        seal.open(message, JOBS)


# -- broadcasts ----------------------------------------------------------------------------------


def test_a_broadcast_is_heard_once(seal: Seal) -> None:
    heard = Heard()
    cancel = seal.seal(encode(Cancel("s")), CONTROL)
    lifted = seal.seal(encode(Cancel("s", lifted=True)), CONTROL)
    assert seal.hear(cancel, CONTROL, heard)
    assert seal.hear(lifted, CONTROL, heard)
    for repeated in (cancel, lifted):
        with pytest.raises(NotTrusted, match="broadcast before"):
            seal.hear(repeated, CONTROL, heard)
    assert seal.hear(cancel, CONTROL, Heard())  # another listener


def test_broadcasts_of_several_senders_may_come_in_any_order(seal: Seal, path: Path) -> None:
    other, heard = open_seal(path), Heard()
    first, second = seal.seal(b"1", CONTROL), other.seal(b"2", CONTROL)
    assert seal.hear(second, CONTROL, heard) == b"2"
    assert seal.hear(first, CONTROL, heard) == b"1"


def test_an_old_broadcast_is_refused(seal: Seal, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = seal.seal(encode(Cancel("s")), CONTROL)
    with clock_ahead(monkeypatch, 3 * DAY_S), pytest.raises(NotTrusted, match="it has expired"):
        seal.hear(cancel, CONTROL, Heard())


def test_broadcasts_are_heard_though_the_clock_goes_back(
    seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    assert seal.hear(seal.seal(b"1", CONTROL), CONTROL, heard)
    with clock_ahead(monkeypatch, -HOUR_S):
        assert seal.hear(seal.seal(b"2", CONTROL), CONTROL, heard) == b"2"


# -- which keys a host has ---------------------------------------------------------------------


def test_a_host_with_the_secrets_of_one_role_can_do_no_more(tmp_path: Path) -> None:
    whole = KeySet({}).with_key(Key.make("lab", 0.0))
    role = for_worker(["mpi"])
    worker = keys_with(tmp_path / "worker.json", whole.limited_to(role.purposes))
    lab = keys_with(tmp_path / "lab.json", whole)
    assert lab.open(worker.seal(b"result", RESULTS), RESULTS) == b"result"
    assert worker.open(lab.seal(b"job", on_queue("jobs.mpi")), on_queue("jobs.mpi")) == b"job"
    worker.check(role)
    for purpose in (JOBS, REQUESTS):
        with pytest.raises(KeysRefused, match="is not for"):
            worker.seal(b"body", purpose)
    with pytest.raises(NotTrusted, match=r"is not for 'queue: jobs\.default' on this host"):
        worker.open(lab.seal(b"job", JOBS), JOBS)
    for other in (for_collector(), for_client(["mpi"]), for_worker(["mpi", "default"])):
        with pytest.raises(KeysRefused, match=f"not enough for a {other.name}"):
            worker.check(other)


def test_keys_that_sign_nothing_are_refused_at_the_start(tmp_path: Path) -> None:
    keys = KeySet({"lab": Key.make("lab", 0.0)})
    seal = keys_with(tmp_path / "keys.json", keys)
    with pytest.raises(KeysRefused, match="no key here signs"):
        seal.check(for_worker(["default"]))
