"""Template folders as bundles."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from queue_runner.errors import StoreDamaged, StudyError, TooBig
from queue_runner.store import Store, open_store
from queue_runner.store.bundle import BundleLimits, read_bundle, write_bundle


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


@pytest.mark.parametrize(
    "name", [b"a\xff", b"new\nline", b"back\\slash", "ü".encode(), b"\x1b[2J", b"x" * 255, b" "]
)
def test_a_name_of_any_bytes_comes_back(
    store: Store, folder: Path, tmp_path: Path, name: bytes
) -> None:
    (folder / os.fsdecode(name)).write_text("content")
    store.get_folder(store.put_folder(folder), tmp_path / "copy")
    assert (tmp_path / "copy" / os.fsdecode(name)).read_text() == "content"


def test_a_link_that_leads_outside_is_refused(store: Store, folder: Path) -> None:
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(StudyError, match="leads outside the template folder"):
        store.put_folder(folder)


def test_links_that_lead_to_themselves_are_refused(store: Store, folder: Path) -> None:
    (folder / "ring").symlink_to("ring")
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
        write_bundle(folder, io.BytesIO(), limits=BundleLimits(max_bytes=10))
    with pytest.raises(TooBig, match="more than 2 files and folders"):
        write_bundle(folder, io.BytesIO(), limits=BundleLimits(max_files=2))


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


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    packed.seek(0)
    return packed


def _special(kind: bytes, name: str = "x", link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


def _raw(**fields: object) -> io.BytesIO:
    info = tarfile.TarInfo("x")
    for name, value in fields.items():
        setattr(info, name, value)
    return io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4096)


@pytest.mark.parametrize(
    "packed",
    [
        _tar(_special(tarfile.SYMTYPE, "x", "/etc/passwd")),
        _tar(_special(tarfile.SYMTYPE, "x", "."), (tarfile.TarInfo("x/y"), b"")),
        _tar(_special(tarfile.LNKTYPE, "x", "/etc/passwd")),
        _tar(_special(tarfile.CHRTYPE)),
        _tar(_special(tarfile.BLKTYPE)),
        _tar(_special(tarfile.FIFOTYPE)),
        _tar((tarfile.TarInfo("../x"), b"")),
        _tar((tarfile.TarInfo("a/../../x"), b"")),
        _tar((tarfile.TarInfo("/etc/x"), b"")),
        _tar((tarfile.TarInfo("x"), b""), (tarfile.TarInfo("x/y"), b"")),
        _tar((tarfile.TarInfo("y" * 300), b"")),
        _tar((tarfile.TarInfo("/".join("d" * 200 for _ in range(40))), b"")),
        _raw(type=tarfile.GNUTYPE_SPARSE, size=512),
        _raw(size=2**50),
        _raw(type=tarfile.XHDTYPE, size=2**40),
        _raw(type=tarfile.GNUTYPE_LONGNAME, size=2**40),
        io.BytesIO(b"\xff" * 5000),
    ],
)
def test_a_bundle_that_lies_is_refused(packed: io.BytesIO, tmp_path: Path) -> None:
    packed.seek(0)
    with pytest.raises(tarfile.TarError):
        read_bundle(packed, tmp_path / "into")
    inside = [path for path in tmp_path.rglob("*") if path.name != "into"]
    assert all(path.is_relative_to(tmp_path / "into") for path in inside)
    assert not any(path.is_symlink() for path in inside)


def test_what_a_bundle_takes_is_bounded(tmp_path: Path) -> None:
    packed = _tar(*((tarfile.TarInfo(f"{number}"), b"x" * 100) for number in range(10)))
    read_bundle(packed, tmp_path / "fits", limits=BundleLimits(1000, 10))
    for limits in (BundleLimits(999, 10), BundleLimits(1000, 9)):
        packed.seek(0)
        with pytest.raises(tarfile.TarError, match="more than"):
            read_bundle(packed, tmp_path / "less", limits=limits)


def test_a_store_keeps_to_the_limits_that_it_was_opened_with(folder: Path, tmp_path: Path) -> None:
    url = (tmp_path / "store").as_uri()
    sha256 = open_store(url).put_folder(folder)
    small = open_store(url, bundles=BundleLimits(max_files=3))
    with pytest.raises(TooBig, match="QUEUE_RUNNER_BUNDLE_FILES"):
        small.put_folder(folder)
    with pytest.raises(StoreDamaged, match="--bundle-files"):
        small.get_folder(sha256, tmp_path / "copy")
