"""The flags: one table, and what their texts become.

The table feeds the command line, the environment, mitmproxy's options, the page ``/flags`` and docs/flags.md.
"""

from __future__ import annotations

from .command_line import help_text, parse, settings_from_options
from .flag import Flag, Kind
from .page import flags_page, without_credentials
from .settings import Settings
from .table import BY_NAME, FLAGS, option_name
from .values import parse_duration

__all__ = [
    "BY_NAME",
    "FLAGS",
    "Flag",
    "Kind",
    "Settings",
    "flags_page",
    "help_text",
    "option_name",
    "parse",
    "parse_duration",
    "settings_from_options",
    "without_credentials",
]
