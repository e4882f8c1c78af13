"""`doctor`: what is installed, reachable and missing here."""

from __future__ import annotations

import dataclasses

from queue_runner.cli.app import EXIT_JOBS_FAILED, EXIT_OK, app
from queue_runner.cli.options import (
    Broker,
    CollectorUrl,
    Json,
    KeysFile,
    StoreUrl,
    TokenFile,
    print_json,
    read_token,
    text_of,
)


@app.command(epilog="Example: queue-runner doctor --broker amqp://head")
def doctor(
    broker: Broker = None,
    collector: CollectorUrl = None,
    token_file: TokenFile = None,
    store: StoreUrl = None,
    keys_file: KeysFile = None,
    as_json: Json = False,
) -> int:
    """Say what is installed, reachable and missing, and what to do about it.

    Fails when something that was asked for (by an option, the environment or a configuration file)
    does not work; what is merely not installed is a note.
    """
    from rich.text import Text

    from queue_runner.cli.render import console
    from queue_runner.client.checks import Level, examine
    from queue_runner.client.config import load_config

    config = load_config(
        broker=broker,
        collector=collector,
        token=read_token(token_file),
        store=store,
        keys_file=text_of(keys_file),
    )
    styles = {Level.OK: "green", Level.NOTE: "cyan", Level.WARNING: "yellow", Level.FAILED: "red"}
    findings = []
    out = console()
    for finding in examine(config):
        findings.append(finding)
        if not as_json:
            out.print(Text(f"{finding.level:8}", styles[finding.level]), end="")
            out.print(Text(f"{finding.name:11} {finding.detail}"))
            if finding.fix:
                out.print(Text(f"{'':19} -> {finding.fix}", "dim"))
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    failed = any(finding.level is Level.FAILED for finding in findings)
    return EXIT_JOBS_FAILED if failed else EXIT_OK
