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
from vmgw_core.errors import ConfigurationError

from .errors import AskError, describe
from .http import bounded

_MAX_SECRET: Final = 64 << 10  # bytes of a file with a secret
_LEEWAY: Final = 30.0  # seconds before its end at which a token is replaced


class Secret:
    """A value from a flag, or from a file that is read each time it is needed: it can be replaced at any moment."""

    def __init__(self, flag: str, value: str, path: str) -> None:
        """``value`` is that of ``-<flag>``, ``path`` that of ``-<flag>File``.

        Raises:
            ConfigurationError: both flags are set, or the file cannot be read.
        """
        self._value, self._path = value, path
        self._flag = f"{flag}File"
        if value and path:
            raise ConfigurationError(f"-{flag} and -{self._flag}: set one of them")
        try:
            self.read()
        except AskError as error:
            raise ConfigurationError(str(error)) from None

    def __bool__(self) -> bool:
        return bool(self._value or self._path)

    def read(self) -> str:
        """The value as of now.

        Raises:
            AskError: the file cannot be read, or holds no text of one line.
        """
        if not self._path:
            return self._value
        try:
            with Path(self._path).open("rb") as file:
                text = file.read(_MAX_SECRET).decode().rstrip()
        except OSError as error:
            raise AskError(f"-{self._flag}: cannot read {self._path}: {error.strerror}") from None
        except UnicodeError:
            raise AskError(f"-{self._flag}: {self._path} is not UTF-8") from None
        if any(ord(char) < 0x20 for char in text):
            raise AskError(f"-{self._flag}: {self._path} holds more than one line")
        return text


class Credentials:
    """What goes into the header ``Authorization``."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            ConfigurationError: flags that exclude each other, that lack another, or a file that cannot be read.
        """
        self._user = Secret(
            "datasource.basicAuth.username",
            settings.datasource_basic_auth_username,
            settings.datasource_basic_auth_username_file,
        )
        self._password = Secret(
            "datasource.basicAuth.password",
            settings.datasource_basic_auth_password,
            settings.datasource_basic_auth_password_file,
        )
        self._bearer = Secret(
            "datasource.bearerToken", settings.datasource_bearer_token, settings.datasource_bearer_token_file
        )
        self._oauth2 = ClientCredentials(settings) if settings.datasource_oauth2_client_id else None
        if self._password and not self._user:
            raise ConfigurationError("-datasource.basicAuth.password needs -datasource.basicAuth.username")
        if [bool(self._user), bool(self._bearer), self._oauth2 is not None].count(True) > 1:
            raise ConfigurationError(
                "-datasource.basicAuth.*, -datasource.bearerToken* and -datasource.oauth2.*: set one kind of them"
            )
        if self._oauth2 is None:
            for name, value in (
                ("clientSecret", settings.datasource_oauth2_client_secret),
                ("clientSecretFile", settings.datasource_oauth2_client_secret_file),
                ("tokenUrl", settings.datasource_oauth2_token_url),
                ("scopes", settings.datasource_oauth2_scopes),
                ("endpointParams", settings.datasource_oauth2_endpoint_params),
            ):
                if value:
                    raise ConfigurationError(f"-datasource.oauth2.{name} needs -datasource.oauth2.clientID")

    def headers(self) -> dict[str, str | bytes]:
        """The header, or none. May fetch a token.

        Raises:
            AskError: a file cannot be read, or no token was given.
        """
        if self._user:
            pair = f"{self._user.read()}:{self._password.read()}"
            return {"Authorization": b"Basic " + b64encode(pair.encode())}
        if self._bearer:
            return {"Authorization": f"Bearer {self._bearer.read()}".encode()}
        if self._oauth2 is not None:
            return {"Authorization": f"Bearer {self._oauth2.token()}".encode()}
        return {}

    def refused(self) -> None:
        """The server has answered 401: whatever token was kept is not used again."""
        if self._oauth2 is not None:
            self._oauth2.forget()


class ClientCredentials:
    """A token of the OAuth2 client credentials grant (RFC 6749, section 4.4), kept until shortly before its end."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            ConfigurationError: a flag is missing or cannot be used.
        """
        flags = "datasource.oauth2"
        self._client = settings.datasource_oauth2_client_id
        self._secret = Secret(
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
        """Token, the secret that it was given for, and when to replace it."""

    def token(self) -> str:
        """The token in use, or a new one.

        Raises:
            AskError: there is none.
        """
        if not self._lock.acquire(timeout=1):
            raise AskError("no OAuth2 token: the request for one is still under way")
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
        """Fetch another one next time."""
        self._kept = None

    def _fetch(self, secret: str) -> tuple[str, float]:
        try:
            answer = self._answer(secret)
            token, lifetime = answer["access_token"], float(answer.get("expires_in", 3600))
        except AuthlibBaseError as error:
            # RFC 6749, section 5.2: a fixed set of words. The description may hold anything.
            raise AskError(f"no OAuth2 token: {str(error.error)[:60]!r}") from None
        except (KeyError, TypeError, JSONDecodeError):
            raise AskError("no OAuth2 token: the answer is none of a token endpoint") from None
        except (OSError, AskError, ConfigurationError) as error:
            raise AskError(f"no OAuth2 token: {describe(error)}") from None
        except ValueError:
            raise AskError("no OAuth2 token: the answer is none of a token endpoint") from None
        if not 0 <= lifetime < 1e9:
            raise AskError("no OAuth2 token: the answer holds no lifetime")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
            raise AskError("no OAuth2 token: the answer holds no bearer token")
        return token, lifetime

    def _answer(self, secret: str) -> dict[str, Any]:
        """As Go's client does: the secret in a header, and for a server that does not take that, in the form."""
        try:
            return self._ask(secret, self._method)
        except AuthlibBaseError as error:
            if error.error != "invalid_client":
                raise
            other = {"client_secret_basic": "client_secret_post", "client_secret_post": "client_secret_basic"}
            answer = self._ask(secret, other[self._method])
            self._method = other[self._method]
            return answer

    def _ask(self, secret: str, method: str) -> dict[str, Any]:
        session = OAuth2Session(self._client, secret, scope=self._scope or None, token_endpoint_auth_method=method)
        with bounded(session, self._url) as session:
            answer: dict[str, Any] = session.fetch_token(
                self._url, body=urlencode(self._parameters), grant_type="client_credentials", allow_redirects=False
            )
            return answer


def _parameters(text: str, flag: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        return {name: as_text(value, child("", name)) for name, value in load_object(text, "value").items()}
    except FieldError as error:
        raise ConfigurationError(
            f'{flag}: expected a JSON object of strings such as {{"resource":"x"}}: {error}'
        ) from None
