"""What a test needs and may not be there: left out, but a failure where everything has to run."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(why: object) -> NoReturn:
    if os.environ.get("QUEUE_RUNNER_TESTS_REQUIRE") == "all":
        pytest.fail(str(why), pytrace=False)
    pytest.skip(str(why))
