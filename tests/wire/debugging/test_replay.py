"""``vmgateway replay`` as people and CI jobs run it, and what ``mitmdump`` does with captured flows."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.client import Client
from tests.support.wire.processes import REPOSITORY, Process, free_port, run_command, vmgateway_command
from tests.support.wire.tokens import FULL, SigningKey
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS
from tests.wire.conftest import StartGateway

DATA: Final = REPOSITORY / "tests" / "data" / "replay"
FILES: Final = [DATA / "mitmproxy-11.mitm", DATA / "mitmproxy-12.mitm"]
BACKEND: Final = "http://127.0.0.1:28428"
"""The backend of the captures; nothing listens there."""
BACKENDS: Final = (f"-read.url={BACKEND}", f"-write.url={BACKEND}")
MITMDUMP: Final = Path(sys.executable).parent / "mitmdump"
SAME: Final = ("-enable.auth", f"-auth.publicKeyFiles={DATA / 'public.pem'}", *BACKENDS)


def replay(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_command("replay", *map(str, arguments))


def test_help_has_an_example() -> None:
    done = replay("--help")
    assert done.returncode == 0
    assert "vmgateway replay flows.mitm -enable.auth" in done.stdout


def test_the_same_policy_changes_nothing() -> None:
    done = replay(*FILES, *SAME)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n18 requests judged: nothing would change\n")
    assert not done.stderr, "no progress where there is no terminal"


def test_standard_input() -> None:
    done = subprocess.run(
        [*vmgateway_command(), "replay", "-", *SAME],
        input=FILES[0].read_bytes() + FILES[1].read_bytes(),
        capture_output=True,
        timeout=HANGS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"18 requests judged: nothing would change\n")


def test_keys_of_an_endpoint_are_fetched_first(upstream: RecordingUpstream) -> None:
    public = SigningKey.generate("ES256", kid="k").key.as_dict(private=False)
    upstream.responder = lambda _: Reply(body=json.dumps({"keys": [public]}).encode())
    done = replay(FILES[0], "-enable.auth", f"-auth.jwksEndpoints={upstream.url}/keys", *BACKENDS)
    assert done.returncode == 1, done.stderr
    assert "4 newly refused" in done.stdout
    assert [request.target for request in upstream.requests] == ["/keys"]
    upstream.responder = lambda _: Reply(status=500)
    done = replay(FILES[0], "-enable.auth", f"-auth.jwksEndpoints={upstream.url}/keys", *BACKENDS)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "vmgateway replay: -auth.jwksEndpoints[0]: cannot fetch keys: status 500\n"


def test_a_terminal_shows_progress(tmp_path: Path) -> None:
    file = tmp_path / "many.mitm"
    file.write_bytes(FILES[0].read_bytes() * 600)
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*vmgateway_command(), "replay", str(file), *SAME],
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=HANGS,
            check=False,
        )
        os.close(theirs)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
    assert done.returncode == 0
    assert "% " in shown
    assert " flows" in shown
    assert shown.endswith("\r\x1b[K"), "the line is gone at the end"


class PlainMitmdump(Process):
    """mitmdump without the gateway, that saves a HAR file at its end. Bodies of more than 30 bytes stream."""

    name = "mitmdump"

    def __init__(self, url: str, har: Path) -> None:
        self.url, self.har, self.port = url, har, free_port()
        super().__init__()

    def command(self) -> list[str]:
        mode = f"reverse:{self.url}@127.0.0.1:{self.port}"
        options = ["--set", f"confdir={self.directory}", "--set", "stream_large_bodies=30"]
        return [str(MITMDUMP), "-q", "--mode", mode, *options, "--set", f"hardump={self.har}"]

    def is_ready(self) -> bool:
        return Client(self.port).get("/ready").status == 200


def test_har_of_mitmproxy(upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path) -> None:
    """In it, bodies that streamed are null, and bytes that are not UTF-8 are lone surrogates."""
    har = tmp_path / "a.har"
    with PlainMitmdump(upstream.url, har) as plain:
        client = Client(plain.port, token=key.mint(FULL))
        client.get("/api/v1/query?query=up", headers={"Cookie": "a=b", "X-Name": "\xff"})
        client.post("/api/v1/query", form={"query": "up"})
        client.post("/api/v1/query", form={"query": "up" * 50})
        json_type = {"Content-Type": "application/json; charset=utf-8"}
        client.post("/api/v1/import", body=b"\xc3\x28", headers=json_type)
        plain.stop()
    requests = [entry["request"] for entry in json.loads(har.read_text())["log"]["entries"]]
    assert "\udcff" in [header["value"] for header in requests[1]["headers"]]
    assert requests[3]["postData"]["text"] is None
    done = replay(har, "-enable.auth", f"-auth.publicKeyFiles={key_file}", *BACKENDS, "--list=9", "--host=127.0.0.1")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["/api/v1/import", "0:0", "1", "1", "0", "0"] in rows
    assert ["/api/v1/query", "0:0", "3", "3", "0", "1"] in rows
    assert "1 verdicts are in doubt: the form is not in the file\n" in done.stdout


# --- mitmdump ---------------------------------------------------------------------------------------------------------


def mitmdump(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = REPOSITORY / "addons" / "vmgateway.py"
    return subprocess.run(
        [
            Path(sys.executable).parent / "mitmdump",
            "-q",
            "-n",
            "-s",
            script,
            "--set",
            f"confdir={directory}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )


def options(key_file: Path, url: str) -> list[str]:
    values = ("enable_auth=true", f"auth_public_key_files={key_file}", f"read_url={url}", f"write_url={url}")
    return [argument for value in values for argument in ("--set", f"vmgw_{value}")]


@pytest.mark.smoke
def test_mitmdump_judges_what_it_reads(tmp_path: Path, key_file: Path) -> None:
    same = mitmdump(tmp_path, "-r", str(FILES[0]), *options(DATA / "public.pem", BACKEND))
    assert (same.returncode, same.stdout.splitlines()[-1:]) == (0, ["9 requests judged: nothing would change"]), same
    other = mitmdump(tmp_path, "-r", str(FILES[0]), *options(key_file, BACKEND))
    assert other.returncode == 1
    assert "4 newly refused" in other.stdout


def test_client_replay_sends_what_the_client_sent_rewritten_once(tmp_path: Path, upstream: RecordingUpstream) -> None:
    url = upstream.url.replace("http://", "http://user:pass@")
    done = mitmdump(tmp_path, "--client-replay", str(FILES[0]), *options(DATA / "public.pem", url))
    assert done.returncode == 0, done.stderr
    sent = [(request.method, request.target) for request in upstream.requests]
    assert sent == [
        ("GET", "/api/v1/query?query=up&authKey=REDACTED&extra_label=team%3Ddev"),
        ("POST", "/api/v1/query?extra_label=team%3Ddev"),
        ("POST", "/api/v1/import/prometheus?extra_label=team%3Ddev"),
        ("GET", "/api/v1/labels"),
    ]
    assert upstream.requests[1].body == b"query=sum%28up%29&password=REDACTED"
    assert upstream.requests[2].body == b"foo 1\n"
    assert {tuple(request.header("Authorization")) for request in upstream.requests} == {("Basic dXNlcjpwYXNz",)}


def test_client_replay_sends_nothing_that_the_policy_refuses(
    tmp_path: Path, upstream: RecordingUpstream, key_file: Path
) -> None:
    done = mitmdump(tmp_path, "--client-replay", str(FILES[0]), *options(key_file, upstream.url))
    assert done.returncode == 0, done.stderr
    assert not upstream.requests


def test_a_client_cannot_bring_a_record_of_its_own(
    start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path
) -> None:
    """A token without a signature that was good once is a token without a signature."""
    gateway = start_gateway(
        "-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-read.url={upstream.url}", program="mitmdump"
    )
    token = SigningKey.generate("ES256").mint().rpartition(".")[0] + ".REDACTED"
    assert gateway.client(token).get("/api/v1/query").status == 401
    assert not upstream.requests
