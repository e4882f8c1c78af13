"""`python -m queue_runner.brokers.zeromq --bind URL --journal FILE`: the server, for tests and scripts.

Prints the URLs that were bound, one a line, and serves until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from queue_runner.brokers.zeromq.server import BrokerServer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", action="append", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--sync", choices=["normal", "full"], default="normal")
    options = parser.parse_args()
    server = BrokerServer(options.bind, options.journal, sync=options.sync)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    print(*server.urls, sep="\n", flush=True)
    server.run()


if __name__ == "__main__":
    main()
