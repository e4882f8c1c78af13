"""The images of this project: what each is built from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from queue_runner.errors import FixThis, NotFound
from queue_runner.images.build import Context, build, folder_files
from queue_runner.images.debian import BASE_TAG, ensure_debian
from queue_runner.plugins import nearest

if TYPE_CHECKING:
    from docker import DockerClient

#: Folder below the caller's cache folder.
CACHE = "images"


@dataclass(frozen=True, slots=True)
class Recipe:
    """folder: of the source tree; base: name of another recipe, or None for Debian's."""

    name: str
    folder: str
    base: str | None = None

    @property
    def tag(self) -> str:
        return f"queue-runner/{self.name}:latest"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("redis", "brokers/redis"),
        Recipe("rabbitmq", "brokers/rabbitmq"),
    )
}


def source_folder(given: Path | None = None) -> Path:
    """The source tree with the images' folders: `given`, else the one this package runs from."""
    folder = given or Path(__file__).parents[2]
    if not (folder / "brokers/redis/Dockerfile").is_file():
        raise FixThis(
            f"{folder}: no source tree of queue-runner, which has the folders that images are built"
            " from; name one with --source"
        )
    return folder


def recipes(names: Iterable[str]) -> Iterator[Recipe]:
    """Those of these names (all for none), each after its base. Raises `NotFound`."""
    done: set[str] = set()
    for name in [*names] or [*RECIPES]:
        for recipe in _with_bases(name):
            if recipe.name not in done:
                done.add(recipe.name)
                yield recipe


def _with_bases(name: str) -> list[Recipe]:
    if name not in RECIPES:
        raise NotFound(f"there is no image {name!r}{nearest(name, RECIPES)}")
    recipe = RECIPES[name]
    return [*(_with_bases(recipe.base) if recipe.base else []), recipe]


def build_image(
    client: DockerClient, recipe: Recipe, source: Path, cache: Path, say: Callable[[str], None]
) -> str:
    """Build one image, its base being there already unless that is Debian's; returns its id."""
    if recipe.base is None:
        ensure_debian(client, cache / CACHE, say)
    return build(client, context(recipe, source), say)


def context(recipe: Recipe, source: Path) -> Context:
    base = RECIPES[recipe.base].tag if recipe.base else BASE_TAG
    return Context(recipe.tag, base, folder_files(source / recipe.folder))
