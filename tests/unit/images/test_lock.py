"""What the worker images are given is what the distribution asks for."""

from __future__ import annotations

import configparser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from queue_runner.images.wheels import LOCK

ROOT = Path(__file__).parents[3]


def _asked_for() -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = (
        setup["options"]["install_requires"] + "\n" + setup["options.extras_require"]["postgres"]
    )
    return [Requirement(line) for line in lines.splitlines() if line and not line.startswith("#")]


def _locked() -> dict[str, str]:
    lines = (ROOT / LOCK).read_text().splitlines()
    pinned = (line.split()[0].split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, version in pinned}


def test_every_requirement_is_locked_in_a_version_that_fits() -> None:
    locked = _locked()
    asked = {canonicalize_name(each.name): each.specifier for each in _asked_for()}
    assert asked.keys() <= locked.keys()
    assert [name for name, fits in asked.items() if not fits.contains(locked[name])] == []
