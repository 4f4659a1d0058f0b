"""For mitmproxy and mitmweb only: decisions next to flows, commands, and bodies that stay visible.

Only ``Explanation`` is loaded at start. It loads the other modules in these two programs.
"""

from __future__ import annotations

from .explanation import Explanation

__all__ = [
    "Explanation",
]
