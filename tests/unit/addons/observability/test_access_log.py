"""The access log: what a line holds, and what it never does."""

from __future__ import annotations

import errno
import io
import json
import shlex
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.support.each import each
from tests.support.wire.tokens import SPEC_READ, SigningKey, tenant
from vmgw_addons.observability.logs.access_log import AccessLog
from vmgw_addons.state import Configured, InForce
from vmgw_addons.support.log_format import LogStyle
from vmgw_core.access import read_access_policy
from vmgw_core.backends.backend import Backend
from vmgw_core.backends.balancer import BackendGroup
from vmgw_core.enforcement.admission import Policy
from vmgw_core.enforcement.cycle import Cycle, Gateway
from vmgw_core.errors import BackendTimeout, Refusal
from vmgw_core.http.head import RequestHead
from vmgw_core.tokens import TokenRules
from vmgw_core.tokens.verifier import TokenVerifier

KEY = SigningKey.generate("ES256")
BACKEND = Backend.parse("http://user:p4ss@backend", "read.url")
POLICY = Policy(
    verifier=TokenVerifier(None),
    cluster=False,
    read=BackendGroup((BACKEND,)),
    write=None,
    max_form_size=1000,
    tell_why=False,
)


def log(cycle: Cycle, status: int | None, *, as_json: bool = True, sent: int = 0) -> str:
    in_force = InForce(Configured(policy=POLICY))
    lines: list[str] = []
    AccessLog(in_force, LogStyle(as_json=as_json, timestamps=False), write=lines.append).finished(cycle, status, sent)
    (line,) = lines
    assert len(line.splitlines()) == 1
    return line


def decide(method: str, target: str, token: str | None, *, client: str = "192.0.2.1") -> Cycle:
    """As the lanes do."""
    headers = () if token is None else ((b"Authorization", f"Bearer {token}".encode()),)
    head = RequestHead(method=method, target=target, headers=headers, client=client)
    cycle = Cycle(head, at=0.0, started=0.0)
    try:
        cycle.authorize(Gateway(policy=POLICY, clock=lambda: 0.0))
    except Refusal as refusal:
        cycle.refuse(refusal)
    return cycle


