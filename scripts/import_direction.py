"""Checks the direction of imports: ``scripts/import_direction.py`` prints what is wrong, and fails if anything is.

- A module of vmgw_core imports only modules that stand before it in ``ORDER``.
- vmgw_core does no I/O and reads no clock: it imports nothing of ``FORBIDDEN``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

CORE = Path(__file__).resolve().parent.parent / "vmgw_core"

# fmt: off
ORDER = [
    "errors", "fields", "cache", "secret_names", "flagtypes", "flagkinds", "flags", "commandline", "selector", "access",
    "signatures", "jwk", "token_rules", "jws", "jwt", "discovery",
    "windows", "limittypes", "limitset", "counters", "limits", "limitfile", "path", "routes", "forms", "templates",
    "graphite", "expressions", "labels",
    "head", "bodies", "tenancy", "durations", "backends", "concurrency", "answers", "gateway", "flagpage", "codecs",
    "rows_names", "rows_lines", "rows_native", "rows_messages", "rows_protobuf_names", "rows_json_names",
    "rows_protobuf", "rows_json", "rows", "metering", "cycle", "own_requests", "usage", "tenant_series", "peers",
    "peek",
    "explanation", "narration", "token_story", "explain", "shellwords", "curl",
    "redaction", "evidence", "captures", "replay", "recording", "netstrings", "har", "tally", "expectations",
    "replay_report",
]

FORBIDDEN = [
    "addons", "vmgw_addons", "mitmproxy", "asyncio", "concurrent", "fcntl", "glob", "http", "httpx", "io", "logging",
    "multiprocessing", "os", "pathlib", "requests", "sched", "select", "selectors", "shutil", "signal", "socket",
    "socketserver", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib3", "urllib.request",
]
# fmt: on


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each imported name with its line; ``from a import b`` yields ``a.b``, and the own package's name is spelt out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join(filter(None, ("vmgw_core" if node.level else "", node.module)))
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def objection(module: str, name: str) -> str | None:
    """Why ``module`` may not import ``name``, or None."""
    first, _, rest = name.partition(".")
    if first == "vmgw_core":
        own = rest.partition(".")[0]
        if own not in ORDER:
            return None  # a name that vmgw_core/__init__.py defines itself
        if module != "__init__" and ORDER.index(own) >= ORDER.index(module):
            return f"{own} does not stand before {module}"
        return None
    if any(name == entry or name.startswith(f"{entry}.") for entry in FORBIDDEN):
        return f"the core does not use {name}"
    return None


def main() -> int:
    complaints = []
    for path in sorted(CORE.rglob("*.py")):
        module = path.stem
        if module not in ORDER and module != "__init__":
            complaints.append(f"{path}: {module} has no place in the order of {Path(__file__).name}")
            continue
        for line, name in imported(ast.parse(path.read_text(), str(path))):
            if reason := objection(module, name):
                complaints.append(f"{path}:{line}: {reason}")
    print("\n".join(complaints) or "import direction: good")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
