"""The oracle: two teams' data in real backends, a token for one, and a judge of what hostile requests bring about.

Two laws of reading, per lane. No answer holds a mark of the other team's data. And no answer depends on it: asked of a
backend on which the other team never existed, the same request gets the same answer. The whole answer is compared:
status, headers and body (see ``tests/support/oracle/whole_answers.py``). The other team also asks, writes,
deletes and has alerts.

    python -m tests.support.oracle.single_node SECONDS [SEED]        scripts/oracle
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from tests.support.oracle.requests import MARK, NUMBER, SAMPLES, START, Request, read_request
from tests.support.oracle.whole_answers import Reply, compared, unknown_headers
from tests.support.oracle.writes import delete_request, write_request
from tests.support.wire.client import Client
from tests.support.wire.processes import Gateway
from tests.support.wire.servers import Alerting, Server, VictoriaMetrics
from tests.support.wire.tokens import SigningKey
from tests.support.wire.waiting import HANGS

TOKENS: Final[dict[str, dict[str, Any]]] = {
    "labels": {"extra_labels": {"team": "dev"}},
    "filters": {"extra_filters": ['{team="dev"}']},
    "both": {"extra_labels": {"team": "dev"}, "extra_filters": ['{team=~"dev|other"}']},
}
WRITERS: Final = ("labels", "both")
"""A token without labels writes what it likes: filters are for what is read."""

LIFETIME: Final = 7 * 24 * 3600

DEV_DATA: Final = ('dev_metric{team="dev",host="a",owner="d"}', 'shared_metric{team="dev",host="b"}')
OPS_DATA: Final = (
    f'ops_metric{{team="ops",owner="{MARK}owner",host="{MARK}host",{MARK}label="x"}}',
    f'{MARK}_metric{{team="ops",host="a"}}',
    f'shared_metric{{team="ops",host="b",owner="{MARK}"}}',
    f'ops_bare{{owner="{MARK}nobody"}}',
)

GONE_DATA: Final = (f'{MARK}_gone{{team="ops",gone="1"}}', 'shared_metric{team="ops",gone="1"}')
"""What the other team has deleted again."""


def seeded(seed: int, number: int = 0) -> random.Random:
    """The same choices for the same seed."""
    return random.Random(f"{seed} {number}")  # noqa: S311


class Asker:
    """Sends requests as they are written, over one connection while that lasts."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket: socket.socket | None = None

    def ask(self, request: Request, token: str | None) -> Reply:
        """The answer. A connection that was closed since the last one is not held against the peer."""
        data = request.wire(token)
        fresh = self._socket is None
        reply = self._try(data, request.method)
        if reply.status == 0 and not fresh:
            reply = self._try(data, request.method)
        return reply

    def _try(self, data: bytes, method: str) -> Reply:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=HANGS)
        try:
            self._socket.sendall(data)
            response = http.client.HTTPResponse(self._socket, method=method)
            response.begin()
            body = response.read()
            if response.will_close:
                self.close()
            if response.getheader("Content-Encoding") == "gzip":
                body = gzip.decompress(body) if body else body
            return Reply(status=response.status, headers=tuple(response.getheaders()), body=body)
        except (http.client.HTTPException, ConnectionError):
            self.close()
            return Reply(status=0, headers=(), body=b"")

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Data(Protocol):
    """What holds rows: a single node, or a tenant of a cluster."""

    @property
    def client(self) -> Client: ...

    def import_prometheus(self, text: str) -> None: ...

    def series(self, selector: str) -> list[dict[str, str]]: ...

    def export(self, selector: str) -> list[dict[str, Any]]: ...


def fill(server: Data, rows: tuple[str, ...], value: str) -> None:
    """Give each of the series its samples."""
    times = [(START + 60 * number) * 1000 for number in range(SAMPLES)]
    server.import_prometheus("".join(f"{row} {value} {moment}\n" for row in rows for moment in times))


