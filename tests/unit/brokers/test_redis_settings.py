"""The server as it is deployed, and as it is packed for throwaway servers, are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import queue_runner.testing

_DEPLOYED = Path(__file__).parents[3] / "brokers" / "redis"
_PACKED = Path(queue_runner.testing.__file__).parent / "servers" / "redis"


@pytest.mark.parametrize("name", ["Dockerfile", "entrypoint", "healthy", "redis.conf"])
def test_both_copies_agree(name: str) -> None:
    assert (_PACKED / name).read_bytes() == (_DEPLOYED / name).read_bytes()
