"""answers: what a client gets for each refusal. Codes and statuses are a promise, so each stands here once more."""

from __future__ import annotations

import json

import pytest

from tests.support.each import each
from vmgw_core import errors
from vmgw_core.base.tenants import Access
from vmgw_core.errors import MethodNotAllowed, RateLimited, Refusal, TokenRefused
from vmgw_core.http.responses import CORS, HeaderEdit, refusal_response

# class: (status, code, errorType)
PROMISED: dict[type[Refusal], tuple[int, str, str]] = {
    errors.BadRequest: (400, "bad_request", "bad_data"),
    errors.AmbiguousPath: (400, "ambiguous_path", "bad_data"),
    errors.BadBody: (400, "bad_body", "bad_data"),
    errors.BadLabels: (400, "bad_labels", "bad_data"),
    errors.TooManyRows: (400, "too_many_rows", "bad_data"),
    errors.UnsupportedProtocol: (415, "unsupported_protocol", "bad_data"),
    errors.MalformedHead: (400, "malformed_head", "bad_data"),
    errors.CostlyQuery: (400, "costly_query", "bad_data"),
    errors.TokenRefused: (401, "invalid_token", "unauthorized"),
    errors.MissingToken: (401, "missing_token", "unauthorized"),
    errors.MalformedToken: (401, "malformed_token", "unauthorized"),
    errors.UnsupportedAlgorithm: (401, "unsupported_algorithm", "unauthorized"),
    errors.UnknownKey: (401, "unknown_key", "unauthorized"),
    errors.WrongIssuer: (401, "wrong_issuer", "unauthorized"),
    errors.BadSignature: (401, "bad_signature", "unauthorized"),
    errors.UnknownCredentials: (401, "unknown_credentials", "unauthorized"),
    errors.TokenExpired: (401, "expired", "unauthorized"),
    errors.TokenNotYetValid: (401, "not_yet_valid", "unauthorized"),
    errors.WrongAudience: (401, "wrong_audience", "unauthorized"),
    errors.ClaimMismatch: (401, "claim_mismatch", "unauthorized"),
    errors.InvalidClaims: (401, "invalid_claims", "unauthorized"),
    errors.NoMatchingEntry: (401, "no_matching_entry", "unauthorized"),
    errors.Forbidden: (403, "forbidden", "forbidden"),
    errors.AccessDenied: (403, "access_denied", "forbidden"),
    errors.FiltersIgnored: (403, "filters_ignored", "forbidden"),
    errors.TenantIgnored: (403, "tenant_ignored", "forbidden"),
    errors.CrossSite: (403, "cross_site", "forbidden"),
    errors.ForeignTenant: (403, "foreign_tenant", "forbidden"),
    errors.NotServed: (403, "not_served", "forbidden"),
    errors.UnknownRoute: (404, "unknown_route", "not_found"),
    errors.MethodNotAllowed: (405, "method_not_allowed", "bad_data"),
    errors.RequestTimeout: (408, "request_timeout", "timeout"),
    errors.BodyTooLarge: (413, "body_too_large", "bad_data"),
    errors.TargetTooLong: (414, "target_too_long", "bad_data"),
    errors.UnsupportedBody: (415, "unsupported_body", "bad_data"),
    errors.QueryGuarded: (422, "query_guarded", "execution"),
    errors.RateLimited: (429, "rate_limited", "too_many_requests"),
    errors.TooManyAtOnce: (429, "too_many_at_once", "too_many_requests"),
    errors.PasswordUnchecked: (429, "password_unchecked", "too_many_requests"),
    errors.HeadTooLarge: (431, "head_too_large", "bad_data"),
    errors.InternalError: (500, "internal_error", "internal"),
    errors.SignatureNotChecked: (500, "signature_not_checked", "internal"),
    errors.BackendUnreachable: (502, "backend_unreachable", "unavailable"),
    errors.BadAnswer: (502, "bad_answer", "unavailable"),
    errors.AnswerTooLarge: (502, "answer_too_large", "unavailable"),
    errors.KeysUnavailable: (503, "keys_unavailable", "unavailable"),
    errors.Overloaded: (503, "overloaded", "unavailable"),
    errors.UsageUnknown: (503, "usage_unknown", "unavailable"),
    errors.BackendTimeout: (504, "backend_timeout", "timeout"),
}
DROPPED_BY_WRITERS = (400, 409, 415)
FINAL = (errors.BadBody, errors.BadLabels, errors.TooManyRows, errors.UnsupportedProtocol)
"""No repetition mends these."""


def _descendants(cls: type[Refusal]) -> set[type[Refusal]]:
    return {cls}.union(*(_descendants(child) for child in cls.__subclasses__()))


def _refusal(cls: type[Refusal], text: str = "the reason") -> Refusal:
    if cls is MethodNotAllowed:
        return MethodNotAllowed(text, ("GET", "POST"))
    return RateLimited(text, 17) if cls is RateLimited else cls(text)


def _document(body: bytes) -> dict[str, str]:
    document: dict[str, str] = json.loads(body)
    return document


