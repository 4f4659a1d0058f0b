"""What the identity provider says of itself: its discovery document.

OpenID Connect Discovery 1.0, section 3, and RFC 8414, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from vmgw_core.base import FieldError, as_list, as_text, is_http_url, load_object, optional, required
from vmgw_core.errors import LoginFailed

DISCOVERY: Final = "/.well-known/openid-configuration"
_BAD_DOCUMENT: Final = "the identity provider's discovery document cannot be used: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """The endpoints of a provider, and what it supports."""

    authorization_endpoint: str
    token_endpoint: str
    end_session_endpoint: str | None = None
    revocation_endpoint: str | None = None
    secret_in_form: bool = False
    """Whether it takes the client's secret in the form alone (``client_secret_post``)."""
    names_issuer: bool = False
    """Whether it names itself in the callback (RFC 9207)."""


def read_provider(document: bytes, issuer: str) -> Provider:
    """Read the discovery document of ``issuer``.

    Raises ``LoginFailed`` if it is of another issuer, or an endpoint of an https issuer is not https.
    """
    try:
        fields = load_object(document, "document")
        named = required(fields, "issuer", as_text)
        methods = as_list(fields.get("token_endpoint_auth_methods_supported", ["client_secret_basic"]), "methods")
        provider = Provider(
            authorization_endpoint=required(fields, "authorization_endpoint", as_text),
            token_endpoint=required(fields, "token_endpoint", as_text),
            end_session_endpoint=optional(fields, "end_session_endpoint", as_text),
            revocation_endpoint=optional(fields, "revocation_endpoint", as_text),
            secret_in_form="client_secret_basic" not in methods and "client_secret_post" in methods,
            names_issuer=fields.get("authorization_response_iss_parameter_supported") is True,
        )
    except FieldError as error:
        raise LoginFailed(f"{_BAD_DOCUMENT}{error}", status=502) from None
    if named != issuer:
        raise LoginFailed(f"{_BAD_DOCUMENT}its issuer is not the one in -login.oidcIssuer", status=502)
    endpoints = (
        provider.authorization_endpoint,
        provider.token_endpoint,
        provider.end_session_endpoint,
        provider.revocation_endpoint,
    )
    secure = urlsplit(issuer).scheme == "https"
    for url in filter(None, endpoints):
        if (
            not is_http_url(url)
            or not url.isascii()
            or not url.isprintable()
            or (secure and url[:6].lower() != "https:")
        ):
            raise LoginFailed(f"{_BAD_DOCUMENT}an endpoint is not an {urlsplit(issuer).scheme} URL", status=502)
    return provider
