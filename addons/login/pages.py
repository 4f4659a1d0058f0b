"""The pages of the login, and the refresh of sessions.

A session is refreshed by a redirect of the request to itself (307): the browser repeats it, body and all, with the new
cookie. So no response of a backend has to carry cookies, and both lanes only show a page.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final, TypeVar
from urllib.parse import parse_qsl

from vmgw_addons.sources import KeyRefresh
from vmgw_addons.state import InForce
from vmgw_addons.support import Background, Secret, in_thread
from vmgw_core.enforcement import Policy
from vmgw_core.errors import BadSignature, LoginFailed, MethodNotAllowed, Refusal, UnknownKey, WrongIssuer
from vmgw_core.http import Headers, Response, refusal_response
from vmgw_core.login import (
    CALLBACK,
    LOGIN,
    LOGIN_PAGES,
    LOGIN_SECONDS,
    LOGOUT,
    NONCE_BYTES,
    Login,
    PendingLogin,
    Provider,
    Session,
    button,
    is_own_target,
    link,
    login_page,
    may_use_session,
    redirect,
)

from . import client
from .shared import Shared

T = TypeVar("T")

logger = logging.getLogger(__name__)

MOST_REQUESTS: Final = 16
"""Requests to the identity provider at once, each of which holds a thread."""

_PROVIDER_KEPT: Final = 3600.0  # seconds
_SESSION_KEPT: Final = 60.0  # for requests that were sent before their browser had the new cookie
_FAILURE_KEPT: Final = 5.0
_MAX_ARGUMENTS: Final = 50
_METHODS: Final = {LOGIN: ("GET",), CALLBACK: ("GET",), LOGOUT: ("GET", "POST")}


class LoginPages:
    """Serves ``/-/login``, ``/-/callback`` and ``/-/logout``, and refreshes sessions.

    Args:
        clock: returns Unix time in seconds.
    """

    def __init__(
        self,
        in_force: InForce,
        background: Background,
        keys: KeyRefresh,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.in_force = in_force
        self.background = background
        self.keys = keys
        self.clock = clock
        self.providers: Shared[Provider] = Shared(
            background, "login_provider", time.monotonic, kept=_PROVIDER_KEPT, failure_kept=_FAILURE_KEPT
        )
        self.refreshes: Shared[Session] = Shared(
            background, "login_refresh", time.monotonic, kept=_SESSION_KEPT, failure_kept=_FAILURE_KEPT
        )
        self.slots = threading.Semaphore(MOST_REQUESTS)

    def page_for(self, method: str, path: str, target: str, headers: Headers) -> Response | Awaitable[Response] | None:
        """Return the page at ``path``, or the redirect that refreshes a session; None if there is neither.

        ``path`` is without -http.pathPrefix, ``target`` as it was sent.
        """
        policy = self.in_force.configured.policy
        login = None if policy is None else policy.login
        if policy is None or login is None:
            return None
        if path not in LOGIN_PAGES:
            session = self.due(policy, login, target, headers)
            return None if session is None else self.renew(policy, login, session, target, headers)
        if method not in _METHODS[path]:
            allowed = _METHODS[path]
            return refusal_response(MethodNotAllowed(f"this page accepts {' or '.join(allowed)}", allowed))
        query = target.partition("?")[2]
        if path == LOGIN:
            return self.begin(login, query, headers)
        if path == CALLBACK:
            return self.callback(login, query, headers)
        if method == "GET":
            return login_page(200, "Log out", "Do you want to log out?", button(login.prefix + LOGOUT, "Log out"))
        if not may_use_session(headers, login.origin, safe=False):
            return login_page(403, "Not logged out", "A page of another site sent this request.")
        return self.log_out(login, headers)

    # --- a login ---------------------------------------------------------------------------------------------------

    async def begin(self, login: Login, query: str, headers: Headers) -> Response:
        """Lead the browser to the provider."""
        try:
            target = arguments_of(query).get("to", login.home)
            if not is_own_target(target) or not target.startswith(f"{login.prefix}/"):
                raise LoginFailed("the page to return to is not one of this gateway")
            provider = await self.provider(login)
        except LoginFailed as error:
            return self.failed(login, error)
        pending = PendingLogin(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            target=target,
            expires=self.clock() + LOGIN_SECONDS,
        )
        cookies = login.begin(pending, headers, secrets.token_bytes(NONCE_BYTES))
        return redirect(303, client.authorization_url(login, provider, pending), cookies)

    async def callback(self, login: Login, query: str, headers: Headers) -> Response:
        """Take the browser back from the provider, with a session if all is right."""
        ended: Headers = ()
        try:
            arguments = arguments_of(query)
            state = arguments.get("state", "")
            pending = login.pending(state, headers, self.clock())
            ended = login.drop_pending(state, headers)
            provider = await self.provider(login)
            code = login.check_callback(arguments, provider)
            secret = self.secret()
            answer = await self.ask(lambda: client.exchange(login, secret, provider, code, pending.verifier))
            session = self.accept(login, answer, pending)
            cookies = login.set_session(session, headers, secrets.token_bytes(NONCE_BYTES))
        except LoginFailed as error:
            return self.failed(login, error, ended)
        except Refusal as refusal:
            return self.failed(login, self.no_access(refusal), ended)
        return redirect(303, pending.target, (*cookies, *ended))

    def accept(self, login: Login, answer: dict[str, object], of: PendingLogin | Session) -> Session:
        """Return the session of a token response. Fetch keys if that of a token is not known."""
        policy = self.in_force.configured.policy
        assert policy is not None
        try:
            return login.accept(answer, policy.verifier, of, self.clock())
        except (UnknownKey, BadSignature):
            self.keys.unknown_key()
            raise

    def no_access(self, refusal: Refusal) -> LoginFailed:
        """Return what people read if the token they got would be refused."""
        policy = self.in_force.configured.policy
        logger.warning(f"login refused: {refusal.code}: {refusal.message!r}")
        if isinstance(refusal, UnknownKey) and not isinstance(refusal, WrongIssuer):
            return LoginFailed("the key of your token is not known yet; please try again", status=503)
        told = refusal.message if policy is not None and policy.tell_why else "its token gives no access here"
        return LoginFailed(f"You are logged in at the identity provider, but {told}", status=403)

    def failed(self, login: Login, error: LoginFailed, cookies: Headers = ()) -> Response:
        """Return the page of a login that failed."""
        if error.status >= 500:
            logger.warning(f"login failed: {error}")
        text = str(error)
        again = link(login.prefix + LOGIN, "Log in again")
        return login_page(error.status, "Not logged in", f"{text[0].upper()}{text[1:]}.", again, cookies)

    async def log_out(self, login: Login, headers: Headers) -> Response:
        """End the session, here and at the provider."""
        session, dropped = login.session(headers), login.drop_session(headers)
        try:
            provider = await self.provider(login) if session is not None else None
        except LoginFailed:
            provider = None
        if session is not None and provider is not None:
            if session.refresh_token is not None:
                self.background.once("login_revoke", self.revoke(login, provider, session.refresh_token))
            id_token = session.id_token if login.access_token else session.token
            url = client.logout_url(login, provider, id_token)
            if url is not None:
                return redirect(303, url, dropped, secret=True)
        return login_page(200, "Logged out", "You are logged out.", link(login.home, "Log in again"), dropped)

    async def revoke(self, login: Login, provider: Provider, refresh_token: str) -> None:
        """Revoke a refresh token, so that a copy of the cookie ends with its token."""
        secret = self.secret()
        try:
            await self.ask(lambda: client.revoke(login, secret, provider, refresh_token))
        except LoginFailed as error:
            logger.warning(f"a refresh token was not revoked: {error}")

    # --- refreshes -------------------------------------------------------------------------------------------------

    def due(self, policy: Policy, login: Login, target: str, headers: Headers) -> Session | None:
        """Return the session of a request that is to be refreshed first."""
        if not policy.token_source.may_be_cookie(headers) or not may_use_session(headers, login.origin, safe=True):
            return None
        session = login.session(headers)
        return session if session is not None and session.is_due(self.clock()) and is_own_target(target) else None

    async def renew(self, policy: Policy, login: Login, session: Session, target: str, headers: Headers) -> Response:
        """Refresh the session, and have the request repeated with it."""
        assert session.refresh_token is not None
        try:
            key = sha256(session.refresh_token.encode()).digest()
            found = await self.refreshes.get(key, lambda: self.refresh(login, session))
        except LoginFailed as error:
            try:
                policy.verifier.verify(session.token, self.clock())
            except Refusal:
                return login_page(503, "Try again", f"Your login has to be renewed, but {error}.")
            found = session.later(self.clock())
        try:
            cookies = login.set_session(found, headers, secrets.token_bytes(NONCE_BYTES))
        except LoginFailed:
            cookies = login.drop_session(headers)
        return redirect(307, target, cookies)

    async def refresh(self, login: Login, session: Session) -> Session:
        """Return the session that follows ``session``. Raises ``LoginFailed`` if the provider cannot be asked."""
        refresh_token, secret = session.refresh_token, self.secret()
        assert refresh_token is not None
        provider = await self.provider(login)
        try:
            answer = await self.ask(lambda: client.refresh(login, secret, provider, refresh_token))
        except LoginFailed as error:
            if error.status == 400:
                return session.final()
            logger.warning(f"a login was not renewed: {error}")
            raise
        try:
            return self.accept(login, answer, session)
        except (UnknownKey, BadSignature):  # the provider has new keys, which are being fetched
            newer = answer.get("refresh_token")
            return session.later(self.clock(), newer if isinstance(newer, str) else None)
        except (LoginFailed, Refusal) as error:
            logger.warning(f"a login ends with its token: {str(error)!r}")
            return session.final()

    # --- the provider ----------------------------------------------------------------------------------------------

    async def provider(self, login: Login) -> Provider:
        """Return the endpoints of the provider. Raises ``LoginFailed``."""
        return await self.providers.get(login.issuer, lambda: self.ask(lambda: client.fetch_provider(login)))

    def secret(self) -> Secret:
        """Return the client's secret."""
        secret = self.in_force.configured.login_secret
        assert secret is not None
        return secret

    async def ask(self, function: Callable[[], T]) -> T:
        """Call a function that asks the provider, in a thread. Raises ``LoginFailed``, also if there are too many."""
        if not self.slots.acquire(blocking=False):
            raise LoginFailed("the identity provider is asked too much at once", status=503)

        def work() -> T:
            try:
                return function()
            finally:
                self.slots.release()

        return await in_thread(work, "login")


def arguments_of(query: str) -> dict[str, str]:
    """Return the arguments of a page. Raises ``LoginFailed`` if two have one name, or there are too many."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_ARGUMENTS, errors="strict")
    except ValueError:
        raise LoginFailed("the arguments of this page cannot be read") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise LoginFailed("an argument of this page is there twice")
    return found
