"""The query log: one JSON object for each finished read of data, from both lanes (``-queryLog``).

A line has who asked, what for, and what it cost. It has no headers, no other arguments, and no token: one that a client
put into a query by mistake is left out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

from vmgw_addons.state import InForce
from vmgw_addons.support import LineFile, LogStyle, ThreadWriter, shortened
from vmgw_core.base import tenant_name
from vmgw_core.configuration import Settings
from vmgw_core.enforcement import Cycle, Query, reads_data
from vmgw_core.errors import ConfigurationError
from vmgw_core.http import Headers
from vmgw_core.tokens import Token

from .access_log import LONGEST, parties, tenant_of, trace_of

_STREAMS: Final = ("stdout", "stderr")
_MAX_WAITING: Final = 8 << 20  # characters of queued lines
_json_of: Final = json.JSONEncoder(separators=(",", ":")).encode  # ASCII: no character in it ends a line


class QueryLog:
    """Writes a line for each read of data that took at least ``-queryLog.minDuration``.

    Args:
        log: the thread of the log; it writes the lines if they go to the same stream.
        write: replaces all that; gets a line without its newline.
    """

    def __init__(
        self,
        in_force: InForce,
        target: str,
        style: LogStyle,
        log: ThreadWriter[str] | None = None,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self.in_force = in_force
        self.style = style
        self.write = write or self.put
        self.log = log if target == style.output else None
        self.own: ThreadWriter[str] | None = None
        """The thread that writes to a file or another stream; begun with the first line, so after any fork."""
        self.file = None if target in _STREAMS else LineFile(target)
        self.stream_style = LogStyle(output=target)
        self.lost = 0
        """Lines that could not be written."""

    def watch(self, cycle: Cycle, status: int, headers: Headers) -> None:
        """Let the cycle read the number of series from the response that begins with this head."""
        cycle.watch(status, headers)

    def finished(self, cycle: Cycle, status: int | None, sent: int) -> None:
        """Log a request that has ended; see ``RequestLog``."""
        duration = time.perf_counter() - cycle.started
        if cycle.own_page or duration < self.in_force.configured.settings.query_log_min_duration:
            return
        route, token = parties(self.in_force.configured.policy, cycle)
        if route is None or not reads_data(route):
            return
        asked, refusal = Query.of(cycle), cycle.refusal
        fields: dict[str, object] = {
            "ts": self.style.moment(time.time()),
            "client": cycle.head.client,
            "tenant": _tenant(cycle, token),
            "subject": None if token is None or token.subject is None else shortened(token.subject, LONGEST),
            "route": route.path,
            "query": asked.query,
            "match": asked.match,
            "time": asked.time,
            "start": asked.start,
            "end": asked.end,
            "step": asked.step,
            "duration": round(duration, 6),
            "bytes": sent,
            "seriesFetched": None if cycle.series is None else cycle.series.number,
            "verdict": cycle.verdict(status),
            "reason": None if refusal is None else refusal.code,
            "status": status,
            **trace_of(cycle),
        }
        self.write(_json_of(fields))

    def put(self, line: str) -> None:
        """Queue one line for the thread that writes it."""
        writer = self.log
        if writer is None:
            if self.own is None:
                self.own = ThreadWriter(self.print, "query log", _MAX_WAITING)
            writer = self.own
        writer.put(line + "\n", len(line) + 1, self.lose)

    def print(self, line: str) -> None:
        """Write one line. Blocks; raises ``OSError``."""
        if self.file is not None:
            self.file.write(line)
            return
        stream = self.stream_style.stream
        stream.write(line)
        stream.flush()

    def lose(self) -> None:
        """Count a line that was not written."""
        self.lost += 1

    def close(self) -> None:
        """Write what is queued, and close the file."""
        written = self.own is None or self.own.close()
        if written and self.file is not None:
            self.file.close()


def _tenant(cycle: Cycle, token: Token | None) -> str | None:
    """Return the tenant; without -enable.auth it is that of the path."""
    grant = cycle.grant
    return tenant_of(grant, token) if grant is None or token is not None else tenant_name(grant.subject.tenant)


def check_query_log(settings: Settings) -> None:
    """Check ``-queryLog``. Raises ``ConfigurationError``."""
    target = settings.query_log
    if not target or target in _STREAMS:
        return
    try:
        LineFile(target).check()
    except OSError as error:
        raise ConfigurationError(f"-queryLog: cannot write {target}: {error.strerror}") from None


class QueryLogging:
    """Closes the query log at the end of the process."""

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force

    def done(self) -> None:
        log = self.in_force.configured.query_log
        if log is not None:
            log.close()
