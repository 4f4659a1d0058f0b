"""The access log: one line for each finished request, from both lanes (``-accessLog``).

A line has the client, the request, the decision with its reason, and the response. It has no arguments and headers, so
no token or password, and quotes what the client chose, so that nothing looks like another field or line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from mitmproxy.http import HTTPFlow

from vmgw_addons.state import Cycles, InForce
from vmgw_addons.support import LogStyle, ThreadWriter, shortened
from vmgw_core.enforcement import Cycle, Grant, identify, route_of
from vmgw_core.errors import KeysUnavailable, TokenRefused
from vmgw_core.tokens import Token

_LONGEST: Final = 200  # characters of a value that a client or a token chose
# Hide a token that a client has put into the path by mistake.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_=+-]{8,}\.[A-Za-z0-9_=+-]{8,}\.[A-Za-z0-9_=+-]*")


class AccessLog:
    """Writes a line for each request.

    Args:
        log: writes lines in a thread; without it, they are written at once to the stream of ``style``.
        write: replaces both; gets a line without its newline.
    """

    def __init__(
        self,
        in_force: InForce,
        style: LogStyle,
        log: ThreadWriter[str] | None = None,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self.in_force = in_force
        self.log = log
        self.style = style
        self.write = write or self.print
        self.lost = 0
        """Lines that could not be written."""

    def finished(self, cycle: Cycle, status: int | None, sent: int) -> None:
        """Log a request that has ended; see ``RequestLog``."""
        head, grant, refusal = cycle.head, cycle.grant, cycle.refusal
        policy = self.in_force.configured.policy
        route = grant.route if grant is not None else None
        token = grant.token if grant is not None else None
        if grant is None and not cycle.own_page and policy is not None:
            route = route_of(policy, head)
            if not isinstance(refusal, TokenRefused | KeysUnavailable):
                token = identify(policy, head, time.time())
        fields: dict[str, object] = {
            "client": head.client,
            "tenant": _tenant(grant, token),
            "subject": None if token is None or token.subject is None else shortened(token.subject, _LONGEST),
            **({} if token is None or token.credential is None else {"credential": token.credential}),
            "access": "page" if cycle.own_page else None if route is None else route.access.value,
            "method": shortened(head.method, 20),
            "route": None if route is None else route.path,
        }
        if token is not None and token.grants.sources:
            fields["entries"] = ",".join(token.grants.sources)
        if route is None:
            path = head.target.partition("?")[0]
            fields["path"] = shortened(_TOKEN.sub("<token>", path), _LONGEST)
        fields |= {
            "verdict": "refused" if cycle.own_page and status == 401 else cycle.verdict(status),
            "reason": None if refusal is None else refusal.code,
            "status": status,
            "bytes": sent,
            "duration": round(time.perf_counter() - cycle.started, 6),
        }
        if cycle.answer_note:
            fields["answer"] = cycle.answer_note
        self.write(self.style.line(time.time(), "info", "access", "request", fields))

    def print(self, line: str) -> None:
        """Write one line. If that fails (a full disk), only the line is lost."""
        if self.log is not None:
            self.log.put(line + "\n", len(line) + 1, self.lose)
            return
        stream = self.style.stream
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            self.lose()

    def lose(self) -> None:
        """Count a line that was not written."""
        self.lost += 1


class AccessLogging:
    """Logs each request of the flow lane in one line (-accessLog)."""

    def __init__(self, in_force: InForce, cycles: Cycles) -> None:
        self.in_force = in_force
        self.cycles = cycles

    def response(self, flow: HTTPFlow) -> None:
        log, cycle = self.in_force.configured.access_log, self.cycles.get(flow)
        if log is not None and cycle is not None and flow.response is not None:
            log.finished(cycle, flow.response.status_code, cycle.sent or len(flow.response.raw_content or b""))

    def error(self, flow: HTTPFlow) -> None:
        log, cycle = self.in_force.configured.access_log, self.cycles.get(flow)
        if log is not None and cycle is not None:
            log.finished(cycle, flow.response.status_code if flow.response is not None else None, cycle.sent)


def _tenant(grant: Grant | None, token: Token | None) -> str | None:
    """Return the tenant of an admitted request, or all tenants of the token."""
    if token is None:
        return None
    return ",".join(map(str, token.grants.tenants)) if grant is None else str(grant.claim.tenant)
