"""HTTP requests of the gateway's own: for keys, limits, usage, OAuth2 tokens and pushed metrics. The rules:

- A request has one deadline, at which its connection is cut. (A socket timeout applies to each read, so a server that
  sends a byte now and then would hold a thread forever.)
- The decompressed body of a response has a maximum size.
- A server's certificate is verified with the flag's CA file, else ``REQUESTS_CA_BUNDLE``, else the system's trust store
  (with ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``).
- Redirects are not followed: they could leak credentials, or lead from https to http.
- Proxies are those of the environment (``HTTPS_PROXY``, ``NO_PROXY``). ``~/.netrc`` is not read.
- An error gives the reason, without the URL and without a secret.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Container, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection

from vmgw_core.backends import Backend
from vmgw_core.errors import Cause, ConfigurationError

from .errors import RequestFailed, failure_of
from .tls_files import TLSFiles

S = TypeVar("S", bound=requests.Session)

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a connection, its TLS handshake included."""
DEADLINE: Final = 30.0
"""Seconds for a request to a backend or the datasource."""
MAX_RESPONSE: Final = 32 << 20
"""Bytes of the response to it."""
DOWNLOAD_DEADLINE: Final = 15.0
"""Seconds for a request to another server."""
MAX_DOCUMENT: Final = 1 << 20
"""Bytes of the response to it: the largest public key sets have a few dozen kilobytes."""
_CONCURRENT: Final = 4  # requests to one endpoint, each of which holds a thread


# --- the deadline --------------------------------------------------------------------------------------------------


