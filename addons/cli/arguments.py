"""The command line of a sub-command: its own options, flags of the gateway, and arguments, in any order."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from vmgw_core.configuration import BY_NAME, Kind, Settings, parse
from vmgw_core.errors import ConfigurationError


@dataclass(slots=True)
class Arguments:
    """The parsed command line. Names of options have no dashes; their values are in order."""

    options: dict[str, list[str]] = field(default_factory=dict, repr=False)
    flags: list[str] = field(default_factory=list, repr=False)
    positional: list[str] = field(default_factory=list)

    def last(self, name: str) -> str | None:
        """Return the last value of an option, as with flags."""
        values = self.options.get(name)
        return values[-1] if values else None

    def has(self, name: str) -> bool:
        """Whether a switch was given."""
        return name in self.options

    @property
    def help_wanted(self) -> bool:
        """Whether ``--help`` or ``-h`` was given."""
        return self.has("help") or self.has("h")

    def settings(self, environ: Mapping[str, str]) -> Settings:
        """Parse the gateway's flags. Raises ``ConfigurationError``."""
        return parse(self.flags, environ).settings


def read_arguments(arguments: Sequence[str], *, values: Sequence[str], switches: Sequence[str] = ()) -> Arguments:
    """Parse the arguments of a sub-command.

    Args:
        values: its options with a value, after ``=`` or in the next argument.
        switches: its options without one, besides ``help`` and ``h``.

    Raises:
        ConfigurationError: the value of an option is missing, or a switch has one.
    """
    switches = (*switches, "help", "h")
    read = Arguments()
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or argument == "-":
            read.positional.append(argument)
        elif argument == "--":
            read.positional += rest
        elif name in switches:
            if equals:
                raise ConfigurationError(f"--{name} takes no value")
            read.options.setdefault(name, [])
        elif name in values:
            if not equals:
                value = _value(f"--{name}", rest)
            elif not value:
                raise ConfigurationError(f"--{name}: the value is missing")
            read.options.setdefault(name, []).append(value)
        else:
            read.flags.append(argument)
            flag = BY_NAME.get(name)
            if flag is not None and flag.kind is not Kind.BOOL and not equals:
                read.flags.append(_value(f"-{name}", rest))
    return read


def _value(option: str, rest: object) -> str:
    value = next(rest, None)  # type: ignore[call-overload]
    if value is None:
        raise ConfigurationError(f"{option}: the value is missing")
    return str(value)


def read_file(option: str, path: str) -> bytes:
    """Read the file that ``option`` names. Raises ``ConfigurationError``."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{option}: cannot read {path}: {error.strerror}") from None


def read_time(text: str | None) -> float:
    """Read ``--time`` as Unix seconds; the default is now. Raises ``ConfigurationError``."""
    if text is None:
        return time.time()
    with suppress(ValueError):
        if math.isfinite(seconds := float(text)):
            return seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError("--time: expected Unix seconds, or a time as in 2026-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def find_token(arguments: Arguments, environ: Mapping[str, str]) -> str | None:
    """Find the token in ``--token``, ``--token-file`` or the environment, and remove ``Bearer``.

    Raises:
        ConfigurationError: the file cannot be read. No message shows a token.
    """
    text = arguments.last("token")
    path = arguments.last("token-file")
    if text is None and path is not None:
        text = read_file("--token-file", path).decode("latin-1")
    if text is None:
        text = environ.get(TOKEN_VARIABLE)
    if text is None:
        return None
    text = text.strip()
    return text[7:].strip() if text[:7].lower() == "bearer " else text


def find_auth_key(arguments: Arguments, environ: Mapping[str, str]) -> str:
    """Find the key of a running gateway's pages in ``--auth-key-file`` or the environment; empty if there is none.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    path = arguments.last("auth-key-file")
    return environ.get(KEY_VARIABLE, "") if path is None else read_file("--auth-key-file", path).decode().strip()


TOKEN_VARIABLE = "VMGATEWAY_TOKEN"  # noqa: S105
"""The environment variable for the token, which keeps it out of the list of processes."""
KEY_VARIABLE = "VMGATEWAY_AUTH_KEY"
"""The environment variable for the value of ``-flagsAuthKey``."""
