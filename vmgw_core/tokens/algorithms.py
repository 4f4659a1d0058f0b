"""Verification of RS, PS and ES signatures (RFC 7518, sections 3.3 to 3.5) with ``cryptography``."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

PublicKey = RSAPublicKey | EllipticCurvePublicKey

_HASHES: Final[dict[str, HashAlgorithm]] = {"256": SHA256(), "384": SHA384(), "512": SHA512()}
_RSA: Final[dict[str, tuple[AsymmetricPadding, HashAlgorithm]]] = {
    **{f"RS{size}": (PKCS1v15(), digest) for size, digest in _HASHES.items()},
    **{f"PS{size}": (PSS(MGF1(digest), digest.digest_size), digest) for size, digest in _HASHES.items()},
}
_ECDSA: Final = {f"ES{size}": ECDSA(digest) for size, digest in _HASHES.items()}

ALGORITHMS: Final = frozenset((*_RSA, *_ECDSA))


def verifies(key: PublicKey, alg: str, data: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` is a signature of ``data`` with ``key`` and ``alg``.

    ``alg`` is one of ``ALGORITHMS`` that fits the key. False only means a bad signature: failures of the library raise.
    """
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(signature, data, *_RSA[alg])
            return True
        # RFC 7518, section 3.4: two numbers, each as long as the curve's order, while X.509 has a DER sequence.
        length = (key.key_size + 7) // 8
        if len(signature) != 2 * length:
            return False
        numbers = (int.from_bytes(signature[:length]), int.from_bytes(signature[length:]))
        key.verify(encode_dss_signature(*numbers), data, _ECDSA[alg])
    except InvalidSignature:
        return False
    return True
