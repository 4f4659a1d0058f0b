"""The datasource: one instant query at a time, sent as the ``-datasource.*`` flags have it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode

from vmgw_core.backends import Backend
from vmgw_core.configuration import FLAGS
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import parse_labels

from .credentials import Credentials
from .errors import AskError
from .http import Endpoint
from .tls_files import TLSFiles

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110, section 5.6.2
_OWN_HEADERS: Final = frozenset({"content-length", "transfer-encoding", "connection"})


_FLAGS: Final = [
    *(flag.name for flag in FLAGS if flag.name.startswith("datasource.")),
    *("ratelimit.extraLabels", "ratelimit.refreshInterval", "remoteRead.disablePathAppend"),
]


class Datasource:
    """Whatever ``-datasource.url`` leads to. Its methods block: they are for a thread."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        """
        Raises:
            ConfigurationError: a flag cannot be used.
        """
        url, _, query = str(settings["datasource.url"]).partition("?")
        self._arguments = dict(parse_qsl(query, keep_blank_values=True))
        self.backend = Backend.parse(url, "datasource.url")
        self.shown = (
            f"-datasource.url {settings['datasource.url']}" if settings["datasource.showURL"] else "-datasource.url"
        )
        """What logs call it."""
        self.labels = _extra_labels(settings)
        """What every metric asked for must have."""
        self._tell = bool(settings["datasource.showURL"])
        path = self.backend.base
        path += "/prometheus" if settings["datasource.appendTypePrefix"] else ""
        path += "" if settings["remoteRead.disablePathAppend"] else "/api/v1/query"
        self._path = path or "/"
        self._headers = _headers(str(settings["datasource.headers"]))
        self._credentials = Credentials(settings)
        interval = float(str(settings["ratelimit.refreshInterval"]))
        self._alignment = interval if settings["datasource.queryTimeAlignment"] else 0.0
        self._lookback = float(str(settings["datasource.lookback"]))
        digits = int(str(settings["datasource.roundDigits"]))
        if digits:
            self._arguments["round_digits"] = str(digits)
        if not settings["datasource.disableStepParam"]:
            step = float(str(settings["datasource.queryStep"])) or interval
            self._arguments["step"] = f"{max(1, math.ceil(step))}s"
        # VictoriaMetrics leaves the last 30 seconds out of its answers otherwise (-search.latencyOffset).
        self._arguments["nocache"] = "1"
        self._endpoint = Endpoint(
            self.backend,
            TLSFiles.of(settings, "datasource"),
            idle=int(str(settings["datasource.maxIdleConnections"])),
            keep_alive=not settings["datasource.disableKeepAlive"],
        )

    def query(self, expression: str, now: float) -> bytes:
        """The answer to an instant query as of ``now``, in Unix seconds.

        Raises:
            AskError: there is none.
        """
        try:
            return self._query(expression, now)
        except AskError as error:
            if error.status == 401:
                self._credentials.refused()
            detail = f": {error.body.decode(errors='replace')[:300]!r}" if self._tell and error.body else ""
            raise AskError(f"{self.shown}: {error}{detail}", status=error.status) from None

    def _query(self, expression: str, now: float) -> bytes:
        moment = now - self._lookback
        if self._alignment:
            moment = math.floor(moment / self._alignment) * self._alignment
        target = f"{self._path}?{urlencode({**self._arguments, 'time': f'{moment:.3f}'})}"
        headers = dict(self._headers)
        if self.backend.authorization is not None:
            headers["Authorization"] = self.backend.authorization
        headers |= self._credentials.headers()
        # The query is in the body: with it the URL would be longer than some proxies take.
        return self._endpoint.ask("POST", target, headers, {"query": expression})


def build_datasource(
    settings: Mapping[str, object], before: Mapping[str, object] | None = None, old: Datasource | None = None
) -> Datasource | None:
    """The datasource that the flags ask for, None without ``-datasource.url`` and ``-enable.rateLimit``.

    It is the ``old`` one, with its connections and its token, where the flags are as they were ``before``.

    Raises:
        ConfigurationError: a flag cannot be used.
    """
    if not settings["datasource.url"] or not settings["enable.rateLimit"]:
        return None
    if old is not None and before is not None and all(settings[name] == before[name] for name in _FLAGS):
        return old
    return Datasource(settings)


def _extra_labels(settings: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """``-ratelimit.extraLabels``.

    Raises:
        ConfigurationError: one is no label.
    """
    texts = settings["ratelimit.extraLabels"]
    assert isinstance(texts, tuple)
    try:
        return parse_labels(texts)
    except ValueError as error:
        raise ConfigurationError(f"-ratelimit.extraLabels: {error}") from None


def _headers(text: str) -> dict[str, str | bytes]:
    """``name:value^^name:value``."""
    headers: dict[str, str | bytes] = {}
    for number, item in enumerate(filter(None, text.split("^^")), start=1):
        name, colon, value = item.partition(":")
        name, value = name.strip(), value.strip()
        if not colon or not _NAME.fullmatch(name) or any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
            raise ConfigurationError(f"-datasource.headers: header {number} is not of the form name:value")
        if name.lower() in _OWN_HEADERS:
            raise ConfigurationError(f"-datasource.headers: {name} is not for this flag to set")
        headers[name.title() if name.lower() == "authorization" else name] = value.encode()
    return headers
