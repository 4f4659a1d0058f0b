"""``vmgateway explain``: what it prints, its exit codes, and that no token is in anything it prints."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.core import keys
from vmgw_addons.cli import explain, main

NOW = keys.NOW
TOKEN = keys.sign(
    keys.claims(vm_access={"tenant_id": {"account_id": 1, "project_id": 5}, "extra_labels": {"team": "dev"}}),
    keys.ec_key(),
    {"alg": "ES256", "kid": "first"},
)
TIME = f"--time={NOW}"


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:  # noqa: ANN401
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*arguments: str, stdin: str = "", environ: Mapping[str, str] | None = None) -> Ran:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = main.main(["explain", *arguments], environ or {})
        out, err = capsys.readouterr()
        signature = TOKEN.rpartition(".")[2]
        assert signature not in out + err
        assert err.count("\n") == (1 if code == 2 else 0), err
        return Ran(code, out, err)

    return call


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "public.pem"
    path.write_text(keys.pem(keys.ec_key()))
    return f"-auth.publicKeyFiles={path}"


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(f"Bearer {TOKEN}\n")
    return f"--token-file={path}"


# --- verdicts ------------------------------------------------------------------------------------------------------


def test_admitted(run: Run, key: str) -> None:
    ran = run(key, "--token", TOKEN, TIME, "GET /api/v1/query?query=up")
    assert ran.code == 0
    assert ran.out.startswith("ADMITTED  1:5 read +extra_label=team=dev\n")
    assert "GET http://victoriametrics:8428/api/v1/query?query=up&extra_label=team%3Ddev\n" in ran.out


def test_refused(run: Run, key: str) -> None:
    ran = run(key, "--token", TOKEN, f"--time={NOW + 60}", "GET /api/v1/query?query=up")
    assert ran.code == 1
    assert ran.out.startswith("REFUSED  read expired: ")


def test_flags_of_the_gateway_decide(run: Run, key: str) -> None:
    flags = ("-clusterMode", "-read.url", "http://user:hunter2@vmselect:8481/x", "-logInvalidAuthTokens")
    ran = run(*flags, key, "--token", TOKEN, TIME, "--json", "GET /api/v1/query?query=up")
    url = ran.document["upstream"]["url"]
    assert url == "http://vmselect:8481/x/select/1:5/prometheus/api/v1/query?query=up&extra_label=team%3Ddev"
    assert "hunter2" not in ran.out
    written = run(*flags, key, "--token", TOKEN, TIME, "--json", "POST /api/v1/write")
    assert written.document["refusal"]["code"] == "not_served"


def test_flags_from_the_environment(run: Run, key: str) -> None:
    environ = {"clusterMode": "true", "VMGATEWAY_TOKEN": TOKEN}
    ran = run("-envflag.enable", key, TIME, "--json", "GET /api/v1/query", environ=environ)
    assert "/select/1:5/" in ran.document["upstream"]["url"]


def test_another_header_carries_the_token(run: Run, key: str) -> None:
    ran = run(key, "-auth.httpHeader=X-Token", "--token", TOKEN, TIME, "--json", "GET /api/v1/query")
    assert ran.code == 0
    assert "x-token" in ran.document["upstream"]["dropped_headers"]


def test_pages_of_the_gateway_itself(run: Run) -> None:
    ran = run("--json", "GET /health")
    assert (ran.code, ran.document["verdict"]) == (0, "own_page")
    assert run("POST /health").code == 1
    for request in ("GET /", "OPTIONS /api/v1/query", "OPTIONS /nowhere"):
        assert run("--json", request).document["verdict"] == "own_page"


def test_the_list_of_tenants_is_a_page_in_a_cluster_with_tokens(run: Run, key: str) -> None:
    cluster = ("-clusterMode", "-enable.auth", key, TIME, "--token", TOKEN, "--json")
    assert run(*cluster, "GET /admin/tenants").document["verdict"] == "own_page"
    single = run(key, TIME, "--token", TOKEN, "--json", "GET /admin/tenants")
    assert single.document["refusal"]["code"] == "unknown_route"


def test_a_head_that_no_listener_takes(run: Run, key: str) -> None:
    ran = run(key, "--token", TOKEN, "--json", "GET /api/v1/query?query=\u00fc")
    assert (ran.code, ran.document["refusal"]["code"]) == (1, "malformed_head")
    ran = run(key, "--token", TOKEN, "--json", "-http.maxHeadSize=1KiB", f"GET /api/v1/query?query={'a' * 2000}")
    assert (ran.code, ran.document["refusal"]["code"]) == (1, "head_too_large")


@pytest.mark.parametrize("text", [str(NOW), f"{NOW}.5", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20"])
def test_time(run: Run, key: str, text: str) -> None:
    assert run(key, "--token", TOKEN, "--time", text, "GET /api/v1/query").code == 0


LIMITS = """
limits:
  - type: queries
    value: 100
    resolution: minute
  - type: rows_inserted
    value: 1000
    account_id: 1
    project_id: 5
