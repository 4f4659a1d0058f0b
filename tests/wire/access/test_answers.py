"""What a restricted token gets where VictoriaMetrics ignores its labels: its own rules, alerts and metadata.

vmalert, VictoriaMetrics and Prometheus are real. With ``VICTORIA_METRICS=`` and ``VM_CLUSTER=`` they are the newest.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.wire.client import Client
from tests.support.wire.processes import Gateway, Program, find_program
from tests.support.wire.raw import RawClient, head
from tests.support.wire.servers import Alerting, Server, VictoriaMetrics
from tests.support.wire.tokens import SigningKey, team, tenant
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS, eventually
from tests.wire.conftest import StartGateway

RULES = """
groups:
- name: shared
  rules:
  - alert: OfDev
    expr: vector(1)
    labels: {team: dev, severity: page}
    annotations: {summary: "dev has {{ $value }}"}
  - alert: OfAll
    expr: label_replace(vector(1), "team", "dev", "", "") or label_replace(vector(2), "team", "ops", "", "")
    annotations: {summary: "team {{ $labels.team }} has {{ $value }}"}
  - alert: OfOps
    expr: vector(3)
    labels: {team: ops}
- name: ops only
  rules:
  - record: ops:total
    expr: vector(4)
    labels: {team: ops}
"""
SECRETS = ("OfOps", "ops", "vector(3)", "vector(2)", "label_replace")


class Prometheus(Server):
    """Prometheus with the same rules, and nothing to scrape."""

    name = "prometheus"
    health = "/-/ready"

    def command(self) -> list[str]:
        (self.directory / "rules.yml").write_text(RULES)
        config = self.directory / "prometheus.yml"
        config.write_text("global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n")
        return [
            *(find_program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={self.directory / 'data'}"),
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    gateway: Gateway
    key: SigningKey
    alerts: str
    """``vmalert`` or ``prometheus``."""

    def client(self, name: str = "dev") -> Client:
        return self.gateway.client(self.key.mint(team(name)))


@pytest.fixture(scope="module")
def alerting_node() -> Iterator[VictoriaMetrics]:
    """A single node that passes requests for rules on to vmalert, which evaluates them there."""
    with VictoriaMetrics() as evaluated:
        flags = [f"-remoteWrite.url={evaluated.url}"]
        with Alerting(RULES, datasource_url=evaluated.url, flags=flags) as vmalert:
            wait_for_alerts(vmalert.client)
            with VictoriaMetrics(f"-vmalert.proxyURL={vmalert.url}") as node:
                yield node


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    with Prometheus() as server:
        wait_for_alerts(server.client)
        yield server


def wait_for_alerts(client: Client) -> None:
    eventually(lambda: len(client.get("/api/v1/alerts").json()["data"]["alerts"] or ()) == 4)  # 1.79.5 has null


@pytest.fixture(scope="module", params=["vmalert", "prometheus"])
def backend_url(request: pytest.FixtureRequest) -> tuple[str, str]:
    server: Server = request.getfixturevalue("alerting_node" if request.param == "vmalert" else "prometheus")
    return request.param, server.url


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def setup(
    request: pytest.FixtureRequest, backend_url: tuple[str, str], key: SigningKey, key_file: Path
) -> Iterator[Setup]:
    alerts, url = backend_url
    flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={url}", "-accessLog")
    with Gateway(*flags, program=request.param) as gateway:
        yield Setup(gateway=gateway, key=key, alerts=alerts)


def rules_of(document: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401
    return {rule["name"]: rule for group in document["data"]["groups"] for rule in group["rules"]}


def test_a_team_gets_its_rules_and_its_alerts(setup: Setup) -> None:
    answer = setup.client().get("/api/v1/rules")
    assert (answer.status, answer.header("X-VMGateway-Answer")) == (200, "filtered")
    assert answer.header("Content-Length") == str(len(answer.body))
    assert not any(secret in answer.text for secret in SECRETS)
    assert [group["name"] for group in answer.json()["data"]["groups"]] == ["shared"]
    rules = rules_of(answer.json())
    assert list(rules) == ["OfDev", "OfAll"]
    own, shared = rules.values()
    assert (own["query"], own["state"], own["labels"]) == ("vector(1)", "firing", {"severity": "page", "team": "dev"})
    assert own["annotations"] == {"summary": "dev has {{ $value }}"}
    (alert,) = own["alerts"]
    assert alert["annotations"] == {"summary": "dev has 1"}
    assert (shared["query"], shared["annotations"], shared["state"]) == ("", {}, "firing")
    (alert,) = shared["alerts"]
    assert (alert["labels"]["team"], alert["annotations"]) == ("dev", {})
    assert float(alert["value"]) == 1


def test_another_team_gets_its_own(setup: Setup) -> None:
    document = setup.client("ops").get("/api/v1/rules").json()
    assert {name: len(rule.get("alerts", ())) for name, rule in rules_of(document).items()} == {
        "OfAll": 1,
        "OfOps": 1,
        "ops:total": 0,
    }
    assert setup.client("nobody").get("/api/v1/rules").json() == {"status": "success", "data": {"groups": []}}


def test_the_alerts_are_those_of_the_rules(setup: Setup) -> None:
    answer = setup.client().get("/api/v1/alerts")
    alerts = answer.json()["data"]["alerts"]
    assert sorted(alert["labels"]["alertname"] for alert in alerts) == ["OfAll", "OfDev"]
    assert not any(secret in answer.text for secret in SECRETS)
    chosen = setup.client().get("/api/v1/alerts", {"match[]": '{severity="page"}'}).json()["data"]["alerts"]
    assert [alert["labels"]["alertname"] for alert in chosen] == ["OfDev"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"rule_name[]": "OfAll"}, ["OfAll"]),
        ({"rule_group[]": "ops only"}, []),
        ({"type": "record"}, []),
        ({"state": "firing", "exclude_alerts": "1"}, ["OfDev", "OfAll"]),
        ({"state": "inactive"}, []),
        ({"search": "ofd"}, ["OfDev"]),
        ({"match[]": '{severity="page"}'}, ["OfDev"]),
        ({"match[]": '{team="ops"}'}, []),
    ],
)
def test_arguments_choose_among_what_belongs_to_the_team(
    setup: Setup, arguments: dict[str, str], expected: list[str]
) -> None:
    client = setup.client()
    for answer in (client.get("/api/v1/rules", arguments), client.post("/api/v1/rules", form=arguments)):
        rules = rules_of(answer.json())
        assert list(rules) == expected
        if "exclude_alerts" in arguments:
            assert not any("alerts" in rule for rule in rules.values())


def test_a_page_of_groups_counts_those_of_the_team(setup: Setup) -> None:
    document = setup.client("ops").get("/api/v1/rules", {"group_limit": "1", "page_num": "2"}).json()
    totals = {name: document[name] for name in ("page", "total_pages", "total_groups", "total_rules")}
    assert totals == {"page": 2, "total_pages": 2, "total_groups": 2, "total_rules": 3}
    assert len(document["data"]["groups"]) == 1


GRAFANA = (
    {"group_limit": "1000", "exclude_alerts": "false"},
    {"file": "FILE", "file[]": "FILE", "rule_group": "shared", "rule_group[]": "shared"},
    {"rule_name": "OfDev", "rule_name[]": "OfDev", "group_limit": "1"},
)
"""What Grafana's alerting asks for (prometheusApi.ts): each name in Mimir's and in Prometheus' spelling."""


