"""The gateway's options of mitmproxy, as ``--set`` and ``config.yaml`` give them.

mitmproxy keeps options that it does not know yet, converts them once a script has declared them, and says nothing of
those that nobody declares. A value that it cannot convert ends the loading of the script, and mitmproxy goes on as a
proxy without it. So the gateway checks and converts its options itself, before mitmproxy does.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Final

from vmgw_addons._mitmproxy import Options, deferred_options, given_texts
from vmgw_core.base import printable
from vmgw_core.configuration import BY_NAME, FLAGS, Flag, Kind, option_name
from vmgw_core.errors import ConfigurationError

OPTION_TYPES: Final[dict[Kind, Any]] = {Kind.BOOL: bool, Kind.INT: int, Kind.ARRAY: Sequence[str]}
"""The types of options in mitmproxy; all others are texts."""

_FLAGS: Final = {option_name(flag): flag for flag in FLAGS}


def default_of(flag: Flag) -> object:
    """Return the default of the option of ``flag``."""
    if flag.kind in (Kind.BOOL, Kind.INT):
        return flag.default
    return list(flag.default) if isinstance(flag.default, tuple) else flag.default_text


def convert_deferred(options: Options) -> frozenset[str]:
    """Convert the given options of the gateway, in place. Return the names of their flags.

    Raises:
        ConfigurationError: an option is unknown, or its value cannot be used.
    """
    deferred, given = deferred_options(options), set()
    for name, value in list(deferred.items()):
        flag = _FLAGS.get(name)
        if flag is not None:
            try:
                deferred[name] = _converted(flag, value)
            except ValueError as error:
                raise ConfigurationError(f"flag -{flag.name} (option {name}): {error}") from None
            given.add(flag.name)
        elif name.lower().startswith("vmgw"):
            raise _unknown(name)
    return frozenset(given)


def check_unknown(options: Options) -> None:
    """Check that no given option is a misspelt one of the gateway, once all scripts have declared theirs.

    Raises:
        ConfigurationError: an unknown option resembles one of the gateway.
    """
    for name in deferred_options(options):
        if name in BY_NAME or f"vmgw_{name}" in _FLAGS or _nearest(name, 0.85):
            raise _unknown(name)


def _unknown(name: str) -> ConfigurationError:
    meant = option_name(BY_NAME[name]) if name in BY_NAME else _nearest(name, 0.6)
    hint = f"did you mean {meant}?" if meant else "vmgateway -help lists all options"
    return ConfigurationError(f"unknown option {printable(name, 60)}: {hint}")


def _nearest(name: str, cutoff: float) -> str:
    name = name[:60].lower().replace("-", "_").replace(".", "_")
    return (difflib.get_close_matches(name, _FLAGS, n=1, cutoff=cutoff) or [""])[0]


def _converted(flag: Flag, value: object) -> object:
    """Convert what was given to the option's type. Raises ``ValueError`` with a short reason."""
    texts = given_texts(value)
    if texts is not None:  # --set
        if flag.kind is Kind.ARRAY:
            return texts
        if len(texts) > 1:
            raise ValueError("it is given more than once")
        if not any(texts) and flag.kind is Kind.BOOL:
            return True
        if not texts:
            raise ValueError(f"the value ({flag.kind.value}) is missing")
        value = texts[0]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match flag.kind:
        case Kind.BOOL if isinstance(value, bool):
            return value
        case Kind.ARRAY if isinstance(value, str):
            return [value]
        case Kind.ARRAY if isinstance(value, list | tuple):
            for part in value:
                if not isinstance(part, str):
                    raise ValueError(f"expected {flag.kind.expected}, one is of type {type(part).__name__}")
            return list(value)
        case Kind.BOOL | Kind.STRING if isinstance(value, str):
            return _parsed(flag, value)
        case Kind.INT | Kind.FLOAT | Kind.DURATION | Kind.SIZE if isinstance(value, str) or number:
            return _parsed(flag, str(value))
        case _:
            raise ValueError(f"expected {flag.kind.expected}, got a value of type {type(value).__name__}")


def _parsed(flag: Flag, text: str) -> object:
    """Return the option's value for ``text``: mitmproxy keeps some kinds as text."""
    value = flag.parse(text)
    return value if flag.kind in OPTION_TYPES else text
