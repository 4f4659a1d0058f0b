"""Bodies that pass a gateway for metrics, as lines that people read: series with their samples.

Bodies come from anybody. What is decompressed is bounded by ``MAX_DECODED``, what is printed by ``MAX_LINES``, and
text is escaped by whoever prints it. Whatever cannot be read is a ``ValueError``.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from vmgw_addons.support import FIXED64, VARINT, children, double, fields, fixed, signed, text
from vmgw_core.base import printable
from vmgw_core.errors import Refusal
from vmgw_core.explain import moment
from vmgw_core.http import decoder

MAX_DECODED: Final = 16 << 20
"""Bytes that are decompressed of one body."""
MAX_LINES: Final = 2000

_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_MAX_BROTLI: Final = 1024
"""Bytes: brotli makes gigabytes of a few kilobytes, and Python's binding has no bound."""
_SAMPLES: Final = 20
"""Samples that are printed of one series."""


# --- decompressing -------------------------------------------------------------------------------------------------


def decompress(data: bytes, encoding: str) -> bytes:
    """``data`` without its content encoding, which is left alone where it is unknown or was taken off before.

    Raises:
        ValueError: it is broken, or larger than ``MAX_DECODED`` once it is decoded.
    """
    if data.startswith(_ZSTD_MAGIC):
        return _decoded(data, "zstd")
    if data.startswith(_GZIP_MAGIC):
        return _decoded(data, "gzip")
    return _decoded(data, "snappy") if encoding.strip().lower() == "snappy" else data


def inflates_too_far(data: bytes, encoding: str) -> bool:
    """Whether mitmproxy, which decodes a body that it shows without any bound, had better not have this one."""
    encoding = encoding.strip().lower()
    if encoding == "br":
        return len(data) > _MAX_BROTLI
    if encoding not in ("zstd", "gzip", "deflate", "deflateraw"):
        return False
    try:
        _decoded(data, encoding.removesuffix("raw"))
    except ValueError:
        return not encoding.startswith("deflate") or not _fits_without_header(data)
    return False


def _decoded(data: bytes, encoding: str) -> bytes:
    decoded = bytearray()

    def take(piece: bytes) -> None:
        if len(decoded) + len(piece) > MAX_DECODED:
            raise ValueError(f"it decodes to more than {MAX_DECODED} bytes")
        decoded.extend(piece)

    undo = decoder(encoding, take, max_decoded=MAX_DECODED)
    try:
        undo.feed(data)
        undo.finish()
    except Refusal as refusal:
        raise ValueError(refusal.message) from None
    return bytes(decoded)


def _fits_without_header(data: bytes) -> bool:
    """Whether it is deflate as some send it, without zlib's header; only mitmproxy takes it."""
    try:
        return len(zlib.decompressobj(-15).decompress(data, MAX_DECODED + 1)) <= MAX_DECODED
    except zlib.error:
        return False


def at_most(lines: Iterable[str]) -> Iterator[str]:
    """The first ``MAX_LINES`` lines, and a word where there are more."""
    iterator = iter(lines)
    yield from islice(iterator, MAX_LINES)
    if next(iterator, None) is not None:
        yield f"… more than {MAX_LINES} lines"


# --- Prometheus remote write ---------------------------------------------------------------------------------------


def remote_write(body: bytes) -> Iterator[str]:
    """A WriteRequest (https://prometheus.io/docs/specs/prw/remote_write_spec/), a line for each sample."""
    for number, _, value in fields(body):
        if number == 1 and isinstance(value, bytes):
            labels = [(text(label, 1), text(label, 2)) for label in children(value, 1)]
            name = _series(labels)
            samples = [_sample(sample) for sample in islice(children(value, 2), _SAMPLES)]
            yield from (f"{name} {sample}" for sample in samples)
            histograms = sum(1 for _ in children(value, 4))
            if histograms:
                yield f"{name} {histograms} native histograms"
            if not samples and not histograms:
                yield f"{name} no samples"
            more = sum(1 for _ in children(value, 2)) - len(samples)
            if more:
                yield f"{name} … {more} more samples"
        elif number == 3 and isinstance(value, bytes):
            yield f"# HELP {printable(text(value, 2))} {printable(text(value, 4))}"


