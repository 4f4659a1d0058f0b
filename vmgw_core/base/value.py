"""Values that are made for every request: plain classes, which are cheaper to make than dataclasses and tuples."""

from __future__ import annotations


class Value:
    """Two values of one class are equal if all their fields are. Fields are never changed."""

    __slots__ = ()

    def fields(self) -> tuple[object, ...]:
        """Return everything that makes up the value."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and type(self) is type(other) and self.fields() == other.fields()

    def __hash__(self) -> int:
        return hash(self.fields())

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.fields()!r}"
