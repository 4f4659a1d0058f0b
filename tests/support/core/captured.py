"""A policy and captured requests for the tests of records and replay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.core import keys
from tests.support.core.keys import NOW
from vmgw_core.backends.backend import Backend
from vmgw_core.backends.balancer import BackendGroup
from vmgw_core.enforcement.admission import Body, Grant, Policy, admit
from vmgw_core.enforcement.rewriting import rewrite
from vmgw_core.errors import Refusal
from vmgw_core.http.head import RequestHead
from vmgw_core.replay.record import Captured
from vmgw_core.replay.recorder import record
from vmgw_core.tokens.keys import KeySet, keys_from_pem
from vmgw_core.tokens.verifier import TokenVerifier

FIRST, SECOND = keys.ec_key(), keys.ec_key(name="second")


def policy(*private: keys.PrivateKey, **changes: Any) -> Policy:  # noqa: ANN401
    """A policy that verifies with these keys; without any, it verifies nothing."""
    keyset = KeySet(tuple(key for each in private for key in keys_from_pem(keys.pem(each), "test")))
    backend = Backend.parse("http://vm:8428", "read.url")
    made = Policy(
        verifier=TokenVerifier(keyset if private else None),
        cluster=False,
        read=BackendGroup((backend,)),
        write=BackendGroup((backend,)),
        max_form_size=1000,
        tell_why=False,
    )
    return replace(made, **changes)


def head(
    target: str = "/api/v1/query?query=up",
    *headers: tuple[str, str],
    method: str = "GET",
    token: str | None = None,
    vm_access: object = None,
) -> RequestHead:
    """A request with a good token, or with this one."""
    text = token if token is not None else keys.sign(keys.claims(vm_access=vm_access or {}), FIRST)
    fields = [("Host", "gateway"), ("Authorization", f"Bearer {text}"), *headers]
    return RequestHead(
        method=method,
        target=target,
        headers=tuple((name.encode(), value.encode("latin-1")) for name, value in fields),
        client="10.0.0.1",
    )


def posted(form: bytes, content_type: str = "application/x-www-form-urlencoded", **options: Any) -> RequestHead:  # noqa: ANN401
    """A query as a form."""
    fields = (("Content-Type", content_type), ("Content-Length", str(len(form))))
    return head("/api/v1/query", *fields, method="POST", **options)


def captured(
    request: RequestHead, by: Policy | None = None, *, form: bytes | None = None, at: float = NOW, sample: float = 1.0
) -> Captured:
    """What a gateway with the policy ``by`` records of a request that it decides about."""
    by = by or policy(FIRST)
    grant: Grant | None = None
    refusal: Refusal | None = None
    try:
        grant = admit(by, request, at)
        if grant.body is not Body.HOLD or form is not None:
            rewrite(by, grant, request, form)
    except Refusal as caught:
        refusal = caught
    return record(by, request, at=at, grant=grant, refusal=refusal, form=form, sample=sample)
