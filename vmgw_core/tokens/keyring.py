"""The keys in use: static ones, and those of JWKS and OpenID Connect discovery endpoints, refreshed without I/O.

``KeyRing`` says what to fetch and when, and is told what came of it; fetching is somebody else's. The rules:

- Keys only ever give way to keys. An endpoint that is down, or serves an empty set, or one in which nothing can be
  used, counts as a failure: its last good keys stay, and it is asked again after ``retry_interval``.
- A good document replaces all keys of its endpoint, so a key that was taken back is gone with the next refresh.
- A token with an unknown key brings the next refresh forward, to no earlier than ``unknown_key_interval`` after
  the start of the last one. So a flood of such tokens costs each endpoint one refresh per interval, not one per token.
- Keys of a discovery document verify only tokens of the ``issuer`` it names; all others only those of ``issuers``,
  where there are any.
- A clock that is set back delays a refresh by one interval at the most.

The discovery document's ``issuer`` is taken at its word and not compared with the URL, which OpenID Connect Discovery
1.0, section 4.3 asks of clients: the documents of Azure, and those of any provider that is reached by an internal
name, fail that test, and the operator has vouched for the URL.

Whoever fetches must not follow a redirect from https to http.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from vmgw_core.base import FieldError, as_text, load_object, printable, require
from vmgw_core.errors import ConfigurationError

from .keys import MAX_DOCUMENT_BYTES, IssuerPattern, KeyDocumentError, KeySet, VerificationKey, keys_from_jwks

LOST_AFTER: Final = 300.0
"""Seconds after which a fetch without an outcome counts as lost, so that a bug elsewhere cannot end all refreshing."""

_ERROR_LENGTH: Final = 300
_NOT_IN_URLS: Final = re.compile(r"[\x00-\x20\x7f-\x9f\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One GET to make. Its outcome goes to ``KeyRing.received`` or ``KeyRing.failed``, with this very value."""

    url: str = field(repr=False)
    """May hold credentials: not for logs."""
    source: str
    serial: int
    """Tells an outcome that is awaited from one that comes too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """One endpoint, for status pages and metrics. Times are unix seconds."""

    name: str
    url: str
    """Without credentials and without the query."""
    keys: int
    issuer: str | None
    last_success: float | None
    last_error: str | None
    """Why the last attempt failed; ``None`` after one that did not."""
    skipped: tuple[str, ...]
    """The keys of the last document that are not used, and why."""


@dataclass(slots=True)
class _Timer:
    since: float = 0.0
    wait: float = 0.0

    def remaining(self, now: float) -> float:
        # Only a clock that was set back makes the start lie ahead. Waiting until that time comes again could take for
        # ever, so the wait starts over.
        self.since = min(self.since, now)
        return max(0.0, self.since + self.wait - now)


@dataclass(slots=True, kw_only=True)
class _Source:
    """One endpoint: what is planned, what is under way, and what it gave so far."""

    status: SourceStatus
    url: str
    oidc: bool
    keys: tuple[VerificationKey, ...] = ()
    plan: _Timer = field(default_factory=_Timer)
    pause: _Timer = field(default_factory=_Timer)
    """Runs from the start of the last fetch, for as long as an unknown key cannot bring about another."""
    flight: Fetch | None = None
    lost: _Timer = field(default_factory=_Timer)
    jwks: tuple[str, IssuerPattern] | None = None
    """The second step of OpenID Connect discovery: the ``jwks_uri`` and the ``issuer`` that the first one gave."""

    def remaining(self, now: float) -> float:
        return (self.plan if self.flight is None else self.lost).remaining(now)

    def fetch(self, now: float, serial: int, pause: float) -> Fetch:
        if self.flight is not None:
            self.fail("no outcome", now, 0.0)
        self.pause = _Timer(now, pause)
        url = self.url if self.jwks is None else self.jwks[0]
        self.flight = Fetch(url=url, source=self.status.name, serial=serial)
        self.lost = _Timer(now, LOST_AFTER)
        return self.flight

    def read(self, document: bytes, now: float, refresh: float) -> None:
        """Take a document over. Raises ``KeyDocumentError``, and then the keys are as before."""
        if self.oidc and self.jwks is None:
            self.jwks = _read_discovery(document, secure=self.status.url.startswith("https:"))
            self.flight, self.plan = None, _Timer(now)
            return
        issuer = None if self.jwks is None else self.jwks[1]
        result = keys_from_jwks(document, f"{self.status.name} {self.status.url}", issuer)
        self.status = replace(self.status, skipped=result.skipped)
        if not result.keys:
            raise KeyDocumentError(f"no usable key ({len(result.skipped)} skipped)")
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
        # While a fetch is under way this changes nothing: its outcome makes another plan.
        wait = self.pause.remaining(now)
        if wait < self.plan.remaining(now):
            self.plan = _Timer(now, wait)


class KeyRing:
    """All keys, and the plan of their refreshes. Times are unix seconds, intervals seconds.

    Raises ``ConfigurationError`` for an endpoint that is no http or https URL and for an interval that is none.
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
    ) -> None:
        for interval in (refresh_interval, retry_interval, unknown_key_interval):
            if not 0 < interval < math.inf:
                raise ConfigurationError("an interval between fetches of keys has to be longer than 0 seconds")
        self._refresh_interval = refresh_interval
        self._retry_interval = retry_interval
        self._unknown_key_interval = unknown_key_interval
        self._static = tuple(static)
        endpoints = [(f"-auth.jwksEndpoints[{i}]", url, False) for i, url in enumerate(jwks_endpoints)]
        endpoints += [(f"-auth.oidcDiscoveryEndpoints[{i}]", url, True) for i, url in enumerate(oidc_endpoints)]
        self._sources = {name: _new_source(name, url, oidc) for name, url, oidc in endpoints}
        self._verifying = bool(self._static or self._sources)
        self._issuers = tuple(issuers)
        self._keyset = KeySet(self._static, self._issuers)
        self._generation = 0
        self._serial = 0

    @property
    def keyset(self) -> KeySet | None:
        """The keys as of now; ``None`` where nothing at all is configured: then signatures are not verified."""
        return self._keyset if self._verifying else None

    @property
    def generation(self) -> int:
        """Grows when the keys change, and only then: the time to drop what was verified with the old ones."""
        return self._generation

    @property
    def waiting(self) -> bool:
        """Whether endpoints are configured and there is no key at all so far."""
        return bool(self._sources) and not self._keyset

    def status(self) -> tuple[SourceStatus, ...]:
        """The endpoints, in the order they were configured."""
        return tuple(source.status for source in self._sources.values())

    def next_due(self, now: float) -> float | None:
        """Seconds until ``due`` has something, as things stand; ``None`` without endpoints.

        Ask again after every outcome and every ``unknown_key``: each may bring it forward.
        """
        return min((source.remaining(now) for source in self._sources.values()), default=None)

    def due(self, now: float) -> tuple[Fetch, ...]:
        """What to fetch now. Each is under way from here on, and not due again before its outcome is known."""
        fetches: list[Fetch] = []
        for source in self._sources.values():
            if source.remaining(now) == 0:
                self._serial += 1
                fetches.append(source.fetch(now, self._serial, self._unknown_key_interval))
        return tuple(fetches)

    def received(self, fetch: Fetch, document: bytes, now: float) -> None:
        """A fetch gave a document (the body of a 200). An outcome that nobody awaits any more is ignored."""
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
        """Take other keys from files and flags; those of endpoints stay as they are.

        Taking all of them away leaves no key, and does not turn verification off.
        """
        self._static = tuple(keys)
        self._verifying = self._verifying or bool(self._static)
        self._collect()

    def failed(self, fetch: Fetch, reason: str, now: float) -> None:
        """A fetch gave no document. ``reason`` may be of any text; credentials of the URL are taken out of it."""
        source = self._awaiting(fetch)
        if source is not None:
            source.fail(_redacted(reason, fetch.url), now, self._retry_interval)

    def unknown_key(self, now: float) -> None:
        """A token came that no key may verify: refresh early, as far as the interval allows."""
        for source in self._sources.values():
            source.hurry(now)

    def _collect(self) -> None:
        keys = self._static + tuple(key for each in self._sources.values() for key in each.keys)
        if set(keys) != set(self._keyset.keys):
            self._keyset = KeySet(keys, self._issuers)
            self._generation += 1

    def _awaiting(self, fetch: Fetch) -> _Source | None:
        source = self._sources.get(fetch.source)
        return source if source is not None and source.flight == fetch else None


