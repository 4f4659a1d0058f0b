"""Key material for tests, made at run time and once per process, and a signer of its own.

Signing goes to ``cryptography`` directly: nothing here is the code under test.
"""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

NOW: Final = 1_700_000_000
"""Unix seconds: the clock of the tests."""

ISSUER: Final = "https://issuer.example/realms/metrics"

RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
EC_ALGORITHMS: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "secp256k1": ec.SECP256K1(),
}
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}


@functools.cache
def rsa_key(name: str = "first") -> rsa.RSAPrivateKey:
    """An RSA key of 2048 bits; another one for each name."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def ec_key(curve: str = "P-256", name: str = "first") -> ec.EllipticCurvePrivateKey:
    """An EC key; another one for each curve and name."""
    return ec.generate_private_key(_CURVES[curve])


def key_for(alg: str) -> PrivateKey:
    """The first key that signs with ``alg``."""
    return ec_key(EC_ALGORITHMS[alg]) if alg in EC_ALGORITHMS else rsa_key()


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    """A number as JWK members hold it."""
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def pem(key: PrivateKey) -> str:
    """The public part, as a PUBLIC KEY block."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def private_pem(key: PrivateKey) -> str:
    """The private key, as a PRIVATE KEY block."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@functools.cache
def certificate(key: PrivateKey) -> str:
    """A self-signed certificate of the key, as a CERTIFICATE block."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


def jwk(key: PrivateKey, **members: object) -> dict[str, Any]:
    """The public part as a JWK, with ``members`` added or in place of its own."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        rsa_numbers = public.public_numbers()
        return {"kty": "RSA", "n": number(rsa_numbers.n), "e": number(rsa_numbers.e), **members}
    numbers, size = public.public_numbers(), (public.key_size + 7) // 8
    curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}.get(public.curve.name, public.curve.name)
    return {"kty": "EC", "crv": curve, "x": number(numbers.x, size), "y": number(numbers.y, size), **members}


def jwks(*members: object) -> bytes:
    """A JWK Set document."""
    return json.dumps({"keys": members}).encode()


def claims(**members: object) -> dict[str, object]:
    """The smallest claims that are accepted at ``NOW``, with ``members`` added or in place of them."""
    return {"exp": NOW + 60, "vm_access": {}, **members}


def compact(header: object, payload: object, signature: bytes = b"unsigned") -> str:
    """A token with the given signature. Bytes are taken as they are, anything else as JSON."""
    return f"{_segment(header)}.{_segment(payload)}.{b64(signature)}"


def sign(payload: object, key: PrivateKey | bytes, header: Mapping[str, object] | None = None) -> str:
    """A signed token. ``header`` defaults to RS256 or to what the curve needs; a key of bytes signs with HS256."""
    if header is None:
        header = {"alg": default_alg(key)}
    signing_input = f"{_segment(header)}.{_segment(payload)}"
    signature = raw_signature(signing_input.encode(), key, str(header["alg"]))
    return f"{signing_input}.{b64(signature)}"


def default_alg(key: PrivateKey | bytes) -> str:
    """The algorithm that ``sign`` takes for a key."""
    if isinstance(key, bytes):
        return "HS256"
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    return {256: "ES256", 384: "ES384", 521: "ES512"}[key.key_size]


def raw_signature(signing_input: bytes, key: PrivateKey | bytes, alg: str) -> bytes:
    """RFC 7518, section 3: the JWS signature of ``signing_input``. Signs what it is told, whether allowed or not."""
    if isinstance(key, bytes):
        return hmac.new(key, signing_input, hashlib.sha256).digest()
    digest = _HASHES[alg[2:]]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(signing_input, ec.ECDSA(digest)))
        size = (key.key_size + 7) // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if alg.startswith("PS"):
        return key.sign(signing_input, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    return key.sign(signing_input, padding.PKCS1v15(), digest)


def _segment(value: object) -> str:
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())
