"""HTTP and TLS that the gateway itself begins: bounded downloads, the datasource, and TLS to backends.

Every question has a deadline and a size limit, and no error shows a secret.
"""

from __future__ import annotations

from .datasource import Datasource, build_datasource
from .errors import AskError, describe
from .http import DEADLINE, EXCHANGE_DEADLINE, Endpoint, download, exchange
from .tls_files import TLSFiles
from .upstream_tls import UpstreamTLS

__all__ = [
    "DEADLINE",
    "EXCHANGE_DEADLINE",
    "AskError",
    "Datasource",
    "Endpoint",
    "TLSFiles",
    "UpstreamTLS",
    "build_datasource",
    "describe",
    "download",
    "exchange",
]
