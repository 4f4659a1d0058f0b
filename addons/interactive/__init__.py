"""For mitmproxy and mitmweb alone: decisions beside the flows, commands, and bodies that stay visible.

Only ``Explanation`` is loaded at start. It loads the other modules if somebody looks at flows.
"""

from __future__ import annotations

from .explanation import Explanation

__all__ = [
    "Explanation",
]
