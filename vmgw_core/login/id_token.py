"""The ID token of a login (OpenID Connect Core 1.0, section 3.1.3.7): who has logged in, and for which login.

It is verified with the same keys, and by the same code, as every other token. What is checked here in addition is that
the token was made for this client and for this very login.
"""

from __future__ import annotations

from vmgw_core.base import FieldError, as_list, as_number, as_text, optional, required
from vmgw_core.errors import LoginFailed
from vmgw_core.tokens import TokenVerifier
from vmgw_core.tokens.signature import parse_compact, verify


def check_id_token(
    text: str, verifier: TokenVerifier, *, issuer: str, client_id: str, nonce: str | None, now: float
) -> str:
    """Check an ID token and return its ``sub``.

    Args:
        nonce: that of the login; None for a refresh, whose ID token need not have one (section 12.2).
        now: Unix time in seconds.

    Raises:
        TokenRefused: its signature is not valid, or no key may verify it.
        SignatureNotChecked: the library failed.
        LoginFailed: it is not for this login; the message does not quote it.
    """
    jws = parse_compact(text, verifier.rules.max_length)
    if verifier.keys is None:
        raise LoginFailed("no keys are configured that could verify the ID token", status=500)
    verify(jws, verifier.keys, jws.payload.get("iss"))
    claims = jws.payload
    try:
        named = required(claims, "iss", as_text)
        subject = required(claims, "sub", as_text)
        expires = required(claims, "exp", as_number) + verifier.rules.leeway
        audience = claims.get("aud")
        audiences = [audience] if isinstance(audience, str) else as_list(audience, "aud")
        party = optional(claims, "azp", as_text)
    except FieldError as error:
        raise LoginFailed(f"the ID token cannot be used: {error}") from None
    if named != issuer:
        raise LoginFailed("the ID token is of another issuer")
    if client_id not in audiences or party not in (None, client_id) or (len(audiences) > 1 and party is None):
        raise LoginFailed("the ID token is for another client")
    if not now < expires:
        raise LoginFailed("the ID token has expired: are the clocks right?")
    if nonce is not None and claims.get("nonce") != nonce:
        raise LoginFailed("the ID token is for another login: its nonce does not match")
    return subject
