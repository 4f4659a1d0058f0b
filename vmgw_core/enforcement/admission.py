"""The decision on the head of a request.

    head -> route -> token -> authorise -> Grant -> labels -> tenant URL -> UpstreamRequest

Deny is the default: only a complete :class:`Grant` leads to a backend.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final

from vmgw_core.backends import BackendGroup
from vmgw_core.base import Access, BoundedCache, Subject, TenantID, text_bytes
from vmgw_core.errors import (
    AccessDenied,
    BodyTooLarge,
    FiltersIgnored,
    KeysUnavailable,
    NotServed,
    Refusal,
    TenantIgnored,
    UnknownKey,
    UnknownRoute,
    UnsupportedBody,
)
from vmgw_core.http import CORS, RequestHead, Response, refusal_response
from vmgw_core.routing import (
    Match,
    Restriction,
    Route,
    check_tenant,
    decode_path,
    match_route,
    upstream_path,
)
from vmgw_core.tokens import AccessMode, Grants, Token, TokenSource, TokenVerifier, VMAccessClaim

from .alternatives import claim_for

TENANTS: Final = "/admin/tenants"
"""The path of :func:`tenants_page`."""

_ADMISSIONS_BYTES: Final = 4 << 20
_ADMISSION_BYTES: Final = 800  # with its match, without texts and claims
_LONG_PATH: Final = 1024
"""Characters of a path that is decoded anew each time."""


class Body(Enum):
    """How a lane handles the body of an admitted request."""

    NONE = "none"
    STREAM = "stream"  # forwarded as it arrives
    HOLD = "hold"  # a form of at most Policy.max_form_size bytes, held for rewrite()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """Everything that a decision depends on, except the request and the time.

    ``keys_awaited``: no key has been fetched from the endpoints yet. Without ``auth`` the path names the tenant and no
    token is needed, which is for clusters only.
    """

    verifier: TokenVerifier
    cluster: bool
    read: BackendGroup | None
    write: BackendGroup | None
    max_form_size: int
    tell_why: bool
    keys_awaited: bool = False
    path_prefix: str = ""
    """The prefix of all paths (``-http.pathPrefix``): empty, or with a slash at its start and none at its end."""
    auth: bool = True
    check_label_names: bool = True
    """Whether the label names of writes are checked (``-write.checkLabelNames``)."""
    max_decoded: int = 64 << 20
    """The most bytes of a write that must be read whole (``-ratelimit.maxDecodedSize``)."""
    compression: bool = True
    """Whether backends may compress responses (not with ``-http.disableResponseCompression``)."""
    token_source: TokenSource = field(default_factory=TokenSource)
    admissions: BoundedCache[tuple[Grants | None, Match], Admission] = field(init=False, repr=False)
    """What was allowed before, by the token's grants."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "admissions", BoundedCache(_ADMISSIONS_BYTES, _admission_bytes))

    def backends(self, route: Route) -> BackendGroup | None:
        """Return the backends that serve ``route``."""
        return self.write if route.inserts else self.read


class Admission:
    """What a claim allows on a path. Nothing else but the policy matters, so it is cached."""

    __slots__ = ("backends", "claim", "match", "path", "subject")

    def __init__(
        self, *, claim: VMAccessClaim, match: Match, backends: BackendGroup, subject: Subject, path: str
    ) -> None:
        self.claim = claim
        self.match = match
        self.backends = backends
        self.subject = subject
        """The tenant and labels that a request is counted for."""
        self.path = path
        """The path below a backend's URL."""


class Grant:
    """An admitted request: its access, route, backend and body. ``token`` is None without -enable.auth.

    ``backend`` is the first of its group; the cycle chooses another by load. ``path`` is the path below its URL.
    """

    __slots__ = ("backend", "backends", "body", "claim", "match", "path", "route", "subject", "token")

    def __init__(self, admission: Admission, token: Token | None, body: Body) -> None:
        self.claim = admission.claim
        self.match = admission.match
        self.route = admission.match.route
        self.subject = admission.subject
        self.path = admission.path
        self.backends = admission.backends
        self.backend = admission.backends.first
        self.token = token
        self.body = body


