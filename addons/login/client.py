"""The gateway as a client of the identity provider (RFC 6749, RFC 7636, RFC 7009). All functions block but one.

Each raises ``LoginFailed``, whose message holds no secret and no text of the provider but a code of OAuth 2.0. Its
status says what failed: 400 the code or the refresh token, 502 the provider or its configuration, 503 the way to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session

from vmgw_addons.outgoing import RequestFailed, download, failure_of
from vmgw_addons.outgoing.http import bounded
from vmgw_addons.support import Secret
from vmgw_core.errors import ConfigurationError, LoginFailed
from vmgw_core.login import DISCOVERY, Login, PendingLogin, Provider, error_code, read_provider

_USED: Final = "invalid_grant"  # RFC 6749, section 5.2: a code or a refresh token that is not valid any more

_NO_ANSWER: Final = "the identity provider's response is not that of a token endpoint"


def fetch_provider(login: Login) -> Provider:
    """Fetch the discovery document of the provider."""
    try:
        return read_provider(download(login.issuer.rstrip("/") + DISCOVERY), login.issuer)
    except (RequestFailed, ConfigurationError) as error:
        raise _unreachable(error) from None


def authorization_url(login: Login, provider: Provider, pending: PendingLogin) -> str:
    """Return the URL that asks the provider for a login. Does not block."""
    session = OAuth2Session(
        login.client_id,
        scope=" ".join(login.scopes),
        redirect_uri=login.callback_url,
        code_challenge_method="S256",
    )
    url, _ = session.create_authorization_url(
        provider.authorization_endpoint,
        state=pending.state,
        code_verifier=pending.verifier,
        nonce=pending.nonce,
        **dict(login.arguments),
    )
    return str(url)


def exchange(login: Login, secret: Secret, provider: Provider, code: str, verifier: str) -> dict[str, Any]:
    """Exchange an authorization code for tokens."""
    return _asked_for_tokens(
        login,
        secret,
        provider,
        lambda session: session.fetch_token(
            provider.token_endpoint,
            grant_type="authorization_code",
            code=code,
            code_verifier=verifier,
            redirect_uri=login.callback_url,
            allow_redirects=False,
        ),
    )


def refresh(login: Login, secret: Secret, provider: Provider, refresh_token: str) -> dict[str, Any]:
    """Exchange a refresh token for new tokens."""
    return _asked_for_tokens(
        login,
        secret,
        provider,
        lambda session: session.refresh_token(
            provider.token_endpoint, refresh_token=refresh_token, allow_redirects=False
        ),
    )


def revoke(login: Login, secret: Secret, provider: Provider, refresh_token: str) -> None:
    """Tell the provider that a refresh token will not be used any more, if it wants to know."""
    if provider.revocation_endpoint is not None:
        _asked(
            login,
            secret,
            provider,
            lambda session: session.revoke_token(
                provider.revocation_endpoint,
                token=refresh_token,
                token_type_hint="refresh_token",  # noqa: S106
                allow_redirects=False,
            ),
        )


def logout_url(login: Login, provider: Provider, id_token: str | None) -> str | None:
    """Return where the provider ends its own session (RP-Initiated Logout 1.0, section 2). Does not block."""
    if provider.end_session_endpoint is None:
        return None
    arguments = {"client_id": login.client_id, **({} if id_token is None else {"id_token_hint": id_token})}
    mark = "&" if "?" in provider.end_session_endpoint else "?"
    return f"{provider.end_session_endpoint}{mark}{urlencode(arguments)}"


def _asked_for_tokens(
    login: Login, secret: Secret, provider: Provider, ask: Callable[[OAuth2Session], object]
) -> dict[str, Any]:
    answer = _asked(login, secret, provider, ask)
    if not isinstance(answer, dict):
        raise LoginFailed(_NO_ANSWER, status=502)
    return answer


def _asked(login: Login, secret: Secret, provider: Provider, ask: Callable[[OAuth2Session], object]) -> object:
    secret.refresh()
    method = "client_secret_post" if provider.secret_in_form else "client_secret_basic"
    if not secret:
        method = "none"
    session = OAuth2Session(
        login.client_id,
        secret.value.decode("utf-8", "surrogateescape") or None,
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
    )
    try:
        with bounded(session, provider.token_endpoint) as session:
            return ask(session)
    except AuthlibBaseError as error:
        code = error_code(str(error.error))
        raise LoginFailed(
            f"the identity provider gave no token: {code}", status=400 if code == _USED else 502
        ) from None
    except (OSError, RequestFailed, ConfigurationError) as error:
        raise _unreachable(error) from None
    except (AttributeError, LookupError, TypeError, ValueError):  # of a response of another form
        raise LoginFailed(_NO_ANSWER, status=502) from None


def _unreachable(error: Exception) -> LoginFailed:
    return LoginFailed(f"the identity provider cannot be asked: {failure_of(error).text}", status=503)
