"""``-shadow.*``: a candidate configuration judges the requests of a running gateway, and changes nothing of them."""

from __future__ import annotations

import base64
import json
import re
import signal
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.client import Answer
from tests.support.wire.processes import Gateway, auth_flags, run_command
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.wire.conftest import StartGateway
from vmgw_core.credentials.passwords import PasswordHash

QUERY: Final = "/api/v1/query?query=up"
IMPORT: Final = "/api/v1/import/prometheus"
LIMITS: Final = "limits:\n- {{type: queries, resolution: hour, value: {}}}\n- {{type: rows_inserted, value: {}}}\n"
POLICY: Final = """\
match:
- {when: {group: a}, grant: {tenant: "1:0", labels: {team: x}}}
- {when: {group: b}, grant: {tenant: "2:0"}}
- {when: {group: c}, grant: {tenant: "3:0", mode: read}}
"""
CANDIDATE: Final = """\
match:
- {when: {group: a}, grant: {tenant: "1:0", labels: {team: y}}}
- {when: {group: b}, grant: {tenant: "7:0"}}
- {when: {group: d}, grant: {tenant: "4:0"}}
"""
KINDS: Final = (
    "newly_refused", "newly_admitted", "other_refusal", "other_tenant", "other_upstream", "other_backend", "limits",
)  # fmt: skip


@pytest.fixture(params=["fast", "flow"])
def lane(request: pytest.FixtureRequest) -> str:
    return f"-lane={request.param}"


@pytest.fixture
def flags(key_file: Path, upstream: RecordingUpstream, tmp_path: Path, lane: str) -> list[str]:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "candidate.yaml").write_text(CANDIDATE)
    return [
        *auth_flags(upstream.url, key_file),
        "-clusterMode",
        f"-auth.policy={tmp_path}/policy.yaml",
        "-flagsAuthKey=k3y",
        lane,
    ]


def echo(request: ReceivedRequest) -> Reply:
    return Reply(body=f"{request.method} {request.target}".encode())


def found(gateway: Gateway) -> dict[str, float]:
    """The differences by their kind, without those that did not occur."""
    numbers = {kind: gateway.metric("vmgateway_shadow_differences_total", kind=kind) for kind in KINDS}
    return {kind: number for kind, number in numbers.items() if number}


def judged(gateway: Gateway) -> float:
    return gateway.metric("vmgateway_shadow_requests_total")


def wait_until_judged(gateway: Gateway, number: int) -> None:
    gateway.wait_until(lambda: judged(gateway) >= number, what=f"has judged {number} requests")
    assert judged(gateway) == number


def ask_all(gateway: Gateway, key: SigningKey) -> list[tuple[int, str]]:
    """Send requests of all sorts; return what the client gets."""
    answers: list[Answer] = []
    for group in ("a", "b", "c", "d"):
        client = gateway.client(key.sign({"exp": 4102444800, "group": group}))
        answers += (client.get(QUERY), client.get("/nope"), client.post("/api/v1/query", form={"query": "up"}))
        answers.append(client.post("/api/v1/query", body="query=%zz", headers={
            "Content-Type": "application/x-www-form-urlencoded"}))  # fmt: skip
        answers.append(client.post(IMPORT, body="m 1\nm 2\n"))
        answers.append(client.post(IMPORT, body=iter([b"m 1\n", b"m 2\n"])))
    answers.append(gateway.client("a.b.c").get(QUERY))
    answers.append(gateway.client().get(QUERY))
    return [(answer.status, answer.text) for answer in answers]


def received(upstream: RecordingUpstream) -> list[tuple[object, ...]]:
    """Return what the backend has received since the last call."""
    requests: list[tuple[object, ...]] = [
        (each.method, each.target, sorted(each.headers), each.body_size, each.body_sha256) for each in upstream.requests
    ]
    upstream.requests.clear()
    return requests


