"""The settings in force: the value of each flag."""

from __future__ import annotations

from collections.abc import Mapping

Settings = Mapping[str, object]
"""Flag name to parsed value, as :mod:`vmgw_core.configuration.command_line` returns them."""
