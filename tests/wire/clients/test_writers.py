"""What real clients write arrives whole with the gateway's default flags: valid bodies are never refused.

Each body goes to one VictoriaMetrics past the gateway, and to another through it: statuses and samples are the same.
vmagent, vmalert, Prometheus and Telegraf have tests of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry, Gauge, delete_from_gateway, push_to_gateway, pushadd_to_gateway
from prometheus_client.exposition import default_handler

from tests.support.core.bodies import CASES, ENCODINGS, Case
from tests.support.wire.client import Client
from tests.support.wire.processes import Gateway, free_port
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.wire.conftest import StartGateway

ALL = '{__name__!=""}'
LANES = ("fast", "flow")


class Pair(NamedTuple):
    """Two databases, and a gateway in front of the second. ``opentsdb`` are the ports that serve ``/api/put``."""

    direct: VictoriaMetrics
    written: VictoriaMetrics
    gateway: Gateway
    opentsdb: tuple[int, Gateway]

    def clients(self, case: Case, token: str) -> tuple[Client, Client]:
        """The client past the gateway, and the one through it."""
        if case.kind == "opentsdbhttp":
            port, gateway = self.opentsdb
            return Client(port), gateway.client(token)
        return self.direct.client, self.gateway.client(token)


@pytest.fixture(scope="module", params=LANES)
def pair(request: pytest.FixtureRequest, key_file: Path) -> Iterator[Pair]:
    ports = [free_port() for _ in range(2)]
    direct, written = (VictoriaMetrics(f"-opentsdbHTTPListenAddr=127.0.0.1:{port}") for port in ports)
    flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-lane={request.param}")
    with (
        direct,
        written,
        Gateway(*flags, f"-write.url={written.url}") as gateway,
        Gateway(*flags, f"-write.url=http://127.0.0.1:{ports[1]}") as opentsdb,
    ):
        yield Pair(direct, written, gateway, (ports[0], opentsdb))


def samples(server: VictoriaMetrics, selector: str = ALL) -> dict[frozenset[tuple[str, str]], list[str]]:
    """The values of each series, whatever their time."""
    return {
        frozenset(item["metric"].items()): sorted(str(value) for value in item["values"])
        for item in server.export(selector)
    }


def both(pair: Pair, case: Case, body: bytes, token: str, **more: str) -> list[int]:
    """Send a body past the gateway and through it; the two statuses."""
    headers = {name.decode(): value.decode() for name, value in case.headers} | {
        name.replace("_", "-"): value for name, value in more.items()
    }
    return [client.post(case.target, body=body, headers=headers).status for client in pair.clients(case, token)]


def test_every_protocol_is_written_as_without_the_gateway(pair: Pair, key: SigningKey) -> None:
    token = key.mint()
    for case in CASES:
        past, through = both(pair, case, case.body, token)
        assert through == past, case.name
        assert past in (200, 202, 204) or not case.old, case.name
    assert samples(pair.written) == samples(pair.direct)
    assert len(samples(pair.written)) > 20


DOCUMENTS = ("datadog", "datadogv2", "opentelemetry")
"""What is sent as one document may have any encoding; line protocols have gzip or none."""


def test_encoded_bodies_are_written_as_without_the_gateway(pair: Pair, key: SigningKey) -> None:
    token = key.mint()
    for name, (encoding, encode) in ENCODINGS.items():
        for case in CASES:
            if not case.encoded and (encoding == "gzip" or case.kind in DOCUMENTS):
                past, through = both(pair, case, encode(case.body), token, Content_Encoding=encoding)
                assert through == past, (name, case.name)
    assert samples(pair.written) == samples(pair.direct)


ODD = r"""
{"metric":{"__name__":"odd","a":"tab\tnewline\nquote\"backslash\\"},"values":[1,2],"timestamps":[1700000000000,1700000001000]}
{"metric":{"__name__":"odd","a":"control\u0001 and \u007f"},"values":[3],"timestamps":[1700000000000]}
{"metric":{"__name__":"odd.é/€ 🙂","ключ.b/c":"значение","a b":"{}=,"},"values":[4],"timestamps":[1700000000000]}
{"metric":{"__name__":"odd:rule","label":""},"values":[5.5,-1e-9],"timestamps":[1700000000000,1700000001000]}
""".encode()
"""Names in UTF-8, and values with what no name may have."""
ODD_SELECTOR = '{__name__=~"odd.*"}'


@pytest.mark.parametrize(("source", "target"), [("export", "import"), ("export/native", "import/native")])
def test_what_one_database_exports_is_imported_through_the_gateway(
    pair: Pair, key: SigningKey, source: str, target: str
) -> None:
    assert pair.direct.client.post("/api/v1/import", body=ODD).status == 204
    pair.direct.force_flush()
    arguments = {"match[]": ODD_SELECTOR, "start": "1"}
    body = pair.direct.client.get(f"/api/v1/{source}", arguments).body
    answer = pair.gateway.client(key.mint(team(target))).post(f"/api/v1/{target}", body=body)
    assert answer.status == 204, answer
    expected = {labels | {("team", target)}: values for labels, values in samples(pair.direct, ODD_SELECTOR).items()}
    assert samples(pair.written, f'{{__name__=~"odd.*",team="{target}"}}') == expected
    assert len(expected) == 4


# --- the Pushgateway client of prometheus_client --------------------------------------------------------------------


@pytest.mark.parametrize("lane", LANES)
def test_the_pushgateway_client_pushes_and_deletes(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, metric: str, lane: str
) -> None:
    upstream.responder = lambda request: Reply(status=204, body=b"")
    flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-lane={lane}")
    gateway = start_gateway(*flags, f"-write.url={upstream.url}")
    token = key.mint(team("dev"))

    def handler(
        url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        return default_handler(url, method, timeout, [*headers, ("Authorization", f"Bearer {token}")], data)

    registry = CollectorRegistry()
    Gauge(metric, "Of the é.", ["kind"], registry=registry).labels("a").set(7)
    base, grouping = f"{gateway.url}/api/v1/import/prometheus", {"instance": "a/b"}
    push_to_gateway(base, job="batch", registry=registry, grouping_key=grouping, handler=handler)
    pushadd_to_gateway(base, job="batch", registry=registry, handler=handler)
    delete_from_gateway(base, job="batch", handler=handler)
    push_to_gateway(base, job="a/b", registry=registry, handler=handler)
    delete_from_gateway(base, job="a/b", handler=handler)
    path = "/api/v1/import/prometheus/metrics/job/batch"
    received = [(request.method, request.target.partition("?")[0]) for request in upstream.requests]
    encoded = "/api/v1/import/prometheus/metrics/job@base64/YS9i"
    assert received == [
        ("PUT", f"{path}/instance@base64/YS9i"),
        ("POST", path),
        ("DELETE", path),
        ("PUT", encoded),
        ("DELETE", encoded),
    ]
    assert all(b'{kind="a"} 7.0' in request.body for request in upstream.requests[:2])
    assert all("extra_label=team%3Ddev" in request.target for request in upstream.requests[:2])
