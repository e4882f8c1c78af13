"""The images of this project: what each is built from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from queue_runner.errors import FixThis, NotFound
from queue_runner.images.build import Context, build, folder_files, is_built
from queue_runner.images.debian import BASE_TAG, ensure_debian
from queue_runner.images.verify import Comparison, verify
from queue_runner.images.wheels import LOCK, wheel_files
from queue_runner.plugins import nearest

if TYPE_CHECKING:
    from docker import DockerClient

#: Folder below the caller's cache folder.
CACHE = "images"


@dataclass(frozen=True, slots=True)
class Recipe:
    """folder: of the source tree. bases: other recipes by the Dockerfile's argument, or `DEBIAN`.

    runner: whether it is given queue-runner's own code and the packages that this needs.
    """

    name: str
    folder: str
    bases: Mapping[str, str]
    runner: bool = False

    @property
    def tag(self) -> str:
        return f"queue-runner/{self.name}:latest"


#: Of the source tree's own folder, what queue-runner's wheel is built from.
_SINGLE = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
DEBIAN = "debian"
_ON_DEBIAN = {"BASE": DEBIAN}
_WITH_RUNNER = {"BASE": DEBIAN, "RUNNER": "base"}
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("redis", "brokers/redis", _ON_DEBIAN),
        Recipe("rabbitmq", "brokers/rabbitmq", _ON_DEBIAN),
        Recipe("base", "workers/base", _ON_DEBIAN, runner=True),
        Recipe("zeromq", "brokers/zeromq", {"BASE": "base"}),
        Recipe("openfoam", "workers/openfoam", _WITH_RUNNER),
        Recipe("mpi", "workers/mpi", _WITH_RUNNER),
    )
}


def source_folder(given: Path | None = None) -> Path:
    """The source tree with the images' folders: `given`, else the one this package runs from."""
    folder = given or Path(__file__).parents[2]
    if not all((folder / name).is_file() for name in (*_SINGLE, "workers/base/Dockerfile")):
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


def recipe_of(names: Iterable[str]) -> list[Recipe]:
    """Those of these names (all for none), and no others. Raises `NotFound`."""
    wanted = [*names]
    return [recipe for recipe in recipes(wanted) if not wanted or recipe.name in wanted]


def _with_bases(name: str) -> list[Recipe]:
    if name not in RECIPES:
        raise NotFound(f"there is no image {name!r}{nearest(name, RECIPES)}")
    below = (base for base in RECIPES[name].bases.values() if base != DEBIAN)
    return [recipe for base in below for recipe in _with_bases(base)] + [RECIPES[name]]


def build_image(
    client: DockerClient, recipe: Recipe, source: Path, cache: Path, say: Callable[[str], None]
) -> str:
    """Build one image, other recipes' images that it stands on being there; returns its id."""
    if DEBIAN in recipe.bases.values():
        ensure_debian(client, cache / CACHE, say)
    made_of = context(recipe, source)
    built = is_built(client, made_of)
    return build(client, made_of, say, {} if built else _more(client, recipe, source, cache, say))


def verify_image(
    client: DockerClient, recipe: Recipe, source: Path, cache: Path, say: Callable[[str], None]
) -> Comparison:
    """Build one image again and compare it with the one that the engine has. Raises `FixThis`."""
    made_of = context(recipe, source)
    return verify(client, made_of, _more(client, recipe, source, cache, say), say)


def _more(
    client: DockerClient, recipe: Recipe, source: Path, cache: Path, say: Callable[[str], None]
) -> Mapping[str, bytes]:
    """The wheels of what queue-runner needs, for images that have it."""
    if not recipe.runner:
        return {}
    return wheel_files(source / LOCK, str(client.version()["Arch"]), cache / CACHE, say)


def context(recipe: Recipe, source: Path) -> Context:
    """What a recipe's image is made of, but for the wheels, which the lock file tells all about."""
    files = folder_files(source / recipe.folder)
    if recipe.runner:
        files |= runner_files(source)
    tags = {
        name: BASE_TAG if base == DEBIAN else RECIPES[base].tag
        for name, base in recipe.bases.items()
    }
    return Context(recipe.tag, tags, files)


def runner_files(source: Path) -> dict[str, bytes]:
    """What queue-runner's own wheel is built from."""
    files = {f"source/{name}": (source / name).read_bytes() for name in _SINGLE}
    return files | folder_files(source / "queue_runner", "source/queue_runner/")
