"""The file that captured flows are appended to. It is whole after every write, or the capture has stopped."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from typing import Final

from vmgw_addons.state import CaptureStatus

logger = logging.getLogger(__name__)

_LONGEST_PREFIX: Final = 13  # bytes: the length of a netstring and its colon


class _Full(Exception):
    """The file would become larger than it may."""


class CaptureFile:
    """Appends netstrings to a file that other processes of this gateway may append to as well.

    :meth:`write` blocks while another process holds the lock, or the disk hangs: it is for a thread.

    Nothing here raises: whatever goes wrong stops the capture, is logged once, and stands in ``status``.

    Args:
        max_size: bytes; the file never becomes larger.
    """

    def __init__(self, path: str, max_size: int, status: CaptureStatus) -> None:
        self.path = path
        self.max_size = max_size
        self.status = status
        self.descriptor = -1
        try:
            # What is captured is nobody else's business: claims, queries, answers.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
            self.descriptor = os.open(path, flags, 0o600)
            if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
                self.stop("it is no regular file")
            elif not self.is_whole():
                self.stop("it does not end behind a whole flow, so what is appended could not be read: move it away")
        except OSError as error:
            self.stop(error.strerror or "it cannot be opened")

    def is_whole(self) -> bool:
        """Whether the file is a row of netstrings. Only their lengths are read."""
        position, size = 0, os.fstat(self.descriptor).st_size
        while position < size:
            digits, colon, _ = os.pread(self.descriptor, _LONGEST_PREFIX, position).partition(b":")
            if not colon or not digits.isdigit():
                return False
            position += len(digits) + 1 + int(digits) + 1
        return position == size

    def write(self, data: bytes) -> None:
        """Append ``data``, all of it or nothing."""
        if self.status.stopped:
            return
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            try:
                self._append(data)
            finally:
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        except _Full:
            self.stop(f"it has reached -capture.maxFileSize, {self.max_size} bytes")
        except OSError as error:
            self.stop(error.strerror or "it cannot be written")

    def _append(self, data: bytes) -> None:
        size = os.fstat(self.descriptor).st_size
        if size + len(data) > self.max_size:
            raise _Full
        written = 0
        try:
            while written < len(data):
                written += os.write(self.descriptor, data[written:])
        except OSError:
            os.ftruncate(self.descriptor, size)  # a disk that is full takes the beginning of a flow
            raise
        self.status.flows += 1
        self.status.size += len(data)

    def stop(self, reason: str) -> None:
        """Capture no more. The gateway goes on."""
        self.status.stopped = reason
        logger.warning(f"the capture has stopped: {self.path}: {reason}")
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
