"""The record of a captured request: the client's request without secrets, and the decision.

It is plain data in the metadata of a mitmproxy flow, under ``METADATA_KEY``. Files are untrusted: reading returns a
:class:`Captured` or raises ``FieldError``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from vmgw_core.base import FieldError, as_integer, as_list, as_object, as_text, get_text, require
from vmgw_core.base.strict_json import child, kind
from vmgw_core.enforcement import UpstreamRequest
from vmgw_core.http import Headers, RequestHead

from .evidence import Evidence, Signature

METADATA_KEY: Final = "vmgateway"
VERSION: Final = 1

OWN_PAGE: Final = {"version": VERSION, "own_page": True}
"""Replaces a record: the request was for a page of the gateway itself, without a decision."""

ADMITTED: Final = "admitted"
"""The code of an outcome that is not a refusal."""

_MAX_HEADERS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A digest of the upstream request, to compare policies."""

    method: str
    url: str
    headers: str
    """A digest of the headers, sorted by name, without ``Host``."""
    body: str | None
    """A digest of the rewritten form, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A decision. ``code`` is ``admitted`` or a refusal's; ``status`` is the refusal's status for the client, or 0."""

    code: str
    status: int
    reason: str = ""
    tenant: str | None = None
    access: str | None = None
    route: str | None = None
    sent: Sent | None = None

    @property
    def admitted(self) -> bool:
        """Whether the request was admitted."""
        return self.code == ADMITTED

    def __str__(self) -> str:
        return ADMITTED if self.admitted else f"{self.status} {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """One captured request."""

    head: RequestHead
    at: float
    """The time of the decision, Unix seconds."""
    form: bytes | None = None
    """The body, if it is a form and was kept."""
    rows: int | None = None
    """The rows of the body of a write, if known."""
    evidence: Evidence | None = None
    outcome: Outcome | None = None
    """The decision; None if no gateway decided."""
    sample: float = 1.0
    """The share of requests in the capture."""


def sent_of(request: UpstreamRequest) -> Sent:
    """Return the digest of an upstream request."""
    fields = sorted(((name.lower(), value) for name, value in request.headers), key=lambda field: field[0])
    lines = b"\n".join(name + b":" + value for name, value in fields if name != b"host")
    return Sent(
        method=request.method,
        url=f"{request.backend.scheme}://{request.backend.host_header}{request.target}",
        headers=_digest(lines),
        body=None if request.body is None else _digest(request.body),
    )


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]


# --- plain data ----------------------------------------------------------------------------------------------------


def to_metadata(captured: Captured) -> dict[str, object]:
    """Return ``captured`` as plain data: text, bytes, numbers, lists and mappings."""
    head, evidence, outcome = captured.head, captured.evidence, captured.outcome
    return {
        "version": VERSION,
        "at": captured.at,
        "client": head.client,
        "method": head.method,
        "target": head.target.encode("utf-8", "surrogateescape"),
        "headers": [[name, value] for name, value in head.headers],
        "form": captured.form,
        "rows": captured.rows,
        "sample": captured.sample,
        "evidence": None if evidence is None else _evidence_data(evidence),
        "outcome": None if outcome is None else _outcome_data(outcome),
    }


def _evidence_data(evidence: Evidence) -> dict[str, object]:
    data: dict[str, object] = {"signature": evidence.signature.value, "token": evidence.token}
    if evidence.thumbprints:
        data["thumbprints"] = list(evidence.thumbprints)
    data |= {name: text for name, text in (("kid", evidence.kid), ("issuer", evidence.issuer)) if text is not None}
    return data


def _outcome_data(outcome: Outcome) -> dict[str, object]:
    data: dict[str, object] = {"code": outcome.code, "status": outcome.status, "reason": outcome.reason}
    for name in ("tenant", "access", "route"):
        if (text := getattr(outcome, name)) is not None:
            data[name] = text
    if outcome.sent is not None:
        sent = outcome.sent
        data["sent"] = {"method": sent.method, "url": sent.url, "headers": sent.headers}
        if sent.body is not None:
            data["sent"] = {**data["sent"], "body": sent.body}  # type: ignore[dict-item]
    return data


def from_metadata(value: object) -> Captured | None:
    """Read what :func:`to_metadata` wrote; return None for ``OWN_PAGE``.

    Raises:
        FieldError: the data has another form.
    """
    fields = as_object(value, METADATA_KEY)
    if as_integer(require(fields, "version", METADATA_KEY), "version") != VERSION:
        raise FieldError(child(METADATA_KEY, "version"), f"expected {VERSION}: another version of the gateway wrote it")
    if fields.get("own_page") is True:
        return None
    head = RequestHead(
        method=as_text(require(fields, "method"), "method"),
        target=_bytes(require(fields, "target"), "target").decode("utf-8", "surrogateescape"),
        headers=_headers(require(fields, "headers")),
        client=as_text(require(fields, "client"), "client"),
    )
    form, rows, evidence, outcome = (fields.get(name) for name in ("form", "rows", "evidence", "outcome"))
    return Captured(
        head=head,
        at=_number(require(fields, "at"), "at"),
        form=None if form is None else _bytes(form, "form"),
        rows=None if rows is None else as_integer(rows, "rows", minimum=0),
        evidence=None if evidence is None else _evidence(as_object(evidence, "evidence")),
        outcome=None if outcome is None else _outcome(as_object(outcome, "outcome")),
        sample=_number(fields.get("sample", 1.0), "sample"),
    )


def _bytes(value: object, path: str) -> bytes:
    if not isinstance(value, bytes):
        raise FieldError(path, f"expected bytes, got {kind(value)}")
    return value


def _number(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError(path, f"expected a number, got {kind(value)}")
    return value


def _headers(value: object) -> Headers:
    fields = as_list(value, "headers")
    if len(fields) > _MAX_HEADERS:
        raise FieldError("headers", f"more than {_MAX_HEADERS}")
    headers: list[tuple[bytes, bytes]] = []
    for field in fields:
        pair = as_list(field, "headers")
        if len(pair) != 2:
            raise FieldError("headers", "expected pairs")
        headers.append((_bytes(pair[0], "headers"), _bytes(pair[1], "headers")))
    return tuple(headers)


def _evidence(fields: Mapping[str, object]) -> Evidence:
    text = as_text(require(fields, "signature", "evidence"), "evidence.signature")
    if text not in Signature.__members__.values():
        raise FieldError("evidence.signature", "expected one of " + ", ".join(Signature))
    thumbprints = as_list(fields.get("thumbprints", ()), "evidence.thumbprints")
    return Evidence(
        signature=Signature(text),
        token=as_text(require(fields, "token", "evidence"), "evidence.token"),
        thumbprints=tuple(as_text(item, "evidence.thumbprints") for item in thumbprints),
        kid=get_text(fields, "kid", "evidence"),
        issuer=get_text(fields, "issuer", "evidence"),
    )


def _outcome(fields: Mapping[str, object]) -> Outcome:
    sent = fields.get("sent")
    return Outcome(
        code=as_text(require(fields, "code", "outcome"), "outcome.code"),
        status=as_integer(require(fields, "status", "outcome"), "outcome.status"),
        reason=get_text(fields, "reason", "outcome") or "",
        tenant=get_text(fields, "tenant", "outcome"),
        access=get_text(fields, "access", "outcome"),
        route=get_text(fields, "route", "outcome"),
        sent=None if sent is None else _sent(as_object(sent, "outcome.sent")),
    )


def _sent(fields: Mapping[str, object]) -> Sent:
    method, url, headers = (
        as_text(require(fields, name, "outcome.sent"), child("outcome.sent", name))
        for name in ("method", "url", "headers")
    )
    return Sent(method=method, url=url, headers=headers, body=get_text(fields, "body", "outcome.sent"))
