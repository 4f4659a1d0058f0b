"""The gateway in mitmproxy's own programs: the mode, the address, ``config.yaml``, typing errors, the first moments."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.wire.client import Client
from tests.support.wire.processes import free_port
from tests.support.wire.programs import Mitmdump, opened, options, run_until_end
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.waiting import HANGS

QUERY = "/api/v1/query?query=up"
IMPORT = "/api/v1/import/prometheus"


@pytest.fixture
def keys(key_file: Path) -> list[str]:
    return options(enable_auth=True, auth_public_key_files=key_file)


@pytest.fixture
def other() -> Iterator[RecordingUpstream]:
    with RecordingUpstream() as server:
        yield server


@pytest.fixture
def token(key: SigningKey) -> str:
    return key.mint(team("dev"))


def received(upstream: RecordingUpstream) -> list[tuple[str, str, list[str]]]:
    return [(request.method, request.path, request.argument("extra_label")) for request in upstream.requests]


def listeners(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


# --- the mode and the address ---------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("address", ["{}", "127.0.0.1:{}"])
def test_the_mode_alone_gives_backend_and_address(
    upstream: RecordingUpstream, keys: list[str], token: str, address: str
) -> None:
    port = free_port()
    with Mitmdump("--mode", f"reverse:{upstream.url}@{address.format(port)}", *keys, port=port) as gateway:
        assert gateway.client(token).get(f"{QUERY}&extra_label=team=ops").status == 200
        assert gateway.client(token).post(IMPORT, body=b"a 1\n").status == 200
        assert gateway.client().get(QUERY).status == 401
    assert received(upstream) == [("GET", "/api/v1/query", ["team=dev"]), ("POST", IMPORT, ["team=dev"])]


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost"])
def test_listen_host_and_port(upstream: RecordingUpstream, keys: list[str], token: str, host: str) -> None:
    port = free_port()
    arguments = ["--mode", f"reverse:{upstream.url}", "--listen-port", str(port)]
    if host:
        arguments += ["--listen-host", host]
    with Mitmdump(*arguments, *keys, port=port) as gateway:
        assert gateway.client(token).get(QUERY).status == 200
        assert gateway.wait_for_log(f"listens on {host or '0.0.0.0'}:{port}, flow lane")
    assert received(upstream) == [("GET", "/api/v1/query", ["team=dev"])]


def test_the_mode_gives_only_the_url_that_is_missing(
    upstream: RecordingUpstream, other: RecordingUpstream, keys: list[str], token: str
) -> None:
    port = free_port()
    given = options(read_url=other.url, http_listen_addr=f":{port}")
    with Mitmdump("--mode", f"reverse:{upstream.url}@{port}", *given, *keys, port=port) as gateway:
        assert gateway.client(token).get(QUERY).status == 200
        assert gateway.client(token).post(IMPORT, body=b"a 1\n").status == 200
    assert received(other) == [("GET", "/api/v1/query", ["team=dev"])]
    assert received(upstream) == [("POST", IMPORT, ["team=dev"])]


def test_config_yaml_is_like_set(upstream: RecordingUpstream, key_file: Path, token: str) -> None:
    port = free_port()
    config = f"""
