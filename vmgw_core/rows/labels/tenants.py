"""The tenants of rows in a write for all tenants, ``/insert/multitenant/…``.

A row belongs to the tenant that its labels ``vm_account_id`` and ``vm_project_id`` name; a missing one is 0. vminsert
takes them out of the row (https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#multitenancy-via-labels).

Rules of this file:
- every row must name a tenant that the token grants, in a way that every release and setting of vminsert reads alike:
  each of the two labels once, spelled exactly so, with a decimal number. vminsert takes the last one of several, and 0
  for other texts; with ``-usePromCompatibleNaming`` it makes ``vm_account_id`` of ``vm.account-id``;
- the URL must not add such labels: vminsert adds ``extra_label`` after those of the body, where it wins;
- metadata (``# HELP``) has no labels: vminsert stores it for 0:0, unless remote write names a tenant for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from vmgw_core.base import TenantID
from vmgw_core.errors import ForeignTenant
from vmgw_core.http import RequestHead, decoded_key, split_pairs
from vmgw_core.routing import decode_path
from vmgw_core.rows.names import grouping_names, shown

Row = Iterable[tuple[bytes, bytes | None]]
"""Names and values of labels. The value None is one that VictoriaMetrics may read in several ways."""

_PLACES: Final = {b"vm_account_id": 0, b"vm_project_id": 1}
_OTHER: Final = b"[^a-z0-9]*+"
_WORDS: Final = (b"vmaccountid", b"vmprojectid", b"victoriametricsaccountid", b"victoriametricsprojectid")
# Older spellings, and what becomes one of these names if other characters are replaced or removed.
_ALIKE: Final = re.compile(
    b"%b(?:%b)%b" % (_OTHER, b"|".join(_OTHER.join(bytes([code]) for code in word) for word in _WORDS), _OTHER),
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(rb"0|[1-9][0-9]{0,9}")


def names_tenant(name: str | bytes) -> bool:
    """Return whether a label with this name may choose the tenant of a row."""
    return _ALIKE.fullmatch(name.encode("utf-8", "replace") if isinstance(name, str) else name) is not None


def unclear(what: str) -> ForeignTenant:
    """Return the refusal of a row whose tenant cannot be told."""
    return ForeignTenant(f"the tenant of a row cannot be told: {what}")


@dataclass(frozen=True, slots=True)
class Tenants:
    """The tenants that the rows of a request may be for."""

    granted: frozenset[TenantID]

    def check_rows(self, rows: Iterable[Row]) -> None:
        """Check the tenant of each row. Raises ``ForeignTenant``."""
        for row in rows:
            self.check(_tenant(row))

    def check(self, tenant: TenantID, what: str = "a row") -> None:
        """Check one tenant. Raises ``ForeignTenant``."""
        if tenant not in self.granted:
            raise ForeignTenant(
                f"{what} is for tenant {tenant}, to which the token gives no write access: rows name their tenant in "
                "the labels vm_account_id and vm_project_id; without them it is 0:0"
            )

    def check_default(self, what: str) -> None:
        """Check that the token grants 0:0, the tenant of ``what``. Raises ``ForeignTenant``."""
        self.check(TenantID(), what)


def _tenant(row: Row) -> TenantID:
    found: list[int | None] = [None, None]
    for name, value in row:
        place = _PLACES.get(name)
        if place is None:
            if _ALIKE.fullmatch(name):
                raise unclear(f"write vm_account_id and vm_project_id, not {shown(name)}")
            continue
        if found[place] is not None:
            raise unclear(f"it has the label {name.decode()} twice")
        if value is None or (value and not _NUMBER.fullmatch(value)):
            raise unclear(f"{name.decode()} is no plain decimal number")
        found[place] = int(value or b"0")
    try:
        return TenantID(found[0] or 0, found[1] or 0)
    except ValueError:
        raise unclear("vm_account_id or vm_project_id has more than 32 bits") from None


def check_url(head: RequestHead) -> None:
    """Check that the URL adds no label that names a tenant. Raises ``ForeignTenant``."""
    raw, _, query = head.target.partition("?")
    names: list[str | bytes] = list(grouping_names(decode_path(raw)))
    for pair in split_pairs(query, "URL") if query else ():
        if decoded_key(pair) == "extra_label":
            value = unquote_to_bytes(pair.partition("=")[2].replace("+", " "))
            names.append(value.partition(b"=")[0])
    for name in names:
        if names_tenant(name):
            raise unclear(f"the URL may not add the label {shown(name)}: put it into each row")
