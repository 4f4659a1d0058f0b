"""Netdata's exporter, with a token as the password of its Basic credentials."""

from __future__ import annotations

import getpass
import json
import subprocess
from pathlib import Path

import pytest

from tests.support.wire.processes import auth_flags, find_program
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS, eventually
from tests.wire.conftest import StartGateway

# It collects nothing but its own timer, and listens nowhere. It empties its directory when it starts.
NETDATA = """
[global]
    run as user = {user}
[directories]
    config = {d}
    cache = {d}/data
    lib = {d}/data
    log = {d}/data
    home = {d}
    registry = {d}/data
    lock = {d}/data
[db]
    mode = ram
[ml]
    enabled = no
[health]
    enabled = no
[web]
    mode = none
[statsd]
    enabled = no
[plugins]
    timex = no
    tc = no
    diskspace = no
    proc = no
    cgroups = no
    enable running new plugins = no
    slabinfo = no
"""
EXPORTING = """
[exporting:global]
    enabled = yes
[opentsdb:http:vm]
    enabled = yes
    destination = 127.0.0.1:{port}
    username = any
    password = {token}
    update every = 1
"""


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_netdata_writes(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, tmp_path: Path, lane: str
) -> None:
    upstream.responder = lambda _: Reply(status=204, body=b"")
    gateway = start_gateway(*auth_flags(upstream.url, key_file), f"-lane={lane}")
    token = key.mint(team("dev"))
    (tmp_path / "data").mkdir()
    (tmp_path / "netdata.conf").write_text(NETDATA.format(d=tmp_path, user=getpass.getuser()))
    (tmp_path / "exporting.conf").write_text(EXPORTING.format(port=gateway.port, token=token))
    command = [find_program("netdata"), "-D", "-c", str(tmp_path / "netdata.conf"), "-P", str(tmp_path / "pid")]
    with (tmp_path / "out").open("wb") as out:
        netdata = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        written = eventually(
            lambda: [each for each in list(upstream.requests) if each.complete and len(each.body) > 10], what="writes"
        )
    finally:
        netdata.terminate()
        netdata.wait(HANGS)
    assert written[0].path == "/api/put"
    assert written[0].argument("extra_label") == ["team=dev"]
    assert {row["metric"].partition(".")[0] for row in json.loads(written[0].body)} == {"netdata"}
    assert written[0].header("Authorization") == []
