"""Key files: who may read them, what they hold, and how a change is noticed."""

from __future__ import annotations

import logging
import os
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_runner.errors import KeysRefused, NotTrusted
from queue_runner.signing import RESULTS, open_seal
from queue_runner.signing.file import KeyFile, read_key_file, write_key_file
from queue_runner.signing.keys import Key, KeySet
from queue_runner.signing.seal import Keyed
from queue_runner.signing.text import read_keys, write_keys


def made(*names: str) -> KeySet:
    keys = KeySet({})
    for name in names:
        keys = keys.with_key(Key.make(name, 1e9))
    return keys


def changed(path: Path, keys: KeySet, seal: Keyed) -> None:
    """Write a key file that the seal looks at with its next message."""
    write_key_file(path, keys)
    seal._file._look_at = 0.0


def test_what_was_written_is_read(tmp_path: Path) -> None:
    keys = KeySet({}, max_age_s=86400.0).with_key(Key.make("a", 1e9, not_after=2e9))
    keys = keys.with_key(Key.make("b", 1e9)).signing_with("b")
    path = tmp_path / "keys.json"
    write_key_file(path, keys)
    assert read_key_file(path) == keys
    limited = keys.limited_to((RESULTS,))
    assert read_keys(write_keys(limited), "here") == limited


def test_a_new_file_is_its_owners_alone_and_the_mode_of_an_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.json"
    write_key_file(path, made("a"))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o400)
    write_key_file(path, made("a"))
    assert path.stat().st_mode & 0o777 == 0o400
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_file_that_others_can_get_at_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.json"
    write_key_file(path, made("a"))
    path.chmod(mode)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o011 == 0:
            folder.chmod(0o711)  # pytest's own folders are private
    with pytest.raises(KeysRefused, match="others on this machine can read or change these keys"):
        read_key_file(path)


def test_a_folder_that_nobody_else_enters_hides_it(tmp_path: Path) -> None:
    path = tmp_path / "private" / "inner" / "keys.json"
    write_key_file(path, made("a"))
    path.chmod(0o444)
    (tmp_path / "private").chmod(0o700)
    assert read_key_file(path).signs == "a"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not the JSON of a key file"),
        ("[" * 100_000, "not the JSON of a key file"),
        ("[]", "the file: expected a map"),
        ("{}", "version: this program reads version 1"),
        ('{"version": 1}', "keys: expected a map"),
        ('{"version": 1, "keys": {"a b": {}}}', "'a b' is no name for a key"),
        ('{"version": 1, "keys": {"a": {}}}', "keys.a: expected either secret, or secrets"),
        ('{"version": 1, "keys": {"a": {"secret": "TOPSECRET"}}}', "keys.a.secret: expected 32 b"),
        ('{"version": 1, "keys": {"a": {"secret": 7}}}', "keys.a.secret: expected 32 bytes"),
        ('{"version": 1, "keys": {"a": {"secrets": {"x": "00"}}}}', "keys.a.secrets: expected 32"),
        ('{"version": 1, "keys": {}, "signs": "b"}', "signs: expected the name of one of the keys"),
        ('{"version": 1, "keys": {}, "max_age_days": -1}', "max_age_days: expected a number"),
    ],
)
def test_a_spoilt_file_is_refused_by_field(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeysRefused) as caught:
        read_key_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)
    assert "TOPSECRET" not in str(caught.value)


def test_a_time_that_is_none_is_refused() -> None:
    secret = "00" * 32
    text = f'{{"version": 1, "keys": {{"a": {{"secret": "{secret}", "not_after": "soon"}}}}}}'
    with pytest.raises(KeysRefused, match=r"here: keys.a.not_after: expected a time such as"):
        read_keys(text, "here")


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_whatever_a_file_holds_is_keys_or_a_clear_refusal(text: str) -> None:
    with pytest.raises(KeysRefused, match=r"^here: "):
        read_keys(text, "here")


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(KeysRefused, match="queue-runner keys new --keys-file"):
        KeyFile(tmp_path / "none.json")


def test_no_secret_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = made("a", "b")
    secrets = [key.secret for key in keys.keys.values()]
    assert all(secrets)
    path = tmp_path / "keys.json"
    write_key_file(path, keys)
    seal = open_seal(path)
    assert isinstance(seal, Keyed)
    changed(path, keys.signing_with("b"), seal)
    shown = [repr(keys), repr(keys.limited_to((RESULTS,))), repr(seal), caplog.text]
    for spoil in (lambda text: text[:-5], lambda text: text.replace('"secret": "', '"secret": "0')):
        path.write_text(spoil(write_keys(keys)))
        try:
            read_key_file(path)
        except KeysRefused as error:
            shown += [str(error), "".join(traceback.format_exception(error))]
    assert len(shown) == 8
    for secret in secrets:
        assert secret is not None
        assert not any(secret.hex()[:16] in text or repr(secret) in text for text in shown)


# -- rotation ------------------------------------------------------------------------------------


def test_keys_rotate_without_a_restart(tmp_path: Path) -> None:
    """The order of docs/security.md: add everywhere, then sign with it, then retire the old one."""
    path = tmp_path / "keys.json"
    keys = made("old")
    write_key_file(path, keys)
    ours, theirs = open_seal(path), open_seal(path)
    assert isinstance(ours, Keyed)
    assert isinstance(theirs, Keyed)
    waiting = ours.seal(b"1", RESULTS)

    keys = keys.with_key(Key.make("new", 0.0))
    changed(path, keys, ours)
    assert b"old" in ours.seal(b"2", RESULTS)[:20]
    keys = keys.signing_with("new")
    changed(path, keys, ours)
    message = ours.seal(b"3", RESULTS)
    assert b"new" in message[:20]
    # which has not looked at the file for a while, and does when it meets a key that it does not know
    assert theirs.open(message, RESULTS) == b"3"
    assert theirs.open(waiting, RESULTS) == b"1"

    changed(path, keys.without("old"), theirs)
    assert theirs.open(message, RESULTS) == b"3"
    with pytest.raises(NotTrusted, match="'old', which is not known here; known: new"):
        theirs.open(waiting, RESULTS)


@pytest.mark.parametrize("spoilt", ["", '{"version": 1, "keys": {"a": {}}}', None])
def test_a_file_that_is_spoilt_or_gone_changes_nothing(
    tmp_path: Path, spoilt: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    write_key_file(path, made("a"))
    file = KeyFile(path)
    before = file.keys()
    if spoilt is None:
        os.unlink(path)
    else:
        path.write_text(spoilt)
    assert file.look() is before
    assert file.look() is before
    assert caplog.text.count("the keys stay as they were") == 1
    write_key_file(path, made("b"))
    assert file.look().signs == "b"


def test_the_key_that_signs_cannot_be_retired() -> None:
    keys = made("a", "b")
    assert keys.signs == "a"
    with pytest.raises(KeysRefused, match="the key 'a' signs: make another one"):
        keys.without("a")
    assert keys.signing_with("b").without("a").keys.keys() == {"b"}


def test_names_of_keys(tmp_path: Path) -> None:
    with pytest.raises(KeysRefused, match="there is a key 'a' already"):
        made("a", "a")
    with pytest.raises(KeysRefused, match="no key 'b' here; there are: a"):
        made("a").signing_with("b")
    for name in ("", "a b", "../x", "x" * 65, "ä"):
        with pytest.raises(KeysRefused, match="is no name for a key"):
            made(name)


def test_a_limited_key_cannot_be_limited_again() -> None:
    with pytest.raises(KeysRefused, match="export from the file that has the whole key"):
        made("a").limited_to((RESULTS,)).limited_to((RESULTS,))
