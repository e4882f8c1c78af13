"""The one thread that owns the connections.

An asyncio loop runs in it: pika's connections are not safe to use from several threads, and a worker
whose other threads compute must go on serving heartbeats. Callers hand it coroutines and wait.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from queue_runner.brokers.rabbitmq.lost import Lost
from queue_runner.errors import BrokerUnavailable, QueueRunnerError

T = TypeVar("T")
P = ParamSpec("P")

logger = logging.getLogger(__name__)


class _Unawaited(concurrent.futures.ThreadPoolExecutor):
    """Threads that no interpreter waits for at its end: they ask for names, of servers that may have gone."""

    def submit(
        self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the future brings it to who asked
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        return future


class IoThread:
    """Runs coroutines for other threads. `spawn` and what they call stay inside it."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_Unawaited())
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, from any other thread. Raises `BrokerUnavailable` after `close`."""
        with self._lock:
            if self._closed:
                work.close()
                raise BrokerUnavailable("this broker connection has been closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise BrokerUnavailable("the broker connection was closed meanwhile") from error
        except BaseException:
            future.cancel()  # Ctrl-C in the waiting thread
            raise

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start something inside the loop that lives on when whoever started it is cut short.

        That a connection was lost is no news to log; anything else that ends a task is.
        """
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def close(self, farewell: Coroutine[Any, Any, None]) -> None:
        """Run `farewell`, cancel what is left and end the thread. Idempotent."""
        with self._lock:
            if self._closed:
                farewell.close()
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(farewell, self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Lost | QueueRunnerError):
            logger.error("a background task failed", exc_info=error)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()
