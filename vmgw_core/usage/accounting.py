"""Who used what: amounts by hour (UTC), tenant and subject. Memory is bounded.

Of each hour, up to ``most`` pairs of tenant and subject are counted apart. Further subjects of a tenant are counted
together, for up to as many tenants; all the rest is one pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

OTHER: Final = "(other)"
"""The subject of those that are counted together, and their tenant if that is not known apart."""
LONGEST: Final = 200
"""Characters of a subject; what is longer is cut."""
HOURS_WAITING: Final = 24
"""For that many hours with ``most`` pairs, what cannot be kept waits in memory apart."""
HOUR: Final = 3600


class Key(NamedTuple):
    """Whose amounts, and when: ``hour`` is the number of hours since 1970 (UTC)."""

    hour: int
    tenant: str
    subject: str


@dataclass(slots=True)
class Amounts:
    """What was used."""

    queries: int = 0
    """Reads that were not refused, without the files of vmui."""
    rows: int = 0
    """Rows of writes that were passed on."""
    bytes_in: int = 0
    """Of the content of requests, as sent."""
    bytes_out: int = 0
    """Of the content of responses, as sent."""
    seconds: float = 0.0
    """From the heads of requests to the ends of their responses."""
    series_fetched: int = 0
    """Series that VictoriaMetrics read for queries, as far as it says so."""
    refusals: int = 0
    """Requests that the gateway refused."""

    def add(self, other: Amounts) -> None:
        self.queries += other.queries
        self.rows += other.rows
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.seconds += other.seconds
        self.series_fetched += other.series_fetched
        self.refusals += other.refusals

    def values(self) -> tuple[int | float, ...]:
        """Return the amounts in the order of ``NAMES``."""
        return (
            self.queries, self.rows, self.bytes_in, self.bytes_out, self.seconds, self.series_fetched, self.refusals,
        )  # fmt: skip


NAMES: Final = tuple(field.name for field in fields(Amounts))
"""The names of the amounts."""


class Accounting:
    """Counts, until what is new is taken away to be kept."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self._hour = -1
        self._known: dict[tuple[str, str | None], Key] = {}
        self._tenants: dict[str, Key] = {}
        self._new: dict[Key, Amounts] = {}

    def of(self, tenant: str, subject: str | None, now: float) -> Amounts:
        """Return what a request that ends at the Unix time ``now`` must be added to. ``subject`` None: it has none."""
        hour = int(now // HOUR)
        if subject is not None:
            subject = subject[:LONGEST]  # before it is kept: a token may have a long one
        if hour != self._hour:
            self._hour = hour
            self._known.clear()
            self._tenants.clear()
        key = self._known.get((tenant, subject)) or self._key(tenant, subject)
        amounts = self._new.get(key)
        if amounts is None:
            amounts = self._new[key] = Amounts()
        return amounts

    def take(self) -> Mapping[Key, Amounts]:
        """Return what was counted since the last call."""
        new, self._new = self._new, {}
        return new

    def give_back(self, amounts: Mapping[Key, Amounts]) -> None:
        """Take back what :meth:`take` returned and nobody kept. Beyond a bound, the rest of an hour is one sum."""
        for key, each in amounts.items():
            if key not in self._new and len(self._new) >= HOURS_WAITING * self.most:
                key = Key(key.hour, OTHER, OTHER)
            self._new.setdefault(key, Amounts()).add(each)

    def _key(self, tenant: str, subject: str | None) -> Key:
        if len(self._known) < self.most:
            text = "" if subject is None else subject.encode("utf-8", "replace").decode()
            key = self._known[tenant, subject] = Key(self._hour, tenant, text)
            return key
        if tenant not in self._tenants and len(self._tenants) < self.most:
            self._tenants[tenant] = Key(self._hour, tenant, OTHER)
        return self._tenants.get(tenant) or Key(self._hour, OTHER, OTHER)
