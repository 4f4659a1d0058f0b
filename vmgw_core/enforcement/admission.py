"""The decision on the head of a request.

    head -> route -> token -> authorise -> Grant -> labels -> tenant URL -> UpstreamRequest

Deny is the default: only a complete :class:`Grant` leads to a backend.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final

from vmgw_core.answers import Filter, HeldBytes, RulesTenant, VisibleNames, rule_filter
from vmgw_core.backends import BackendGroup
from vmgw_core.base import Access, BoundedCache, Subject, TenantID, text_bytes
from vmgw_core.credentials import Certificate, Credentials
from vmgw_core.errors import (
    AccessDenied,
    Awaited,
    BadSignature,
    BodyTooLarge,
    CrossSite,
    FiltersIgnored,
    KeysUnavailable,
    NotServed,
    PasswordUnchecked,
    Refusal,
    TenantIgnored,
    TokenRefused,
    UnknownKey,
    UnknownRoute,
    UnsupportedBody,
)
from vmgw_core.http import CORS, RequestHead, Response, refusal_response
from vmgw_core.login import Login, is_foreign, is_navigation, is_own_target, is_safe_method, may_use_session, redirect
from vmgw_core.routing import (
    Answer,
    Match,
    Restriction,
    Route,
    answer_path,
    check_tenant,
    decode_path,
    match_route,
    upstream_path,
)
from vmgw_core.tokens import (
    AccessMode,
    BasicCredentials,
    Grants,
    Token,
    TokenSource,
    TokenVerifier,
    VMAccessClaim,
    is_api_key,
    judge_times,
)

from .alternatives import claim_for

TENANTS: Final = "/admin/tenants"
"""The path of :func:`tenants_page`."""

_ADMISSIONS_BYTES: Final = 4 << 20
_VISIBLE_BYTES: Final = 16 << 20
_ADMISSION_BYTES: Final = 800  # with its match, without texts and claims
_COMPILED: Final = 32
"""Bytes that a compiled expression takes for each of its text."""
_VMALERT: Final = "/vmalert/"
_OWN_RULES: Final = "this page shows the rules of others too; vmui shows your own rules at /vmui/#/rules"
_LONG_PATH: Final = 1024
"""Characters of a path that is decoded anew each time."""


VisibleKey = tuple[str, VMAccessClaim]
"""The path of a request for metric names, and the claim that limits it."""


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
    login: Login | None = None
    """The login of browsers; None without ``-login.oidcIssuer``."""
    credentials: Credentials | None = None
    """API keys and Basic users (``-auth.credentialsFile``)."""
    filters_responses: bool = False
    """Whether the carrier passes responses through ``Cycle.collect`` and ``filtered`` where the cycle has a filter.

    Without that, a page that the backend does not limit to the token is refused.
    """
    rules_tenant: RulesTenant = field(default_factory=RulesTenant)
    """How the tenant of a rule is known in a cluster (``-vmalert.tenant``)."""
    held: HeldBytes = field(default_factory=lambda: HeldBytes(16 << 20))
    """The memory for answers that must be filtered (``-response.maxFilterBytes``)."""
    visible: BoundedCache[VisibleKey, tuple[float, VisibleNames]] = field(init=False, repr=False)
    """The metric names that a claim can see, and until when that holds."""
    certificates: bool = False
    """Whether a client's certificate counts if a request has no other credential (``-auth.mtlsClaims``)."""
    admissions: BoundedCache[tuple[Grants | None, Match], Admission] = field(init=False, repr=False)
    """What was allowed before, by the token's grants."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "admissions", BoundedCache(_ADMISSIONS_BYTES, _admission_bytes))
        object.__setattr__(self, "visible", BoundedCache(_VISIBLE_BYTES, _visible_bytes))

    @property
    def limit_classes(self) -> Mapping[str, str]:
        """The classes of limits that grants name, and where the first grant with each is."""
        of_credentials = {} if self.credentials is None else self.credentials.limit_classes
        return {**of_credentials, **self.verifier.rules.limit_classes}

    def backends(self, route: Route) -> BackendGroup | None:
        """Return the backends that serve ``route``."""
        return self.write if route.inserts else self.read


class Admission:
    """What a claim allows on a path. Nothing else but the policy matters, so it is cached."""

    __slots__ = ("backends", "claim", "filter", "match", "path", "subject", "tenants")

    def __init__(
        self,
        *,
        claim: VMAccessClaim,
        match: Match,
        backends: BackendGroup,
        subject: Subject,
        path: str,
        tenants: frozenset[TenantID] | None,
        answer_filter: Filter | None = None,
    ) -> None:
        self.claim = claim
        self.filter = answer_filter
        self.match = match
        self.backends = backends
        self.subject = subject
        """The tenant and labels that a request is counted for."""
        self.path = path
        """The path below a backend's URL."""
        self.tenants = tenants
        """The tenants that the rows of a write may name; None if the path decides."""


