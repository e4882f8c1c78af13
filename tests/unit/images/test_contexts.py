"""What an image is built from decides whether it is built again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from queue_runner.errors import FixThis, NotFound
from queue_runner.images.build import Context, folder_files
from queue_runner.images.catalog import DEBIAN, RECIPES, context, recipes, source_folder

ROOT = Path(__file__).parents[3]
CONTEXT = Context("queue-runner/x:latest", {"BASE": "base"}, {"Dockerfile": b"FROM base"})
IDS = {"BASE": "sha256:1", "RUNNER": "sha256:2"}


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTEXT, files={"Dockerfile": b"FROM base\n"}),
        replace(CONTEXT, files={"Dockerfile": b"FROM base", "more": b""}),
        replace(CONTEXT, files={"Dockerfile2": b"FROM base"}),
    ],
)
def test_any_change_of_what_goes_in_is_another_content(other: Context) -> None:
    assert other.content(IDS) != CONTEXT.content(IDS)


def test_another_base_is_another_content() -> None:
    assert CONTEXT.content({**IDS, "RUNNER": "sha256:3"}) != CONTEXT.content(IDS)


def test_pages_for_people_are_not_part_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    for name in ("Dockerfile", "README.md", "conf/a.conf"):
        (tmp_path / name).write_text(name)
    assert folder_files(tmp_path, "in/") == {
        "in/Dockerfile": b"Dockerfile",
        "in/conf/a.conf": b"conf/a.conf",
    }


def test_an_image_comes_after_its_base() -> None:
    seen: list[str] = []
    for recipe in recipes([]):
        assert set(recipe.bases.values()) <= {DEBIAN, *seen}
        seen.append(recipe.name)
    assert set(seen) == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_has_its_folder(name: str) -> None:
    assert "Dockerfile" in context(RECIPES[name], ROOT).files


def test_a_misspelt_image_is_named_with_the_nearest() -> None:
    with pytest.raises(NotFound, match="redis"):
        list(recipes(["rediss"]))


def test_a_folder_that_is_no_source_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FixThis, match="--source"):
        source_folder(tmp_path)