@dataclass(slots=True, kw_only=True)
class Verdicts:
    """What a run saw."""

    asked: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    shown_directly: int = 0
    routes_shown_directly: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Oracle:
    """Both lanes in front of a backend with everybody's data, and both in front of one with one team's.

    Writes and deletes have a backend of their own, so that they change nothing about what is read.
    """

    both: Server
    written: Server
    lanes: dict[str, Gateway]
    alone: dict[str, Gateway]
    writing: dict[str, Gateway]
    key: SigningKey
    tokens: dict[str, str]

    def mint(self, vm_access: dict[str, Any]) -> str:
        """A token that lives as long as any run."""
        return self.key.mint(vm_access, lifetime=LIFETIME)

    @property
    def node(self) -> Data:
        """Where rows of the token are written to."""
        assert isinstance(self.written, VictoriaMetrics)
        return self.written

    @property
    def past_the_gateway(self) -> int:
        """Where hostile reads show what they are after."""
        return self.both.port

    def writers(self) -> tuple[str, ...]:
        """The tokens to write with."""
        return WRITERS

    def read_request(self, rng: random.Random) -> Request:
        return read_request(rng)

    def for_token(self, name: str, request: Request) -> Request:
        """The request as somebody with that token would send it."""
        return request

    def write_request(self, rng: random.Random, metric: str) -> Request:
        return write_request(rng, metric)

    def delete_request(self, rng: random.Random) -> Request:
        return delete_request(rng)

    def strays(self, metric: str) -> list[str]:
        """The rows of such writes that are not the token's."""
        return [f"a row that is not the token's: {row}" for row in self.rows(metric) if row.get("team") != "dev"]

    def misdirected(self) -> list[str]:
        """What the backends were asked that no token of this gateway may ask."""
        return []

    def read(self, rng: random.Random, count: int, *, seconds: float = float("inf")) -> Verdicts:
        """Send ``count`` hostile reads, or as many as ``seconds`` have room for."""
        verdicts = Verdicts()
        askers = {name: Asker(gateway.port) for name, gateway in self.lanes.items()}
        alone = {name: Asker(gateway.port) for name, gateway in self.alone.items()}
        direct = Asker(self.past_the_gateway)
        end = time.monotonic() + seconds
        while verdicts.asked < count and time.monotonic() < end:
            name = rng.choice(tuple(self.tokens))
            request = self.for_token(name, self.read_request(rng))
            token = self.tokens[name]
            answers = {lane: asker.ask(request, token) for lane, asker in askers.items()}
            verdicts.asked += 1
            self._judge(
                verdicts, name, request, answers, {lane: asker.ask(request, token) for lane, asker in alone.items()}
            )
            if rng.random() < 0.25 and direct.ask(request, None).shows:
                verdicts.shown_directly += 1
                verdicts.routes_shown_directly[request.target.partition("?")[0]] += 1
        for asker in (*askers.values(), *alone.values(), direct):
            asker.close()
        verdicts.faults += self.misdirected()
        return verdicts

    def _judge(
        self,
        verdicts: Verdicts,
        name: str,
        request: Request,
        answers: dict[str, Reply],
        alone: dict[str, Reply],
    ) -> None:
        token = self.tokens[name]
        for lane, reply in answers.items():
            verdicts.statuses[f"{lane} {reply.status}"] += 1
            if reply.shows:
                verdicts.faults.append(f"{lane}, token {name}: shows a mark: {request!r} -> {reply!r}")
            if unknown := unknown_headers(reply):
                verdicts.faults.append(f"{lane}, token {name}: has the headers {unknown}: {request!r}")
            if compared(reply) != compared(alone[lane]) and self._differs(lane, request, token):
                verdicts.faults.append(
                    f"{lane}, token {name}: depends on what it may not see: {request!r}\n"
                    f"  with:    {reply!r}\n  without: {alone[lane]!r}"
                )

    def _differs(self, lane: str, request: Request, token: str) -> bool:
        """Ask again: some answers are a matter of luck on either backend, as is the order of an export, or any().

        A cache of results keeps the first luck, so queries are then asked past it, where that is no other request to
        the gateway: it gets the same status.
        """
        if not self._never_the_same(lane, request, request, token):
            return False
        path, _, query = request.target.partition("?")
        if not path.endswith(("/query", "/query_range")):
            return True
        target = f"{path}?nocache=1&{query}" if query else f"{path}?nocache=1"
        return self._never_the_same(lane, request, replace(request, target=target), token)

    def _never_the_same(self, lane: str, first: Request, again: Request, token: str) -> bool:
        """Whether 20 more answers with the others' data and without it have none in common, of the first's status."""
        ports = (self.lanes[lane].port, self.alone[lane].port)
        seen: list[set[str]] = [set(), set()]
        with Asker(ports[0]) as with_others, Asker(ports[1]) as alone:
            statuses = [asker.ask(first, token).status for asker in (with_others, alone)]
            for _ in range(20):
                for answers, status, asker in zip(seen, statuses, (with_others, alone), strict=True):
                    reply = asker.ask(again, token)
                    if reply.status == status:
                        answers.add(repr(compared(reply)))
                if seen[0] & seen[1]:
                    return False
        return True

    def write(self, rng: random.Random, count: int, metric: str) -> Verdicts:
        """Send hostile writes of series of ``metric`` through both lanes; every row that arrived is the token's."""
        verdicts = Verdicts()
        askers = {name: Asker(gateway.port) for name, gateway in self.writing.items()}
        for number in range(count):
            token = self.tokens[rng.choice(self.writers())]
            request = self.write_request(rng, f"{metric}_{number}")
            for lane, asker in askers.items():
                verdicts.statuses[f"{lane} {asker.ask(request, token).status}"] += 1
            verdicts.asked += 1
        for asker in askers.values():
            asker.close()
        verdicts.faults += self.strays(metric) + self.misdirected()
        return verdicts

    def rows(self, metric: str) -> list[dict[str, str]]:
        """The series that such writes have left behind."""
        return self.node.series(f'{{__name__=~"{metric}.*"}}')

    def forget(self, metric: str) -> None:
        """Remove them."""
        self.node.client.post("/api/v1/admin/tsdb/delete_series", {"match[]": f'{{__name__=~"{metric}_.*"}}'})

    def delete(self, rng: random.Random, count: int) -> Verdicts:
        """Send hostile deletes through both lanes; the other team's series stay as they are."""
        verdicts = Verdicts()
        before = self.others()
        askers = {name: Asker(gateway.port) for name, gateway in self.writing.items()}
        for _ in range(count):
            token = self.tokens[rng.choice(tuple(self.tokens))]
            request = self.delete_request(rng)
            for lane, asker in askers.items():
                verdicts.statuses[f"{lane} {asker.ask(request, token).status}"] += 1
            verdicts.asked += 1
        for asker in askers.values():
            asker.close()
        if self.others() != before:
            verdicts.faults.append(f"deletes took what is another's: {before} -> {self.others()}")
        fill(self.node, DEV_DATA, "1")
        verdicts.faults += self.misdirected()
        return verdicts

    def others(self) -> list[dict[str, Any]]:
        """What is not the token's, with its samples."""
        return sorted(self.node.export('{team!="dev"}'), key=repr)