def test_answers_and_what_the_backend_gets_are_the_same(
    start_gateway: StartGateway, flags: list[str], upstream: RecordingUpstream, key: SigningKey, tmp_path: Path
) -> None:
    upstream.responder = echo
    plain = start_gateway(*flags)
    expected, sent = ask_all(plain, key), received(upstream)
    shadowed = start_gateway(*flags, f"-shadow.policy={tmp_path}/candidate.yaml")
    assert ask_all(shadowed, key) == expected
    assert received(upstream) == sent
    assert len(sent) == 10
    wait_until_judged(shadowed, len(expected))
    # a: a query, a form and two writes with other labels; b: the same with another tenant; c: two reads that nobody
    # grants any more, and a bad form and two writes that are refused for this now; d: the head is granted now.
    assert found(shadowed) == {
        "other_upstream": 4, "other_tenant": 4, "newly_refused": 2, "other_refusal": 3, "newly_admitted": 5,
    }  # fmt: skip
    assert shadowed.metric("vmgateway_shadow_failures_total") == 0
    assert shadowed.metric("vmgateway_shadow_undecided_total") == 0
    assert "vmgateway_shadow" not in plain.client().get("/metrics").text


def test_with_traces_the_same_policy_makes_no_difference(
    start_gateway: StartGateway, flags: list[str], upstream: RecordingUpstream, key: SigningKey, tmp_path: Path
) -> None:
    traces = (f"-traces.endpoint={upstream.url}/v1/traces", "-traces.ratio=1")
    gateway = start_gateway(*flags, f"-shadow.policy={tmp_path}/policy.yaml", *traces)
    asked = len(ask_all(gateway, key))
    wait_until_judged(gateway, asked)
    assert found(gateway) == {}


def test_a_difference_is_logged_and_shown(
    start_gateway: StartGateway, flags: list[str], key: SigningKey, tmp_path: Path
) -> None:
    gateway = start_gateway(*flags, f"-shadow.policy={tmp_path}/candidate.yaml")
    token = key.sign({"exp": 4102444800, "group": "a"})
    assert gateway.client(token).get(f"{QUERY}&password=hush").status == 200
    line = (
        r"127\.0\.0\.1 GET /api/v1/query\?query=up&password=REDACTED: "
        r"other upstream request: -extra_label=team%3Dx \+extra_label=team%3Dy"
    )
    gateway.wait_for_log(f"the shadow disagrees: {line}")
    page = gateway.client().get("/-/status?authKey=k3y").text
    assert "<h2>Shadow</h2>" in page
    assert "1 requests judged, 0 of them undecided, 0 failures" in page
    assert "<td>other upstream request</td><td>1</td>" in page
    assert re.search("-extra_label=team%3Dx .*extra_label=team%3Dy", page)
    for text in (page, gateway.log()):
        assert "hush" not in text
        assert token.rpartition(".")[2] not in text
    open_page = start_gateway(*[flag for flag in flags if "AuthKey" not in flag],
                              f"-shadow.policy={tmp_path}/candidate.yaml")  # fmt: skip
    assert open_page.client(token).get(QUERY).status == 200
    open_page.wait_for_log("the shadow disagrees")
    assert "team%3Dy" not in open_page.client().get("/-/status").text


def test_flags_of_a_candidate_with_other_backends(
    start_gateway: StartGateway, flags: list[str], upstream: RecordingUpstream, key: SigningKey, tmp_path: Path
) -> None:
    file = tmp_path / "next.flags"
    file.write_text(
        "# all flags but the keys\n-enable.auth -clusterMode\n-auth.policy=policy.yaml\n"
        f"-read.url=http://127.0.0.1:1/other -write.url={upstream.url}\n"
    )
    gateway = start_gateway(*flags, f"-shadow.flags={file}")
    client = gateway.client(key.sign({"exp": 4102444800, "group": "b"}))
    assert client.get(QUERY).status == 200
    assert client.post(IMPORT, body="m 1\n").status == 200
    wait_until_judged(gateway, 2)
    assert found(gateway) == {"other_backend": 1}
    gateway.wait_for_log(f"other backend: {upstream.url} -> http://127.0.0.1:1/other")
    assert len(upstream.requests) == 2


