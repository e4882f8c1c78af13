"""`health`: ask a daemon on this machine how it is, for health checks of containers and services."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from queue_runner.cli.app import EXIT_JOBS_FAILED, EXIT_OK, app, say
from queue_runner.cli.options import Broker, CollectorUrl, Json, print_json

health = typer.Typer(
    help="Ask a daemon how it is; exit code 0 when it is well, 1 when not, 3 when it does not answer.",
    no_args_is_help=True,
    epilog="Example: queue-runner health worker --scratch /scratch/me",
)
app.add_typer(health, name="health")


@health.command("worker", epilog="Example: queue-runner health worker --scratch /scratch/me")
def worker_health(
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", metavar="DIR", help="The worker's own --scratch."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Ask the workers that have this scratch folder."""
    from queue_runner.client.config import data_home
    from queue_runner.errors import TryLater
    from queue_runner.workers.health import ask

    folder = scratch or data_home() / "scratch"
    reports = list(ask(folder))
    if not reports:
        raise TryLater(f"no worker with the scratch folder {folder} answers")
    if as_json:
        print_json(reports)
    for report in () if as_json else reports:
        say(
            f"{report['worker']}: {'well' if report['healthy'] else 'hangs'}, {report['state']},"
            f" {report['cores_free']} of {report['cores']} cores free"
        )
    return EXIT_OK if all(report["healthy"] for report in reports) else EXIT_JOBS_FAILED


@health.command("collector", epilog="Example: queue-runner health collector")
def collector_health(collector: CollectorUrl = None) -> int:
    """Ask the collector's /healthz."""
    from queue_runner.client.config import load_config
    from queue_runner.errors import CollectorRefused, CollectorUnavailable
    from queue_runner.http import Session, Unanswered, succeeded
    from queue_runner.tls import distrust

    config = load_config(collector=collector)
    url = f"{config.collector.rstrip('/')}/healthz"
    try:
        session = Session(config.collector, ca_file=config.ca_file, timeout_s=10.0)
        answer = session.request("GET", "/healthz")
    except ValueError as error:
        raise CollectorRefused(f"{config.collector!r} is no collector URL: {error}") from error
    except Unanswered as error:
        if (why := distrust(error)) is not None:
            raise CollectorRefused(f"{url}: {why}") from error
        raise CollectorUnavailable(f"{url}: {error}") from error
    say(answer.data.decode(errors="replace").strip())
    return EXIT_OK if succeeded(answer) else EXIT_JOBS_FAILED


@health.command("broker", epilog="Example: queue-runner health broker --broker redis://head")
def broker_health(broker: Broker = None) -> int:
    """Ask the broker server for its version."""
    from queue_runner.brokers.registry import connect
    from queue_runner.client.config import load_config

    with connect(load_config(broker=broker).broker) as connection:
        server = connection.server(timeout_s=10.0)
    say(f"{server.product} {server.version}")
    return EXIT_OK
