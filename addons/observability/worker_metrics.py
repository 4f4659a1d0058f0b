"""One page of metrics for several processes: whichever is asked adds what the others count."""

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

_SECONDS: Final = 2.0


class WorkerMetrics:
    """Tells the other processes on the port what this one counts, and asks them."""

    def __init__(self, worker: Worker | None, telemetry: Telemetry) -> None:
        self.worker = worker
        self.telemetry = telemetry
        self.server: asyncio.Server | None = None

    async def running(self) -> None:
        worker = self.worker
        if worker is not None:
            path = _socket(worker, worker.slot)
            path.unlink(missing_ok=True)  # a worker that died has left it
            self.server = await asyncio.start_unix_server(self.tell, path)

    async def done(self) -> None:
        if self.server is not None:
            self.server.close()

    async def tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send this process' metrics to another."""
        writer.write(self.telemetry.exposition()[0])
        with suppress(OSError):
            await writer.drain()
        writer.close()

    async def exposition(self, worker: Worker) -> tuple[bytes, str]:
        """The page of all processes together, and its content type. Each sample says which worker's it is."""
        others = [slot for slot in range(worker.count) if slot != worker.slot]
        answers = await asyncio.gather(*(ask(worker, slot) for slot in others))
        families = {worker.slot: list(self.telemetry.registry.collect())}
        for slot, text in zip(others, answers, strict=True):
            if text is not None:
                families[slot] = list(text_string_to_metric_families(text))
        return generate_latest(_Merged(families)), CONTENT_TYPE_LATEST


async def ask(worker: Worker, slot: int) -> str | None:
    """The metrics of another worker, or None where it does not answer: it may just be starting."""
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_unix_connection(_socket(worker, slot))
            try:
                return (await reader.read()).decode()
            finally:
                writer.close()
    except (OSError, TimeoutError, UnicodeDecodeError):
        logger.warning(f"worker {slot} does not tell its metrics")
        return None


def _socket(worker: Worker, slot: int) -> Path:
    return worker.directory / f"metrics-{slot}"


class _Merged(Collector):
    """Families of the same name in one, each sample with a label ``worker``."""

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
