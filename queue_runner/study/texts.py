"""Files that a study names, read whole: regular ones, of a length that is known before."""

from __future__ import annotations

from pathlib import Path
from stat import S_ISREG

from queue_runner.errors import StudyError

MIB = 1024 * 1024


def read_text(file: Path, most_bytes: int, advice: str, encoding: str = "utf-8") -> str:
    """Raises `StudyError`. advice: what to do where the file is too large."""
    try:
        # what waits for a writer, or never ends, is not opened
        if not S_ISREG(file.stat().st_mode):
            raise StudyError(f"{file}: not a file but a folder, a device, a pipe or a socket")
        with file.open("rb") as content:
            data = content.read(most_bytes + 1)
    except OSError as error:
        raise StudyError(f"{file}: {error.strerror or error}") from error
    if len(data) > most_bytes:
        raise StudyError(f"{file}: larger than {most_bytes // MIB} MiB; {advice}")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise StudyError(f"{file}: not UTF-8 text (line {line}, byte {error.start})") from error
