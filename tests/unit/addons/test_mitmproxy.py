"""mitmproxy's private parts are imported in one module, which checks all of them before anything runs."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mitmproxy.version import VERSION

import vmgw_addons
from vmgw_addons import _mitmproxy
from vmgw_core.errors import ConfigurationError

ROOT = Path(__file__).parents[3]
DOCUMENTED = frozenset({
    "mitmproxy", "mitmproxy.connection", "mitmproxy.exceptions", "mitmproxy.flow", "mitmproxy.http",
    "mitmproxy.options", "mitmproxy.proxy.context", "mitmproxy.proxy.mode_specs", "mitmproxy.proxy.server_hooks",
    "mitmproxy.tls", "mitmproxy.version",
})  # fmt: skip
"""The modules of https://docs.mitmproxy.org/stable/api and of its examples."""
PRIVATE_PARTS = ROOT / "addons" / "_mitmproxy.py"


def refusal() -> str:
    with pytest.raises(ConfigurationError) as caught:
        _mitmproxy.check()
    return str(caught.value)


def test_a_missing_method_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_mitmproxy.HttpStream, "flow_done")
    assert refusal() == f"mitmproxy {VERSION} is not supported: HttpStream.flow_done is missing; use 11.0.2 to 12.x"


def test_other_parameters_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mitmproxy.HttpLayer, "make_stream", lambda self, number, end: None)
    assert "HttpLayer.make_stream(number, end) was make_stream(stream_id)" in refusal()


def test_a_missing_attribute_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(_mitmproxy.HttpLayer.__annotations__, "streams")
    assert "HttpLayer.streams is missing" in refusal()


def test_the_supported_versions_are_those_of_the_package() -> None:
    assert "mitmproxy >= 11.0.2, < 13" in (ROOT / "setup.cfg").read_text()
    assert _mitmproxy.SUPPORTED == "11.0.2 to 12.x"


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_private_parts_are_imported_in_one_module() -> None:
    found = set()
    for path in sorted((ROOT / "addons").rglob("*.py")):
        for name in imports(path) if path != PRIVATE_PARTS else ():
            module, _, part = name.rpartition(".")
            private_h11 = name.startswith("h11.")
            private = name.startswith("mitmproxy.") and module not in DOCUMENTED and name not in DOCUMENTED
            if private_h11 or (private and name != "mitmproxy.addonmanager.Loader"):
                found.add(f"{path.relative_to(ROOT)}: {part} of {module}")
    assert found == set()


def overridden() -> Iterator[tuple[type, str]]:
    """Each method of mitmproxy's that a class of ours overrides, and the class that has it first."""
    for module in pkgutil.walk_packages(vmgw_addons.__path__, "vmgw_addons."):
        if module.name == "vmgw_addons.vmgateway":
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if not inspect.isclass(cls) or cls.__module__ != module.name:
                continue
            theirs = [base for base in cls.__mro__ if base.__module__.startswith("mitmproxy.")]
            theirs = [base for base in theirs if not base.__module__.startswith("mitmproxy.contentviews")]  # documented
            for name, value in vars(cls).items():
                if inspect.isfunction(value):
                    yield from [(base, name) for base in theirs if name in vars(base)][:1]


def test_every_method_that_is_overridden_is_checked() -> None:
    checked = {
        (getattr(_mitmproxy, name), part.partition("(")[0])
        for name, _, parts in (line.partition(": ") for line in _mitmproxy.PARTS.strip().splitlines())
        for part in parts.split(" | ")
    }
    left_out = {
        (base.__name__, name)
        for base, name in overridden()
        if not any(base in cls.__mro__ and name == part for cls, part in checked)
    }
    assert left_out <= {("TlsConfig", "request")}, "which mitmproxy 12 alone has, and the gateway replaces by nothing"
