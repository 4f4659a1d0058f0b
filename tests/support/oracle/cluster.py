"""The oracle in front of a cluster: a token for one tenant, and requests that try to reach the others.

The same laws, and one more: whatever reaches the cluster names the token's tenant in its path, in one spelling.

    python -m tests.support.oracle.cluster SECONDS [SEED]        scripts/oracle --cluster
"""

from __future__ import annotations

import contextlib
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote_plus

from tests.support.oracle.requests import NUMBER, Request, read_request
from tests.support.oracle.single_node import DEV_DATA, LIFETIME, OPS_DATA, Oracle, fill, main
from tests.support.oracle.writes import delete_request, write_request
from tests.support.wire.processes import Gateway
from tests.support.wire.servers import Cluster, VictoriaMetrics
from tests.support.wire.tokens import SigningKey

OWN: Final = (1, 5)
FOREIGN: Final = ((0, 0), (15, 0))
"""0:0 is what a tenant becomes that got lost."""

TOKENS: Final[dict[str, dict[str, Any]]] = {
    "tenant": {},
    "labels": {"extra_labels": {"team": "dev"}},
    "filters": {"extra_filters": ['{team="dev"}']},
}

PLAIN: Final = ("1:5", "1:5", "15:0")
TENANTS: Final = (
    "15", "15", "0:0", "0:0", "0", "1", "1:0", "1:6", "5:1", "multitenant",
    "Multitenant", "1:5:0", "1:5:15:0", "01:5", "1:05", "+1:5", "%201:5", "1:5%20", "1%3A5", "15%3A0", "%31%35:0",
    "4294967297:5", "4294967311:0", "1:4294967301", "-1:5", "0xf:0", "1:5,15:0", "15:0,1:5", "1:5;15:0", "15:0;1:5",
    "1.0:5", "%D9%A1%D9%A5:0", "", ".", "..", "%2e%2e", "*", "1:5%00", "15:0%00", "15:0%23", "15:0%3F", "1:", ":5",
    "15:",
)  # fmt: skip
FORMS: Final = (
    "/{kind}/{tenant}{family}{path}", "/{kind}/1:5/../{tenant}{family}{path}",
    "/{kind}/1:5{family}/../../{tenant}{family}{path}", "/{kind}/1:5{family}/..%2f..%2f{tenant}{family}{path}",
    "/{kind}/1:5/%2e%2e/{tenant}{family}{path}", "/{kind}%2F{tenant}{family}{path}", "//{kind}/{tenant}{family}{path}",
    "/{kind}//{tenant}{family}{path}", "/{kind}/{tenant}/{family}{path}", "/{kind}/{tenant}%2F{family}{path}",
    "/{kind}/{tenant}/./{family}{path}", "/%73{kind}/{tenant}{family}{path}", "/{upper}/{tenant}{family}{path}",
    "/{kind}/1:5{family}/{kind}/{tenant}{family}{path}", "/{kind}/{tenant}/1:5{family}{path}",
    "/{kind}/1:5/{tenant}{family}{path}", "/prometheus/{kind}/{tenant}{family}{path}",
    "/vmui/../{kind}/{tenant}{family}{path}", "http://gateway/{kind}/{tenant}{family}{path}",
    "http://gateway/{kind}/{tenant}{family}{path}", "/{kind}\\{tenant}{family}{path}",
    "/{kind}/1:5\\..\\{tenant}{family}{path}", "/{kind}%252F{tenant}{family}{path}",
    "/{kind}/1:5/%252e%252e/{tenant}{family}{path}", "/{kind};x/{tenant}{family}{path}",
    "/{kind}/{tenant};x{family}{path}", "/{kind}/1:5{family}{path}/../../../../{tenant}/x",
    "/select/{tenant}{family}{path}", "/insert/{tenant}{family}{path}", "/delete/{tenant}{family}{path}",
    "/{kind}{path}", "/{tenant}{family}{path}", "/{kind}/{tenant}{path}",
    "/{kind}/{tenant}/prometheus/prometheus{path}", "/{kind}/{tenant}/graphite{path}", "/{kind}/{tenant}/influx{path}",
    "/admin/tenants", "/{kind}/{tenant}{family}{path}/favicon.ico", "/x/{kind}/{tenant}{family}{path}/favicon.ico",
    "/{kind}/{tenant}/vmui/..{family}{path}", "/{kind}/{tenant}%0d%0a{family}{path}",
)  # fmt: skip
"""{family} is the protocol's word of the cluster's path, {kind} the word before the tenant."""

