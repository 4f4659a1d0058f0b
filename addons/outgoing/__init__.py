"""HTTP requests of the gateway's own: bounded downloads, the datasource, and TLS to backends.

Every request has a deadline and a size limit, and no error shows a secret.
"""

from __future__ import annotations

from .datasource import Datasource, build_datasource
from .errors import RequestFailed, describe
from .http import DEADLINE, DOWNLOAD_DEADLINE, Endpoint, download, send
from .tls_files import TLSFiles
from .upstream_tls import UpstreamTLS

__all__ = [
    "DEADLINE",
    "DOWNLOAD_DEADLINE",
    "Datasource",
    "Endpoint",
    "RequestFailed",
    "TLSFiles",
    "UpstreamTLS",
    "build_datasource",
    "describe",
    "download",
    "send",
]
