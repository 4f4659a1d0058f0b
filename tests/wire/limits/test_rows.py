"""Rows as the gateway counts them, against what a real VictoriaMetrics says that it inserted."""

from __future__ import annotations

import contextlib
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from tests.support.core.bodies import CASES, ENCODINGS, Case, remote_write, snappy
from tests.support.wire.client import Client
from tests.support.wire.processes import free_port
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.waiting import eventually
from vmgw_core.errors import Refusal
from vmgw_core.http.head import RequestHead
from vmgw_core.routing.routes import match_route
from vmgw_core.rows.dispatch import row_counter

MIB = 1 << 20


class Inserts:
    """A VictoriaMetrics of its own that is asked what it inserted. Its metrics page is a second old, at most."""

    def __init__(self, server: VictoriaMetrics, opentsdb_port: int) -> None:
        self.server = server
        self.opentsdb_port = opentsdb_port
        self.is_old = 'type="datadogv2"' not in self.page()

    def page(self) -> str:
        return self.server.client.get("/metrics").text

    def inserted(self) -> Counter[str]:
        """Rows of each kind so far. Newer releases tell the versions of DataDog's protocol apart."""
        last = self.page()
        page = eventually(lambda: page if (page := self.page()) != last else "", what="a new page")
        rows = re.findall(r'(?m)^vm_rows_inserted_total\{type="(\w+)"\} (\d+)$', page)
        return Counter({kind.replace("datadogv1", "datadog"): int(number) for kind, number in rows})

    def send(self, case: Case, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a body past the gateway."""
        port = self.opentsdb_port if case.kind == "opentsdbhttp" else self.server.port
        Client(port).post(case.target, body=body, headers=headers)

    @property
    def cases(self) -> list[Case]:
        """Those of protocols that this release has."""
        return [case for case in CASES if case.old or not self.is_old]


@pytest.fixture(scope="module")
def inserts() -> Iterator[Inserts]:
    port = free_port()
    with VictoriaMetrics(f"-opentsdbHTTPListenAddr=127.0.0.1:{port}") as server:
        yield Inserts(server, port)


def headers_of(case: Case, **more: str) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in case.headers} | {
        name.replace("_", "-"): value for name, value in more.items()
    }


def counted(case: Case, body: bytes, headers: dict[str, str]) -> int:
    head = RequestHead(
        method="POST",
        target=case.target,
        headers=tuple((name.encode(), value.encode()) for name, value in headers.items()),
        client="127.0.0.1",
    )
    route = match_route(case.path, "POST", cluster=False).route
    counter = row_counter(route, head, max_decoded=64 * MIB)
    assert counter is not None
    counter.feed(body)
    counter.finish()
    return counter.rows


def test_it_inserts_as_many_rows_as_are_counted(inserts: Inserts) -> None:
    before, rows = inserts.inserted(), Counter[str]()
    for case in inserts.cases:
        headers = headers_of(case)
        assert counted(case, case.body, headers) == case.rows, case.name
        inserts.send(case, case.body, headers)
        rows[case.kind] += case.rows
    assert inserts.inserted() - before == rows


def test_encoded_bodies_hold_as_many_rows(inserts: Inserts) -> None:
    """A release that does not know an encoding takes the body as it is, and skips most of it as malformed."""
    before = inserts.inserted()
    for name, (encoding, encode) in ENCODINGS.items():
        rows, at_most = Counter[str](), Counter[str]()
        for case in inserts.cases:
            if not case.encoded:
                headers, body = headers_of(case, Content_Encoding=encoding), encode(case.body)
                inserts.send(case, body, headers)
                rows[case.kind] += case.rows
                at_most[case.kind] += counted(case, body, headers)
        after = inserts.inserted()
        inserted, before = after - before, after
        if inserts.is_old and encoding != "gzip":
            assert inserted <= at_most, name
        else:
            assert inserted == rows, name


def test_native_blocks_hold_as_many_rows(inserts: Inserts, metric: str) -> None:
    lines = "".join(f'{metric}{{n="{n % 7}"}} {n} {1_700_000_000_000 + n * 1000}\n' for n in range(20_000))
    inserts.server.import_prometheus(lines)
    arguments = {"match[]": metric, "start": "1", "end": "1800000000"}
    body = inserts.server.client.get("/api/v1/export/native", arguments).body
    case = Case(name="native", target="/api/v1/import/native", body=body, rows=20_000, kind="native")
    assert counted(case, body, {}) == case.rows
    before = inserts.inserted()
    inserts.send(case, body, {})
    assert inserts.inserted() - before == {"native": case.rows}


# What is put into the bodies of a protocol: bytes that mean something there.
ALPHABETS = {
    "text": b'm{}="\\# \t\r\n\n1,-eNaInf.',
    "influx": b'm,= "\\\\\n\n\r#1ti.',
    "JSON lines": b'{}[]",:\\\n0 ',
    "CSV": b'a,"\r\n1 ',
    "DataDog v1": b'{}[]",:0 ',
    "OpenTSDB list": b'{}[]",:0 ',
    "remote write": b"",
}
ROUNDS = int(os.environ.get("VMGW_FUZZ_ROUNDS", "6"))
"""A round takes a second."""


def broken(case: Case, choose: random.Random) -> bytes:
    """The body with some bytes replaced, left out or put in."""
    if case.encoded:
        body = bytearray(remote_write())
        body[choose.randrange(len(body))] = choose.randrange(256)
        return snappy(bytes(body))
    body = bytearray(case.body)
    for _ in range(choose.randrange(1, 5)):
        start = choose.randrange(len(body) + 1)
        stop = start + choose.choice([0, 0, 1, 1, 2, 20])
        body[start:stop] = bytes(choose.choices(ALPHABETS[case.name], k=choose.choice([0, 1, 1, 2, 5])))
    return bytes(body)


def test_nothing_is_inserted_that_is_not_counted(inserts: Inserts) -> None:
    """Bodies that are broken in every which way. What the gateway refuses never gets to a backend."""
    choose = random.Random(1)  # noqa: S311
    first = before = inserts.inserted()
    for _ in range(ROUNDS):
        sent = {}
        for case in inserts.cases:
            if case.name in ALPHABETS:
                body = broken(case, choose)
                with contextlib.suppress(Refusal):
                    sent[case.kind] = (counted(case, body, headers_of(case)), body)
                    inserts.send(case, body, headers_of(case))
        after = inserts.inserted()
        for kind, (rows, body) in sent.items():
            assert after[kind] - before[kind] <= rows, (kind, body)
        before = after
    assert len(before - first) >= len(ALPHABETS) // 2
