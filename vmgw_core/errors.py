"""Every error of the gateway, in one file.

    VmgwError
    ├── ConfigurationError            a flag, file or key that cannot be used: the start stops, a reload is dropped
    └── Refusal                       a request that is answered by the gateway itself
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
section 15). A message never holds a token, a key or a password; it may hold text the client sent, so whoever
logs it escapes it.
"""

from __future__ import annotations

from typing import ClassVar


class VmgwError(Exception):
    """The root of all errors of the gateway."""


class ConfigurationError(VmgwError):
    """A configuration that cannot be used. The message is one readable line that names the thing and the place."""


class Refusal(VmgwError):
    """A request that the gateway answers itself, without asking a backend."""

    status: ClassVar[int]
    code: ClassVar[str]
    final: ClassVar[bool] = False
    """Whether the same request can never succeed, so that a sender that repeats it should give it up."""

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
    """A write that cannot be read: it is broken, or reads in two ways.

    vmagent and Prometheus drop a block on 400 and repeat it for ever on most others. No repetition mends this one,
    and it would block all that waits behind it, so writes are answered 400 too.
    """

    code = "bad_body"
    final = True


class BadLabels(BadBody):
    """A write with a label name that may not be written, or a series without a metric name.

    VictoriaMetrics would take it, but the gateway never will, so 400 here too.
    """

    code = "bad_labels"


# --- 401 -----------------------------------------------------------------------------------------------------------


class TokenRefused(Refusal):
    """A token that does not authenticate. The message is told to the client only with ``-logInvalidAuthTokens``."""

    status = 401
    code = "invalid_token"


class MissingToken(TokenRefused):
    """No token, or one without the ``Bearer `` prefix."""

    code = "missing_token"


class MalformedToken(TokenRefused):
    """Not a compact JWS (RFC 7515, section 7.1) with JSON objects for header and payload."""

    code = "malformed_token"


class UnsupportedAlgorithm(TokenRefused):
    """``alg`` is none of RS/ES/PS 256, 384 and 512."""

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
    """A claim has not the value that ``-auth.requiredClaims`` asks for."""

    code = "claim_mismatch"


class InvalidClaims(TokenRefused):
    """A claim is missing, of the wrong type, or cannot be enforced."""

    code = "invalid_claims"


# --- 403 -----------------------------------------------------------------------------------------------------------


class Forbidden(Refusal):
    """The token is good, and does not allow this."""

    status = 403
    code = "forbidden"


class AccessDenied(Forbidden):
    """The token's ``mode`` does not cover the route's access."""

    code = "access_denied"


class FiltersIgnored(Forbidden):
    """The backend ignores filters on this route, and the token carries some."""

    code = "filters_ignored"


class TenantIgnored(Forbidden):
    """A cluster shows or changes every tenant's data on this route, and no tenant may see or change another's."""

    code = "tenant_ignored"


class ForeignTenant(Forbidden):
    """A cluster path that names another tenant than the token does."""

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
    """A body on a read or delete route that is no form the gateway can inspect."""

    status = 415
    code = "unsupported_body"


class UnsupportedProtocol(UnsupportedBody):
    """A write in a protocol that VictoriaMetrics does not store: Prometheus remote write 2.0, OpenTelemetry as JSON.

    Writes are answered 415 too. Remote Write 2.0 asks for that, and a sender may then fall back to 1.0
    (https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/#required-http-response-headers).
    """

    code = "unsupported_protocol"
    final = True


class RateLimited(Refusal):
    """A limit of the tenant is reached. ``retry_after`` is in whole seconds: whoever waits that long gets through."""

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyAtOnce(Refusal):
    """As many requests are under way as may be (``-maxConcurrentRequests``, ``-maxConcurrentPerTenant``)."""

    status = 429
    code = "too_many_at_once"


class HeadTooLarge(Refusal):
    """The head is larger than ``-http.maxHeadSize``, or has more headers than ``-http.maxHeaders``."""

    status = 431
    code = "head_too_large"


# --- 5xx -----------------------------------------------------------------------------------------------------------


class InternalError(Refusal):
    """The gateway failed before it could take a decision: nothing was sent to a backend."""

    status = 500
    code = "internal_error"


class SignatureNotChecked(InternalError):
    """The library that checks signatures failed. Its exception is the cause of this one."""

    code = "signature_not_checked"


class BackendUnreachable(Refusal):
    """The backend refused the connection, broke it, or answered no HTTP."""

    status = 502
    code = "backend_unreachable"


class Overloaded(Refusal):
    """The gateway has as many connections as it takes (``-http.maxConnections``)."""

    status = 503
    code = "overloaded"


class KeysUnavailable(Refusal):
    """Keys are configured by endpoint, and none could be fetched so far."""

    status = 503
    code = "keys_unavailable"


class UsageUnknown(Refusal):
    """What is known of the tenants' usage is too old to hold them to their limits (``-ratelimit.failClosed``)."""

    status = 503
    code = "usage_unknown"


class BackendTimeout(Refusal):
    """The backend did not accept the connection or did not answer in time."""

    status = 504
    code = "backend_timeout"
