"""Classes of limits that grants of the access policy and of credentials name, in both lanes."""

from __future__ import annotations

import base64
import hashlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.processes import Gateway, run_command
from tests.support.wire.tokens import HOUR, SigningKey
from tests.support.wire.upstream import RecordingUpstream

QUERY: Final = "/api/v1/query?query=up"
POLICY: Final = """\
match:
- {when: {plan: bronze}, grant: {tenant: "1:0", mode: read, limits: bronze}}
- {when: {plan: gold}, grant: {tenant: "1:0", mode: read, limits: gold}}
- {when: {plan: none}, grant: {tenant: "1:0", mode: read}}
"""
LIMITS: Final = """\
limits:
- {type: queries, value: 9}
- {type: queries, value: 2, class: bronze}
- {type: queries, value: 4, class: gold}
"""
API_KEY: Final = "vmgw_" + base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
CREDENTIALS: Final = f"""\
keys:
- name: machine
  sha256: {hashlib.sha256(API_KEY.encode()).hexdigest()}
  grant: {{tenant: "2:0", mode: read, limits: bronze}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("policy", POLICY), ("limits", LIMITS), ("credentials", CREDENTIALS)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def flags(folder: Path, key_file: Path, upstream: RecordingUpstream) -> list[str]:
    return [
        "-enable.auth",
        f"-auth.publicKeyFiles={key_file}",
        "-clusterMode",
        f"-read.url={upstream.url}",
        f"-auth.policy={folder}/policy.yaml",
        f"-auth.credentialsFile={folder}/credentials.yaml",
    ]


@pytest.fixture(params=["fast", "flow"])
def gateway(request: pytest.FixtureRequest, flags: list[str], folder: Path) -> Iterator[Gateway]:
    limits = ("-enable.rateLimit", f"-ratelimit.config={folder}/limits.yaml")
    with Gateway(*flags, *limits, f"-lane={request.param}") as started:
        yield started


def mint(key: SigningKey, *plans: str) -> str:
    return key.sign({"exp": int(time.time()) + HOUR, "plan": list(plans)})


def statuses(gateway: Gateway, token: str, number: int) -> list[int]:
    client = gateway.client(token)
    return [client.get(QUERY).status for _ in range(number)]


def test_the_limits_of_a_class_hold_beside_those_of_the_tenant(
    gateway: Gateway, upstream: RecordingUpstream, key: SigningKey
) -> None:
    assert statuses(gateway, mint(key, "bronze"), 3) == [200, 200, 429]
    both = gateway.client(mint(key, "gold", "bronze")).get(QUERY)  # all classes of a token hold
    assert both.status == 429
    assert both.json()["error"] == (
        "request was rate limited: tenant 1:0, tokens of class bronze, have used 2 of 2 queries per minute"
    )
    assert statuses(gateway, mint(key, "gold"), 5) == [200] * 4 + [429]
    assert statuses(gateway, mint(key, "none"), 4) == [200] * 3 + [429]  # nine of the tenant in all
    assert statuses(gateway, API_KEY, 3) == [200, 200, 429]
    assert len(upstream.requests) == 11
    value = gateway.metric(
        "vmgateway_tenant_usage", tenant="1:0", type="queries", resolution="minute", labels="", **{"class": "bronze"}
    )
    assert value == 2
    me = gateway.client(mint(key, "bronze")).get("/-/me").json()
    assert me["access"]["limits"] == "bronze"
    assert [(each.get("class"), each["used"]) for each in me["limits"]] == [(None, 9), ("bronze", 2)]


def test_a_class_without_limits_keeps_the_files_in_force(gateway: Gateway, folder: Path, key: SigningKey) -> None:
    (folder / "policy.yaml").write_text(POLICY.replace("limits: gold", "limits: silver"))
    gateway.signal(signal.SIGHUP)
    gateway.wait_for_log(r"match\[1\]\.grant\.limits: no limit of -ratelimit.config has the class silver")
    assert statuses(gateway, mint(key, "bronze"), 3) == [200, 200, 429]


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ("limits: [{type: queries, value: 1, class: bronze}]", "no limit of -ratelimit.config has the class gold"),
        (None, "the class bronze needs -enable.rateLimit and -ratelimit.config"),
    ],
)
def test_a_class_without_limits_is_an_error_at_start(
    flags: list[str], folder: Path, limits: str | None, error: str
) -> None:
    if limits is not None:
        (folder / "limits.yaml").write_text(limits)
        flags = [*flags, "-enable.rateLimit", f"-ratelimit.config={folder}/limits.yaml"]
    done = run_command(*flags, "-dryRun")
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr
    assert "policy.yaml, line " in done.stderr or "credentials.yaml, line " in done.stderr
