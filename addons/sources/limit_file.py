"""Reads the limits of ``-ratelimit.config``, a file or a URL."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from vmgw_addons.outgoing import read, shown
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import MAX_BYTES, LimitFile, check_measurable, read_limits

_FLAG: Final = "-ratelimit.config"
_PLACEHOLDER: Final = re.compile(rb"%\{([^{}\n]*)\}")


def load(settings: Settings) -> LimitFile:
    """Read the limits. Blocks, up to 15 seconds for a URL.

    Raises:
        ConfigurationError: the file cannot be read or is not valid, or a limit in it cannot be enforced.
    """
    location = settings.ratelimit_config
    if not location:
        raise ConfigurationError("-enable.rateLimit needs -ratelimit.config, the file with the limits")
    name = shown(_FLAG, location)
    file = read_limits(expanded(read(_FLAG, location), os.environ, name), name)
    check_measurable(file.limits, name, datasource=bool(settings.datasource_url))
    return file


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
