"""How things look in a terminal: tables, progress, failures."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from queue_runner.model import Result, StudyStatus, WorkerStatus
from queue_runner.printing import one_line, printable
from queue_runner.tables import Row, columns

#: Failed jobs that are shown in full; the rest is counted.
_FAILURES_SHOWN = 5
_TAIL_LINES = 8
#: Columns of a row that a narrow terminal drops first, least interesting first.
_DROP_FIRST = ("worker", "attempt", "wall_s", "job")

STATE_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow"}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would end the program with 1, which says that jobs failed; the program itself knows better
        self.quiet = True
        raise BrokenPipeError


def console(stderr: bool = False) -> Console:
    width = None if sys.stdout.isatty() else max(shutil.get_terminal_size((160, 50)).columns, 160)
    return _Console(stderr=stderr, width=width, highlight=False, soft_wrap=False, markup=False)


def results_table(rows: Sequence[Row], *, limit: int | None = None, title: str = "") -> Table:
    """A table of as many columns as fit; which were left out is said in its caption."""
    shown = rows if limit is None else rows[:limit]
    names = _fitting(shown, columns(rows))
    left_out = [name for name in columns(rows) if name not in names]
    notes = []
    if len(shown) < len(rows):
        notes.append(_more(len(rows) - len(shown), "row"))
    if left_out:
        notes.append(
            f"{_more(len(left_out), 'column')}: {', '.join(map(one_line, left_out[:6]))}"
            + (", ..." * (len(left_out) > 6))
        )
    table = Table(
        title=title or None,
        caption="; ".join(notes) or None,
        title_justify="left",
        caption_justify="left",
    )
    for name in names:
        numeric = any(_is_number(row.get(name)) for row in shown)
        table.add_column(Text(one_line(name)), justify="right" if numeric else "left", no_wrap=True)
    for row in shown:
        table.add_row(*(_cell(name, row.get(name)) for name in names))
    return table


def _more(count: int, what: str) -> str:
    return f"{count} more {what}{'s' * (count != 1)}"


def _fitting(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    width = console().width
    # an empty column says nothing; `columns` and the files keep it
    kept = [name for name in names if any(row.get(name) not in (None, "") for row in rows)]
    sizes = {
        name: 3 + max([len(name), *(len(_text(row.get(name))) for row in rows)]) for name in kept
    }
    for name in [*_DROP_FIRST, *reversed(kept)]:
        if sum(sizes[kept_name] for kept_name in kept) + 1 <= width:
            break
        if name in kept:
            kept.remove(name)
    return kept


def _cell(name: str, value: object) -> Text:
    text = _text(value)
    return Text(text, style=STATE_STYLES.get(text, "") if name == "state" else "")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    return one_line(str(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def status_table(statuses: Iterable[StudyStatus]) -> Table:
    table = Table()
    table.add_column("study", overflow="fold")
    table.add_column("kind")
    for name in ("jobs", "waiting", "running", "succeeded", "failed", "cancelled"):
        table.add_column(name, justify="right", style=STATE_STYLES.get(name))
    table.add_column("")
    for status in statuses:
        waiting = status.total - status.finished - status.running
        counts = (status.total, waiting, status.running, status.succeeded, status.failed)
        table.add_row(
            one_line(status.id),
            one_line(status.kind),
            *(str(max(count, 0)) for count in (*counts, status.cancelled)),
            _how_far(status),
        )
    return table


def _how_far(status: StudyStatus) -> str:
    if not status.done:
        return f"{100 * status.finished // max(status.total, 1)} %"
    return "open" if status.open else "done"


def workers_table(workers: Iterable[WorkerStatus]) -> Table:
    table = Table()
    for name in ("worker", "host", "state", "queues", "cores free", "running", "last heard of"):
        table.add_column(name)
    for item in workers:
        table.add_row(
            *map(one_line, (item.worker, item.host, item.state, ", ".join(item.queues))),
            f"{item.cores_free} of {item.cores}",
            str(len(item.running)),
            f"{item.age_s:.0f} s ago",
        )
    return table


def failures(results: Sequence[Result], total: int, *, more: str) -> Iterator[Text]:
    """The first failed jobs: where, why, and the end of their log."""
    for result in results[:_FAILURES_SHOWN]:
        point = ", ".join(
            f"{one_line(name)}={_text(value)}" for name, value in result.point.items()
        )
        failure = result.failure
        reason = one_line(failure.reason) if failure else result.state.value
        attempts = f", attempt {result.attempt}" if result.attempt > 1 else ""
        yield Text(f"{result.job_id} ({point}) failed: {reason}{attempts}", style="red")
        if failure:
            yield Text(f"    {printable(failure.message)}")
        for line in result.log_tail.splitlines()[-_TAIL_LINES:]:
            yield Text(f"    | {printable(line)}", style="dim")
    if total > _FAILURES_SHOWN:
        yield Text(f"... and {total - _FAILURES_SHOWN} more failed jobs", style="red")
    if total:
        yield Text(more)


class Bar(Protocol):
    def update(self, status: StudyStatus) -> None: ...


class _EtaColumn(ProgressColumn):
    def render(self, task: object) -> Text:
        remaining = getattr(task, "time_remaining", None)
        if remaining is None:
            return Text("")
        return Text(f"{_duration(remaining)} left", style="cyan")


class _LiveBar:
    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=1, counts="")

    def update(self, status: StudyStatus) -> None:
        self._progress.update(
            self._task,
            total=max(status.total, 1),
            completed=status.finished,
            counts=_counts(status),
        )


class _LineBar:
    """For logs and pipes: a line when something changed, at most every few seconds."""

    def __init__(self, out: Console, label: str, every_s: float = 5.0) -> None:
        self._out, self._label, self._every_s = out, label, every_s
        self._shown = ""
        self._at = -math.inf

    def update(self, status: StudyStatus) -> None:
        text = f"{self._label}: {status.finished}/{status.total} {_counts(status)}".rstrip()
        due = status.done or time.monotonic() - self._at >= self._every_s
        if due and text != self._shown:
            self._out.print(text)
            self._shown, self._at = text, time.monotonic()


def _counts(status: StudyStatus) -> str:
    parts = [
        (status.running, "running"),
        (status.failed, "failed"),
        (status.cancelled, "cancelled"),
    ]
    return ", ".join(f"{count} {word}" for count, word in parts if count)


@contextmanager
def progress_bar(label: str, *, quiet: bool = False) -> Iterator[Bar]:
    """A live bar on a terminal, lines elsewhere, both on stderr so that stdout stays for results."""
    out = Console(stderr=True, highlight=False, quiet=quiet, markup=False)
    if not out.is_terminal or quiet:
        yield _LineBar(out, label)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        _EtaColumn(),
        console=out,
        expand=True,
    ) as progress:
        yield _LiveBar(progress, label)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
