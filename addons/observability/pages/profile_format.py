"""The pprof format: gzipped protobuf, for ``go tool pprof`` and https://www.speedscope.app."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from vmgw_core.rows.messages import message_classes

# https://github.com/google/pprof/blob/main/proto/profile.proto. An int64 for a string is its index in the string table.
_CLASSES: Final = message_classes(
    """
Profile: 1 sample_type *ValueType, 2 sample *Sample, 4 location *Location, 5 function *Function, 6 string_table *bytes, 9 time_nanos int64, 10 duration_nanos int64, 11 period_type ValueType, 12 period int64, 14 default_sample_type int64
ValueType: 1 type int64, 2 unit int64
Sample: 1 location_id *uint64, 2 value *int64, 3 label *Label
Label: 1 key int64, 2 str int64
Location: 1 id uint64, 4 line *Line
Line: 1 function_id uint64, 2 line int64
Function: 1 id uint64, 2 name int64, 3 system_name int64, 4 filename int64, 5 start_line int64
""",  # noqa: E501
    "profile",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One line of a stack."""

    function: str
    file: str
    first_line: int
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Nanoseconds that a thread spent at one stack (innermost call first)."""

    thread: str
    stack: tuple[Call, ...]
    cpu: int
    wall: int


def encode(samples: Iterable[Sample], began: int, duration: float, interval: float) -> bytes:
    """Encode a profile.

    Args:
        began: Unix time in nanoseconds.
        duration: seconds.
        interval: seconds between two samples.
    """
    profile: Any = _CLASSES["Profile"](time_nanos=began, duration_nanos=int(duration * 1e9), period=int(interval * 1e9))
    table = _Table(profile)
    for name in ("cpu", "wall"):
        profile.sample_type.add(type=table.string(name), unit=table.string("nanoseconds"))
    profile.period_type.CopyFrom(profile.sample_type[0])
    profile.default_sample_type = table.string("cpu")
    for sample in samples:
        table.sample(sample)
    profile.string_table.extend(text.encode("utf-8", "replace") for text in table.strings)
    return gzip.compress(profile.SerializeToString())


class _Table:
    """Numbers strings, functions and locations; the latter two from 1."""

    def __init__(self, profile: Any) -> None:  # noqa: ANN401
        self.profile = profile
        self.strings = {"": 0}
        self.functions: dict[tuple[str, str, int], int] = {}
        self.locations: dict[Call, int] = {}

    def string(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def sample(self, sample: Sample) -> None:
        label = {"key": self.string("thread"), "str": self.string(sample.thread)}
        locations = [self.location(call) for call in sample.stack]
        self.profile.sample.add(location_id=locations, value=[sample.cpu, sample.wall], label=[label])

    def location(self, call: Call) -> int:
        number = self.locations.setdefault(call, len(self.locations) + 1)
        if number > len(self.profile.location):
            line = {"function_id": self.function(call), "line": call.line}
            self.profile.location.add(id=number, line=[line])
        return number

    def function(self, call: Call) -> int:
        key = (call.function, call.file, call.first_line)
        number = self.functions.setdefault(key, len(self.functions) + 1)
        if number > len(self.profile.function):
            name, file = self.string(call.function), self.string(call.file)
            self.profile.function.add(id=number, name=name, system_name=name, filename=file, start_line=call.first_line)
        return number
