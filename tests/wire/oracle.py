"""The oracle: two teams' data in real backends, a token for one, and a judge of what hostile requests bring about.

Two laws of reading, per lane. No answer holds a mark of the other team's data. And no answer depends on it: asked of a
backend that has one team's data only, the same request gets the same answer (which also finds counts and sums).

    python -m tests.wire.oracle SECONDS [SEED]        scripts/oracle
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import random
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.wire.oracle_requests import MARK, NUMBER, SAMPLES, START, Request, read_request
from tests.wire.oracle_writes import delete_request, write_request
from tests.wire.processes import Gateway
from tests.wire.servers import Server, VictoriaMetrics
from tests.wire.tokens import SigningKey

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


def seeded(seed: int, number: int = 0) -> random.Random:
    """The same choices for the same seed."""
    return random.Random(f"{seed} {number}")  # noqa: S311


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, its content no longer compressed. Status 0: the connection was closed without one."""

    status: int
    body: bytes

    @property
    def shows(self) -> bool:
        """Whether it holds a mark of the other team's."""
        return MARK.encode() in self.body or NUMBER.encode() in self.body


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
            self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        try:
            self._socket.sendall(data)
            response = http.client.HTTPResponse(self._socket, method=method)
            response.begin()
            body = response.read()
            if response.will_close:
                self.close()
            if response.getheader("Content-Encoding") == "gzip":
                body = gzip.decompress(body) if body else body
            return Reply(status=response.status, body=body)
        except (http.client.HTTPException, ConnectionError):
            self.close()
            return Reply(status=0, body=b"")

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def fill(server: VictoriaMetrics, rows: tuple[str, ...], value: str) -> None:
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
    """Both lanes in front of a backend with everybody's data, the fast lane in front of one with one team's.

    Writes and deletes have a backend of their own, so that they change nothing about what is read.
    """

    both: Server
    written: Server
    lanes: dict[str, Gateway]
    alone: Gateway
    writing: dict[str, Gateway]
    key: SigningKey
    tokens: dict[str, str]

    def mint(self, vm_access: dict[str, Any]) -> str:
        """A token that lives as long as any run."""
        return self.key.mint(vm_access, lifetime=LIFETIME)

    @property
    def node(self) -> VictoriaMetrics:
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
        alone, direct = Asker(self.alone.port), Asker(self.past_the_gateway)
        end = time.monotonic() + seconds
        while verdicts.asked < count and time.monotonic() < end:
            name = rng.choice(tuple(self.tokens))
            request = self.read_request(rng)
            token = self.tokens[name]
            answers = {lane: asker.ask(request, token) for lane, asker in askers.items()}
            verdicts.asked += 1
            self._judge(verdicts, name, request, answers, alone.ask(request, token))
            if rng.random() < 0.25 and direct.ask(request, None).shows:
                verdicts.shown_directly += 1
                verdicts.routes_shown_directly[request.target.partition("?")[0]] += 1
        for asker in (*askers.values(), alone, direct):
            asker.close()
        verdicts.faults += self.misdirected()
        return verdicts

    def _judge(self, verdicts: Verdicts, name: str, request: Request, answers: dict[str, Reply], alone: Reply) -> None:
        token = self.tokens[name]
        for lane, reply in answers.items():
            verdicts.statuses[f"{lane} {reply.status}"] += 1
            if reply.shows:
                verdicts.faults.append(f"{lane}, token {name}: shows a mark: {request!r} -> {reply!r}")
            if (reply.status, essence(reply)) != (alone.status, essence(alone)) and self._differs(lane, request, token):
                verdicts.faults.append(
                    f"{lane}, token {name}: depends on what it may not see: {request!r}\n"
                    f"  with:    {reply!r}\n  without: {alone!r}"
                )

    def _differs(self, lane: str, request: Request, token: str) -> bool:
        """Ask again: some answers are a matter of luck on either backend, as is the order of an export, or any()."""
        with_others, alone = Asker(self.lanes[lane].port), Asker(self.alone.port)
        seen: list[set[str]] = [set(), set()]
        for _ in range(20):
            for answers, asker in zip(seen, (with_others, alone), strict=True):
                reply = asker.ask(request, token)
                answers.add(repr((reply.status, essence(reply))))
            if seen[0] & seen[1]:
                break
        with_others.close()
        alone.close()
        return not seen[0] & seen[1]

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


_MOMENT: Final = re.compile(rb'(?<!\d)"?1[7-9]\d{8}(?:\.?\d{1,3})?"?(?!\d)')
"""A time of today, which two requests do not have in common."""


def essence(reply: Reply) -> object:
    """What of an answer must be the same on both backends: the data in it, in whatever order."""
    if reply.status != 200:
        return None  # errors name addresses and moments
    # 1.79.5 closes one brace too many behind a trace of /api/v1/series, which is then no JSON.
    body = _MOMENT.sub(b"0", reply.body)
    if not _is_json(body):
        body = body.partition(b',"trace":{')[0]
    try:
        return _sorted(json.loads(body))
    except ValueError:
        return sorted(body.splitlines())


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


_VOLATILE: Final = frozenset((
    "trace", "stats", "executionTimeMsec", "requestsCount", "lastRequestTimestamp",
    "topByCount", "topByAvgDuration", "topBySumDuration",  # which queries one server was asked, and how long they took
))  # fmt: skip


def _sorted(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _sorted(member) for key, member in value.items() if key not in _VOLATILE}
    if isinstance(value, list):
        return sorted((_sorted(item) for item in value), key=repr)
    return value


@contextlib.contextmanager
def start_oracle() -> Iterator[Oracle]:
    """The servers with their data, the gateways and the tokens."""
    with contextlib.ExitStack() as stack:
        both, dev_only, written = (stack.enter_context(VictoriaMetrics()) for _ in range(3))
        for server in (both, dev_only, written):
            fill(server, DEV_DATA, "1")
        for server in (both, written):
            fill(server, OPS_DATA, NUMBER)
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
            alone=gateway(dev_only, "fast"),
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
