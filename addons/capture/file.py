"""The file of captured flows. It is complete after every write; otherwise the capture stops."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from vmgw_addons.state import CaptureStatus

logger = logging.getLogger(__name__)

_LONGEST_PREFIX: Final = 13  # bytes: the length of a netstring and its colon


class _Full(Exception):
    """The file would exceed its maximum size."""


class CaptureFile:
    """Appends netstrings to a file that other processes of this gateway may append to as well.

    If the file was renamed or removed, by logrotate or by another process that found it full, a new one is begun.

    :meth:`write` blocks while another process has the lock, or the disk hangs: call it in a thread. Nothing raises: an
    error stops the capture, is logged once, and is in ``status``.

    Args:
        max_size: the maximum size of the file in bytes.
        keep: how many full files are kept; 0: the capture stops instead of beginning a new one.
    """

    def __init__(self, path: str, max_size: int, status: CaptureStatus, *, keep: int = 0) -> None:
        self.path = path
        self.max_size = max_size
        self.keep = keep
        self.status = status
        self.descriptor = -1
        self.open()

    def open(self) -> None:
        """Open the file, or stop the capture."""
        try:
            # 0600: a capture has claims, queries and responses.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
            self.descriptor = os.open(self.path, flags, 0o600)
            if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
                self.stop("not a regular file")
            elif not self.is_whole():
                self.stop("the last flow in it is incomplete, so nothing can be appended: move the file away")
        except OSError as error:
            self.stop(error.strerror or "cannot open it")

    def is_whole(self) -> bool:
        """Whether the file is a sequence of complete netstrings. Reads only their lengths."""
        position, size = 0, os.fstat(self.descriptor).st_size
        while position < size:
            digits, colon, _ = os.pread(self.descriptor, _LONGEST_PREFIX, position).partition(b":")
            if not colon or not digits.isdigit():
                return False
            position += len(digits) + 1 + int(digits) + 1
        return position == size

    def write(self, data: bytes) -> None:
        """Append all of ``data``, or nothing."""
        if self.status.stopped:
            return
        try:
            if not self._lock():
                return
            if self.keep and len(data) <= self.max_size < os.fstat(self.descriptor).st_size + len(data):
                self._rotate()
                if not self._lock():
                    return
            try:
                self._append(data)
            finally:
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        except _Full:
            self.stop(f"the file has reached -capture.maxFileSize, {self.max_size} bytes")
        except OSError as error:
            self.stop(error.strerror or "cannot write it")

    def _lock(self) -> bool:
        """Lock the file that has the name now: open it, if it is another one than before. False if that fails."""
        path = Path(self.path)
        while self.descriptor >= 0:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(self.descriptor)):
                    return True
            self.close()
            self.open()
        return False

    def _rotate(self) -> None:
        """Rename the full file, and those before it. The lock is held; other processes see the new name."""
        names = [self.path, *(f"{self.path}.{number}" for number in range(1, self.keep + 1))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            with suppress(FileNotFoundError):
                Path(newer).replace(older)

    def _append(self, data: bytes) -> None:
        size = os.fstat(self.descriptor).st_size
        if size + len(data) > self.max_size:
            raise _Full
        written = 0
        try:
            while written < len(data):
                written += os.write(self.descriptor, data[written:])
        except OSError:
            os.ftruncate(self.descriptor, size)  # a full disk may take a part of the flow
            raise
        self.status.flows += 1
        self.status.size += len(data)

    def stop(self, reason: str) -> None:
        """Stop the capture; the gateway goes on."""
        self.status.stopped = reason
        logger.warning(f"the capture has stopped: {self.path}: {reason}")
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
