"""How many samples a body carries, counted while it streams, in every format that VictoriaMetrics accepts.

``dispatch`` chooses the counter for a route; the other modules hold one family of formats each. Memory is bounded.
"""

from __future__ import annotations

from .dispatch import row_counter
from .meter import RowMeter

__all__ = [
    "RowMeter",
    "row_counter",
]
