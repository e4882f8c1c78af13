"""The command line. Each module holds one group of commands: parse, call, render."""

from queue_runner.cli.app import main

__all__ = ["main"]
