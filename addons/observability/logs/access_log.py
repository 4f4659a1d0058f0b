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
from vmgw_core.enforcement import Cycle, Grant, Policy, TracedCycle, identify, route_of
from vmgw_core.errors import KeysUnavailable, TokenRefused
from vmgw_core.http import RequestHead
from vmgw_core.routing import Route
from vmgw_core.tokens import Token, without_api_keys

LONGEST: Final = 200
"""Characters of a value that a client or a token chose."""
# Hide a token that a client has put into the path by mistake. Each character is read once, however long the path is.
_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9_=+-])[A-Za-z0-9_=+-]{8,}+\.[A-Za-z0-9_=+-]{8,}+\.[A-Za-z0-9_=+-]*+")


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
        route, token = parties(self.in_force.configured.policy, cycle)
        fields: dict[str, object] = {
            "client": head.client,
            "tenant": tenant_of(grant, token),
            "subject": None if token is None or token.subject is None else shortened(token.subject, LONGEST),
            **({} if token is None or token.credential is None else {"credential": token.credential}),
            "access": "page" if cycle.own_page else None if route is None else route.access.value,
            "method": shortened(head.method, 20),
            "route": None if route is None else route.path,
        }
        if token is not None and token.grants.sources:
            fields["entries"] = ",".join(token.grants.sources)
        if route is None:
            fields["path"] = shown_path(head)
        fields |= {
            "verdict": "refused" if cycle.own_page and status == 401 else cycle.verdict(status),
            "reason": None if refusal is None else refusal.code,
            "status": status,
            "bytes": sent,
            "duration": round(time.perf_counter() - cycle.started, 6),
        }
        if cycle.answer_note:
            fields["answer"] = cycle.answer_note
        fields |= trace_of(cycle)
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
    """Logs each request of the flow lane (-accessLog, -queryLog)."""

    def __init__(self, in_force: InForce, cycles: Cycles) -> None:
        self.in_force = in_force
        self.cycles = cycles

    def response(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if cycle is not None and flow.response is not None:
            self.finished(cycle, flow.response.status_code)

    def error(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if cycle is not None:
            self.finished(cycle, flow.response.status_code if flow.response is not None else None)

    def finished(self, cycle: Cycle, status: int | None) -> None:
        """Write to all logs."""
        for log in self.in_force.configured.request_logs:
            log.finished(cycle, status, cycle.sent)


def shown_path(head: RequestHead) -> str:
    """Return the path of a request, shortened, without arguments and without a token."""
    path = _TOKEN.sub("<token>", head.target.partition("?")[0])
    return shortened(without_api_keys(path, "<token>"), LONGEST)


def parties(policy: Policy | None, cycle: Cycle) -> tuple[Route | None, Token | None]:
    """Return the route and the token of a request that has ended, also of one that was refused; for reports."""
    grant = cycle.grant
    if grant is not None:
        return grant.route, grant.token
    if cycle.own_page or policy is None:
        return None, None
    known = not isinstance(cycle.refusal, TokenRefused | KeysUnavailable)
    return route_of(policy, cycle.head), identify(policy, cycle.head, time.time()) if known else None


def trace_of(cycle: Cycle) -> dict[str, str]:
    """Return the field with the ID of the trace that has a span of this request, if there is one."""
    if not isinstance(cycle, TracedCycle) or cycle.sampled is None:
        return {}
    return {"trace": f"{cycle.sampled.context.trace_id:032x}"}


def tenant_of(grant: Grant | None, token: Token | None) -> str | None:
    """Return the tenant of an admitted request, or all tenants of the token."""
    if token is None:
        return None
    return ",".join(map(str, token.grants.tenants)) if grant is None else str(grant.claim.tenant)
