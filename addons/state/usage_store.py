"""The interface of the place where the usage report is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from vmgw_core.usage import Amounts, Key, Question, Report

T = TypeVar("T")


class UsageStore(Protocol):
    """Keeps amounts by hour, tenant and subject. Several processes add to one store.

    Its methods raise ``StateError``, which says why the store cannot be used.
    """

    name: str
    """The flag of the store."""

    async def add(self, batch: str, amounts: Mapping[Key, Amounts], retention: int) -> None:
        """Add amounts, all or none of them. If the last ``batch`` comes again, it is not added once more.

        Args:
            retention: hours that they are kept.
        """

    async def tidy(self, hour: int, retention: int) -> None:
        """Sum up what is old, and remove what is older than ``retention`` hours; ``hour`` is the present one."""

    async def read(self, question: Question, hour: int, make: Callable[[Report], T]) -> T:
        """Return what ``make`` makes of the answer, in a thread. Raises ``TooLong``. ``hour`` is the present one."""

    async def close(self) -> None:
        """Close the connections."""
