"""Images as the engine has them."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.api.image import ImageApiMixin

from queue_runner.errors import FixThis
from queue_runner.images import verify as verifying
from queue_runner.images.build import Context, build, build_anew, is_built
from queue_runner.images.debian import BASE_TAG
from queue_runner.images.engine import open_engine
from queue_runner.images.verify import Difference, Entry, compare, verify

pytestmark = pytest.mark.containers
Entries = Mapping[str, Entry]
PROGRAM = str(Path(sys.executable).with_name("queue-runner"))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def tag() -> Iterator[str]:
    name = f"queue-runner/test-{uuid.uuid4().hex}"
    yield f"{name}:latest"
    with open_engine() as client:
        # by their names: another test's image of the same content is the same image
        for each in {each for image in client.images.list(name) for each in image.tags}:
            if each.startswith(f"{name}:"):
                client.images.remove(each, force=True)


def say(text: str) -> None:
    print(text)


def test_an_image_is_built_again_only_when_its_content_changed(tag: str) -> None:
    dockerfile = b"ARG BASE\nFROM ${BASE}\nCOPY hello /hello\nRUN /hello >/said\n"
    first = Context(
        tag, {"BASE": BASE_TAG}, {"Dockerfile": dockerfile, "hello": b"#!/bin/sh\necho one\n"}
    )
    second = Context(
        tag, {"BASE": BASE_TAG}, {"Dockerfile": dockerfile, "hello": b"#!/bin/sh\necho two\n"}
    )
    with open_engine() as client:
        built = build(client, first, say)
        assert is_built(client, first)
        assert not is_built(client, second)
        assert build(client, first, say) == built
        assert build(client, second, say) != built
        container = client.containers.create(tag)
        content, _ = container.get_archive("/said")
        assert b"two\n" in b"".join(content)
        container.remove()


def image(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, "image", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def copy_sources(to: Path) -> None:
    for folder in ("brokers", "workers", "queue_runner"):
        shutil.copytree(ROOT / folder, to / folder)
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, to)


def test_list_tells_what_is_missing_and_what_is_outdated(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    states = {each["tag"]: each["state"] for each in json.loads(image("list", "--json").stdout)}
    assert states["queue-runner/redis:latest"] == "built"
    with (tmp_path / "brokers/redis/redis.conf").open("a") as conf:
        conf.write("# another\n")
    changed = json.loads(image("list", "--json", "--source", str(tmp_path)).stdout)
    states = {each["tag"]: each["state"] for each in changed}
    assert states["queue-runner/redis:latest"] == "outdated"
    assert states["queue-runner/rabbitmq:latest"] == "built"


def test_a_build_tells_what_is_there_afterwards() -> None:
    (built,) = json.loads(image("build", "redis", "--json").stdout)
    states = {each["tag"]: each["id"] for each in json.loads(image("list", "--json").stdout)}
    assert built == {"tag": "queue-runner/redis:latest", "id": states[built["tag"]]}


def test_a_build_that_fails_shows_its_last_lines(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    with (tmp_path / "brokers/redis/Dockerfile").open("a") as dockerfile:
        dockerfile.write("RUN echo it is this one >&2; exit 9\n")
    done = image("build", "redis", "--source", str(tmp_path))
    assert done.returncode == 2
    assert "queue-runner/redis:latest: building the image failed" in done.stderr
    assert "it is this one" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_engine_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    done = image("list")
    assert done.returncode == 3
    assert "no Docker engine answers at unix:///nowhere/docker.sock" in done.stderr
    assert "Traceback" not in done.stderr


def test_verify_names_what_a_second_build_makes_otherwise(tag: str) -> None:
    dockerfile = b"""\
ARG BASE
FROM ${BASE} AS stage
LABEL test=TAG
RUN head -c 8 /dev/urandom >/random
FROM ${BASE}
LABEL test=TAG
ARG SOURCE_DATE_EPOCH
COPY --from=stage /random /random
RUN echo same >/same && touch -d "@${SOURCE_DATE_EPOCH}" /random /same / /etc
"""
    context = Context(
        tag, {"BASE": BASE_TAG}, {"Dockerfile": dockerfile.replace(b"TAG", tag.encode())}
    )
    with open_engine() as client:

        def there() -> set[str]:
            return {image.id for image in client.images.list(filters={"label": f"test={tag}"})}

        build(client, context, say)
        before = there()
        compared = verify(client, context, {}, say)
        assert compared.differences == (Difference("random", "content"),)
        assert 0 < compared.same_layers < compared.layers
        assert before
        assert there() == before


def test_verify_leaves_what_others_build_at_the_same_time(
    tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(tag, {"BASE": BASE_TAG}, {"Dockerfile": b"ARG BASE\nFROM ${BASE}\n"})
    theirs: list[str] = []

    def beside(client: DockerClient, *asked: Any) -> object:
        dockerfile = f"FROM {BASE_TAG}\nLABEL beside={tag}\n".encode()
        theirs.append(client.images.build(fileobj=io.BytesIO(dockerfile))[0].id)
        return build_anew(client, *asked)

    monkeypatch.setattr("queue_runner.images.verify.build_anew", beside)
    with open_engine() as client:
        build(client, context, say)
        verify(client, context, {}, say)
        assert client.images.get(theirs[0]).labels["beside"] == tag
        client.images.remove(theirs[0])


def test_verify_outlives_images_that_go_meanwhile(
    tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(tag, {"BASE": BASE_TAG}, {"Dockerfile": b"ARG BASE\nFROM ${BASE}\n"})
    listed, gone = ImageApiMixin.images, f"sha256:{'0' * 64}"

    def with_one_that_went(self: ImageApiMixin, *asked: Any, **more: Any) -> list[Any]:
        return [*listed(self, *asked, **more), gone if more.get("quiet") else {"Id": gone}]

    monkeypatch.setattr(ImageApiMixin, "images", with_one_that_went)
    with open_engine() as client:

        def when_it_has_gone(one: Entries, other: Entries) -> Iterable[Difference]:
            client.images.remove(f"{tag.removesuffix(':latest')}:built-again", force=True)
            return compare(one, other)

        monkeypatch.setattr(verifying, "compare", when_it_has_gone)
        build(client, context, say)
        assert verify(client, context, {}, say).same


def test_verify_of_what_is_not_built(tag: str) -> None:
    context = Context(tag, {"BASE": BASE_TAG}, {"Dockerfile": b"ARG BASE\nFROM ${BASE}\n"})
    with open_engine() as client, pytest.raises(FixThis, match="image build test-"):
        verify(client, context, {}, say)


def test_our_images_come_out_the_same_twice() -> None:
    done = image("verify", "redis", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (redis,) = json.loads(done.stdout)
    assert redis["same"]
    assert redis["files"] > 0
