"""Checks the licence of every package that the project needs to run, and of those, that none is unknown.

From the metadata that is installed, so it needs no network: ``License-Expression`` (PEP 639), else the classifiers,
else ``License``. An expression with OR needs one allowed side, one with AND all of them.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distribution
from typing import Final

from packaging.requirements import Requirement

ALLOWED: Final = frozenset({
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU",
    "MPL-2.0",
    "PSF-2.0", "Python-2.0", "Unlicense", "WTFPL", "ZPL-2.1", "Zlib",
})  # fmt: skip
"""Permissive licences, and MPL-2.0, whose copyleft ends at its own files."""

EXCEPTIONS: Final = {
    # Under the LGPL, and needed by mitmproxy: used unchanged and as packages of their own, which it allows any work.
    "ldap3": "GNU Lesser General Public License v3 (LGPLv3)",
    "urwid": "LGPL-2.1-only",
}
"""Packages with another licence that was looked at, and what it must say."""

_MIT: Final = "Permission is hereby granted, free of charge, to any person obtaining a copy"

NAMES: Final = {
    "apache software license": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache license 2.0": "Apache-2.0",
    "apache": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0", "apache-2.0 license": "Apache-2.0", "apache 2": "Apache-2.0",
    "bsd license": "BSD", "bsd": "BSD", "new bsd": "BSD-3-Clause", "3-clause bsd license": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd-3-clause license": "BSD-3-Clause", "mit license": "MIT", "the mit license (mit)": "MIT", "expat": "MIT",
    "isc license (iscl)": "ISC", "isc license": "ISC", "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0", "the unlicense (unlicense)": "Unlicense",
    "zope public license": "ZPL-2.1",
}  # fmt: skip


def needed(root: str) -> dict[str, Distribution]:
    """``root`` and everything that it needs to run here, by name in lower case."""
    found: dict[str, Distribution] = {}
    pending = [root]
    while pending:
        name = pending.pop()
        key = name.lower().replace("_", "-")
        if key in found:
            continue
        found[key] = distribution(name)
        for text in found[key].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": "traces"}):
                pending.append(requirement.name)
    return found


def licence_of(package: Distribution) -> str:
    """What its metadata says, as an SPDX expression where that can be told; empty where it says nothing."""
    metadata = package.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return expression
    classifiers = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or () if line.startswith("License ::")
    ]
    known = [NAMES.get(each.lower(), each) for each in classifiers if each != "OSI Approved"]
    if known:
        return " OR ".join(known)
    text = (metadata.get("License") or "").strip()
    if not text and _MIT in " ".join(file.read_text() for file in package.files or () if file.name == "LICENSE"):
        return "MIT"
    return NAMES.get(text.lower(), text.splitlines()[0] if text else "")


def allowed(expression: str) -> bool:
    """Whether an SPDX expression, without exceptions (WITH), can be met by what is allowed."""
    inner = expression.replace("(", " ").replace(")", " ")
    return any(
        all(part.strip() in ALLOWED for part in re.split(r"\s+AND\s+|\s*;\s*", choice))
        for choice in re.split(r"\s+OR\s+", inner)
    )


def main() -> int:
    faults = []
    packages = needed("vmgateway")
    for name, package in sorted(packages.items()):
        licence = licence_of(package)
        if name in EXCEPTIONS and EXCEPTIONS[name] == licence:
            continue
        if not allowed(licence):
            faults.append(
                f"{name} {package.version}: {licence or 'no licence'} is not on the list in scripts/licences.py"
            )
    print("\n".join(faults) if faults else f"licences: all {len(packages)} packages are allowed")
    return min(1, len(faults))


if __name__ == "__main__":
    sys.exit(main())
