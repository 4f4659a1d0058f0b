"""The profile of a process: read back with protobuf's own parser, as ``go tool pprof`` would."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable
from typing import Any, Final

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from vmgw_addons.observability.pages.profile_format import Call, Sample, encode
from vmgw_addons.observability.pages.profiler import Profiler, Times, look_around

REPEATED, OPTIONAL = 3, 1
INT64, UINT64, STRING, BOOL, MESSAGE = 3, 4, 9, 8, 11

# https://github.com/google/pprof/blob/main/proto/profile.proto: message -> (field, number, label, type, message)
PROTO: Final = {
    "Profile": [
        ("sample_type", 1, REPEATED, MESSAGE, "ValueType"),
        ("sample", 2, REPEATED, MESSAGE, "Sample"),
        ("mapping", 3, REPEATED, MESSAGE, "Mapping"),
        ("location", 4, REPEATED, MESSAGE, "Location"),
        ("function", 5, REPEATED, MESSAGE, "Function"),
        ("string_table", 6, REPEATED, STRING, ""),
        ("time_nanos", 9, OPTIONAL, INT64, ""),
        ("duration_nanos", 10, OPTIONAL, INT64, ""),
        ("period_type", 11, OPTIONAL, MESSAGE, "ValueType"),
        ("period", 12, OPTIONAL, INT64, ""),
        ("default_sample_type", 14, OPTIONAL, INT64, ""),
    ],
    "ValueType": [("type", 1, OPTIONAL, INT64, ""), ("unit", 2, OPTIONAL, INT64, "")],
    "Sample": [
        ("location_id", 1, REPEATED, UINT64, ""),
        ("value", 2, REPEATED, INT64, ""),
        ("label", 3, REPEATED, MESSAGE, "Label"),
    ],
    "Label": [("key", 1, OPTIONAL, INT64, ""), ("str", 2, OPTIONAL, INT64, "")],
    "Mapping": [("id", 1, OPTIONAL, UINT64, "")],
    "Location": [
        ("id", 1, OPTIONAL, UINT64, ""),
        ("mapping_id", 2, OPTIONAL, UINT64, ""),
        ("line", 4, REPEATED, MESSAGE, "Line"),
    ],
    "Line": [("function_id", 1, OPTIONAL, UINT64, ""), ("line", 2, OPTIONAL, INT64, "")],
    "Function": [
        ("id", 1, OPTIONAL, UINT64, ""),
        ("name", 2, OPTIONAL, INT64, ""),
        ("system_name", 3, OPTIONAL, INT64, ""),
        ("filename", 4, OPTIONAL, INT64, ""),
        ("start_line", 5, OPTIONAL, INT64, ""),
    ],
}


def parse(profile: bytes) -> Any:  # noqa: ANN401
    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package="p", syntax="proto3")
    for name, columns in PROTO.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind, of in columns:
            row = message.field.add(name=field, number=number, label=label, type=kind)
            if of:
                row.type_name = f".p.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    parsed = message_factory.GetMessageClass(pool.FindMessageTypeByName("p.Profile"))()
    parsed.ParseFromString(gzip.decompress(profile))
    return parsed


Row = tuple[str, tuple[tuple[str, str, int, int], ...], dict[str, int]]


def rows(profile: bytes) -> list[Row]:
    """Thread, stack (function, file, first line, line), values by type."""
    parsed = parse(profile)
    text = parsed.string_table
    assert text[0] == ""
    functions = {function.id: function for function in parsed.function}
    locations = {location.id: location for location in parsed.location}
    assert 0 not in functions | locations
    types = [text[kind.type] for kind in parsed.sample_type]

    def place(number: int) -> tuple[str, str, int, int]:
        (line,) = locations[number].line
        function = functions[line.function_id]
        return text[function.name], text[function.filename], function.start_line, line.line

    return [
        (
            text[sample.label[0].str],
            tuple(place(number) for number in sample.location_id),
            dict(zip(types, sample.value, strict=True)),
        )
        for sample in parsed.sample
    ]


def test_what_is_written_is_read_back() -> None:
    inner = Call(function="f", file="/a.py", first_line=1, line=300)
    outer = Call(function="ü", file="/b.py", first_line=1 << 20, line=1 << 21)
    samples = [
        Sample(thread="MainThread", stack=(inner, outer), cpu=7, wall=1 << 40),
        Sample(thread="other", stack=(outer,), cpu=0, wall=1),
    ]
    profile = encode(samples, 1_700_000_000_000_000_000, 1.5, 0.01)
    assert rows(profile) == [
        ("MainThread", (("f", "/a.py", 1, 300), ("ü", "/b.py", 1 << 20, 1 << 21)), {"cpu": 7, "wall": 1 << 40}),
        ("other", (("ü", "/b.py", 1 << 20, 1 << 21),), {"cpu": 0, "wall": 1}),
    ]
    parsed = parse(profile)
    assert (parsed.time_nanos, parsed.duration_nanos) == (1_700_000_000_000_000_000, 1_500_000_000)
    assert parsed.period == 10_000_000
    assert parsed.string_table[parsed.default_sample_type] == "cpu"
    assert {parsed.string_table[kind.unit] for kind in parsed.sample_type} == {"nanoseconds"}


def burn_processor_time(until: Callable[[], bool]) -> None:
    while not until():
        sum(range(1000))


def time_in(profile: bytes, function: str, kind: str) -> int:
    return sum(values[kind] for _, stack, values in rows(profile) if function in {call[0] for call in stack})


def test_processor_time_is_found_where_it_is_used_and_waiting_where_it_is_waited() -> None:
    ended = threading.Event()

    def wait_for_the_end() -> None:
        ended.wait()

    waiting = threading.Thread(target=wait_for_the_end, name="waiting")
    waiting.start()

    async def run() -> bytes:
        profiler = Profiler()
        assert profiler.begin()
        taking = asyncio.ensure_future(profiler.collect(0.5))
        await asyncio.sleep(0)
        burn_processor_time(lambda: not any(thread.name == "profiler" for thread in threading.enumerate()))
        profile = await taking
        assert profiler.begin(), "it can be taken again"
        return profile

    try:
        profile = asyncio.run(run())
    finally:
        ended.set()
        waiting.join()
    name = "test_processor_time_is_found_where_it_is_used_and_waiting_where_it_is_waited.<locals>.wait_for_the_end"
    total = sum(values["cpu"] for _, _, values in rows(profile))
    assert total > 0
    assert time_in(profile, "burn_processor_time", "cpu") > total / 2
    assert time_in(profile, name, "cpu") == 0
    assert time_in(profile, name, "wall") > time_in(profile, name, "cpu")
    assert {thread for thread, stack, _ in rows(profile) if name in {call[0] for call in stack}} == {"waiting"}


def test_one_at_a_time() -> None:
    profiler = Profiler()
    assert profiler.begin()
    assert not profiler.begin()
    asyncio.run(profiler.collect(0.01))
    assert profiler.begin()


def test_the_number_of_stacks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmgw_addons.observability.pages.profiler._MAX_STACKS", 2)
    times = Times()
    for thread in ("a", "b", "c", "a"):
        times.add(thread, None, 1)
    assert times.spent == {("a", ()): 2, ("b", ()): 1}


def test_the_looking_thread_does_not_look_at_itself() -> None:
    looked: list[Times] = []
    looking = threading.Thread(target=lambda: looked.append(look_around(0.05, threading.Event())), name="looking")
    looking.start()
    looking.join()
    assert "looking" not in {thread for thread, _ in looked[0].spent}
    assert "MainThread" in {thread for thread, _ in looked[0].spent}
