"""Template folders as bundles."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from queue_runner.errors import StudyError, TooBig
from queue_runner.store import Store, open_store
from queue_runner.store.bundle import read_bundle, write_bundle


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "case"
    (root / "system").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "system" / "controlDict").write_text("application icoFoam;\n")
    (root / "Allrun").write_text("#!/bin/sh\n")
    (root / "Allrun").chmod(0o755)
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "x.pyc").write_text("litter")
    return root


def test_a_folder_comes_back(store: Store, folder: Path, tmp_path: Path) -> None:
    sha256 = store.put_folder(folder)
    store.get_folder(sha256, tmp_path / "copy")
    names = sorted(
        path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*")
    )
    assert names == ["Allrun", "empty", "system", "system/controlDict"]
    assert (tmp_path / "copy" / "system" / "controlDict").read_text() == "application icoFoam;\n"
    assert os.access(tmp_path / "copy" / "Allrun", os.X_OK)


def test_the_hash_depends_on_names_and_contents_only(store: Store, folder: Path) -> None:
    before = store.put_folder(folder)
    os.utime(folder / "Allrun", (1, 1))
    assert store.put_folder(folder) == before
    (folder / "Allrun").write_text("#!/bin/sh\ntrue\n")
    assert store.put_folder(folder) != before


def test_excluded_files_stay_behind(store: Store, folder: Path, tmp_path: Path) -> None:
    store.get_folder(store.put_folder(folder, ["system/*"]), tmp_path / "copy")
    assert not (tmp_path / "copy" / "system" / "controlDict").exists()


def test_a_link_that_leads_outside_is_refused(store: Store, folder: Path) -> None:
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(StudyError, match="leads outside the template folder"):
        store.put_folder(folder)


def test_a_link_inside_is_followed(store: Store, folder: Path, tmp_path: Path) -> None:
    (folder / "run").symlink_to("Allrun")
    store.get_folder(store.put_folder(folder), tmp_path / "copy")
    assert (tmp_path / "copy" / "run").read_text() == "#!/bin/sh\n"


def test_a_pipe_is_refused(store: Store, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(StudyError, match="neither a file nor a folder"):
        store.put_folder(folder)


def test_too_much_is_refused(folder: Path) -> None:
    with pytest.raises(TooBig, match="Leave results out"):
        write_bundle(folder, io.BytesIO(), max_bytes=10)


def test_a_bundle_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    hostile = io.BytesIO()
    with tarfile.open(fileobj=hostile, mode="w") as tar:
        info = tarfile.TarInfo("../escaped")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"bad"))
    hostile.seek(0)
    with pytest.raises(tarfile.TarError):
        read_bundle(hostile, tmp_path / "copy")
    assert not (tmp_path / "escaped").exists()
