"""The protobuf wire format (https://protobuf.dev/programming-guides/encoding/), read without generated code.

For views of bodies that anybody may have sent: whatever is no such message is a ``ValueError``, nothing is copied
twice, and the caller stops reading when it has seen enough.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, "int | bytes"]
"""Field number, wire type, and the value: an int of a varint, the bytes of all others."""


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message in the order they came. Raises ``ValueError``."""
    position, end = 0, len(message)
    while position < end:
        tag, position = varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, position = varint(message, position)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, position = varint(message, position)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError("no protobuf message: an unknown wire type")
        if number == 0 or position + size > end:
            raise ValueError("no protobuf message: a field goes beyond its end")
        yield number, kind, message[position : position + size]
        position += size


def varint(message: bytes, position: int) -> tuple[int, int]:
    """The base 128 varint at ``position``, and where it ends. Raises ``ValueError``."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, position
    raise ValueError("no protobuf message: a number without end")


def children(message: bytes, number: int) -> Iterator[bytes]:
    """The sub-messages, or strings, at the field ``number``. Raises ``ValueError``."""
    for field, kind, value in fields(message):
        if field == number and kind == BYTES and isinstance(value, bytes):
            yield value


def text(message: bytes, number: int) -> str:
    """The string at the field ``number``, empty where there is none. Raises ``ValueError``."""
    return next(children(message, number), b"").decode("utf-8", "replace")


def signed(value: int) -> int:
    """A varint of type int64."""
    return value - (1 << 64) if value >> 63 else value


def double(data: bytes) -> float:
    """A fixed64 of type double. Raises ``ValueError`` for bytes that are none."""
    if len(data) != 8:
        raise ValueError("no protobuf message: a double of another size")
    number: float = struct.unpack("<d", data)[0]
    return number


def fixed(data: bytes, *, sign: bool = False) -> int:
    """A fixed integer."""
    return int.from_bytes(data, "little", signed=sign)
