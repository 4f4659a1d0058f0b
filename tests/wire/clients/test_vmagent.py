"""vmagent writes through the gateway; what it was given is all there, though the gateway goes away in between."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path

import pytest

from tests.support.wire.servers import VictoriaMetrics, Vmagent
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import eventually
from tests.wire.conftest import StartGateway

BATCH = 10


def lines(metric: str, batch: int) -> str:
    """The samples number ``batch`` * 10 and up; each is a series of its own with its number as the value."""
    numbers = range(batch * BATCH, (batch + 1) * BATCH)
    return "".join(f'{metric}{{n="{number}"}} {number}\n' for number in numbers)


def dropped(vmagent: Vmagent) -> float:
    """How many blocks vmagent has given up."""
    text = vmagent.client.get("/metrics").text
    values = re.findall(r"(?m)^vmagent_remotewrite_packets_dropped_total\S* (\S+)$", text)
    assert values, "the metric has another name"
    return sum(float(value) for value in values)


def test_vmagent_drops_what_is_answered_with_400() -> None:
    """The control of the tests below: this is how a loss would show."""
    with (
        RecordingUpstream(lambda _: Reply(status=400)) as upstream,
        Vmagent(f"{upstream.url}/api/v1/write", "unused") as vmagent,
    ):
        vmagent.push("m 1\n")
        eventually(lambda: dropped(vmagent) == 1, what="it drops the block")


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_no_sample_is_lost_over_a_restart(
    start_gateway: StartGateway,
    victoria_metrics: VictoriaMetrics,
    key: SigningKey,
    key_file: Path,
    metric: str,
    how: str,
) -> None:
    gateway = start_gateway("-enable.auth", f"-write.url={victoria_metrics.url}", f"-auth.publicKeyFiles={key_file}")
    with Vmagent(f"{gateway.url}/api/v1/write", key.mint(team("dev", mode=2))) as vmagent:
        for batch in range(10):
            vmagent.push(lines(metric, batch))
        eventually(lambda: victoria_metrics.series(metric), what="the first samples arrive")

        def push_on() -> None:
            for batch in range(10, 30):
                vmagent.push(lines(metric, batch))

        pushing = threading.Thread(target=push_on)
        pushing.start()
        if how == "SIGTERM":
            gateway.stop()
        else:
            gateway.kill()
        for batch in range(30, 35):
            vmagent.push(lines(metric, batch))
        pushing.join()
        gateway.start()
        for batch in range(35, 40):
            vmagent.push(lines(metric, batch))
        total = 40 * BATCH
        eventually(lambda: len(victoria_metrics.series(metric)) == total, what=f"{total} series arrive")
        assert dropped(vmagent) == 0
    exported = victoria_metrics.export(metric)
    assert {labels["team"] for labels in (item["metric"] for item in exported)} == {"dev"}
    # A block that was on its way when the gateway was killed may have been written twice, with the same values.
    assert {item["metric"]["n"]: set(item["values"]) for item in exported} == {str(n): {n} for n in range(total)}
    if how == "SIGTERM":
        assert all(len(item["values"]) == 1 for item in exported)


def test_samples_wait_while_the_token_is_refused_and_while_the_backend_is_away(
    start_gateway: StartGateway, victoria_metrics: VictoriaMetrics, key: SigningKey, key_file: Path, metric: str
) -> None:
    """vmagent drops a block on 400, 409 and 415 alone: no refusal of the gateway's may be one of these."""
    flags = ("-enable.auth", f"-auth.publicKeyFiles={key_file}")
    refusing = start_gateway(*flags, "-write.url=http://127.0.0.1:1")
    token = key.mint(team("dev", mode=2))
    with (
        Vmagent(f"{refusing.url}/api/v1/write", "no-token") as refused,
        Vmagent(f"{refusing.url}/no/such/path", token) as lost,
        Vmagent(f"{refusing.url}/api/v1/write", token) as early,
    ):
        for vmagent in (refused, lost, early):
            vmagent.push(f"{metric} 1\n")
            vmagent.wait_for_log("unexpected status code")
            assert dropped(vmagent) == 0
        refusing.stop()
        start_gateway(*flags, f"-write.url={victoria_metrics.url}", port=refusing.port)
        eventually(lambda: victoria_metrics.series(metric), what="the sample arrives in the end")
    assert [item["metric"].get("team") for item in victoria_metrics.export(metric)] == ["dev"]