def access_of(policy: Policy, head: RequestHead) -> Access | None:
    """Return the access of the route of ``head``, or None; for wording a response, never for a decision."""
    route = route_of(policy, head)
    return None if route is None else route.access


def route_of(policy: Policy, head: RequestHead) -> Route | None:
    """Return the route of ``head``, or None; for reports, never for a decision."""
    match = match_of(policy, head)
    return None if match is None else match.route


def match_of(policy: Policy, head: RequestHead) -> Match | None:
    """Return the match of ``head``, or None; for reports, never for a decision."""
    try:
        return _match(policy, head)
    except Refusal:
        return None


def identify(policy: Policy, head: RequestHead, now: float) -> Token | None:
    """Return the valid token of ``head``, or None; for reports, never for a decision."""
    try:
        return _authenticate(policy, head, now) if policy.auth else None
    except Refusal:
        return None


def authenticate(policy: Policy, head: RequestHead, now: float) -> tuple[Token, str]:
    """Return the valid token of ``head``, and its text; for pages of the gateway itself. Raises ``Refusal``."""
    return _authenticate(policy, head, now), _token_text(head, policy)


def tenants_page(policy: Policy, head: RequestHead, now: float) -> Response | None:
    """Return ``/admin/tenants`` of a cluster with the tenants of the token alone: vmui's list of tenants.

    None without tenants or tokens: then the path is not served.
    """
    if not (policy.cluster and policy.auth):
        return None
    try:
        claims = _authenticate(policy, head, now).grants.alternatives
        tenants = dict.fromkeys(str(claim.tenant) for claim in claims if claim.mode.allows(Access.READ))
        if not tenants:
            raise AccessDenied("the token gives no read access")
    except Refusal as refusal:
        return refusal_response(refusal, access=Access.READ, tell_why=policy.tell_why)
    body = json.dumps({"status": "success", "data": list(tenants)}, separators=(",", ":")).encode()
    length = (b"Content-Length", str(len(body)).encode())
    return Response(status=200, headers=((b"Content-Type", b"application/json"), length, *CORS), body=body)


def admit(policy: Policy, head: RequestHead, now: float) -> Grant:
    """Decide on the head alone.

    Args:
        now: Unix time in seconds.

    Raises:
        Refusal: the subclass says why the request is not allowed.
    """
    match = _match(policy, head)
    token = _authenticate(policy, head, now) if policy.auth else None
    key = (None if token is None else token.grants, match)
    admission = policy.admissions.get(key)
    if admission is None:
        admission = _admission(policy, *key)
        policy.admissions.put(key, admission)
    return Grant(admission, token, _body(policy, match.route, head))


def _admission(policy: Policy, grants: Grants | None, match: Match) -> Admission:
    """Decide what ``grants`` (None without -enable.auth) allow on the path.

    Raises:
        Refusal: nothing; the subclass says why.
    """
    route = match.route
    claim = _claim_of_path(match) if grants is None else claim_for(grants, match, cluster=policy.cluster)
    _check_restrictions(policy, claim, match, by_token=grants is not None)
    check_tenant(match, claim.tenant)
    backends = policy.backends(route)
    if backends is None:
        raise NotServed(f"no -{'write' if route.inserts else 'read'}.url is configured")
    if grants is None:
        subject = Subject(None if match.multitenant else claim.tenant, ())
    else:
        subject = Subject(claim.tenant, grants.labels)
    path = upstream_path(match, claim.tenant, cluster=policy.cluster)
    return Admission(claim=claim, match=match, backends=backends, subject=subject, path=path)


