"""The status page and /-/me: what is in them, and that it is text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from tests.support.core import keys
from tests.support.core.limiters import limit
from tests.support.each import each
from vmgw_core.base import Labels, TenantID
from vmgw_core.limits.config import read_limits
from vmgw_core.limits.model import Usage
from vmgw_core.pages import BackendState, Decision, KeyState, OwnAccess, SourceState, Status, TaskState
from vmgw_core.pages.status import MOST_LIMITS
from vmgw_core.pages.wording import ago
from vmgw_core.replay import Difference, ShadowCounts
from vmgw_core.tokens.grants import Grants
from vmgw_core.tokens.keys import keys_from_pem
from vmgw_core.tokens.verifier import Token, TokenVerifier

REFUSED = Decision(
    at=0.0, method="GET", path="/a'b", status=429, code="rate_limited", message="<b>", client="192.0.2.7", tenant="1:5",
    subject="eve",
)  # fmt: skip
DOWN = BackendState(side="read", url="http://a", up=False, failing=True, load=1, requests=20, errors=3)
EMPTY = Status(
    name="", now=1000.0, version="1.2", lane="fast", draining=False, keys_in_words="1 key loaded", backends=(), keys=(),
    sources=(), usages=(), refusals={}, decisions=None, needs=(), tasks=(),
)  # fmt: skip


def usage(used: int, most: int = 100, kind: str = "queries", *, total: bool = False, labels: Labels = ()) -> Usage:
    made = dataclasses.replace(limit(kind, most), total=total, labels=labels)
    return Usage(limit=made, tenant=None if total else TenantID(1, 5), usage=used, key=f"{kind}{used}{total}")


def test_a_state_in_full() -> None:
    text = dataclasses.replace(
        EMPTY,
        name="Worker 1",
        draining=True,
        backends=(
            DOWN,
            dataclasses.replace(DOWN, up=True),
            dataclasses.replace(DOWN, up=True, failing=False),
        ),
        keys=(KeyState(kid=None, algorithms="ES256", issuer="https://i", source="key.pem", thumbprint="abc"),),
        sources=(
            SourceState(name="jwks", keys=2, last_success=400.0, last_error=None),
            SourceState(name="other", keys=0, last_success=None, last_error="timeout"),
        ),
        usages=(usage(90), usage(5, total=True), usage(7, kind="active_series", labels=(("team", "<a>"),))),
        refusals={"few": 1, "many": 9},
        decisions=(REFUSED,),
        needs=(TaskState(name="redis", failures=4, problem="no answer"),),
        tasks=(TaskState(name="keys", failures=0, problem=None),),
    ).section()
    for part in (
        "<h1>Worker 1</h1>",
        "<span class=bad>draining</span>",
        "version 1.2, fast lane, 1970-01-01T00:16:40Z",
        "<td>http://a</td><td><span class=bad>down</span></td><td>1</td><td>20</td><td>3</td>",
        "<span class=bad>the last request failed</span>",
        "<span class=good>up</span>",
        "<td>-</td><td>ES256</td><td>https://i</td><td>key.pem</td><td>abc</td>",
        "<td>jwks</td><td>2</td><td>10 minutes ago</td><td><span class=good>none</span></td>",
        "<td>other</td><td>0</td><td>never</td><td><span class=bad>timeout</span></td>",
        "<td>queries per minute</td><td>tenant 1:5</td>",
        "90 of 100",
        "all tenants together",
        "<td>active series</td><td>tenant 1:5, tokens with {team=&quot;&lt;a&gt;&quot;}</td>",
        "<td>many</td><td>9</td></tr><tr><td>few</td><td>1</td>",
        "<td>192.0.2.7</td><td>1:5</td><td>eve</td><td><code>GET /a&#x27;b</code></td><td>429</td><td>rate_limited: ",
        "<td>rate_limited: &lt;b&gt;</td>",
        "vmgateway explain --token-file=token &#x27;GET /a&#x27;&quot;&#x27;&quot;&#x27;b&#x27;",
        "<td>redis</td><td>4</td><td><span class=bad>no answer</span></td>",
        "<td>keys</td><td>0</td><td><span class=good>none</span></td>",
    ):
        assert part in text, part


def test_an_open_page_names_no_client() -> None:
    assert "Set -flagsAuthKey or -httpAuth.username" in EMPTY.section()
    assert "<span class=good>serving</span>" in EMPTY.section()
    assert "<h1>" not in EMPTY.section()


def test_the_shadow() -> None:
    counts = ShadowCounts()
    counts.requests, counts.undecided, counts.failures = 30, 2, 1
    counts.differences.update({Difference.OTHER_TENANT: 1, Difference.LIMITS: 9})
    counts.last.extend([(0.0, "older <b>"), (1.0, "newer")])
    text = dataclasses.replace(EMPTY, shadow=counts, decisions=()).section()
    for part in (
        "<h2>Shadow</h2>",
        "30 requests judged, 2 of them undecided, 1 failures",
        "<td>limits</td><td>9</td></tr><tr><td>other tenant</td><td>1</td>",
        "<td>1970-01-01T00:00:01Z</td><td>newer</td></tr><tr><td>1970-01-01T00:00:00Z</td><td>older &lt;b&gt;</td>",
    ):
        assert part in text, part
    assert "newer" not in dataclasses.replace(EMPTY, shadow=counts).section(), "anybody may see the page"
    assert "Shadow" not in EMPTY.section()


def test_the_fullest_limits_are_shown() -> None:
    usages = [usage(number, 10_000) for number in range(MOST_LIMITS + 50)]
    text = dataclasses.replace(EMPTY, usages=iter(usages)).section()
    assert text.count("<meter") == MOST_LIMITS
    assert f"{MOST_LIMITS + 49} of 10000" in text
    assert "and 50 more, which are less used" in text


@each("case", [(-5, "0 seconds ago"), (119, "119 seconds ago"), (120, "2 minutes ago"), (200_000, "2 days ago")])
def test_spans(case: tuple[float, str]) -> None:
    assert ago(case[0]) == case[1]


def own(*usages: Usage, silent: Sequence[int] = (), **claims: Any) -> OwnAccess:  # noqa: ANN401
    access = {"tenant_id": {"account_id": 1, "project_id": 5}, "extra_labels": {"team": "<dev>"}, "mode": 1}
    text = keys.compact({"alg": "RS256"}, keys.claims(**{"sub": "al<b>ice", "vm_access": access, **claims}))
    token = TokenVerifier(None).verify(text, float(keys.NOW))
    return OwnAccess(token=token, now=0.0, usages=usages, refusals=(REFUSED,), silent=silent)


def test_own_access_as_json() -> None:
    labelled = usage(1, labels=(("team", "dev"),))
    document = json.loads(own(usage(7), usage(9, total=True), labelled, silent=(2,)).as_json())
    assert document.pop("valid_until") > 0
    assert document == {
        "subject": "al<b>ice",
        "issuer": document["issuer"],
        "verified": False,
        "access": {"tenant": "1:5", "mode": "read", "labels": [["team", "<dev>"]], "filters": []},
        "guards": [],
        "limits": [
            {"type": "queries", "resolution": "minute", "scope": "1:5", "value": 100, "used": 7},
            {"type": "queries", "resolution": "minute", "scope": "total", "value": 100, "used": None},
            {"type": "queries", "resolution": "minute", "scope": '1:5{team="dev"}', "value": 100, "used": 1},
        ],
        "refusals": [
            {
                "time": 0.0, "method": "GET", "path": "/a'b", "status": 429, "reason": "rate_limited", "message": "<b>",
            }
        ],
        "silent_workers": [2],
    }  # fmt: skip


def test_own_access_with_guards_and_concurrent_requests() -> None:
    file = read_limits("limits: [{type: concurrency, value: 4}]\nguards: [{max_range: 30d}]", "x")
    at_once = Usage(limit=file.concurrency[0], tenant=TenantID(1, 5), usage=3, key="x")
    page = dataclasses.replace(own(at_once), guards=file.guards)
    assert json.loads(page.as_json())["guards"] == [{"guard": "max_range", "value": "30d", "scope": "tenant"}]
    text = page.as_html().decode()
    assert "<h2>What a query may ask for</h2>" in text
    assert "<td>max_range 30d</td>" in text
    assert "<td>concurrent requests</td><td>tenant 1:5</td>" in text
    assert "What a query may ask for" not in own().as_html().decode()


def test_own_access_as_html() -> None:
    text = own(usage(7), usage(9, total=True)).as_html().decode()
    for part in (
        "<td>Subject</td><td>al&lt;b&gt;ice</td>",
        "not verified: the gateway has no keys",
        "<td>1:5</td><td>read</td><td>team=&lt;dev&gt;</td><td>-</td>",
        "7 of 100",
        "<td>all tenants together</td><td>limit 100</td>",
        "<code>GET /a&#x27;b</code></td><td>429</td><td>rate_limited: &lt;b&gt;</td>",
    ):
        assert part in text, part
    assert "Entries of the access policy" not in text
    for secret in ("192.0.2.7", "does not answer", "9 of 100"):
        assert secret not in text


def test_entries_of_the_policy_a_key_and_a_silent_worker() -> None:
    made = own(silent=(2,))
    key = keys_from_pem(keys.pem(keys.rsa_key()), "key.pem")[0]
    grants = Grants(alternatives=made.token.grants.alternatives, sources=("ops", "match[1]"))
    verified: Token = dataclasses.replace(made.token, grants=grants, key=key)
    made = dataclasses.replace(made, token=verified)
    text = made.as_html().decode()
    assert "<td>Entries of the access policy</td><td>ops, match[1]</td>" in text
    assert "<td>Signature</td><td>verified</td>" in text
    assert "Worker 2 does not answer: its refusals are missing." in text
    assert json.loads(made.as_json())["access"]["entries"] == ["ops", "match[1]"]


def test_the_class_of_limits() -> None:
    bronze = usage(7)
    bronze = dataclasses.replace(bronze, limit=dataclasses.replace(bronze.limit, limit_class="bronze"))
    made = own(bronze)
    [claim] = made.token.grants.alternatives
    grants = Grants(alternatives=(dataclasses.replace(claim, limit_class="bronze"),))
    made = dataclasses.replace(made, token=dataclasses.replace(made.token, grants=grants))
    text = made.as_html().decode()
    assert "<td>team=&lt;dev&gt;</td><td>-</td><td>bronze</td>" in text
    assert "<td>tenant 1:5, tokens of class bronze</td>" in text
    document = json.loads(made.as_json())
    assert (document["access"]["limits"], document["limits"][0]["class"]) == ("bronze", "bronze")
