"""The keys in use: static ones, and those of JWKS and OpenID Connect discovery endpoints.

``KeyRing`` plans the fetches and takes their results; the caller fetches. The rules:

- Only keys replace keys. If an endpoint is down, or serves no usable key, its last good keys stay, and it is fetched
  again after ``retry_interval``.
- A good document replaces all keys of its endpoint, so a revoked key is gone with the next refresh.
- A token with an unknown key brings the next refresh forward, but not before ``unknown_key_interval`` after the start
  of the last one that such a token wanted. So a flood of such tokens costs each endpoint one refresh per interval.
- A request whose token no key verifies may wait for a fetch that ends soon: ``wait``. At most ``MAX_WAITING`` do.
- Keys of a discovery document verify only tokens of its ``issuer``; all other keys verify only tokens of ``issuers``,
  if there are any.
- A clock that is set back delays a refresh by at most one interval.

The ``issuer`` of a discovery document is not compared with the URL, as OpenID Connect Discovery 1.0, section 4.3
requires: documents of Azure, and of providers behind an internal name, would fail, and the operator trusts the URL.

The caller must not follow a redirect from https to http.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from vmgw_core.base import FieldError, as_text, is_http_url, load_object, printable, required, without_credentials
from vmgw_core.errors import ConfigurationError

from .keys import MAX_DOCUMENT_BYTES, IssuerPattern, KeyDocumentError, KeySet, VerificationKey, keys_from_jwks

LOST_AFTER: Final = 300.0
"""Seconds after which a fetch without a result counts as failed, so that a bug cannot stop all refreshes."""

KEY_WAIT: Final = 2.0
"""Seconds that a request may wait for the key of its token."""
MAX_WAITING: Final = 32
"""Requests that may wait at once."""

_ERROR_LENGTH: Final = 2000
_NOT_IN_URLS: Final = re.compile(r"[\x00-\x20\x7f-\x9f\\]")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fetch:
    """A GET to make. Pass its result to ``KeyRing.received`` or ``KeyRing.failed``, with this very object."""

    url: str = field(repr=False)
    """It may hold credentials: do not log it."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """The status of an endpoint. Times are Unix seconds."""

    name: str
    url: str
    """Without credentials and without the query."""
    keys: int = 0
    issuer: str | None = None
    last_success: float | None = None
    last_error: str | None = None
    """Why the last attempt failed; ``None`` if it succeeded."""
    skipped: tuple[str, ...] = ()
    """The unused keys of the last document, and why."""


@dataclass(slots=True)
class _Timer:
    since: float = 0.0
    wait: float = 0.0

    def remaining(self, now: float) -> float:
        # If the clock was set back, the start lies in the future: the wait starts again now.
        self.since = min(self.since, now)
        return max(0.0, self.since + self.wait - now)


@dataclass(slots=True, kw_only=True)
class _Source:
    """One endpoint: its plan, its current fetch, and its keys."""

    status: SourceStatus
    url: str
    oidc: bool
    keys: tuple[VerificationKey, ...] = ()
    plan: _Timer = field(default_factory=_Timer)
    pause: _Timer = field(default_factory=_Timer)
    """From the start of the last fetch that an unknown key wanted; until it ends, another one causes no fetch."""
    wanted: bool = False
    """Whether an unknown key wants the next fetch."""
    flight: Fetch | None = None
    lost: _Timer = field(default_factory=_Timer)
    jwks: tuple[str, IssuerPattern] | None = None
    """The ``jwks_uri`` and ``issuer`` of the discovery document, for the second step."""

    def is_expected(self, now: float) -> bool:
        """Return whether its keys may come within ``KEY_WAIT``. A fetch that already takes longer is not counted on."""
        if self.flight is None:
            return self.plan.remaining(now) <= KEY_WAIT
        return self.lost.remaining(now) > LOST_AFTER - KEY_WAIT

    def remaining(self, now: float) -> float:
        return (self.plan if self.flight is None else self.lost).remaining(now)

    def fetch(self, now: float, pause: float) -> Fetch:
        if self.flight is not None:
            self.fail("the fetch did not end", now, 0.0)
        if self.wanted:
            self.wanted, self.pause = False, _Timer(now, pause)
        url = self.url if self.jwks is None else self.jwks[0]
        self.flight = Fetch(url=url, source=self.status.name)
        self.lost = _Timer(now, LOST_AFTER)
        return self.flight

    def read(self, document: bytes, now: float, refresh: float) -> None:
        """Use a document. Raises ``KeyDocumentError``; then the old keys stay."""
        if self.oidc and self.jwks is None:
            self.jwks = _read_discovery(document, secure=self.status.url.startswith("https:"))
            self.flight, self.plan = None, _Timer(now)
            return
        issuer = None if self.jwks is None else self.jwks[1]
        result = keys_from_jwks(document, f"{self.status.name} {self.status.url}", issuer)
        self.status = replace(self.status, skipped=result.skipped)
        if not result.keys:
            raise KeyDocumentError(result.why_none())
        self.keys = result.keys
        self.status = replace(
            self.status,
            keys=len(result.keys),
            issuer=None if issuer is None else issuer.template,
            last_success=now,
            last_error=None,
        )
        self.flight, self.jwks, self.plan = None, None, _Timer(now, refresh)

    def fail(self, reason: str, now: float, retry: float) -> None:
        self.status = replace(self.status, last_error=printable(reason, _ERROR_LENGTH))
        self.flight, self.jwks, self.plan = None, None, _Timer(now, retry)

    def hurry(self, now: float) -> None:
        if self.flight is not None:
            return  # its result replaces the plan
        self.wanted = True
        wait = self.pause.remaining(now)
        if wait < self.plan.remaining(now):
            self.plan = _Timer(now, wait)


class KeyRing:
    """All keys, and the plan of their refreshes. Times are Unix seconds, intervals seconds.

    Raises ``ConfigurationError`` for a bad endpoint URL or a bad interval.
    """

    def __init__(
        self,
        *,
        static: Sequence[VerificationKey] = (),
        jwks_endpoints: Sequence[str] = (),
        oidc_endpoints: Sequence[str] = (),
        issuers: Sequence[IssuerPattern] = (),
        refresh_interval: float = 300,
        retry_interval: float = 10,
        unknown_key_interval: float = 10,
        verifying: bool = False,
    ) -> None:
        """``verifying``: verify signatures, so refuse every token, even if there are no keys and no endpoints."""
        for interval in (refresh_interval, retry_interval, unknown_key_interval):
            if not 0 < interval < math.inf:
                raise ConfigurationError("the interval between fetches of keys must be longer than 0 seconds")
        self._refresh_interval = refresh_interval
        self._retry_interval = retry_interval
        self._unknown_key_interval = unknown_key_interval
        self._static = tuple(static)
        endpoints = [(f"-auth.jwksEndpoints[{i}]", url, False) for i, url in enumerate(jwks_endpoints)]
        endpoints += [(f"-auth.oidcDiscoveryEndpoints[{i}]", url, True) for i, url in enumerate(oidc_endpoints)]
        self._sources = {name: _new_source(name, url, oidc) for name, url, oidc in endpoints}
        self._verifying = verifying or bool(self._static or self._sources)
        self._issuers = tuple(issuers)
        self._keyset = KeySet(self._static, self._issuers)
        self._waiters: dict[Callable[[], None], None] = {}
        self.generation = 0
        """It grows when the keys change: drop what was verified before."""

    @property
    def keyset(self) -> KeySet | None:
        """The current keys; ``None`` if none are configured: then signatures are not verified."""
        return self._keyset if self._verifying else None

    @property
    def waiting(self) -> bool:
        return bool(self._sources) and not self._keyset

    def status(self) -> tuple[SourceStatus, ...]:
        return tuple(source.status for source in self._sources.values())

    def next_due(self, now: float) -> float | None:
        """Return the seconds until the next fetch is due; ``None`` without endpoints.

        Call it again after every result and every ``unknown_key``: each may bring it forward.
        """
        return min((source.remaining(now) for source in self._sources.values()), default=None)

    def due(self, now: float) -> tuple[Fetch, ...]:
        """Return the fetches to start now. None is due again before its result."""
        due = [source for source in self._sources.values() if source.remaining(now) == 0]
        return tuple(source.fetch(now, self._unknown_key_interval) for source in due)

    def received(self, fetch: Fetch, document: bytes, now: float) -> None:
        """Use the document of a fetch (the body of a 200). A late result is ignored."""
        source = self._awaiting(fetch)
        if source is None:
            return
        try:
            source.read(document, now, self._refresh_interval)
        except KeyDocumentError as error:
            source.fail(str(error), now, self._retry_interval)
            return
        self._collect()

    def replace_static(self, keys: Sequence[VerificationKey]) -> None:
        """Replace the keys of files and flags; those of endpoints stay.

        Removing all keys does not turn verification off.
        """
        self._static = tuple(keys)
        self._verifying = self._verifying or bool(self._static)
        self._collect()

    def failed(self, fetch: Fetch, reason: str, now: float) -> None:
        """Note a failed fetch. Credentials of the URL are removed from ``reason``."""
        source = self._awaiting(fetch)
        if source is not None:
            source.fail(_redacted(reason, fetch.url), now, self._retry_interval)

    def unknown_key(self, now: float) -> None:
        """Bring the refresh forward: no key may verify a token."""
        for source in self._sources.values():
            source.hurry(now)

    def wait(self, waiter: Callable[[], None], now: float) -> bool:
        """Bring the refresh forward, and call ``waiter`` after the next fetch has ended.

        Return False if no fetch is expected to end soon, or too many wait already. Then ``waiter`` is not called.
        """
        self.unknown_key(now)
        if len(self._waiters) >= MAX_WAITING or not any(each.is_expected(now) for each in self._sources.values()):
            return False
        self._waiters[waiter] = None
        return True

    def give_up(self, waiter: Callable[[], None]) -> None:
        """Do not call ``waiter``, if it still waits."""
        self._waiters.pop(waiter, None)

    def wake(self) -> None:
        """Call those that wait. Each may wait again. The caller has put the present keys in force."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            waiter()

    def _collect(self) -> None:
        keys = self._static + tuple(key for each in self._sources.values() for key in each.keys)
        if set(keys) != set(self._keyset.keys):
            self._keyset = KeySet(keys, self._issuers)
            self.generation += 1

    def _awaiting(self, fetch: Fetch) -> _Source | None:
        source = self._sources.get(fetch.source)
        return source if source is not None and source.flight is fetch else None


