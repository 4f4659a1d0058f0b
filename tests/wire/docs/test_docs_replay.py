"""Every example in docs/replay.md runs, one after the other, in one directory: what one writes the next one reads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.wire.client import Client
from tests.support.wire.processes import REPOSITORY, Process, free_port
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS

TEXT: Final = (REPOSITORY / "docs" / "replay.md").read_text()
BLOCK: Final = re.compile(r"(?:<!-- (.*?) -->\n)?```(\w+(?: approve)?)\n(.*?)```\n", re.DOTALL)
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
            "GITHUB_STEP_SUMMARY": str(directory / "summary.md"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{f"GIT_{role}_{part}": "x@example.com" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")},
        }

    def text(self, script: str) -> str:
        """An example with the addresses of this test in it."""
        script = script.replace(":8431", f"127.0.0.1:{self.port}").replace("http://localhost:8428", self.upstream.url)
        return script.replace("http://staging:8428", self.upstream.url)

    def run(self, script: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.text(script)],
            cwd=directory or self.directory,
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
        jobs, approve = [], ""
        for mark, language, text in BLOCKS:
            upstream.forget()
            if language == "sh":
                run_example(place, mark, text)
            elif text.startswith("# "):
                name = text.partition("\n")[0].removeprefix("# ")
                (tmp_path / name).write_text(place.text(text))
            elif language == "yaml":
                jobs.append(commands_of(yaml.safe_load(text)))
            else:
                approve = text
        for number, commands in enumerate(jobs):
            run_job(place, tmp_path / f"job{number}", commands, approve)
    assert len(jobs) == 2


def run_example(place: Place, mark: str, script: str) -> None:
    """Run one example to its end, or ask it something where it serves."""
    if mark.startswith("serves"):
        with Example(place, script):
            (ask_without_backend if mark.endswith("without a backend") else ask)(place)
        return
    done = place.run(script)
    assert done.returncode == int(mark.removeprefix("exits ") if mark.startswith("exits ") else 0), (
        f"{script}{done.stdout}{done.stderr}"
    )
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


def commands_of(document: dict[str, Any]) -> list[str]:
    """What a CI job runs, but for installing what is installed here."""
    job = document["jobs"]["replay"] if "jobs" in document else document["policy"]
    commands = [step["run"] for step in job["steps"] if "run" in step] if "jobs" in document else job["script"]
    assert commands[0].startswith("pip install ")
    return list(commands[1:])


LIMITED: Final = "-enable.rateLimit\n-ratelimit.config=limits.yaml\n"


def run_job(place: Place, repository: Path, commands: list[str], approve: str) -> None:
    """Run a job on changes of all kinds: the policy in force is on the branch main, with its own key and limits."""
    repository.mkdir()
    for name in ("expect.yaml", "public.pem"):
        shutil.copy(place.directory / name, repository)
    (repository / "flows.mitm").write_bytes((place.directory / "flows.mitm").read_bytes() * 2)
    (repository / "policy.flags").write_text((place.directory / "policy.flags").read_text() + LIMITED)
    (repository / "limits.yaml").write_text("limits:\n- {type: queries, value: 1000}\n")
    (repository / "approved.txt").write_text("")
    git = "git add -A; git commit -qm policy; "
    assert place.run(f"git init -q; {git} git update-ref refs/remotes/origin/main HEAD", repository).returncode == 0

    def job() -> subprocess.CompletedProcess[str]:
        done = None
        for command in commands:  # a runner begins with a clean checkout, and ends at the first failure
            if done is None or done.returncode == 0:
                done = place.run(command, repository)
        assert done is not None
        place.run("git worktree remove --force .base", repository)
        return done

    def change(name: str, text: str) -> None:
        place.run("git checkout -q -- . && git checkout -q --detach origin/main", repository)
        (repository / name).write_text(text)

    change("policy.flags", "# the same\n" + (repository / "policy.flags").read_text())
    done = job()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing would change\nall 2 expectations hold" in done.stdout

    new_key = (place.directory / "new-key.pem").read_text()
    change("public.pem", new_key)
    done = job()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 newly refused: /api/v1/query, tenant 0:0\n  admitted -> 401 bad_signature: " in done.stdout
    assert "such as flows.mitm#1 GET /api/v1/query?query=up" in done.stdout
    assert "such as flows.mitm#1 GET /api/v1/query?query=up" in (repository / "report.xml").read_text()

    change("limits.yaml", "limits:\n- {type: queries, value: 1}\n")
    assert "admitted -> 429 rate_limited" in job().stdout

    # Both a change that is approved, and one more that is not.
    change("limits.yaml", "limits:\n- {type: rows_inserted, value: 1}\n")
    assert job().returncode == 1
    done = place.run(approve, repository)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (repository / "approved.txt").read_text().splitlines()
    assert [line.partition(", digest ")[0] for line in lines if not line.startswith("#")] == [
        "newly refused: /api/v1/import/prometheus: tenant 0:0: admitted -> 429 rate_limited: 1 requests"
    ]
    place.run("git worktree remove --force .base", repository)
    done = job()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of the changes are approved" in done.stdout
    (repository / "public.pem").write_text(new_key)
    assert job().returncode == 1
    if "GITHUB_STEP_SUMMARY" in commands[-1]:
        summary = (place.directory / "summary.md").read_text()
        assert "| 2 | newly refused | /api/v1/query | 0&#58;0 | admitted -&#62; 401 bad&#95;signature&#58; " in summary
