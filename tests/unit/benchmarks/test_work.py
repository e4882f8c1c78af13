"""Where work folders of what is measured are, and that nothing of them stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from measure import work


@pytest.fixture(params=["memory", "disk"])
def memory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "memory"
    if request.param == "memory":
        place.mkdir()
        monkeypatch.setattr(work, "_ROOM_BYTES", 0)
    monkeypatch.setattr(work, "_MEMORY", place)
    return place


def test_it_is_in_memory_where_there_is_some_and_gone_afterwards(memory: Path) -> None:
    with work.throwaway() as folder:
        own = work.work_folder(folder)
        (own / "case").mkdir()
        assert work.work_folder(folder) == own
        assert own.parent == (memory if work.in_memory() else folder)
        assert work.in_memory() == memory.is_dir()
    assert not own.exists()
    assert not folder.exists()


def test_memory_that_is_nearly_full_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_MEMORY", tmp_path)
    monkeypatch.setattr(work, "_ROOM_BYTES", 2**63)
    assert not work.in_memory()