class Grant:
    """An admitted request: its access, route, backend and body. ``token`` is None without -enable.auth.

    ``backend`` is the first of its group; the cycle chooses another by load. ``path`` is the path below its URL.
    ``filter`` limits the answer to the token, where the backend does not.
    """

    __slots__ = ("backend", "backends", "body", "claim", "filter", "match", "pairs", "path", "route", "subject",
                 "tenants", "token")  # fmt: skip

    def __init__(self, admission: Admission, token: Token | None, body: Body) -> None:
        self.claim = admission.claim
        self.filter = admission.filter
        self.match = admission.match
        self.route = admission.match.route
        self.subject = admission.subject
        self.path = admission.path
        self.tenants = admission.tenants
        self.backends = admission.backends
        self.backend = admission.backends.first
        self.token = token
        self.body = body
        self.pairs: tuple[str, ...] = ()
        """The client's raw arguments, if the answer is filtered."""


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


def awaited_by(keys: Awaited | None, policy: Policy, head: RequestHead, now: float) -> Awaited | None:
    """Return what must be done before the token of ``head`` can be judged: keys are fetched, a password is checked."""
    try:
        if policy.auth:
            _authenticate(policy, head, now)
    except PasswordUnchecked as refusal:
        return refusal.attempt
    except (UnknownKey, BadSignature):
        return keys
    except Refusal:
        pass
    return None


def authenticate(policy: Policy, head: RequestHead, now: float) -> tuple[Token, object]:
    """Return the valid token of ``head``, and what was sent of it; for the gateway's own pages. Raises ``Refusal``."""
    if policy.login is not None:
        _check_site(policy, policy.login, head, safe=True)
    token = _authenticate(policy, head, now)
    return token, None if token.credential is not None else _token_text(head, policy)


def tenants_page(policy: Policy, head: RequestHead, now: float) -> Response | None:
    """Return ``/admin/tenants`` of a cluster with the tenants of the token alone: vmui's list of tenants.

    None without tenants or tokens: then the path is not served.
    """
    if not (policy.cluster and policy.auth):
        return None
    try:
        claims = authenticate(policy, head, now)[0].grants.alternatives
        tenants = dict.fromkeys(str(claim.tenant) for claim in claims if claim.mode.allows(Access.READ))
        if not tenants:
            raise AccessDenied("the token gives no read access")
    except Refusal as refusal:
        return refusal_response(refusal, access=Access.READ, tell_why=policy.tell_why)
    body = json.dumps({"status": "success", "data": list(tenants)}, separators=(",", ":")).encode()
    headers = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
    length = (b"Content-Length", str(len(body)).encode())
    return Response(status=200, headers=(*headers, length, *CORS), body=body)


