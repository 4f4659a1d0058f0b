"""Every example in docs/replay.md runs, one after the other, in one directory: what one writes the next one reads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import yaml

from tests.support.wire.client import Client
from tests.support.wire.processes import REPOSITORY, Process, free_port
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS

TEXT: Final = (REPOSITORY / "docs" / "replay.md").read_text()
BLOCK: Final = re.compile(r"(?:<!-- (.*?) -->\n)?```(\w+)\n(.*?)```\n", re.DOTALL)
BLOCKS: Final = BLOCK.findall(TEXT)

SENT: Final = ["/api/v1/query?query=up&extra_label=team%3Ddev", "/api/v1/import/prometheus?extra_label=team%3Ddev"]
"""What a backend gets of the requests that are captured."""

ANSWER: Final = b'{"status":"success","data":"captured"}'


class Place:
    """The directory in which the examples run, a backend, and the names that stand for both in the text."""

    def __init__(self, directory: Path, upstream: RecordingUpstream, key: SigningKey) -> None:
        self.directory = directory
        self.upstream = upstream
        self.token = key.mint(team("dev"))
        self.port = free_port()
        (directory / "addons").symlink_to(REPOSITORY / "addons")
        (directory / "public.pem").write_text(key.public_pem)
        (directory / "new-key.pem").write_text(SigningKey.generate("ES256").public_pem)
        self.environ = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "GITHUB_BASE_REF": "main",
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        }

    def text(self, script: str) -> str:
        """An example with the addresses of this test in it."""
        script = script.replace(":8431", f"127.0.0.1:{self.port}").replace("http://localhost:8428", self.upstream.url)
        return script.replace("http://staging:8428", self.upstream.url)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.text(script)],
            cwd=self.directory,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=HANGS,
            check=False,
        )


class Example(Process):
    """An example that serves until it is stopped."""

    name = "example"

    def __init__(self, place: Place, script: str) -> None:
        self.place = place
        self.script = f"cd {place.directory}; exec {place.text(script)}"
        super().__init__(env=place.environ)

    def command(self) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", self.script]

    def is_ready(self) -> bool:
        return Client(self.place.port).get("/health").status == 200


def test_every_example(tmp_path: Path, key: SigningKey) -> None:
    with RecordingUpstream(lambda _: Reply(body=ANSWER)) as upstream:
        place = Place(tmp_path, upstream, key)
        for mark, language, text in BLOCKS:
            upstream.forget()
            if language == "sh":
                run_example(place, mark, text)
            elif text.startswith("# "):
                name = text.partition("\n")[0].removeprefix("# ")
                (tmp_path / name).write_text(place.text(text))
            else:
                run_job(place, yaml.safe_load(text))


def run_example(place: Place, mark: str, script: str) -> None:
    """Run one example to its end, or ask it something where it serves."""
    if mark.startswith("serves"):
        with Example(place, script):
            (ask_without_backend if mark.endswith("without a backend") else ask)(place)
        return
    done = place.run(script)
    assert done.returncode == (1 if mark == "exits 1" else 0), f"{script}{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    asked = [request.target for request in place.upstream.requests]
    assert asked == (SENT if mark == "staging" else [])


def ask(place: Place) -> None:
    """What is captured: a read, a write, and two refusals."""
    dev = Client(place.port, token=place.token)
    assert dev.get("/api/v1/query", {"query": "up"}).body == ANSWER
    assert dev.post("/api/v1/import/prometheus", body="foo 1\n").status == 200
    assert dev.get("/nowhere").status == 404
    assert Client(place.port).get("/api/v1/query", {"query": "up"}).status == 401
    assert [request.target for request in place.upstream.requests] == SENT


def ask_without_backend(place: Place) -> None:
    """Captured answers, for requests that pass the gateway; nothing reaches a backend."""
    place.upstream.refuse()
    dev = Client(place.port, token=place.token)
    for _ in range(2):
        assert dev.get("/api/v1/query", {"query": "up"}).body == ANSWER
    assert dev.get("/api/v1/query", {"query": "down"}).status == 404
    assert Client(place.port).get("/api/v1/query", {"query": "up"}).status == 401
    assert dev.post("/api/v1/import/prometheus", body="foo 1\n").status == 502
    assert not place.upstream.requests


def run_job(place: Place, document: dict[str, object]) -> None:
    """Run what a CI job runs, but for installing what is installed here."""
    github = "jobs" in document
    job = document["jobs"]["replay"] if github else document["policy"]  # type: ignore[index]
    commands = [step["run"] for step in job["steps"] if "run" in step] if github else job["script"]  # type: ignore[index]
    assert commands[0].startswith("pip install ")
    shutil.rmtree(place.directory / ".git", ignore_errors=True)
    done = place.run(
        "git init -q . && git add policy.flags && git -c user.name=x -c user.email=x@example.com commit -qm policy &&"
        " git update-ref refs/remotes/origin/main HEAD"
    )
    assert done.returncode == 0, done.stderr
    for command in commands[1:]:
        done = place.run(command)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "<testsuites" in (place.directory / "report.xml").read_text()
