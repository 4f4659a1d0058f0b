"""docs/identity.md: each example is run, and prints what it says."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.processes import run_command

DOCUMENT: Final = (Path(__file__).parents[3] / "docs" / "identity.md").read_text()
SECTIONS: Final = {
    section.partition("\n")[0]: dict(re.findall(r"```(yaml policy|json claims|text)\n(.*?)```", section, re.DOTALL))
    for section in re.split(r"^#+ ", DOCUMENT, flags=re.MULTILINE)
    if "```text" in section
}


def test_the_file_of_credentials(tmp_path: Path) -> None:
    [text] = re.findall(r"```yaml credentials\n(.*?)```", DOCUMENT, re.DOTALL)
    credentials, policy = tmp_path / "credentials.yaml", tmp_path / "policy.yaml"
    credentials.write_text(text)
    policy.write_text(SECTIONS["Access by claims"]["yaml policy"])
    flags = ("-clusterMode", f"-auth.credentialsFile={credentials}", f"-auth.policy={policy}")
    by_key = "--token=vmgw_KUSmLGqat4CM-RsrnHpbdJIpRbzMheRwC5b66QiiJkQ"
    done = run_command("explain", *flags, by_key, "POST /insert/1:0/prometheus/api/v1/import/prometheus")
    assert "key vmagent-eu, as -auth.credentialsFile says" in done.stdout
    assert "label  region=eu" in done.stdout
    basic = "Authorization: Basic " + base64.b64encode(b"grafana:correct horse battery staple").decode()
    done = run_command("explain", *flags, "-H", basic, "GET /select/1:0/prometheus/api/v1/labels")
    assert "user grafana, as -auth.credentialsFile says" in done.stdout
    assert "by -auth.policy: teams\n  tenant 1:0, mode read\n  label  team=web\n" in done.stdout


def test_there_is_one_for_each_provider() -> None:
    providers = re.findall(r"^### (.*)$", DOCUMENT, re.MULTILINE)
    assert len(providers) == 8
    assert list(SECTIONS) == ["Access by claims", *providers]


@pytest.mark.parametrize("title", SECTIONS)
def test_an_example(title: str, tmp_path: Path) -> None:
    blocks = SECTIONS[title]
    policy, claims = tmp_path / "policy.yaml", tmp_path / "claims.json"
    policy.write_text(blocks["yaml policy"])
    claims.write_text(blocks["json claims"])
    done = run_command("policy", "test", str(policy), f"--claims={claims}")
    assert (done.returncode, done.stdout, done.stderr) == (0, blocks["text"], "")
