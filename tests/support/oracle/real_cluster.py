"""The oracle in front of a real cluster: tokens for a tenant, and for a team within a tenant.

Two tenants are asked. ``1:5`` has two teams, for tokens with labels or filters; ``2:7`` has one, for a token that is
restricted by its tenant alone. The other tenants have everything else. vmselect shows the alerts of a vmalert that has
rules of all of them.

    python -m tests.support.oracle.real_cluster SECONDS [SEED]        scripts/oracle --cluster, with VM_CLUSTER
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.support.oracle.cluster import to_tenant
from tests.support.oracle.requests import NUMBER, Request, read_request
from tests.support.oracle.single_node import (
    DEV_DATA,
    GONE_DATA,
    LIFETIME,
    OPS_DATA,
    TOKENS,
    Oracle,
    alerting,
    busy_with,
    fill,
    main,
)
from tests.support.oracle.writes import delete_request, write_request
from tests.support.wire.processes import Gateway
from tests.support.wire.real_cluster import RealCluster, Tenant, start_cluster
from tests.support.wire.servers import Server, VictoriaMetrics
from tests.support.wire.tokens import SigningKey

TEAMS: Final = (1, 5)
"""The tenant in which there are two teams."""
ALONE: Final = (2, 7)
"""The tenant that a token names and nothing else."""
FOREIGN: Final = ("0:0", "15:0", "2:0", "7:2")


def name_of(tenant: tuple[int, int]) -> str:
    """As it stands in a path."""
    return f"{tenant[0]}:{tenant[1]}"


@dataclass(slots=True, kw_only=True)
class RealClusterOracle(Oracle):
    """Three clusters: one with everybody's data, one with the tokens' alone, and one that is written to."""

    clusters: dict[str, RealCluster]

    @property
    def node(self) -> Tenant:
        return self.clusters["written"].tenant(name_of(TEAMS))

    def others(self) -> list[dict[str, Any]]:
        exports = [self.clusters["written"].tenant(name).export('{__name__!=""}') for name in FOREIGN]
        exports.append(self.node.export('{team!="dev"}'))
        return sorted((series for export in exports for series in export), key=repr)

    def read_request(self, rng: random.Random) -> Request:
        return read_request(rng) if rng.random() < 0.5 else to_tenant(rng, read_request, "select")

    def for_token(self, name: str, request: Request) -> Request:
        if name != "tenant":
            return request
        return replace(request, target=request.target.replace(name_of(TEAMS), name_of(ALONE)))

    def write_request(self, rng: random.Random, metric: str) -> Request:
        make = partial(write_request, metric=metric)
        return make(rng) if rng.random() < 0.5 else to_tenant(rng, make, "insert")

    def delete_request(self, rng: random.Random) -> Request:
        return delete_request(rng) if rng.random() < 0.5 else to_tenant(rng, delete_request, "delete")

    def strays(self, metric: str) -> list[str]:
        selector = f'{{__name__=~"{metric}.*"}}'
        cluster = self.clusters["written"]
        own = [f"a row of another team: {row}" for row in self.rows(metric) if row.get("team") != "dev"]
        return own + [f"a row in {name}: {row}" for name in FOREIGN for row in cluster.tenant(name).series(selector)]

    def forget(self, metric: str) -> None:
        target = f"/delete/{name_of(TEAMS)}/prometheus/api/v1/admin/tsdb/delete_series"
        self.node.client.post(target, {"match[]": f'{{__name__=~"{metric}_.*"}}'})


def fill_others(cluster: RealCluster, *, busy: bool) -> None:
    """All that is not the tokens'."""
    for name in (*FOREIGN, name_of(TEAMS)):
        fill(cluster.tenant(name), OPS_DATA, NUMBER)
        if busy:
            fill(cluster.tenant(name), GONE_DATA, NUMBER)
            busy_with(cluster.select.client, f"/select/{name}/prometheus")
            target = f"/delete/{name}/prometheus/api/v1/admin/tsdb/delete_series"
            cluster.select.client.post(target, {"match[]": '{gone="1"}'})


@contextlib.contextmanager
def start_real_cluster_oracle() -> Iterator[RealClusterOracle]:
    """The clusters with their data, the gateways and the tokens."""
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(VictoriaMetrics())
        # How often a tenant's own queries ran is its own, but these clusters are not asked equally often.
        flags = ("-search.queryStats.lastQueriesCount=0",)
        everybodys = stack.enter_context(alerting(source.url, "dev", "ops"))
        ones = stack.enter_context(alerting(source.url, "dev"))
        clusters = {
            "both": stack.enter_context(start_cluster(everybodys, *flags, cached=True)),
            "alone": stack.enter_context(start_cluster(ones, *flags, cached=True)),
            "written": stack.enter_context(start_cluster()),
        }
        for cluster in clusters.values():
            for tenant in (TEAMS, ALONE):
                fill(cluster.tenant(name_of(tenant)), DEV_DATA, "1")
        fill_others(clusters["both"], busy=True)
        fill_others(clusters["written"], busy=False)
        key = SigningKey.generate("ES256")
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "public.pem"
        file.write_text(key.public_pem)

        def gateways(name: str) -> dict[str, Gateway]:
            cluster = clusters[name]
            flags = (f"-read.url={cluster.read_url}", f"-write.url={cluster.write_url}", f"-auth.publicKeyFiles={file}")
            common = ("-enable.auth", "-clusterMode", "-http.connTimeout=0s", *flags)
            return {lane: stack.enter_context(Gateway(*common, f"-lane={lane}")) for lane in ("fast", "flow")}

        def mint(tenant: tuple[int, int], claim: dict[str, Any]) -> str:
            numbers = {"account_id": tenant[0], "project_id": tenant[1]}
            return key.mint({"tenant_id": numbers, **claim}, lifetime=LIFETIME)

        both: Server = clusters["both"].select
        yield RealClusterOracle(
            clusters=clusters,
            both=both,
            written=clusters["written"].select,
            lanes=gateways("both"),
            alone=gateways("alone"),
            writing=gateways("written"),
            key=key,
            tokens={"tenant": mint(ALONE, {})} | {name: mint(TEAMS, claim) for name, claim in TOKENS.items()},
        )


if __name__ == "__main__":
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    sys.exit(main(seconds, seed, start_real_cluster_oracle))
