"""The record of a captured request: the client's request without secrets, and the decision.

It is plain data in the metadata of a mitmproxy flow, under ``METADATA_KEY``. Files are untrusted: reading returns a
:class:`Captured` or raises ``FieldError``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Final

from vmgw_core.base import FieldError, as_integer, as_list, as_number, as_object, as_text, child, optional, required
from vmgw_core.base.strict_json import kind
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
    token_in: str | None = None
    """``cookie`` if the token was that of a login; the record has it, like every other one, in a header."""


def sent_of(request: UpstreamRequest) -> Sent:
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


def to_metadata(captured: Captured) -> dict[str, object]:
    """Return ``captured`` as plain data: text, bytes, numbers, lists and mappings."""
    head, outcome = captured.head, captured.outcome
    evidence = captured.evidence and _given(captured.evidence)
    sent = outcome and outcome.sent
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
        **({} if captured.token_in is None else {"token_in": captured.token_in}),
        "evidence": evidence and evidence | {"signature": str(evidence["signature"])},
        "outcome": outcome and _given(outcome) | ({"sent": _given(sent)} if sent else {}),
    }


def _given(value: Evidence | Outcome | Sent) -> dict[str, object]:
    """Return the fields that are given, with lists for tuples. Unlike ``asdict``, it copies nothing else."""
    found = ((field.name, getattr(value, field.name)) for field in fields(value))
    return {
        name: list(item) if isinstance(item, tuple) else item for name, item in found if item is not None and item != ()
    }


def from_metadata(value: object) -> Captured | None:
    """Read what :func:`to_metadata` wrote; return None for ``OWN_PAGE``.

    Raises ``FieldError`` if the data has another form.
    """
    fields = as_object(value, METADATA_KEY)
    if required(fields, "version", as_integer, METADATA_KEY) != VERSION:
        raise FieldError(child(METADATA_KEY, "version"), f"expected {VERSION}: another version of the gateway wrote it")
    if fields.get("own_page") is True:
        return None
    form, rows, evidence, outcome = (fields.get(name) for name in ("form", "rows", "evidence", "outcome"))
    return Captured(
        head=RequestHead(
            method=required(fields, "method", as_text),
            target=required(fields, "target", _bytes).decode("utf-8", "surrogateescape"),
            headers=required(fields, "headers", _headers),
            client=required(fields, "client", as_text),
        ),
        at=required(fields, "at", as_number),
        form=None if form is None else _bytes(form, "form"),
        rows=None if rows is None else as_integer(rows, "rows", minimum=0),
        evidence=None if evidence is None else _evidence(evidence, "evidence"),
        outcome=None if outcome is None else _outcome(outcome, "outcome"),
        sample=as_number(fields.get("sample", 1.0), "sample"),
        token_in=optional(fields, "token_in", as_text),
    )


def _bytes(value: object, path: str) -> bytes:
    if not isinstance(value, bytes):
        raise FieldError(path, f"expected bytes, got {kind(value)}")
    return value


def _headers(value: object, path: str) -> Headers:
    fields = as_list(value, path)
    if len(fields) > _MAX_HEADERS:
        raise FieldError(path, f"more than {_MAX_HEADERS}")
    pairs = [as_list(field, path) for field in fields]
    if any(len(pair) != 2 for pair in pairs):
        raise FieldError(path, "expected pairs")
    return tuple((_bytes(name, path), _bytes(content, path)) for name, content in pairs)


def _evidence(value: object, path: str) -> Evidence:
    fields = as_object(value, path)
    signature = required(fields, "signature", as_text, path)
    if signature not in Signature.__members__.values():
        raise FieldError(child(path, "signature"), "expected one of " + ", ".join(Signature))
    thumbprints = as_list(fields.get("thumbprints", ()), child(path, "thumbprints"))
    return Evidence(
        signature=Signature(signature),
        token=required(fields, "token", as_text, path),
        thumbprints=tuple(as_text(item, child(path, "thumbprints")) for item in thumbprints),
        kid=optional(fields, "kid", as_text, path),
        issuer=optional(fields, "issuer", as_text, path),
        credential=optional(fields, "credential", as_text, path),
    )


def _outcome(value: object, path: str) -> Outcome:
    fields = as_object(value, path)
    return Outcome(
        code=required(fields, "code", as_text, path),
        status=required(fields, "status", as_integer, path),
        reason=optional(fields, "reason", as_text, path) or "",
        tenant=optional(fields, "tenant", as_text, path),
        access=optional(fields, "access", as_text, path),
        route=optional(fields, "route", as_text, path),
        sent=optional(fields, "sent", _sent, path),
    )


def _sent(value: object, path: str) -> Sent:
    fields = as_object(value, path)
    return Sent(
        method=required(fields, "method", as_text, path),
        url=required(fields, "url", as_text, path),
        headers=required(fields, "headers", as_text, path),
        body=optional(fields, "body", as_text, path),
    )