def _admission_bytes(key: tuple[Grants | None, Match], admission: Admission) -> int:
    grants, match = key
    texts = text_bytes(match.rest, admission.path)
    return _ADMISSION_BYTES + texts + admission.claim.memory + (0 if grants is None else grants.memory)


def _match(policy: Policy, head: RequestHead) -> Match:
    path = head.target.partition("?")[0]
    match = _match_path if len(path) <= _LONG_PATH else _match_path.__wrapped__
    return match(path, head.method, policy.path_prefix, policy.cluster)


@lru_cache(maxsize=256)  # clients use few paths
def _match_path(raw: str, method: str, prefix: str, cluster: bool) -> Match:
    path = decode_path(raw)
    if prefix:
        if not path.startswith(f"{prefix}/"):
            raise UnknownRoute("the gateway does not serve this path: it does not begin with -http.pathPrefix")
        path = path.removeprefix(prefix)
    return match_route(path, method, cluster=cluster)


def _check_restrictions(policy: Policy, claim: VMAccessClaim, match: Match, *, by_token: bool) -> None:
    """Refuse the request if the backend would ignore one of its restrictions.

    Raises:
        TenantIgnored: the backend ignores the tenant.
        FiltersIgnored: it ignores labels and filters, and the token has some.
    """
    ignored = match.route.ignored
    if policy.cluster and Restriction.TENANT in ignored:
        raise TenantIgnored("this page shows what belongs to all tenants of a cluster, so no tenant may use it")
    if match.multitenant and by_token and not match.route.binds_all_tenants:
        raise TenantIgnored("VictoriaMetrics cannot limit this path for all tenants to the token's tenant")
    if (claim.labels and Restriction.LABELS in ignored) or (claim.filters and Restriction.FILTERS in ignored):
        raise FiltersIgnored("this page cannot be limited to labels and filters, so tokens with some may not use it")
    if match.route.writes_other_names and any(name == "__name__" for name, _ in claim.labels):
        raise FiltersIgnored(
            "VictoriaMetrics names these rows after their fields, so tokens with the label __name__ may not write them"
        )


def _claim_of_path(match: Match) -> VMAccessClaim:
    """Return full access to the tenant that the path names, without ``-enable.auth``."""
    if match.tenant is None and not match.multitenant:
        raise UnknownRoute(
            "without -enable.auth the path must name the tenant, as in /select/0/prometheus/api/v1/labels"
        )
    return VMAccessClaim(tenant=match.tenant or TenantID(), labels=(), filters=(), mode=AccessMode.FULL)


def _authenticate(policy: Policy, head: RequestHead, now: float) -> Token:
    text = _token_text(head, policy)
    try:
        return policy.verifier.verify(text, now)
    except UnknownKey:
        if policy.keys_awaited:
            raise KeysUnavailable("no keys to verify tokens could be fetched so far") from None
        raise


def _token_text(head: RequestHead, policy: Policy) -> str:
    source = policy.token_source
    known = head.facts.token
    if known is not None and known[0] is source:
        return known[1]
    text = source.find(head.headers)
    head.facts.token = (source, text)
    return text


def _body(policy: Policy, route: Route, head: RequestHead) -> Body:
    if not head.has_body:
        return Body.NONE
    if route.inserts:
        return Body.STREAM
    form_type(head)  # any other body is refused
    length = head.content_length
    if length is not None and length > policy.max_form_size:
        raise too_large(policy)
    return Body.HOLD


def form_type(head: RequestHead) -> str:
    """Return the type of a form. Raises ``UnsupportedBody`` if the body is no form, or a compressed one."""
    found = head.facts.form_type
    if found is None:
        raise UnsupportedBody("a body here must be a form, urlencoded or multipart, and not compressed")
    return found


def too_large(policy: Policy) -> BodyTooLarge:
    """Return the refusal of a form that is too large."""
    return BodyTooLarge(f"the form is larger than {policy.max_form_size} bytes (-maxFormSize)")
