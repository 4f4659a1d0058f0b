"""Files that are read again when they change."""

from __future__ import annotations

from pathlib import Path


def file_version(path: str | Path) -> tuple[int, int, int] | None:
    """Return a value that changes when the file does; None if there is no such file."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
