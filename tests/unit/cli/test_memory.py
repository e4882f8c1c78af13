"""What a daemon does with memory that it needed for a moment."""

from __future__ import annotations

import subprocess
import sys

MIB = 1024**2
#: A message goes, and two more, of which something small that stays was made in between.
MESSAGES = """
import psutil, sys
from queue_runner.cli.memory import give_large_blocks_back
if sys.argv[1] == "daemon":
    give_large_blocks_back()
rss = psutil.Process().memory_info
before = rss().rss
first = b"x" * (16 << 20)
del first
second, third = b"x" * (15 << 20), b"x" * (15 << 20)
stays = b"x" * 100_000
del second, third
print(rss().rss - before)
"""


def _kept_bytes(way: str) -> int:
    command = [sys.executable, "-c", MESSAGES, way]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_large_messages_are_given_back_to_the_system() -> None:
    assert _kept_bytes("daemon") < 5 * MIB


def test_which_the_c_library_does_not_do_by_itself() -> None:
    """If it does so one day, nothing of ours is needed."""
    assert _kept_bytes("as it is") > 25 * MIB
