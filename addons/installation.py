"""Checks the installation before the gateway is imported: one core, of the same place, and every library.

It imports nothing but the standard library, since anything else may be missing.
"""

from __future__ import annotations

import gc
import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final

_HERE: Final = Path(__file__).resolve().parent


class InstallationError(Exception):
    """The gateway cannot be imported. The message is one line that says what to do."""


def import_checked(name: str) -> ModuleType:
    """Import a module of the gateway. Raises ``InstallationError``."""
    _check_core()
    try:
        gc.disable()  # it would look at all modules again and again, and find nothing
        from vmgw_core.errors import ConfigurationError

        try:
            return importlib.import_module(name)
        except ConfigurationError as error:  # mitmproxy is too old or too new
            raise InstallationError(str(error)) from None
    except ImportError as error:
        raise InstallationError(_missing(error)) from error
    finally:
        gc.enable()


def _check_core() -> None:
    """Refuse a core of another place: its policy may be older or newer than the addons that rely on it."""
    spec = find_spec("vmgw_core")
    if spec is None or spec.origin is None:
        raise InstallationError(f"the package vmgw_core is missing: {_advice()}")
    core = Path(spec.origin).resolve().parent
    if core.parent != _HERE.parent:
        raise InstallationError(
            f"the addons in {_HERE} do not belong to the core that is installed in {core}: uninstall that (pip "
            "uninstall vmgateway), or use the addons beside it"
        )


def _missing(error: ImportError) -> str:
    name = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError):
        return f'the Python library "{name}" is missing: {_advice()}'
    return f'the Python library "{name}" has another version than vmgateway needs ({error}): {_advice()}'


def _advice() -> str:
    root = _HERE.parent
    what = str(root) if (root / "setup.cfg").is_file() else "--force-reinstall vmgateway"
    return f"install vmgateway with all that it needs (pip install {what})"
