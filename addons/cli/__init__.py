"""The ``vmgateway`` command and its sub-commands.

``main`` loads a sub-command when it is asked for, so this package imports nothing by itself.
"""

from __future__ import annotations

__all__: list[str] = []
