"""Instant queries to ``-datasource.url``."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from operator import attrgetter
from typing import Final
from urllib.parse import parse_qsl, urlencode

from vmgw_core.backends import Backend
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import parse_labels

from .credentials import Credentials
from .errors import RequestFailed
from .http import Endpoint
from .tls_files import TLSFiles

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110, section 5.6.2
_OWN_HEADERS: Final = frozenset({"content-length", "transfer-encoding", "connection"})


_BUILT_FROM: Final = attrgetter(
    *(field.name for field in fields(Settings) if field.name.startswith("datasource_")),
    *("ratelimit_extra_labels", "ratelimit_refresh_interval", "remote_read_disable_path_append"),
)
"""The settings that a datasource depends on."""


class Datasource:
    """The server of ``-datasource.url``. Its methods block: call them in a thread.

    Raises:
        ConfigurationError: a flag cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        url, _, query = settings.datasource_url.partition("?")
        self._arguments = dict(parse_qsl(query, keep_blank_values=True))
        self.backend = Backend.parse(url, "datasource.url")
        self.shown = f"-datasource.url {settings.datasource_url}" if settings.datasource_show_url else "-datasource.url"
        """The name in logs."""
        try:
            self.labels = parse_labels(settings.ratelimit_extra_labels)  # that every queried metric must have
        except ValueError as error:
            raise ConfigurationError(f"-ratelimit.extraLabels: {error}") from None
        self._tell = settings.datasource_show_url
        path = self.backend.base
        path += "/prometheus" if settings.datasource_append_type_prefix else ""
        path += "" if settings.remote_read_disable_path_append else "/api/v1/query"
        self._path = path or "/"
        self._headers = _headers(settings.datasource_headers)
        self._credentials = Credentials(settings)
        interval = settings.ratelimit_refresh_interval
        self._alignment = interval if settings.datasource_query_time_alignment else 0.0
        self._lookback = settings.datasource_lookback
        if settings.datasource_round_digits:
            self._arguments["round_digits"] = str(settings.datasource_round_digits)
        if not settings.datasource_disable_step_param:
            step = settings.datasource_query_step or interval
            self._arguments["step"] = f"{max(1, math.ceil(step))}s"
        # Otherwise VictoriaMetrics leaves out the last 30 seconds (-search.latencyOffset).
        self._arguments["nocache"] = "1"
        self._endpoint = Endpoint(
            self.backend,
            TLSFiles(settings.client_tls("datasource")),
            idle=settings.datasource_max_idle_connections,
            keep_alive=not settings.datasource_disable_keep_alive,
        )

    def query(self, expression: str, now: float) -> bytes:
        """Return the response to an instant query at ``now``, in Unix seconds. Raises ``RequestFailed``."""
        try:
            return self._query(expression, now)
        except RequestFailed as error:
            if error.status == 401:
                self._credentials.refused()
            detail = f": {error.body.decode(errors='replace')[:300]!r}" if self._tell and error.body else ""
            raise RequestFailed(f"{self.shown}: {error}{detail}", error.cause, status=error.status) from None

    def _query(self, expression: str, now: float) -> bytes:
        moment = now - self._lookback
        if self._alignment:
            moment = math.floor(moment / self._alignment) * self._alignment
        target = f"{self._path}?{urlencode({**self._arguments, 'time': f'{moment:.3f}'})}"
        headers = dict(self._headers)
        if self.backend.authorization is not None:
            headers["Authorization"] = self.backend.authorization
        headers |= self._credentials.headers()
        # The query is in the body, since some proxies limit the length of a URL.
        return self._endpoint.ask("POST", target, headers, {"query": expression})


def build_datasource(
    settings: Settings, before: Settings | None = None, old: Datasource | None = None
) -> Datasource | None:
    """Build the datasource; None without ``-datasource.url`` and ``-enable.rateLimit``.

    Returns the ``old`` one, with its connections and its token, if the flags are as they were ``before``.

    Raises:
        ConfigurationError: a flag cannot be used.
    """
    if not settings.datasource_url or not settings.enable_rate_limit:
        return None
    if old is not None and before is not None and _BUILT_FROM(settings) == _BUILT_FROM(before):
        return old
    return Datasource(settings)


def _headers(text: str) -> dict[str, str | bytes]:
    """Read ``name:value^^name:value``."""
    headers: dict[str, str | bytes] = {}
    for number, item in enumerate(filter(None, text.split("^^")), start=1):
        name, colon, value = item.partition(":")
        name, value = name.strip(), value.strip()
        if not colon or not _NAME.fullmatch(name) or any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
            raise ConfigurationError(f"-datasource.headers: header {number} is not of the form name:value")
        if name.lower() in _OWN_HEADERS:
            raise ConfigurationError(f"-datasource.headers: {name} cannot be set")
        headers[name.title() if name.lower() == "authorization" else name] = value.encode()
    return headers
