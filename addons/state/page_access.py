"""Access to the gateway's own pages: ``-httpAuth.*`` and ``-…AuthKey``.

``/health``, ``/-/healthy``, ``/-/ready`` and ``/ping`` are always open, for load balancers and Kubernetes.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl

from vmgw_addons.support import Outages, Secret
from vmgw_core.base import quoted
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError, Refusal
from vmgw_core.http import HeaderEdit, Headers, Response
from vmgw_core.routing import decode_path

_MAX_ARGUMENTS: Final = 100
PLAIN: Final = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAccess:
    """The parsed flags."""

    prefix: str
    """``-http.pathPrefix``: empty, or with a leading slash and no trailing one."""
    username: bytes
    password: Secret
    keys: Mapping[str, Secret]

    @classmethod
    def from_settings(cls, settings: Settings, outages: Outages | None = None) -> Self:
        """Read the flags. Raises ``ConfigurationError``, which names the flag or the file."""
        username = settings.http_auth_username
        password = Secret("httpAuth.password", settings.http_auth_password, outages)
        if bool(password) != bool(username):
            raise ConfigurationError("-httpAuth.username and -httpAuth.password: set both or none")
        return cls(
            prefix=path_prefix(settings),
            username=username.encode("utf-8", "surrogateescape"),
            password=password,
            keys={
                flag: Secret(flag, value, outages)
                for flag, value in (
                    ("metricsAuthKey", settings.metrics_auth_key),
                    ("reloadAuthKey", settings.reload_auth_key),
                    ("flagsAuthKey", settings.flags_auth_key),
                    ("pprofAuthKey", settings.pprof_auth_key),
                )
            },
        )

    @property
    def has_files(self) -> bool:
        """Whether a secret is in a file."""
        return any(secret.path is not None for secret in (self.password, *self.keys.values()))

    def refresh(self) -> None:
        """Read the secrets again whose files have changed. Blocks."""
        for secret in (self.password, *self.keys.values()):
            secret.refresh()

    def guards(self, flag: str) -> bool:
        """Whether the page with this key is closed to strangers."""
        return bool(self.keys[flag]) or bool(self.username)

    def refuse(self, flag: str, query: str, headers: Headers) -> Response | None:
        """Return the response that refuses a page, or None if access is granted. ``flag`` names the page's key."""
        key = self.keys[flag]
        if key:
            if key.matches(_argument(query, "authKey")):
                return None
            return page(401, f"The provided authKey doesn't match -{flag}\n".encode())  # VictoriaMetrics' words
        if not self.username or self._knows_password(headers):
            return None
        challenge = (b"WWW-Authenticate", b'Basic realm="vmgateway", charset="UTF-8"')
        return page(401, b"this page needs -httpAuth.username and -httpAuth.password\n", extra=(challenge,))

    def _knows_password(self, headers: Headers) -> bool:
        values = [value for name, value in headers if name.lower() == b"authorization"]
        scheme, _, encoded = (values[0] if len(values) == 1 else b"").strip().partition(b" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True) if scheme.lower() == b"basic" else b""
        except binascii.Error:
            given = b""
        username, _, password = given.partition(b":")
        # Compare both, so that the time does not reveal whether the name was right.
        named = hmac.compare_digest(self.username, username)
        return self.password.matches(password) and named


def page(status: int, body: bytes, content_type: bytes = PLAIN, extra: Headers = ()) -> Response:
    """Make a response with ``body``."""
    headers = ((b"Content-Type", content_type), (b"Content-Length", str(len(body)).encode()), *extra)
    return Response(status=status, headers=headers, body=body)


def path_prefix(settings: Settings) -> str:
    """Read ``-http.pathPrefix``: empty, or with a leading slash and no trailing one.

    Raises:
        ConfigurationError: it is not a plain path.
    """
    text = settings.http_path_prefix.strip("/")
    if not text:
        return ""
    try:
        path = decode_path(f"/{text}")
    except Refusal:
        path = ""
    if path != f"/{text}" or not path.isascii() or set(path) & set("?%# "):
        raise ConfigurationError(f"-http.pathPrefix: expected a path such as /metrics, got {quoted(text)}")
    return path


def header_edit(settings: Settings) -> HeaderEdit:
    """Read ``-http.header.*`` and ``-http.disableCORS``, which change the headers of every response.

    Raises:
        ConfigurationError: a value is not valid in a header.
    """
    add = []
    for flag, name, value in (
        ("hsts", b"Strict-Transport-Security", settings.http_header_hsts),
        ("csp", b"Content-Security-Policy", settings.http_header_csp),
        ("frameOptions", b"X-Frame-Options", settings.http_header_frame_options),
    ):
        if not value.isascii() or not (value.isprintable() or not value):
            raise ConfigurationError(f"-http.header.{flag}: expected a header value in printable ASCII")
        if value:
            add.append((name, value.encode()))
    drop = HeaderEdit().drop
    if settings.http_disable_cors:
        drop += (b"access-control-",)
    if settings.ratelimit_headers:
        drop += (b"ratelimit",)  # those of a backend tell of other limits
    return HeaderEdit(add=tuple(add), drop=drop)


def _argument(query: str, name: str) -> bytes:
    """Return the only argument of that name, or nothing if there are several."""
    try:
        arguments = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_ARGUMENTS, errors="surrogateescape")
    except ValueError:
        return b""
    values = [value for key, value in arguments if key == name]
    return values[0].encode("utf-8", "surrogateescape") if len(values) == 1 else b""