"""


def test_limits_are_told(run: Run, key: str, tmp_path: Path) -> None:
    (tmp_path / "limits.yml").write_text(LIMITS)
    flags = ("-enable.auth", "-enable.rateLimit", f"-ratelimit.config={tmp_path}/limits.yml", key, TIME)
    ran = run(*flags, "--token", TOKEN, "GET /api/v1/query")
    assert ran.code == 0
    assert "  ok  limits     tenant 1:5 has used 0 of 100 queries per minute\n" in ran.out
    written = run(*flags, "--token", TOKEN, "--json", "POST /api/v1/write").document["limits"]
    assert [(limit["type"], limit["value"], limit["used"]) for limit in written] == [("rows_inserted", 1000, 0)]
    (tmp_path / "limits.yml").write_text("rubbish")
    assert run(*flags, "GET /").code == 2


def test_limits_without_tokens(run: Run, tmp_path: Path) -> None:
    (tmp_path / "limits.yml").write_text(LIMITS)
    flags = ("-clusterMode", "-enable.rateLimit", f"-ratelimit.config={tmp_path}/limits.yml")
    ran = run(*flags, "GET /select/1:5/prometheus/api/v1/query")
    assert ran.code == 0
    assert "  ok  token      no token is needed: -enable.auth is not set\n" in ran.out


def test_a_prefix_of_all_paths(run: Run, key: str) -> None:
    flags = ("-http.pathPrefix=/metrics-gateway", key, TIME, "--token", TOKEN, "--json")
    assert run(*flags, "GET /metrics-gateway/health").document["verdict"] == "own_page"
    assert run(*flags, "GET /metrics-gateway/api/v1/query").code == 0
    assert run(*flags, "GET /health").code == 1
    assert run(*flags, "GET /api/v1/query").document["refusal"]["code"] == "unknown_route"


# --- the token -----------------------------------------------------------------------------------------------------


def test_a_token_from_a_file_the_environment_or_the_header(run: Run, key: str, token_file: str) -> None:
    request = "GET /api/v1/query"
    assert run(key, token_file, TIME, request).code == 0
    assert run(key, TIME, request, environ={"VMGATEWAY_TOKEN": TOKEN}).code == 0
    assert run(key, TIME, "-H", f"Authorization: Bearer {TOKEN}", request).code == 0
    assert run(key, TIME, "-H", "Authorization: Bearer other", "--token", TOKEN, request).code == 0
    assert run(key, TIME, "--json", request).document["refusal"]["code"] == "missing_token"


# --- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_text", "method", "path"),
    [
        ("GET /api/v1/query?query=up", "GET", "/api/v1/query"),
        ("/api/v1/query?query=up", "GET", "/api/v1/query"),
        ("http://gateway:8431/api/v1/query", "GET", "/api/v1/query"),
        ("POST http://gateway:8431/api/v1/query", "POST", "/api/v1/query"),
        ("GET /api/v1/query?query=sum(up) by (job)", "GET", "/api/v1/query"),
        ("GET /api/v1/query?query=up HTTP/1.1", "GET", "/api/v1/query"),
        ("GET /a/../b", "GET", "/a/../b"),
    ],
)
def test_requests_as_people_type_them(run: Run, request_text: str, method: str, path: str) -> None:
    document = run("--token", TOKEN, "--json", request_text).document
    assert (document["request"]["method"], document["request"]["path"]) == (method, path)


def test_a_blank_in_the_query_is_encoded(run: Run, key: str) -> None:
    document = run(key, TIME, "--token", TOKEN, "--json", "GET /api/v1/query?query=sum(up) by (job)").document
    assert ["query", "sum(up) by (job)"] in document["arguments"]["url"]["before"]


def test_a_form(run: Run, key: str) -> None:
    ran = run(key, TIME, "--token", TOKEN, "--json", "-d", "query=up&extra_label=team=ops", "/api/v1/query")
    assert ran.document["request"]["method"] == "POST"
    assert ran.document["arguments"]["form"]["removed"] == [["extra_label", "team=ops"]]


CHROME = f"""\
curl 'http://localhost:8431/api/v1/query_range' \\
  -H 'Accept: application/json, text/plain, */*' \\
  -H 'Authorization: Bearer {TOKEN}' \\
  -b 'session=1' \\
  -H 'content-type: application/x-www-form-urlencoded' \\
  --data-raw $'query=up%7Bjob%3D"it\\'s"%7D&start=1&end=2&step=15' \\
  --compressed \\
  --insecure
