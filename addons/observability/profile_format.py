"""pprof's format: a gzipped protocol buffer, which ``go tool pprof`` and https://www.speedscope.app open.

Written out by hand, field by field, as
https://github.com/google/pprof/blob/main/proto/profile.proto has them: three dozen lines, against a generated module.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One line of a stack."""

    function: str
    file: str
    first_line: int
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a thread spent at one stack (the innermost call first), in nanoseconds."""

    thread: str
    stack: tuple[Call, ...]
    cpu: int
    wall: int


def encode(samples: Iterable[Sample], began: int, duration: float, interval: float) -> bytes:
    """The profile.

    Args:
        began: Unix time in nanoseconds.
        duration: seconds.
        interval: seconds between two looks.
    """
    table = _Table()
    body = b"".join(table.sample(sample) for sample in samples)
    types = [("cpu", "nanoseconds"), ("wall", "nanoseconds")]
    head = b"".join(_message(1, table.value_type(*pair)) for pair in types)
    tail = _varint(9, began) + _varint(10, int(duration * 1e9))
    tail += _message(11, table.value_type("cpu", "nanoseconds")) + _varint(12, int(interval * 1e9))
    tail += _varint(14, table.string("cpu"))
    strings = b"".join(_message(6, text.encode("utf-8", "replace")) for text in table.strings)
    return gzip.compress(head + body + b"".join(table.definitions) + strings + tail)


class _Table:
    """Strings, functions and locations by number; a location and a function are numbered from 1."""

    def __init__(self) -> None:
        self.strings = {"": 0}
        self.functions: dict[tuple[str, str, int], int] = {}
        self.locations: dict[Call, int] = {}
        self.definitions: list[bytes] = []

    def string(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def value_type(self, name: str, unit: str) -> bytes:
        return _varint(1, self.string(name)) + _varint(2, self.string(unit))

    def sample(self, sample: Sample) -> bytes:
        locations = b"".join(_number(self.location(call)) for call in sample.stack)
        values = b"".join(_number(value) for value in (sample.cpu, sample.wall))
        label = _varint(1, self.string("thread")) + _varint(2, self.string(sample.thread))
        return _message(2, _message(1, locations) + _message(2, values) + _message(3, label))

    def location(self, call: Call) -> int:
        number = self.locations.get(call)
        if number is None:
            number = self.locations[call] = len(self.locations) + 1
            line = _varint(1, self.function(call)) + _varint(2, call.line)
            self.definitions.append(_message(4, _varint(1, number) + _message(4, line)))
        return number

    def function(self, call: Call) -> int:
        key = (call.function, call.file, call.first_line)
        number = self.functions.get(key)
        if number is None:
            number = self.functions[key] = len(self.functions) + 1
            name, file = self.string(call.function), self.string(call.file)
            fields = _varint(1, number) + _varint(2, name) + _varint(3, name) + _varint(4, file)
            self.definitions.append(_message(5, fields + _varint(5, call.first_line)))
        return number


def _number(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _varint(field: int, value: int) -> bytes:
    return _number(field << 3) + _number(value)


def _message(field: int, content: bytes) -> bytes:
    return _number(field << 3 | 2) + _number(len(content)) + content