def admit(policy: Policy, head: RequestHead, now: float) -> Grant:
    """Decide on the head alone.

    Args:
        now: Unix time in seconds.

    Raises:
        Refusal: the subclass says why the request is not allowed.
    """
    match = _match(policy, head)
    if policy.login is not None or policy.certificates:
        _check_sites(policy, head, match.route)
    token = _authenticate(policy, head, now) if policy.auth else None
    key = (None if token is None else token.grants, match)
    admission = policy.admissions.get(key)
    if admission is None:
        admission = _admission(policy, *key)
        policy.admissions.put(key, admission)
    return Grant(admission, token, _body(policy, match.route, head))


def _check_sites(policy: Policy, head: RequestHead, route: Route) -> None:
    """Refuse a request that another site has a browser send with what the browser adds itself: ``CrossSite``."""
    safe = is_safe_method(head.method) and route.access is Access.READ
    if policy.login is not None:
        _check_site(policy, policy.login, head, safe=safe)
    if policy.certificates and _certificate(policy, head) is not None and is_foreign(head.headers, safe=safe):
        raise CrossSite("a page of another site sent this request")


def _check_site(policy: Policy, login: Login, head: RequestHead, *, safe: bool) -> None:
    """Refuse a request that another site has a browser send, if its token would be that of a login.

    ``safe``: whether the request changes nothing.

    Raises:
        CrossSite: it comes from a page of another site, or nothing says where from, though it may change something.
    """
    if (
        policy.token_source.may_be_cookie(head.headers)
        and not may_use_session(head.headers, login.origin, safe=safe)
        and login.has_session(head.headers)
    ):
        raise CrossSite("a page of another site sent this request, or nothing says which page did")


def answer(policy: Policy | None, head: RequestHead, refusal: Refusal) -> Response:
    """Return what a client gets for ``refusal``: a browser that opens a page without a token is led to the login."""
    if policy is None:
        return refusal_response(refusal)
    route = route_of(policy, head)
    if (
        policy.login is not None
        and isinstance(refusal, TokenRefused)
        and route is not None
        and route.is_page
        and policy.token_source.may_be_cookie(head.headers)
        and is_navigation(head.method, head.headers)
    ):
        target = head.target if is_own_target(head.target) else policy.login.home
        return redirect(303, policy.login.login_path(target))
    return refusal_response(refusal, access=None if route is None else route.access, tell_why=policy.tell_why)


def _admission(policy: Policy, grants: Grants | None, match: Match) -> Admission:
    """Decide what ``grants`` (None without -enable.auth) allow on the path.

    Raises:
        Refusal: nothing; the subclass says why.
    """
    route = match.route
    claim = _claim_of_path(match) if grants is None else claim_for(grants, match, cluster=policy.cluster)
    check_tenant(match, claim.tenant)
    found = _filter(policy, grants, claim, match)
    if found is None:
        _check_restrictions(policy, claim, match, by_token=grants is not None)
    backends = policy.backends(route)
    if backends is None:
        raise NotServed(f"no -{'write' if route.inserts else 'read'}.url is configured")
    if grants is None:
        subject = Subject(None if match.multitenant else claim.tenant, ())
    else:
        classes = grants.limit_classes(None if match.multitenant else claim.tenant)
        subject = Subject(claim.tenant, grants.labels, classes)
    path = upstream_path(match, claim.tenant, cluster=policy.cluster) if found is None else found.path
    tenants = None
    if grants is not None and match.multitenant and route.access is Access.WRITE:
        tenants = frozenset(each.tenant for each in grants.alternatives if each.mode.allows(Access.WRITE))
    return Admission(
        claim=claim,
        match=match,
        backends=backends,
        subject=subject,
        path=path,
        tenants=tenants,
        answer_filter=found,
    )


