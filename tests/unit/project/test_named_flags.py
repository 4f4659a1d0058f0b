"""Every flag of the gateway that an example or a page names is in the table: none is misspelt, none has gone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.support.each import each
from vmgw_core.configuration.table import BY_NAME, FLAGS, option_name, variable_name

REPOSITORY: Final = Path(__file__).resolve().parents[3]

# A dot or a capital tells a flag of ours from one of curl or pip; behind a star stands whatever begins like that.
_FLAG: Final = re.compile(r"(?<![\w.*/%-])-{1,2}(?=[a-z]+[.A-Z])([a-z][A-Za-z0-9]*(?:\.[A-Za-z0-9]+)*(?:\.?[*…])?)")

OF_OTHERS: Final = {
    "deployment/vmagent/vmagent.flags": "vmagent",
    "deployment/vmalert/vmalert.flags": "vmalert",
}
"""Files with flags of another program alone."""

THEIRS: Final = frozenset({
    "influxMeasurementFieldSeparator", "opentsdbHTTPListenAddr", "promscrape.config", "relabelConfig",
    "remoteWrite.bearerTokenFile", "retentionPeriod", "search.ignoreExtraFiltersAtLabelsAPI", "search.maxTagKeys",
    "search.maxTagValues", "selfScrapeInterval", "sortLabels", "vmalert.proxyURL",
})  # fmt: skip
"""Flags of VictoriaMetrics, vmagent and vmalert that are spoken of."""


def files() -> list[str]:
    places = ("README.md", "docs/*.md", "deployment/**/*")
    found = {path for place in places for path in REPOSITORY.glob(place) if path.is_file()}
    names = sorted(str(path.relative_to(REPOSITORY)) for path in found)
    assert len(names) > 25
    return [name for name in names if name not in OF_OTHERS]


def is_known(name: str) -> bool:
    if name.endswith(("*", "…")):
        return any(flag.name.startswith(name[:-1]) for flag in FLAGS)
    return name in BY_NAME or name in THEIRS


@each("file", files())
def test_flags_that_are_named_exist(file: str) -> None:
    named = set(_FLAG.findall((REPOSITORY / file).read_text()))
    assert {name for name in named if not is_known(name)} == set()


@each("file", files())
def test_options_that_are_named_exist(file: str) -> None:
    named = set(re.findall(r"\bvmgw_[a-z0-9_]+", (REPOSITORY / file).read_text())) - {
        "vmgw_core",
        "vmgw_addons",
        "vmgw_",
    }
    assert named - {option_name(flag) for flag in FLAGS} == set()


def test_variables_that_the_service_is_given_exist() -> None:
    lines = (REPOSITORY / "deployment" / "systemd" / "flags.env").read_text().splitlines()
    given = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert len(given) > 5
    assert given - {variable_name(flag, "VMGATEWAY_") for flag in FLAGS} == set()
