"""Bodies of requests, no larger than allowed and no slower than a poor line."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from queue_runner.errors import TooBig, TryLater

#: A body has so many seconds, and more by its largest size at this speed.
GRACE_S = 30.0
BYTES_PER_S = 64 * 1024


class TooSlow(TryLater):
    """A body did not come within its time: 408."""


async def read_body(request: Request, limit_bytes: int) -> bytearray:
    """Raises `TooBig`, `TooSlow`."""
    limit_s = GRACE_S + limit_bytes / BYTES_PER_S
    body = bytearray()
    try:
        async with asyncio.timeout(limit_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise TooBig(f"a body of more than {limit_bytes // 1024} KiB")
    except TimeoutError as error:
        raise TooSlow(f"the body was not there after {limit_s:.0f} s") from error
    return body
