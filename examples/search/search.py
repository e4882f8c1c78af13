"""Which lid speed gives a flow whose fastest cell moves at 0.4 m/s? Each case depends on the one before.

python examples/search/search.py
"""

from __future__ import annotations

from pathlib import Path

from queue_runner import Study, StudyHandle, run_open

TARGET = 0.4
STUDY = Study(
    name="search",
    folder=Path(__file__).parents[1] / "cavity",
    kind="openfoam",
    open=["speed"],
    openfoam={
        "case": "case",
        "set": {"0/U": {"boundaryField/movingWall/value": ["{speed}", 0, 0]}},
    },
    measure={"openfoam": {"fields": {"U": ["max"]}}},
)


def fastest(handle: StudyHandle, speed: float) -> float:
    """Metres per second, of the cell that moves fastest."""
    result = handle.evaluate({"speed": speed})
    if result.failure is not None:
        raise SystemExit(f"{result.job_id}: {result.failure.message}")
    found = result.metrics["U_mag_max"]
    assert isinstance(found, float)
    print(f"{result.job_id}: lid {speed:.4f} m/s, fastest cell {found:.4f} m/s")
    return found


def main() -> None:
    low, high = 0.25, 1.0
    with run_open(STUDY) as handle:
        while high - low > 0.005:
            middle = (low + high) / 2
            if fastest(handle, middle) < TARGET:
                low = middle
            else:
                high = middle
    print(f"between {low:.4f} and {high:.4f} m/s; the table is in runs/{handle.id}/")


if __name__ == "__main__":
    main()
