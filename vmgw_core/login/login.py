"""The rules of the login: what is sent to the provider, what is accepted of it, and which cookies say so.

    /-/login ── begin ──> provider ──> /-/callback ── pending, check_callback, accept ──> session cookie ──┐
                                          accept <── provider <── a session that is due ───┘

The token in a session is no other kind of token: each request is decided on by the same verifier, policy and routes as
with ``Authorization: Bearer``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote

from vmgw_core.base import FieldError, as_text, optional, required
from vmgw_core.errors import LoginFailed
from vmgw_core.http import Headers
from vmgw_core.tokens import TokenVerifier

from .contents import PendingLogin, Session
from .cookies import MAX_LENGTH, CookieStyle, join, names_of_pieces, split
from .id_token import check_id_token
from .provider import Provider
from .sealing import CookieKeys, Purpose, sealed_length

LOGIN: Final = "/-/login"
CALLBACK: Final = "/-/callback"
LOGOUT: Final = "/-/logout"
LOGIN_PAGES: Final = frozenset((LOGIN, CALLBACK, LOGOUT))

LOGIN_SECONDS: Final = 600
"""How long a login may take at the provider."""
MAX_PENDING: Final = 5
"""Logins that one browser may have begun: tabs that are restored together."""

_EARLY: Final = 60.0  # seconds before the end of a token when it is refreshed
_STATE_IN_NAME: Final = 8
_MOST_DROPPED: Final = 20
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_ERROR_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,60}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Login:
    """What the flags ``-login.*`` configure. ``origin`` is that of ``-login.url``; ``prefix`` is -http.pathPrefix."""

    issuer: str
    client_id: str
    origin: str
    keys: CookieKeys = field(repr=False)
    prefix: str = ""
    scopes: tuple[str, ...] = ("openid",)
    arguments: tuple[tuple[str, str], ...] = ()
    """Further arguments of the authorization request."""
    access_token: bool = False
    """Whether the access token identifies the user in requests, instead of the ID token."""
    cookies: CookieStyle = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cookies", CookieStyle(secure=self.origin.startswith("https:")))

    @property
    def callback_url(self) -> str:
        """The redirect URI that the provider must know."""
        return f"{self.origin}{self.prefix}{CALLBACK}"

    @property
    def home(self) -> str:
        """Where a login leads that came from nowhere."""
        return f"{self.prefix}/vmui/"

    def login_path(self, target: str) -> str:
        """Return the path of a login that comes back to ``target``."""
        return f"{self.prefix}{LOGIN}?to={quote(target, safe='/')}"

    # --- sessions --------------------------------------------------------------------------------------------------

    def session(self, headers: Headers) -> Session | None:
        """Return the session in the cookies of a request; None without one that this gateway has sealed."""
        text = join(self.cookies.session, self.cookies.read(headers))
        content = None if text is None else self.keys.open(Purpose.SESSION, text)
        return None if content is None else Session.from_bytes(content)

    def has_session(self, headers: Headers) -> bool:
        """Whether a request has cookies of a session, good or not."""
        return bool(self._session_cookies(headers))

    def token(self, headers: Headers) -> str | None:
        """Return the token in the session of a request."""
        session = self.session(headers)
        return None if session is None else session.token

    def set_session(self, session: Session, headers: Headers, nonce: bytes) -> Headers:
        """Return the headers that put ``session`` in place of the one in the request ``headers``.

        Raises ``LoginFailed`` if its tokens do not fit in cookies.
        """
        content = session.to_bytes()
        if sealed_length(content) > MAX_LENGTH:  # the logout does without a hint
            content = replace(session, id_token=None).to_bytes()
        if sealed_length(content) > MAX_LENGTH:
            raise LoginFailed(
                "the tokens of the identity provider are too large for cookies: ask for fewer scopes or claims",
                status=502,
            )
        cookies = split(self.cookies.session, self.keys.seal(Purpose.SESSION, content, nonce))
        names = {name for name, _ in cookies}
        old = [name for name in self._session_cookies(headers) if name not in names]
        return (*(self.cookies.set(name, value) for name, value in cookies), *self.cookies.drop(old))

    def drop_session(self, headers: Headers) -> Headers:
        """Return the headers that remove the session."""
        return self.cookies.drop(self._session_cookies(headers))

    def _session_cookies(self, headers: Headers) -> list[str]:
        found = self.cookies.read(headers)
        return [name for name in names_of_pieces(self.cookies.session) if name in found]

    # --- a login ---------------------------------------------------------------------------------------------------

    def begin(self, pending: PendingLogin, headers: Headers, nonce: bytes) -> Headers:
        """Return the headers that remember a login that begins. A browser with too many forgets the others."""
        start = self._pending_name("")
        begun = [name for name in self.cookies.read(headers) if name.startswith(start) and _NAME.fullmatch(name)]
        dropped = self.cookies.drop(begun[:_MOST_DROPPED]) if len(begun) >= MAX_PENDING else ()
        sealed = self.keys.seal(Purpose.LOGIN, pending.to_bytes(), nonce)
        return (*dropped, self.cookies.set(self._pending_name(pending.state), sealed, seconds=LOGIN_SECONDS))

    def pending(self, state: str, headers: Headers, now: float) -> PendingLogin:
        """Return the login that this browser has begun with ``state``. Raises ``LoginFailed`` if there is none."""
        name = self._pending_name(state)
        values = self.cookies.read(headers).get(name, ()) if _NAME.fullmatch(name) else ()
        content = self.keys.open(Purpose.LOGIN, values[0]) if len(values) == 1 else None
        pending = None if content is None else PendingLogin.from_bytes(content)
        if pending is None or pending.state != state:
            raise LoginFailed("this browser has not begun this login, or has ended it before")
        if not now < pending.expires:
            raise LoginFailed("the login took too long")
        return pending

    def drop_pending(self, state: str, headers: Headers) -> Headers:
        """Return the headers that forget the login with ``state``."""
        name = self._pending_name(state)
        return self.cookies.drop([name] if _NAME.fullmatch(name) and name in self.cookies.read(headers) else [])

    def _pending_name(self, state: str) -> str:
        return f"{self.cookies.prefix}login-{state[:_STATE_IN_NAME]}"

    def check_callback(self, arguments: Mapping[str, str], provider: Provider) -> str:
        """Return the authorization code of a callback. Raises ``LoginFailed`` if there is none.

        The issuer is checked as RFC 9207, section 2.4, says, so that no other provider's response is accepted.
        """
        named = arguments.get("iss")
        if named is None and provider.names_issuer:
            raise LoginFailed("the response does not name its issuer, as the identity provider has announced")
        if named not in (None, self.issuer):
            raise LoginFailed("the response is of another issuer")
        if error := arguments.get("error"):
            raise LoginFailed(f"the identity provider refused the login: {error_code(error)}", status=403)
        if not (code := arguments.get("code")):
            raise LoginFailed("the response has no authorization code")
        return code

    def accept(
        self,
        answer: Mapping[str, object],
        verifier: TokenVerifier,
        of: PendingLogin | Session,
        now: float,
    ) -> Session:
        """Return the session of a token response (OpenID Connect Core 1.0, sections 3.1.3.3 and 12.2).

        Args:
            of: the login that the response is for, or the session that it refreshes. A response to a refresh may lack
                the tokens that stay as they are.

        Raises:
            Refusal: a token would be refused in every request.
            LoginFailed: the response is not for this login or session.
        """
        before = of if isinstance(of, Session) else None
        try:
            id_token = optional(answer, "id_token", as_text)
            token = required(answer, "access_token", as_text) if self.access_token else id_token
            refresh_token = optional(answer, "refresh_token", as_text)
        except FieldError as error:
            raise LoginFailed(f"the token response of the identity provider: {error}", status=502) from None
        subject = ""
        if id_token is not None:
            nonce = of.nonce if isinstance(of, PendingLogin) else None
            subject = check_id_token(
                id_token, verifier, issuer=self.issuer, client_id=self.client_id, nonce=nonce, now=now
            )
        elif before is not None:
            subject, id_token = before.subject, before.id_token
        if token is None or (before is None and id_token is None):
            raise LoginFailed("the token response of the identity provider has no ID token", status=502)
        if before is not None and subject != before.subject:
            raise LoginFailed("the refreshed token is of another user", status=502)
        expires = verifier.verify(token, now).expires_at
        return Session(
            token=token,
            subject=subject,
            refresh_at=max(expires - _EARLY, now + (expires - now) / 2),
            refresh_token=refresh_token or (None if before is None else before.refresh_token),
            id_token=id_token if self.access_token else None,
        )


def error_code(text: str) -> str:
    """Return an error code of OAuth 2.0 (RFC 6749, section 5.2) for people: a word, of what may be any text."""
    return text if _ERROR_CODE.fullmatch(text) else "unknown error"