refusals = each("cls", PROMISED, ids=lambda cls: cls.__name__)


def test_every_refusal_is_promised() -> None:
    ours = {cls for cls in _descendants(Refusal) - {Refusal} if cls.__module__ == errors.__name__}
    assert ours == set(PROMISED)
    assert len({code for _, code, _ in PROMISED.values()}) == len(PROMISED)


@refusals
def test_the_answer_to_a_refusal(cls: type[Refusal]) -> None:
    status, code, error_type = PROMISED[cls]
    assert (cls.status, cls.code) == (status, code)
    response = refusal_response(_refusal(cls), tell_why=True)
    assert response.status == status
    assert _document(response.body) == {"status": "error", "errorType": error_type, "error": "the reason"}
    headers = dict(response.headers)
    assert len(headers) == len(response.headers)
    assert headers.pop(b"Content-Type") == b"application/json"
    assert headers.pop(b"Content-Length") == str(len(response.body)).encode()
    assert headers.pop(b"Cache-Control") == b"no-store"
    for name, value in CORS:
        assert headers.pop(name) == value
    expected: dict[bytes, bytes] = {}
    if status == 401:
        expected = {b"WWW-Authenticate": b"Bearer"}
    elif status == 405:
        expected = {b"Allow": b"GET, POST"}
    elif cls is RateLimited:
        expected = {b"Retry-After": b"17"}
    elif status in (429, 502, 503) and not issubclass(cls, errors.BadAnswer):
        expected = {b"Retry-After": b"5"}
    assert headers == expected


@refusals
@pytest.mark.parametrize("access", [None, Access.READ, Access.DELETE], ids=str)
def test_the_status_is_the_refusals_own_but_for_writers(cls: type[Refusal], access: Access | None) -> None:
    assert refusal_response(_refusal(cls), access=access).status == cls.status


@refusals
def test_a_writer_gets_a_status_on_which_it_drops_data_only_where_nothing_else_helps(cls: type[Refusal]) -> None:
    response = refusal_response(_refusal(cls), access=Access.WRITE)
    assert cls.final == (cls in FINAL)
    if cls.final:
        assert response == refusal_response(_refusal(cls))
        assert response.status == cls.status
        return
    assert response.status not in DROPPED_BY_WRITERS
    assert response.status == (403 if cls.status in DROPPED_BY_WRITERS else cls.status)
    if cls.status in DROPPED_BY_WRITERS:
        assert _document(response.body) == {"status": "error", "errorType": "forbidden", "error": "the reason"}


@refusals
def test_why_a_token_was_refused_is_told_on_demand_only(cls: type[Refusal]) -> None:
    told = _document(refusal_response(_refusal(cls), tell_why=False).body)["error"]
    assert told == ("a valid token is needed" if issubclass(cls, TokenRefused) else "the reason")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"}\r\nX: y', id="quotes and line ends"),
        pytest.param("\u00e9\u2028\U0001f600", id="beyond ASCII"),
        pytest.param("\udc80", id="a lone surrogate"),
        pytest.param("</script>\0", id="markup and NUL"),
        pytest.param("", id="nothing"),
    ],
)
def test_any_text_is_told_in_one_line_of_ascii(text: str) -> None:
    response = refusal_response(errors.BadRequest(text))
    assert _document(response.body)["error"] == text
    assert response.body.isascii()
    assert b"\n" not in response.body
    assert b"\r" not in response.body


def test_an_answer_is_the_same_each_time() -> None:
    assert refusal_response(errors.NotServed("x")) == refusal_response(errors.NotServed("x"))


# --- the headers of every answer -----------------------------------------------------------------------------------

SENT = ((b"Content-Type", b"a"), (b"access-CONTROL-allow-origin", b"*"), (b"x-frame-options", b"old"))


def test_without_an_edit_headers_are_as_they_came() -> None:
    assert HeaderEdit().apply(SENT) == SENT


def test_the_name_of_the_backends_machine_is_never_told() -> None:
    named = (*SENT, (b"x-SERVER-hostname", b"vmselect-1"), (b"X-Server-Hostname", b"vm"), (b"X-Server", b"kept"))
    assert HeaderEdit().apply(named) == (*SENT, (b"X-Server", b"kept"))


def test_cors_is_what_victoriametrics_sends() -> None:
    assert {name.decode(): value for name, value in CORS} == {
        "Access-Control-Allow-Origin": b"*",
        "Access-Control-Allow-Methods": b"*",
        "Access-Control-Allow-Headers": b"*, Authorization",
    }


def test_headers_are_added_in_place_of_those_of_the_same_name() -> None:
    edit = HeaderEdit(add=((b"X-Frame-Options", b"DENY"), (b"X-Other", b"b")))
    edited = edit.apply(SENT)
    assert edited == (*SENT[:2], (b"X-Frame-Options", b"DENY"), (b"X-Other", b"b"))
    assert edit.apply(edited) == edited


def test_headers_are_dropped_by_the_beginning_of_their_name() -> None:
    assert HeaderEdit(drop=(b"access-control-",)).apply(SENT) == (SENT[0], SENT[2])
