"""The tenant in a path: the check of the client's, and the path upstream."""

from __future__ import annotations

from vmgw_core.base import TenantID, tenant_name
from vmgw_core.errors import ForeignTenant

from .path import encode_path
from .routes import Answer, Match


def check_tenant(match: Match, tenant: TenantID) -> None:
    """Check that a path that names a tenant names the token's. Raises ``ForeignTenant`` if it names another tenant."""
    if match.tenant is not None and match.tenant != tenant:
        raise ForeignTenant("the token gives no access to the tenant in the path")


def tenant_labels(tenant: TenantID) -> tuple[tuple[str, str], ...]:
    """Return the labels that limit ``/select/multitenant/…`` to one tenant. Both are needed.

    https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#multitenancy-via-labels
    """
    return (("vm_account_id", str(tenant.account_id)), ("vm_project_id", str(tenant.project_id)))


def upstream_path(match: Match, tenant: TenantID, *, cluster: bool) -> str:
    """Return the canonical path below a backend's URL, percent-encoded and written from the table."""
    name = tenant_name(None if match.multitenant else tenant)
    prefix = match.route.cluster_prefix.replace("<tenant>", name) if cluster else match.route.prefix
    return encode_path(prefix + match.rest)


def answer_path(answer: Answer, match: Match, tenant: TenantID, *, cluster: bool) -> str:
    """Return the path below a backend's URL to ask for what ``answer`` is made of."""
    path = answer.path
    if answer is Answer.TAG_VALUES:
        tag = match.rest.rpartition("/")[2]
        path = path.replace("<tag>", "__name__" if tag == "name" else tag)
    prefix = f"/select/{tenant_name(tenant)}/prometheus" if cluster else ""
    return encode_path(prefix + path)
