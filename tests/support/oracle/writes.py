"""Hostile writes and deletes at random: rows that say they are the other team's, and requests to remove its series.

Same seed, same requests. Left out is what the README calls outside of the gateway's reach: capitalised forms of a few
label names, rows of 30 labels and more, metadata.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

import cramjam

from tests.support.oracle.requests import HEADERS, KEYS, VALUES, Request, base_pairs, dress, encode, spell_path

ROW_LABELS: Final = (
    ("team", "ops"), ("team", ""), ("Team", "ops"), ("TEAM", "ops"), ("team ", "ops"), ("vm_account_id", "1"),
    ("vm_project_id", "1"), ("VictoriaMetrics_AccountID", "1"), ("db", "ops"), ("owner", "x"), ("team", "dev\0"),
    ("_team", "ops"),
)  # fmt: skip


def write_request(rng: random.Random, metric: str) -> Request:
    """One hostile write of rows of ``metric``; where it is admitted, its rows are the token's team's."""
    labels = [("team", "ops")] + [rng.choice(ROW_LABELS) for _ in range(rng.choice((0, 0, 1, 2)))]
    rng.shuffle(labels)
    kind = rng.choice(tuple(_KINDS))
    paths, build, pairs = _KINDS[kind]
    body = build(metric, labels)
    path = rng.choice(paths)
    calm = rng.random() < 0.4
    method = "POST" if calm or rng.random() < 0.9 else rng.choice(("PUT", "GET", "PATCH", "post"))
    arguments = [(key, value.format(metric=metric)) for key, value in pairs]
    if rng.random() < 0.7:
        keys = KEYS[:4] if rng.random() < 0.6 else KEYS
        arguments += [(rng.choice(keys), rng.choice(VALUES)) for _ in range(rng.choice((1, 1, 2, 3)))]
    query = encode(rng, arguments, calm=calm)
    headers: list[tuple[str, str]] = []
    if kind == "remote-write":
        headers += [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")]
    elif rng.random() < 0.3:
        coding, pack = rng.choice((("gzip", gzip.compress), ("deflate", zlib.compress), ("gzip", bytes), ("x", bytes)))
        headers.append(("Content-Encoding", coding))
        body = pack(body)
    if rng.random() < 0.15:
        headers.append(("Transfer-Encoding", "chunked"))
    if not calm and rng.random() < 0.4:
        headers.append(rng.choice(HEADERS))
    target = path if calm else spell_path(rng, path)
    return Request(method=method, target=f"{target}?{query}" if query else target, headers=tuple(headers), body=body)


def delete_request(rng: random.Random) -> Request:
    """One hostile delete."""
    path = rng.choice(("/api/v1/admin/tsdb/delete_series", "/tags/delSeries"))
    if path == "/tags/delSeries":
        pairs = [
            ("path", rng.choice(("ops_metric;team=ops", "ops_metric", "dev_metric;team=dev", "ops_metric;team=dev")))
        ]
    else:
        pairs = [pair for pair in base_pairs(rng, "/api/v1/series") if pair[0] == "match[]"]
    pairs += [(rng.choice(KEYS[:4]), rng.choice(VALUES)) for _ in range(rng.choice((0, 1, 1, 2)))]
    return dress(rng, rng.choice(("", "/prometheus", "/graphite")) + path, pairs, [])


def _text(metric: str, labels: list[tuple[str, str]]) -> bytes:
    inner = ",".join(f'{name}="{value}"' for name, value in labels)
    return _raw(f"{metric}{{{inner}}} 7 1600000000000\n")


def _json(metric: str, labels: list[tuple[str, str]]) -> bytes:
    members = ",".join(f"{_json_text(name)}:{_json_text(value)}" for name, value in [("__name__", metric), *labels])
    return _raw(f'{{"metric":{{{members}}},"values":[7],"timestamps":[1600000000000]}}\n')


def _influx(metric: str, labels: list[tuple[str, str]]) -> bytes:
    inner = "".join(f",{name}={value}" for name, value in labels if value and " " not in name)
    return _raw(f"{metric}{inner} value=7 1600000000000000000\n")


def _csv(metric: str, labels: list[tuple[str, str]]) -> bytes:
    return b"7,ops,ops\n"


def _datadog(metric: str, labels: list[tuple[str, str]]) -> bytes:
    tags = [f"{name}:{value}" for name, value in labels]
    row = {"metric": metric, "host": "ops", "points": [[1600000000, 7]], "tags": tags, "team": "ops"}
    return json.dumps({"series": [row]}).encode()


def _opentsdb(metric: str, labels: list[tuple[str, str]]) -> bytes:
    return json.dumps({"metric": metric, "timestamp": 1600000000, "value": 7, "tags": dict(labels)}).encode()


def _remote_write(metric: str, labels: list[tuple[str, str]]) -> bytes:
    fields = b"".join(_field(1, _field(1, _raw(name)) + _field(2, _raw(value))) for name, value in
                      [("__name__", metric), *labels])  # fmt: skip
    sample = b"\x09" + b"\0\0\0\0\0\0\x1c\x40" + b"\x10" + _varint(1_600_000_000_000)
    return bytes(cramjam.snappy.compress_raw(_field(1, fields + _field(2, sample))))


def _opentelemetry(metric: str, labels: list[tuple[str, str]]) -> bytes:
    attributes = b"".join(
        _field(7, _field(1, _raw(name)) + _field(2, _field(1, _raw(value)))) for name, value in labels
    )
    moment = b"\x19" + (1_600_000_000 * 10**9).to_bytes(8, "little")
    point = attributes + moment + b"\x21" + b"\0\0\0\0\0\0\x1c\x40"
    return _field(1, _field(2, _field(2, _field(1, metric.encode()) + _field(5, _field(1, point)))))


def _raw(text: str) -> bytes:
    """The bytes of a text; a surrogate such as ``\\udcfe`` is the one byte 0xFE, which no UTF-8 text has."""
    return text.encode("utf-8", "surrogateescape")


def _json_text(text: str) -> str:
    """A JSON string in which such bytes stand as they are."""
    return json.dumps(text, ensure_ascii=False)


def body_of(kind: str, metric: str, labels: list[tuple[str, str]]) -> Request:
    """A plain write of one row of the value 7, at the first moment of the data, with exactly these labels."""
    (path, *_), build, pairs = ROWS_OF[kind]
    arguments = [(key, value.format(metric=metric)) for key, value in pairs]
    headers: tuple[tuple[str, str], ...] = ()
    if kind in ("remote-write", "opentelemetry"):
        headers = (("Content-Type", "application/x-protobuf"),)
    if kind == "remote-write":
        headers += (("Content-Encoding", "snappy"),)
    target = f"{path}?{urlencode(arguments)}" if arguments else path
    return Request(method="POST", target=target, headers=headers, body=build(metric, labels))


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


_KINDS: Final = {
    "text": (("/api/v1/import/prometheus", "/prometheus/api/v1/import/prometheus"), _text, ()),
    "pushgateway": (
        (
            "/api/v1/import/prometheus/metrics/job/x/team/ops",
            "/api/v1/import/prometheus/metrics/job/x/team@base64/b3Bz",
        ),
        _text,
        (),
    ),
    "json": (("/api/v1/import", "/prometheus/api/v1/import"), _json, ()),
    "influx": (("/write", "/api/v2/write", "/influx/write", "/influx/api/v2/write"), _influx, (("db", "ops"),)),
    "csv": (("/api/v1/import/csv",), _csv, (("format", "1:metric:{metric},2:label:team,3:label:team"),)),
    "datadog": (("/datadog/api/v1/series", "/datadog/api/v1/series/"), _datadog, ()),
    "opentsdb": (("/api/put", "/opentsdb/api/put"), _opentsdb, ()),
    "remote-write": (("/api/v1/write", "/prometheus/api/v1/write", "/api/v1/push"), _remote_write, ()),
}

_Build = Callable[[str, list[tuple[str, str]]], bytes]

_Kind = tuple[tuple[str, ...], _Build, tuple[tuple[str, str], ...]]

ROWS_OF: Final[Mapping[str, _Kind]] = {
    **{kind: _KINDS[kind] for kind in ("text", "json", "influx", "opentsdb", "datadog", "remote-write")},
    "opentelemetry": (("/opentelemetry/v1/metrics",), _opentelemetry, ()),
}
"""The protocols in which a row names its labels itself."""
