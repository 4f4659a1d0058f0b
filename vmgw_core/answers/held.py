"""The memory that filtered answers take while they arrive."""

from __future__ import annotations

from vmgw_core.errors import AnswerTooLarge, Overloaded

_ALL: int = 4
"""How many of the largest answers may be held at once."""


class HeldBytes:
    """Counts the bytes of all answers that are being collected.

    Args:
        largest: the bytes of the largest answer (``-response.maxFilterBytes``).
    """

    __slots__ = ("largest", "used")

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.used = 0

    def take(self, held: int, size: int) -> None:
        """Count ``size`` more bytes of an answer of which ``held`` bytes are there.

        Raises:
            AnswerTooLarge: the answer is larger than the largest one.
            Overloaded: all answers together take too much memory.
        """
        if held + size > self.largest:
            raise AnswerTooLarge(
                f"the backend's answer is larger than {self.largest} bytes (-response.maxFilterBytes), "
                "so it cannot be limited to the token"
            )
        if self.used + size > _ALL * self.largest:
            raise Overloaded("the gateway holds as many answers as it may (-response.maxFilterBytes): retry later")
        self.used += size

    def give_back(self, size: int) -> None:
        """The answer is sent, or the request has ended."""
        self.used -= size