def _new_source(name: str, url: str, oidc: bool) -> _Source:
    if not _can_fetch(url):
        raise ConfigurationError(f"{name}: expected an http or https URL with a host")
    return _Source(status=SourceStatus(name=name, url=without_credentials(url)), url=url, oidc=oidc)


def _can_fetch(url: str) -> bool:
    return is_http_url(url) and not _NOT_IN_URLS.search(url)


def _redacted(reason: str, url: str) -> str:
    """Return ``reason`` without the secrets of ``url``: errors of HTTP libraries quote URLs."""
    parts = urlsplit(url)
    for secret in (parts.netloc.rpartition("@")[0], parts.password, parts.query):
        if secret:
            reason = reason.replace(secret, "***")
    return reason


def _read_discovery(document: bytes, *, secure: bool) -> tuple[str, IssuerPattern]:
    """Read ``jwks_uri`` and ``issuer`` (OpenID Connect Discovery 1.0, section 3). Raises ``KeyDocumentError``."""
    if len(document) > MAX_DOCUMENT_BYTES:
        raise KeyDocumentError(f"the discovery document is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        fields = load_object(document, "discovery document")
        issuer = required(fields, "issuer", as_text)
        jwks_uri = required(fields, "jwks_uri", as_text)
    except FieldError as error:
        raise KeyDocumentError(str(error)) from None
    if not issuer or not _can_fetch(jwks_uri):
        raise KeyDocumentError("expected an issuer, and an http or https URL as jwks_uri")
    if secure and urlsplit(jwks_uri).scheme != "https":
        # An attacker on that path could replace the keys.
        raise KeyDocumentError("the discovery document is https but its jwks_uri is http")
    return jwks_uri, IssuerPattern(issuer)
