"""Plumbing that knows nothing of requests: background tasks, threads, secrets and log lines."""

from __future__ import annotations

from .certificates import certificate_end
from .descriptors import raise_limit
from .files import file_version
from .line_file import LineFile
from .log_format import LogStyle, logging_in_thread, set_up_logging, set_up_logging_beside, shortened
from .outages import Outage, Outages
from .peer import certificate_of
from .secrets import Secret
from .state_file import StateError, StateFile
from .tasks import Background, OneThread, in_thread
from .thread_writer import ThreadWriter
from .turns import Turns

__all__ = [
    "Background",
    "LineFile",
    "LogStyle",
    "OneThread",
    "Outage",
    "Outages",
    "Secret",
    "StateError",
    "StateFile",
    "ThreadWriter",
    "Turns",
    "certificate_end",
    "certificate_of",
    "file_version",
    "in_thread",
    "logging_in_thread",
    "raise_limit",
    "set_up_logging",
    "set_up_logging_beside",
    "shortened",
]