ARGUMENTS: Final = (
    ("vm_account_id", "15"), ("vm_project_id", "0"), ("extra_label", "vm_account_id=15"), ("AccountID", "15"),
    ("extra_filters[]", '{vm_account_id="15"}'), ("extra_filters[]", '{vm_account_id="15",vm_project_id="0"}'),
    ("accountID", "15"), ("projectID", "0"), ("tenant", "15:0"), ("tenant_id", "15:0"),
    ("match[]", '{vm_account_id="15"}'),
    ("authToken", "15:0"), ("extra_label", "vm_project_id=0"), ("multitenant", "1"),
    ("query", '{vm_account_id=~".*"}'),
)  # fmt: skip
HEADERS: Final = (
    ("AccountID", "15"), ("ProjectID", "0"), ("accountid", "15"), ("Account-ID", "15"), ("AccountID", "0"),
    ("VictoriaMetrics-AccountID", "15"), ("X-Scope-OrgID", "15"), ("X-Tenant", "15:0"), ("AccountID", "15, 1"),
    ("X-Original-URL", "/select/15:0/prometheus/api/v1/export"),
    ("X-Rewrite-URL", "/select/15:0/prometheus/api/v1/labels"),
    ("X-Forwarded-Prefix", "/select/15:0/prometheus"), ("Connection", "AccountID"), ("Account_ID", "15"),
)  # fmt: skip

_PLAIN_PATH: Final = re.compile(r"(?:/[a-z0-9_]+)+(?:\?|$)")
_FAMILIES: Final = (
    (("/datadog", "/influx", "/opentsdb", "/prometheus", "/graphite", "/vmui", "/graph", "/static"), ""),
    (("/render", "/tags", "/metrics", "/functions"), "/graphite"),
    (("/write", "/api/v2/write"), "/influx"),
)


def to_tenant(rng: random.Random, make: Callable[[random.Random], Request], kind: str) -> Request:
    """A request, most of the time with a path, arguments or headers that mean to reach a tenant.

    Most are plain but for that, so that something comes of them.
    """
    request = make(rng)
    while _PLAIN_PATH.match(request.target) is None and rng.random() < 0.8:
        request = make(rng)
    path, _, query = request.target.partition("?")
    style = rng.random()
    if style > 0.3:
        family = next((family for words, family in _FAMILIES if path.startswith(words)), "/prometheus")
        tenant = rng.choice(TENANTS if rng.random() < 0.4 else PLAIN)
        form = rng.choice(FORMS) if style > 0.75 else FORMS[0]
        path = form.format(kind=kind, upper=kind.upper(), tenant=tenant, family=family, path=path)
    pairs = [query] if query else []
    if rng.random() < 0.4:
        chosen = [rng.choice(ARGUMENTS) for _ in range(rng.choice((1, 1, 2, 3)))]
        pairs += [f"{quote_plus(key)}={quote_plus(value)}" for key, value in chosen]
    headers = list(request.headers)
    if rng.random() < 0.4:
        headers += [rng.choice(HEADERS) for _ in range(rng.choice((1, 2)))]
    return replace(request, target=path + ("?" + "&".join(pairs) if pairs else ""), headers=tuple(headers))


