"""The addons for ``mitmdump -s``, ``mitmproxy -s`` and ``mitmweb -s``.

``mitmdump -s addons/vmgateway.py --set vmgw_enable_auth=true --set vmgw_read_url=http://localhost:8428``
"""

from __future__ import annotations

import logging
import signal
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from mitmproxy import ctx

_HERE = Path(__file__).resolve().parent


class EarlyReload:
    """Keeps a SIGHUP that comes before the lifecycle handles it: it must not end the program."""

    came = False

    def __call__(self, *_: object) -> None:
        self.came = True


if type(getattr(ctx, "master", None)).__name__ != "ConsoleMaster":  # there it means that the terminal is gone
    signal.signal(signal.SIGHUP, EarlyReload())

if "vmgw_addons" not in sys.modules:
    # In a checkout this folder is the package vmgw_addons, even if that is installed elsewhere.
    sys.path.append(str(_HERE.parent))
    _spec = spec_from_file_location("vmgw_addons", _HERE / "__init__.py", submodule_search_locations=[str(_HERE)])
    assert _spec is not None
    assert _spec.loader is not None
    _package = module_from_spec(_spec)
    sys.modules["vmgw_addons"] = _package
    _spec.loader.exec_module(_package)

from vmgw_addons.installation import InstallationError, import_checked  # noqa: E402

try:
    _loaded = Path(str(sys.modules["vmgw_addons"].__file__)).resolve().parent
    if _loaded != _HERE:
        raise InstallationError(f"the addons in {_loaded} are loaded already: use {_loaded / 'vmgateway.py'}")
    addons = import_checked("vmgw_addons.chain").build()
except InstallationError as error:
    # Without the addons mitmproxy would be an open proxy.
    logging.getLogger(__name__).error(f"vmgateway: {error}")
    sys.exit(2)
