"""A file that lines are appended to, and that may be renamed or removed meanwhile (logrotate)."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class LineFile:
    """Appends lines. Call it in a thread: a disk may hang. Each line is one write, so processes may share the file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = -1
        self.cut_off = False
        """Whether the last line lacks its end."""

    def check(self) -> None:
        """Raise ``OSError`` if no line can be appended. Makes no file."""
        path = Path(self.path)
        if not path.exists():
            path = path.parent
            if not path.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        elif path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def write(self, line: str) -> None:
        """Append ``line``, to a new file if the present one was renamed or removed. Raises ``OSError``."""
        if not self._is_current():
            self.close()
            # 0600: lines may name clients and what they ask for. Not blocking: a pipe may have no reader.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
            self.descriptor = os.open(self.path, flags, 0o600)
        data = (b"\n" if self.cut_off else b"") + line.encode()
        written = os.write(self.descriptor, data)
        self.cut_off = 0 < written < len(data)  # a full disk may take a part
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _is_current(self) -> bool:
        if self.descriptor < 0:
            return False
        try:
            return os.path.samestat(Path(self.path).stat(), os.fstat(self.descriptor))
        except OSError:
            return False
