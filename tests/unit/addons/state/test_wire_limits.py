from __future__ import annotations

from tests.support.each import each
from vmgw_addons.state.wire_limits import WireLimits
from vmgw_core.configuration import parse

DEFAULTS = parse([], {}).settings


@each(
    ("flag", "text", "field", "value"),
    [
        ("http.maxChunkLine", "64", "chunk_line", 64),
        ("http.maxPipelined", "4KiB", "pipelined", 4096),
        ("http.headTimeout", "300ms", "head_timeout", 0.3),
        ("http.bodyTimeout", "2s", "body_timeout", 2.0),
        ("http.idleConnTimeout", "9s", "idle_timeout", 9.0),
        ("http.connTimeout", "1h", "connection_timeout", 3600.0),
        ("backend.responseTimeout", "7s", "response_timeout", 7.0),
        ("http.disableKeepAlive", "true", "keep_alive", False),
        ("http.maxConnections", "9", "connections", 9),
    ],
)
def test_each_flag_has_its_field(flag: str, text: str, field: str, value: object) -> None:
    limits = WireLimits.of(parse([f"-{flag}={text}"], {}).settings)
    assert getattr(limits, field) == value
    assert getattr(WireLimits.of(DEFAULTS), field) != value


def test_a_head_has_three_limits() -> None:
    given = ["-http.maxHeadSize=8KiB", "-http.maxRequestLine=4KiB", "-http.maxHeaders=20"]
    limits = WireLimits.of(parse(given, {}).settings)
    assert (limits.head.size, limits.head.line, limits.head.fields) == (8192, 4096, 20)
