"""Decisions in mitmweb: beside each flow, by command, and bodies that stay visible."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cramjam
import pytest
import zstandard

from tests.support.addons import bodies
from tests.support.wire.client import Client
from tests.support.wire.interactive import MitmWeb
from tests.support.wire.tokens import FULL, SigningKey, team, tenant
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS, eventually
from tests.support.wire.write_bodies import TEXT_BLOCK

BIG = b"x" * (5 << 20)
BOMB = gzip.compress(bytes(20 << 20))


def respond(request: ReceivedRequest) -> Reply:
    if "big" in request.target:
        return Reply(body=BIG)
    if "bomb" in request.target:
        return Reply(headers=(("Content-Type", "text/plain"), ("Content-Encoding", "gzip")), body=BOMB)
    if request.path.endswith("/export"):
        line = b'{"metric":{"__name__":"up"},"values":[1],"timestamps":[1700000000000]}\n'
        return Reply(headers=(("Content-Type", "application/stream+json"),), body=line)
    return Reply()


@pytest.fixture(scope="module")
def backend() -> Iterator[RecordingUpstream]:
    with RecordingUpstream(respond) as server:
        yield server


@pytest.fixture(scope="module")
def web(backend: RecordingUpstream, key_file: Path) -> Iterator[MitmWeb]:
    flags = (f"-read.url={backend.url}", f"-write.url={backend.url}", f"-auth.publicKeyFiles={key_file}")
    with MitmWeb("-enable.auth", "-clusterMode", *flags) as server:
        yield server


@pytest.fixture
def client(web: MitmWeb, key: SigningKey) -> Client:
    return web.client(key.mint(tenant(1, 5, extra_labels={"team": "dev"})))


@pytest.fixture(autouse=True)
def _empty_list(web: MitmWeb) -> None:
    web.run("view.clear")


# --- the list ------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_an_admitted_flow_shows_tenant_access_and_what_was_changed(web: MitmWeb, client: Client) -> None:
    assert client.get("/api/v1/query?query=up&extra_label=team=ops").status == 200
    (flow,) = web.flows()
    assert flow["marked"] in ("✅", ":white_check_mark:")
    assert flow["comment"] == "1:5 read -extra_label=team=ops +extra_label=team=dev"
    assert flow["request"]["path"] == "/select/1:5/prometheus/api/v1/query?query=up&extra_label=team%3Ddev"


def test_the_list_has_a_column_for_it(web: MitmWeb) -> None:
    assert "comment" in web.options()["web_columns"]["value"]


def test_a_refused_flow_shows_the_rule(web: MitmWeb, client: Client, key: SigningKey) -> None:
    assert client.get("/tags/tagSeries").status == 403
    assert web.client().get("/api/v1/query").status == 401
    assert web.client(key.mint(FULL, lifetime=-1)).get("/api/v1/query").status == 401
    comments = [flow["comment"] for flow in web.flows()]
    assert comments[0].startswith("1:5 write filters_ignored: ")
    assert comments[1] == "read missing_token: missing token"
    assert comments[2].startswith("read expired: ")
    assert {flow["marked"] for flow in web.flows()} <= {"⛔", ":no_entry:"}


def test_a_form_is_told_with_what_was_taken_out_of_it(web: MitmWeb, client: Client) -> None:
    assert client.post("/api/v1/query", form={"query": "up", "extra_label": "team=ops"}).status == 200
    (flow,) = web.flows()
    assert flow["comment"] == "1:5 read +extra_label=team=dev -extra_label=team=ops"
    assert "Arguments of the form\n    query=up\n  - extra_label=team=ops\n" in _story(web)


def test_a_backend_that_is_down_is_marked_as_a_failure(
    web: MitmWeb, client: Client, backend: RecordingUpstream
) -> None:
    backend.refuse()
    try:
        assert client.get("/api/v1/query").status == 502
    finally:
        backend.listen()
    (flow,) = web.flows()
    assert flow["marked"] in ("⚠", "⚠️", ":warning:")
    assert "backend_unreachable: -read.url: the backend cannot be reached" in flow["comment"]


def test_pages_of_the_gateway_itself(web: MitmWeb) -> None:
    web.client().get("/health")
    assert web.flows()[0]["comment"].startswith("a page of the gateway itself")


def test_no_flow_holds_a_signature(web: MitmWeb, key: SigningKey, tmp_path: Path) -> None:
    good, other = key.mint(team("dev")), SigningKey.generate("ES256").mint(team("dev"))
    web.client(other).get("/api/v1/query")
    for target in ("/api/v1/query", "/api/v1/query?a=;", "/api/v1/nothing", "/health", "/metrics"):
        web.client(good).get(target)
    web.client(good).post("/api/v1/query", form={"query": "up"})
    web.client(good).post("/api/v1/query", body="a=;", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert len(web.flows()) == 8
    web.run("save.file", "@all", str(tmp_path / "flows"))
    known = json.dumps(web.flows()) + "\n".join(web.run("vmgateway.explain", "@all"))
    assert '"team": "dev"' in known
    for token in (good, other):
        assert token.rpartition(".")[2] not in known
        assert token.rpartition(".")[2].encode() not in (tmp_path / "flows").read_bytes()


@pytest.mark.parametrize("command", ["flow.resume", "flow.kill"])
def test_a_flow_that_is_intercepted(web: MitmWeb, client: Client, backend: RecordingUpstream, command: str) -> None:
    backend.forget()
    web.run("set", "intercept", "~q")
    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.get, "/api/v1/query?query=up&extra_label=team=ops")
            eventually(lambda: [flow for flow in web.flows("/select/") if flow["intercepted"]])
            assert backend.requests == []
            web.run(command, "@all")
            if command == "flow.kill":
                with pytest.raises(http.client.RemoteDisconnected):
                    asked.result(HANGS)
            else:
                assert asked.result(HANGS).status == 200
    finally:
        web.run("set", "intercept", "")
    labels = [request.argument("extra_label") for request in backend.requests]
    assert labels == ([] if command == "flow.kill" else [["team=dev"]])


def test_a_filter_of_the_list(web: MitmWeb, client: Client) -> None:
    assert client.get("/api/v1/query?query=up").status == 200
    assert web.client().get("/api/v1/query?query=up").status == 401
    web.run("set", "view_filter", "~c 401")
    try:
        assert [flow["response"]["status_code"] for flow in web.flows()] == [401]
    finally:
        web.run("set", "view_filter", "")


# --- commands ------------------------------------------------------------------------------------------------------


def _story(web: MitmWeb) -> str:
    return "\n".join(web.run("vmgateway.explain", "@all")) + "\n"


def test_explain(web: MitmWeb, client: Client, key_file: Path) -> None:
    client.get("/api/v1/query?query=up")
    story = _story(web)
    assert story.startswith("ADMITTED  1:5 read +extra_label=team=dev\n")
    assert f"  ok  token      verified with -auth.publicKeyFiles {key_file} (EC, thumbprint " in story
    assert "\n  headers removed: " in story


def test_explain_several_and_none(web: MitmWeb, client: Client) -> None:
    client.get("/api/v1/query?query=up")
    client.get("/api/v1/nothing")
    story = web.run("vmgateway.explain", "@all")
    assert [line.partition(" ")[0] for line in story if line.startswith(("ADMITTED", "REFUSED"))] == [
        "ADMITTED",
        "REFUSED",
    ]
    assert web.run("vmgateway.explain", "~c 999") == ["no flow is selected"]


def test_explain_survives_in_a_file(web: MitmWeb, client: Client, tmp_path: Path) -> None:
    client.get("/api/v1/query?query=up")
    before = web.run("vmgateway.explain", "@all")
    web.run("save.file", "@all", str(tmp_path / "flows"))
    web.run("view.clear")
    web.run("view.flows.load", str(tmp_path / "flows"))
    assert web.run("vmgateway.explain", "@all") == before
    assert web.flows()[0]["comment"] == "1:5 read +extra_label=team=dev"


@pytest.mark.smoke
def test_limits_refuse_visibly(backend: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path) -> None:
    limits = tmp_path / "limits.yml"
    limits.write_text("limits:\n  - {type: queries, value: 1, resolution: hour}\n")
    flags = (f"-read.url={backend.url}", f"-auth.publicKeyFiles={key_file}", f"-ratelimit.config={limits}")
    with MitmWeb("-enable.auth", "-enable.rateLimit", *flags) as web:
        assert web.run("vmgateway.limits") == ["no requests counted so far"]
        client = web.client(key.mint(tenant(1, 5)))
        assert [client.get("/api/v1/query").status for _ in range(2)] == [200, 429]
        line = "tenant 1:5 has used 1 of 1 queries per hour"
        assert web.run("vmgateway.limits") == [line]
        admitted, refused = web.flows("/api/v1/query")
        assert admitted["comment"] == "1:5 read unchanged"
        assert refused["comment"].startswith(f"1:5 read rate_limited: request was rate limited: {line}")
        assert f"  NO  limits     request was rate limited: {line}" in _story(web)


def test_bodies_whose_rows_are_counted_are_visible_too(
    backend: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path
) -> None:
    limits = tmp_path / "limits.yml"
    limits.write_text("limits:\n  - {type: rows_inserted, value: 3, resolution: hour}\n")
    flags = (f"-write.url={backend.url}", f"-auth.publicKeyFiles={key_file}", f"-ratelimit.config={limits}")
    body = bytes(cramjam.snappy.compress_raw(bodies.WRITE_REQUEST))
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    backend.forget()
    with MitmWeb("-enable.auth", "-enable.rateLimit", *flags) as web:
        client = web.client(key.mint(tenant(1, 5)))
        assert [client.post("/api/v1/write", body=body, headers=headers).status for _ in range(2)] == [200, 429]
        assert [request.body for request in backend.requests] == [body]
        admitted, refused = web.flows("/api/v1/write")
        assert web.view(admitted, "request")[0] == "Remote write"
        assert refused["comment"].startswith("1:5 write rate_limited: ")
        assert "  NO  limits     " in _story(web)


def test_limits_without_limits(web: MitmWeb) -> None:
    assert web.run("vmgateway.limits") == ["no limits are enforced"]


def test_keys(web: MitmWeb, key: SigningKey, key_file: Path) -> None:
    lines = web.run("vmgateway.keys")
    assert lines == [
        "1 key loaded",
        f"  {key.key.thumbprint()} EC ES256, from -auth.publicKeyFiles {key_file}",
    ]


def test_reload(web: MitmWeb, key_file: Path) -> None:
    good = key_file.read_text()
    behind = len(web.log())
    web.run("vmgateway.reload")
    web.wait_for_log("reloaded: 1 key loaded", behind=behind)
    key_file.write_text("rubbish")
    try:
        web.run("vmgateway.reload")
        web.wait_for_log("cannot reload, keeping the old configuration: ", behind=behind)
    finally:
        key_file.write_text(good)
    assert web.run("vmgateway.keys")[0] == "1 key loaded"


def test_token(web: MitmWeb, key: SigningKey) -> None:
    token = key.mint(tenant(1, 5))
    lines = web.run("vmgateway.token", token)
    assert lines[0].startswith("GOOD  verified with ")
    assert "  tenant 1:5, mode full" in lines
    assert web.run("vmgateway.token", f"Bearer {token[:-8]}AAAAAAAA")[0].startswith("REFUSED  bad_signature")


def test_every_command_has_help_with_an_example(web: MitmWeb) -> None:
    own = {name: about for name, about in web.commands().items() if name.startswith("vmgateway.")}
    assert set(own) == {f"vmgateway.{name}" for name in ("explain", "limits", "keys", "reload", "token")}
    for name, about in own.items():
        assert f"Example: {name}" in " ".join(about["help"].split())
    assert own["vmgateway.explain"]["parameters"][0]["type"] == "flow[]"  # what completion goes by


# --- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("snappy", bytes(cramjam.snappy.compress_raw(bodies.WRITE_REQUEST))),
        ("zstd", zstandard.compress(bodies.WRITE_REQUEST)),
    ],
)
def test_remote_write_is_readable_and_arrives_as_it_was(
    web: MitmWeb, client: Client, backend: RecordingUpstream, encoding: str, body: bytes
) -> None:
    backend.forget()
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": encoding}
    assert client.post("/api/v1/write", body=body, headers=headers).status == 200
    assert [request.body for request in backend.requests] == [body]
    (flow,) = web.flows()
    name, text = web.view(flow, "request")
    assert name == "Remote write"
    assert text.splitlines() == ['up{job="shop"} 1 @ 2023-11-14T22:13:20Z', 'up{job="shop"} 0.5 @ 2023-11-14T22:13:35Z']


def test_opentelemetry_is_readable(web: MitmWeb, client: Client) -> None:
    headers = {"Content-Type": "application/x-protobuf"}
    client.post("/opentelemetry/v1/metrics", body=bodies.OTLP_REQUEST, headers=headers)
    name, text = web.view(web.flows()[0], "request")
    assert (name, text.splitlines()[-1]) == (
        "OpenTelemetry metrics",
        'latency{path="/cart"} 0.25 @ 2023-11-14T22:13:20Z',
    )


def test_json_lines_are_readable(web: MitmWeb, client: Client) -> None:
    client.get("/api/v1/export?match[]=up")
    assert web.view(web.flows()[0], "response") == ("JSON lines", "up 1 @ 2023-11-14T22:13:20Z")


def test_a_token_is_readable_and_the_decision_is_a_view_too(web: MitmWeb, client: Client, key: SigningKey) -> None:
    token = key.mint(tenant(1, 5))
    client.post("/api/v1/import/prometheus", body=token, headers={"Content-Type": "application/jwt"})
    (flow,) = web.flows()
    name, text = web.view(flow, "request")
    assert name == "JWT"
    assert '"account_id": 1' in text
    assert token.rpartition(".")[2] not in text
    assert web.view(flow, "response", "vmgateway")[1].startswith("ADMITTED  1:5 write ")


def test_a_body_that_is_something_else_is_shown_as_it_is(web: MitmWeb, client: Client) -> None:
    client.post("/api/v1/import/prometheus", body=b"m 1", headers={"Content-Type": "application/x-protobuf"})
    assert "m 1" in web.view(web.flows()[0], "request")[1]


@pytest.mark.parametrize(("target", "body"), [("big", BIG), ("bomb", BOMB)])
def test_what_is_too_much_passes_and_is_not_kept(web: MitmWeb, client: Client, target: str, body: bytes) -> None:
    answer = client.get(f"/api/v1/export?match[]={target}")
    assert answer.body == body
    assert "missing" in web.view(web.flows()[0], "response")[1].lower()


def test_a_large_upload_passes_and_is_not_kept(web: MitmWeb, client: Client, backend: RecordingUpstream) -> None:
    backend.forget()
    assert client.post("/api/v1/import/prometheus", body=TEXT_BLOCK * 80).status == 200
    assert [request.body_size for request in backend.requests] == [len(TEXT_BLOCK) * 80]
    assert "missing" in web.view(web.flows()[0], "request")[1].lower()
