"""Importing this module registers every command, in the order that `--help` lists them."""

from queue_runner.cli import (  # noqa: F401 - imported for the commands they register
    backup,
    control,
    daemons,
    dead,
    doctor,
    fetch,
    follow,
    health,
    images,
    job,
    run,
    store,
    studies,
    submit,
    verify,
)