def _new_source(name: str, url: str, oidc: bool) -> _Source:
    try:
        shown = _shown(url)
    except ValueError:
        raise ConfigurationError(f"{name}: expected an http or https URL with a host") from None
    status = SourceStatus(name=name, url=shown, keys=0, issuer=None, last_success=None, last_error=None, skipped=())
    return _Source(status=status, url=url, oidc=oidc)


def _shown(url: str) -> str:
    """``url`` without what may be secret in it: credentials and query. Raises ``ValueError`` for no http(s) URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or _NOT_IN_URLS.search(url):
        raise ValueError("no http or https URL")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _redacted(reason: str, url: str) -> str:
    """Return ``reason`` without the secrets of ``url``: HTTP libraries quote URLs in their errors."""
    parts = urlsplit(url)
    for secret in (parts.netloc.rpartition("@")[0], parts.password, parts.query):
        if secret:
            reason = reason.replace(secret, "***")
    return reason


def _read_discovery(document: bytes, *, secure: bool) -> tuple[str, IssuerPattern]:
    """``jwks_uri`` and ``issuer`` (OpenID Connect Discovery 1.0, section 3). Raises ``KeyDocumentError``."""
    if len(document) > MAX_DOCUMENT_BYTES:
        raise KeyDocumentError(f"a discovery document of more than {MAX_DOCUMENT_BYTES} bytes")
    try:
        fields = load_object(document, "discovery document")
        issuer = as_text(require(fields, "issuer"), "issuer")
        jwks_uri = as_text(require(fields, "jwks_uri"), "jwks_uri")
    except FieldError as error:
        raise KeyDocumentError(str(error)) from None
    try:
        shown = _shown(jwks_uri)
        pattern = IssuerPattern(issuer)
    except ValueError:
        raise KeyDocumentError("expected an issuer, and an http or https URL as jwks_uri") from None
    if secure and not shown.startswith("https:"):
        # Whoever sits on that last way would hand out the keys that decide about every token.
        raise KeyDocumentError("an https discovery document with an http jwks_uri")
    return jwks_uri, pattern
