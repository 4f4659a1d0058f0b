"""Where the limits come from: ``-ratelimit.config``, a file or a URL, as bytes and as limits."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from vmgw_core.errors import ConfigurationError
from vmgw_core.limitfile import MAX_BYTES, check_measurable, read_limits
from vmgw_core.limits import Limit

from .key_refresh import describe, download
from .runtime import Settings


def load(settings: Settings) -> tuple[Limit, ...]:
    """The limits that ``settings`` ask for. Blocks: up to 15 seconds for a URL.

    Raises:
        ConfigurationError: there is no such file, or nothing can be read there; it is not understood; or a limit in it
            could not be held.
    """
    location = str(settings["ratelimit.config"])
    if not location:
        raise ConfigurationError("-enable.rateLimit needs -ratelimit.config: the file with the limits")
    name = shown(location)
    limits = read_limits(read(location), name)
    if not settings.get("datasource.url"):
        check_measurable(limits, name)
    return limits


def read(location: str) -> bytes:
    """The bytes at a path or a URL, bounded. Raises ConfigurationError, which shows no credentials."""
    try:
        if is_url(location):
            return download(location)
        with Path(location).open("rb") as file:
            return file.read(MAX_BYTES + 1)  # one more than is taken, so that it is refused and not cut off
    except OSError as error:
        reason = describe(error) if is_url(location) else error.strerror
    except ValueError as error:  # an answer of no use, or a path with a NUL
        reason = describe(error)
    raise ConfigurationError(f"{shown(location)}: cannot read it: {reason}")


def is_url(location: str) -> bool:
    """Whether it is fetched and not opened."""
    return location.lower().startswith(("http://", "https://"))


def shown(location: str) -> str:
    """The flag and where it points, without what may be secret in a URL: user, password and arguments."""
    if is_url(location):
        try:
            parts = urlsplit(location)
            location = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        except ValueError:
            location = "a URL that cannot be read"
    return f"-ratelimit.config {location}"
