"""The optional part of the build: with VMGATEWAY_COMPILE=1, mypyc compiles the modules that every request runs through.

Everything else about the build is in setup.cfg. The compiled modules are made of the same sources, which stay beside
them; without the variable nothing is compiled.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import setup

# What a request runs through. A module that is not worth it, or that mypyc cannot compile, stays Python.
_PACKAGES = (
    "vmgw_core/backends",
    "vmgw_core/enforcement",
    "vmgw_core/enforcement/guards",
    "vmgw_core/http",
    "vmgw_core/routing",
    "vmgw_core/rows",
    "vmgw_core/rows/labels",
    "vmgw_addons/lanes/fast",
)
_MODULES = (
    "vmgw_core/base/bounded_cache.py",
    "vmgw_core/base/value.py",
    "vmgw_core/limits/counter.py",
    "vmgw_core/limits/counters.py",
    "vmgw_core/limits/limit_set.py",
    "vmgw_core/limits/limiter.py",
    "vmgw_core/limits/windows/series_counts.py",
    "vmgw_core/limits/windows/series_table.py",
    "vmgw_core/limits/windows/sliding_window.py",
    "vmgw_core/tokens/claims.py",
    "vmgw_core/tokens/grants.py",
    "vmgw_addons/observability/metrics.py",
)
_LEFT_OUT = (
    "__init__.py",
    "dialling.py",
    "health_probe.py",
    "json_names.py",
    "names.py",
    "series_documents.py",
    "tenant_documents.py",
)


def extensions() -> list[object]:
    """Return the extension modules, compiled to C."""
    from mypyc.build import mypycify

    # The folder addons is installed as vmgw_addons, and under that name mypyc must see it.
    sources = Path("build", "sources")
    sources.mkdir(parents=True, exist_ok=True)
    for name, folder in (("vmgw_core", "vmgw_core"), ("vmgw_addons", "addons")):
        link = sources / name
        if not link.is_symlink():
            link.symlink_to(Path(folder).absolute(), target_is_directory=True)
    modules = [sources / name for name in _MODULES]
    for package in _PACKAGES:
        modules += [module for module in sorted((sources / package).glob("*.py")) if module.name not in _LEFT_OUT]
    configuration = Path("build", "mypy.ini")
    # scripts/check looks at all types; a build has no libraries to look at.
    configuration.write_text("[mypy]\nignore_missing_imports = True\nfollow_imports = silent\n")
    return list(
        mypycify(
            ["--config-file", str(configuration), *map(str, modules)],
            opt_level="2",
            group_name="vmgateway",
        )
    )


compiles = os.environ.get("VMGATEWAY_COMPILE") == "1"
# A build runs this file to learn what it needs before it has it.
builds = not {"bdist_wheel", "build_ext"}.isdisjoint(sys.argv)
setup(
    ext_modules=extensions() if compiles and builds else [],
    setup_requires=["mypy >= 1.13"] if compiles else [],
)
