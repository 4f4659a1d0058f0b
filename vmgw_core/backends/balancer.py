"""Load balancing between several backends.

Rules of this file:
- choose the least loaded backend that is up; of several, the one that was chosen longest ago. Without any load that is
  the first, so explanations and replays always name the same one;
- a backend that failed is ejected until a probe succeeds; the caller sends the probes;
- if none is up, all are candidates: a failed request costs no more than one that was not tried.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vmgw_core.errors import ConfigurationError

from .backend import Backend
from .histogram import Durations


class Member:
    """One backend of a group, with its load and counters. It survives reloads."""

    __slots__ = ("backend", "durations", "errors", "failing", "load", "requests", "turn", "up")

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.load = 0
        """Requests under way."""
        self.turn = 0
        """The group's turn number when it was last chosen."""
        self.up = True
        """Whether it is chosen: the last request or probe did not find it dead."""
        self.failing = False
        """Whether the last request or probe failed, slow ones included."""
        self.requests = 0
        self.errors = 0
        """Requests without a response in time. A response counts as no error, whatever its status."""
        self.durations = Durations()
        """From the request sent to the head of its response."""

    def begin(self) -> None:
        self.load += 1
        self.requests += 1

    def end(self) -> None:
        self.load -= 1


class BackendGroup:
    """The backends of ``-read.url``, or those of ``-write.url``."""

    __slots__ = ("members", "only", "turns")

    members: tuple[Member, ...]
    turns: int

    def __init__(self, backends: Sequence[Backend], before: BackendGroup | None = None) -> None:
        """Take at least one backend. Members of ``before``, the group that this one replaces, keep their state.

        Raises ``ConfigurationError`` if an address is given twice.
        """
        known = {} if before is None else {member.backend: member for member in before.members}
        self.members = tuple(known.get(backend) or Member(backend) for backend in backends)
        if len({str(backend) for backend in backends}) < len(backends):
            raise ConfigurationError(f"-{backends[0].flag}: the same address is given twice")
        self.only = self.members[0] if len(self.members) == 1 else None
        """The only member, or None if there are several."""
        self.turns = 0 if before is None else before.turns

    @property
    def first(self) -> Backend:
        return self.members[0].backend

    def choose(self, tried: Collection[Member] = ()) -> Member | None:
        """Choose the member for the next request; None if all are in ``tried``."""
        left = [member for member in self.members if member not in tried]
        chosen = min([member for member in left if member.up] or left, key=_preference, default=None)
        if chosen is not None:
            self.turns += 1
            chosen.turn = self.turns
        return chosen


def _preference(member: Member) -> tuple[int, int]:
    return member.load, member.turn