def _filter(policy: Policy, grants: Grants | None, claim: VMAccessClaim, match: Match) -> Filter | None:
    """Return the filter of answers that the backend does not limit to ``claim``, or None.

    None also if it limits them, or if nobody can: on paths for all tenants only rules tell of each tenant.

    Raises:
        FiltersIgnored: a filter of the token cannot be applied to rules.
    """
    answer, ignored = match.route.answer, match.route.ignored
    by_tenant = policy.cluster and Restriction.TENANT in ignored
    if answer is None or not policy.filters_responses or not (by_tenant or (claim.restricted and ignored)):
        return None
    tells_tenants = answer.lists_rules or answer is Answer.NOTIFIERS
    if match.multitenant and (grants is None or not tells_tenants):
        return None
    rules = None
    if answer.lists_rules:
        rules = rule_filter(_readable(grants, claim, match), policy.rules_tenant if policy.cluster else None)
    return Filter(
        answer=answer,
        path=answer_path(answer, match, claim.tenant, cluster=policy.cluster),
        names_path=answer_path(Answer.INDEX, match, claim.tenant, cluster=policy.cluster)
        if answer is Answer.METADATA
        else None,
        tenant=claim.tenant if policy.cluster and not claim.restricted else None,
        rules=rules,
        tag=match.rest.rpartition("/")[2],
    )


def _readable(grants: Grants | None, claim: VMAccessClaim, match: Match) -> list[VMAccessClaim]:
    """Return the alternatives of the token that allow reading what the path names: rules match one of them."""
    if grants is None:
        return [claim]
    claims = [each for each in grants.alternatives if each.mode.allows(Access.READ)]
    return claims if match.multitenant else [each for each in claims if each.tenant == claim.tenant]


def _admission_bytes(key: tuple[Grants | None, Match], admission: Admission) -> int:
    grants, match = key
    texts = text_bytes(match.rest, admission.path)
    compiled = admission.filter is not None and admission.filter.rules is not None
    own = 0 if grants is None else grants.memory * (_COMPILED if compiled else 1)
    return _ADMISSION_BYTES + texts + admission.claim.memory + own


def _visible_bytes(key: VisibleKey, entry: tuple[float, VisibleNames]) -> int:
    return text_bytes(key[0]) + key[1].memory + entry[1].memory


def _match(policy: Policy, head: RequestHead) -> Match:
    path = head.path
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
        if match.rest.startswith(_VMALERT):
            raise TenantIgnored(_OWN_RULES)
        raise TenantIgnored("this page shows what belongs to all tenants of a cluster, so no tenant may use it")
    if match.multitenant and by_token and not match.route.binds_all_tenants:
        raise TenantIgnored("VictoriaMetrics cannot limit this path for all tenants to the token's tenant")
    if (claim.labels and Restriction.LABELS in ignored) or (claim.filters and Restriction.FILTERS in ignored):
        if match.rest.startswith(_VMALERT):
            raise FiltersIgnored(_OWN_RULES)
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
    if policy.certificates and (certificate := _certificate(policy, head)) is not None:
        return _token_of(certificate, policy, now)
    text = _token_text(head, policy)
    if policy.credentials is not None:
        if isinstance(text, BasicCredentials):
            return policy.credentials.of_user(text)
        if is_api_key(text):
            return policy.credentials.of_key(text)
    assert isinstance(text, str)  # a source without credentials finds tokens only
    try:
        return policy.verifier.verify(text, now)
    except UnknownKey:
        if policy.keys_awaited:
            raise KeysUnavailable("no keys to verify tokens could be fetched so far") from None
        raise


def _certificate(policy: Policy, head: RequestHead) -> Certificate | None:
    """Return the certificate of the client if the request has no other credential; for ``policy.certificates``."""
    found = head.certificate
    return found if isinstance(found, Certificate) and policy.token_source.has_none(head.headers) else None


def _token_of(certificate: Certificate, policy: Policy, now: float) -> Token:
    token = Token(
        grants=policy.verifier.rules.grants(certificate.claims()),
        expires_at=certificate.expires_at,
        not_before=None,
        subject=certificate.name,
        issuer=None,
        key=None,
        credential="certificate",
    )
    judge_times(token, now)
    return token


def _token_text(head: RequestHead, policy: Policy) -> str | BasicCredentials:
    source = policy.token_source
    known = head.facts.token
    if known is not None and known[0] is source:
        found: str | BasicCredentials = known[1]
        return found
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