def test_limits_of_a_candidate_are_its_own(
    start_gateway: StartGateway, flags: list[str], upstream: RecordingUpstream, key: SigningKey, tmp_path: Path
) -> None:
    for name, values in (("limits", (3, 100)), ("new", (2, 5))):
        (tmp_path / f"{name}.yaml").write_text(LIMITS.format(*values))
    gateway = start_gateway(
        *flags,
        "-enable.rateLimit",
        f"-ratelimit.config={tmp_path}/limits.yaml",
        f"-shadow.ratelimitConfig={tmp_path}/new.yaml",
    )
    client = gateway.client(key.sign({"exp": 4102444800, "group": "b"}))
    assert [client.get(QUERY).status for _ in range(5)] == [200, 200, 200, 429, 429]
    assert [client.post(IMPORT, body="m 1\n" * 3).status for _ in range(3)] == [200, 200, 200]
    wait_until_judged(gateway, 8)
    assert found(gateway) == {"limits": 3}, "the third query, and the second and third write"
    usage = gateway.metric("vmgateway_tenant_usage", tenant="2:0", type="queries", resolution="hour", **{"class": ""})
    assert usage == 3, "the shadow counts nothing in the limits in force"
    gateway.wait_for_log("limits: admitted -> 429 rate_limited: request was rate limited: tenant 2:0 has used 2 of 2")


def test_the_same_limits_are_not_compared(
    start_gateway: StartGateway, flags: list[str], key: SigningKey, tmp_path: Path
) -> None:
    (tmp_path / "limits.yaml").write_text(LIMITS.format(1, 1))
    gateway = start_gateway(
        *flags,
        "-enable.rateLimit",
        f"-ratelimit.config={tmp_path}/limits.yaml",
        f"-shadow.policy={tmp_path}/candidate.yaml",
    )
    client = gateway.client(key.sign({"exp": 4102444800, "group": "b"}))
    assert [client.get(QUERY).status for _ in range(2)] == [200, 429]
    wait_until_judged(gateway, 2)
    assert found(gateway) == {"other_tenant": 1}
    assert gateway.metric("vmgateway_shadow_undecided_total") == 1


def test_workers_count_for_themselves(
    start_gateway: StartGateway, flags: list[str], key: SigningKey, tmp_path: Path
) -> None:
    gateway = start_gateway(*flags, "-workers=2", f"-shadow.policy={tmp_path}/candidate.yaml")
    client = gateway.client(key.sign({"exp": 4102444800, "group": "b"}))
    assert [client.get(QUERY).status for _ in range(6)] == [200] * 6

    def total() -> float:
        names = [{"worker": str(slot), "kind": "other_tenant"} for slot in range(2)]
        return sum(gateway.metric("vmgateway_shadow_differences_total", **labels) for labels in names)

    gateway.wait_until(lambda: total() == 6, what="has counted all")


def test_keys_of_a_candidate_are_fetched_beside_the_requests(
    start_gateway: StartGateway, flags: list[str], upstream: RecordingUpstream, key: SigningKey, tmp_path: Path
) -> None:
    served = {"keys": [key.public_jwk]}
    with RecordingUpstream(lambda _: Reply(body=json.dumps(served).encode())) as provider:
        file = tmp_path / "next.flags"
        file.write_text(
            f"-enable.auth -clusterMode -auth.policy=policy.yaml -read.url={upstream.url} -write.url={upstream.url}\n"
            f"-auth.jwksEndpoints={provider.url}/jwks -auth.keysRefreshInterval=1h\n"
        )
        gateway = start_gateway(*flags, f"-shadow.flags={file}")
        gateway.wait_for_log(r"shadow: -auth\.jwksEndpoints\[0\]: refreshed, 1 keys in use")
        client = gateway.client(key.sign({"exp": 4102444800, "group": "b"}))
        stranger = gateway.client(SigningKey.generate().sign({"exp": 4102444800, "group": "b"}))
        assert [each.get(QUERY).status for each in (client, stranger)] == [200, 401]
        wait_until_judged(gateway, 2)
        assert found(gateway) == {}
        assert gateway.metric("vmgateway_shadow_undecided_total") == 0
        assert len(provider.requests) == 1, "no request has keys fetched for the shadow"


