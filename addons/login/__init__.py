"""Login in the browser: the pages under ``/-/``, and what is asked of the identity provider.

The rules are in ``vmgw_core.login``.
"""

from __future__ import annotations

from .pages import LoginPages

__all__ = ["LoginPages"]
