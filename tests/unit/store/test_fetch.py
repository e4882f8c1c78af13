"""Fetching artifacts into a folder: names, hashes, resumption, hostile input."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest

from queue_runner.client.fetch import fetch_results
from queue_runner.errors import FixThis
from queue_runner.model import Artifact, Result, State
from queue_runner.store import open_store
from queue_runner.store.folder import FolderStore


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    opened = open_store(str(tmp_path / "store"))
    assert isinstance(opened, FolderStore)
    return opened


def result(store: FolderStore, number: int, *names: str, text: bytes | None = None) -> Result:
    artifacts = []
    for name in names:
        content = text if text is not None else name.encode("utf-8", "surrogateescape")
        artifacts.append(Artifact(name, *store.put(io.BytesIO(content))))
    job = f"s.{number:07}"
    return Result(job, "s", number, 1, State.SUCCEEDED, True, {}, artifacts=tuple(artifacts))


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_files_have_the_names_they_had(store: FolderStore, tmp_path: Path) -> None:
    results = [result(store, n, "log.x", "0.5/U", f"post/a b/{n} ü.dat") for n in range(250)]
    seen: list[int] = []
    fetched = fetch_results(store, results, tmp_path / "out", progress=seen.append)
    assert (fetched.files, fetched.there_already, fetched.refused) == (750, 0, [])
    assert sum(seen) == fetched.size_bytes
    found = files(tmp_path / "out")
    assert len(found) == 750
    assert found["s.0000007/post/a b/7 ü.dat"] == "post/a b/7 ü.dat".encode()
    again = fetch_results(store, results, tmp_path / "out")
    assert (again.files, again.there_already) == (750, 750)


def test_only_what_matches(store: FolderStore, tmp_path: Path) -> None:
    results = [result(store, 0, "log.x", "0.5/U", "0.5/p")]
    fetch_results(store, results, tmp_path / "out", patterns=["0.5/*", "nosuch"])
    assert set(files(tmp_path / "out")) == {"s.0000000/0.5/U", "s.0000000/0.5/p"}


def test_a_half_is_completed_and_an_altered_file_replaced(
    store: FolderStore, tmp_path: Path
) -> None:
    content = os.urandom(3_000_000)
    one = result(store, 0, "big", text=content)
    folder = tmp_path / "out" / "s.0000000"
    folder.mkdir(parents=True)
    half = folder / f".{one.artifacts[0].sha256[:32]}.part"
    half.write_bytes(content[:1_000_000])
    read: list[int] = []
    real = store.read
    store.read = lambda sha256, offset=0: (read.append(offset), real(sha256, offset))[1]  # type: ignore[method-assign, func-returns-value]
    fetch_results(store, [one], tmp_path / "out")
    assert read == [1_000_000]
    assert files(folder) == {"big": content}
    (folder / "big").write_bytes(b"x" * len(content))
    assert fetch_results(store, [one], tmp_path / "out").there_already == 0
    assert files(folder) == {"big": content}


@pytest.mark.parametrize(
    "name",
    ["../escaped", "/etc/escaped", "a/../../escaped", "..", ".", "", "a/", "a\0b", "//x",
     "x" * 300, "d" * 300 + "/x", "a//../b"],
)  # fmt: skip
def test_a_name_never_leads_outside(store: FolderStore, tmp_path: Path, name: str) -> None:
    sha256, size_bytes = store.put(io.BytesIO(b"hostile"))
    hostile = Artifact(name, sha256, size_bytes)
    good = result(store, 0, "good")
    both = Result(
        good.job_id, "s", 0, 1, State.SUCCEEDED, True, {}, artifacts=(hostile, *good.artifacts)
    )
    fetched = fetch_results(store, [both], tmp_path / "in" / "out")
    assert len(fetched.refused) == 1
    assert repr(name)[:200] in fetched.refused[0]
    assert files(tmp_path / "in") == {"out/s.0000000/good": b"good"}
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("job", ["..", "../x", "/x", "", "a/b"])
def test_a_job_id_never_leads_outside(store: FolderStore, tmp_path: Path, job: str) -> None:
    artifact = result(store, 0, "x").artifacts
    bad = Result(job, "s", 0, 1, State.SUCCEEDED, True, {}, artifacts=artifact)
    fetched = fetch_results(store, [bad], tmp_path / "in" / "out")
    assert len(fetched.refused) == 1
    assert files(tmp_path / "in") == {}


@pytest.mark.parametrize("sha256", ["../../../../escaped", "", "x/y", "A" * 64, "\0"])
def test_a_hash_never_leads_outside(store: FolderStore, tmp_path: Path, sha256: str) -> None:
    artifacts = (Artifact("x", sha256, 1), Artifact("\ud800", "0" * 64, 1))
    bad = Result("s.0000000", "s", 0, 1, State.SUCCEEDED, True, {}, artifacts=artifacts)
    assert fetch_results(store, [bad], tmp_path / "in" / "out").not_fetched == 2
    assert files(tmp_path) == {}


def test_many_missing_files_are_counted(store: FolderStore, tmp_path: Path) -> None:
    gone = tuple(Artifact(f"{n}", f"{n:064x}", 1) for n in range(1500))
    bad = [Result(f"s.{n}", "s", n, 1, State.SUCCEEDED, True, {}, artifacts=gone) for n in (0, 1)]
    fetched = fetch_results(store, bad, tmp_path / "out")
    assert fetched.not_fetched == 3000
    assert len(fetched.refused) == 1000


def test_links_in_the_target_are_not_followed(store: FolderStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    folder = tmp_path / "out" / "s.0000000"
    folder.mkdir(parents=True)
    (folder / "linked").symlink_to(outside)
    (folder / "file").symlink_to(outside / "file")
    fetched = fetch_results(store, [result(store, 0, "linked/file", "file")], tmp_path / "out")
    assert len(fetched.refused) == 1
    assert "linked is there already, and is no folder" in fetched.refused[0]
    assert files(outside) == {"file": b"mine"}
    assert (folder / "file").read_bytes() == b"file"


def test_a_partial_that_is_a_link_is_not_followed(store: FolderStore, tmp_path: Path) -> None:
    one = result(store, 0, "x")
    folder = tmp_path / "out" / "s.0000000"
    folder.mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    (folder / f".{one.artifacts[0].sha256[:32]}.part").symlink_to(tmp_path / "mine")
    with pytest.raises(FixThis, match="out"):
        fetch_results(store, [one], tmp_path / "out")
    assert (tmp_path / "mine").read_text() == "mine"


def test_two_fetches_into_one_folder_do_not_mix(store: FolderStore, tmp_path: Path) -> None:
    one = result(store, 0, "big", text=os.urandom(3_000_000))
    refused: list[str] = []

    def fetch_again(count_bytes: int) -> None:
        if not refused:
            refused.append("")
            with pytest.raises(FixThis, match="another fetch is writing there"):
                fetch_results(store, [one], tmp_path / "out")

    assert fetch_results(store, [one], tmp_path / "out", progress=fetch_again).files == 1
    assert refused


def test_what_the_store_lacks_or_has_damaged_is_told(store: FolderStore, tmp_path: Path) -> None:
    one = result(store, 0, "gone", "bad", "good")
    gone, bad, _ = (store.root / a.sha256[:2] / a.sha256 for a in one.artifacts)
    gone.unlink()
    bad.write_bytes(b"BAD")
    fetched = fetch_results(store, [one], tmp_path / "out")
    assert fetched.files == 1
    assert "no object" in fetched.refused[0]
    assert "other content than its name says" in fetched.refused[1]
    assert "s.0000000/good" in files(tmp_path / "out")
    assert "s.0000000/bad" not in files(tmp_path / "out")


def test_an_interruption_keeps_what_there_is(store: FolderStore, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    one, name = result(store, 0, "big", text=content), hashlib.sha256(content).hexdigest()

    def interrupt(count_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_results(store, [one], tmp_path / "out", progress=interrupt)
    assert set(files(tmp_path / "out")) == {f"s.0000000/.{name[:32]}.part"}
    fetch_results(store, [one], tmp_path / "out")
    assert files(tmp_path / "out") == {"s.0000000/big": content}
