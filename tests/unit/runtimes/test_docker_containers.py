"""Containers are removed, whatever becomes of the engine meanwhile."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any, cast

import pytest
import requests

from queue_runner.workers.runtimes.docker import containers
from queue_runner.workers.runtimes.docker.containers import Containers
from tests.unit.runtimes.flickering import Flickering, Slow


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_PAUSE_S", 0.001)


@pytest.mark.usefixtures("no_pause")
def test_a_container_that_the_engine_made_but_did_not_tell_of_is_removed_when_it_is_back() -> None:
    engine = Flickering(away=4)
    ours = Containers(cast("Any", engine), {"owner": "me"})
    with closing(ours):
        with pytest.raises(requests.exceptions.ConnectionError):
            ours.create("image", ["sleep", "9"], {"job": "s.0"})
        assert list(engine.there.values()) == [{"owner": "me", "job": "s.0"}]
        assert engine.is_emptied()
        # and what comes after it
        second = ours.create("image", [], {})
        ours.remove(second)
        assert engine.there == {}


@pytest.mark.usefixtures("no_pause")
def test_what_cannot_be_removed_is_removed_when_the_engine_is_back_without_another_job() -> None:
    engine = Flickering(away=0)
    ours = Containers(cast("Any", engine), {})
    with closing(ours):
        both = [ours.create("image", [], {}) for _ in range(2)]
        engine.away = 3
        for container in both:
            ours.remove(container)
        assert engine.is_emptied()


def test_what_is_left_keeps_nobody_from_ending() -> None:
    engine = Flickering(away=10**9)
    ours = Containers(cast("Any", engine), {})
    with pytest.raises(requests.exceptions.ConnectionError):
        ours.create("image", [], {})
    ours.close()
    assert [each.name for each in threading.enumerate() if each.name == "docker-remove"] == []


def test_nobody_waits_for_the_removal_of_what_has_ended_unless_an_engine_gets_behind() -> None:
    engine = Slow()
    ours = Containers(cast("Any", engine), {})
    for _ in range(containers._MOST_BEHIND):
        ours.remove_ended(ours.create("image", [], {}))
    assert len(engine.there) == containers._MOST_BEHIND
    late = threading.Thread(target=ours.remove_ended, args=[ours.create("image", [], {})])
    late.start()
    engine.await_waiting(containers._MOST_BEHIND + 1)
    assert late.is_alive()
    engine.may_go_on.set()
    late.join(30)
    assert not late.is_alive()
    ours.close()
    assert engine.there == {}


def test_all_that_has_ended_is_removed_before_a_worker_ends() -> None:
    engine = Slow()
    ours = Containers(cast("Any", engine), {})
    ours.remove_ended(ours.create("image", [], {}))
    engine.await_waiting(1)
    closing_ = threading.Thread(target=ours.close)
    closing_.start()
    assert engine.there
    engine.may_go_on.set()
    closing_.join(30)
    assert engine.there == {}


def test_an_engine_that_refuses_a_removal_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    engine = Flickering(away=0)
    ours = Containers(cast("Any", engine), {})
    container = ours.create("image", [], {})
    # as for whatever the engine answers that nobody has thought of
    engine.there.clear()
    ours.remove_ended(container)
    ours.close()
    assert f"the container {container.id} is left" in caplog.text
    assert "KeyError" in caplog.text
