"""The command line in Go's syntax, flags from the environment and from mitmproxy's options, and the help text.

Rules of this file:

- ``-flag`` and ``--flag`` are the same. A value follows ``=`` or is the next argument; the value of a bool only follows
  ``=``. ``--`` ends the flags. The last value of a scalar wins; an array collects all.
- Every error is a `ConfigurationError` of one line that names the flag. It never shows the value of a secret flag or
  of a placeholder.

Sources: Go's package ``flag``, VictoriaMetrics' ``lib/envflag`` and ``lib/envtemplate``.
"""

from __future__ import annotations

import difflib
import posixpath
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from vmgw_core.base import printable
from vmgw_core.errors import ConfigurationError

from .flag import Flag, Kind
from .flags_file import FlagsFile
from .needs import check_given
from .settings import Settings
from .table import BY_NAME, FLAGS, description, option_name, settings_of, variable_name
from .values import Value, parse_array


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What the user asked for."""

    settings: Settings
    given: frozenset[str]
    """The names of the flags that the command line or the environment set."""
    help_wanted: bool
    """``-help`` was given; as in Go, nothing after it was read."""


def parse(argv: Sequence[str], environ: Mapping[str, str], *, file: FlagsFile | None = None) -> CommandLine:
    """Parse the arguments (without the program's name) and the environment. Raises `ConfigurationError`.

    A flag in ``argv`` replaces all values that it has in the file of flags ``file``.
    """
    given, help_wanted = _given(argv, environ)
    on_command_line = frozenset(given)
    if file is not None:
        given = _given_in(file, environ) | given
        file.lines = {name: line for name, line in file.lines.items() if name not in on_command_line}
    if given.get("envflag.enable") and not help_wanted:
        given |= _from_environment(environ, str(given.get("envflag.prefix", "")), but=frozenset(given))
    settings = settings_of(given)
    if not help_wanted:
        check_given(given, settings)
    return CommandLine(settings=settings, given=frozenset(given), help_wanted=help_wanted)


def _given_in(file: FlagsFile, environ: Mapping[str, str]) -> dict[str, Value]:
    try:
        given, _ = _given(file, environ)
    except ConfigurationError as error:
        raise file.error(error, reading=True) from None
    return {name: _within(file.folder, name, value) for name, value in given.items()}


def _given(argv: Iterable[str], environ: Mapping[str, str]) -> tuple[dict[str, Value], bool]:
    """Return the values by the names of their flags, and whether ``-help`` was given."""
    given: dict[str, Value] = {}
    help_wanted = False
    for flag, text in _flags(argv):
        if flag is None:
            help_wanted = True
            continue
        value = _value(flag, text, environ, place=f"flag -{flag.name}")
        previous = given.get(flag.name)
        if isinstance(value, tuple) and isinstance(previous, tuple):
            value = previous + value
        given[flag.name] = value
    return given, help_wanted


def _within(folder: str, name: str, value: Value) -> Value:
    """Return the value of a flag that names files, with relative paths in ``folder``; that of others as it is."""
    if isinstance(value, tuple):
        return tuple(str(_within(folder, name, item)) for item in value)
    if not isinstance(value, str) or not value or "://" in value:
        return value
    return posixpath.join(folder, value) if name in _NAMES_OF_FILES else value


_OTHER_FILES: Final = ("auth.policy", "ratelimit.config", "shadow.flags", "shadow.policy", "shadow.ratelimitConfig")
_NAMES_OF_FILES: Final = frozenset(
    flag.name for flag in FLAGS if flag.name.endswith(("File", "Files", ".file")) or flag.name in _OTHER_FILES
)


def settings_from_options(get: Callable[[str], object]) -> Settings:
    """Read the same values from mitmproxy's options; ``get`` returns the value of an option.

    A BOOL option holds a bool, an INT an int, an ARRAY a sequence of str (each is an array itself), all others a str.
    Raises `ConfigurationError`.
    """
    values: dict[str, Value] = {}
    for flag in FLAGS:
        option = option_name(flag)
        try:
            values[flag.name] = _from_option(flag, get(option))
        except ValueError as error:
            raise ConfigurationError(f"flag -{flag.name} (option {option}): {error}") from None
    return settings_of(values)


_HELP: Final = frozenset({"h", "help"})
_FLAG: Final = re.compile(r"--?([^-=][^=]*)(?:=(.*))?", re.DOTALL)
_LOWER_NAMES: Final = {name.lower(): name for name in BY_NAME}


def _flags(argv: Iterable[str]) -> Iterator[tuple[Flag | None, str]]:
    """Yield each flag with the text of its value, in order; None for ``-help``, and then nothing."""
    arguments = enumerate(argv, start=1)
    latest: Flag | None = None
    for number, argument in arguments:
        if not argument:
            continue  # VictoriaMetrics skips empty arguments: what a shell makes of "$EXTRA" when it is unset
        if argument == "--":
            if extra := next(arguments, None):
                raise ConfigurationError(f"unexpected argument {extra[0]} after --: vmgateway takes only flags")
            return
        match = _FLAG.fullmatch(argument)
        if not match:
            raise _no_flag(number, latest)
        name, text = match.groups()
        if name in _HELP:
            yield None, ""
            return
        latest = BY_NAME.get(name)
        if not latest:
            raise _unknown(name)
        if text is None:
            _, text = (0, "true") if latest.kind is Kind.BOOL else next(arguments, (0, None))
        if text is None:
            raise ConfigurationError(f"flag -{name}: the value ({latest.kind.value}) is missing")
        yield latest, text


def _no_flag(number: int, latest: Flag | None) -> ConfigurationError:
    # The argument is not shown: it may be the second half of a secret with a space.
    if latest is None:
        return ConfigurationError(f"unexpected argument {number}: write flags as -name or -name=value")
    name = latest.name
    hint = f"write -{name}=true or -{name}=false" if latest.kind is Kind.BOOL else "flags start with a dash"
    return ConfigurationError(f"unexpected argument {number} after -{name}: {hint}")


def _unknown(name: str) -> ConfigurationError:
    nearest = difflib.get_close_matches(name[:60].lower(), _LOWER_NAMES, n=1)
    hint = f"did you mean -{_LOWER_NAMES[nearest[0]]}?" if nearest else "-help lists all flags"
    return ConfigurationError(f"unknown flag -{printable(name, 60)}: {hint}")


_PLACEHOLDER: Final = re.compile(r"%\{([^{}]*)\}")


def _value(flag: Flag, text: str, environ: Mapping[str, str], *, place: str) -> Value:
    """Replace every ``%{NAME}`` once, and parse the value."""
    missing = [name for name in _PLACEHOLDER.findall(text) if name not in environ]
    if missing:
        # A placeholder in a secret may be a part of the password.
        which = "of a placeholder" if flag.secret else printable(missing[0])
        raise ConfigurationError(f"{place}: the environment variable {which} is not set")
    expanded = _PLACEHOLDER.sub(lambda placeholder: environ[placeholder[1]], text)
    try:
        return flag.parse(expanded, hidden=expanded != text)
    except ValueError as error:
        reason = str(error)
    raise ConfigurationError(f"{place}: {reason}")


def _from_environment(environ: Mapping[str, str], prefix: str, *, but: frozenset[str]) -> dict[str, Value]:
    _check_variables(environ, prefix)
    values: dict[str, Value] = {}
    for flag in FLAGS:
        variable = variable_name(flag, prefix)
        # Only the command line decides whether and how the environment is read.
        if variable in environ and flag.name not in but and not flag.name.startswith("envflag."):
            place = f"flag -{flag.name} (environment variable {variable!r})"
            values[flag.name] = _value(flag, environ[variable], environ, place=place)
    return values


_VARIABLES: Final = {variable_name(flag): flag for flag in FLAGS}
_SHOUTED: Final = {name.replace("_", "").upper(): name for name in _VARIABLES if "_" in name}


def _check_variables(environ: Mapping[str, str], prefix: str) -> None:
    """Refuse variables that look like misspelt flags; a difference from VictoriaMetrics, which ignores them.

    With a prefix that is every unknown name but those in capitals, which Kubernetes sets for a Service and which
    sub-commands read. A flag in capitals is misspelt too.
    """
    for variable in sorted(environ):
        name = variable.removeprefix(prefix)
        if name in _VARIABLES or not name or not variable.startswith(prefix):
            continue
        meant = _SHOUTED.get(name.replace("_", "").upper()) if "_" in name else None
        if not meant and not name.isupper():
            cutoff = 0.6 if prefix else 0.9
            meant = next(iter(difflib.get_close_matches(name[:60], _VARIABLES, n=1, cutoff=cutoff)), None)
        if meant or (prefix and not name.isupper()):
            hint = f"did you mean {prefix}{meant}?" if meant else "-help lists all flags"
            raise ConfigurationError(f"no flag has the environment variable {printable(variable, 80)}: {hint}")


def _from_option(flag: Flag, value: object) -> Value:
    match flag.kind:
        case Kind.BOOL if isinstance(value, bool):
            return value
        case Kind.INT if isinstance(value, int) and not isinstance(value, bool):
            return flag.parse(str(value))
        case Kind.ARRAY if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            if all(isinstance(part, str) for part in value):
                return tuple(item for part in value for item in parse_array(part))
        case Kind.FLOAT | Kind.STRING | Kind.DURATION | Kind.SIZE if isinstance(value, str):
            return flag.parse(value)
        case _:
            pass
    raise ValueError(f"expected {flag.kind.expected}, got a value of type {type(value).__name__}")


_WIDTH: Final = 80
_HEAD: Final = """\
Usage: vmgateway [-flag[=value] ...]

A gateway in front of VictoriaMetrics. It checks the JSON Web Token of every
request, sends the request to the tenant that the token names, and enforces the
token's labels and filters.

Examples:
  vmgateway -enable.auth -auth.publicKeyFiles=public.pem \\
    -read.url=http://localhost:8428 -write.url=http://localhost:8428
  vmgateway -enable.auth -clusterMode -auth.jwksEndpoints=https://idp/keys \\
    -read.url=http://vmselect:8481 -write.url=http://vminsert:8480
  mitmdump -s addons/vmgateway.py --mode reverse:http://localhost:8428@8431 \\
    --set vmgw_enable_auth=true --set vmgw_auth_public_key_files=public.pem

A flag is set as -flag, --flag, -flag=value or -flag value. %{NAME} in a value
stands for that environment variable. The name in parentheses is the same
setting as an option of mitmproxy.
"""

_OF_KIND: Final[Mapping[Kind, str]] = {
    Kind.ARRAY: "Supports an array of values separated by comma or specified via multiple flags.",
    Kind.SIZE: "Supports the following optional suffixes for size values: KB, MB, GB, TB, KiB, MiB, GiB, TiB",
}


def help_text(addons: Sequence[tuple[str, str]] = (), commands: Sequence[tuple[str, str]] = ()) -> str:
    """Return what ``-help`` prints, with a newline at its end.

    ``addons`` are pairs of class name and summary, ``commands`` of sub-command and summary.
    """
    lines = [_HEAD, *_listed("Sub-commands (vmgateway NAME --help tells more)", commands, "vmgateway ")]
    for group, flags in groupby(FLAGS, key=lambda flag: flag.group):
        lines.append(f"{group}:")
        for flag in flags:
            lines += _flag_help(flag)
        lines.append("")
    lines += _listed("Addons", addons)
    return "\n".join(lines).removesuffix("\n") + "\n"


def _listed(title: str, pairs: Sequence[tuple[str, str]], prefix: str = "") -> list[str]:
    if not pairs:
        return []
    indent = len(prefix) + max(len(name) for name, _ in pairs) + 4
    lines = [line for name, text in pairs for line in _filled(text, f"  {prefix}{name}".ljust(indent), indent)]
    return [f"{title}:", *lines, ""]


def _filled(text: str, first: str, indent: int) -> list[str]:
    """Break ``text`` into lines that fit a terminal; ``first`` begins the first one."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _flag_help(flag: Flag) -> Iterator[str]:
    word = "" if flag.kind is Kind.BOOL else f" {flag.kind.value}"
    yield from _filled(f"-{flag.name}{word} ({option_name(flag)})", "  ", 8)
    texts = [description(flag)]
    if flag.kind in _OF_KIND:
        texts.append(_OF_KIND[flag.kind])
    if flag.default:  # as in Go, a zero default is not shown
        default = f'"{flag.default_text}"' if flag.kind is Kind.STRING else flag.default_text
        texts[-1] += f" (default {default})"
    for text in texts:
        yield from _filled(text, " " * 8, 8)
