"""The command line of a sub-command: its own options, flags of the policy, and arguments, in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vmgw_core.configuration import BY_NAME, Kind, Settings, parse
from vmgw_core.errors import ConfigurationError


@dataclass(slots=True)
class Arguments:
    """What was given. An option's name is without dashes; its values are in the order they were given."""

    options: dict[str, list[str]] = field(default_factory=dict, repr=False)
    flags: list[str] = field(default_factory=list, repr=False)
    positional: list[str] = field(default_factory=list)

    def last(self, name: str) -> str | None:
        """The value of an option; of one given twice the last, as with flags."""
        values = self.options.get(name)
        return values[-1] if values else None

    def has(self, name: str) -> bool:
        """Whether a switch was given."""
        return name in self.options

    def settings(self, environ: Mapping[str, str]) -> Settings:
        """The values of the policy's flags.

        Raises:
            ConfigurationError: a flag that is none, or a value that is none.
        """
        return parse(self.flags, environ).settings


def read_arguments(arguments: Sequence[str], *, values: Sequence[str], switches: Sequence[str]) -> Arguments:
    """Sort the arguments of a sub-command.

    Args:
        values: its options that take a value, behind ``=`` or as the next argument.
        switches: those that take none.

    Raises:
        ConfigurationError: the value of an option is missing, or a switch has one.
    """
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
    """The content of a file that ``option`` names.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{option}: cannot read {path}: {error.strerror}") from None


def find_token(arguments: Arguments, environ: Mapping[str, str]) -> str | None:
    """The token of ``--token``, ``--token-file`` or the environment, without ``Bearer``; None without any.

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


TOKEN_VARIABLE = "VMGATEWAY_TOKEN"  # noqa: S105
"""The environment variable that may hold the token, so that it stands in no list of processes."""
