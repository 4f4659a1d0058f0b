"""The explanation of one decision, as a frozen value and as JSON.

Rules of this file:

- An explanation holds the header and claims of a token, but never its signature, and no credentials of a backend.
- The keys of the JSON are stable: later versions only add keys. Unknown parts are null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import reduce
from operator import or_

from vmgw_core.base import tenant_name
from vmgw_core.limits import Guard
from vmgw_core.limits.model import Usage
from vmgw_core.routing import Match
from vmgw_core.tokens import AccessMode, VerificationKey, VMAccessClaim

Pair = tuple[str, str]
"""The name and value of an argument, decoded."""


class Verdict(StrEnum):
    ADMITTED = "admitted"
    REFUSED = "refused"
    PENDING = "pending"  # the head is admitted, and the form is not known yet
    OWN_PAGE = "own_page"  # a page of the gateway itself, such as /health, without a token


class Step(StrEnum):
    """The steps of a decision, in order. ``HEAD`` is reported only if it refused."""

    HEAD = "head"
    ROUTE = "route"
    TOKEN = "token"  # noqa: S105
    MODE = "mode"
    FILTERS = "filters"
    TENANT = "tenant"
    BACKEND = "backend"
    BODY = "body"
    LIMITS = "limits"
    ARGUMENTS = "arguments"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step, its result, and its details in one line."""

    step: Step
    passed: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalReport:
    """Why the request was refused.

    ``code``, ``message`` and ``status`` are the refusal's own; ``answer_status`` and ``answer`` are what the client
    gets, which may say less.
    """

    step: Step
    code: str
    message: str
    status: int
    answer_status: int
    answer: str

    def as_json(self) -> dict[str, object]:
        """Return plain data for ``json.dumps``, as the other methods of this name do."""
        return {
            "step": self.step.value,
            "code": self.code,
            "message": self.message,
            "status": self.status,
            "answer": {"status": self.answer_status, "error": self.answer},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenReport:
    """The token without its signature. ``key`` verified it; ``verified`` is False if no key did.

    ``header`` and ``claims`` are None if they are unreadable. ``in_cookie``: whether it is that of a login.
    """

    header: Mapping[str, object] | None = field(repr=False)
    claims: Mapping[str, object] | None = field(repr=False)
    verified: bool
    key: VerificationKey | None
    in_cookie: bool = False
    credential: str | None = None
    """The kind and name of the credential in ``-auth.credentialsFile``, if it is no token."""

    def as_json(self) -> dict[str, object]:
        """Return the header, claims and key of a token."""
        return {
            "header": None if self.header is None else dict(self.header),
            "claims": None if self.claims is None else dict(self.claims),
            "verified": self.verified,
            "key": self.key and key_as_json(self.key),
            **({"place": "cookie"} if self.in_cookie else {}),
            **({} if self.credential is None else {"credential": self.credential}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentsReport:
    """The arguments of the URL or the form, as the client sent them and as they go upstream.

    ``after`` is None if the request was refused before they were rewritten.
    """

    before: tuple[Pair, ...]
    after: tuple[Pair, ...] | None
    removed: tuple[Pair, ...]
    added: tuple[Pair, ...]

    def as_json(self) -> dict[str, object]:
        """Return lists of pairs."""
        return {
            "before": _lists(self.before),
            "after": None if self.after is None else _lists(self.after),
            "removed": _lists(self.removed),
            "added": _lists(self.added),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamReport:
    """The upstream request: ``url`` without credentials, ``dropped_headers`` in lower case."""

    flag: str
    method: str
    url: str
    dropped_headers: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Return the request, with the flag as it is written."""
        return {
            "flag": f"-{self.flag}",
            "method": self.method,
            "url": self.url,
            "dropped_headers": list(self.dropped_headers),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One decision. Parts that were not reached are None or empty."""

    verdict: Verdict
    time: float
    """The time of the decision, Unix seconds."""
    method: str
    path: str
    """As the client sent it, without the query."""
    client: str
    steps: tuple[StepReport, ...] = ()
    refusal: RefusalReport | None = None
    match: Match | None = None
    token: TokenReport | None = None
    claims: tuple[VMAccessClaim, ...] = ()
    """What the token gives on the path, as one claim; all that it gives if no grant was reached."""
    entries: tuple[str, ...] = ()
    """The entries of the access policy that matched the token."""
    body: str | None = None
    """``none``, ``stream`` or ``hold``."""
    url_arguments: ArgumentsReport | None = None
    form_arguments: ArgumentsReport | None = None
    limits: tuple[Usage, ...] | None = None
    """None if no limits are enforced."""
    guards: tuple[Guard, ...] = ()
    """What the query is held to."""
    upstream: UpstreamReport | None = None

    filtered: bool = False
    """Whether the gateway limits the response to the token, because the backend does not."""
    answer: str = ""
    """What was left out of the response, if it is known."""
    shadow: str = ""
    """How the candidate configuration decides differently, if it does."""

    @property
    def tenant(self) -> str | None:
        """The tenant of a valid token: ``1:5``, or ``multitenant``; with commas if there are several."""
        if not self.claims:
            return None
        if self.match is not None and self.match.multitenant and self.token is None:
            return tenant_name(None)
        return ", ".join(dict.fromkeys(str(claim.tenant) for claim in self.claims))

    def as_json(self) -> dict[str, object]:
        """Return plain data for ``json.dumps``."""
        return {
            "verdict": self.verdict.value,
            "time": self.time,
            "request": {"method": self.method, "path": self.path, "client": self.client, "body": self.body},
            "steps": [{"step": s.step.value, "passed": s.passed, "text": s.text} for s in self.steps],
            "refusal": self.refusal and self.refusal.as_json(),
            "route": self.match and _route(self.match),
            "token": self.token and self.token.as_json(),
            "access": access_as_json(self.claims, self.entries, self.tenant),
            "arguments": {
                "url": self.url_arguments and self.url_arguments.as_json(),
                "form": self.form_arguments and self.form_arguments.as_json(),
            },
            "limits": None if self.limits is None else [usage.as_json() for usage in self.limits],
            "guards": [guard.as_json() for guard in self.guards],
            "upstream": self.upstream and self.upstream.as_json(),
            "response": {"filtered": self.filtered, "shown": self.answer or None},
            "shadow": self.shadow or None,
        }


def _route(match: Match) -> dict[str, object]:
    return {
        "path": match.route.path,
        "cluster_path": match.route.cluster_path,
        "methods": list(match.route.methods),
        "access": match.route.access.value,
        "filters": match.route.filters.value,
        "tenant_in_path": None if match.tenant is None else str(match.tenant),
    }


def key_as_json(key: VerificationKey) -> dict[str, object]:
    """Return what identifies a key and what it verifies, without its numbers."""
    return {
        "source": key.source,
        "kid": key.kid,
        "thumbprint": key.thumbprint,
        "type": key.kty,
        "algorithms": sorted(key.algorithms),
        "issuer": key.issuer and key.issuer.template,
    }


def access_as_json(
    claims: Sequence[VMAccessClaim], entries: Sequence[str], tenant: str | None = None
) -> dict[str, object] | None:
    """Return the access: one claim, or ``alternatives``; ``tenant`` is that of a single claim, if it is not its own."""
    if not claims:
        return None
    found = [
        {
            "tenant": tenant if tenant is not None and len(claims) == 1 else str(claim.tenant),
            "mode": mode_words(claim.mode),
            "labels": _lists(claim.labels),
            "filters": list(claim.filters),
            **({"limits": claim.limit_class} if claim.limit_class else {}),
        }
        for claim in claims
    ]
    by_entries = {"entries": list(entries)} if entries else {}
    if len(found) == 1:
        return {**found[0], **by_entries}
    whole = {"tenant": None, "mode": mode_words(*(claim.mode for claim in claims)), "labels": None, "filters": None}
    return {**whole, **by_entries, "alternatives": found}


def mode_words(*modes: AccessMode) -> str:
    """Return the modes together as a word."""
    return {AccessMode.READ: "read", AccessMode.WRITE: "write"}.get(reduce(or_, modes), "full")


def _lists(pairs: Sequence[Pair]) -> list[list[str]]:
    return [list(pair) for pair in pairs]
