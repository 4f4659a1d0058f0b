"""Tenants, the subject that a request is counted for, and kinds of access."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

MAX_NUMBER: Final = 2**32 - 1
_TENANT: Final = re.compile(r"(0|[1-9][0-9]{0,9})(?::(0|[1-9][0-9]{0,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TenantID:
    """A tenant of a cluster: two unsigned 32-bit numbers. Raises ``ValueError`` for others."""

    account_id: int = 0
    project_id: int = 0
    name: str = field(init=False, repr=False, compare=False)
    """The tenant as paths spell it: ``1:5``."""

    def __post_init__(self) -> None:
        for number in (self.account_id, self.project_id):
            if isinstance(number, bool) or not 0 <= number <= MAX_NUMBER:
                raise ValueError(f"a tenant is two integers of 0 to {MAX_NUMBER}")
        object.__setattr__(self, "name", f"{self.account_id}:{self.project_id}")

    def __str__(self) -> str:
        return self.name

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``N`` or ``N:P`` in canonical form, as in a cluster path. Raises ``ValueError``."""
        match = _TENANT.fullmatch(text)
        if match is None:
            raise ValueError("a tenant is written accountID or accountID:projectID")
        return cls(int(match[1]), int(match[2] or 0))


MULTITENANT: Final = "multitenant"
"""Replaces the tenant in a cluster path: all tenants, or those that the samples name."""


def tenant_name(tenant: TenantID | None) -> str:
    """Return a tenant as paths spell it: ``1:5``, or ``multitenant`` for None."""
    return MULTITENANT if tenant is None else tenant.name


class Access(enum.StrEnum):
    """How a route uses data."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"


Labels = tuple[tuple[str, str], ...]
"""Names and values, with unique names."""


class Subject(NamedTuple):
    """The verified tenant, and the labels and classes of the token that a request is counted for.

    ``tenant`` None is a ``multitenant`` request, which exists only without ``-enable.auth``.
    """

    tenant: TenantID | None
    labels: Labels = ()
    classes: frozenset[str] = frozenset()
    """The classes of limits that its grants name."""
