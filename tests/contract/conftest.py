"""The servers come from the plug-in of `queue_runner.testing`; only asserts are ours to rewrite."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("queue_runner.testing.contract")
