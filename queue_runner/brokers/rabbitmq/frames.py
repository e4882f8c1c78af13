"""The frames of a message, as bytes: what both reading and writing them fast have to know.

https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, 2.3.5 (frames), 4.2.6 (content).
"""

from __future__ import annotations

import struct

from pika import spec

#: Type, channel and length of a frame.
FRAME = struct.Struct(">BHL")
#: The same of a header, then its class, its weight and the length of the body; how many bytes these are.
HEADER, HEADER_BYTES = struct.Struct(">BHLHHQ"), struct.calcsize(">HHQ")
END: int = spec.FRAME_END
