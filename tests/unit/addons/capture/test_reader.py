"""Reading flow files: of both versions, of older ones, HAR, and damaged ones."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.io import tnetstring
from mitmproxy.test import tflow

from vmgw_addons.capture.reader import Entry, opened, read
from vmgw_core.errors import ConfigurationError
from vmgw_core.replay.record import Captured

DATA = Path(__file__).parents[3] / "data" / "replay"


def entries(data: bytes) -> list[Entry]:
    return list(read(io.BytesIO(data), "f"))


def plain(**changes: object) -> dict[str, Any]:
    """The state of a flow that no gateway has seen."""
    flow = tflow.tflow(resp=True)
    return {**flow.get_state(), **changes}


def written(*states: dict[str, Any]) -> bytes:
    return b"".join(tnetstring.dumps(state) for state in states)


@pytest.mark.parametrize("version", [11, 12])
def test_captures_of_both_versions(version: int) -> None:
    found = entries((DATA / f"mitmproxy-{version}.mitm").read_bytes())
    assert [entry.number for entry in found] == list(range(1, 10))
    outcomes = [str(entry.captured.outcome) for entry in found if entry.captured is not None]
    assert outcomes == [
        *["admitted"] * 3, "403 filters_ignored", "admitted", "404 unknown_route", "401 expired", "401 bad_signature",
        "401 missing_token",
    ]  # fmt: skip


def test_a_flow_that_no_gateway_has_seen() -> None:
    (entry,) = entries(written(plain()))
    assert entry.captured is not None
    assert entry.captured.head.method == "GET"
    assert entry.captured.head.target == "/path"
    assert entry.captured.head.client == "127.0.0.1"
    assert (entry.captured.at, entry.captured.form, entry.captured.outcome) == (946681200, b"content", None)


def test_a_flow_of_an_older_version_is_the_same() -> None:
    old = plain(version=20)
    assert entries(written(old)) == entries(written(plain()))


def test_what_is_no_request_is_told_apart() -> None:
    other = tflow.ttcpflow().get_state()
    found = entries(written(other, plain(), {**other, "version": 20}))
    assert [entry.captured is None for entry in found] == [True, False, True]


def test_pieces_of_a_file_are_put_together() -> None:
    """A file is read a mebibyte at a time; flows begin and end anywhere."""
    large = plain()
    large["request"] = {**large["request"], "content": b"x" * 700_000}
    found = entries(written(*[large] * 5, plain()))
    sizes = [len(entry.captured.form or b"") for entry in found if entry.captured is not None]
    assert sizes == [700_000] * 5 + [7]


def test_har() -> None:
    request = {"method": "GET", "url": "http://g/api/v1/query?query=up", "headers": []}
    entry = {"startedDateTime": "2026-01-02T03:04:05Z", "request": request}
    document = json.dumps({"log": {"entries": [entry, entry]}}).encode()
    for data in (document, b"\xef\xbb\xbf" + document):
        assert [found.number for found in entries(data)] == [1, 2]
    with pytest.raises(
        ConfigurationError, match=r"^f: flow 2 \(log.entries\[1\]\) cannot be read: entry.request: missing$"
    ):
        entries(json.dumps({"log": {"entries": [entry, {}]}}).encode())
    with pytest.raises(ConfigurationError, match=r"^f: flow 0 .*: HAR: not valid JSON"):
        entries(b"{")


GOOD = written(plain())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD * 2 + GOOD[:-9], f"f: flow 3 (at byte {2 * len(GOOD)}) cannot be read: the file ends within it"),
        (GOOD + b"nonsense", f"f: flow 2 (at byte {len(GOOD)}) cannot be read: a length is missing"),
        (b"nonsense", "f: flow 1 (at byte 0) cannot be read: a length is missing"),
        (b"3:abc,", "f: flow 1 (at byte 0) cannot be read: expected a mapping"),
        (b"0:}", "f: flow 1 (at byte 0) cannot be read: not a flow in a format that mitmproxy reads"),
        (written(plain(version=99)), "f: flow 1 (at byte 0) cannot be read: not a flow in a format"),
        (written(plain(metadata={"vmgateway": {}})), "f: flow 1 (at byte 0) cannot be read: vmgateway.version"),
        (written(plain(metadata=[])), "f: flow 1 (at byte 0) cannot be read: expected a mapping"),
        (written(plain(request=b"")), "f: flow 1 (at byte 0) cannot be read: request: expected an object"),
        (written(plain(request={"headers": [[b"a"]]})), "f: flow 1 (at byte 0) cannot be read: request.headers"),
        (written(plain(request={"headers": []})), "f: flow 1 (at byte 0) cannot be read: request.timestamp_start"),
        (
            written(plain(request={"headers": [], "timestamp_start": 1})),
            "f: flow 1 (at byte 0) cannot be read: request",
        ),
    ],
    ids=range(12),
)
def test_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        entries(data)
    assert str(caught.value).startswith(message)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=3))
def test_any_damage_gives_flows_or_an_error(position: int, damage: bytes) -> None:
    data = GOOD[:position] + damage + GOOD[position + len(damage) :]
    try:
        found = entries(data)
    except ConfigurationError as error:
        found = []
        message = str(error)
    else:
        message = "f: flow"
    assert all(isinstance(entry.captured, Captured | None) for entry in found)
    assert message.startswith("f: flow")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"), opened(str(tmp_path / "x")):
        pass
    with (
        pytest.raises(ConfigurationError, match=r"cannot read|Is a directory"),
        opened(str(tmp_path)) as file,
    ):
        list(read(file, "directory"))
