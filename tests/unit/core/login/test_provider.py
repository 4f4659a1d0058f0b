"""The discovery document of a provider."""

from __future__ import annotations

import json

import pytest

from tests.support.core.logins import ISSUER, PROVIDER
from vmgw_core.errors import LoginFailed
from vmgw_core.login import Provider, read_provider


def document(issuer: str = ISSUER, **members: object) -> bytes:
    named = {"issuer": issuer, "authorization_endpoint": f"{issuer}/auth", "token_endpoint": f"{issuer}/token"}
    return json.dumps({**named, **members}).encode()


def test_the_smallest_document() -> None:
    assert read_provider(document(), ISSUER) == PROVIDER


def test_all_that_is_read() -> None:
    found = read_provider(
        document(
            end_session_endpoint=f"{ISSUER}/end",
            revocation_endpoint=f"{ISSUER}/revoke",
            token_endpoint_auth_methods_supported=["client_secret_post", "private_key_jwt"],
            authorization_response_iss_parameter_supported=True,
            jwks_uri="anything",
        ),
        ISSUER,
    )
    assert found == Provider(
        authorization_endpoint=f"{ISSUER}/auth",
        token_endpoint=f"{ISSUER}/token",
        end_session_endpoint=f"{ISSUER}/end",
        revocation_endpoint=f"{ISSUER}/revoke",
        secret_in_form=True,
        names_issuer=True,
    )


def test_http_on_loopback() -> None:
    assert (
        read_provider(document("http://127.0.0.1:1"), "http://127.0.0.1:1").token_endpoint == "http://127.0.0.1:1/token"  # noqa: S105
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"<html>", "not valid JSON"),
        (b"{}", "issuer: missing"),
        (document(token_endpoint=1), "expected a string"),
        (document(token_endpoint_auth_methods_supported="post"), "expected a list"),  # noqa: S106
        (document("https://evil.example"), "its issuer is not the one in -login.oidcIssuer"),
        (document(ISSUER + "/"), "its issuer is not the one in -login.oidcIssuer"),
        (document(token_endpoint="http://sso.example/token"), "an endpoint is not an https URL"),  # noqa: S106
        (document(authorization_endpoint="javascript:alert(1)"), "an endpoint is not an https URL"),
        (document(end_session_endpoint="/end"), "an endpoint is not an https URL"),
        (document(revocation_endpoint="https:///x"), "an endpoint is not an https URL"),
        (document(authorization_endpoint="https://sso.example/a\r\nX: y"), "an endpoint is not an https URL"),
        (document(authorization_endpoint="https://sso.example/\u00e9"), "an endpoint is not an https URL"),
    ],
)
def test_a_document_that_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(LoginFailed, match=reason) as found:
        read_provider(text, ISSUER)
    assert found.value.status == 502
