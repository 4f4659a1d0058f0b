"""Every error of the gateway, in one file.

    VmgwError
    ├── ConfigurationError            an unusable flag, file or key: the start stops, a reload is dropped
    └── Refusal                       a request that the gateway answers itself
        ├── BadRequest           400  bad_request
        │   ├── AmbiguousPath         ambiguous_path
        │   ├── MalformedHead         malformed_head
    │   ├── CostlyQuery           costly_query
        │   └── BadBody               bad_body
        │       └── BadLabels         bad_labels
        ├── TokenRefused         401  (its subclasses are the reasons)
        │   ├── MissingToken          missing_token
        │   ├── MalformedToken        malformed_token
        │   ├── UnsupportedAlgorithm  unsupported_algorithm
        │   ├── UnknownKey            unknown_key
        │   │   └── WrongIssuer           wrong_issuer
        │   ├── BadSignature          bad_signature
        │   ├── TokenExpired          expired
        │   ├── TokenNotYetValid      not_yet_valid
        │   ├── WrongAudience         wrong_audience
        │   ├── ClaimMismatch         claim_mismatch
        │   └── InvalidClaims         invalid_claims
        ├── Forbidden            403  forbidden
        │   ├── AccessDenied          access_denied
        │   ├── FiltersIgnored        filters_ignored
        │   ├── TenantIgnored         tenant_ignored
        │   ├── ForeignTenant         foreign_tenant
        │   └── NotServed             not_served
        ├── UnknownRoute         404  unknown_route
        ├── MethodNotAllowed     405  method_not_allowed
        ├── RequestTimeout       408  request_timeout
        ├── BodyTooLarge         413  body_too_large
        ├── TargetTooLong        414  target_too_long
        ├── UnsupportedBody      415  unsupported_body
        │   └── UnsupportedProtocol   unsupported_protocol
        ├── RateLimited          429  rate_limited
        ├── TooManyAtOnce        429  too_many_at_once
        ├── HeadTooLarge         431  head_too_large
        ├── InternalError        500  internal_error
        │   └── SignatureNotChecked   signature_not_checked
        ├── BackendUnreachable   502  backend_unreachable
        ├── Overloaded           503  overloaded
        ├── KeysUnavailable      503  keys_unavailable
        ├── UsageUnknown         503  usage_unknown
        └── BackendTimeout       504  backend_timeout

``code`` is stable: it is the value of ``reason`` in metrics and logs. ``status`` is the HTTP status (RFC 9110,
section 15). A message never holds a token, a key or a password. It may hold text that the client sent, so
escape it in logs.
"""

from __future__ import annotations

from typing import ClassVar


class VmgwError(Exception):
    """The root of all errors of the gateway."""


class ConfigurationError(VmgwError):
    """An unusable configuration. The message is one line that names the setting and the problem."""


class Refusal(VmgwError):
    """A request that the gateway refuses, without a backend."""

    status: ClassVar[int]
    code: ClassVar[str]
    final: ClassVar[bool] = False
    """Whether the same request can never succeed, so that senders should not repeat it."""

    @property
    def message(self) -> str:
        """One line for the client."""
        return str(self)


# --- 400 -----------------------------------------------------------------------------------------------------------


class BadRequest(Refusal):
    """The request cannot be understood in exactly one way."""

    status = 400
    code = "bad_request"


class AmbiguousPath(BadRequest):
    """A path with more than one reading: double slashes, dot segments, encoded slashes, double encoding."""

    code = "ambiguous_path"


class MalformedHead(BadRequest):
    """A request line or a header that two parsers could read in two ways."""

    code = "malformed_head"


class CostlyQuery(BadRequest):
    """A query that could stop the backend: VictoriaMetrics bounds neither its nesting nor its expansion."""

    code = "costly_query"


class BadBody(BadRequest):
    """A write that is broken or ambiguous.

    vmagent and Prometheus drop a block on 400 and repeat it for ever on most other statuses. Repeating this one is
    useless and would block the queue, so writes get 400 too.
    """

    code = "bad_body"
    final = True


class BadLabels(BadBody):
    """A write with a label name that may not be written, or a series without a metric name.

    The gateway will never accept it, so it is a 400 too.
    """

    code = "bad_labels"


# --- 401 -----------------------------------------------------------------------------------------------------------


class TokenRefused(Refusal):
    """A token that does not authenticate. The client gets the message only with ``-logInvalidAuthTokens``."""

    status = 401
    code = "invalid_token"


class MissingToken(TokenRefused):
    """No token, or one without the ``Bearer `` prefix."""

    code = "missing_token"


class MalformedToken(TokenRefused):
    """Not a compact JWS (RFC 7515, section 7.1) with JSON objects for header and payload."""

    code = "malformed_token"


class UnsupportedAlgorithm(TokenRefused):
    """``alg`` is not RS, ES or PS with 256, 384 or 512."""

    code = "unsupported_algorithm"


