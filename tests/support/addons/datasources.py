"""A datasource with the flags that a test gives."""

from __future__ import annotations

from vmgw_addons.outgoing.datasource import Datasource, build_datasource
from vmgw_core.configuration import Settings, parse

NOW = 1_700_000_003.25
"""Unix seconds: when the tests ask."""


def settings(*flags: str) -> Settings:
    return parse(["-enable.rateLimit", *flags], {}).settings


def datasource(url: str, *flags: str) -> Datasource:
    built = build_datasource(settings(f"-datasource.url={url}", *(f"-datasource.{flag}" for flag in flags)))
    assert built is not None
    return built
