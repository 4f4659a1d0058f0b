"""Effects of flags that no other test has for its subject."""

from __future__ import annotations

from pathlib import Path

from tests.support.wire.certificates import Authority
from tests.support.wire.processes import Program
from tests.support.wire.raw import RawClient
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.write_bodies import JSON_LINE
from tests.wire.conftest import StartGateway


def test_tls_to_the_backend_for_writes_has_flags_of_its_own(
    start_gateway: StartGateway, key: SigningKey, key_file: Path, authority: Authority
) -> None:
    certificate = authority.issue("gateway.test")
    mine = (f"-write.tlsCertFile={certificate.cert}", f"-write.tlsKeyFile={certificate.key}")
    trusting = f"-write.tlsCAFile={authority.cert}"
    cases = [
        ((trusting, "-write.tlsServerName=backend.test", *mine), 200),
        ((trusting, "-write.tlsServerName=other.test", *mine), 502),
        ((trusting, "-write.tlsServerName=backend.test"), 502),
        (("-write.tlsInsecureSkipVerify", *mine), 200),
    ]
    context = authority.server_context(authority.issue("backend.test"), clients=authority)
    with RecordingUpstream(tls=context) as upstream:
        for flags, status in cases:
            common = ("-enable.auth", f"-write.url={upstream.url}", f"-auth.publicKeyFiles={key_file}")
            client = start_gateway(*common, *flags).client(key.mint())
            assert client.post("/api/v1/import", body=JSON_LINE).status == status, flags
        names = [connection.tls_server_name for connection in upstream.connections]
        assert names.count("backend.test") == 2
        assert names.count("other.test") == 1


def test_heads_are_limited(
    start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path, program: Program
) -> None:
    common = ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}")
    gateway = start_gateway(*common, "-http.maxHeadSize=2KiB", program=program)
    head = b"GET /health HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n"
    spare = 2048 - len(head % b"")
    for size, status in ((spare, 200), (spare + 1, 431)):
        with RawClient(gateway.port) as client:
            assert client.send(head % (b"x" * size)).receive_answer()[0] == status


def test_no_home_directory_is_needed_and_nothing_is_written_into_one(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path
) -> None:
    common = ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}")
    for home, lane in (("/proc/1/no-home", "fast"), (str(tmp_path), "flow")):
        gateway = start_gateway(*common, f"-lane={lane}", env={"HOME": home})
        assert gateway.client(key.mint()).get("/api/v1/labels").status == 200
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_must_be_counted_whole_is_limited(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: [{type: rows_inserted, value: 1000000000}]")
    common = ("-enable.auth", f"-write.url={upstream.url}", f"-auth.publicKeyFiles={key_file}")
    limited = ("-enable.rateLimit", f"-ratelimit.config={limits}", "-ratelimit.maxDecodedSize=1MiB")
    client = start_gateway(*common, *limited).client(key.mint())
    for values, status in ((250_000, 200), (300_000, 413)):
        numbers = ",".join("1" for _ in range(values))
        line = f'{{"metric":{{"__name__":"m"}},"values":[{numbers}],"timestamps":[{numbers}]}}'
        assert client.post("/api/v1/import", body=line).status == status
    assert len(upstream.requests) == 1