def fields(cycle: Cycle, status: int | None, *, sent: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(log(cycle, status, sent=sent))
    assert document.pop("duration") > 0
    assert document.pop("level") == "info"
    assert document.pop("caller") == "access"
    assert document.pop("msg") == "request"
    return document


class Full(io.StringIO):
    """A stream to a disk that is full."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_cannot_be_written_costs_the_line_only(monkeypatch: pytest.MonkeyPatch) -> None:
    in_force = InForce(Configured(policy=POLICY))
    monkeypatch.setattr("sys.stderr", Full())
    lines = AccessLog(in_force, LogStyle())
    for lost in (1, 2):
        lines.finished(decide("GET", "/api/v1/query", ALICE), 200, 0)
        assert lines.lost == lost


ALICE = KEY.mint(tenant(1, 5), sub="alice")


def test_an_admitted_request() -> None:
    assert fields(decide("GET", "/api/v1/label/a/values?secret=p4ss", ALICE), 200, sent=17) == {
        "client": "192.0.2.1",
        "tenant": "1:5",
        "subject": "alice",
        "access": "read",
        "method": "GET",
        "route": "/api/v1/label/<name...>/values",
        "verdict": "admitted",
        "reason": None,
        "status": 200,
        "bytes": 17,
    }


REFUSED = [
    ("no token", decide("GET", "/api/v1/query", None), 401, "missing_token", None, "read"),
    ("bad token", decide("GET", "/api/v1/query", "a.b"), 401, "malformed_token", None, "read"),
    ("no backend", decide("POST", "/api/v1/write", ALICE), 403, "not_served", "1:5", "write"),
    ("no route, good token", decide("GET", "/nowhere", ALICE), 404, "unknown_route", "1:5", None),
    ("no route, no token", decide("GET", "/nowhere", None), 404, "unknown_route", None, None),
    ("no method", decide("PUT", "/api/v1/query", ALICE), 405, "method_not_allowed", "1:5", None),
]


@pytest.mark.parametrize(
    ("cycle", "status", "reason", "whose", "access"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_a_refused_request(cycle: Cycle, status: int, reason: str, whose: str | None, access: str | None) -> None:
    shown = fields(cycle, status)
    assert (shown["verdict"], shown["reason"], shown["status"]) == ("refused", reason, status)
    assert (shown["tenant"], shown["access"]) == (whose, access)
    assert shown["subject"] == ("alice" if whose else None)
    assert ("path" in shown) is (access is None)


def test_a_failed_request() -> None:
    cycle = decide("GET", "/api/v1/query", ALICE)
    assert fields(cycle, None)["verdict"] == "failed"
    cycle.refuse(BackendTimeout("late"))
    shown = fields(cycle, 504)
    assert (shown["verdict"], shown["reason"]) == ("failed", "backend_timeout")


@pytest.mark.parametrize(("status", "verdict"), [(200, "admitted"), (401, "refused"), (503, "admitted")])
def test_an_own_page(status: int, verdict: str) -> None:
    head = RequestHead(method="GET", target="/metrics?authKey=p4ss", headers=(), client="192.0.2.1")
    cycle = Cycle(head, at=0.0, started=0.0)
    cycle.own_page = True
    shown = fields(cycle, status)
    assert (shown["access"], shown["verdict"], shown["path"]) == ("page", verdict, "/metrics")


def test_the_default_format_is_name_and_value() -> None:
    line = log(decide("GET", "/api/v1/query", ALICE), 200, as_json=False)
    level, caller, message = line.split("\t")
    assert (level, caller) == ("info", "access")
    shown = message.rpartition(" duration=")[0]
    assert shown == (
        "request client=192.0.2.1 tenant=1:5 subject=alice access=read method=GET route=/api/v1/query "
        "verdict=admitted reason=- status=200 bytes=0"
    )


FORGERIES = [
    'a" tenant="9:9',
    "a tenant=9:9",
    "a\ninfo\taccess\trequest tenant=9:9",
    "a\u2028info\taccess\trequest tenant=9:9",
    "a\\",
    "-",
    "",
    "\x1b[2K",
    "a" * 1000,
]


@each("text", FORGERIES)
@each("as_json", [True, False])
def test_what_a_client_chooses_passes_for_nothing_else(text: str, *, as_json: bool) -> None:
    token = KEY.mint(tenant(1, 5), sub=text)
    for cycle in (
        decide("GET", "/api/v1/query", token),
        decide("GET", f"/{text}", token),
        decide(text or "x", "/", token),
        decide("GET", "/", token, client=text),
    ):
        line = log(cycle, 200, as_json=as_json)
        assert line.isascii()
        assert line.replace("\t", "").isprintable()
        assert len(line) < 1500
        if as_json:
            assert json.loads(line)["tenant"] == "1:5"
        else:
            names = [word.partition("=") for word in shlex.split(line.split("\t", 2)[2])]
            assert [value for name, _, value in names if name == "tenant"] == ["1:5"]


@each(
    "target",
    [f"/{ALICE}", f"/x/{ALICE}/y", f"/api/v1/query?token={ALICE}", f"/nowhere?{ALICE}", f"/metrics?authKey={ALICE}"],
)
@each("token", [ALICE, SPEC_READ, "qqxx.zzyyww.no-token-of-any-kind"])
def test_no_part_of_a_token_is_in_a_line(target: str, token: str) -> None:
    line = log(decide("GET", target, token), 200)
    for text in (ALICE, token):
        assert not any(part in line for part in text.split("."))


def test_no_api_key_is_in_a_line() -> None:
    key = "vmgw_" + "k" * 43
    assert "path=/x/<token>/y" in log(decide("GET", f"/x/{key}/y", None), 404, as_json=False)


def test_a_long_path_is_read_once() -> None:
    """With a regular expression that goes back, this takes a minute."""
    assert "path=/aa" in log(decide("GET", "/" + "a" * 200_000, None), 404, as_json=False)


def test_no_password_is_in_a_line() -> None:
    line = log(decide("GET", "/api/v1/query?password=p4ss", ALICE), 200)
    assert "p4ss" not in line


def test_the_entries_of_an_access_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "match: [{name: ops, when: {sub: alice}, grant: {tenant: 1}}, {when: {sub: alice}, grant: {tenant: 2}}]"
    rules = TokenRules(grants=read_access_policy(text, "policy.yaml").grants)
    policy = replace(POLICY, cluster=True, verifier=TokenVerifier(None, rules=rules))
    monkeypatch.setitem(globals(), "POLICY", policy)
    token = KEY.sign({"exp": time.time() + 60, "sub": "alice"})
    shown = [fields(decide("GET", path, token), 200) for path in ("/select/2/prometheus/api/v1/query", "/x")]
    assert [(each["tenant"], each["entries"]) for each in shown] == [
        ("2:0", "ops,match[1]"),
        ("1:0,2:0", "ops,match[1]"),
    ]
