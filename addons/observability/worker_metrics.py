"""One page of metrics for several workers: the one that serves it collects those of the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from vmgw_addons.state import Worker

from .metrics import Telemetry

logger = logging.getLogger(__name__)

_SECONDS: Final = 2.0  # to wait for another worker


class WorkerMetrics:
    """Serves this worker's metrics to the others on a Unix socket, and collects theirs."""

    def __init__(self, worker: Worker | None, telemetry: Telemetry) -> None:
        self.worker = worker
        self.telemetry = telemetry
        self.server: asyncio.Server | None = None

    async def running(self) -> None:
        worker = self.worker
        if worker is not None:
            path = _socket(worker, worker.slot)
            path.unlink(missing_ok=True)  # left by a dead worker
            self.server = await asyncio.start_unix_server(self.serve, path)

    async def done(self) -> None:
        if self.server is not None:
            self.server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send this worker's metrics to another."""
        writer.write(self.telemetry.exposition()[0])
        with suppress(OSError):
            await writer.drain()
        writer.close()

    async def exposition(self) -> tuple[bytes, str]:
        """Return the page and its content type. With several workers each sample has a label ``worker``."""
        worker = self.worker
        if worker is None:
            return self.telemetry.exposition()
        others = [slot for slot in range(worker.count) if slot != worker.slot]
        texts = await asyncio.gather(*(fetch(worker, slot) for slot in others))
        families = {worker.slot: list(self.telemetry.registry.collect())}
        for slot, text in zip(others, texts, strict=True):
            if text is not None:
                families[slot] = list(text_string_to_metric_families(text))
        return generate_latest(_Merged(families)), CONTENT_TYPE_LATEST


async def fetch(worker: Worker, slot: int) -> str | None:
    """Fetch the metrics of another worker; None if it does not respond, since it may just be starting."""
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_unix_connection(_socket(worker, slot))
            try:
                return (await reader.read()).decode()
            finally:
                writer.close()
    except (OSError, TimeoutError, UnicodeDecodeError):
        logger.warning(f"cannot fetch the metrics of worker {slot}: /metrics is incomplete")
        return None


def _socket(worker: Worker, slot: int) -> Path:
    return worker.directory / f"metrics-{slot}"


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
