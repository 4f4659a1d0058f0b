"""``-auth.credentialsFile``: API keys and Basic users, and what attackers may try with them."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.wire.certificates import Authority
from tests.support.wire.processes import Gateway, Program, run_command, vmgateway_command
from tests.support.wire.raw import RawClient
from tests.support.wire.tls import TLSGateway, needs_http2
from tests.support.wire.tokens import SPEC_READ, SigningKey, team
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS
from tests.wire.conftest import StartGateway
from vmgw_core.credentials import PasswordHash

PATH = "/api/v1/labels"
WRITE = "/api/v1/import/prometheus"
API_KEY = "vmgw_" + base64.urlsafe_b64encode(bytes(range(32))).rstrip(b"=").decode()
WRITER_KEY = "vmgw_" + "w" * 43
PASSWORD = "grün: und.süß"  # noqa: S105


def line(password: str, salt: bytes = bytes(16)) -> str:
    return str(PasswordHash.of(password.encode(), salt))


FILE = f"""
keys:
- name: reader
  sha256: {sha256(API_KEY.encode()).hexdigest()}
  grant: {{labels: {{team: web}}, mode: read}}
- name: writer
  sha256: {sha256(WRITER_KEY.encode()).hexdigest()}
  grant: {{labels: {{team: agents}}, mode: write}}
users:
- name: grafana
  password: "{line(PASSWORD)}"
  claims: {{groups: [team-ops]}}
- name: jörg
  password: "{line("secret", bytes(range(16)))}"
  grant: {{labels: {{team: joerg}}}}
"""
POLICY = """
match:
- name: teams
  when: {groups: {matches: "team-(?P<team>[a-z]+)"}}
  grant: {labels: {team: "{team}"}}