mode: ["reverse:{upstream.url}@{port}"]
flow_detail: 0
vmgw_enable_auth: true
vmgw_auth_public_key_files: {key_file}
vmgw_http_max_headers: 20
vmgw_http_idle_conn_timeout: 30
vmgw_max_form_size: 100
"""
    with Mitmdump(port=port, config=config) as gateway:
        client = gateway.client(token)
        assert client.get(QUERY).status == 200
        assert client.get(QUERY, headers={f"X-{number}": "a" for number in range(30)}).status == 431
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert client.post("/api/v1/query", body=b"query=" + b"a" * 100, headers=form).status == 413
    assert received(upstream) == [("GET", "/api/v1/query", ["team=dev"])]


# --- contradictions and typing errors -------------------------------------------------------------------------------

REVERSE = ("--mode", "reverse:http://127.0.0.1:9@{port}")
WRONG = [
    (["--mode", "regular@{port}"], '--mode: expected reverse:http://host:port, got "regular@{port}"'),
    (["--mode", "socks5@{port}"], '--mode: expected reverse:http://host:port, got "socks5@{port}"'),
    (["--mode", "upstream:http://a:1@{port}"], "--mode: expected reverse:http://host:port"),
    (["--mode", "reverse:tcp://127.0.0.1:9@{port}"], "--mode: expected reverse:http://host:port"),
    ([*REVERSE, "--mode", "reverse:http://127.0.0.1:9@{other}"], "--mode: the gateway needs one mode, got 2"),
    ([*REVERSE, "--listen-port", "{other}"], "--mode and --listen-port name different addresses: {port}, {other}"),
    (
        ["--mode", "reverse:http://127.0.0.1:9@127.0.0.1:{port}", "--listen-host", "127.0.0.2"],
        "--mode and --listen-host name different addresses: 127.0.0.1, 127.0.0.2",
    ),
    (
        [*REVERSE, *options(http_listen_addr=":{other}")],
        "-httpListenAddr=:{other} and mitmproxy's :{port} are different addresses: remove one",
    ),
    (
        ["--listen-port", "{port}", *options(http_listen_addr=":8431", read_url="http://127.0.0.1:9")],
        "-httpListenAddr=:8431 and mitmproxy's :{port} are different addresses: remove one",
    ),
    (
        [*REVERSE, *options(read_url="http://a:1", write_url="http://b:1")],
        "--mode names the backend http://127.0.0.1:9, but -read.url and -write.url name others: remove one",
    ),
    (["--listen-port", "{port}"], "set -read.url or -write.url: there is no backend"),
    ([*REVERSE, *options(enable_auht=True)], "unknown option vmgw_enable_auht: did you mean vmgw_enable_auth?"),
    ([*REVERSE, "--set", "VMGW_TLS=true"], "unknown option VMGW_TLS: did you mean vmgw_tls?"),
    ([*REVERSE, "--set", "vmwg_mtls_ca_file=a"], "unknown option vmwg_mtls_ca_file: did you mean vmgw_mtls_ca_file?"),
    ([*REVERSE, "--set", "tls_cert_file=a"], "unknown option tls_cert_file: did you mean vmgw_tls_cert_file?"),
    ([*REVERSE, "--set", "tlsCertFile=a"], "unknown option tlsCertFile: did you mean vmgw_tls_cert_file?"),
    ([*REVERSE, *options(mtls="maybe")], "flag -mtls (option vmgw_mtls): expected true or false"),
    ([*REVERSE, *options(http_max_headers="many")], "flag -http.maxHeaders (option vmgw_http_max_headers): expected"),
    ([*REVERSE, "--set", "vmgw_max_form_size"], "option vmgw_max_form_size): the value (size) is missing"),
    ([*REVERSE, *options(lane="fast"), *options(lane="flow")], "option vmgw_lane): it is given more than once"),
    ([*REVERSE, *options(lane="slow")], '-lane: expected auto, fast or flow, got "slow"'),
    ([*REVERSE, *options(workers=2)], "-workers: only the command vmgateway has it"),
    ([*REVERSE, *options(mtls=True)], "-mtls has no effect without -tls"),
    ([*REVERSE, *options(tls=True, tls_cert_file="/none", tls_key_file="/none")], "-tlsCertFile"),
    ([*REVERSE, *options(pushmetrics_url="nonsense")], "-pushmetrics.url"),
    ([*REVERSE, *options(lane="fast")], "-lane=fast: mitmdump shows flows"),
    ([*REVERSE, *options(lane="fast"), "-q", "-w", "flows"], "-lane=fast: -w saves flows"),
    ([*REVERSE, *options(auth_audience="")], "flag -auth.audience: the value is empty"),
    ([*REVERSE, "--set", "vmgw_auth_issuer"], "flag -auth.issuer: the value is empty"),
    ([*REVERSE, *options(flags_auth_key="")], "flag -flagsAuthKey: the value is empty"),
]


def check_refused(program: str, arguments: list[str], expected: str, directory: Path, config: str = "") -> None:
    port, other = free_port(), free_port()
    filled = [argument.replace("{port}", str(port)).replace("{other}", str(other)) for argument in arguments]
    ended = run_until_end(program, *filled, directory=directory, config=config)
    expected = expected.replace("{port}", str(port)).replace("{other}", str(other))
    assert (ended.code, len(ended.lines)) == (2, 1), ended
    assert ended.lines[0].startswith("vmgateway: ")
    assert expected in ended.lines[0]
    assert not listeners(port)


@pytest.mark.parametrize(("arguments", "expected"), WRONG, ids=[expected[:50] for _, expected in WRONG])
def test_what_cannot_be_is_one_line_and_exit_code_2(
    arguments: list[str], expected: str, keys: list[str], tmp_path: Path
) -> None:
    check_refused("mitmdump", [*keys, *arguments], expected, tmp_path)


@pytest.mark.smoke
@pytest.mark.parametrize("program", ["mitmdump", "mitmweb", "mitmproxy"])
@pytest.mark.parametrize("number", [0, 11, 16])
def test_every_program_says_so(program: str, number: int, keys: list[str], tmp_path: Path) -> None:
    arguments, expected = WRONG[number]
    check_refused(program, [*keys, *arguments], expected, tmp_path)


@pytest.mark.parametrize("program", ["mitmdump", "mitmweb", "mitmproxy"])
def test_a_lane_that_is_not_possible(program: str, keys: list[str], tmp_path: Path) -> None:
    """It is found when all scripts are loaded, when mitmproxy has its screen already."""
    reason = "mitmdump shows flows" if program == "mitmdump" else "mitmproxy and mitmweb show flows"
    ended = run_until_end(program, *keys, *options(lane="fast", read_url="http://127.0.0.1:9"), directory=tmp_path)
    assert ended.code == 2
    assert [line for line in ended.lines if line.startswith("vmgateway: ")] == [
        next(line for line in ended.lines if f"vmgateway: -lane=fast: {reason}" in line)
    ]


def test_without_any_option_nothing_listens(tmp_path: Path) -> None:
    port = free_port()
    ended = run_until_end("mitmdump", "--listen-port", str(port), directory=tmp_path)
    expected = "vmgateway: set at least vmgw_enable_auth, and vmgw_read_url or --mode reverse:URL"
    assert (ended.code, ended.lines) == (2, [expected])


WRONG_TYPES = [
    ("vmgw_enable_auth: sure", "flag -enable.auth (option vmgw_enable_auth): expected true or false"),
    ("vmgw_enable_auth: 1", "expected true or false, got a value of type int"),
    ("vmgw_read_url: 5", "expected a list of strings, got a value of type int"),
    ("vmgw_read_url: [5]", "expected a list of strings, one is of type int"),
    ("vmgw_http_max_headers: many", "expected an integer such as 10"),
    ("vmgw_http_max_headers: true", "expected an integer such as 10, got a value of type bool"),
    ("vmgw_http_max_headers:", "expected an integer such as 10, got a value of type NoneType"),
    ("vmgw_http_auth_password: 0123", "expected a string, got a value of type int"),
    ("vmgw_no_such_flag: 1", "unknown option vmgw_no_such_flag"),
    ("vmgw_enable_auth: true\nvmgw_auth_audience: []", "flag -auth.audience: the value is empty"),
    ('vmgw_auth_audience: ""', "flag -auth.audience: the value is empty"),
]


@pytest.mark.parametrize(("line", "expected"), WRONG_TYPES)
def test_wrong_types_in_config_yaml(line: str, expected: str, tmp_path: Path) -> None:
    check_refused("mitmdump", list(REVERSE), expected, tmp_path, config=line + "\n")


def test_no_secret_is_shown(tmp_path: Path) -> None:
    lines = "vmgw_datasource_bearer_token: [tellnobody]\n"
    check_refused("mitmdump", list(REVERSE), "option vmgw_datasource_bearer_token): expected a string", tmp_path, lines)
    assert "tellnobody" not in (tmp_path / "errors").read_text()


def test_dry_run(keys: list[str], tmp_path: Path) -> None:
    ended = run_until_end("mitmdump", *keys, *options(read_url="http://a:1", dry_run=True), directory=tmp_path)
    assert (ended.code, ended.lines) == (0, ["the configuration is valid"])


# --- the first moments ----------------------------------------------------------------------------------------------


class Watched(Mitmdump):
    """Is connected to from the first moment on. ``seen`` has each change in what a health check sees."""

    def is_ready(self) -> bool:
        if not hasattr(self, "seen"):
            self.seen: list[str] = []
        look = health(self.port)
        if not self.seen or self.seen[-1] != look:
            self.seen.append(look)
        return look == "200"


def health(port: int) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=HANGS) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return sock.recv(100).decode()[9:12] or "closed"
    except ConnectionRefusedError:
        return "refused"


@pytest.mark.smoke
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("address", ["{}", "127.0.0.1:{}", "localhost:{}"])
def test_whoever_connects_first_meets_the_gateway(keys: list[str], address: str, scheme: str) -> None:
    port = free_port()
    mode = f"reverse:{scheme}://127.0.0.1:9@{address.format(port)}"
    with Watched("--mode", mode, *keys, port=port) as gateway:
        assert gateway.seen in (["refused", "200"], ["200"])
        for _ in range(50):
            assert health(port) == "200"
        assert not listens_on_udp(port)
        assert opened(gateway.pid) == [port]


def test_mitmproxys_own_port_stays_closed(upstream: RecordingUpstream, keys: list[str]) -> None:
    port = free_port()
    given = options(read_url=upstream.url, http_listen_addr=f"127.0.0.1:{port}")
    with Watched(*given, *keys, port=port) as gateway:
        assert gateway.seen in (["refused", "200"], ["200"])
        assert opened(gateway.pid) == [port]
        assert ":8080" not in gateway.log()


def listens_on_udp(port: int) -> bool:
    rows = Path("/proc/net/udp").read_text() + Path("/proc/net/udp6").read_text()
    return f":{port:04X} " in rows


# --- the lane -------------------------------------------------------------------------------------------------------

HOOKS = "def response(flow):\n    flow.comment = 'seen'\n"
NO_HOOKS = "def running():\n    pass\n"
OF_MITMPROXY = "from mitmproxy.addons.intercept import Intercept\naddons = [Intercept()]\n"
LANES = [
    (["--set", "flow_detail=0"], "", "fast lane"),
    (["--set", "flow_detail=0"], NO_HOOKS, "fast lane"),
    (["--set", "flow_detail=0", *options(lane="fast")], "", "fast lane"),
    (["--set", "flow_detail=0", *options(lane="flow")], "", "flow lane"),
    ([], "", r"flow lane \(mitmdump shows flows; -q or flow_detail=0 makes it fast\)"),
    (["--set", "flow_detail=0", "-w", "flows"], "", r"flow lane \(-w saves flows\)"),
    (["--set", "flow_detail=0", "--set", "hardump=a.har"], "", r"flow lane \(hardump saves flows\)"),
    (["--set", "flow_detail=0", *options(capture_file="c")], "", "fast lane"),
    (["--set", "flow_detail=0", "--set", "block_list=/~u nowhere/403"], "", r"flow lane \(block_list blocks flows\)"),
    (["--set", "flow_detail=0"], HOOKS, r"flow lane \(the addon own has the hook response\)"),
    (
        ["--set", "flow_detail=0"],
        OF_MITMPROXY,
        r"flow lane \(the addon mitmproxy\.addons\.intercept\.Intercept has the hook dns_request\)",
    ),
]


@pytest.mark.parametrize(("arguments", "script", "lane"), LANES)
def test_the_log_says_which_lane_and_why(
    upstream: RecordingUpstream,
    keys: list[str],
    token: str,
    tmp_path: Path,
    arguments: list[str],
    script: str,
    lane: str,
) -> None:
    port = free_port()
    own = tmp_path / "own.py"
    own.write_text(script)
    mode = f"reverse:{upstream.url}@127.0.0.1:{port}"
    with Mitmdump("--mode", mode, *keys, *arguments, port=port, after=[own] if script else []) as gateway:
        gateway.wait_for_log(rf"vmgateway \S+ listens on 127.0.0.1:{port}, {lane}\n")
        assert gateway.client(token).get(QUERY).status == 200
        assert gateway.client(token).post(IMPORT, body=b"a 1\n" * 100_000).status == 200
        assert gateway.client(token).get("/api/v1/admin/nonsense").status == 404
    assert [request.argument("extra_label") for request in upstream.requests] == [["team=dev"]] * 2
    assert upstream.requests[1].body_size == 400_000


def test_quiet_is_fast(upstream: RecordingUpstream, keys: list[str], token: str) -> None:
    """A quiet mitmdump logs nothing, so what it is shows in its metrics: flows would be counted nowhere."""
    port = free_port()
    with ExitStack() as stack:
        mode = f"reverse:{upstream.url}@127.0.0.1:{port}"
        gateway = stack.enter_context(Mitmdump("-q", "--mode", mode, *keys, *options(lane="fast"), port=port))
        assert Client(port, token=token).get(QUERY).status == 200
        assert gateway.log() == ""
    assert received(upstream) == [("GET", "/api/v1/query", ["team=dev"])]


def test_config_yaml_wins_over_set(upstream: RecordingUpstream, keys: list[str], token: str) -> None:
    """So it is with mitmproxy's own options."""
    port = free_port()
    mode = f"reverse:{upstream.url}@127.0.0.1:{port}"
    config = "vmgw_http_max_headers: 20\n"
    with Mitmdump("--mode", mode, *keys, *options(http_max_headers=50), port=port, config=config) as gateway:
        assert gateway.client(token).get(QUERY, headers={f"X-{number}": "a" for number in range(30)}).status == 431
        assert gateway.client(token).get(QUERY).status == 200
