"""One verdict: any request gets the same answer through both lanes, and the backend the same request.

The corpus is generated: routes of the table and paths beside them, arguments, forms and headers that the policy looks
at, good and bad tokens, bodies in either framing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.wire.processes import Gateway
from tests.support.wire.raw import RawClient
from tests.support.wire.tokens import SigningKey, team, tenant
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from vmgw_core.routing.routes import ROUTES

FORM: Final = b"application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True, repr=False)
class Lanes:
    """Two gateways of one configuration before one backend."""

    fast: Gateway
    flow: Gateway
    upstream: RecordingUpstream
    tokens: dict[str, bytes]


@pytest.fixture(scope="module", params=["single", "cluster"])
def lanes(
    request: pytest.FixtureRequest, key: SigningKey, key_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lanes]:
    with ExitStack() as stack:
        upstream = stack.enter_context(RecordingUpstream(echo))
        flags = [f"-read.url={upstream.url}", f"-write.url={upstream.url}", f"-auth.publicKeyFiles={key_file}"]
        flags += ["-maxFormSize=64KiB"] + (["-clusterMode"] if request.param == "cluster" else [])
        # One of the two has a shadow of the same flags: it changes nothing, and never disagrees.
        file = tmp_path_factory.mktemp("shadow") / "same.flags"
        file.write_text(" ".join(["-enable.auth", *flags]))
        shadowed = "fast" if request.param == "single" else "flow"
        shadow = [f"-shadow.flags={file}"]
        fast, flow = (
            stack.enter_context(Gateway("-enable.auth", f"-lane={lane}", *flags, *(shadow if lane == shadowed else [])))
            for lane in ("fast", "flow")
        )
        filters = ['{env=~"a|b"}', '{env="c"}']
        tokens = {
            "full": key.mint(),
            "team": key.mint(team("dev")),
            "reader": key.mint(team("dev", mode=1)),
            "writer": key.mint(team("dev", mode=2)),
            "tenant": key.mint(tenant(1, 5)),
            "filters": key.mint(tenant(1, 5, extra_filters=filters)),
            "expired": key.mint(lifetime=-60),
            "foreign": SigningKey.generate().mint(),
            "claims": key.mint({"tenant_id": "x"}),
        }
        values = {name: b"Bearer " + token.encode() for name, token in tokens.items()}
        values |= {"none": b"", "rubbish": b"Bearer a.b.c", "basic": b"Basic YTpi", "no prefix": values["full"][7:]}
        values |= {"lower case": b"bearer" + values["full"][6:], "cut": values["full"][:-3], "empty": b"Bearer "}
        yield Lanes(fast, flow, upstream, values)
        found = (fast if shadowed == "fast" else flow).client().get("/metrics").text
        numbers = dict(re.findall(r'^vmgateway_shadow_([a-z_]+(?:{kind="[a-z_]+"})?) ([0-9.]+)$', found, re.MULTILINE))
        assert float(numbers.pop("requests_total")) > float(numbers.pop("undecided_total"))
        assert len(numbers) == 8
        assert set(numbers.values()) == {"0.0"}, numbers


def echo(request: ReceivedRequest) -> Reply:
    """Answers that say what was asked."""
    return Reply(body=f"{request.method} {request.target}".encode())


# --- the corpus ------------------------------------------------------------------------------------------------------

_ROUTE_PATHS: Final = sorted({route.path for route in ROUTES if route.single})
_OWN: Final = ["/health", "/ping", "/-/ready", "/debug/pprof/", "/", "/nowhere", "/api/v1", "/admin/tenants", "/config"]
_PATHS = st.builds(
    lambda path, name: (
        path.replace("<name>", name)
        .replace("<tag_name>", name)
        .replace("<func_name>", name)
        .replace("<asset...>", "a/b.js")
        .replace("<any...>", "a/b")
        .replace("<grouping...>", "x/instance/y")
    ),
    st.sampled_from(_ROUTE_PATHS) | st.sampled_from(_OWN),
    st.sampled_from(["job", "a%20b", "a%2Fb", "%00", "%", "%zz", "é", "..", ""]),
)
_TWISTS = st.sampled_from(
    [
        *["{}"] * 12,
        "/prometheus{}",
        "/select/0/prometheus{}",
        "/select/1:5/prometheus{}",
        "/insert/1:5/prometheus{}",
        "/select/1:5{}",
        "/insert/0{}",
        "/select/2:5/prometheus{}",
        "/insert/multitenant/prometheus{}",
        "//{}",
        "/{}",
        "{}/",
        "/.{}",
        "/x/..{}",
        "{}%2f",
        "/%70rometheus{}",
        "{}#",
        "{};a=b",
        "/{}//",
        "{}%00",
    ]
)
_ARGUMENTS = st.lists(
    st.sampled_from(
        [
            "query=up",
            "match[]=up",
            "extra_label=team%3Dother",
            "extra_label=a=b",
            "extra%5Flabel=a%3Db",
            "Extra_Label=a=b",
            "extra_filters={a='b'}",
            "extra_filters%5B%5D=%7Ba%3D%22b%22%7D",
            "extra_filters[]=%7B",
            "query=a;extra_label=x",
            "query=%",
            "query=a+b",
            "a&b",
            "=",
            "x=%E9",
            "start=1&end=2",
            "id=1",
            "+extra_label=a%3Db",
            "query=" + "a" * 300,
        ]
    ),
    max_size=3,
).map("&".join)
_HEADERS = st.lists(
    st.sampled_from(
        [
            b"Content-Type: " + FORM,
            b"Content-Type: " + FORM + b"; charset=utf-8",
            b"Content-Type: text/plain",
            b"content-type: APPLICATION/X-WWW-FORM-URLENCODED",
            b"Content-Type: multipart/form-data; boundary=b",
            b"Content-Type: multipart/form-data",
            b"Content-Encoding: gzip",
            b"Content-Encoding: identity",
            b"Connection: close",
            b"Connection: x-secret, keep-alive",
            b"X-Secret: 1",
            b"Cookie: a=b",
            b"AccountID: 7",
            b"ProjectID: 8",
            b"X-Forwarded-For: 192.0.2.1",
            b"X-Forwarded-For: a\tb ",
            b"Accept-Encoding: gzip",
            b"TE: trailers",
            b"Upgrade: h2c",
            b"Connection: upgrade",
            b"Expect: 100-continue",
            b"Host: other",
            b"X-Odd:\xe4\xff",
            b"X-Blank:  ",
            b"X-Many: a",
            b"X-Many: b",
            b"Authorization: Bearer a.b.c",
            b"A" * 300 + b": b",
            b"X-Long: " + b"x" * 70_000,
            b"Proxy-Authorization: x",
            b"Trailer: X",
            b"Accept: */*",
            b"X Y: z",
            b"Range: bytes=0-1",
        ]
    ),
    max_size=4,
)
_BODIES = st.sampled_from(
    [
        b"",
        b"m 1\n",
        b"query=up",
        b"query=up&extra_label=team%3Dother",
        b"extra_filters[]={a='b'}&query=x",
        b"query=%",
        b"a;b",
        b"\x00\xff",
        b"query=a b\xc3\xa9",
        b"x" * 70_000,
        b"query=" + b"a" * 60_000,
        b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nup\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="extra_label"\r\n\r\na=b\r\n--b--\r\n',
        b"--b\r\nbroken",
    ]
)
_METHODS = st.sampled_from(
    ["GET"] * 6
    + ["POST"] * 6
    + ["PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "FOO", "TRACE", "CONNECT", "connect", "get", "PRI"]
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes, str]:
    """A method, the bytes of a request with ``%T`` where its token goes, and the name of the token."""
    method = draw(_METHODS)
    target = draw(_TWISTS).format(draw(_PATHS))
    arguments = draw(_ARGUMENTS)
    if arguments:
        target += f"?{arguments}"
    lines = [
        f"{method} {target} HTTP/{draw(st.sampled_from(['1.1'] * 6 + ['1.0']))}".encode("latin-1"),
        b"Host: gateway",
    ]
    token = draw(
        st.sampled_from(
            [
                *["full", "team"] * 4,
                "reader",
                "writer",
                "tenant",
                "filters",
                "expired",
                "foreign",
                "claims",
                "none",
                "rubbish",
                "basic",
                "no prefix",
                "lower case",
                "cut",
                "empty",
            ]
        )
    )
    if token != "none":  # noqa: S105
        lines.append(b"Authorization: %T")
    lines += draw(_HEADERS)
    body = draw(st.just(b"") | _BODIES) if method != "GET" or draw(st.integers(0, 4)) == 0 else b""
    if body and draw(st.booleans()):
        lines.append(b"Transfer-Encoding: chunked")
        cut = draw(st.integers(0, len(body)))
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:cut], body[cut:]) if part) + b"0\r\n\r\n"
    elif body or draw(st.integers(0, 3)) == 0:
        lines.append(b"Content-Length: %d" % len(body))
    return method, b"\r\n".join([*lines, b"", body]), token


# --- what is compared ------------------------------------------------------------------------------------------------

_TOLD: Final = (b"content-type", b"allow", b"www-authenticate", b"retry-after")


def exchange(gateway: Gateway, method: str, data: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status, the headers that matter, and the body of the answer."""
    with RawClient(gateway.port) as client:
        client.send_until_refused(data, len(data))
        head = client.receive_head()
        while head[9:12] == b"100":
            head = client.receive_head()
        fields = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
        headers = {name.lower(): value for name, _, value in fields}
        length = 0 if method == "HEAD" else int(headers.get(b"content-length", b"0"))
        while len(client.buffer) < length:
            client.receive_more()
        return head[9:12], {name: headers[name] for name in _TOLD if name in headers}, client.buffer[:length]


def received(upstream: RecordingUpstream) -> list[tuple[object, ...]]:
    """What the backend got, and that it was complete."""
    return [
        (request.method, request.target, sorted((name.lower(), value) for name, value in request.headers), request.body)
        for request in upstream.requests
    ]


@pytest.mark.smoke
@given(request_=requests())
@settings(
    derandomize=True,
    max_examples=1000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_both_lanes_give_one_verdict(lanes: Lanes, request_: tuple[str, bytes, str]) -> None:
    method, data, token = request_
    data = data.replace(b"%T", lanes.tokens[token])
    outcomes = []
    for gateway in (lanes.fast, lanes.flow):
        lanes.upstream.requests.clear()
        outcomes.append((exchange(gateway, method, data), received(lanes.upstream)))
    assert outcomes[0] == outcomes[1]
