"""``python -m vmgw_addons.cli``: the command without its console script."""

from __future__ import annotations

import sys

from . import start

if __name__ == "__main__":
    sys.exit(start())