def test_rules_have_what_grafana_reads(setup: Setup) -> None:
    """The members of PromRuleGroupDTO and PromRuleDTO in Grafana's unified-alerting-dto.ts."""
    (whole,) = setup.client().get("/api/v1/rules").json()["data"]["groups"]
    for arguments in GRAFANA:
        given = {name: value.replace("FILE", whole["file"]) for name, value in arguments.items()}
        document = setup.client().get("/api/v1/rules", given).json()
        assert document["status"] == "success"
        assert "groupNextToken" not in document["data"], "Grafana would ask for another page"
        (group,) = document["data"]["groups"]
        assert (type(group["name"]), type(group["file"]), group["interval"]) == (str, str, whole["interval"])
        assert "OfDev" in rules_of(document)
        for rule in group["rules"]:
            assert {type(rule[name]) for name in ("name", "query", "health")} == {str}
            assert (rule["type"], rule["state"]) == ("alerting", "firing")
            for alert in rule["alerts"]:
                assert {type(alert[name]) for name in ("activeAt", "value", "state")} == {str}
                assert (type(alert["labels"]), type(alert["annotations"])) == (dict, dict)
    (group,) = setup.client("ops").get("/api/v1/rules", {"rule_group[]": "ops only"}).json()["data"]["groups"]
    (recording,) = group["rules"]  # Grafana expands it in queries
    assert (recording["type"], recording["name"], recording["query"]) == ("recording", "ops:total", "vector(4)")
    assert recording["labels"] == {"team": "ops"}


