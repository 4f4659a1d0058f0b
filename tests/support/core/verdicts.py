"""Prints the verdict on each of many random requests, so that two builds of the gateway can be compared.

python -m tests.support.core.verdicts SEED NUMBER
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from typing import Final

from tests.support.core import keys
from vmgw_core import Backend, BackendGroup, Cycle, Gateway, Policy, Refusal, TokenVerifier
from vmgw_core.enforcement import State
from vmgw_core.http import HeadLimits, RequestHead, check_head, find_head
from vmgw_core.routing import ROUTES

_CLAIMS: Final[tuple[dict[str, object], ...]] = (
    {},
    {"extra_labels": {"team": "dev"}},
    {"extra_filters": ['{team=~"a|b"}', "{env!='prod'}"]},
    {"extra_labels": {"__name__": "up"}, "extra_filters": ["m"]},
    {"tenant_id": {"account_id": 1, "project_id": 5}, "mode": 1},
    {"tenant_id": {"account_id": 7}, "extra_labels": {"team": "ops", "env": "test"}, "mode": 2},
)
_QUERIES: Final = (
    "", "?query=up", "?query=up&start=1&end=2", "?match[]=m", "?extra_label=team=ops", "?extra_filters[]=m&a=b",
    "?%65xtra_label=a", "?a;b", "?query=with(a=1)a", "?trace=1&query=up", "?a#b", "?extra_label", "?query=%zz",
)  # fmt: skip
_HEADERS: Final = (
    "Content-Type: application/x-www-form-urlencoded", "Content-Type: text/plain", "Content-Length: 7",
    "Content-Length: x", "Transfer-Encoding: chunked", "Connection: close, x-one", "X-Forwarded-For: 192.0.2.9",
    "Content-Encoding: snappy", "Content-Encoding: gzip", "AccountID: 9", "X-One: 1", "Expect: 100-continue",
    "Bad name: 1",
)  # fmt: skip
_BODIES: Final = (
    b"",
    b"query=m",
    b"extra_label=team=ops&a=b",
    b'm{a="b"} 1\n',
    b"a;b",
    b"\x00\xff",
    b'm{\x01a="b"} 1\n',
)


def requests(seed: int, number: int) -> Iterator[tuple[Policy, bytes, bytes]]:
    """Yield a policy, the bytes of a head, and a body."""
    chance = random.Random(seed)  # noqa: S311
    tokens = [keys.compact({"alg": "RS256", "typ": "JWT"}, keys.claims(vm_access=each)) for each in _CLAIMS]
    policies = [
        Policy(
            verifier=TokenVerifier(None),
            cluster=cluster,
            read=BackendGroup([Backend.parse("http://vm:8428/base", "read.url")]),
            write=BackendGroup([Backend.parse("http://vm:8480", "write.url")]),
            max_form_size=1000,
            tell_why=True,
        )
        for cluster in (False, True)
    ]
    for _ in range(number):
        policy, route = chance.choice(policies), chance.choice(ROUTES)
        native = policy.cluster and chance.random() < 0.5
        path = route.cluster_path.replace("<tenant>", chance.choice(("0", "1:5", "7"))) if native else route.path
        path = path.replace("...>", "").replace("<", "").replace(">", "")
        method = chance.choice(route.methods) if chance.random() < 0.9 else chance.choice(("GET", "PUT", "get"))
        lines = [f"{method} {path}{chance.choice(_QUERIES)} HTTP/1.{chance.choice('0111')}", "Host: gateway"]
        if chance.random() < 0.95:
            lines.append(f"Authorization: Bearer {chance.choice(tokens)}")
        lines += chance.sample(_HEADERS, chance.choice((0, 0, 1, 1, 2, 3)))
        head = "\r\n".join([*lines, "", ""]).encode()
        if chance.random() < 0.1:  # a byte of it is another one
            place = chance.randrange(len(head))
            head = head[:place] + bytes([chance.randrange(256)]) + head[place + 1 :]
        yield policy, head, chance.choice(_BODIES)


def verdict(policy: Policy, received: bytes, body: bytes) -> str:
    """Return what becomes of a request: the refusal, or what the backend gets."""
    try:
        end = find_head(received, 64 * 1024)
        line = check_head(received[:end], HeadLimits())
        fields = (each.partition(b":") for each in received[:end].split(b"\r\n")[1:-2])
        headers = tuple((name, value.strip(b" \t")) for name, _, value in fields)
        head = RequestHead(line.method, line.target, headers, "192.0.2.1")
        cycle = Cycle(head, at=float(keys.NOW), started=0.0)
        cycle.authorize(Gateway(policy=policy, clock=lambda: 0.0))
        cycle.enter()
        cycle.count(0.0)
        cycle.prepare()
        passed = b""
        if cycle.state is State.FORM:
            cycle.form(body)
        else:
            passed = cycle.body(body, end=True)
        assert cycle.upstream is not None
        sent = cycle.upstream
        return f"{sent.method} {sent.target} {sent.headers} {sent.body!r} {passed!r}"
    except Refusal as refusal:
        return f"{refusal.status} {refusal.code} {refusal.message}"


if __name__ == "__main__":
    for each in requests(int(sys.argv[1]), int(sys.argv[2])):
        print(verdict(*each))
