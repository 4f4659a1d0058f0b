"""The groups of backends in force."""

from __future__ import annotations

from vmgw_core.backends import BackendGroup

from .runtime import Runtime


def groups(runtime: Runtime) -> list[BackendGroup]:
    """Those of the policy in force."""
    policy = runtime.policy
    return [] if policy is None else [group for group in (policy.read, policy.write) if group is not None]
