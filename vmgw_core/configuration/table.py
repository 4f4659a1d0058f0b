"""The flags of ``Settings``, by name, and what else names them: options, variables and docs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from .flag import Flag
from .settings import Settings
from .values import Value


def _flags() -> Iterator[Flag]:
    group = ""
    for field in fields(Settings):
        flag: Flag = field.metadata["flag"]
        group = flag.group or group
        yield replace(flag, group=group)


FLAGS: Final = tuple(_flags())
BY_NAME: Final[Mapping[str, Flag]] = {flag.name: flag for flag in FLAGS}

_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def option_name(flag: Flag) -> str:
    """Return the mitmproxy option of a flag: ``vmgw_`` and the name in snake case, with acronyms as one word."""
    return "vmgw_" + _WORD_START.sub("_", flag.name).replace(".", "_").lower()


def variable_name(flag: Flag, prefix: str = "") -> str:
    """Return the environment variable of a flag: its name with underscores for dots, as in VictoriaMetrics."""
    return prefix + flag.name.replace(".", "_")


def settings_of(values: Mapping[str, Value]) -> Settings:
    """Return the settings with ``values`` by the names of their flags, and the defaults of all others."""
    named: dict[str, Any] = {_field_name(BY_NAME[name]): value for name, value in values.items()}
    return Settings(**named)


def value_of(flag: Flag, settings: Settings) -> Value:
    value: Value = getattr(settings, _field_name(flag))
    return value


def _field_name(flag: Flag) -> str:
    return option_name(flag).removeprefix("vmgw_")


def description(flag: Flag) -> str:
    """Return the help of a flag, with the reason if it has no effect."""
    return f"{flag.help} Accepted without effect: {flag.effect}." if flag.effect else flag.help


def markdown_table() -> str:
    """Return the table of flags for docs/flags.md, with a newline at its end."""
    lines = ["| Flag | Type | Default | What it does |", "|---|---|---|---|"]
    for flag in FLAGS:
        default = f"`{flag.default_text}`" if flag.default_text else ""
        text = description(flag).replace("|", "\\|")
        lines.append(f"| `-{flag.name}` | {flag.kind.value} | {default} | {text} |")
    return "\n".join(lines) + "\n"
