"""Samples of the unit cube: plain random numbers, Latin hypercubes and Sobol sequences."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from typing import Any

from queue_runner.errors import MissingTool

METHODS = ("random", "latin-hypercube", "sobol")


def draw(method: str, dimensions: int, count: int, seed: int) -> Sequence[Sequence[float]]:
    """`count` points of `dimensions` numbers in [0, 1); the same arguments give the same points.

    `random` is Python's own generator; the others are scipy's and may differ between its versions.
    Raises `MissingTool` without scipy.
    """
    if method == "random":
        generator = random.Random(seed)
        return [[generator.random() for _ in range(dimensions)] for _ in range(count)]
    return _scipy(method, dimensions, count, seed)


def _scipy(method: str, dimensions: int, count: int, seed: int) -> Sequence[Sequence[float]]:
    try:
        import numpy
        from scipy.stats import qmc
    except ImportError as error:
        raise MissingTool(
            f"sample method {method!r} needs scipy: pip install 'queue-runner[sampling]'"
        ) from error
    make: Any = qmc.LatinHypercube if method == "latin-hypercube" else qmc.Sobol
    # the keyword is `seed` in old versions of scipy and both in new ones
    engine = make(dimensions, seed=numpy.random.default_rng(seed))
    with warnings.catch_warnings():
        # that a count which is no power of two is unbalanced is said by `check`, in our words
        warnings.simplefilter("ignore", UserWarning)
        points: list[list[float]] = engine.random(count).tolist()
    return points
