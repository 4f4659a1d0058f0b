"""Reads the limits of ``-ratelimit.config``, a file or a URL."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vmgw_addons.outgoing import RequestFailed, describe, download
from vmgw_core.base import without_credentials
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import MAX_BYTES, Limit, check_measurable, read_limits

_PLACEHOLDER: Final = re.compile(rb"%\{([^{}\n]*)\}")


def load(settings: Settings) -> tuple[Limit, ...]:
    """Read the limits. Blocks, up to 15 seconds for a URL.

    Raises:
        ConfigurationError: the file cannot be read or is not valid, or a limit in it cannot be enforced.
    """
    location = settings.ratelimit_config
    if not location:
        raise ConfigurationError("-enable.rateLimit needs -ratelimit.config, the file with the limits")
    name = shown(location)
    limits = read_limits(expanded(read(location), os.environ, name), name)
    if not settings.datasource_url:
        check_measurable(limits, name)
    return limits


def read(location: str) -> bytes:
    """Read a bounded number of bytes from a path or a URL. Raises ``ConfigurationError``, without credentials."""
    try:
        if is_url(location):
            return download(location)
        with Path(location).open("rb") as file:
            return file.read(MAX_BYTES + 1)  # a larger file is refused, not cut off
    except (RequestFailed, OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise ConfigurationError(f"{shown(location)}: cannot read it: {describe(error)}") from None


def expanded(data: bytes, environ: Mapping[str, str], name: str) -> bytes:
    """Replace every ``%{NAME}`` by the environment variable, without looking for placeholders in its value.

    Raises:
        ConfigurationError: there is no such variable, or the result is too large.
    """
    if len(data) > MAX_BYTES:
        return data  # the parser refuses it
    parts: list[bytes] = []
    position = size = 0
    for found in _PLACEHOLDER.finditer(data):
        variable = found[1].decode("utf-8", "surrogateescape")
        if variable not in environ:
            line = data.count(b"\n", 0, found.start()) + 1
            shown_name = repr(variable[:60])[1:-1]
            raise ConfigurationError(f"{name}, line {line}: the environment variable {shown_name} is not set")
        parts += (data[position : found.start()], environ[variable].encode("utf-8", "surrogateescape"))
        position = found.end()
        size += len(parts[-1]) + len(parts[-2])
        if size > MAX_BYTES:
            raise ConfigurationError(f"{name}: larger than {MAX_BYTES} bytes with the values of its placeholders")
    return b"".join([*parts, data[position:]])


def is_url(location: str) -> bool:
    """Whether ``location`` is a URL rather than a path."""
    return location.lower().startswith(("http://", "https://"))


def shown(location: str) -> str:
    """Return the flag and its value, without what may be secret in a URL: user, password and arguments."""
    return f"-ratelimit.config {without_credentials(location) if is_url(location) else location}"
