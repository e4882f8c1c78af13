"""Which system a command talks about: the collector, or the folder of embedded runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from queue_runner.cli.options import read_token
from queue_runner.client.client import Client, StudyHandle
from queue_runner.client.config import load_config
from queue_runner.client.folder import RunsFolder
from queue_runner.errors import CollectorUnavailable, NotFound


@contextmanager
def open_client(
    folder: Path,
    *,
    broker: str | None = None,
    collector: str | None = None,
    token_file: Path | None = None,
    store: str | None = None,
    keys_file: str | None = None,
) -> Iterator[Client]:
    """The collector's, where one was named in any way; else the runs in `folder`, where there are any.

    With neither, the collector at its default address, whose absence the error then names.
    """
    token = read_token(token_file)
    given = load_config(broker=broker, collector=collector).given
    if "collector" not in given and any(folder.glob("*/state/collector.sqlite")):
        runs = RunsFolder(folder)
        with Client.over(runs, None, store or runs.store_url) as client:
            try:
                yield client
            finally:
                runs.close()
        return
    with Client(
        broker, collector=collector, token=token, store=store, keys_file=keys_file
    ) as client:
        try:
            yield client
        except CollectorUnavailable as error:
            if "collector" in given:
                raise
            raise CollectorUnavailable(
                f"there are no runs in {folder}/ (`queue-runner run STUDY.yaml` makes them), and {error}"
            ) from error


def pick(client: Client, study: str | None) -> StudyHandle:
    """The study named, or the latest. Raises `NotFound`."""
    if study is not None:
        return client.handle(study)
    studies = client.studies()
    if not studies:
        raise NotFound("there is no study yet; `queue-runner run STUDY.yaml` makes one")
    return StudyHandle(client, studies[0].id)