def busy_with(client: Client, prefix: str) -> None:
    """What the others do besides writing: they query, count, look at cardinality and delete, past the gateway."""
    times = {"start": str(START - 60), "end": str(START + 3600)}
    for query in ("shared_metric", "dev_metric", "ops_metric", f"{MARK}_metric", '{team="dev"}', '{__name__!=""}'):
        for _ in range(5):
            client.get(f"{prefix}/api/v1/query", {"query": f"sum({query})", "time": str(START + 300)})
        client.get(f"{prefix}/api/v1/query_range", {"query": query, "step": "60", **times})
        client.get(f"{prefix}/api/v1/export", {"match[]": query, **times})
    client.get(f"{prefix}/api/v1/status/tsdb", {"topN": "100", "date": "2020-09-13"})
    client.get(f"{prefix}/api/v1/labels", times)


RULES: Final = {
    "dev": "{name: dev, interval: 1s, rules: [{alert: DevAlert, expr: 'vector(1)', labels: {team: dev}}]}",
    "ops": f"{{name: {MARK}, interval: 1s, rules: [{{alert: {MARK}, expr: 'vector({NUMBER})'}}]}}",
}


@contextlib.contextmanager
def alerting(datasource_url: str, *teams: str) -> Iterator[str]:
    """A vmalert whose alerts of these teams fire; the flag that makes a backend show them."""
    rules = "groups:\n" + "".join(f"- {RULES[team]}\n" for team in teams)
    with Alerting(rules, datasource_url=datasource_url) as vmalert:

        def firing() -> int:
            return len(vmalert.client.get("/api/v1/alerts").json()["data"]["alerts"] or ())

        vmalert.wait_until(lambda: firing() == len(teams), what="fires")
        yield f"-vmalert.proxyURL={vmalert.url}"


