"""One page of metrics for several workers: the one that serves it collects those of the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from .metrics import Telemetry
from .worker_calls import WorkerCalls

_CALL: Final = "metrics"
_SECONDS: Final = 2.0  # to wait for another worker


class WorkerMetrics:
    """Gives this worker's metrics to the others, and collects theirs."""

    def __init__(self, calls: WorkerCalls, telemetry: Telemetry) -> None:
        self.calls = calls
        self.telemetry = telemetry
        calls.handlers[_CALL] = self.own

    async def own(self, argument: str = "") -> bytes:
        """Return the page of this worker alone."""
        return self.telemetry.exposition()[0]

    async def exposition(self) -> tuple[bytes, str]:
        """Return the page and its content type. With several workers each sample has a label ``worker``."""
        worker = self.calls.worker
        if worker is None:
            return self.telemetry.exposition()
        pages = {worker.slot: await self.own(), **await self.calls.call_others(_CALL, _SECONDS)}
        # All pages are parsed, the own one too: ..._created is a family of its own only on a page.
        families = {slot: list(text_string_to_metric_families(page.decode())) for slot, page in pages.items()}
        return generate_latest(_Merged(families)), CONTENT_TYPE_LATEST


class _Merged(Collector):
    """Merges families of the same name, and adds a label ``worker`` to each sample."""

    def __init__(self, families: dict[int, list[Metric]]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for slot, families in self.families.items():
            for family in families:
                into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    labels = {**sample.labels, "worker": str(slot)}
                    into.add_sample(sample.name, labels, sample.value, sample.timestamp, sample.exemplar)
        return merged.values()
