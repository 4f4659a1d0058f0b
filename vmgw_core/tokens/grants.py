"""What a token grants: one claim, or several that are alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from vmgw_core.base import Labels, TenantID, text_bytes

from .claims import VMAccessClaim

_GRANTS_BYTES: Final = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """The alternatives of a token: a series belongs to it if one of them allows it."""

    alternatives: tuple[VMAccessClaim, ...]
    """At least one."""
    sources: tuple[str, ...] = ()
    """The entries of the access policy that matched; empty if the token's own ``vm_access`` grants."""
    memory: int = field(init=False, repr=False, compare=False)
    """The approximate bytes of memory that they take."""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        claims = sum(claim.memory for claim in self.alternatives)
        object.__setattr__(self, "memory", _GRANTS_BYTES + text_bytes(*self.sources) + claims)
        object.__setattr__(self, "_hash", hash((self.alternatives, self.sources)))

    def __hash__(self) -> int:
        return self._hash  # they are looked up for every request

    @classmethod
    def from_claims(cls, claims: Mapping[str, object]) -> Self:
        """Read ``vm_access``. Raises ``InvalidClaims``."""
        return cls(alternatives=(VMAccessClaim.from_claims(claims),))

    @property
    def tenants(self) -> tuple[TenantID, ...]:
        """The tenants, each once, in the order of the alternatives."""
        return tuple(dict.fromkeys(claim.tenant for claim in self.alternatives))

    @property
    def labels(self) -> Labels:
        """The labels that all alternatives have: limits count by them."""
        first, *others = self.alternatives
        return tuple(pair for pair in first.labels if all(pair in claim.labels for claim in others))

    def limit_classes(self, tenant: TenantID | None = None) -> frozenset[str]:
        """The classes of limits that the grants for ``tenant`` name, or all grants; the limits of each hold."""
        named = (claim.limit_class for claim in self.alternatives if tenant is None or claim.tenant == tenant)
        return frozenset(name for name in named if name)
