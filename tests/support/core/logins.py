"""A login for tests: its keys, its provider's tokens, and the cookies of a browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.support.core import keys
from vmgw_core.http import Headers
from vmgw_core.login import CookieKeys, Login, PendingLogin, Provider, Session
from vmgw_core.tokens import KeyRing, TokenVerifier, keys_from_jwks

ISSUER: Final = "https://sso.example/realms/main"
CLIENT: Final = "gateway"
ORIGIN: Final = "https://metrics.example"
NONCE: Final = b"n" * 12
"""Of a sealed text: the tests seal each text once."""

PROVIDER: Final = Provider(authorization_endpoint=f"{ISSUER}/auth", token_endpoint=f"{ISSUER}/token")


def cookie_keys(*fill: bytes) -> CookieKeys:
    """Keys that consist of one byte each."""
    return CookieKeys([byte * 32 for byte in fill or (b"k",)])


def login(**changes: object) -> Login:
    """A login over TLS."""
    given = {"issuer": ISSUER, "client_id": CLIENT, "origin": ORIGIN, "keys": cookie_keys(), **changes}
    return Login(**given)  # type: ignore[arg-type]


def verifier() -> TokenVerifier:
    """Verifies what :func:`id_token` signs."""
    found = keys_from_jwks(keys.jwks(keys.jwk(keys.ec_key(), kid="1", alg="ES256")), "test")
    return TokenVerifier(KeyRing(static=found.keys).keyset)


def id_token(**claims: object) -> str:
    """An ID token of the provider for the client; ``claims`` replace those that a good one has, None removes them."""
    good: dict[str, object] = {"iss": ISSUER, "sub": "ann", "aud": CLIENT, "nonce": "the-nonce", "exp": keys.NOW + 600}
    full = keys.claims(**good) | claims
    return keys.sign({name: value for name, value in full.items() if value is not None}, keys.ec_key())


TOKEN: Final = id_token()
"""A good one. Signatures differ each time, so this is the one to compare."""


def pending(**changes: object) -> PendingLogin:
    """A login that has begun."""
    given: dict[str, object] = {
        "state": "s" * 43,
        "nonce": "the-nonce",
        "verifier": "v" * 64,
        "target": "/vmui/",
        "expires": keys.NOW + 600.0,
        **changes,
    }
    return PendingLogin(**given)  # type: ignore[arg-type]


def session(**changes: object) -> Session:
    """A session with a refresh token."""
    given: dict[str, object] = {
        "token": TOKEN,
        "subject": "ann",
        "refresh_at": keys.NOW + 540.0,
        "refresh_token": "r",
        **changes,
    }
    return Session(**given)  # type: ignore[arg-type]


def jar(set_cookies: Headers, before: Mapping[str, str] | None = None) -> dict[str, str]:
    """The cookies that a browser keeps after a response with these headers."""
    kept = dict(before or {})
    for header, value in set_cookies:
        assert header == b"Set-Cookie"
        pair, *attributes = value.decode("ascii").split("; ")
        name, _, content = pair.partition("=")
        if "Max-Age=0" in attributes:
            kept.pop(name, None)
        else:
            kept[name] = content
    return kept


def sent(cookies: Mapping[str, str]) -> Headers:
    """The header with which a browser sends its cookies."""
    return ((b"Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()).encode("latin-1")),)
