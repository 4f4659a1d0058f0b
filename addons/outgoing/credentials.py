"""Credentials for ``-datasource.url``: Basic auth, a bearer token, or the OAuth2 client credentials grant."""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from requests.exceptions import JSONDecodeError

from vmgw_core.base import FieldError, as_text, is_http_url, load_object
from vmgw_core.base.strict_json import child
from vmgw_core.configuration import Settings
from vmgw_core.errors import Cause, ConfigurationError

from .errors import RequestFailed, failure_of
from .http import bounded

_MAX_SECRET: Final = 64 << 10  # bytes of a file with a secret
_LEEWAY: Final = 30.0  # seconds before its expiry when a token is replaced


class SecretFlag:
    """The value of ``-<flag>``, or of the file ``-<flag>File``, which is read at each use.

    Raises:
        ConfigurationError: both flags are set, or the file cannot be read.
    """

    def __init__(self, flag: str, value: str, path: str) -> None:
        self._value, self._path = value, path
        self._flag = f"{flag}File"
        if value and path:
            raise ConfigurationError(f"-{flag} and -{self._flag}: set one of them")
        try:
            self.read()
        except RequestFailed as error:
            raise ConfigurationError(str(error)) from None

    def __bool__(self) -> bool:
        return bool(self._value or self._path)

    def read(self) -> str:
        """Return the value. Raises ``RequestFailed`` if the file cannot be read, or is not one line of text."""
        if not self._path:
            return self._value
        try:
            with Path(self._path).open("rb") as file:
                text = file.read(_MAX_SECRET).decode().rstrip()
        except OSError as error:
            raise RequestFailed(f"-{self._flag}: cannot read {self._path}: {error.strerror}", Cause.FILE) from None
        except UnicodeError:
            raise RequestFailed(f"-{self._flag}: {self._path} is not UTF-8", Cause.FILE) from None
        if any(ord(char) < 0x20 for char in text):
            raise RequestFailed(f"-{self._flag}: {self._path} has more than one line", Cause.FILE)
        return text