def _sample(sample: bytes) -> str:
    number, milliseconds = 0.0, 0
    for field, kind, value in fields(sample):
        if field == 1 and kind == FIXED64 and isinstance(value, bytes):
            number = double(value)
        elif field == 2 and kind == VARINT and isinstance(value, int):
            milliseconds = signed(value)
    return f"{number:g} @ {moment(milliseconds / 1000)}"


def _series(labels: Iterable[tuple[str, str]]) -> str:
    name, rest = "", []
    for key, value in labels:
        if key in ("__name__", ""):
            name = printable(value)
        else:
            rest.append(f"{printable(key)}={json.dumps(printable(value), ensure_ascii=False)}")
    return f"{name}{{{','.join(rest)}}}" if rest or not name else name


# --- OpenTelemetry metrics -----------------------------------------------------------------------------------------

# Where the data points of each kind of metric keep their attributes.
# https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto
_KINDS: Final = {
    5: ("gauge", 7),
    7: ("sum", 7),
    9: ("histogram", 9),
    10: ("exponential histogram", 1),
    11: ("summary", 7),
}


def opentelemetry(body: bytes) -> Iterator[str]:
    """An ExportMetricsServiceRequest, a line for each data point; attributes of the resource come first."""
    for resource_metrics in children(body, 1):
        resource = [pair for part in children(resource_metrics, 1) for pair in _attributes(part, 1)]
        yield f"# resource {_series(resource)}"
        for scope_metrics in children(resource_metrics, 2):
            for metric in children(scope_metrics, 2):
                yield from _metric(metric)


def _metric(metric: bytes) -> Iterator[str]:
    name, unit = text(metric, 1), printable(text(metric, 3))
    for number, _, value in fields(metric):
        if number in _KINDS and isinstance(value, bytes):
            kind, attributes = _KINDS[number]
            yield f"# {kind} {printable(name)}{f' in {unit}' if unit else ''}"
            for point in children(value, 1):
                labels = [("__name__", name), *_attributes(point, attributes)]
                yield f"{_series(labels)} {_point(point, simple=number in (5, 7))}"


def _point(point: bytes, *, simple: bool) -> str:
    values: dict[int, bytes] = {number: value for number, _, value in fields(point) if isinstance(value, bytes)}
    time = moment(fixed(values.get(3, b"")) / 1e9)
    if simple:
        shown = f"{fixed(values[6], sign=True)}" if 6 in values else f"{double(values.get(4, bytes(8))):g}"
        return f"{shown} @ {time}"
    return f"count {fixed(values.get(4, b''))}, sum {double(values.get(5, bytes(8))):g} @ {time}"


def _attributes(message: bytes, number: int) -> Iterator[tuple[str, str]]:
    for pair in children(message, number):
        yield text(pair, 1), next((_any(value) for value in children(pair, 2)), "")


def _any(value: bytes) -> str:
    """An AnyValue; arrays and maps are not looked into, so that nothing nests."""
    for number, _, content in fields(value):
        if isinstance(content, int):
            return str(bool(content)).lower() if number == 2 else str(signed(content))
        if number == 1:
            return content.decode("utf-8", "replace")
        return f"{double(content):g}" if number == 4 else f"<{len(content)} bytes>"
    return ""


# --- JSON lines ----------------------------------------------------------------------------------------------------


def json_lines(body: bytes) -> Iterator[str]:
    """Lines of JSON; those of VictoriaMetrics' export and import as series with their samples."""
    for line in body.decode("utf-8", "replace").splitlines():
        try:
            value = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            yield printable(line, 1000)
            continue
        if value is None:
            continue
        metric = value.get("metric") if isinstance(value, dict) else None
        values, times = (value.get("values"), value.get("timestamps")) if isinstance(metric, dict) else (None, None)
        if not isinstance(metric, dict) or not isinstance(values, list) or not isinstance(times, list):
            yield printable(line, 1000)
            continue
        name = _series((str(key), str(item)) for key, item in metric.items())
        for number, time in islice(zip(values, times, strict=False), _SAMPLES):
            at = moment(time / 1000) if isinstance(time, int | float) and abs(time) < 1e16 else printable(str(time))
            yield f"{name} {printable(str(number))} @ {at}"
        if len(values) > _SAMPLES:
            yield f"{name} … {len(values) - _SAMPLES} more samples"
