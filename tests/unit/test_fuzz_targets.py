"""What `make fuzz` begins with is taken by its targets."""

from __future__ import annotations

import pytest

from tests.fuzz import targets
from tests.fuzz.seeds import seeds_of


@pytest.mark.parametrize("name", targets.NAMES)
def test_each_target_takes_its_seeds(name: str) -> None:
    seeds = seeds_of(name)
    assert seeds
    with targets.made(name) as target:
        for seed in (*seeds, b""):
            target(seed)
