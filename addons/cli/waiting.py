"""Tells a terminal what takes longer than a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

_PATIENCE: Final = 1.0  # seconds


@contextmanager
def waiting_for(what: str, terminal: TextIO | None = None, patience: float = _PATIENCE) -> Iterator[None]:
    """Show ``what`` on standard error, if that is a terminal and the block takes longer than ``patience`` seconds."""
    stream = terminal or sys.stderr
    if not stream.isatty():
        yield
        return
    text = f"{what} ..."
    shown = threading.Event()

    def show() -> None:
        shown.set()
        print(text, end="", file=stream, flush=True)

    timer = threading.Timer(patience, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if shown.is_set():
            print("\r" + " " * len(text) + "\r", end="", file=stream, flush=True)