def test_one_rule_alert_and_group_by_its_id(setup: Setup) -> None:
    if setup.alerts != "vmalert":
        pytest.skip("Prometheus has no IDs")
    client, other = setup.client(), setup.client("ops")
    (group,) = client.get("/api/v1/rules").json()["data"]["groups"]
    rule = group["rules"][0]
    asked = {"group_id": group["id"], "rule_id": rule["id"], "alert_id": rule["alerts"][0]["id"]}
    assert client.get("/vmalert/api/v1/rule", asked).json()["name"] == "OfDev"
    assert client.get("/vmalert/api/v1/alert", asked).json()["labels"]["alertname"] == "OfDev"
    assert [each["name"] for each in client.get("/vmalert/api/v1/group", asked).json()["rules"]] == ["OfDev", "OfAll"]
    assert (other.get("/vmalert/api/v1/rule", asked).status, other.get("/vmalert/api/v1/alert", asked).status) == (
        404,
        404,
    )
    absent = client.get("/vmalert/api/v1/rule", {"group_id": "1", "rule_id": "2"})
    assert absent.body == other.get("/vmalert/api/v1/rule", asked).body


def test_head_tells_the_length_of_what_belongs_to_the_team(setup: Setup) -> None:
    client = setup.client("nobody")
    whole, only_head = client.get("/api/v1/rules"), client.ask("HEAD", "/api/v1/rules")
    assert (only_head.status, only_head.body) == (200, b"")
    assert only_head.header("Content-Length") == whole.header("Content-Length")


def test_the_log_tells_how_many_rules_were_shown(setup: Setup) -> None:
    setup.client().get("/api/v1/rules")
    setup.gateway.wait_for_log("2 of 4 rules shown")


def test_notifiers_keep_their_addresses(setup: Setup, alerting_node: VictoriaMetrics) -> None:
    if setup.alerts != "vmalert":
        pytest.skip("Prometheus has no such path")
    open_answer = alerting_node.client.get("/api/v1/notifiers")
    answer = setup.client().get("/api/v1/notifiers")
    if open_answer.status != 200:  # this release has none
        assert answer.status == open_answer.status
        return
    assert "127.0.0.1" in open_answer.text
    assert answer.json() == {
        "status": "success",
        "data": {
            "notifiers": [{"kind": "static", "targets": [{"address": "", "labels": {}, "lastError": ""}]}],
        },
    }


def test_the_html_pages_stay_closed(setup: Setup) -> None:
    for path in ("/vmalert/", "/vmalert/groups", "/vmalert/alerts", "/vmalert/rule", "/vmalert/static/x.js"):
        assert setup.client().get(path).status == 403, path


# --- any backend ----------------------------------------------------------------------------------------------------

