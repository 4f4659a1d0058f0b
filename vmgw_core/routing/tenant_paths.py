"""The path of a tenant: the one that a client may name, and the one upstream."""

from __future__ import annotations

from vmgw_core.backends import Backend
from vmgw_core.base import TenantID
from vmgw_core.errors import ForeignTenant

from .path import encode_path
from .routes import MULTITENANT, Match


def check_tenant(match: Match, tenant: TenantID) -> None:
    """A path that names a tenant must name the token's.

    Raises:
        ForeignTenant: it names another.
    """
    if match.tenant is not None and match.tenant != tenant:
        raise ForeignTenant("the path names a tenant that the token does not give access to")


def tenant_labels(tenant: TenantID) -> tuple[tuple[str, str], ...]:
    """The labels that hold ``/select/multitenant/…`` to one tenant. Both are needed.

    https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#multitenancy-via-labels
    """
    return (("vm_account_id", str(tenant.account_id)), ("vm_project_id", str(tenant.project_id)))


def upstream_path(match: Match, tenant: TenantID, backend: Backend, *, cluster: bool) -> str:
    """The canonical path at the backend, percent-encoded, written from the table and not from the client's bytes."""
    name = MULTITENANT if match.multitenant else str(tenant)
    prefix = match.route.cluster_prefix.replace("<tenant>", name) if cluster else match.route.prefix
    return backend.base + encode_path(prefix + match.rest)
