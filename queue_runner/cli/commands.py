"""Importing this module registers every command, in the order that `--help` lists them."""

from queue_runner.cli import (  # noqa: F401 - imported for the commands they register
    control,
    daemons,
    dead,
    doctor,
    fetch,
    follow,
    images,
    run,
    store,
    studies,
    submit,
)
