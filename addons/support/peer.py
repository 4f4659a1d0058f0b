"""The certificate of a client, once TLS has verified it."""

from __future__ import annotations

import ssl
from typing import Any

from vmgw_core.credentials import Certificate


def certificate_of(tls: Any) -> Certificate | None:  # noqa: ANN401 - an ssl.SSLObject, or uvloop's
    """Return the verified certificate of the other side of ``tls``, or None if there is none."""
    found = None if tls is None else tls.getpeercert()
    if not found:
        return None
    subject = [pair for relative in found.get("subject", ()) for pair in relative]
    alternative = found.get("subjectAltName", ())
    return Certificate(
        common_names=tuple(value for name, value in subject if name == "commonName"),
        dns=tuple(value for name, value in alternative if name == "DNS"),
        uris=tuple(value for name, value in alternative if name == "URI"),
        expires_at=ssl.cert_time_to_seconds(found["notAfter"]),
    )
