"""Pages that the gateway shows of itself: its status, and what a token grants. Everything in them is escaped."""

from .decisions import Decision, Decisions, holder, merged, written
from .html import HEADERS, Html, document
from .own_access import OwnAccess
from .status import BackendState, KeyState, SourceState, Status, TaskState
from .usage import usage_page

__all__ = [
    "HEADERS", "BackendState", "Decision", "Decisions", "Html", "KeyState", "OwnAccess", "SourceState", "Status",
    "TaskState", "document", "holder", "merged", "usage_page", "written",
]  # fmt: skip