"""


@dataclass(frozen=True, slots=True)
class Files:
    credentials: Path
    policy: Path

    @property
    def flags(self) -> tuple[str, ...]:
        return "-enable.auth", f"-auth.credentialsFile={self.credentials}", f"-auth.policy={self.policy}"


def files_in(directory: Path) -> Files:
    files = Files(directory / "credentials.yaml", directory / "policy.yaml")
    files.credentials.write_text(FILE)
    files.policy.write_text(POLICY)
    return files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return files_in(tmp_path)


@pytest.fixture(scope="module", params=["fast", "flow", "mitmdump"])
def gateway(
    request: pytest.FixtureRequest, backend: RecordingUpstream, key_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    program: Program = "mitmdump" if request.param == "mitmdump" else "vmgateway"
    lane = () if program == "mitmdump" else (f"-lane={request.param}",)
    files = files_in(tmp_path_factory.mktemp("credentials"))
    urls = (f"-read.url={backend.url}", f"-write.url={backend.url}", f"-auth.publicKeyFiles={key_file}")
    headers = "-auth.httpHeader=Authorization,X-API-Key"
    with Gateway(*files.flags, *urls, headers, "-accessLog", *lane, program=program) as gateway:
        yield gateway


def basic(user: str | bytes, password: str | bytes) -> dict[str, str]:
    user, password = (part.encode() if isinstance(part, str) else part for part in (user, password))
    return {"Authorization": "Basic " + base64.b64encode(user + b":" + password).decode()}


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("headers", "team_of"),
    [
        (bearer(API_KEY), "web"),
        ({"Authorization": f"Token {API_KEY}"}, "web"),
        ({"X-API-Key": API_KEY}, "web"),
        ({"X-API-Key": API_KEY, **bearer(API_KEY)}, "web"),
        (basic("grafana", PASSWORD), "ops"),
        (basic("jörg", "secret"), "joerg"),
    ],
)
def test_a_credential_gives_what_the_file_says(
    gateway: Gateway, backend: RecordingUpstream, headers: dict[str, str], team_of: str
) -> None:
    backend.forget()
    for _ in range(2):
        assert gateway.client().get(PATH, headers=headers).status == 200
        received = backend.requests[-1]
        assert received.argument("extra_label") == [f"team={team_of}"]
        assert received.header("Authorization") == received.header("X-API-Key") == []
    assert len(backend.requests) == 2


def test_the_mode_holds(gateway: Gateway, backend: RecordingUpstream) -> None:
    backend.forget()
    assert gateway.client().post(WRITE, body="m 1\n", headers=bearer(API_KEY)).status == 403
    assert gateway.client().get(PATH, headers=bearer(WRITER_KEY)).status == 403
    assert backend.requests == []
    assert gateway.client().post(WRITE, body="m 1\n", headers=bearer(WRITER_KEY)).status == 200
    assert backend.requests[-1].argument("extra_label") == ["team=agents"]


def test_tokens_are_as_before(gateway: Gateway, backend: RecordingUpstream, key: SigningKey) -> None:
    token = key.mint(team("dev"))
    for headers in (bearer(token), basic("anybody", token)):
        assert gateway.client().get(PATH, headers=headers).status == 200
        assert backend.requests[-1].argument("extra_label") == ["team=dev"]
    assert gateway.client().get(PATH, headers=bearer(SigningKey.generate().mint())).status == 401


DIGEST = sha256(API_KEY.encode()).hexdigest()
HOSTILE: dict[str, dict[str, str]] = {
    "no credential": {},
    "another key": bearer("vmgw_" + "x" * 43),
    "a shorter key": bearer(API_KEY[:-1]),
    "a longer key": bearer(API_KEY + "A"),
    "a key in other case": bearer(API_KEY.swapcase()),
    "a key without its prefix": bearer(API_KEY[5:]),
    "a key with a blank": bearer(API_KEY[:20] + " " + API_KEY[20:]),
    "the hash of the key": bearer(DIGEST),
    "the hash as a key": bearer("vmgw_" + DIGEST[:43]),
    "the name of the key": bearer("reader"),
    "a key as a password": basic("reader", API_KEY),
    "a key as a user": basic(API_KEY, ""),
    "a key under another scheme": {"Authorization": f"Digest {API_KEY}"},
    "a key without a scheme in another header": {"X-Key": API_KEY},
    "a user as bearer": {"Authorization": "Bearer " + basic("jörg", "secret")["Authorization"][6:]},
    "a user after bearer": {"Authorization": "Bearer " + basic("jörg", "secret")["Authorization"]},
    "a user in two schemes": {"Authorization": "Basic " + basic("jörg", "secret")["Authorization"]},
    "a wrong password": basic("jörg", "Secret"),
    "a password with a line break": basic("jörg", "secret\n"),
    "a password with a NUL": basic("jörg", "secret\0"),
    "a password up to a NUL": basic("jörg", "secret\0x"),
    "the password of another": basic("jörg", PASSWORD),
    "no password": basic("jörg", ""),
    "the hash as password": basic("jörg", line("secret", bytes(range(16)))),
    "an unknown user": basic("nobody", "secret"),
    "no user": basic("", "secret"),
    "a user in Latin-1": basic("jörg".encode("latin-1"), "secret"),
    "a password in Latin-1": basic("grafana", PASSWORD.encode("latin-1")),
    "a user with a NUL": basic("jörg\0", "secret"),
    "a user with a colon": basic("jörg:secret", "secret"),
    "a user in another normal form": basic("jo\u0308rg", "secret"),
    "a long password": basic("jörg", "s" * 20_000),
    "a long user": basic("j" * 20_000, "secret"),
    "a password like a token": basic("jörg", "a.b.c"),
    "a password like an unsigned token": basic("jörg", SPEC_READ),
    "base64 without padding": {"Authorization": basic("jörg", "secret")["Authorization"].rstrip("=") + "="},
    "no base64": {"Authorization": "Basic !!!!"},
    "empty": {"Authorization": "Basic "},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_gives_nothing(gateway: Gateway, backend: RecordingUpstream, name: str) -> None:
    backend.forget()
    answer = gateway.client().get(PATH, headers=HOSTILE[name])
    assert (answer.status, answer.json()["error"]) == (401, "a valid token is needed")
    assert backend.requests == []


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (400, (("Authorization", f"Bearer {API_KEY}"), ("X-API-Key", WRITER_KEY))),
        (400, (("Authorization", basic("jörg", "secret")["Authorization"]), ("X-API-Key", API_KEY))),
        (400, (("Authorization", basic("jörg", "wrong")["Authorization"]), ("X-API-Key", API_KEY))),
        (400, (("Authorization", f"Bearer {SPEC_READ}"), ("X-API-Key", API_KEY))),
        (401, (("Authorization", f"Bearer {API_KEY}"), ("Authorization", f"Bearer {API_KEY}"))),
        (401, (("X-API-Key", API_KEY), ("x-api-key", WRITER_KEY))),
        (401, (("Authorization", basic("jörg", "secret")["Authorization"]), ("authorization", f"Bearer {API_KEY}"))),
    ],
)
def test_two_credentials_are_refused(
    gateway: Gateway, backend: RecordingUpstream, status: int, headers: tuple[tuple[str, str], ...]
) -> None:
    backend.forget()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    with RawClient(gateway.port) as client:
        client.send(f"GET {PATH} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
        assert client.receive_answer()[0] == status
    assert backend.requests == []


def test_the_log_has_the_name_and_no_secret(gateway: Gateway) -> None:
    gateway.client().get(f"{PATH}?logged=1", headers=bearer(API_KEY))
    gateway.client().get(f"{PATH}?logged=2", headers=basic("jörg", "secret"))
    gateway.wait_for_log(r"tenant=0:0 subject=reader credential=key access=read")
    gateway.wait_for_log(r"tenant=0:0 subject=\S*j\S*rg\S* credential=user access=read")
    for secret in (API_KEY, API_KEY[:20], DIGEST, "secret", basic("jörg", "secret")["Authorization"][6:], PASSWORD):
        assert secret not in gateway.log()


@pytest.fixture(params=["fast", "flow"])
def start(
    start_gateway: StartGateway, request: pytest.FixtureRequest, upstream: RecordingUpstream
) -> Callable[..., Gateway]:
    def started(*flags: str) -> Gateway:
        urls = (f"-read.url={upstream.url}", f"-write.url={upstream.url}")
        return start_gateway(*urls, f"-lane={request.param}", *flags)

    return started


def test_without_keys_no_token_is_accepted(
    start: Callable[..., Gateway], files: Files, upstream: RecordingUpstream
) -> None:
    """The quick start without keys accepts unsigned tokens: never beside credentials."""
    gateway = start(*files.flags)
    assert gateway.client(SPEC_READ).get(PATH).status == 401
    assert gateway.client(SigningKey.generate().mint()).get(PATH).status == 401
    assert upstream.requests == []
    assert gateway.client(API_KEY).get(PATH).status == 200
    assert gateway.client().post("/-/reload").status == 200
    assert gateway.client(SPEC_READ).get(PATH).status == 401


def test_many_wrong_passwords_neither_stop_others_nor_get_in(
    start: Callable[..., Gateway], files: Files, upstream: RecordingUpstream
) -> None:
    gateway = start(*files.flags)
    assert gateway.client().get(PATH, headers=basic("jörg", "secret")).status == 200
    with ThreadPoolExecutor(80) as pool:
        attempts = [
            pool.submit(lambda number=number: gateway.client().get(PATH, headers=basic("jörg", f"{number}")).status)  # type: ignore[misc]
            for number in range(80)
        ]
        # Those that are known do not wait behind them.
        for headers in (bearer(API_KEY), basic("jörg", "secret")) * 5:
            assert gateway.client().get(PATH, headers=headers).status == 200
        statuses = {each.result() for each in attempts}
    assert statuses <= {401, 429}
    assert 401 in statuses
    assert {request.argument("extra_label")[0] for request in upstream.requests} == {"team=web", "team=joerg"}
    assert gateway.metric("vmgateway_background_task_errors_total") == 0


def test_requests_that_come_together_are_checked_together(
    start: Callable[..., Gateway], files: Files, upstream: RecordingUpstream
) -> None:
    gateway = start(*files.flags, "-workers=2")
    with ThreadPoolExecutor(60) as pool:
        statuses = pool.map(lambda _: gateway.client().post(PATH, headers=basic("jörg", "secret")).status, range(60))
        assert set(statuses) == {200}
    assert len(upstream.requests) == 60


def test_a_write_waits_for_its_password(
    start: Callable[..., Gateway], files: Files, upstream: RecordingUpstream
) -> None:
    gateway = start(*files.flags)
    rows = b"".join(b"row_%d 1\n" % number for number in range(50_000))
    assert gateway.client().post(WRITE, body=rows, headers=basic("jörg", "secret")).status == 200
    assert upstream.requests[0].body_size == len(rows)
    assert gateway.client().post(WRITE, body=rows, headers=basic("jörg", "wrong")).status == 401
    assert len(upstream.requests) == 1


def test_a_reload_takes_a_credential_away_and_a_bad_file_changes_nothing(
    start: Callable[..., Gateway], files: Files
) -> None:
    gateway = start(*files.flags)
    known = (bearer(API_KEY), basic("jörg", "secret"))
    assert [gateway.client().get(PATH, headers=headers).status for headers in known] == [200, 200]
    files.credentials.write_text("keys: 1")
    assert gateway.client().post("/-/reload").status == 500
    gateway.wait_for_log(
        r"keeping the old configuration: -auth\.credentialsFile .*credentials\.yaml, line 1: keys: expected a list"
    )
    assert [gateway.client().get(PATH, headers=headers).status for headers in known] == [200, 200]
    files.credentials.write_text(FILE.replace(DIGEST, "0" * 64).replace("name: jörg", "name: karl"))
    gateway.signal(signal.SIGHUP)
    gateway.wait_until(lambda: gateway.client(API_KEY).get(PATH).status == 401, what="has read the file again")
    assert gateway.client().get(PATH, headers=basic("jörg", "secret")).status == 401
    assert gateway.client().get(PATH, headers=basic("karl", "secret")).status == 200


def test_a_client_that_leaves_while_its_password_is_checked(start: Callable[..., Gateway], files: Files) -> None:
    gateway = start(*files.flags, "-maxConcurrentRequests=1")
    head = f"GET {PATH} HTTP/1.1\r\nHost: a\r\n"
    clients = [RawClient(gateway.port) for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(f"{head}Authorization: {basic('jörg', str(number))['Authorization']}\r\n\r\n".encode())
        client.reset()
    gateway.wait_until(lambda: gateway.client().get(PATH, headers=basic("jörg", "secret")).status == 200, what="serves")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read it: No such file or directory"),
        ("users:\n- {name: a, password: plain, grant: {}}", "line 2: users[0].password: expected a line of vmgateway"),
        (FILE.replace("team-ops", "others"), "claims: no entry of -auth.policy matches"),
    ],
)
def test_a_wrong_file_stops_the_start(files: Files, text: str | None, message: str) -> None:
    files.credentials.unlink()
    if text is not None:
        files.credentials.write_text(text)
    for dry in (["-dryRun"], []):
        done = run_command(*files.flags, "-read.url=http://127.0.0.1:1", *dry)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith(f"vmgateway: -auth.credentialsFile {files.credentials}")
        assert message in done.stderr
        assert "plain" not in done.stderr


def test_the_file_may_be_behind_a_url(start: Callable[..., Gateway], files: Files, backend: RecordingUpstream) -> None:
    with RecordingUpstream(lambda _: Reply(body=FILE.encode())) as server:
        url = server.url.replace("://", "://me:hunter2@")
        gateway = start("-enable.auth", f"-auth.credentialsFile={url}/c", f"-auth.policy={files.policy}")
        assert gateway.client(API_KEY).get(PATH).status == 200
        assert "hunter2" not in gateway.client().get("/flags").text


def test_explain_tells_the_name(files: Files) -> None:
    flags = (*files.flags, "--json", f"GET {PATH}")
    by_key = run_command("explain", f"--token={API_KEY}", *flags)
    by_user = run_command("explain", "-H", f"Authorization: {basic('jörg', 'secret')['Authorization']}", *flags)
    for done, name, label in ((by_key, "key reader", "web"), (by_user, "user jörg", "joerg")):
        assert done.returncode == 0, done
        story = json.loads(done.stdout)
        assert story["token"]["credential"] == name
        assert story["access"]["labels"] == [["team", label]]
        assert API_KEY not in done.stdout
    text = run_command("explain", f"--token={API_KEY}", *files.flags, f"GET {PATH}").stdout
    assert "ok  token      key reader, as -auth.credentialsFile says" in text
    wrong = run_command("explain", "-H", f"Authorization: {basic('jörg', 'x')['Authorization']}", *flags)
    assert (wrong.returncode, json.loads(wrong.stdout)["refusal"]["code"]) == (1, "unknown_credentials")


def test_the_command_makes_keys_and_hashes(start: Callable[..., Gateway], files: Files, tmp_path: Path) -> None:
    made = run_command("credentials", "key").stdout
    [(key, digest)] = re.findall(r'key: (vmgw_[\w-]{43})\nsha256: "([0-9a-f]{64})"\n', made, re.ASCII)
    command, given = [*vmgateway_command(), "credentials", "hash"], "pass wörd\n".encode()
    hashed = subprocess.run(command, input=given, capture_output=True, check=True, timeout=HANGS).stdout.decode()
    assert hashed.startswith('password: "$scrypt$ln=15,r=8,p=1$')
    files.credentials.write_text(
        f"keys:\n- name: new\n  sha256: {digest}\n  grant: {{}}\nusers:\n- name: u\n  {hashed}  grant: {{}}\n"
    )
    gateway = start(*files.flags)
    assert gateway.client(key).get(PATH).status == 200
    assert gateway.client().get(PATH, headers=basic("u", "pass wörd")).status == 200
    assert run_command("credentials", "hash", "secret").returncode == 2


def test_the_tenants_page_knows_credentials(
    start_gateway: StartGateway, upstream: RecordingUpstream, files: Files
) -> None:
    gateway = start_gateway(*files.flags, f"-read.url={upstream.url}", "-clusterMode")
    for headers in (bearer(API_KEY), basic("jörg", "secret")):
        answer = gateway.client().get("/admin/tenants", headers=headers)
        assert (answer.status, answer.json()["data"]) == (200, ["0:0"])
    assert gateway.client().get("/admin/tenants", headers=basic("jörg", "x")).status == 401


def test_a_capture_holds_no_secret(start: Callable[..., Gateway], files: Files, tmp_path: Path) -> None:
    capture = tmp_path / "flows"
    with_capture = start(*files.flags, f"-capture.file={capture}", "-auth.httpHeader=Authorization,X-API-Key")
    for headers in ({"X-API-Key": API_KEY}, bearer(API_KEY), basic("jörg", "secret")):
        assert with_capture.client().get(PATH, headers=headers).status == 200
    with_capture.wait_until(lambda: capture.read_bytes().count(b"/api/v1/labels") >= 3, what="has captured")
    data = capture.read_bytes()
    for secret in (API_KEY, DIGEST, "secret", basic("jörg", "secret")["Authorization"][6:]):
        assert secret.encode() not in data


@needs_http2
def test_streams_of_one_connection_wait_for_their_passwords(
    files: Files, upstream: RecordingUpstream, authority: Authority
) -> None:
    certificate = authority.issue("localhost")
    tls = ("-tls", f"-tlsCertFile={certificate.cert}", f"-tlsKeyFile={certificate.key}", "-http.enableHTTP2")
    with TLSGateway(*files.flags, f"-read.url={upstream.url}", f"-write.url={upstream.url}", *tls) as gateway:
        url = f"https://localhost:{gateway.port}"
        curl = [
            "curl",
            "-sS",
            "--http2",
            "--cacert",
            str(authority.cert),
            "-Z",
            "-w",
            "%{http_version} %{http_code}\\n",
        ]
        right, wrong = (f"{url}{PATH}?number={number}" for number in (1, 2))
        command = [*curl, "-u", "jörg:secret", right, "-o", "/dev/null", "--next", "-sS", "--http2"]
        command += ["--cacert", str(authority.cert), "-w", "%{http_version} %{http_code}\\n"]
        command += ["-u", "jörg:wrong", wrong, "-o", "/dev/null"]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANGS).stdout
        assert sorted(told.splitlines()) == ["2 200", "2 401"]
        assert [request.argument("number") for request in upstream.requests] == [["1"]]
        # A body would fill memory or hold up the connection: it is told to come back, and is known by then.
        upload = [*curl, "-u", f"grafana:{PASSWORD}", "--data-binary", "m 1", f"{url}{WRITE}", "-o", "/dev/null"]

        def uploaded() -> str:
            return subprocess.run(upload, capture_output=True, text=True, check=True, timeout=HANGS).stdout

        assert uploaded() == "2 429\n"
        gateway.wait_until(lambda: uploaded() == "2 200\n", what="has checked the password")
        assert upstream.requests[-1].body == b"m 1"
