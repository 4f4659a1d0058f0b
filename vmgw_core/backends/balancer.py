"""Which of several backends a request goes to.

Rules of this file:
- the least loaded of those that are up; of several, the one that was chosen longest ago. Where nothing is known of
  any, that is the first, so that explanations and replays always tell of the same one;
- one that failed is set aside until it answers again: whoever uses this probes it;
- where none is up, all are: a request that fails costs less than one that was not tried.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vmgw_core.errors import ConfigurationError

from .backend import Backend
from .histogram import Durations


class Member:
    """One backend of a group, with what is known of it. It stays the same object over reloads."""

    __slots__ = ("backend", "durations", "errors", "load", "requests", "turn", "up")

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.load = 0
        """Requests under way."""
        self.turn = 0
        """When it was last chosen, as a number of the group's."""
        self.up = True
        """Whether the last that was heard of it was an answer."""
        self.requests = 0
        self.errors = 0
        """Requests it gave no answer to, or none in time: what it answers is no error here."""
        self.durations = Durations()
        """From a request sent to the head of its answer."""

    def begin(self) -> None:
        """A request goes there."""
        self.load += 1
        self.requests += 1

    def end(self) -> None:
        """A request that went there has ended, in whatever way."""
        self.load -= 1


class BackendGroup:
    """The backends of ``-read.url``, or those of ``-write.url``."""

    __slots__ = ("members", "only", "turns")

    members: tuple[Member, ...]
    turns: int

    def __init__(self, backends: Sequence[Backend], before: BackendGroup | None = None) -> None:
        """
        Args:
            backends: at least one.
            before: the group that this one takes the place of; what is known of its members goes on.

        Raises:
            ConfigurationError: an address is there twice.
        """
        known = {} if before is None else {member.backend: member for member in before.members}
        self.members = tuple(known.get(backend) or Member(backend) for backend in backends)
        if len({str(backend) for backend in backends}) < len(backends):
            raise ConfigurationError(f"-{backends[0].flag}: the same address is there twice")
        self.only = self.members[0] if len(self.members) == 1 else None
        """The member of a group of one: there is nothing to choose."""
        self.turns = 0 if before is None else before.turns

    @property
    def first(self) -> Backend:
        """The one that is chosen where nothing is known of any."""
        return self.members[0].backend

    def choose(self, tried: Collection[Member] = ()) -> Member | None:
        """The member for the next request; None where all are among those ``tried``."""
        left = [member for member in self.members if member not in tried]
        chosen = min([member for member in left if member.up] or left, key=_preference, default=None)
        if chosen is not None:
            self.turns += 1
            chosen.turn = self.turns
        return chosen


def _preference(member: Member) -> tuple[int, int]:
    return member.load, member.turn
