"""The last refusals: a few of all, and a few of each holder of a token. Memory is bounded."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from vmgw_core.tokens import Token

MOST: Final = 50
"""Refusals that are kept of all."""
MOST_OF_HOLDER: Final = 10
MOST_HOLDERS: Final = 500
_LONGEST: Final = 300  # characters of a text


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A refused or failed request. ``at`` is Unix time; ``path`` has no arguments. Texts are cut."""

    at: float
    method: str
    path: str
    status: int
    code: str
    message: str
    client: str
    tenant: str | None
    subject: str | None

    def cut(self) -> Decision:
        """Return the same with bounded texts."""
        return Decision(
            at=self.at,
            method=self.method[:20],
            path=self.path[:_LONGEST],
            status=self.status,
            code=self.code,
            message=self.message[:_LONGEST],
            client=self.client[:_LONGEST],
            tenant=None if self.tenant is None else self.tenant[:_LONGEST],
            subject=None if self.subject is None else self.subject[:_LONGEST],
        )


class Decisions:
    """Keeps the last refusals."""

    def __init__(self) -> None:
        self._all: deque[Decision] = deque(maxlen=MOST)
        self._holders: OrderedDict[bytes, deque[Decision]] = OrderedDict()

    def note(self, decision: Decision, of: bytes | None) -> None:
        """Keep a refusal. ``of``: the :func:`holder` of its token, None without a good one."""
        decision = decision.cut()
        self._all.append(decision)
        if of is None:
            return
        if of not in self._holders and len(self._holders) >= MOST_HOLDERS:
            self._holders.popitem(last=False)
        self._holders.setdefault(of, deque(maxlen=MOST_OF_HOLDER)).append(decision)
        self._holders.move_to_end(of)

    def last(self) -> Sequence[Decision]:
        """Return those of all, the newest first."""
        return tuple(reversed(self._all))

    def of(self, of: bytes) -> Sequence[Decision]:
        """Return those of one holder, the newest first."""
        return tuple(reversed(self._holders.get(of, ())))


def written(decisions: Iterable[Decision]) -> bytes:
    """Write refusals for another process of the same gateway, which reads them with :func:`merged`."""
    return json.dumps([asdict(each) for each in decisions]).encode()


def merged(*lists: bytes) -> Sequence[Decision]:
    """Return the refusals of one holder that several processes have written, the newest first."""
    found = [Decision(**each) for text in lists for each in json.loads(text)]
    return sorted(found, key=lambda each: each.at, reverse=True)[:MOST_OF_HOLDER]


def holder(token: Token, text: object) -> bytes:
    """Return what tells the holder of ``token`` from all others; ``text`` is the token as it was sent, or None.

    It is the issuer and the subject, together with what is granted: an issuer may name the agents of all its customers
    alike. A token without a subject stands for itself.
    """
    who = text if token.subject is None else (token.issuer, token.credential, token.subject)
    return hashlib.sha256(repr((who, token.grants)).encode("utf-8", "surrogatepass")).digest()
