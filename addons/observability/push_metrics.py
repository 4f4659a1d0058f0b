"""Pushes the page ``/metrics`` to ``-pushmetrics.url`` in the background."""

from __future__ import annotations

import gzip
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from vmgw_addons.outgoing import DOWNLOAD_DEADLINE, failure_of, send
from vmgw_addons.state import InForce
from vmgw_addons.support import Background, in_thread
from vmgw_core.base import is_http_url, without_credentials
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError

from .families import counter
from .metrics import Telemetry
from .worker_metrics import WorkerMetrics

logger = logging.getLogger(__name__)

_LABEL: Final = re.compile(r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"')
_HEADER: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([ -~]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushTarget:
    """A URL, and how to push to it."""

    url: str
    shown: str
    """The URL without anything that could be secret."""
    labels: str
    headers: tuple[tuple[str, str], ...]
    compressed: bool

    @classmethod
    def from_settings(cls, settings: Settings) -> list[PushTarget]:
        """Make a target of each ``-pushmetrics.url``.

        Raises:
            ConfigurationError: names the flag and the number of the item, which may contain a password.
        """
        labels = settings.pushmetrics_extra_label
        for number, label in enumerate(labels, start=1):
            if not _LABEL.fullmatch(label):
                raise _unusable("pushmetrics.extraLabel", number, 'name="value"')
        headers = []
        for number, header in enumerate(settings.pushmetrics_header, start=1):
            match = _HEADER.fullmatch(header)
            if match is None:
                raise _unusable("pushmetrics.header", number, "Name: value")
            headers.append((match[1], match[2].rstrip()))
        for number, url in enumerate(settings.pushmetrics_url, start=1):
            if not is_http_url(url):
                raise _unusable("pushmetrics.url", number, "a URL such as http://host:8428/api/v1/import/prometheus")
        return [
            cls(
                url=url,
                shown=without_credentials(url),
                labels=",".join(labels),
                headers=tuple(headers),
                compressed=not settings.pushmetrics_disable_compression,
            )
            for url in settings.pushmetrics_url
        ]

    def push(self, page: bytes, *, deadline: float = DOWNLOAD_DEADLINE) -> None:
        """Send a page of metrics. Raises ``RequestFailed`` without a 2xx response within ``deadline`` seconds."""
        headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "vmgateway"}
        body = with_labels(page.decode(), self.labels).encode()
        if self.compressed:
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body)
        headers |= dict(self.headers)
        # largest=0: the body of the response is not read.
        send("POST", self.url, success=range(200, 300), headers=headers, data=body, deadline=deadline, largest=0)


class PushMetrics(Collector):
    """Pushes the gateway's metrics in the background, each URL on its own (-pushmetrics.url)."""

    def __init__(
        self,
        in_force: InForce,
        background: Background,
        telemetry: Telemetry,
        workers: WorkerMetrics,
    ) -> None:
        self.in_force = in_force
        self.background = background
        self.workers = workers
        self.pushes: Counter[tuple[str, str]] = Counter()
        telemetry.registry.register(self)

    def running(self) -> None:
        settings, worker = self.in_force.configured.settings, self.workers.calls.worker
        if worker is None or worker.slot == 0:  # one worker pushes the metrics of all
            for target in PushTarget.from_settings(settings):
                self.background.repeat("metrics_push", partial(self.step, target, settings.pushmetrics_interval))

    async def step(self, target: PushTarget, interval: float) -> float:
        """Push to one URL after the interval."""
        await self.background.sleep(interval)
        outage = self.in_force.outages.of(f"-pushmetrics.url {target.shown}", logger, "they are not sent later")
        page, _ = await self.workers.exposition()
        try:
            await in_thread(partial(target.push, page), "metrics push")
        except Exception as error:  # whatever a library raises
            self.pushes[target.shown, "error"] += 1
            text, cause = failure_of(error)
            outage.failed(f"cannot push metrics to {target.shown}: {text}", cause)
        else:
            self.pushes[target.shown, "success"] += 1
            outage.succeeded(f"metrics are pushed to {target.shown} again")
        return 0

    def collect(self) -> Iterator[Metric]:
        """Count the pushes by result."""
        yield counter(
            "vmgateway_metrics_pushes",
            "Pushes of metrics to -pushmetrics.url, by result",
            ["url", "result"],
            self.pushes.items(),
        )


def with_labels(page: str, labels: str) -> str:
    """Add ``labels`` (``a="b",c="d"``) to every sample of a page in the text format."""
    if not labels:
        return page
    return "".join(_with_labels(line, labels) for line in page.splitlines(keepends=True))


def _with_labels(line: str, labels: str) -> str:
    if line.startswith("#") or not line.strip():
        return line
    name, brace, rest = line.partition("{")
    if brace and " " not in name:
        return f"{name}{{{labels}{'' if rest.startswith('}') else ','}{rest}"
    name, space, rest = line.partition(" ")
    return f"{name}{{{labels}}}{space}{rest}"


def _unusable(flag: str, number: int, expected: str) -> ConfigurationError:
    return ConfigurationError(f"-{flag}: expected {expected} in item {number}")
