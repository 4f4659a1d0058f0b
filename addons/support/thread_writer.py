"""A bounded queue with a writer thread, so that a stalled disk or pipe does not block the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

T = TypeVar("T")

END_SECONDS: Final = 5.0
"""How long the process waits at its end for queued items to be written."""


class ThreadWriter(Generic[T]):
    """Writes items in order, in a thread. Items that do not fit into the queue are lost.

    Args:
        write: writes one item. It may block; if it raises, the item is lost.
        most: the size of the queue, in the unit of the sizes given to :meth:`put`.
        pause: seconds that the last item in the queue waits for more, since waking the thread costs more than a write.
    """

    def __init__(self, write: Callable[[T], None], name: str, most: int, *, pause: float = 0.0) -> None:
        self._write = write
        self._pause = pause
        self._ending = threading.Event()
        self._most = most
        self.lost = 0
        """Items that were not written."""
        self._waiting = 0
        self._closed = False
        # Reentrant: a finalizer that logs may run while the lock is held.
        self._lock = threading.RLock()
        self._queue: SimpleQueue[tuple[T, int, Callable[[], object]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T, size: int, lost: Callable[[], object]) -> None:
        """Queue ``item`` without blocking. ``lost`` is called, in any thread, if the item is not written."""
        with self._lock:
            if self._closed or self._waiting + size > self._most:
                self._lose(lost)
                return
            self._waiting += size
            self._queue.put((item, size, lost))

    def close(self, seconds: float = END_SECONDS) -> bool:
        """Take no more items, and wait up to ``seconds`` until all are written. Returns whether they are."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
                self._ending.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (taken := self._queue.get()) is not None:
            if self._pause and self._queue.empty():
                self._ending.wait(self._pause)
            item, size, lost = taken
            try:
                self._write(item)
            except Exception:
                self._lose(lost)
            with self._lock:
                self._waiting -= size

    def _lose(self, lost: Callable[[], object]) -> None:
        with self._lock:
            self.lost += 1
            lost()
