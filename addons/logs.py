"""Log lines as VictoriaMetrics components write them: time, level, place and message, separated by tabs."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime


class LineFormatter(logging.Formatter):
    """One line a record: ``2026-01-02T03:04:05.678Z<TAB>info<TAB>key_refresh.py:42<TAB>message``."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        # What a client or a backend sent may stand in a message; a line break in it must not begin a new record.
        message = message.replace("\r", "\\r").replace("\n", "\\n")
        level = record.levelname.lower().replace("warning", "warn")
        return f"{moment}\t{level}\t{record.filename}:{record.lineno}\t{message}"


def set_up_logging() -> None:
    """Log to standard error: the gateway from info on, mitmproxy and its libraries from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("vmgw_addons").setLevel(logging.INFO)
