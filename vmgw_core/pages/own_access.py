"""``/-/me``: what a token grants, its limits, and why its last requests were refused; as HTML and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vmgw_core.explain import access_as_json, moment
from vmgw_core.limits import Guard
from vmgw_core.limits.model import Usage
from vmgw_core.tokens import Token, VMAccessClaim

from .decisions import Decision
from .html import Html, bad, document, element, meter, table
from .wording import decision_rows, limit_words, scope_words


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAccess:
    """What the holder of ``token`` may know at the Unix time ``now``.

    ``silent``: the workers that do not tell their refusals. Of limits for all tenants together the usage is not told.
    """

    token: Token
    now: float
    usages: Sequence[Usage]
    refusals: Sequence[Decision]
    silent: Sequence[int] = ()
    guards: Sequence[Guard] = ()

    def as_json(self) -> bytes:
        """Return the page as JSON, with the names of an explanation."""
        token = self.token
        document = {
            "subject": token.subject,
            "issuer": token.issuer,
            "valid_until": token.expires_at,
            "verified": token.key is not None,
            "access": access_as_json(token.grants.alternatives, token.grants.sources),
            "limits": [_limit(usage) for usage in self.usages],
            "guards": [guard.as_json() for guard in self.guards],
            "refusals": [
                {
                    "time": each.at,
                    "method": each.method,
                    "path": each.path,
                    "status": each.status,
                    "reason": each.code,
                    "message": each.message,
                }
                for each in self.refusals
            ],
            "silent_workers": list(self.silent),
        }
        return (json.dumps(document, indent=2) + "\n").encode()

    def as_html(self) -> bytes:
        """Return the page for a browser."""
        return document("Your access", *self._parts())

    def _parts(self) -> Iterator[Html]:
        token = self.token
        yield table(
            ("", ""),
            (
                ("Subject", token.subject),
                ("Issuer", token.issuer),
                ("Valid until", moment(token.expires_at)),
                ("Signature", "verified" if token.key is not None else bad("not verified: the gateway has no keys")),
                *((("Entries of the access policy", ", ".join(token.grants.sources)),) if token.grants.sources else ()),
            ),
        )
        yield element("h2", "What it grants")
        yield table(
            ("Tenant", "Mode", "Labels", "Filters", "Class of limits"), map(_claim_row, token.grants.alternatives)
        )
        yield element("h2", "Limits")
        yield table(
            ("What", "Of", "Usage"),
            (
                (
                    limit_words(usage),
                    scope_words(usage),
                    f"limit {usage.limit.value}" if usage.limit.total else meter(usage.usage, usage.limit.value),
                )
                for usage in self.usages
            ),
        )
        if self.guards:
            yield element("h2", "What a query may ask for")
            yield table(("Guard",), ((str(guard),) for guard in self.guards))
        yield element("h2", "Requests that were refused last")
        for slot in self.silent:
            yield element("p", bad(f"Worker {slot} does not answer: its refusals are missing."))
        yield table(
            ("Time", "Request", "Status", "Reason"),
            decision_rows(self.refusals, who=False),
        )


def _claim_row(claim: VMAccessClaim) -> tuple[str | None, ...]:
    mode = access_as_json((claim,), ())
    assert mode is not None
    labels = ", ".join(f"{name}={value}" for name, value in claim.labels)
    return (
        str(claim.tenant),
        str(mode["mode"]),
        labels or None,
        " or ".join(claim.filters) or None,
        claim.limit_class or None,
    )


def _limit(usage: Usage) -> dict[str, object]:
    return usage.as_json() | ({"used": None} if usage.limit.total else {})
