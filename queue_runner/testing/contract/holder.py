"""A consumer that leases what it is given, says so, and holds it: to be killed by a test.

python -m queue_runner.testing.contract.holder URL QUEUE
"""

from __future__ import annotations

import sys

from queue_runner.brokers import connect

LEASE_S = 2.0
WAIT_S = 30.0
HELD = 5


def main(url: str, queue: str) -> None:
    with connect(url) as broker:
        held = 0
        while held < HELD and (
            found := broker.lease([queue], HELD - held, WAIT_S, lease_s=LEASE_S)
        ):
            for delivery in found:
                print(delivery.body.decode(), flush=True)
            held += len(found)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
