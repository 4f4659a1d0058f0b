"""Counters of the samples in write bodies, in every format that VictoriaMetrics accepts, and checks of label names.

``dispatch`` chooses the counter of a route; each other module has one family of formats. Memory is bounded.
"""

from .dispatch import row_counter
from .labels.series import Series
from .labels.tenants import names_tenant
from .meter import RowMeter

__all__ = ["RowMeter", "Series", "names_tenant", "row_counter"]
