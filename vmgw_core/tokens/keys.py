"""Keys that verify tokens, from PEM (RFC 7468) and JWK Sets (RFC 7517), and their selection for a token.

The rules:

- Keys are public: RSA of at least 2048 bits, or EC on the curves of RFC 7518, section 3.4. There are no symmetric keys,
  so a public key is never used as a shared secret.
- The curve of an EC key fixes its algorithm. An RSA key serves RS* and PS*, unless its JWK names one of them.
- An unusable key in the configuration stops the start. An unusable key of an endpoint is skipped with a reason, and
  the others are used.
- No error and no repr holds key material.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509 import load_der_x509_certificate

from vmgw_core.base import FieldError, as_list, as_object, as_text, load_object, optional, quoted, required
from vmgw_core.errors import ConfigurationError

from .algorithms import PublicKey

MAX_DOCUMENT_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 256
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 16384
"""OpenSSL does not verify with larger ones."""

_TOLD: Final = 8
"""The most skipped keys that an error tells of."""
_IDENTIFYING: Final = ("kid", "kty", "crv", "alg", "use")
"""The members of a JWK that say which key it is, and hold no part of it."""
_RSA_ALGORITHMS: Final = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
_EC_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_CURVES: Final[dict[str, EllipticCurve]] = {"P-256": SECP256R1(), "P-384": SECP384R1(), "P-521": SECP521R1()}
_TO_STANDARD_ALPHABET: Final = str.maketrans("-_", "+/")
_CURVE_NAMES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_PEM_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_PEM_BEGIN: Final = re.compile(r"-----BEGIN ([^-]*)-----")
# A whole path segment: never the host, and never a part of a name.
_PLACEHOLDER: Final = re.compile(r"(?<=[^/]/)\{[A-Za-z0-9_-]+\}(?=/|$)", re.ASCII)


class KeyDocumentError(ValueError):
    """The document of an endpoint has no readable key set. The message is one line without key material."""


class _Unusable(ValueError):
    """A key cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class IssuerPattern:
    """The ``issuer`` of a discovery document, to compare ``iss`` with exactly.

    Some providers have one document with a placeholder for many issuers, such as
    ``https://login.microsoftonline.com/{tenantid}/v2.0``. A placeholder that is a whole segment of the path matches one
    non-empty segment.
    """

    template: str
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.template:
            raise ValueError("an issuer must not be empty")
        literals = (re.escape(literal) for literal in _PLACEHOLDER.split(self.template))
        object.__setattr__(self, "_pattern", re.compile("[^/]+".join(literals)))

    def matches(self, iss: object) -> bool:
        """Return whether a token's ``iss`` (RFC 7519, section 4.1.1), of any type, is this issuer."""
        return isinstance(iss, str) and self._pattern.fullmatch(iss) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """A public key and the tokens that it may verify."""

    kty: Literal["RSA", "EC"]
    algorithms: frozenset[str]
    """The ``alg`` values it may verify (RFC 7518, section 3.1)."""
    kid: str | None
    """``None`` for a key for any ``kid``, such as all PEM keys."""
    issuer: IssuerPattern | None
    """The only issuer whose tokens it may verify; ``None`` for any."""
    source: str
    """Its origin, for the operator."""
    thumbprint: str
    """RFC 7638, SHA-256, base64url."""
    key: PublicKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JWKSResult:
    """The usable keys of a JWK Set, and a line per skipped key."""

    keys: tuple[VerificationKey, ...]
    skipped: tuple[str, ...]

    def why_none(self) -> str:
        """Describe a set without a usable key: why each of the first ones is not used."""
        return f"no usable key: {told(self.skipped) or 'the set is empty'}"


