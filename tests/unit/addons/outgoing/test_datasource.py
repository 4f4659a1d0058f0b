"""What the datasource receives: each ``-datasource.*`` flag has an effect there."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.addons.datasources import NOW, datasource, settings
from tests.support.each import each
from tests.support.wire.certificates import Authority
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from vmgw_addons.outgoing import RequestFailed
from vmgw_addons.outgoing.datasource import build_datasource
from vmgw_core.configuration import parse
from vmgw_core.errors import ConfigurationError

ASKED = b"query=up%7B%7D+or+vm"
Ask = Callable[..., ReceivedRequest]


@pytest.fixture
def ask(upstream: RecordingUpstream) -> Ask:
    """One query with these flags (without ``-datasource.``), and how it arrived."""

    def asked(*flags: str, url: str = "", more: tuple[str, ...] = ()) -> ReceivedRequest:
        given = [f"-datasource.url={url or upstream.url}", *(f"-datasource.{flag}" for flag in flags), *more]
        built = build_datasource(settings(*given))
        assert built is not None
        assert built.query("up{} or vm", NOW) == b'{"status":"success"}'
        return upstream.requests[-1]

    return asked


# --- the question --------------------------------------------------------------------------------------------------


def test_the_query_of_the_defaults(ask: Ask) -> None:
    request = ask()
    assert (request.method, request.path, request.body) == ("POST", "/api/v1/query", ASKED)
    # The time is aligned to -ratelimit.refreshInterval, 5 seconds.
    assert request.arguments == [("step", "300s"), ("nocache", "1"), ("time", "1700000000.000")]
    assert request.header("Content-Type") == ["application/x-www-form-urlencoded"]
    assert request.header("Authorization") == []


@pytest.mark.parametrize(
    ("flags", "name", "values"),
    [
        pytest.param(["lookback=1m"], "time", ["1699999940.000"], id="lookback"),
        pytest.param(["queryTimeAlignment=false"], "time", ["1700000003.250"], id="alignment"),
        pytest.param(["queryTimeAlignment=false", "lookback=1m"], "time", ["1699999943.250"], id="lookback, unaligned"),
        pytest.param(["queryStep=15s"], "step", ["15s"], id="step"),
        pytest.param(["queryStep=0"], "step", ["5s"], id="the refresh interval as step"),
        pytest.param(["queryStep=100ms"], "step", ["1s"], id="the smallest step"),
        pytest.param(["disableStepParam"], "step", [], id="no step"),
        pytest.param(["roundDigits=3"], "round_digits", ["3"], id="digits"),
        pytest.param([], "round_digits", [], id="no digits"),
    ],
)
def test_arguments(ask: Ask, flags: list[str], name: str, values: list[str]) -> None:
    assert ask(*flags).argument(name) == values


def test_the_time_is_aligned_to_the_refresh_interval(ask: Ask) -> None:
    request = ask("queryStep=0", more=("-ratelimit.refreshInterval=2s",))
    assert (request.argument("time"), request.argument("step")) == (["1700000002.000"], ["2s"])


@pytest.mark.parametrize(
    ("base", "flags", "target"),
    [
        pytest.param("", [], "/api/v1/query", id="plain"),
        pytest.param("/", [], "/api/v1/query", id="a slash"),
        pytest.param("/select/0", ["-datasource.appendTypePrefix"], "/select/0/prometheus/api/v1/query", id="prefix"),
        pytest.param("/q", ["-remoteRead.disablePathAppend"], "/q", id="no path"),
        pytest.param("", ["-remoteRead.disablePathAppend"], "/", id="no path at all"),
        pytest.param(
            "/p", ["-remoteRead.disablePathAppend", "-datasource.appendTypePrefix"], "/p/prometheus", id="prefix alone"
        ),
    ],
)
def test_paths(ask: Ask, upstream: RecordingUpstream, base: str, flags: list[str], target: str) -> None:
    assert ask(url=upstream.url + base, more=tuple(flags)).path == target


def test_arguments_of_the_url_are_kept_and_do_not_replace_ours(ask: Ask, upstream: RecordingUpstream) -> None:
    request = ask(url=f"{upstream.url}/?extra_label=a%3Db&step=1h")
    assert request.argument("extra_label") == ["a=b"]
    assert request.argument("step") == ["300s"]


def test_headers(ask: Ask) -> None:
    request = ask("headers=My-Auth: foo:bar ^^X-Scope-OrgID:7^^Host:metrics.example")
    assert request.header("My-Auth") == ["foo:bar"]
    assert request.header("X-Scope-OrgID") == ["7"]
    assert request.header("Host") == ["metrics.example"]


# --- credentials ---------------------------------------------------------------------------------------------------


def basic(user: str, password: str) -> list[str]:
    return ["Basic " + b64encode(f"{user}:{password}".encode()).decode()]


def test_basic_auth(ask: Ask) -> None:
    request = ask("basicAuth.username=bär", "basicAuth.password=p:w")
    assert request.header("Authorization") == basic("bär", "p:w")


def test_credentials_of_the_url(ask: Ask, upstream: RecordingUpstream) -> None:
    url = upstream.url.replace("//", "//u%40x:p%3Aw@")
    assert ask(url=url).header("Authorization") == basic("u@x", "p:w")
    assert ask("bearerToken=t", url=url).header("Authorization") == ["Bearer t"], "a flag goes before them"


def test_a_bearer_token(ask: Ask) -> None:
    assert ask("bearerToken=t.o-k").header("Authorization") == ["Bearer t.o-k"]
    assert ask("headers=authorization: Custom x").header("Authorization") == ["Custom x"]


def test_secrets_in_files_are_read_again_when_they_change(upstream: RecordingUpstream, tmp_path: Path) -> None:
    user, password, token = (tmp_path / name for name in ("user", "password", "token"))
    user.write_text("a\n")
    password.write_text("b \n")
    token.write_text("t")
    by_password = datasource(upstream.url, f"basicAuth.usernameFile={user}", f"basicAuth.passwordFile={password}")
    by_token = datasource(upstream.url, f"bearerTokenFile={token}")
    by_password.query("up", NOW)
    by_token.query("up", NOW)
    assert [each.header("Authorization") for each in upstream.requests] == [basic("a", "b"), ["Bearer t"]]
    user.write_text("c")
    password.write_text("d")
    token.write_text("u\n")
    by_password.query("up", NOW)
    by_token.query("up", NOW)
    assert [each.header("Authorization") for each in upstream.requests[2:]] == [basic("c", "d"), ["Bearer u"]]
    token.unlink()
    with pytest.raises(RequestFailed, match=r"-datasource.bearerTokenFile: cannot read .*token: No such file"):
        by_token.query("up", NOW)
    assert len(upstream.requests) == 4
    token.write_text("two\nlines")
    with pytest.raises(RequestFailed, match="more than one line"):
        by_token.query("up", NOW)


def test_nothing_is_taken_from_netrc(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert ask().header("Authorization") == []


# --- connections ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "connections"),
    [
        pytest.param([], 1, id="kept"),
        pytest.param(["disableKeepAlive"], 2, id="not kept"),
        pytest.param(["maxIdleConnections=0"], 2, id="none may be idle"),
        pytest.param(["maxIdleConnections=1"], 1, id="one may be idle"),
    ],
)
def test_connections(upstream: RecordingUpstream, flags: list[str], connections: int) -> None:
    source = datasource(upstream.url, *flags)
    source.query("up", NOW)
    source.query("up", NOW)
    assert len({request.connection for request in upstream.requests}) == connections
    closed = [] if connections == 1 else ["close"]
    assert all([v for v in request.header("Connection") if v == "close"] == closed for request in upstream.requests)


@pytest.fixture
def secure(authority: Authority, tmp_path: Path) -> Iterator[RecordingUpstream]:
    """With a certificate for datasource.example and 127.0.0.1, and asking for one of the same authority."""
    context = authority.server_context(authority.issue("datasource.example"), clients=authority)
    with RecordingUpstream(tls=context) as server:
        yield server


def test_tls(secure: RecordingUpstream, authority: Authority) -> None:
    client = authority.issue("gateway.example")
    mine = (f"tlsCertFile={client.cert}", f"tlsKeyFile={client.key}")
    datasource(secure.url, f"tlsCAFile={authority.cert}", *mine).query("up", NOW)
    (connection,) = secure.connections
    assert connection.tls_client_certificate is not None
    assert connection.tls_server_name is None, "an address is not sent"
    datasource(secure.url, f"tlsCAFile={authority.cert}", "tlsServerName=datasource.example", *mine).query("up", NOW)
    assert secure.connections[-1].tls_server_name == "datasource.example"
    datasource(secure.url, "tlsInsecureSkipVerify", *mine).query("up", NOW)
    assert len(secure.requests) == 3


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        pytest.param([], "self-signed certificate in certificate chain", id="authority"),
        pytest.param(
            ["tlsServerName=other.example", "ca"],
            "Hostname mismatch, certificate is not valid for 'other.example'",
            id="name",
        ),
    ],
)
def test_a_certificate_that_does_not_verify(
    secure: RecordingUpstream, authority: Authority, flags: list[str], reason: str
) -> None:
    given = [f"tlsCAFile={authority.cert}" if flag == "ca" else flag for flag in flags]
    with pytest.raises(RequestFailed) as caught:
        datasource(secure.url, *given).query("up", NOW)
    assert str(caught.value) == f"-datasource.url: certificate verify failed: {reason}"
    assert secure.requests == []


def test_tls_files_are_read_again_when_they_change(
    secure: RecordingUpstream, authority: Authority, tmp_path: Path
) -> None:
    mine = authority.issue("gateway.example")
    ca = tmp_path / "ca.pem"
    other = tmp_path / "other"
    other.mkdir()
    ca.write_bytes(Authority(other, "other").cert.read_bytes())
    flags = (f"tlsCAFile={ca}", f"tlsCertFile={mine.cert}", f"tlsKeyFile={mine.key}")
    source = datasource(secure.url, *flags)
    with pytest.raises(RequestFailed):
        source.query("up", NOW)
    ca.write_bytes(authority.cert.read_bytes() + b"\n")
    source.query("up", NOW)
    ca.write_bytes(b"rubbish")
    with pytest.raises(RequestFailed, match=r"-datasource\.tlsCAFile: cannot use"):
        source.query("up", NOW)
    assert len(secure.requests) == 1


# --- what comes back -----------------------------------------------------------------------------------------------


def failure(reply: Reply, *flags: str) -> str:
    with RecordingUpstream(lambda _: reply) as server:
        source = datasource(server.url.replace("//", "//user:hunter2@") + "/?authKey=s3cret", *flags)
        with pytest.raises(RequestFailed) as caught:
            source.query("up", NOW)
        return str(caught.value).replace(str(server.port), "PORT")


def test_urls_are_hidden_unless_they_are_to_be_shown() -> None:
    reply = Reply(status=422, body=b'{"error":"cannot parse /?authKey=s3cret"}')
    assert failure(reply) == "-datasource.url: status 422"
    assert failure(reply, "showURL") == (
        "-datasource.url http://user:hunter2@127.0.0.1:PORT/?authKey=s3cret: status 422: "
        """'{"error":"cannot parse /?authKey=s3cret"}'"""
    )


def test_a_redirect_is_not_followed(upstream: RecordingUpstream) -> None:
    reply = Reply(status=307, headers=(("Location", f"{upstream.url}/api/v1/query"),), body=b"")
    assert failure(reply) == "-datasource.url: status 307"
    assert upstream.connections == []


def test_an_answer_is_bounded_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmgw_addons.outgoing.http.MAX_RESPONSE", 1 << 20)
    assert (
        failure(Reply(body=(b"x" * 65536 for _ in range(17)))) == "-datasource.url: the response is larger than 1 MiB"
    )


def test_an_answer_is_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmgw_addons.outgoing.http.DEADLINE", 0.2)

    def trickle() -> Iterator[bytes]:
        pause = threading.Event()
        for _ in range(500):
            pause.wait(0.02)
            yield b"x"

    assert failure(Reply(body=trickle())) == "-datasource.url: no response within 0.2 seconds"


def test_a_datasource_that_is_down() -> None:
    with RecordingUpstream() as server:
        source = datasource(server.url)
    with pytest.raises(RequestFailed, match=r"^-datasource.url: Connection refused$"):
        source.query("up", NOW)


# --- what is refused at the start ----------------------------------------------------------------------------------


@each(
    ("flags", "reason"),
    [
        pytest.param(["url=vm:8428"], "-datasource.url: expected a URL", id="no URL"),
        pytest.param(["headers=x"], "-datasource.headers: header 1", id="a header without a value"),
        pytest.param(["headers=a:b^^c d:secret"], "-datasource.headers: header 2", id="a name with a blank"),
        pytest.param(["headers=a:se\ncret"], "-datasource.headers: header 1", id="a line break"),
        pytest.param(["headers=Content-Length:1"], "Content-Length cannot be set", id="a header of ours"),
        pytest.param(["basicAuth.username=a", "bearerToken=secret"], "set only one of", id="two kinds"),
        pytest.param(["bearerToken=secret", "bearerTokenFile=/dev/null"], "set one of them", id="twice"),
        pytest.param(["bearerTokenFile=/missing"], "cannot read /missing: No such file", id="no file"),
        pytest.param(["headers=a:b", "-ratelimit.extraLabels=a"], "extraLabels: expected name=value", id="no label"),
        pytest.param(["tlsCAFile=/missing"], "-datasource.tlsCAFile: cannot read /missing", id="no CA"),
        pytest.param(["tlsCertFile=/dev/null"], "set both or none", id="no key"),
        pytest.param(["tlsCertFile=/dev/null", "tlsKeyFile=/dev/null"], "tlsKeyFile: cannot use", id="no PEM"),
        pytest.param(["oauth2.clientID=a", "oauth2.tokenUrl=http://x/"], "clientSecret", id="no client secret"),
        pytest.param(
            ["oauth2.clientID=a", "oauth2.clientSecret=secret"], "tokenUrl: expected a URL", id="no token URL"
        ),
        pytest.param(
            [
                "oauth2.clientID=a",
                "oauth2.clientSecret=secret",
                "oauth2.tokenUrl=http://x",
                "oauth2.endpointParams=[1]",
            ],
            "endpointParams: expected a JSON object",
            id="no object",
        ),
    ],
)
def test_a_configuration_is_refused(flags: list[str], reason: str) -> None:
    given = flags if flags[0].startswith("url=") else ["url=https://vm:8428", *flags]
    with pytest.raises(ConfigurationError, match=reason) as caught:
        build_datasource(settings(*(flag if flag[0] == "-" else f"-datasource.{flag}" for flag in given)))
    assert "secret" not in str(caught.value).replace("clientSecret", "")


def test_without_a_url_there_is_none() -> None:
    assert build_datasource(settings()) is None
    assert build_datasource(parse(["-datasource.url=http://vm"], {}).settings) is None, "nothing is limited"


def test_a_datasource_stays_as_it_is_unless_its_flags_change() -> None:
    before = settings("-datasource.url=http://vm")
    first = build_datasource(before)
    assert build_datasource(settings("-datasource.url=http://vm", "-clusterMode"), before, first) is first
    for more in ("-ratelimit.refreshInterval=1s", "-ratelimit.extraLabels=a=b", "-datasource.lookback=1s"):
        assert build_datasource(settings("-datasource.url=http://vm", more), before, first) is not first
