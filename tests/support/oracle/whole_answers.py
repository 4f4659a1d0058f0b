"""Whole answers, compared: status, headers and body, of a backend with others and one on which they never existed.

``OF_ITS_OWN`` lists all that two answers to one request may differ in, and why it tells nothing of others. Whatever
stands there must still be of its kind: only that text is replaced by the name of the kind.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tests.support.oracle.requests import MARK, NUMBER


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, its content no longer compressed. Status 0: the connection was closed without one."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes

    @property
    def shows(self) -> bool:
        """Whether it holds a mark of the other team's."""
        whole = b"\n".join([*(f"{name}: {value}".encode() for name, value in self.headers), self.body])
        return MARK.encode() in whole or NUMBER.encode() in whole


class Kind(NamedTuple):
    """A text of an answer that no two answers have in common. ``pattern`` is of the whole text."""

    name: bytes
    pattern: re.Pattern[bytes]
    reason: str


OF_ITS_OWN: Final = (
    Kind(
        b'"executionTimeMsec":0',
        re.compile(rb'"executionTimeMsec": ?\d+'),
        "How long the answer took. docs/security.md, Risks outside scope: response times.",
    ),
    Kind(
        b"0",
        re.compile(rb'(?<!\d)"?1[7-9]\d{8}(?:\.?\d{1,3})?"?(?!\d)'),
        "A time of today, in seconds or milliseconds: the clock's. All data is of 2020.",
    ),
    Kind(
        b"TODAY",
        re.compile(rb"20[2-9][4-9]-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d(?:\.\d+)?Z"),
        "The same, as a date. All data is of 2020.",
    ),
    Kind(
        b'"source":"LINK"',
        re.compile(rb'"source":"http://[\w.-]+:\d+/vmalert/(?:api/v1/)?alert\?group_id=\d+(?:\\u0026|&)alert_id=\d+"'),
        "The link to an alert that is the token's own: the host and port of the vmalert of each test.",
    ),
    Kind(
        b'"id":"HASH"',
        re.compile(rb'"(?:id|group_id|rule_id)":"\d{10,20}"'),
        "The number of a group, rule or alert: a hash of its file too, and each vmalert has a file of its own.",
    ),
    Kind(
        b'"file":"FILE"',
        re.compile(rb'"file":"/[\w/.-]+/rules\.yaml"'),
        "The file of the token's own rules: each vmalert has one of its own.",
    ),
    Kind(
        b'"evaluationTime":0',
        re.compile(rb'"evaluationTime":\d+(?:\.\d+)?(?:e-\d+)?'),
        "How long a rule that is the token's own took.",
    ),
    Kind(
        b'"requestsCount":0',
        re.compile(rb'"(?:requests|queryRequests)Count":\d+'),
        "How often a metric name of the own tenant was asked for. The oracle itself asks one backend more often.",
    ),
    Kind(
        b"127.0.0.1:PORT",
        re.compile(rb"127\.0\.0\.1:\d{4,5}"),
        "Ports of the gateway's connection and of the backend in errors: each test server has its own.",
    ),
    Kind(
        b"duplicate time series",
        re.compile(rb"duplicate time series on the \w+ side of .*? and \{.*\}"),
        "Which two of several duplicates an error names is luck. That they are the client's own is judged before this.",
    ),
)

_CLOCK: Final = re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")

HEADERS: Final = frozenset((
    "access-control-allow-headers", "access-control-allow-methods", "access-control-allow-origin",
    "access-control-allow-credentials", "access-control-expose-headers", "access-control-max-age", "allow",
    "cache-control", "connection", "content-disposition", "content-encoding", "content-length", "content-type", "date",
    "keep-alive", "last-modified", "location", "retry-after", "transfer-encoding", "vary", "www-authenticate",
    "x-content-type-options", "accept-ranges", "content-range", "trailer", "etag", "proxy-authenticate", "server",
    "x-vmgateway-answer",
))  # fmt: skip
"""What an answer may have; another one is a finding. X-Server-Hostname is not here: it names the backend's machine.

VictoriaMetrics sends no Server; nginx does, which stands in for a cluster where there is none."""


def unknown_headers(reply: Reply) -> list[str]:
    """The headers that no answer should have."""
    return [name for name, _ in reply.headers if name.lower() not in HEADERS]


def compared(reply: Reply) -> object:
    """All of an answer that must be the same, as a value to compare: the data in whatever order it came."""
    return reply.status, sorted(_headers(reply)), _data(reply.body)


def _headers(reply: Reply) -> list[tuple[str, str]]:
    headers = []
    for name, value in reply.headers:
        lower = name.lower()
        if lower == "content-length":
            continue  # it follows from the body, which is compared; a wrong one would have been an error to read
        headers.append((lower, "CLOCK" if lower == "date" and _CLOCK.fullmatch(value) else value))
    return headers


def _data(body: bytes) -> object:
    for kind in OF_ITS_OWN:
        body = kind.pattern.sub(kind.name, body)
    try:
        return _sorted(json.loads(body))
    except ValueError:
        return sorted(body.splitlines())


def _sorted(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _sorted(member) for key, member in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(item) for item in value), key=repr)
    return value
