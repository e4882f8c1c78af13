"""The rates and latencies of all who were measured, as bars with their spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from measure.catalogue import LIMIT, OURS
from measure.record import Record

_PANELS = (
    ("noop", "per_s", "noop: jobs per second"),
    ("true", "per_s", "true: jobs per second"),
    ("latency", "p50_ms", "latency: median, ms"),
)
_OWN, _OTHER = "#1f6fb4", "#b9bec4"


def draw(record: Record, path: Path) -> bool:
    """False where there is nothing to draw."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [panel for panel in _PANELS if any(_shown(record, panel[0]))]
    if not panels:
        return False
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(5.2 * len(panels), 5), squeeze=False, layout="constrained"
    )
    for axis, (workload, name, title) in zip(axes[0], panels, strict=True):
        _bars(axis, record, workload, name)
        axis.set_title(title)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def _shown(record: Record, workload: str) -> list[str]:
    """Limits are far away from all others, and stand in the tables."""
    return [each for each in record.contenders(workload) if not each.startswith(LIMIT)]


def _bars(axis: Any, record: Record, workload: str, name: str) -> None:
    rounds = {
        each: record.by_round(workload, each, name).values() for each in _shown(record, workload)
    }
    middle = {each: record.median(workload, each, name) or 0.0 for each in rounds}
    order = sorted(rounds, key=middle.__getitem__, reverse=name.endswith("_ms"))
    below = [middle[each] - min(rounds[each], default=0.0) for each in order]
    above = [max(rounds[each], default=0.0) - middle[each] for each in order]
    colours = [_OWN if each.startswith(OURS) else _OTHER for each in order]
    axis.barh(order, [middle[each] for each in order], color=colours, xerr=[below, above])
    if name.endswith("_ms"):
        from matplotlib.ticker import LogLocator, NullFormatter

        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.spines[["top", "right"]].set_visible(False)
