"""The access policy (``-auth.policy``): a file that says which claims of a token grant which access.

Most identity providers cannot issue the nested claim ``vm_access``. With this file, groups, roles and other claims
grant access instead. :func:`read_access_policy` reads it, and :meth:`AccessPolicy.grants` applies it to claims.
"""

from .expressions import Expression, Steps, compile_expression
from .file import read_access_policy
from .policy import AccessPolicy, Entry

__all__ = ["AccessPolicy", "Entry", "Expression", "Steps", "compile_expression", "read_access_policy"]
