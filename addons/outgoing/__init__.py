"""HTTP and TLS that the gateway itself begins: bounded downloads, the datasource, and TLS to backends.

Every question has a deadline and a size limit, and no error shows a secret.
"""

from __future__ import annotations

from .datasource import Datasource, build_datasource
from .deadline import CutAdapter, Deadline
from .endpoint import DEADLINE, AskError, Endpoint, TLSFiles
from .upstream_tls import UpstreamTLS

__all__ = [
    "DEADLINE",
    "AskError",
    "CutAdapter",
    "Datasource",
    "Deadline",
    "Endpoint",
    "TLSFiles",
    "UpstreamTLS",
    "build_datasource",
]
