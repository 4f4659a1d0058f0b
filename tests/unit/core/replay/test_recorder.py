from __future__ import annotations

import pytest

from tests.support.core import keys
from tests.support.core.captured import FIRST, SECOND, captured, head, policy, posted
from tests.support.core.keys import NOW
from vmgw_core.enforcement.admission import admit
from vmgw_core.errors import BackendUnreachable, InternalError
from vmgw_core.replay.evidence import Signature
from vmgw_core.replay.record import Outcome
from vmgw_core.replay.recorder import record
from vmgw_core.replay.redaction import MARKER

TOKEN = keys.sign(keys.claims(vm_access={"tenant_id": {"account_id": 1}}), FIRST)
SIGNATURE = TOKEN.rpartition(".")[2]


def test_an_admitted_request() -> None:
    made = captured(head("/api/v1/query?query=up&authKey=hush", ("Cookie", "hush"), token=TOKEN))
    assert made.outcome is not None
    assert made.outcome.sent is not None
    assert made.outcome.sent.url == f"http://vm:8428/api/v1/query?query=up&authKey={MARKER}"
    assert (made.outcome.code, made.outcome.tenant, made.outcome.access) == ("admitted", "1:0", "read")
    assert made.outcome.route == "/api/v1/query"
    assert made.evidence is not None
    assert made.evidence.signature is Signature.VERIFIED
    assert "hush" not in repr(made)
    assert SIGNATURE not in repr(made)
    assert TOKEN.rpartition(".")[0] in repr(made)


def test_a_refused_request() -> None:
    made = captured(head(token=keys.sign(keys.claims(), SECOND)))
    assert made.outcome == Outcome(
        code="bad_signature",
        status=401,
        reason="no key verifies the signature",
        tenant="0:0",
        access="read",
        route="/api/v1/query",
    )
    assert made.evidence is not None
    assert made.evidence.signature is Signature.BAD


def test_a_refusal_is_as_the_client_got_it() -> None:
    """Writes are never answered 415, say."""
    made = captured(head("/api/v1/write?x=%zz", ("Content-Length", "1"), method="POST"))
    assert made.outcome is not None
    assert (made.outcome.code, made.outcome.status, made.outcome.tenant) == ("bad_request", 403, "0:0")


def signed_by_another(vm_access: object) -> str:
    return keys.sign(keys.claims(vm_access=vm_access), SECOND)


@pytest.mark.parametrize(
    ("target", "token", "route", "tenant"),
    [
        ("/api/v1/query", signed_by_another({"tenant_id": {"account_id": 7}}), "/api/v1/query", "7:0"),
        ("/api/v1/query", signed_by_another({"tenant_id": "x"}), "/api/v1/query", None),
        ("/api/v1/query", "a.b.c", "/api/v1/query", None),
        ("/api/v1/query", "", "/api/v1/query", None),
        ("/nowhere", TOKEN, None, "1:0"),
    ],
)  # fmt: skip
def test_a_refused_request_keeps_what_it_asked_for(
    target: str, token: str, route: str | None, tenant: str | None
) -> None:
    made = captured(head(target, token=token))
    assert made.outcome is not None
    assert not made.outcome.admitted
    assert (made.outcome.route, made.outcome.tenant) == (route, tenant)


def test_a_request_without_a_token() -> None:
    made = captured(head(token=""))
    assert made.evidence is None
    assert str(made.outcome) == "401 missing_token"


def test_forms() -> None:
    form = b"query=up&password=hush"
    made = captured(posted(form), form=form)
    assert made.form == f"query=up&password={MARKER}".encode()
    assert made.outcome is not None
    assert made.outcome.sent is not None
    assert made.outcome.sent.body is not None


def test_a_multipart_form_that_holds_a_secret_becomes_urlencoded() -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="password"\r\n\r\nhush\r\n--b--\r\n'
    made = captured(posted(form, "multipart/form-data; boundary=b"), form=form)
    assert made.form == f"password={MARKER}".encode()
    assert made.head.values(b"content-type") == [b"application/x-www-form-urlencoded"]


def test_a_form_that_cannot_be_read_is_not_kept() -> None:
    form = b"nonsense"
    made = captured(posted(form, "multipart/form-data; boundary=b"), form=form)
    assert made.form is None
    assert str(made.outcome) == "400 bad_request"


def test_a_form_that_was_too_large_to_keep() -> None:
    made = captured(posted(b"query=up"))
    assert made.outcome is not None
    assert made.outcome.admitted
    assert made.outcome.sent is None


def test_a_backend_that_was_down_is_no_decision() -> None:
    by, request = policy(FIRST), head()
    made = record(by, request, at=NOW, grant=admit(by, request, NOW), refusal=BackendUnreachable("x"), form=None)
    assert made.outcome is not None
    assert made.outcome.admitted
    assert record(by, request, at=NOW, grant=None, refusal=InternalError("x"), form=None).outcome is None


def test_what_the_redaction_makes_unsendable_was_sent_all_the_same() -> None:
    by = policy(FIRST)
    request = head()
    grant = admit(by, request, NOW)
    made = record(by, head("/api/v1/query?a=;"), at=NOW, grant=grant, refusal=None, form=None)
    assert made.outcome is not None
    assert made.outcome.admitted
    assert made.outcome.sent is None


def test_an_unverified_token() -> None:
    made = captured(head(), policy())
    assert made.evidence is not None
    assert made.evidence.signature is Signature.UNVERIFIED


def test_a_form_without_a_type_is_not_kept() -> None:
    made = captured(head(method="POST"), form=b"a=1")
    assert made.form is None
