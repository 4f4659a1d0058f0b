"""Where the limits come from: ``-ratelimit.config``, a file or a URL, as bytes and as limits."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vmgw_addons.outgoing import AskError, describe, download
from vmgw_core.base import without_credentials
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import MAX_BYTES, Limit, check_measurable, read_limits

_PLACEHOLDER: Final = re.compile(rb"%\{([^{}\n]*)\}")


def load(settings: Settings) -> tuple[Limit, ...]:
    """The limits that ``settings`` ask for. Blocks: up to 15 seconds for a URL.

    Raises:
        ConfigurationError: there is no such file, or nothing can be read there; it is not understood; or a limit in it
            could not be held.
    """
    location = settings.ratelimit_config
    if not location:
        raise ConfigurationError("-enable.rateLimit needs -ratelimit.config: the file with the limits")
    name = shown(location)
    limits = read_limits(expanded(read(location), os.environ, name), name)
    if not settings.datasource_url:
        check_measurable(limits, name)
    return limits


def read(location: str) -> bytes:
    """The bytes at a path or a URL, bounded. Raises ConfigurationError, which shows no credentials."""
    try:
        if is_url(location):
            return download(location)
        with Path(location).open("rb") as file:
            return file.read(MAX_BYTES + 1)  # one more than is taken, so that it is refused and not cut off
    except (AskError, OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise ConfigurationError(f"{shown(location)}: cannot read it: {describe(error)}") from None


def expanded(data: bytes, environ: Mapping[str, str], name: str) -> bytes:
    """The file with the environment's value for every ``%{NAME}``, once: what comes in is not searched again.

    Raises:
        ConfigurationError: there is no such variable, or the file becomes larger than one may be.
    """
    if len(data) > MAX_BYTES:
        return data  # which is refused as it is
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
            raise ConfigurationError(f"{name}: with the values of its placeholders it is larger than {MAX_BYTES} bytes")
    return b"".join([*parts, data[position:]])


def is_url(location: str) -> bool:
    """Whether it is fetched and not opened."""
    return location.lower().startswith(("http://", "https://"))


def shown(location: str) -> str:
    """The flag and where it points, without what may be secret in a URL: user, password and arguments."""
    return f"-ratelimit.config {without_credentials(location) if is_url(location) else location}"