@contextlib.contextmanager
def start_oracle() -> Iterator[Oracle]:
    """The servers with their data, the gateways and the tokens. What is read has its caches."""
    with contextlib.ExitStack() as stack:
        written = stack.enter_context(VictoriaMetrics())
        everybodys = stack.enter_context(alerting(written.url, "dev", "ops"))
        ones = stack.enter_context(alerting(written.url, "dev"))
        both = stack.enter_context(VictoriaMetrics(everybodys, cached=True))
        dev_only = stack.enter_context(VictoriaMetrics(ones, cached=True))
        for server in (both, dev_only, written):
            fill(server, DEV_DATA, "1")
        for server in (both, written):
            fill(server, OPS_DATA, NUMBER)
        fill(both, GONE_DATA, NUMBER)
        busy_with(both.client, "")
        both.client.post("/api/v1/admin/tsdb/delete_series", {"match[]": '{gone="1"}'})
        key = SigningKey.generate("ES256")
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "public.pem"
        file.write_text(key.public_pem)

        def gateway(server: VictoriaMetrics, lane: str) -> Gateway:
            flags = (f"-read.url={server.url}", f"-write.url={server.url}", f"-auth.publicKeyFiles={file}")
            return stack.enter_context(Gateway("-enable.auth", f"-lane={lane}", "-http.connTimeout=0s", *flags))

        yield Oracle(
            both=both,
            written=written,
            lanes={lane: gateway(both, lane) for lane in ("fast", "flow")},
            alone={lane: gateway(dev_only, lane) for lane in ("fast", "flow")},
            writing={lane: gateway(written, lane) for lane in ("fast", "flow")},
            key=key,
            tokens={name: key.mint({"tenant_id": {}, **claim}, lifetime=LIFETIME) for name, claim in TOKENS.items()},
        )


def main(
    seconds: float, seed: int, start: Callable[[], contextlib.AbstractContextManager[Oracle]] = start_oracle
) -> int:
    """Rounds of reads, writes and deletes until the time is over; the faults found, and their number as exit code."""
    end = time.monotonic() + seconds
    total: Counter[str] = Counter()
    faults: list[str] = []
    round_number = 0
    with start() as oracle:
        while (left := end - time.monotonic()) > 0:
            rng = seeded(seed, round_number)
            for name, verdicts in (
                ("reads", oracle.read(rng, 3000, seconds=left)),
                ("writes", oracle.write(rng, 300, f"w{round_number}")),
                ("deletes", oracle.delete(rng, 100)),
            ):
                total[name] += verdicts.asked
                total["shown directly"] += verdicts.shown_directly
                total.update({f"{name} {status}": number for status, number in verdicts.statuses.items()})
                faults += verdicts.faults
                for fault in verdicts.faults[:20]:
                    print(f"seed {seed}, round {round_number}: {fault}", flush=True)
            oracle.forget(f"w{round_number}")
            round_number += 1
            print(f"round {round_number}: {dict(sorted(total.items()))}, {len(faults)} faults", flush=True)
    return min(1, len(faults))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())))
