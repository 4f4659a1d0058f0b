"""Every error of the gateway, in one file: those of a configuration, and the refusals of requests.

``code`` is stable: it is the value of ``reason`` in metrics and logs. ``status`` is the HTTP status (RFC 9110,
section 15); a subclass has that of its base, unless it says otherwise. A message never holds a token, a key or a
password. It may hold text that the client sent, so escape it in logs.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar, Protocol


class VmgwError(Exception):
    """The root of all errors of the gateway."""


class ConfigurationError(VmgwError):
    """An unusable flag, file or key. The message is one line that names the setting and the problem."""


class LoginFailed(VmgwError):
    """A login that ends with a page of the gateway. ``status`` is that of the page, which shows the message."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Cause(StrEnum):
    """Why a server or file that the gateway needs failed: a label of metrics, so there are few."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    DNS = "dns"
    CERTIFICATE = "certificate"
    TLS = "tls"
    """The other side does not speak TLS, or not in a way that both accept."""
    TIMEOUT = "timeout"
    CLOSED = "closed"
    """The connection ended before the response did."""
    STATUS = "status"
    RESPONSE = "response"
    """The response is not valid, or too large."""
    FILE = "file"
    RESOURCES = "resources"
    """File descriptors, memory or ports are exhausted."""
    OTHER = "other"


class Awaited(Protocol):
    """Something that a decision may wait for: keys that are fetched, a password that is checked."""

    def wait(self, waiter: Callable[[], None], now: float) -> bool:
        """Call ``waiter`` when it is done. Return False if it will not be soon, or too many wait."""
        ...

    def give_up(self, waiter: Callable[[], None]) -> None:
        """Do not call ``waiter``."""
        ...


class Refusal(VmgwError):
    """A request that the gateway answers itself, without a backend."""

    status: ClassVar[int]
    code: ClassVar[str]
    final: ClassVar[bool] = False
    """Whether the same request can never succeed, so that senders should not repeat it."""

    def __init_subclass__(cls, *, code: str, status: int | None = None, final: bool = False) -> None:
        cls.code = code
        cls.final = final or cls.final
        if status is not None:
            cls.status = status

    @property
    def message(self) -> str:
        return str(self)


class BadRequest(Refusal, status=400, code="bad_request"):
    """The request cannot be understood in exactly one way."""


class AmbiguousPath(BadRequest, code="ambiguous_path"):
    """A path with more than one reading: double slashes, dot segments, encoded slashes, double encoding."""


class MalformedHead(BadRequest, code="malformed_head"):
    """A request line or a header that two parsers could read in two ways."""


class CostlyQuery(BadRequest, code="costly_query"):
    """A query that could stop the backend: VictoriaMetrics bounds neither its nesting nor its expansion."""


class BadBody(BadRequest, code="bad_body", final=True):
    """A write that is broken or ambiguous.

    vmagent and Prometheus drop a block on 400 and repeat it for ever on most other statuses. Repeating this one is
    useless and would block the queue, so writes get 400 too.
    """


class BadLabels(BadBody, code="bad_labels"):
    """A write with a label name that may not be written, or a series without a metric name.

    The gateway will never accept it, so it is a 400 too.
    """


class TooManyRows(BadBody, code="too_many_rows"):
    """A write with more rows than a whole limit, with ``-ratelimit.refuseOversized``."""


class TokenRefused(Refusal, status=401, code="invalid_token"):
    """A token that does not authenticate. The client gets the message only with ``-logInvalidAuthTokens``."""


class MissingToken(TokenRefused, code="missing_token"):
    """No token, or one without the ``Bearer `` prefix."""


class MalformedToken(TokenRefused, code="malformed_token"):
    """Not a compact JWS (RFC 7515, section 7.1) with JSON objects for header and payload."""


class UnsupportedAlgorithm(TokenRefused, code="unsupported_algorithm"):
    """``alg`` is not RS, ES or PS with 256, 384 or 512."""


class UnknownKey(TokenRefused, code="unknown_key"):
    """No configured key may verify this token (``kid``, ``alg`` and ``iss`` considered)."""


class WrongIssuer(UnknownKey, code="wrong_issuer"):
    """There are keys for the ``alg`` and ``kid`` of this token, and none for its ``iss``."""


class BadSignature(TokenRefused, code="bad_signature"):
    """No candidate key verifies the signature."""


class UnknownCredentials(TokenRefused, code="unknown_credentials"):
    """No such API key, no such user, or a wrong password: not told apart."""


class TokenExpired(TokenRefused, code="expired"):
    """``now >= exp`` (RFC 7519, section 4.1.4)."""


class TokenNotYetValid(TokenRefused, code="not_yet_valid"):
    """``now < nbf`` (RFC 7519, section 4.1.5)."""


class WrongAudience(TokenRefused, code="wrong_audience"):
    """``aud`` names none of ``-auth.audience`` (RFC 7519, section 4.1.3)."""


class ClaimMismatch(TokenRefused, code="claim_mismatch"):
    """A claim does not have the value that ``-auth.requiredClaims`` requires."""


class InvalidClaims(TokenRefused, code="invalid_claims"):
    """A claim is missing, of the wrong type, or cannot be enforced."""


class NoMatchingEntry(TokenRefused, code="no_matching_entry"):
    """A good token that no entry of ``-auth.policy`` matches."""


class Forbidden(Refusal, status=403, code="forbidden"):
    """The token is valid but does not allow this."""


class AccessDenied(Forbidden, code="access_denied"):
    """The token's ``mode`` does not cover the route's access."""


class FiltersIgnored(Forbidden, code="filters_ignored"):
    """The backend ignores filters on this route, and the token has some."""


class TenantIgnored(Forbidden, code="tenant_ignored"):
    """A cluster shows or changes the data of all tenants on this route."""


class ForeignTenant(Forbidden, code="foreign_tenant"):
    """The cluster path names another tenant than the token."""


class CrossSite(Forbidden, code="cross_site"):
    """A page of another site sent the request, or may have, and its browser has added the cookie or certificate."""


class NotServed(Forbidden, code="not_served"):
    """No backend is configured for this access (``-read.url`` or ``-write.url`` is missing)."""


class UnknownRoute(Refusal, status=404, code="unknown_route"):
    """The path is not in the route table."""


class MethodNotAllowed(Refusal, status=405, code="method_not_allowed"):
    """The route exists, the method is not listed for it. ``allow`` lists those that are."""

    def __init__(self, message: str, allow: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(Refusal, status=408, code="request_timeout"):
    """The client did not send its request in time."""


class BodyTooLarge(Refusal, status=413, code="body_too_large"):
    """A form is larger than ``-maxFormSize``."""


class TargetTooLong(Refusal, status=414, code="target_too_long"):
    """The request line is longer than ``-http.maxRequestLine``."""


class UnsupportedBody(Refusal, status=415, code="unsupported_body"):
    """The body of a read or delete is not a form that the gateway can inspect."""


class UnsupportedProtocol(UnsupportedBody, code="unsupported_protocol", final=True):
    """A write in a protocol that VictoriaMetrics does not store: Prometheus remote write 2.0, OpenTelemetry as JSON.

    Writes get 415 too: Remote Write 2.0 requires it, and a sender may then fall back to 1.0
    (https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/#required-http-response-headers).
    """


class QueryGuarded(Refusal, status=422, code="query_guarded"):
    """A query breaks a guard of ``-ratelimit.config``, or cannot be held to it. The message says what to change."""


class RateLimited(Refusal, status=429, code="rate_limited"):
    """A rate limit is reached. After ``retry_after`` whole seconds the request is allowed."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyAtOnce(Refusal, status=429, code="too_many_at_once"):
    """A limit of concurrent requests is reached (``-maxConcurrentRequests``, ``type: concurrency`` and their like)."""


class PasswordUnchecked(TooManyAtOnce, code="password_unchecked"):
    """The password of a user could not be checked in time: too many others are being checked."""

    def __init__(self, message: str, attempt: Awaited | None = None) -> None:
        super().__init__(message)
        self.attempt = attempt
        """What a request may wait for."""


class HeadTooLarge(Refusal, status=431, code="head_too_large"):
    """The head is larger than ``-http.maxHeadSize``, or has more headers than ``-http.maxHeaders``."""


class InternalError(Refusal, status=500, code="internal_error"):
    """The gateway failed before it could decide. Nothing was sent to a backend."""


class SignatureNotChecked(InternalError, code="signature_not_checked"):
    """The library that checks signatures failed. Its exception is the cause of this one."""


class BackendUnreachable(Refusal, status=502, code="backend_unreachable"):
    """The backend refused or broke the connection, or did not send HTTP."""

    cut_off = False
    """Whether the client has got a part of the response."""

    def __init__(self, message: str, cause: Cause = Cause.OTHER) -> None:
        super().__init__(message)
        self.cause = cause


class BadAnswer(Refusal, status=502, code="bad_answer"):
    """The backend's answer must be limited to the token, and cannot be read."""


class AnswerTooLarge(BadAnswer, code="answer_too_large"):
    """The backend's answer must be limited to the token, and is larger than ``-response.maxFilterBytes``."""


class Overloaded(Refusal, status=503, code="overloaded"):
    """The gateway is at a limit of its own: connections (``-http.maxConnections``), or memory for answers or
    for bodies whose series are counted."""


class KeysUnavailable(Refusal, status=503, code="keys_unavailable"):
    """No key could be fetched from the configured endpoints so far."""


class UsageUnknown(Refusal, status=503, code="usage_unknown"):
    """The known usage is too old to apply limits (``-ratelimit.failClosed``)."""


class BackendTimeout(Refusal, status=504, code="backend_timeout"):
    """The backend did not accept the connection or did not respond in time."""

    cause: ClassVar = Cause.TIMEOUT
    cut_off = False
    """Whether the client has got a part of the response."""


BackendFailure = BackendUnreachable | BackendTimeout
"""What a request to a backend may fail with; ``cause`` is why."""
