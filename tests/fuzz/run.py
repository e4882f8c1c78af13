"""Fuzz every target for so many seconds each, and print how many inputs each of them has had.

    .venv/bin/python -m tests.fuzz.run --seconds 60 [TARGET ...]

Ends with 1 where one of them raised what it must not, or took more memory or time than an input may. The
input is kept in .cache/fuzz/TARGET/crashes, what led somewhere new in .cache/fuzz/TARGET/corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.seeds import seeds_of
from tests.fuzz.targets import NAMES

ROOT = Path(__file__).parents[2]
#: Of one input, and of the process with all that it has learned.
_LIMITS = ("-timeout=20", "-rss_limit_mb=2048", "-max_len=16384")
_COUNT = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_COVERAGE = re.compile(r"cov: (\d+)")


def fuzz(name: str, seconds: int) -> tuple[int, int, str]:
    """Inputs, places of code that they reached, and the end of what was said where it failed."""
    home = ROOT / ".cache/fuzz" / name
    corpus, crashes = home / "corpus", home / "crashes"
    for folder in (corpus, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds_of(name):
        (corpus / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.fuzz.one", name, *_LIMITS, f"-max_total_time={seconds}",
            "-print_final_stats=1", f"-artifact_prefix={crashes}/", str(corpus),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    said = done.stdout
    counted, covered = _COUNT.search(said), _COVERAGE.findall(said)
    inputs = int(counted[1]) if counted else 0
    # what a line of libFuzzer's progress says is of no use then
    lines = [line for line in said.splitlines() if not line.startswith("#")]
    failed = "\n".join(lines[-40:]) if done.returncode != 0 or not inputs else ""
    return inputs, int(covered[-1]) if covered else 0, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(NAMES))
    arguments = parser.parse_args()
    total, failures = 0, 0
    for name in arguments.targets or NAMES:
        inputs, covered, failed = fuzz(name, arguments.seconds)
        total += inputs
        failures += bool(failed)
        print(
            f"{name:18} {inputs:>11,} inputs {covered:>6} places {'FAILED' if failed else 'ok'}",
            flush=True,
        )
        if failed:
            print(failed, file=sys.stderr)
    print(f"{'all':18} {total:>11,} inputs")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
