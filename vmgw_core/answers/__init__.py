"""Answers of a backend that ignores a token's tenant, labels or filters, cut down to what belongs to the token.

A :class:`Filter` says what to ask the backend in place of the client's request (:meth:`Filter.target`), and makes
the client's answer of what the backend answered (:meth:`Filter.apply`). What is not known to belong to the token is
left out: every member of the answer is listed here.
"""

from .filter import DROPPED_HEADERS, HEADER, Filter, Filtered, VisibleNames, read_names
from .held import HeldBytes
from .ownership import RulesTenant
from .rules import RuleFilter, rule_filter

__all__ = [
    "DROPPED_HEADERS", "HEADER", "Filter", "Filtered", "HeldBytes", "RuleFilter", "RulesTenant", "VisibleNames",
    "read_names", "rule_filter",
]  # fmt: skip
