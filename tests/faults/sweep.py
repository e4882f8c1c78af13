"""Some hundreds of short real jobs, each of which tells a ledger when it begins and when it ends.

The ledger knows what truly ran; nothing of queue-runner writes to it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_COMMAND = """\
study: {name}
kind: command
parameters:
  n: {{range: {{from: 1, to: {jobs}, step: 1}}}}
derived:
  pause: {shortest} + (n * 7919 % 31) / 30 * {spread}
command: {{files: ., run: [./work, "{{pause:.3f}}"]}}
measure: {{metrics: slept.json}}
retries: {retries}
"""
_WORK = """\
#!/bin/sh
echo "$QUEUE_RUNNER_JOB begin $$" >>{ledger}
sleep "$1"
echo "{{\\"slept\\": $1}}" >slept.json
echo "$QUEUE_RUNNER_JOB end $$" >>{ledger}
"""
_PYTHON = """\
study: {name}
kind: python
parameters:
  n: {{range: {{from: 1, to: {jobs}, step: 1}}}}
derived:
  pause: {shortest} + (n * 7919 % 31) / 30 * {spread}
python: {{files: ., call: "work:work"}}
retries: {retries}
"""
_MODULE = """\
import os, time
def tell(what, job):
    with open({ledger!r}, "a") as ledger:
        ledger.write(f"{{job}} {{what}} {{os.getpid()}}\\n")
def work(n, pause):
    job = f"{{os.environ['QUEUE_RUNNER_STUDY']}}.{{n - 1:07}}"
    tell("begin", job)
    time.sleep(pause)
    tell("end", job)
    return {{"slept": pause}}
"""


@dataclass(frozen=True)
class Sweep:
    """`jobs` jobs of `shortest_s` to `longest_s` seconds; `study` is its id once it was submitted."""

    name: str
    folder: Path
    jobs: int
    study: str = ""

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def ended(self) -> int:
        """How many jobs have run to their end at least once."""
        return len(self.executions("end"))

    def executions(self, what: str) -> Counter[str]:
        """How often each job did `begin` or `end`."""
        if not self.ledger.exists():
            return Counter()
        words = (line.split() for line in self.ledger.read_text().splitlines())
        return Counter(job for job, done, _ in words if done == what)


def write_sweep(
    folder: Path,
    name: str,
    jobs: int,
    kind: str,
    shortest_s: float,
    longest_s: float,
    retries: int = 0,
) -> Sweep:
    """The study's files, in a folder of their own."""
    root = folder / name
    (root / "study").mkdir(parents=True)
    sweep = Sweep(name, root, jobs)
    study, program, path = {
        "command": (_COMMAND, _WORK, root / "study/work"),
        "python": (_PYTHON, _MODULE, root / "study/work.py"),
        # in a container there is no ledger
        "contained": (_COMMAND, _WORK, root / "study/work"),
    }[kind]
    ledger = "/dev/null" if kind == "contained" else str(sweep.ledger)
    spread = longest_s - shortest_s
    text = study.format(name=name, jobs=jobs, shortest=shortest_s, spread=spread, retries=retries)
    (root / "study/study.yaml").write_text(text)
    path.write_text(program.format(ledger=ledger))
    path.chmod(0o755)
    return sweep