GROUPS: dict[str, Any] = {
    "status": "success",
    "data": {
        "groups": [
            {
                "name": "g",
                "tenant": "1:5",
                "headers": ["Authorization: secret"],
                "rules": [
                    {"name": "a", "state": "firing", "type": "recording", "labels": {"team": "dev"}, "new": "secret"},
                    {"name": "b", "state": "firing", "type": "recording", "labels": {"team": "secret"}},
                ],
            },
            {"name": "h", "tenant": "1:6", "rules": [{"name": "secret", "state": "ok", "type": "recording"}]},
        ]
    },
}
OWN = {
    "groups": [
        {"name": "g", "rules": [{"state": "inactive", "name": "a", "type": "recording", "labels": {"team": "dev"}}]}
    ]
}
JSON = (("Content-Type", "application/json"), ("ETag", '"secret"'), ("X-Rules", "secret"))


def start(
    start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path, *flags: str, program: Program
) -> Gateway:
    return start_gateway(
        "-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={upstream.url}", *flags, program=program
    )


def pieces(body: bytes) -> Iterable[bytes]:
    return [body[:10], body[10:]]


@pytest.mark.parametrize("form", ["plain", "chunked", "gzip", "closed", "large"])
def test_the_framing_and_coding_of_the_backend_do_not_matter(
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    key: SigningKey,
    key_file: Path,
    program: Program,
    form: str,
) -> None:
    body = json.dumps(GROUPS).encode()
    replies = {
        "plain": Reply(headers=JSON, body=body),
        "chunked": Reply(headers=JSON, body=pieces(body)),
        "gzip": Reply(headers=(*JSON, ("Content-Encoding", "gzip")), body=gzip.compress(body)),
        "closed": Reply(headers=JSON, body=body, close=True),
        "large": Reply(headers=JSON, body=b" " * 200_000 + body),
    }
    upstream.responder = lambda _: replies[form]
    gateway = start(start_gateway, upstream, key_file, program=program)
    sent = {"If-None-Match": '"secret"', "Range": "bytes=0-5", "Accept-Encoding": "gzip"}
    answer = gateway.client(key.mint(team("dev"))).get("/api/v1/rules?extended_states=1&state=x&a=b", headers=sent)
    assert answer.status == 200
    assert answer.header("ETag") is answer.header("X-Rules") is answer.header("Content-Encoding") is None
    assert b"secret" not in answer.body
    (received,) = upstream.requests
    assert (received.method, received.target) == ("GET", "/api/v1/rules?extended_states=1")
    assert received.header("Accept-Encoding") == ["identity"]
    assert received.header("If-None-Match") == received.header("Range") == []


BROKEN = {
    "no JSON": Reply(body=b"<html>secret"),
    "not the form": Reply(body=b'{"data":{"groups":"secret"}}'),
    "a label that is no text": Reply(body=b'{"data":{"groups":[{"rules":[{"labels":{"team":1}}]}]}}'),
    "deep": Reply(body=b'{"data":' + b"[" * 100_000),
    "an unknown coding": Reply(headers=(("Content-Encoding", "br"),), body=b"secret"),
    "a broken coding": Reply(headers=(("Content-Encoding", "gzip"),), body=b"secret"),
    "cut off": Reply(headers=(("Content-Length", "100"),), body=b"secret", close=True),
    "a part": Reply(status=206, body=json.dumps(GROUPS).encode()),
    "elsewhere": Reply(status=302, headers=(("Location", "/secret"),), body=b"secret"),
    "nothing new": Reply(status=304, headers=(("ETag", "secret"),), body=b""),
    "too large": Reply(body=b" " * 70_000 + json.dumps(GROUPS).encode()),
    "too large, chunked": Reply(body=[b" " * 1000] * 70),
    "a bomb": Reply(headers=(("Content-Encoding", "gzip"),), body=gzip.compress(b" " * 10_000_000)),
}