@dataclass(frozen=True, slots=True)
class KeySet:
    keys: tuple[VerificationKey, ...]
    issuers: tuple[IssuerPattern, ...] = ()
    """The only issuers whose tokens keys without an issuer of their own may verify; empty for any."""

    def __len__(self) -> int:
        return len(self.keys)

    def candidates(self, alg: str, kid: str | None, issuer: object) -> Sequence[VerificationKey]:
        """Return the keys that may verify a token with this ``alg``, ``kid`` and ``iss``, in order.

        A key with a ``kid`` is for tokens with that ``kid`` or none; a key without one is for all tokens.
        """
        return [
            key
            for key in self.keys
            if alg in key.algorithms
            and (kid is None or key.kid is None or key.kid == kid)
            and self.is_for_issuer(key, issuer)
        ]

    def is_for_issuer(self, key: VerificationKey, issuer: object) -> bool:
        """Return whether ``key`` may verify tokens with this ``iss``."""
        issuers = self.issuers_of(key)
        return not issuers or any(pattern.matches(issuer) for pattern in issuers)

    def issuers_of(self, key: VerificationKey) -> tuple[IssuerPattern, ...]:
        """Return the only issuers whose tokens ``key`` may verify; empty for any."""
        return self.issuers if key.issuer is None else (key.issuer,)


def keys_from_pem(data: bytes | str, source: str) -> tuple[VerificationKey, ...]:
    """Read the keys of PEM blocks: PUBLIC KEY, RSA PUBLIC KEY and CERTIFICATE.

    White space around and within blocks is ignored (environment variables and YAML fold lines), and so is one pair of
    quotes or backquotes around the text. Raises ``ConfigurationError``, which names the line of a block after the
    first line.
    """
    try:
        whole = data if isinstance(data, str) else data.decode("ascii")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{source}: expected PEM text, got binary data") from None
    text = whole.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "`'\"":
        text = text[1:-1]
    before = whole.index(text)

    def place(position: int) -> str:
        line = whole.count("\n", 0, before + position) + 1
        return source if line == 1 else f"{source}, line {line}"

    blocks = list(_PEM_BLOCK.finditer(text))
    for begin in _PEM_BEGIN.finditer(text):
        if begin[1].endswith("PRIVATE KEY"):
            raise ConfigurationError(f"{place(begin.start())}: this is a private key; configure its public key")
    if not blocks or len(blocks) != text.count("-----BEGIN"):
        raise ConfigurationError(f"{source}: expected PEM blocks, from -----BEGIN to -----END")
    keys = []
    for block in blocks:
        try:
            keys.append(_pem_key(block[1], block[2], source))
        except _Unusable as error:
            raise ConfigurationError(f"{place(block.start())}: {error}") from None
    return tuple(keys)


def _pem_key(label: str, body: str, source: str) -> VerificationKey:
    if label not in ("PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"):
        raise _Unusable(f"unsupported PEM block {label}; expected PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE")
    public: object
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
        public = load_der_x509_certificate(der).public_key() if label == "CERTIFICATE" else load_der_public_key(der)
    except Exception:  # types differ between versions, and texts may quote the input
        raise _Unusable(f"cannot read the PEM block {label}") from None
    return _verification_key(public, kid=None, alg=None, issuer=None, source=source)


