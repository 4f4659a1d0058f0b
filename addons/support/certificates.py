"""When certificates expire."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509


def certificate_end(path: str) -> float | None:
    """Return the Unix time at which the first certificate of a PEM file expires, or None if it cannot be told."""
    try:
        certificates = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError):  # OpenSSL takes some that this library does not
        return None
    return min(certificate.not_valid_after_utc.timestamp() for certificate in certificates)