def test_vmagent_backs_off_where_rows_are_limited_and_loses_nothing(
    start_gateway: StartGateway,
    victoria_metrics: VictoriaMetrics,
    key: SigningKey,
    key_file: Path,
    metric: str,
    tmp_path: Path,
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text(f"limits:\n- {{type: rows_inserted, value: {2 * BATCH}, resolution: hour}}\n")
    gateway = start_gateway(
        "-enable.auth", f"-write.url={victoria_metrics.url}", f"-auth.publicKeyFiles={key_file}",
        "-enable.rateLimit", f"-ratelimit.config={limits}",
    )  # fmt: skip
    with Vmagent(f"{gateway.url}/api/v1/write", key.mint(team("dev", mode=2))) as vmagent:
        for batch in range(2):
            vmagent.push(lines(metric, batch))
            expected = (batch + 1) * BATCH
            eventually(lambda: len(victoria_metrics.series(metric)) == expected, what="what fits arrives")  # noqa: B023
        vmagent.push(lines(metric, 2))
        vmagent.wait_for_log("429")
        assert gateway.metric("vmgateway_tenant_usage", type="rows_inserted") == 2 * BATCH
        assert dropped(vmagent) == 0
        assert len(victoria_metrics.series(metric)) == 2 * BATCH
        limits.write_text(f"limits:\n- {{type: rows_inserted, value: {10 * BATCH}, resolution: hour}}\n")
        gateway.signal(signal.SIGHUP)
        eventually(lambda: len(victoria_metrics.series(metric)) == 3 * BATCH, what="the rest arrives")
        assert dropped(vmagent) == 0


# --- limits on rows --------------------------------------------------------------------------------------------------


def limited(tmp_path: Path, upstream: RecordingUpstream, key_file: Path) -> list[str]:
    """Flags for a limit of fewer rows than a batch has."""
    file = tmp_path / "limits.yaml"
    file.write_text("limits: [{type: rows_inserted, value: 6}]")
    return [
        "-enable.auth",
        f"-write.url={upstream.url}",
        f"-auth.publicKeyFiles={key_file}",
        "-enable.rateLimit",
        f"-ratelimit.config={file}",
    ]


def written(upstream: RecordingUpstream) -> int:
    """How many requests to write have arrived whole."""
    return sum(request.complete and request.path == "/api/v1/write" for request in upstream.requests)


@pytest.mark.parametrize("lane", ["fast", "flow"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_block_of_more_rows_than_a_whole_limit_passes_and_the_next_waits(
    start_gateway: StartGateway, key: SigningKey, key_file: Path, tmp_path: Path, lane: str, workers: int
) -> None:
    with RecordingUpstream(lambda _: Reply(status=204)) as upstream:
        flags = limited(tmp_path, upstream, key_file)
        gateway = start_gateway(*flags, f"-lane={lane}", f"-workers={workers}")
        with Vmagent(f"{gateway.url}/api/v1/write", key.mint()) as vmagent:
            vmagent.push(lines("m", 0))
            eventually(lambda: written(upstream) == 1, what="the first block arrives")
            vmagent.push("m 1\n")
            eventually(lambda: gateway.metric("vmgateway_refusals_total", reason="rate_limited"), what="the next waits")
            assert (written(upstream), dropped(vmagent)) == (1, 0)


def test_a_block_of_more_rows_than_a_whole_limit_is_dropped_if_the_flag_says_so(
    start_gateway: StartGateway, key: SigningKey, key_file: Path, tmp_path: Path
) -> None:
    with RecordingUpstream(lambda _: Reply(status=204)) as upstream:
        gateway = start_gateway(*limited(tmp_path, upstream, key_file), "-ratelimit.refuseOversized")
        with Vmagent(f"{gateway.url}/api/v1/write", key.mint()) as vmagent:
            vmagent.push(lines("m", 0))
            eventually(lambda: dropped(vmagent) == 1, what="it drops the block")
            vmagent.push("m 1\n")
            eventually(lambda: written(upstream) == 1, what="the next block arrives")
        assert gateway.metric("vmgateway_refusals_total", reason="too_many_rows") >= 1  # newer ones repack it once


@pytest.mark.parametrize("lane", ["fast", "flow"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_corrupted_block_is_answered_400_as_without_the_gateway(
    start_gateway: StartGateway,
    victoria_metrics: VictoriaMetrics,
    key: SigningKey,
    key_file: Path,
    tmp_path: Path,
    lane: str,
    shared: bool,
) -> None:
    corrupted = b"\xff" * 100
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    assert victoria_metrics.client.post("/api/v1/write", body=corrupted, headers=headers).status == 400
    with RecordingUpstream(lambda _: Reply(status=204)) as upstream:
        flags = limited(tmp_path, upstream, key_file)
        gateway = start_gateway(*flags, f"-lane={lane}", f"-workers={2 if shared else 1}")
        answer = gateway.client(key.mint()).post("/api/v1/write", body=corrupted, headers=headers)
        assert answer.status == 400
        assert written(upstream) == 0