class _Deadline:
    """Cuts the connection of one request when its time is over."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._connection: HTTPConnection | None = None
        self.timer = threading.Timer(seconds, self._cut)
        self.timer.daemon = True

    def watch(self, connection: HTTPConnection) -> None:
        """Cut this connection at the deadline. Raises ``TimeoutError`` if that has passed."""
        self._connection = connection
        if self.over:
            raise TimeoutError

    def _cut(self) -> None:
        self.over = True
        sock = self._connection and self._connection.sock
        if sock:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


_deadline: Final[ContextVar[_Deadline]] = ContextVar("deadline")


class _Watched(HTTPConnection):
    """A connection that the deadline can cut, also while it connects or waits for a proxy."""

    def connect(self) -> None:
        _deadline.get().watch(self)
        super().connect()
        _deadline.get().watch(self)

    def request(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        _deadline.get().watch(self)
        super().request(*arguments, **options)


# --- one request ---------------------------------------------------------------------------------------------------


class _Adapter(HTTPAdapter):
    """Sends a request and reads its response by the rules of this module.

    Args:
        tls: urllib3's options for TLS.
        largest: maximum bytes of the body; 0 leaves it unread.
    """

    def __init__(self, tls: Mapping[str, object], deadline: float, largest: int, idle: int) -> None:
        self._tls = tls
        self._seconds = deadline
        self._largest = largest
        super().__init__(pool_connections=1, pool_maxsize=max(1, idle))

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        if not issubclass(pool.ConnectionCls, _Watched):  # plain, over TLS, or through SOCKS
            pool.ConnectionCls = type("Watched", (_Watched, pool.ConnectionCls), {})
        return pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:  # noqa: ANN401
        """Do nothing: requests would add its own authorities to the context."""

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:  # noqa: ANN401
        where, _ = super().build_connection_pool_key_attributes(request, True)
        return where, self._tls

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]  # noqa: ANN401
        options |= {"stream": True, "timeout": (min(CONNECT_TIMEOUT, self._seconds), self._seconds)}
        options["proxies"] = get_environ_proxies(str(request.url))
        deadline = _Deadline(self._seconds)
        token = _deadline.set(deadline)
        deadline.timer.start()
        try:
            response = super().send(request, **options)
            # As requests does for a response that is not streamed.
            response._content = self._read(response)
        except (OSError, ValueError):  # ValueError: a read from a TLS connection that was cut
            if not deadline.over:
                raise
        finally:
            deadline.timer.cancel()
            _deadline.reset(token)
        if deadline.over:  # a head, or a body without a length, looks complete when it is cut off
            raise RequestFailed(f"no response within {self._seconds:g} seconds", Cause.TIMEOUT)
        return response

    def _read(self, response: requests.Response) -> bytes:
        content = bytearray()
        with response:  # closes the connection if the response is not read to its end
            for chunk in response.iter_content(65536) if self._largest else ():
                content += chunk
                if len(content) > self._largest:
                    raise RequestFailed(f"the response is larger than {self._largest >> 20} MiB", Cause.RESPONSE)
        return bytes(content)


def bounded(
    session: S,
    url: str,
    tls: TLSFiles | None = None,
    *,
    deadline: float = DOWNLOAD_DEADLINE,
    largest: int = MAX_DOCUMENT,
    idle: int = 1,
) -> S:
    """Apply the rules of this module to a session for the server of ``url``.

    Raises:
        ConfigurationError: a TLS file cannot be used.
    """
    scheme: str = "http://"
    options: dict[str, object] = {}
    if url.lower().startswith("https://"):
        files = tls or TLSFiles()
        context = files.context("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # as requests does
        scheme, options = "https://", {"ssl_context": context, "cert_reqs": context.verify_mode}
        if files.flags.server_name:
            options["server_hostname"] = files.flags.server_name
    session.trust_env = False  # the adapter reads the environment
    session.adapters.clear()  # refuse the other scheme
    session.mount(scheme, _Adapter(options, deadline, largest, idle))
    return session


def ask(
    session: requests.Session,
    method: str,
    url: str,
    *,
    success: Container[int] = (200,),
    **request: Any,  # noqa: ANN401
) -> bytes:
    """Send a request over a session of :func:`bounded`. Returns the body of the response.

    Raises:
        RequestFailed: no connection, no response in time, or a status that is not in ``success``.
    """
    try:
        response = session.request(method, url, allow_redirects=False, **request)
    except (OSError, ValueError) as error:  # requests raises OSErrors, and ValueErrors for odd URLs
        raise RequestFailed(*failure_of(error)) from None
    if response.status_code not in success:
        status = response.status_code
        raise RequestFailed(f"status {status}", Cause.STATUS, status=status, body=response.content[:1000])
    return response.content


def send(
    method: str,
    url: str,
    *,
    deadline: float = DOWNLOAD_DEADLINE,
    largest: int = MAX_DOCUMENT,
    tls: TLSFiles | None = None,
    **request: Any,  # noqa: ANN401
) -> bytes:
    """Like :func:`ask`, over a connection of its own."""
    try:
        with bounded(requests.Session(), url, tls, deadline=deadline, largest=largest) as session:
            return ask(session, method, url, **request)
    except ConfigurationError as error:
        raise RequestFailed(str(error), Cause.FILE) from None
    except RequestFailed as error:
        if tls is None or error.cause is not Cause.CERTIFICATE:
            raise
        raise RequestFailed(f"{error} ({tls.described()})", error.cause) from None


def download(url: str, tls: TLSFiles | None = None, *, deadline: float = DOWNLOAD_DEADLINE) -> bytes:
    """Fetch a document of at most 1 MiB, uncompressed. Raises ``RequestFailed``."""
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    return send("GET", url, headers=headers, deadline=deadline, tls=tls)


class Endpoint:
    """A backend or the datasource, with persistent connections.

    Raises:
        ConfigurationError: a TLS file cannot be used.
    """

    def __init__(self, backend: Backend, tls: TLSFiles, *, idle: int = 4, keep_alive: bool = True) -> None:
        self.backend = backend
        self._tls = tls
        self._idle = idle
        self._keep_alive = keep_alive and idle > 0
        self._stamp = tls.stamp()
        self._session = self._new_session()
        self._slots = threading.Semaphore(_CONCURRENT)

    def ask(
        self, method: str, target: str, headers: Mapping[str, str | bytes], form: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the body of the 200 response for ``target`` (path and query). Raises ``RequestFailed``."""
        if not self._slots.acquire(blocking=False):
            raise RequestFailed("earlier requests are still running", Cause.TIMEOUT)
        try:
            session = self._current()
            all_headers = {"Accept": "application/json", **headers}
            if not self._keep_alive:
                all_headers["Connection"] = "close"
            url = f"{self.backend.scheme}://{self.backend.host_header}{target}"
            try:
                return ask(session, method, url, headers=all_headers, data=form)
            finally:
                if not self._keep_alive:
                    session.close()  # even if the server ignores the header
        except ConfigurationError as error:
            raise RequestFailed(str(error), Cause.FILE) from None
        finally:
            self._slots.release()

    def _current(self) -> requests.Session:
        stamp = self._tls.stamp()
        if stamp != self._stamp:
            self._session, old = self._new_session(), self._session
            self._stamp = stamp
            old.close()
        return self._session

    def _new_session(self) -> requests.Session:
        url = str(self.backend)
        return bounded(requests.Session(), url, self._tls, deadline=DEADLINE, largest=MAX_RESPONSE, idle=self._idle)