class Credentials:
    """The ``Authorization`` header.

    Raises:
        ConfigurationError: flags contradict or lack each other, or a file cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._user = SecretFlag(
            "datasource.basicAuth.username",
            settings.datasource_basic_auth_username,
            settings.datasource_basic_auth_username_file,
        )
        self._password = SecretFlag(
            "datasource.basicAuth.password",
            settings.datasource_basic_auth_password,
            settings.datasource_basic_auth_password_file,
        )
        self._bearer = SecretFlag(
            "datasource.bearerToken", settings.datasource_bearer_token, settings.datasource_bearer_token_file
        )
        self._oauth2 = ClientCredentials(settings) if settings.datasource_oauth2_client_id else None
        if [bool(self._user), bool(self._bearer), self._oauth2 is not None].count(True) > 1:
            raise ConfigurationError(
                "set only one of -datasource.basicAuth.*, -datasource.bearerToken* and -datasource.oauth2.*"
            )

    def headers(self) -> dict[str, str | bytes]:
        """Return the header, if any. May fetch a token. Raises ``RequestFailed`` without a file or token."""
        if self._user:
            pair = f"{self._user.read()}:{self._password.read()}"
            return {"Authorization": b"Basic " + b64encode(pair.encode())}
        if self._bearer:
            return {"Authorization": f"Bearer {self._bearer.read()}".encode()}
        if self._oauth2 is not None:
            return {"Authorization": f"Bearer {self._oauth2.token()}".encode()}
        return {}

    def refused(self) -> None:
        """Drop the kept token: the server responded 401."""
        if self._oauth2 is not None:
            self._oauth2.forget()


class ClientCredentials:
    """A token of the OAuth2 client credentials grant (RFC 6749, section 4.4), kept until shortly before its expiry.

    Raises:
        ConfigurationError: a flag is missing or cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        flags = "datasource.oauth2"
        self._client = settings.datasource_oauth2_client_id
        self._secret = SecretFlag(
            f"{flags}.clientSecret",
            settings.datasource_oauth2_client_secret,
            settings.datasource_oauth2_client_secret_file,
        )
        self._url = settings.datasource_oauth2_token_url
        self._scope = " ".join(filter(None, settings.datasource_oauth2_scopes.split(";")))
        self._parameters = _parameters(settings.datasource_oauth2_endpoint_params, f"-{flags}.endpointParams")
        if not self._secret:
            raise ConfigurationError(f"-{flags}.clientID needs -{flags}.clientSecret or -{flags}.clientSecretFile")
        if not is_http_url(self._url):
            raise ConfigurationError(f"-{flags}.tokenUrl: expected a URL such as https://idp.example.com/token")
        self._lock = threading.Lock()
        self._method = "client_secret_basic"
        self._kept: tuple[str, str, float] | None = None
        """The token, the secret that it was issued for, and when to replace it."""

    def token(self) -> str:
        """Return the token, or fetch one. Raises ``RequestFailed``."""
        if not self._lock.acquire(timeout=1):
            raise RequestFailed("no OAuth2 token: a request for one is still running", Cause.TIMEOUT)
        try:
            secret, kept = self._secret.read(), self._kept
            if kept is None or kept[1] != secret or kept[2] <= time.monotonic():
                self._kept = None
                token, lifetime = self._fetch(secret)
                kept = self._kept = token, secret, time.monotonic() + max(lifetime - _LEEWAY, lifetime / 2)
            return kept[0]
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Fetch a new token next time."""
        self._kept = None

    def _fetch(self, secret: str) -> tuple[str, float]:
        try:
            response = self._response(secret)
            token, lifetime = response["access_token"], float(response.get("expires_in", 3600))
        except AuthlibBaseError as error:
            # RFC 6749, section 5.2: a fixed set of words. The description may hold anything.
            raise RequestFailed(f"no OAuth2 token: {str(error.error)[:60]!r}", Cause.STATUS) from None
        except (KeyError, TypeError, JSONDecodeError):
            raise RequestFailed("no OAuth2 token: not the response of a token endpoint", Cause.RESPONSE) from None
        except (OSError, RequestFailed, ConfigurationError) as error:
            text, cause = failure_of(error)
            raise RequestFailed(f"no OAuth2 token: {text}", cause) from None
        except ValueError:
            raise RequestFailed("no OAuth2 token: not the response of a token endpoint", Cause.RESPONSE) from None
        if not 0 <= lifetime < 1e9:
            raise RequestFailed("no OAuth2 token: invalid lifetime in the response", Cause.RESPONSE)
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
            raise RequestFailed("no OAuth2 token: no bearer token in the response", Cause.RESPONSE)
        return token, lifetime

    def _response(self, secret: str) -> dict[str, Any]:
        """Send the secret in a header or, if the server does not accept that, in the form, as Go's client does."""
        try:
            return self._ask(secret, self._method)
        except AuthlibBaseError as error:
            if error.error != "invalid_client":
                raise
            other = {"client_secret_basic": "client_secret_post", "client_secret_post": "client_secret_basic"}
            response = self._ask(secret, other[self._method])
            self._method = other[self._method]
            return response

    def _ask(self, secret: str, method: str) -> dict[str, Any]:
        session = OAuth2Session(self._client, secret, scope=self._scope or None, token_endpoint_auth_method=method)
        with bounded(session, self._url) as session:
            response: dict[str, Any] = session.fetch_token(
                self._url, body=urlencode(self._parameters), grant_type="client_credentials", allow_redirects=False
            )
            return response


def _parameters(text: str, flag: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        return {name: as_text(value, child("", name)) for name, value in load_object(text, "value").items()}
    except FieldError as error:
        raise ConfigurationError(
            f'{flag}: expected a JSON object of strings such as {{"resource":"x"}}: {error}'
        ) from None