@pytest.mark.parametrize("program", ["vmgateway", "mitmdump"])
def test_what_cannot_be_filtered_is_refused(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, program: Program
) -> None:
    gateway = start(start_gateway, upstream, key_file, "-response.maxFilterBytes=64KiB", program=program)
    client = gateway.client(key.mint(team("dev")))
    for name, reply in BROKEN.items():
        upstream.responder = lambda _, reply=reply: reply  # type: ignore[misc]
        for method in ("GET", "HEAD"):
            answer = client.ask(method, "/api/v1/rules")
            assert answer.status == 502, (name, answer)
            assert b"secret" not in answer.body, name
            assert answer.header("ETag") is answer.header("Location") is None
    upstream.responder = lambda _: Reply(body=json.dumps(GROUPS).encode())
    assert list(rules_of(client.get("/api/v1/rules").json())) == ["a"]  # no memory is lost to those before


def test_an_error_of_the_backend_keeps_its_status_alone(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, program: Program
) -> None:
    upstream.responder = lambda _: Reply(status=503, headers=(("X-Rules", "secret"),), body=b"secret")
    gateway = start(start_gateway, upstream, key_file, program=program)
    answer = gateway.client(key.mint(team("dev"))).get("/api/v1/rules")
    assert (answer.status, answer.json()["status"], answer.header("X-Rules")) == (503, "error", None)
    assert "secret" not in answer.text


def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, program: Program
) -> None:
    began, left = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield json.dumps(GROUPS).encode()[:50]
        began.set()
        left.wait(HANGS)
        yield json.dumps(GROUPS).encode()[50:]

    upstream.responder = lambda _: Reply(body=body())
    gateway = start(start_gateway, upstream, key_file, program=program)
    with RawClient(gateway.port) as client:
        client.send(head("GET", "/api/v1/rules", key.mint(team("dev"))))
        assert began.wait(HANGS)
        client.reset()
    eventually(lambda: gateway.metric("vmgateway_requests_total", outcome="failed") == 1)
    left.set()
    upstream.responder = lambda _: Reply(body=json.dumps(GROUPS).encode())
    answer = gateway.client(key.mint(team("dev"))).get("/api/v1/rules")
    assert list(rules_of(answer.json())) == ["a"]


def test_two_requests_on_one_connection_do_not_mix(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, program: Program
) -> None:
    upstream.responder = lambda _: Reply(body=b" " * 200_000 + json.dumps(GROUPS).encode())
    gateway = start(start_gateway, upstream, key_file, program=program)
    dev, other = key.mint(team("dev")), key.mint(team("secret"))
    with RawClient(gateway.port) as client:
        client.send(head("GET", "/api/v1/rules", dev))
        status, body = client.receive_answer()
        assert (status, b"secret" in body) == (200, False)
        client.send(head("GET", "/api/v1/rules", other))
        status, body = client.receive_answer()
        assert (status, list(rules_of(json.loads(body)))) == (200, ["b"])
        client.send(head("GET", "/api/v1/rules", dev) + head("GET", "/api/v1/rules", other))
        assert [list(rules_of(json.loads(client.receive_answer()[1]))) for _ in range(2)] == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("how", "names"), [("group", ["a", "b"]), ("labels", []), ("1:5", ["a", "b", "secret"]), ("1:6", [])]
)
def test_the_tenant_of_a_rule_is_known_as_the_flag_says(
    start_gateway: StartGateway,
    upstream: RecordingUpstream,
    key: SigningKey,
    key_file: Path,
    program: Program,
    how: str,
    names: list[str],
) -> None:
    upstream.responder = lambda _: Reply(body=json.dumps(GROUPS).encode())
    gateway = start(start_gateway, upstream, key_file, "-clusterMode", f"-vmalert.tenant={how}", program=program)
    client = gateway.client(key.mint(tenant(1, 5)))
    for path in (
        "/api/v1/rules",
        "/select/1:5/prometheus/vmalert/api/v1/rules",
        "/select/multitenant/prometheus/rules",
    ):
        assert list(rules_of(client.get(path).json())) == names, path
    assert {request.path for request in upstream.requests} == {"/select/1:5/prometheus/api/v1/rules"}
