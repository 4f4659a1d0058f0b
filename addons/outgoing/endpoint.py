"""One HTTP server that the gateway itself asks: bounded time and size, its TLS settings, errors without secrets."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests
import urllib3
from urllib3.exceptions import InsecureRequestWarning

from vmgw_core.backends import Backend
from vmgw_core.configuration import ClientTLS
from vmgw_core.errors import ConfigurationError

from .deadline import CutAdapter, Deadline

CONNECT_TIMEOUT: Final = 5.0
"""Seconds."""
DEADLINE: Final = 30.0
"""Seconds for a whole exchange, however slowly it trickles in."""
MAX_ANSWER: Final = 32 << 20
"""Bytes, decompressed."""
_AT_ONCE: Final = 4  # questions, of which each holds a thread


class AskError(Exception):
    """A question that got no answer of use. The message holds no URL and no secret."""

    def __init__(self, message: str, *, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        """The begin of the answer. It may quote the URL."""


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """The files that ``-<side>.tls*`` name, as they are at this moment."""

    flags: ClientTLS

    def stamp(self) -> tuple[object, ...]:
        """Differs from the last one when a file has changed."""
        return tuple(_stamp(path) for path in (self.flags.ca_file, self.flags.cert_file, self.flags.key_file) if path)

    def context(self) -> ssl.SSLContext:
        """The context they make.

        Raises:
            ConfigurationError: a file cannot be used.
        """
        side = self.flags.side
        if bool(self.flags.cert_file) != bool(self.flags.key_file):
            raise ConfigurationError(f"-{side}.tlsCertFile and -{side}.tlsKeyFile: set both or none")
        flag, path = "tlsCAFile", self.flags.ca_file
        try:
            context = ssl.create_default_context(cafile=path or None)
            flag, path = "tlsCertFile", self.flags.cert_file
            if self.flags.cert_file:
                context.load_cert_chain(self.flags.cert_file, self.flags.key_file)
        except ssl.SSLError:
            raise ConfigurationError(f"-{side}.{flag}: not a usable PEM file: {path}") from None
        except OSError as error:
            raise ConfigurationError(f"-{side}.{flag}: cannot read {path}: {error.strerror}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.flags.insecure_skip_verify:
            urllib3.disable_warnings(InsecureRequestWarning)  # it was asked for
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _stamp(path: str) -> object:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class BoundedAdapter(CutAdapter):
    """Reads answers whole, within ``DEADLINE`` and ``MAX_ANSWER``; TLS is as ``context`` has it and nothing else."""

    def __init__(self, *, context: ssl.SSLContext | None = None, server_name: str = "", idle: int = 1) -> None:
        self._context = context
        self._server_name = server_name
        super().__init__(pool_connections=1, pool_maxsize=max(1, idle))

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:  # noqa: ANN401
        if self._server_name:
            pool_kwargs["server_hostname"] = self._server_name
        if self._context is not None:
            pool_kwargs["ssl_context"] = self._context
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:  # noqa: ANN401
        """Nothing: requests would add authorities of its own to the context."""

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:  # noqa: ANN401
        where, _ = super().build_connection_pool_key_attributes(request, True)
        verified = self._context is None or self._context.verify_mode is ssl.CERT_REQUIRED
        return where, {"cert_reqs": "CERT_REQUIRED" if verified else "CERT_NONE"}

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]  # noqa: ANN401
        options |= {"stream": True, "timeout": (CONNECT_TIMEOUT, DEADLINE)}
        content = bytearray()
        with Deadline(DEADLINE) as deadline:
            try:
                response = super().send(request, **options)
                try:
                    for chunk in response.iter_content(65536):
                        content += chunk
                        if len(content) > MAX_ANSWER:
                            raise AskError(f"the answer is larger than {MAX_ANSWER >> 20} MiB")
                except BaseException:
                    response.close()
                    raise
            except OSError:
                if deadline.over:
                    raise AskError(f"the answer took longer than {DEADLINE:.0f} seconds") from None
                raise
        if deadline.over:
            raise AskError(f"the answer took longer than {DEADLINE:.0f} seconds")
        response._content = bytes(content)  # what requests itself does with an answer that is not streamed
        return response


class Endpoint:
    """A server, kept connected to."""

    def __init__(self, backend: Backend, tls: TLSFiles, *, idle: int = 4, keep_alive: bool = True) -> None:
        """
        Raises:
            ConfigurationError: a TLS file cannot be used.
        """
        self.backend = backend
        self._tls = tls
        self._idle = idle
        self._keep_alive = keep_alive and idle > 0
        self._stamp = tls.stamp()
        self._session = self._new_session()
        self._slots = threading.Semaphore(_AT_ONCE)

    def ask(
        self, method: str, target: str, headers: Mapping[str, str | bytes], form: Mapping[str, str] | None = None
    ) -> bytes:
        """The body of the 200 for ``target``, path and query, on the server.

        Redirects are not followed: they could carry credentials to anywhere.

        Raises:
            AskError: there is none.
        """
        if not self._slots.acquire(blocking=False):
            raise AskError("earlier questions are still under way")
        try:
            return self._ask(method, target, headers, form)
        finally:
            self._slots.release()

    def _ask(
        self, method: str, target: str, headers: Mapping[str, str | bytes], form: Mapping[str, str] | None
    ) -> bytes:
        all_headers = {"Accept": "application/json", **headers}
        if not self._keep_alive:
            all_headers["Connection"] = "close"
        url = f"{self.backend.scheme}://{self.backend.host_header}{target}"
        try:
            session = self._current()
            answer = session.request(
                method, url, headers=all_headers, data=form, auth=_no_other_credentials, allow_redirects=False
            )
            if not self._keep_alive:
                session.close()  # whatever the server makes of the header
        except ConfigurationError as error:
            raise AskError(str(error)) from None
        except (OSError, ValueError) as error:  # requests' errors are OSErrors, what it makes of odd URLs ValueErrors
            raise AskError(describe(error)) from None
        if answer.status_code != 200:
            raise AskError(f"status {answer.status_code}", status=answer.status_code, body=answer.content[:1000])
        return answer.content

    def _current(self) -> requests.Session:
        stamp = self._tls.stamp()
        if stamp != self._stamp:
            self._session, old = self._new_session(), self._session
            self._stamp = stamp
            old.close()
        return self._session

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        if self.backend.scheme == "https":
            adapter = BoundedAdapter(
                context=self._tls.context(), server_name=self._tls.flags.server_name, idle=self._idle
            )
        else:
            adapter = BoundedAdapter(idle=self._idle)
        session.mount(f"{self.backend.scheme}://", adapter)
        return session


def _no_other_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from looking for some in ~/.netrc."""
    return request


def describe(error: BaseException) -> str:
    """What went wrong in the system's words, without the URL that HTTP libraries quote."""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            break
        if isinstance(cause, OSError) and cause.strerror:
            if isinstance(cause, ssl.SSLError | socket.gaierror) or not cause.errno:
                return cause.strerror  # these have error numbers of their own
            return os.strerror(cause.errno)  # libraries put other texts into it, with addresses
        reason = getattr(cause, "reason", None)
        cause = cause.__cause__ or cause.__context__ or (reason if isinstance(reason, BaseException) else None)
    return type(error).__name__
