"""The login as the flags ``-login.*`` describe it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from vmgw_core.base import is_http_url
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError

from .login import Login
from .sealing import CookieKeys

_OWN_ARGUMENTS: Final = frozenset((
    "client_id", "code_challenge", "code_challenge_method", "code_verifier", "nonce", "redirect_uri", "response_mode",
    "response_type", "scope", "state", "url",
))  # fmt: skip


def check_login(settings: Settings) -> None:
    """Check the flags ``-login.*``. Raises ``ConfigurationError`` for the first that is missing or cannot be used."""
    for flag, value in (
        ("url", settings.login_url),
        ("clientID", settings.login_client_id),
        ("cookieKeyFile", settings.login_cookie_key_file),
    ):
        if not value:
            raise ConfigurationError(f"-login.oidcIssuer needs -login.{flag}")
    if not _is_safe_url(settings.login_oidc_issuer):
        raise ConfigurationError("-login.oidcIssuer: expected an https URL without a query, or http on loopback")
    origin = settings.login_url.rstrip("/")
    if not _is_safe_url(origin) or urlsplit(origin).path:
        raise ConfigurationError(
            "-login.url: expected an address such as https://metrics.example.com, without a path; http on loopback only"
        )
    if "openid" not in settings.login_scopes:
        raise ConfigurationError("-login.scopes: openid is needed")
    if settings.login_token_type not in ("id", "access"):
        raise ConfigurationError("-login.tokenType: expected id or access")
    for text in settings.login_arguments:
        name, _, value = text.partition("=")
        if not name or not value or name in _OWN_ARGUMENTS:
            raise ConfigurationError(
                "-login.arguments: expected name=value, and no argument that the login sets itself"
            )


def build_login(settings: Settings, keys: CookieKeys, prefix: str) -> Login:
    """Return the login of flags that :func:`check_login` has accepted. ``prefix`` is that of all paths."""
    return Login(
        issuer=settings.login_oidc_issuer,
        client_id=settings.login_client_id,
        origin=_origin(settings.login_url.rstrip("/")),
        keys=keys,
        prefix=prefix,
        scopes=settings.login_scopes,
        arguments=tuple((name, value) for name, _, value in (text.partition("=") for text in settings.login_arguments)),
        access_token=settings.login_token_type == "access",  # noqa: S105
    )


def _is_safe_url(url: str) -> bool:
    """Whether it is a plain URL, and nobody on the way can read or change what goes there."""
    if not is_http_url(url) or not url.isascii() or not url.isprintable() or set(url) & set(' ?#@\\"<>'):
        return False
    parts = urlsplit(url)
    return parts.scheme == "https" or _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(url: str) -> str:
    """Return an origin as browsers write it (RFC 6454, section 6.1): in lower case, without the default port."""
    text = url.lower()
    return text.removesuffix(":443" if text.startswith("https:") else ":80")