class UnknownKey(TokenRefused):
    """No configured key may verify this token (``kid``, ``alg`` and ``iss`` considered)."""

    code = "unknown_key"


class WrongIssuer(UnknownKey):
    """There are keys for the ``alg`` and ``kid`` of this token, and none for its ``iss``."""

    code = "wrong_issuer"


class BadSignature(TokenRefused):
    """No candidate key verifies the signature."""

    code = "bad_signature"


class TokenExpired(TokenRefused):
    """``now >= exp`` (RFC 7519, section 4.1.4)."""

    code = "expired"


class TokenNotYetValid(TokenRefused):
    """``now < nbf`` (RFC 7519, section 4.1.5)."""

    code = "not_yet_valid"


class WrongAudience(TokenRefused):
    """``aud`` names none of ``-auth.audience`` (RFC 7519, section 4.1.3)."""

    code = "wrong_audience"


class ClaimMismatch(TokenRefused):
    """A claim does not have the value that ``-auth.requiredClaims`` requires."""

    code = "claim_mismatch"


class InvalidClaims(TokenRefused):
    """A claim is missing, of the wrong type, or cannot be enforced."""

    code = "invalid_claims"


# --- 403 -----------------------------------------------------------------------------------------------------------


class Forbidden(Refusal):
    """The token is valid but does not allow this."""

    status = 403
    code = "forbidden"


class AccessDenied(Forbidden):
    """The token's ``mode`` does not cover the route's access."""

    code = "access_denied"


class FiltersIgnored(Forbidden):
    """The backend ignores filters on this route, and the token has some."""

    code = "filters_ignored"


class TenantIgnored(Forbidden):
    """A cluster shows or changes the data of all tenants on this route."""

    code = "tenant_ignored"


class ForeignTenant(Forbidden):
    """The cluster path names another tenant than the token."""

    code = "foreign_tenant"


class NotServed(Forbidden):
    """No backend is configured for this access (``-read.url`` or ``-write.url`` is missing)."""

    code = "not_served"


# --- other 4xx -----------------------------------------------------------------------------------------------------


class UnknownRoute(Refusal):
    """The path is not in the route table."""

    status = 404
    code = "unknown_route"


class MethodNotAllowed(Refusal):
    """The route exists, the method is not listed for it. ``allow`` lists those that are."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, allow: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(Refusal):
    """The client did not send its request in time."""

    status = 408
    code = "request_timeout"


class BodyTooLarge(Refusal):
    """A form is larger than ``-maxFormSize``."""

    status = 413
    code = "body_too_large"


class TargetTooLong(Refusal):
    """The request line is longer than ``-http.maxRequestLine``."""

    status = 414
    code = "target_too_long"


class UnsupportedBody(Refusal):
    """The body of a read or delete is not a form that the gateway can inspect."""

    status = 415
    code = "unsupported_body"


class UnsupportedProtocol(UnsupportedBody):
    """A write in a protocol that VictoriaMetrics does not store: Prometheus remote write 2.0, OpenTelemetry as JSON.

    Writes get 415 too: Remote Write 2.0 requires it, and a sender may then fall back to 1.0
    (https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/#required-http-response-headers).
    """

    code = "unsupported_protocol"
    final = True


class RateLimited(Refusal):
    """A rate limit is reached. After ``retry_after`` whole seconds the request is allowed."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyAtOnce(Refusal):
    """A concurrency limit is reached (``-maxConcurrentRequests``, ``-maxConcurrentPerTenant``)."""

    status = 429
    code = "too_many_at_once"


class HeadTooLarge(Refusal):
    """The head is larger than ``-http.maxHeadSize``, or has more headers than ``-http.maxHeaders``."""

    status = 431
    code = "head_too_large"


# --- 5xx -----------------------------------------------------------------------------------------------------------


class InternalError(Refusal):
    """The gateway failed before it could decide. Nothing was sent to a backend."""

    status = 500
    code = "internal_error"


class SignatureNotChecked(InternalError):
    """The library that checks signatures failed. Its exception is the cause of this one."""

    code = "signature_not_checked"


class BackendUnreachable(Refusal):
    """The backend refused or broke the connection, or did not send HTTP."""

    status = 502
    code = "backend_unreachable"


class Overloaded(Refusal):
    """The gateway is at its limit of connections (``-http.maxConnections``)."""

    status = 503
    code = "overloaded"


class KeysUnavailable(Refusal):
    """No key could be fetched from the configured endpoints so far."""

    status = 503
    code = "keys_unavailable"


class UsageUnknown(Refusal):
    """The known usage is too old to apply limits (``-ratelimit.failClosed``)."""

    status = 503
    code = "usage_unknown"


class BackendTimeout(Refusal):
    """The backend did not accept the connection or did not respond in time."""

    status = 504
    code = "backend_timeout"
