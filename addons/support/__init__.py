"""Plumbing that knows nothing of requests: threads, secrets from files, log lines and protobuf."""

from __future__ import annotations

from .descriptors import raise_limit
from .log_format import LogStyle, logging_in_thread, set_up_logging, set_up_logging_beside, shortened
from .protobuf import FIXED64, VARINT, children, double, fields, fixed, signed, text
from .secrets import Secret
from .tasks import Background, OneThread, Outage, in_thread
from .thread_writer import ThreadWriter

__all__ = [
    "FIXED64",
    "VARINT",
    "Background",
    "LogStyle",
    "OneThread",
    "Outage",
    "Secret",
    "ThreadWriter",
    "children",
    "double",
    "fields",
    "fixed",
    "in_thread",
    "logging_in_thread",
    "raise_limit",
    "set_up_logging",
    "set_up_logging_beside",
    "shortened",
    "signed",
    "text",
]
