"""Processor time of a small GET against the number of tenants, keys, limits and connections."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.wire.tokens import SigningKey

from .cases import GET, Case
from .load import load
from .servers import QUERIES, Proxy, Servers

ROUNDS = 5
_EACH_TENANT = """
local n, tokens = 0, {}
for line in io.lines("%s") do tokens[#tokens + 1] = "Bearer " .. line end
request = function() n = n %% #tokens + 1 wrk.headers["Authorization"] = tokens[n] return wrk.format() end
"""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A gateway and its load, with so many of something."""

    number: int
    proxy: Proxy
    case: Case
    connections: int = 32


def tenants(servers: Servers, build: str) -> Iterator[Point]:
    """As many tenants, in turn, each with its token and its window of the limit."""
    proxy = servers.gateway(build, "tenants", group="scale")
    for number in (10, 100, 1000, 10_000):
        path = servers.directory / f"tokens-{number}"
        path.write_text("\n".join(servers.mint(tenant) for tenant in range(number)))
        yield Point(number=number, proxy=proxy, case=Case(target=GET, script=_EACH_TENANT % path))


def keys(servers: Servers, build: str) -> Iterator[Point]:
    """As many keys in force. The token's is the last of them."""
    paths: list[Path] = []
    for number in (1, 10, 100):
        while len(paths) < number - 1:
            paths.append(servers.directory / f"key-{len(paths)}.pem")
            paths[-1].write_text(SigningKey.generate().public_pem)
        flag = "-auth.publicKeyFiles=" + ",".join(map(str, [*paths, servers.directory / "key.pem"]))
        yield Point(number=number, proxy=servers.gateway(build, "keys", flag, group="scale"), case=Case(target=GET))


def limits(servers: Servers, build: str) -> Iterator[Point]:
    """As many limits: one for each tenant, and the rest for single ones."""
    for number in (1, 10, 100, 1000):
        others = "".join(f"- {{type: queries, value: 1000000000, account_id: {n}}}\n" for n in range(1, number))
        proxy = servers.gateway(build, "limits", group="scale", limits=QUERIES + others)
        yield Point(number=number, proxy=proxy, case=Case(target=GET))


def connections(servers: Servers, build: str) -> Iterator[Point]:
    """As many connections, with a request under way on each."""
    proxy = servers.gateway(build, "connections", group="scale")
    for number in (10, 100, 1000, 5000):
        yield Point(number=number, proxy=proxy, case=Case(target=GET), connections=number)


def measure(servers: Servers, build: str, seconds: int) -> dict[str, dict[int, float]]:
    """Return the microseconds of a request, by what there is more of, and how many."""
    found = {}
    for name, points in (("tenants", tenants), ("keys", keys), ("limits", limits), ("connections", connections)):
        table = list(points(servers, build))
        for point in table:  # fill the caches
            load(servers, point.proxy, point.case, 5 if point.number == 10_000 else 1, point.connections)
        costs: dict[int, list[float]] = {point.number: [] for point in table}
        for _ in range(ROUNDS):
            for point in table:
                result = load(servers, point.proxy, point.case, seconds, point.connections)
                costs[point.number].append(result.cost)
        found[name] = {number: statistics.median(each) for number, each in costs.items()}
        print(f"\nmicroseconds of a small GET, {build}, by {name}: {found[name]}")
        for proxy in {point.proxy.port: point.proxy for point in table}.values():
            servers.stop(proxy)
    return found
