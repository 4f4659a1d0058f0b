"""The alternatives of a token on one path, combined to one claim.

A series belongs to the token if one of its grants allows it. VictoriaMetrics ANDs labels and ORs filters, so what all
grants have in common stays a label, and the rest of each grant becomes a filter.

On ``/select/multitenant/…`` it reads the tenant labels of all filters as one list of tenants, and applies the rest of
all filters to each of them (``splitFiltersByType`` in ``app/vmselect/netstorage`` of v1.150). So grants for several
tenants are only combined there if they differ in nothing else: the labels of one tenant would widen the other.

On ``/insert/multitenant/…`` each row names its tenant in its labels, which ``vmgw_core.rows`` checks, and all rows get
the same ``extra_label``. So there all grants must have the same labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from vmgw_core.base import Access, Labels, TenantID
from vmgw_core.errors import AccessDenied
from vmgw_core.routing import Match, tenant_labels
from vmgw_core.rows import names_tenant
from vmgw_core.tokens import Grants, Matcher, Selector, VMAccessClaim, parse_selector

_MAX_FILTERS: Final = 64


def claim_for(grants: Grants, match: Match, *, cluster: bool) -> VMAccessClaim:
    """Return what ``grants`` allow on the path, as one claim.

    Raises:
        AccessDenied: nothing, or something that VictoriaMetrics cannot be told.
        ForeignTenant: the path names another tenant.
    """
    access = match.route.access
    claims = [claim for claim in grants.alternatives if claim.mode.allows(access)]
    if not claims:
        raise AccessDenied(f"the token gives no {access} access")
    if match.multitenant:
        if access is not Access.READ:
            return _of_all_written(claims)
        # Each grant is applied to rules by itself, whichever tenant is asked.
        lists_rules = match.route.answer is not None and match.route.answer.lists_rules
        return claims[0] if lists_rules else _of_all_tenants(claims)
    return _combined(_of_tenant(claims, match.tenant, cluster=cluster), access)


def _of_tenant(claims: Sequence[VMAccessClaim], named: TenantID | None, *, cluster: bool) -> Sequence[VMAccessClaim]:
    """Return the claims of the tenant that the path names. If it names none, they must all be of one tenant."""
    if named is not None:
        found = [claim for claim in claims if claim.tenant == named]
        return found or claims[:1]  # a foreign tenant, which is refused later
    if len({claim.tenant for claim in claims}) > 1:
        where = "the path must name one, as in /select/<tenant>/prometheus" if cluster else "-clusterMode is not set"
        raise AccessDenied(f"the token gives access to several tenants: {where}")
    return claims


def _of_all_tenants(claims: Sequence[VMAccessClaim]) -> VMAccessClaim:
    """Return the claim for a path of all tenants: labels, or filters, limit it to those of the token."""
    combined = [
        _combined([claim for claim in claims if claim.tenant == tenant], Access.READ)
        for tenant in dict.fromkeys(claim.tenant for claim in claims)
    ]
    first, *others = combined
    if not others:
        return replace(first, labels=first.labels + tenant_labels(first.tenant))
    if len({(frozenset(claim.labels), frozenset(claim.filters)) for claim in combined}) > 1:
        raise AccessDenied(
            "the token's tenants have different labels or filters, which VictoriaMetrics cannot apply to each of them: "
            "ask for one tenant, as in /select/<tenant>/prometheus"
        )
    tenants = [_matchers(tenant_labels(claim.tenant)) for claim in combined]
    filters = [text for tenant in tenants for text in _selectors(tenant, first.filters)]
    return replace(first, filters=_checked(filters))


def _of_all_written(claims: Sequence[VMAccessClaim]) -> VMAccessClaim:
    """Return the claim for a write whose rows name their tenants: all get the same labels."""
    claim = claims[0]
    if any(frozenset(each.labels) != frozenset(claim.labels) for each in claims):
        raise AccessDenied(
            "the token's grants have different labels, and a write for several tenants can get the labels of one only: "
            "write to each tenant, as in /insert/<tenant>/prometheus"
        )
    if any(names_tenant(name) for name, _ in claim.labels):
        raise AccessDenied(
            "a label of the token would name the tenant of each row: write to /insert/<tenant>/prometheus"
        )
    return claim


def _combined(claims: Sequence[VMAccessClaim], access: Access) -> VMAccessClaim:
    """Return one claim for several of one tenant."""
    first = claims[0]
    if len(claims) == 1:
        return first
    if access is Access.WRITE:
        if len({frozenset(claim.labels) for claim in claims}) > 1:
            raise AccessDenied(
                "the token has several grants with different labels, and a write can get the labels of one only"
            )
        return first
    common: Labels = tuple(pair for pair in first.labels if all(pair in claim.labels for claim in claims))
    filters: list[str] = []
    for claim in claims:
        rest = _matchers(tuple(pair for pair in claim.labels if pair not in common))
        if not rest and not claim.filters:  # this grant allows all that the others do
            return replace(first, labels=common, filters=())
        filters += _selectors(rest, claim.filters)
    return replace(first, labels=common, filters=_checked(filters))


def _matchers(labels: Labels) -> tuple[Matcher, ...]:
    return tuple(Matcher(name=name, operator="=", value=value) for name, value in labels)


def _selectors(labels: tuple[Matcher, ...], filters: Sequence[str]) -> Iterator[str]:
    """Yield selectors of which one must match: those labels, and one of the filters."""
    if not filters:
        yield Selector(alternatives=(labels,)).written()
    for text in filters:
        for matchers in parse_selector(text).alternatives:
            yield Selector(alternatives=((*labels, *matchers),)).written()


def _checked(filters: Sequence[str]) -> tuple[str, ...]:
    unique = tuple(dict.fromkeys(filters))
    if len(unique) > _MAX_FILTERS:
        raise AccessDenied(f"the token's grants need more than {_MAX_FILTERS} filters")
    return unique