def keys_from_jwks(document: bytes, source: str, issuer: IssuerPattern | None = None) -> JWKSResult:
    """Read the usable signature keys of a JWK Set (RFC 7517, section 5), at most ``MAX_KEYS``.

    Raises ``KeyDocumentError`` for other documents. A set without a usable key is not an error here.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise KeyDocumentError(f"the JWK Set is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        members = required(load_object(document, "JWK Set"), "keys", as_list)
    except FieldError as error:
        raise KeyDocumentError(str(error)) from None
    keys: list[VerificationKey] = []
    skipped: list[str] = []
    for index, member in enumerate(members[:MAX_KEYS]):
        try:
            keys.append(_jwk(as_object(member, "key"), source, issuer))
        except (FieldError, _Unusable) as error:
            skipped.append(f"keys[{index}]{_identified(member)}: {error}")
    if len(members) > MAX_KEYS:
        skipped.append(f"keys[{MAX_KEYS}] and all after it: more than {MAX_KEYS} keys")
    return JWKSResult(keys=tuple(keys), skipped=tuple(skipped))


def _jwk(jwk: Mapping[str, object], source: str, issuer: IssuerPattern | None) -> VerificationKey:
    # RFC 7517, sections 4.2 and 4.3. Google, Azure and Keycloak also serve encryption keys.
    if "use" in jwk and jwk["use"] != "sig":
        raise _Unusable("its use is not sig")
    operations = optional(jwk, "key_ops", as_list)
    if operations is not None and "verify" not in operations:
        raise _Unusable("its key_ops do not include verify")
    kty = required(jwk, "kty", as_text)
    # Only the public members are read, also of a private key that was published by mistake.
    names = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}.get(kty)
    if names is None:
        raise _Unusable("its kty is neither RSA nor EC")
    values = [required(jwk, name, as_text) for name in names]
    kid, alg = optional(jwk, "kid", as_text), optional(jwk, "alg", as_text)
    if kty == "EC" and values[0] not in _EC_ALGORITHMS:
        raise _Unusable("its curve is not P-256, P-384 or P-521")
    public: object
    try:
        if kty == "RSA":
            modulus, exponent = map(_uint, values)
            public = RSAPublicNumbers(exponent, modulus).public_key()
        else:
            x, y = map(_uint, values[1:])
            public = EllipticCurvePublicNumbers(x, y, _CURVES[values[0]]).public_key()
    except Exception:  # bad base64, a point off the curve, an even exponent: the types differ
        raise _Unusable(f"its {names[-2]} and {names[-1]} are not a valid {kty} public key") from None
    return _verification_key(public, kid=kid, alg=alg, issuer=issuer, source=source)


def told(skipped: Sequence[str]) -> str:
    """Return the first lines of ``skipped`` in one, and how many more there are."""
    rest = len(skipped) - _TOLD
    return "; ".join([*skipped[:_TOLD], *([f"and {rest} more"] if rest > 0 else [])])


def _identified(member: object) -> str:
    """Return which key of a set it is."""
    jwk = member if isinstance(member, Mapping) else {}
    found = ((name, jwk.get(name)) for name in _IDENTIFYING)
    words = ", ".join(f"{name} {quoted(value, 64)}" for name, value in found if isinstance(value, str))
    return f" ({words})" if words else ""


def _verification_key(
    public: object, *, kid: str | None, alg: str | None, issuer: IssuerPattern | None, source: str
) -> VerificationKey:
    if isinstance(public, RSAPublicKey):
        if not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS:
            raise _Unusable(f"an RSA key of {public.key_size} bits; expected {MIN_RSA_BITS} to {MAX_RSA_BITS}")
        rsa = public.public_numbers()
        jwk = {"kty": "RSA", "n": _number(rsa.n), "e": _number(rsa.e)}
        algorithms = _RSA_ALGORITHMS
    elif isinstance(public, EllipticCurvePublicKey):
        curve = _CURVE_NAMES.get(public.curve.name)
        if curve is None:
            raise _Unusable(f"an EC key on {public.curve.name}; expected P-256, P-384 or P-521")
        ec, size = public.public_numbers(), (public.key_size + 7) // 8
        jwk = {"kty": "EC", "crv": curve, "x": _number(ec.x, size), "y": _number(ec.y, size)}
        algorithms = frozenset((_EC_ALGORITHMS[curve],))
    else:
        raise _Unusable("a key that is neither RSA nor EC")
    if alg is not None:
        if alg not in algorithms:
            raise _Unusable("its alg does not fit its type")
        algorithms = frozenset((alg,))
    return VerificationKey(
        kty="RSA" if isinstance(public, RSAPublicKey) else "EC",
        algorithms=algorithms,
        kid=kid,
        issuer=issuer,
        source=source,
        thumbprint=_thumbprint(jwk),
        key=public,
    )


def _thumbprint(jwk: Mapping[str, str]) -> str:
    """The hash of the required members of a key, in the order of their names (RFC 7638, section 3)."""
    text = json.dumps(jwk, sort_keys=True, separators=(",", ":"))
    return _base64url(sha256(text.encode()).digest())


def _uint(text: str) -> int:
    """Base64urlUInt (RFC 7518, section 2). Padding and the standard alphabet are accepted. Raises ``ValueError``."""
    text = text.rstrip("=").translate(_TO_STANDARD_ALPHABET)
    return int.from_bytes(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))


def _number(number: int, size: int | None = None) -> str:
    """Base64urlUInt (RFC 7518, section 2), or the fixed size that section 6.2.1.2 wants for a coordinate."""
    return _base64url(number.to_bytes(size or (number.bit_length() + 7) // 8))


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
