"""Captured requests: recorded without secrets, read from files, decided again and compared.

A record keeps the result of the signature check, since the signature itself is not kept.
"""

from .expectations import Expectation, read_expectations
from .flow_file import NetstringError, frame, spans, value
from .judge import Difference, Judge
from .record import METADATA_KEY, OWN_PAGE, Captured, from_metadata, to_metadata
from .redaction import MAX_BODY, redact_body, redact_headers, redact_target
from .report import report_json, report_junit, report_markdown, report_text
from .shadow import Shadow, ShadowCounts, ShadowTokens
from .tally import Tally

__all__ = [
    "MAX_BODY", "METADATA_KEY", "OWN_PAGE", "Captured", "Difference", "Expectation", "Judge", "NetstringError",
    "Shadow", "ShadowCounts", "ShadowTokens", "Tally", "frame", "from_metadata", "read_expectations", "redact_body",
    "redact_headers", "redact_target", "report_json", "report_junit", "report_markdown", "report_text", "spans",
    "to_metadata", "value",
]  # fmt: skip
