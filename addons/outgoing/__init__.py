"""HTTP requests of the gateway's own: bounded downloads, the datasource, and TLS to backends.

Every request has a deadline and a size limit, and no error shows a secret.
"""

from __future__ import annotations

from .datasource import Datasource, build_datasource
from .errors import SPEAKS_TLS, TLS_ALERT, Failure, RequestFailed, describe, failure_of, failure_of_text
from .http import DEADLINE, DOWNLOAD_DEADLINE, Endpoint, download, send
from .location import read, shown
from .tls_files import TLSFiles
from .upstream_tls import UpstreamTLS

__all__ = [
    "DEADLINE",
    "DOWNLOAD_DEADLINE",
    "SPEAKS_TLS",
    "TLS_ALERT",
    "Datasource",
    "Endpoint",
    "Failure",
    "RequestFailed",
    "TLSFiles",
    "UpstreamTLS",
    "build_datasource",
    "describe",
    "download",
    "failure_of",
    "failure_of_text",
    "read",
    "send",
    "shown",
]
