"""The flags of the login."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.core.logins import cookie_keys
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError
from vmgw_core.login import build_login, check_login

GOOD = Settings(
    login_oidc_issuer="https://sso.example/realms/main",
    login_url="https://Metrics.example:443/",
    login_client_id="gateway",
    login_cookie_key_file="keys",
    login_scopes=("openid", "groups"),
    login_arguments=("audience=metrics", "prompt=a=b"),
)


def test_all_flags() -> None:
    check_login(GOOD)
    found = build_login(GOOD, cookie_keys(), "/gw")
    assert (found.issuer, found.client_id) == ("https://sso.example/realms/main", "gateway")
    assert (found.origin, found.prefix) == ("https://metrics.example", "/gw")
    assert found.scopes == ("openid", "groups")
    assert found.arguments == (("audience", "metrics"), ("prompt", "a=b"))
    assert not found.access_token
    assert build_login(replace(GOOD, login_token_type="access"), cookie_keys(), "").access_token  # noqa: S106


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://localhost:8431", "http://localhost:8431"),
        ("http://127.0.0.2:80", "http://127.0.0.2"),
        ("http://[::1]:8431/", "http://[::1]:8431"),
        ("https://metrics.example:8443", "https://metrics.example:8443"),
    ],
)
def test_origins(url: str, origin: str) -> None:
    changed = replace(GOOD, login_url=url)
    check_login(changed)
    assert build_login(changed, cookie_keys(), "").origin == origin


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"login_url": ""}, "-login.oidcIssuer needs -login.url"),
        ({"login_client_id": ""}, "-login.oidcIssuer needs -login.clientID"),
        ({"login_cookie_key_file": ""}, "-login.oidcIssuer needs -login.cookieKeyFile"),
        ({"login_oidc_issuer": "http://sso.example"}, "-login.oidcIssuer: expected an https URL"),
        ({"login_oidc_issuer": "https://sso.example/?a"}, "-login.oidcIssuer: expected an https URL"),
        ({"login_oidc_issuer": "https://user:pass@sso.example"}, "-login.oidcIssuer: expected an https URL"),
        ({"login_oidc_issuer": "sso.example"}, "-login.oidcIssuer: expected an https URL"),
        ({"login_url": "http://metrics.example"}, "-login.url: expected an address"),
        ({"login_url": "http://127.evil.example"}, "-login.url: expected an address"),
        ({"login_url": "https://metrics.example/path"}, "-login.url: expected an address"),
        ({"login_url": "https://metrics.example\\@evil"}, "-login.url: expected an address"),
        ({"login_url": "https://m\u00e9trics.example"}, "-login.url: expected an address"),
        ({"login_scopes": ("profile",)}, "-login.scopes: openid is needed"),
        ({"login_token_type": "both"}, "-login.tokenType: expected id or access"),
        ({"login_arguments": ("audience",)}, "-login.arguments: expected name=value"),
        ({"login_arguments": ("=x",)}, "-login.arguments: expected name=value"),
        ({"login_arguments": ("state=x",)}, "-login.arguments: expected name=value"),
    ],
)
def test_flags_that_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigurationError) as found:
        check_login(replace(GOOD, **changes))  # type: ignore[arg-type]
    assert str(found.value).startswith(reason)
