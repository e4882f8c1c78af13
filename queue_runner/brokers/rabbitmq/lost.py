"""What goes wrong between us and RabbitMQ, in our words. Errors of pika end here."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from pika import exceptions
from pika.adapters.utils import connection_workflow as workflow

from queue_runner.brokers.tls import distrust
from queue_runner.errors import BrokerRefused

#: Reply codes that asking again does not change: access refused, precondition failed, not allowed,
#: not implemented. https://www.rabbitmq.com/amqp-0-9-1-reference#constants
FINAL_CODES = {
    403: "Grant the user configure, write and read on the names that begin with the prefix.",
    406: "Something of that name exists with other settings: delete it, or use another ?prefix=.",
    530: "Check the virtual host in the URL, and that the user may use it.",
    540: "The server is too old, or a feature flag is off: rabbitmqctl enable_feature_flag all",
}

_CLOSED = re.compile(r"ConnectionClosedByBroker: \((\d+)\) (.*)", re.DOTALL)


class Lost(Exception):
    """A channel or its connection went away; what was asked for may or may not have happened.

    `code`: the server's reply code, 0 where the connection broke.
    """

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


def lost(reason: BaseException) -> Lost:
    """Why pika says a channel or connection is closed."""
    if isinstance(reason, Lost):
        return reason
    code = getattr(reason, "reply_code", 0)
    text = getattr(reason, "reply_text", "") or str(reason) or type(reason).__name__
    return Lost(text, code)


def refusal(what: str, gone: Lost) -> BrokerRefused | None:
    """The error to raise at once where the server said no for good while it was asked for `what`."""
    if gone.code not in FINAL_CODES:
        return None
    return BrokerRefused(f"RabbitMQ refused to {what}: {gone}. {FINAL_CODES[gone.code]}")


@contextmanager
def saying_no(what: str) -> Iterator[None]:
    """Raise `BrokerRefused` where the server refuses what is asked of it inside, see `refusal`."""
    try:
        yield
    except Lost as error:
        refused = refusal(what, error)
        if refused is not None:
            raise refused from error
        raise


class Unheard(Lost):
    """The server hung up before it spoke AMQP; `tls.py` asks whether it was for want of TLS."""


def connecting(error: BaseException) -> BrokerRefused | Lost:
    """What a failed attempt to connect means."""
    cause = _innermost(error)
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, _HUNG_UP):
        return BrokerRefused(f"no TLS with this server: {cause}. {_tls_advice(cause)}")
    closed = _CLOSED.search(str(cause))
    if closed:
        return _closed_while_opening(int(closed[1]), closed[2].strip("'\",)"))
    if isinstance(cause, exceptions.IncompatibleProtocolError | _HUNG_UP):
        return Unheard(
            "the server closed the connection before it spoke AMQP; is it still starting,"
            " or does something else listen on that port?"
        )
    return Lost(str(cause) or type(cause).__name__)


_HUNG_UP = ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError | ConnectionResetError


def _tls_advice(error: ssl.SSLError) -> str:
    if distrust(error):
        return (
            "Its certificate is not trusted: name the file of the authority that signed it with"
            " ?cacertfile=, and use a host name that stands in it."
        )
    if error.reason == "WRONG_VERSION_NUMBER":
        return "That port does not speak TLS: write amqp:// if that is meant to be so."
    return "Check cacertfile, certfile and keyfile in the URL, and the server's log."


def _closed_while_opening(code: int, text: str) -> BrokerRefused | Lost:
    # a limit on connections frees up, a virtual host that is down comes back
    if code not in FINAL_CODES or "limit" in text or "is down" in text:
        return Lost(text, code)
    advice = FINAL_CODES[code] if code == 530 else "Check user and password in the URL."
    return BrokerRefused(f"the server refused the connection: {text}. {advice}")


def _innermost(error: BaseException) -> BaseException:
    if isinstance(error, workflow.AMQPConnectionWorkflowFailed) and error.exceptions:
        return _innermost(error.exceptions[-1])
    if isinstance(error, workflow.AMQPConnectorPhaseErrorBase):
        return _innermost(error.exception)
    return error
