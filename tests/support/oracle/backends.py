"""The backends that the oracle puts a gateway in front of: a single node, and a real cluster if there is one.

``VICTORIA_METRICS`` and ``VM_CLUSTER`` choose the release; see :func:`tests.support.wire.processes.program_path`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.support.wire.real_cluster import NEEDS_CLUSTER, RealCluster, Tenant, start_cluster
from tests.support.wire.servers import Server, VictoriaMetrics
from vmgw_core.configuration.table import BY_NAME

BACKENDS: Final = ("single", pytest.param("cluster", marks=NEEDS_CLUSTER))
"""For ``params`` of a fixture; see :func:`start_backend`."""

CHECKED: Final = ("-write.checkLabelNames",) if "write.checkLabelNames" in BY_NAME else ()
"""Label names of writes are checked, as they are by default; see :class:`tests.support.wire.processes.Gateway`."""

OWN: Final = (1, 5)
"""The token's tenant in a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A running backend. ``tenant`` is the data of the token's tenant, past the gateway."""

    kind: str
    tenant: VictoriaMetrics | Tenant
    servers: Sequence[Server]
    flags: tuple[str, ...]
    """What a gateway in front of it is started with, but for keys and lane."""
    cluster: RealCluster | None = None

    def claim(self, **access: object) -> dict[str, Any]:
        """The ``vm_access`` for the token's tenant."""
        numbers = {"account_id": OWN[0], "project_id": OWN[1]} if self.kind == "cluster" else {}
        return {"tenant_id": numbers, **access}

    def target(self, path: str) -> str:
        """Where a read of the token's tenant goes past the gateway."""
        return f"/select/{OWN[0]}:{OWN[1]}/prometheus{path}" if self.kind == "cluster" else path

    def is_alive(self) -> bool:
        """Whether none of its processes has ended, and all say that they are well."""
        return all(server.exit_code is None and server.is_ready() for server in self.servers)


@contextlib.contextmanager
def start_backend(kind: str, *read_flags: str, cached: bool = False) -> Iterator[Backend]:
    """Start a single node or a cluster. ``read_flags`` are for what answers reads; see there for ``cached``."""
    common = ("-enable.auth", "-http.connTimeout=0s", *CHECKED)
    if kind == "single":
        with VictoriaMetrics(*read_flags, cached=cached) as node:
            flags = (*common, f"-read.url={node.url}", f"-write.url={node.url}")
            yield Backend(kind=kind, tenant=node, servers=(node,), flags=flags)
        return
    with start_cluster(*read_flags, cached=cached) as cluster:
        urls = (f"-read.url={cluster.read_url}", f"-write.url={cluster.write_url}")
        tenant = cluster.tenant(f"{OWN[0]}:{OWN[1]}")
        servers = cluster.servers()
        yield Backend(
            kind=kind, tenant=tenant, servers=servers, flags=(*common, "-clusterMode", *urls), cluster=cluster
        )
