"""Protobuf messages of write bodies, parsed by the protobuf library with partial descriptors.

If a message repeats a submessage, our descriptor declares a single one: parsers then merge them all into one
(https://protobuf.dev/programming-guides/encoding/#last-one-wins), and their lists become one list. So a message is read
without a loop over its series.

An element of a list costs some 30 bytes of memory and may be two bytes of the message. So the number of elements is
bounded beforehand, by the size of the message and the occurrences of their tag byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from vmgw_core.errors import BadBody, BodyTooLarge

_MAX_ELEMENTS: Final = 4_000_000

Classes = Mapping[str, type[Message]]


def message_classes(table: str, package: str, string: str = "string") -> dict[str, type[Message]]:
    """Make the message classes of a table, with lines such as ``TimeSeries: 1 labels map, 2 samples *bytes``.

    A field is a number, a name and a type. ``*`` is "repeated", a type with a capital is another message, and ``map``
    is one from string to bytes. ``string``: the type to use for ``string``. The parser refuses a string that is not
    valid UTF-8.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")

    def add(message: Any, name: str, number: int, kind: str) -> None:  # noqa: ANN401
        label = field.LABEL_REPEATED if kind.startswith("*") or kind == "map" else field.LABEL_OPTIONAL
        added = message.field.add(name=name, number=number, label=label)
        kind = kind.removeprefix("*")
        if kind == "map":
            entry = message.nested_type.add(name=f"{name.title()}Entry")
            entry.options.map_entry = True
            add(entry, "key", 1, "string")
            add(entry, "value", 2, "bytes")
            kind = f"{message.name}.{entry.name}"
        elif kind.islower():
            added.type = field.Type.Value(f"TYPE_{string if kind == 'string' else kind}".upper())
            return
        added.type, added.type_name = field.TYPE_MESSAGE, f".{package}.{kind}"

    for line in table.strip().splitlines():
        name, _, fields = line.partition(": ")
        message = file.message_type.add(name=name)
        for text in fields.split(", "):
            number, field_name, kind = text.split()
            add(message, field_name, int(number), kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{message.name}"))
            for message in file.message_type}  # fmt: skip


def parse(classes: Classes, name: str, data: bytes, *numbers: int) -> Any:  # noqa: ANN401
    """Parse a message. ``numbers``: the numbers of the list fields, whose elements are bounded."""
    if len(data) > 2 * _MAX_ELEMENTS:
        # The tag of a length-delimited field, also in an overlong encoding, which sets the top bit.
        tags = [number << 3 | 2 for number in numbers]
        if sum(data.count(tag) + data.count(tag | 0x80) for tag in tags) > _MAX_ELEMENTS:
            raise BodyTooLarge(f"the message may hold more than {_MAX_ELEMENTS} samples: send it in parts")
    message = classes[name]()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise BadBody(f"the body is not a valid {name} message") from None
    return message
