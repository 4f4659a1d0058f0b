"""The flags: their table, their parsing and their pages.

The table feeds the command line, the environment, mitmproxy's options, the page ``/flags`` and docs/flags.md.
"""

from .command_line import help_text, parse, settings_from_options
from .flag import Flag, Kind
from .flags_file import FlagsFile, read_flags_file
from .needs import check_given, check_needs
from .page import flags_page
from .settings import ClientTLS, Settings
from .table import BY_NAME, FLAGS, option_name
from .values import parse_duration

__all__ = [
    "BY_NAME", "FLAGS", "ClientTLS", "Flag", "FlagsFile", "Kind", "Settings", "check_given", "check_needs",
    "flags_page", "help_text", "option_name", "parse", "parse_duration", "read_flags_file", "settings_from_options",
]  # fmt: skip
