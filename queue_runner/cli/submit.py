"""`submit`: enqueue a study for workers elsewhere."""

from __future__ import annotations

import dataclasses

import typer

from queue_runner.cli.app import EXIT_JOBS_FAILED, EXIT_OK, app, say
from queue_runner.cli.memory import look_seldom_for_cycles
from queue_runner.cli.options import (
    Broker,
    CollectorUrl,
    Json,
    KeysFile,
    StoreUrl,
    StudyFile,
    TokenFile,
    print_json,
    read_token,
    text_of,
)


@app.command(
    epilog="Example: queue-runner submit examples/cavity/study.yaml --broker redis://localhost"
)
def submit(
    study_file: StudyFile,
    broker: Broker = None,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    store: StoreUrl = None,
    keys_file: KeysFile = None,
    wait: bool = typer.Option(False, "--wait", help="Follow it until every job has a result."),
    as_json: Json = False,
) -> int:
    """Enqueue a study's jobs on a broker; workers run them, the collector keeps their results.

    Submitting the same study again sends only what had not been sent. A study that is open gets its points
    with `queue-runner add`.
    """
    from queue_runner.cli.render import console
    from queue_runner.client.client import Client
    from queue_runner.study import load_study

    study = load_study(study_file)
    out = console(stderr=True)
    with Client(
        broker,
        collector=collector,
        token=read_token(token_file),
        store=store,
        keys_file=text_of(keys_file),
    ) as client:
        with out.status("waiting for the broker's answer ...") as spinner:
            client.check()
            spinner.update("submitting ...")
            look_seldom_for_cycles()
            handle = client.submit(
                study, lambda sent, total: spinner.update(f"submitting {sent}/{total}")
            )
        if wait:
            from queue_runner.cli.follow import follow

            follow(handle, quiet=as_json)
            status = handle.status()
            if as_json:
                print_json(dataclasses.asdict(status))
            return EXIT_JOBS_FAILED if status.failed else EXIT_OK
    if as_json:
        print_json({"study": handle.id, "jobs": study.total})
    elif study.open:
        example = " ".join(f"{name}=..." for name in study.parameters[:1])
        say(f"{handle.id} is open. Add a point with: queue-runner add {handle.id} {example}")
    else:
        say(f"{handle.id}: {study.total} jobs are with the broker")
        say(f"Follow it with: queue-runner watch {handle.id}")
    return EXIT_OK
