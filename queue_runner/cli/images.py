"""`image`: the project's container images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from queue_runner.cli.app import app, say
from queue_runner.cli.options import Json, print_json

image = typer.Typer(
    help="Build, list and verify the container images of queue-runner.",
    no_args_is_help=True,
    epilog="Example: queue-runner image build redis rabbitmq",
)
app.add_typer(image, name="image")

Source = Annotated[
    Path | None,
    typer.Option("--source", metavar="FOLDER", help="A source tree, if not the one in use."),
]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="FOLDER", help="Keeps what is made outside the engine."),
]


@image.command("build", epilog="Example: queue-runner image build redis rabbitmq")
def build_images(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Which; all if none is named.")
    ] = None,
    source: Source = None,
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Build the images whose content has changed, and what they stand on."""
    from queue_runner.client.config import cache_home
    from queue_runner.images.catalog import build_image, recipes, source_folder
    from queue_runner.images.engine import open_engine

    wanted = list(recipes(names or []))
    folder = source_folder(source)
    with open_engine(timeout_s=600.0) as client:
        built = [
            {
                "tag": recipe.tag,
                "id": build_image(client, recipe, folder, cache or cache_home(), _say),
            }
            for recipe in wanted
        ]
    if as_json:
        print_json(built)


def _say(text: str) -> None:
    say(text, err=True)


@image.command("verify", epilog="Example: queue-runner image verify redis")
def verify_images(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Which; all if none is named.")
    ] = None,
    source: Source = None,
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Build images again without any cache, and compare every file with those that the engine has.

    Exits with 1 where one is not the same.
    """
    from queue_runner.client.config import cache_home
    from queue_runner.images.catalog import recipe_of, source_folder, verify_image
    from queue_runner.images.engine import open_engine

    wanted = recipe_of(names or [])
    folder = source_folder(source)
    found = []
    with open_engine(timeout_s=600.0) as client:
        for recipe in wanted:
            compared = verify_image(client, recipe, folder, cache or cache_home(), _say)
            found.append(compared)
            if not as_json:
                say("\n".join(compared.lines()))
    if as_json:
        print_json([compared.record() for compared in found])
    if not all(compared.same for compared in found):
        raise typer.Exit(1)


@image.command("list", epilog="Example: queue-runner image list --json")
def list_images(source: Source = None, as_json: Json = False) -> None:
    """Say which images the engine has, and whether they are of the present content."""
    from queue_runner.images.catalog import context, recipes, source_folder
    from queue_runner.images.engine import open_engine
    from queue_runner.images.state import state_of

    folder = source_folder(source)
    with open_engine() as client:
        states = [state_of(client, context(recipe, folder)) for recipe in recipes([])]
    if as_json:
        print_json([state.record() for state in states])
        return
    for state in states:
        say(state.line())
