"""Several workers on one port act as one gateway: a reload reaches all of them, and one page has the metrics of all."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.wire.processes import Gateway, find_program
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream
from tests.support.wire.waiting import HANGS
from tests.wire.conftest import StartGateway

QUERY = "/api/v1/query?query=up"
WORKERS = 3


@pytest.fixture
def file(tmp_path: Path, key: SigningKey) -> Path:
    file = tmp_path / "key.pem"
    file.write_text(key.public_pem)
    return file


@pytest.fixture
def gateway(start_gateway: StartGateway, upstream: RecordingUpstream, file: Path) -> Gateway:
    flags = ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={file}", f"-workers={WORKERS}")
    started = start_gateway(*flags)
    started.wait_until(lambda: started.log().count("listens on") == WORKERS, what="all workers listen")
    return started


def statuses(gateway: Gateway, token: str) -> set[int]:
    """Of many connections, so that each worker gets some."""
    return {gateway.client(token).get(QUERY).status for _ in range(20 * WORKERS)}


def successful(gateway: Gateway) -> dict[str, float]:
    """Whether the last reload of each worker succeeded."""
    return {
        sample.labels["worker"]: sample.value
        for family in text_string_to_metric_families(gateway.client().get("/metrics").text)
        for sample in family.samples
        if sample.name == "vmgateway_last_reload_successful" and sample.labels["source"] == "configuration"
    }


def test_the_answer_to_a_reload_comes_when_a_revoked_key_is_refused_by_all(
    gateway: Gateway, key: SigningKey, file: Path
) -> None:
    other = SigningKey.generate("ES256")
    assert statuses(gateway, key.mint()) == {200}
    for round_, (new, old) in enumerate(((other, key), (key, other)), start=1):
        file.write_text(new.public_pem)
        answer = gateway.client().post("/-/reload")
        assert (answer.status, answer.body) == (200, b"")
        assert statuses(gateway, old.mint()) == {401}
        assert statuses(gateway, new.mint()) == {200}
        assert gateway.metric("vmgateway_config_reloads_total", result="success") == round_ * WORKERS


def test_a_reload_that_fails_is_no_success(gateway: Gateway, key: SigningKey, file: Path) -> None:
    file.write_text("nonsense")
    answer = gateway.client().get("/-/reload")
    assert answer.status == 500
    assert answer.text == "not all processes have reloaded: the log says why\n"
    assert successful(gateway) == dict.fromkeys("012", 0.0)
    assert statuses(gateway, key.mint()) == {200}, "the old key stays in force"
    file.write_text(key.public_pem)
    assert gateway.client().get("/-/reload").status == 200
    assert successful(gateway) == dict.fromkeys("012", 1.0)


def test_a_signal_to_the_parent_reaches_all(gateway: Gateway, key: SigningKey, file: Path) -> None:
    file.write_text("nonsense")
    gateway.signal(signal.SIGHUP)
    gateway.wait_until(lambda: successful(gateway) == dict.fromkeys("012", 0.0), what="has told all workers")
    assert statuses(gateway, key.mint()) == {200}


@pytest.mark.parametrize("flags", [(), (f"-workers={WORKERS}",)], ids=["one process", "workers"])
def test_the_page_of_metrics_is_valid(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, flags: tuple[str, ...]
) -> None:
    gateway = start_gateway("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", *flags)
    assert statuses(gateway, key.mint()) == {200}
    page = gateway.client().get("/metrics").text
    heads = Counter(line for line in page.splitlines() if line.startswith(("# HELP", "# TYPE")))
    assert [line for line, number in heads.items() if number > 1] == []
    names = Counter(" ".join(line.split()[1:3]) for line in heads)
    assert [name for name, number in names.items() if number > 1] == []
    samples = Counter(
        (sample.name, *sorted(sample.labels.items()))
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    )
    assert [sample for sample, number in samples.items() if number > 1] == []
    promtool = [find_program("promtool"), "check", "metrics"]
    checked = subprocess.run(promtool, input=page, capture_output=True, text=True, timeout=HANGS, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
