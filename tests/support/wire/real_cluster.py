"""A real VictoriaMetrics cluster: one vmstorage, one vminsert, one vmselect, all on loopback with empty directories.

Its programs come from the folder that ``VM_CLUSTER`` names. A test that needs one uses the marker ``NEEDS_CLUSTER``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.support.wire.client import Client
from tests.support.wire.processes import CLUSTER_PROGRAMS, find_program, free_port, program_path
from tests.support.wire.servers import Server
from tests.support.wire.waiting import eventually

HAS_CLUSTER: Final = all(program_path(name) for name in CLUSTER_PROGRAMS)
NEEDS_CLUSTER: Final = pytest.mark.skipif(
    not HAS_CLUSTER, reason="VM_CLUSTER names no folder with vminsert, vmselect and vmstorage"
)


class Vmstorage(Server):
    """The storage of a cluster."""

    name = "vmstorage"

    def __init__(self, *flags: str) -> None:
        self.insert_port, self.select_port = free_port(), free_port()
        super().__init__(*flags)

    def command(self) -> list[str]:
        return [
            find_program("vmstorage"),
            f"-httpListenAddr=127.0.0.1:{self.port}",
            f"-vminsertAddr=127.0.0.1:{self.insert_port}",
            f"-vmselectAddr=127.0.0.1:{self.select_port}",
            f"-storageDataPath={self.directory / 'data'}",
            "-retentionPeriod=100y",
            "-memory.allowedBytes=128MB",
            *self.flags,
        ]


class Vminsert(Server):
    """What writes go to."""

    name = "vminsert"

    def __init__(self, storage: Vmstorage, *flags: str) -> None:
        super().__init__(f"-storageNode=127.0.0.1:{storage.insert_port}", *flags)

    def command(self) -> list[str]:
        return [
            find_program("vminsert"),
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-memory.allowedBytes=64MB",
            *self.flags,
        ]


class Vmselect(Server):
    """What reads and deletes go to."""

    name = "vmselect"

    def __init__(self, storage: Vmstorage, *flags: str, cached: bool = False) -> None:
        self.cached = cached
        """Whether it keeps the results of queries, as it does in production."""
        super().__init__(f"-storageNode=127.0.0.1:{storage.select_port}", *flags)

    def command(self) -> list[str]:
        return [
            find_program("vmselect"),
            f"-httpListenAddr=127.0.0.1:{self.port}",
            f"-cacheDataPath={self.directory / 'cache'}",
            "-search.latencyOffset=0s",
            *(() if self.cached else ("-search.disableCache",)),
            "-memory.allowedBytes=64MB",
            *self.flags,
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealCluster:
    """A running cluster. ``read_url`` and ``write_url`` are what the gateway is given."""

    storage: Vmstorage
    insert: Vminsert
    select: Vmselect

    @property
    def read_url(self) -> str:
        return self.select.url

    @property
    def write_url(self) -> str:
        return self.insert.url

    def servers(self) -> tuple[Server, ...]:
        return (self.storage, self.insert, self.select)

    def force_flush(self) -> None:
        """Make what vmstorage has received visible to searches."""
        assert self.storage.client.get("/internal/force_flush").status == 200

    def tenant(self, name: str) -> Tenant:
        """One tenant of it, past the gateway; ``name`` is what stands in a path: ``1:5``."""
        return Tenant(cluster=self, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant's data, as :class:`tests.support.wire.servers.VictoriaMetrics` shows that of a single node."""

    cluster: RealCluster
    name: str

    def get(self, path: str, arguments: dict[str, str]) -> Any:  # noqa: ANN401
        answer = self.cluster.select.client.get(f"/select/{self.name}/prometheus{path}", arguments)
        assert answer.status == 200, answer
        return answer

    def import_prometheus(self, text: str) -> None:
        """Write samples in the text format, and wait until the last row can be read."""
        target = f"/insert/{self.name}/prometheus/api/v1/import/prometheus"
        assert self.cluster.insert.client.post(target, body=text).status == 204
        last = text.strip().splitlines()[-1].rpartition("}")[0] + "}"
        eventually(lambda: self.series(last), what=f"{last} can be read")

    def force_flush(self) -> None:
        self.cluster.force_flush()

    def series(self, selector: str) -> list[dict[str, str]]:
        """The label sets that match, of any time."""
        self.cluster.force_flush()
        series: list[dict[str, str]] = self.get("/api/v1/series", {"match[]": selector, "start": "1"}).json()["data"]
        return series

    def export(self, selector: str) -> list[dict[str, Any]]:
        """The series that match with all their samples."""
        self.cluster.force_flush()
        answer = self.get("/api/v1/export", {"match[]": selector, "start": "1"})
        return [json.loads(line) for line in answer.text.splitlines()]

    @property
    def client(self) -> Client:
        return self.cluster.select.client


@contextlib.contextmanager
def start_cluster(*select_flags: str, cached: bool = False) -> Iterator[RealCluster]:
    """Start a cluster with empty directories; all three programs are stopped at the end."""
    with (
        Vmstorage() as storage,
        Vminsert(storage) as insert,
        Vmselect(storage, *select_flags, cached=cached) as select,
    ):
        yield RealCluster(storage=storage, insert=insert, select=select)
