"""SIGHUP reads the key files anew; a bad one changes nothing."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway, Program
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream
from tests.wire.conftest import StartGateway


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "reloaded.pem"


@pytest.fixture
def first(file: Path) -> SigningKey:
    key = SigningKey.generate("ES256")
    file.write_text(key.public_pem)
    return key


@pytest.fixture
def gateway(
    start_gateway: StartGateway, upstream: RecordingUpstream, first: SigningKey, file: Path, program: Program
) -> Gateway:
    flags = ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={file}")
    started = start_gateway(*flags, program=program)
    assert status(started, first.mint()) == 200
    return started


def status(gateway: Gateway, token: str) -> int:
    return gateway.client(token).get("/api/v1/labels").status


@pytest.mark.smoke
def test_a_changed_file_changes_the_keys(gateway: Gateway, file: Path, first: SigningKey) -> None:
    second = SigningKey.generate("RS256")
    old, new = first.mint(), second.mint()
    assert (status(gateway, old), status(gateway, new)) == (200, 401)
    file.write_text(first.public_pem + second.public_pem)
    gateway.signal(signal.SIGHUP)
    gateway.wait_until(lambda: status(gateway, new) == 200, what="takes the new key")
    assert status(gateway, old) == 200
    file.write_text(second.public_pem)
    gateway.signal(signal.SIGHUP)
    # The old token has been verified before: the cache must not outlive the key.
    gateway.wait_until(lambda: status(gateway, old) == 401, what="drops the old key")
    assert status(gateway, new) == 200


BAD_FILES = {
    "empty": "",
    "no PEM": "nonsense",
    "broken PEM": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    "gone": None,
}


@pytest.mark.smoke
def test_a_bad_file_keeps_the_old_keys(gateway: Gateway, file: Path, first: SigningKey) -> None:
    for content in BAD_FILES.values():
        if content is None:
            file.unlink()
        else:
            file.write_text(content)
        behind = len(gateway.log())
        gateway.signal(signal.SIGHUP)
        gateway.wait_for_log(re.escape(file.name), behind=behind)
        assert status(gateway, first.mint()) == 200
        said = [line for line in gateway.log()[behind:].splitlines() if file.name in line or "rror" in line]
        assert len(said) == 1, said
    file.write_text(first.public_pem)
    gateway.signal(signal.SIGHUP)
    gateway.wait_until(lambda: reloads(gateway, "success") == 1, what="reloads once it can")
    assert reloads(gateway, "error") == len(BAD_FILES)
    assert status(gateway, first.mint()) == 200


def reloads(gateway: Gateway, result: str) -> float:
    return gateway.metric("vmgateway_config_reloads_total", result=result)


def test_the_page_reloads_as_the_signal_does(gateway: Gateway, file: Path, first: SigningKey) -> None:
    second = SigningKey.generate("RS256")
    for round_ in (1, 2):  # the second one waits for its turn
        file.write_text((second if round_ % 2 else first).public_pem)
        answer = gateway.client().post("/-/reload")
        assert (answer.status, answer.text) == (200, "")
        assert reloads(gateway, "success") == round_
        assert [status(gateway, key.mint()) for key in (first, second)] == ([401, 200] if round_ % 2 else [200, 401])
    file.write_text("nonsense")
    answer = gateway.client().get("/-/reload")
    assert (answer.status, answer.text) == (500, "not all processes have reloaded: the log says why\n")
    assert gateway.metric("vmgateway_last_reload_successful", source="configuration") == 0
    assert status(gateway, first.mint()) == 200


def test_a_signal_during_the_start_is_a_reload(
    start_gateway: StartGateway, upstream: RecordingUpstream, first: SigningKey, file: Path, tmp_path: Path
) -> None:
    """mitmdump would end: nothing of the gateway is there yet."""
    script = tmp_path / "signal_myself.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGHUP)\n")
    flags = ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={file}")
    gateway = start_gateway(*flags, program="mitmdump", scripts=[script])
    gateway.wait_until(lambda: reloads(gateway, "success") == 1, what="reloads")
    assert status(gateway, first.mint()) == 200