"""


def test_a_curl_command_line_as_browsers_copy_it(run: Run, key: str) -> None:
    ran = run(key, TIME, "--json", stdin=CHROME)
    assert ran.code == 0
    document = ran.document
    assert document["request"] == {
        "method": "POST",
        "path": "/api/v1/query_range",
        "client": "127.0.0.1",
        "body": "hold",
    }
    assert document["arguments"]["form"]["before"][0] == ["query", 'up{job="it\'s"}']


@pytest.mark.parametrize("dash", [(), ("-",)])
def test_a_curl_command_line_with_a_variable(run: Run, key: str, dash: tuple[str, ...]) -> None:
    stdin = '$ curl -sG -H "Authorization: Bearer $TOKEN" --data-urlencode query=up http://x/api/v1/query | jq .'
    ran = run(key, TIME, "--json", *dash, stdin=stdin, environ={"TOKEN": TOKEN})
    assert ran.code == 0
    assert ran.document["arguments"]["url"]["before"] == [["query", "up"]]


def test_a_file_that_curl_names(run: Run, key: str, tmp_path: Path) -> None:
    (tmp_path / "form").write_text("query=up\n")
    ran = run(key, TIME, "--token", TOKEN, "--json", f"curl -d @{tmp_path}/form http://x/api/v1/query")
    assert ran.document["arguments"]["form"]["before"] == [["query", "up"]]


def test_each_request_of_a_command_line(run: Run, key: str) -> None:
    stdin = "#!/bin/sh\ncurl 'http://x/api/v1/{labels,nothing}'\n"
    ran = run(key, TIME, "--token", TOKEN, "--json", stdin=stdin)
    assert [(each["request"]["path"], each["verdict"]) for each in ran.document] == [
        ("/api/v1/labels", "admitted"),
        ("/api/v1/nothing", "refused"),
    ]
    assert ran.code == 1
    text = run(key, TIME, "--token", TOKEN, stdin=stdin).out
    assert text.startswith("ADMITTED ")
    assert "\n\n\nREFUSED " in text


def test_a_body_from_standard_input(run: Run, key: str) -> None:
    ran = run(key, TIME, "--token", TOKEN, "--json", "curl -d @- http://x/api/v1/query", stdin="query=up")
    assert ran.document["arguments"]["form"]["before"] == [["query", "up"]]


# --- input that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "stdin", "reason"),
    [
        (["QUERY up"], "", "expected a request such as"),
        ([], "", "expected a request such as"),
        ([], "wget http://x/", "expected a request such as"),
        ([], "curl -F a=b http://x/", "curl: multipart forms"),
        ([], "curl 'http://x/", "curl: a single quote is not closed"),
        ([], 'curl ^"http://x/^" ^\n -H ^"A: b^"', "cmd.exe"),
        ([], "curl -d @/nowhere http://x/", "curl: cannot read /nowhere: No such file"),
        ([], "curl -d @- http://x/", "curl: standard input is the command line itself"),
        ([], 'curl.exe ^"http://x/^" ^\r\n -H ^"A: b^"', "cmd.exe"),
        ([], 'fetch("http://x/", {})', "this is code, not a request"),
        ([], "Invoke-WebRequest -Uri x", "this is code, not a request"),
        (["-H", "@/nowhere", "GET /"], "", "-H: cannot read /nowhere: No such file"),
        (["--tokken=secret", "GET /"], "", "unknown flag -tokken"),
        (["--token"], "", "--token: the value is missing"),
        (["-read.url"], "", "-read.url: the value is missing"),
        (["--token-file=/nowhere", "GET /"], "", "--token-file: cannot read /nowhere"),
        (["--time=yesterday", "GET /"], "", "--time: expected Unix seconds"),
        (["--time=inf", "GET /"], "", "--time: expected Unix seconds"),
        (["-auth.publicKeyFiles=/nowhere", "GET /"], "", "-auth.publicKeyFiles: cannot read"),
        (["--jwks-file=/nowhere", "GET /"], "", "--jwks-file: cannot read"),
        (["-H", "no colon", "GET /"], "", "-H: the header has no colon"),
        (["-auth.jwksEndpoints=http://127.0.0.1:1/keys", "GET /"], "", "-auth.jwksEndpoints[0]: cannot fetch keys"),
    ],
)
def test_bad_input(run: Run, arguments: list[str], stdin: str, reason: str) -> None:
    ran = run(*arguments, stdin=stdin)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("vmgateway explain: ")
    assert reason in ran.err
    assert "secret" not in ran.err


def test_a_jwks_file(run: Run, tmp_path: Path) -> None:
    good, bad, other = tmp_path / "good", tmp_path / "bad", tmp_path / "other"
    good.write_bytes(keys.jwks(keys.jwk(keys.ec_key(), kid="first")))
    bad.write_bytes(keys.jwks({"kty": "oct"}))
    other.write_bytes(b"[]")
    endpoint = "-auth.jwksEndpoints=http://127.0.0.1:1/keys"  # which is not asked
    ran = run(endpoint, f"--jwks-file={good}", TIME, "--token", TOKEN, "--json", "GET /api/v1/query")
    assert ran.code == 0
    assert ran.document["token"]["key"]["kid"] == "first"
    assert "no usable key: keys[0]" in run(f"--jwks-file={bad}", "GET /").err
    assert run(f"--jwks-file={other}", "GET /").code == 2


# --- help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--help", "-help", "-h"])
def test_help(run: Run, option: str) -> None:
    assert run(option).out == explain.HELP


def test_the_help_of_the_gateway_names_the_sub_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["-help"], {}) == 0
    text = capsys.readouterr().out
    assert "\n  vmgateway explain  " in text
    assert "\n  vmgateway token    " in text