def test_users_of_a_candidate(
    start_gateway: StartGateway, flags: list[str], upstream: RecordingUpstream, tmp_path: Path
) -> None:
    hashed = PasswordHash.of(b"secret", bytes(16))
    for name, account in (("now", 1), ("next", 2)):
        (tmp_path / f"{name}.yaml").write_text(
            f"users:\n- {{name: grafana, password: '{hashed}', grant: {{tenant: '{account}:0'}}}}\n"
        )
    file = tmp_path / "next.flags"
    file.write_text(
        f"-enable.auth -clusterMode -auth.credentialsFile=next.yaml -read.url={upstream.url} -write.url={upstream.url}"
    )
    gateway = start_gateway(*flags, f"-auth.credentialsFile={tmp_path}/now.yaml", f"-shadow.flags={file}")
    headers = {"Authorization": f"Basic {base64.b64encode(b'grafana:secret').decode()}"}
    assert gateway.client().get(QUERY, headers=headers).status == 200
    wait_until_judged(gateway, 1)
    assert found(gateway) == {"other_tenant": 1}


# --- files that cannot be used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "flag", "message"),
    [
        ({"f": "-enable.auth\n-read.url=http://vm:1 -nope"}, "flags", "shadow: {f}, line 2: unknown flag -nope"),
        (
            {"f": "-enable.auth\n-read.url=http://vm:1\n-vmalert.tenant=1"},
            "flags",
            "shadow: {f}, line 3: -vmalert.tenant has no effect",
        ),
        ({"f": "-enable.auth\n'"}, "flags", "shadow: {f}, line 2: no closing quotation"),
        ({"f": "-enable.auth\n-read.url=ftp://vm"}, "flags", "shadow: {f}, line 2: -read.url"),
        ({}, "flags", "shadow: -shadow.flags: cannot read {f}: No such file"),
        ({"f": "match:\n- {grant: {}, when: 1}\n"}, "policy", "shadow: -shadow.policy {f}, line 2"),
        ({"f": "limits:\n- {type: nope}\n"}, "ratelimitConfig", "shadow: -shadow.ratelimitConfig {f}, line 2"),
    ],
    ids=["unknown flag", "no effect", "quote", "bad value", "missing", "policy", "limits"],
)
def test_a_bad_file_stops_the_start(
    files: dict[str, str], flag: str, message: str, key_file: Path, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    path = tmp_path / "f"
    ended = run_command(*auth_flags("http://vm:8428", key_file), f"-shadow.{flag}={path}", "-dryRun")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"vmgateway: {message.format(f=path)}")
    assert ended.stderr.count("\n") == 1


def test_a_bad_file_at_a_reload_keeps_the_old_shadow(
    start_gateway: StartGateway, flags: list[str], key: SigningKey, tmp_path: Path
) -> None:
    file = tmp_path / "candidate.yaml"
    gateway = start_gateway(*flags, f"-shadow.policy={file}")
    client = gateway.client(key.sign({"exp": 4102444800, "group": "b"}))
    assert client.get(QUERY).status == 200
    gateway.wait_until(lambda: found(gateway) == {"other_tenant": 1}, what="has a difference")
    file.write_text("match: 1\n")
    assert gateway.client().post("/-/reload").status == 200, "what is in force could be read"
    gateway.wait_for_log(r"cannot reload the shadow, keeping the old one: shadow: -shadow\.policy .*, line 1")
    assert client.get(QUERY).status == 200
    gateway.wait_until(lambda: found(gateway) == {"other_tenant": 2}, what="judges by the old file")
    file.write_text(POLICY)
    gateway.signal(signal.SIGHUP)
    gateway.wait_until(lambda: gateway.metric("vmgateway_config_reloads_total", result="success") == 2, what="reloads")
    assert client.get(QUERY).status == 200
    gateway.wait_until(lambda: judged(gateway) == 3, what="judges by the new file")
    assert found(gateway) == {"other_tenant": 2}
