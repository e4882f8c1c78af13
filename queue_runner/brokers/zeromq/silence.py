"""How it is noticed that the other side of a connection has gone without a word: by the kernel.

Not by libzmq's own heartbeats: a connection that broke while what came over it waited to be read ended the
whole process when a heartbeat was next due on it, or was found among what waited
(docs/decisions/zeromq-connections.md).
"""

from __future__ import annotations

import zmq

#: Seconds of silence before the other side is asked, between two questions, and how many may stay unanswered.
_IDLE_S, _AGAIN_S, _TIMES = 5, 2, 3
#: For which what was sent may stay unacknowledged, in milliseconds.
_UNHEARD_MS = 10_000


def notice(socket: zmq.Socket[bytes]) -> None:
    """Have connections that are made from now on end when the other side was not heard of for some 10 s."""
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _IDLE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, _AGAIN_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, _TIMES)
    socket.setsockopt(zmq.TCP_MAXRT, _UNHEARD_MS)