_MINE: Final = re.compile(r"/(?:select|insert|delete)/1:5/[^?]*(?:\?.*)?|/[^?]*favicon\.ico(?:\?.*)?", re.DOTALL)
_DOUBTFUL: Final = re.compile(r"//|/\.\.?(?:/|$)|%2f|%5c|%2e|\\", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class ClusterOracle(Oracle):
    """Each tenant is a server of its own behind one address."""

    both: Cluster
    written: Cluster
    judged: Counter[int] = field(default_factory=Counter)
    """How many of the requests that have reached a cluster, by its port."""

    @property
    def past_the_gateway(self) -> int:
        return self.both.unwatched_port

    @property
    def node(self) -> VictoriaMetrics:
        return self.written.nodes[OWN]

    def writers(self) -> tuple[str, ...]:
        return tuple(self.tokens)

    def read_request(self, rng: random.Random) -> Request:
        return to_tenant(rng, read_request, "select")

    def write_request(self, rng: random.Random, metric: str) -> Request:
        return to_tenant(rng, partial(write_request, metric=metric), "insert")

    def delete_request(self, rng: random.Random) -> Request:
        return to_tenant(rng, delete_request, "delete")

    def strays(self, metric: str) -> list[str]:
        return [
            f"a row in tenant {tenant}: {row}"
            for tenant, node in self.written.nodes.items()
            if tenant != OWN
            for row in node.series(f'{{__name__=~"{metric}.*"}}')
        ]

    def others(self) -> list[dict[str, Any]]:
        exports = [self.written.nodes[tenant].export('{__name__!=""}') for tenant in FOREIGN]
        return sorted((series for export in exports for series in export), key=repr)

    def misdirected(self) -> list[str]:
        faults = []
        for cluster in (self.both, self.written):
            requests = cluster.requests()[self.judged[cluster.port] :]
            self.judged[cluster.port] += len(requests)
            faults += [f"reached the cluster: {request}" for request in requests if not is_own(request)]
        return faults


def is_own(request: dict[str, Any]) -> bool:
    """Whether it names the token's tenant and no other, whoever reads it."""
    path, _, query = request["target"].partition("?")
    named = _MINE.fullmatch(request["target"]) is not None or _is_held(path, query)
    return named and _DOUBTFUL.search(path) is None and request["authorization"] == request["account"] == ""


def _is_held(path: str, query: str) -> bool:
    """Whether it is a read of all tenants that labels hold to the token's tenant."""
    account, project = OWN
    labels = [value for name, value in parse_qsl(query) if name == "extra_label" and value.startswith("vm_")]
    return path.startswith("/select/multitenant/") and labels == [
        f"vm_account_id={account}",
        f"vm_project_id={project}",
    ]


@contextlib.contextmanager
def start_cluster_oracle() -> Iterator[ClusterOracle]:
    """The clusters with their data, the gateways and the tokens."""
    with contextlib.ExitStack() as stack:
        both, written = (stack.enter_context(Cluster((OWN, *FOREIGN))) for _ in range(2))
        alone = stack.enter_context(Cluster((OWN,)))
        for cluster in (both, written, alone):
            fill(cluster.nodes[OWN], DEV_DATA, "1")
        for cluster in (both, written):
            for tenant in FOREIGN:
                fill(cluster.nodes[tenant], OPS_DATA, NUMBER)
        key = SigningKey.generate("ES256")
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "public.pem"
        file.write_text(key.public_pem)

        def gateway(cluster: Cluster, lane: str) -> Gateway:
            flags = (f"-read.url={cluster.url}", f"-write.url={cluster.url}", f"-auth.publicKeyFiles={file}")
            lasting = ("-http.connTimeout=0s", f"-lane={lane}")
            return stack.enter_context(Gateway("-enable.auth", "-clusterMode", *lasting, *flags))

        own = {"account_id": OWN[0], "project_id": OWN[1]}
        yield ClusterOracle(
            both=both,
            written=written,
            lanes={lane: gateway(both, lane) for lane in ("fast", "flow")},
            alone={lane: gateway(alone, lane) for lane in ("fast", "flow")},
            writing={lane: gateway(written, lane) for lane in ("fast", "flow")},
            key=key,
            tokens={name: key.mint({"tenant_id": own, **claim}, lifetime=LIFETIME) for name, claim in TOKENS.items()},
        )


if __name__ == "__main__":
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    sys.exit(main(seconds, seed, start_cluster_oracle))
