"""jwk: which PEM texts and JWKs become keys, for which algorithms, and for which token a key is a candidate."""

from __future__ import annotations

import hashlib
import re

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.core import keys
from tests.support.each import each
from vmgw_core.errors import ConfigurationError
from vmgw_core.tokens.keys import (
    MAX_DOCUMENT_BYTES,
    MAX_KEYS,
    IssuerPattern,
    KeyDocumentError,
    KeySet,
    VerificationKey,
    keys_from_jwks,
    keys_from_pem,
)

_RSA_PEM = keys.pem(keys.rsa_key())
_EC_PEM = keys.pem(keys.ec_key())
_ALL_RSA = frozenset(keys.RSA_ALGORITHMS)

# The key of the specification, "JWT signature verification".
_SPECIFICATION_PEM = """`-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo
4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0/IzW7yWR7QkrmBL7jTKEn5u
+qKhbwKfBstIs+bMY2Zkp18gnTxKLxoS2tFczGkPLPgizskuemMghRniWaoLcyeh
kd3qqGElvW/VDL5AaWTg0nLVkjRo9z+40RQzuVaE8AkAFmxZzow3x+VJYKdjykkJ
0iT9wCS0DRTXu269V264Vf/3jvredZiKRkgwlL9xNAxwXFg0x/XFw005UWVRIkdg
cKWTjpBP2dPwVZ4WWC+9aGVd+Gyn1o0CLelf4rEjGoXbAAEgAqeGUxrcIlbjXfbc
mwIDAQAB
-----END PUBLIC KEY-----
`"""


def _public_pem(public: rsa.RSAPublicKey | dsa.DSAPublicKey | ed25519.Ed25519PublicKey) -> str:
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _rsa_of(bits: int) -> rsa.RSAPublicKey:
    """A public key of the given size; whether its modulus has two prime factors is no matter for reading it."""
    return rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key()


def _rsa_jwk(bits: int, **members: object) -> dict[str, object]:
    return {"kty": "RSA", "n": keys.number((1 << (bits - 1)) + 1), "e": "AQAB", **members}


# --- PEM -----------------------------------------------------------------------------------------------------------


def _pkcs1_pem() -> str:
    return keys.rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()


@each(
    ("text", "expected"),
    [
        pytest.param(_RSA_PEM, [_ALL_RSA], id="PUBLIC KEY, RSA"),
        pytest.param(_pkcs1_pem(), [_ALL_RSA], id="RSA PUBLIC KEY"),
        pytest.param(_EC_PEM, [{"ES256"}], id="PUBLIC KEY, P-256"),
        pytest.param(keys.pem(keys.ec_key("P-384")), [{"ES384"}], id="PUBLIC KEY, P-384"),
        pytest.param(keys.pem(keys.ec_key("P-521")), [{"ES512"}], id="PUBLIC KEY, P-521"),
        pytest.param(keys.certificate(keys.rsa_key()), [_ALL_RSA], id="CERTIFICATE, RSA"),
        pytest.param(keys.certificate(keys.ec_key()), [{"ES256"}], id="CERTIFICATE, EC"),
        pytest.param(_RSA_PEM + "\n# second\n" + _EC_PEM, [_ALL_RSA, {"ES256"}], id="two, with text between"),
        pytest.param(_SPECIFICATION_PEM, [_ALL_RSA], id="the specification's, in backquotes"),
        pytest.param(f'"{_RSA_PEM}"', [_ALL_RSA], id="double quotes"),
        pytest.param(f"'{_RSA_PEM}'", [_ALL_RSA], id="single quotes"),
        pytest.param(f"\n\t {_RSA_PEM}\r\n ", [_ALL_RSA], id="space around"),
        pytest.param(_RSA_PEM.replace("\n", " "), [_ALL_RSA], id="folded to one line"),
        pytest.param(_RSA_PEM.replace("\n", "\r\n    "), [_ALL_RSA], id="indented"),
        pytest.param(_public_pem(_rsa_of(2048)), [_ALL_RSA], id="smallest RSA"),
        pytest.param(_public_pem(_rsa_of(16384)), [_ALL_RSA], id="largest RSA"),
    ],
)
def test_pem_accepts(text: str, expected: list[set[str]]) -> None:
    for data in (text, text.encode()):
        found = keys_from_pem(data, "-auth.publicKeys[0]")
        assert [key.algorithms for key in found] == expected
        for key in found:
            assert key.kty == ("EC" if len(key.algorithms) == 1 else "RSA")
            assert key.kid is None
            assert key.issuer is None
            assert key.source == "-auth.publicKeys[0]"


def _broken(pem: str) -> str:
    return pem.replace(pem.splitlines()[1], "A" * 64)


@each(
    ("data", "message"),
    [
        pytest.param("", "expected PEM blocks, from -----BEGIN to -----END", id="empty"),
        pytest.param(" \n", "expected PEM blocks, from -----BEGIN to -----END", id="blank"),
        pytest.param("'", "expected PEM blocks, from -----BEGIN to -----END", id="one quote"),
        pytest.param("``", "expected PEM blocks, from -----BEGIN to -----END", id="empty quotes"),
        pytest.param("public_key.pem", "expected PEM blocks, from -----BEGIN to -----END", id="a file name"),
        pytest.param(b"\xff\xfe", "expected PEM text, got binary data", id="no text"),
        pytest.param(keys.private_pem(keys.rsa_key()), "this is a private key; configure its public key", id="private"),
        pytest.param(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n",
            "this is a private key; configure its public key",
            id="private, encrypted, cut",
        ),
        pytest.param(_RSA_PEM[:-30], "expected PEM blocks, from -----BEGIN to -----END", id="cut"),
        pytest.param(_EC_PEM + _RSA_PEM[:-30], "expected PEM blocks, from -----BEGIN to -----END", id="second is cut"),
        pytest.param(_broken(_RSA_PEM), "cannot read the PEM block PUBLIC KEY", id="broken key"),
        pytest.param(
            _broken(keys.certificate(keys.rsa_key())),
            "cannot read the PEM block CERTIFICATE",
            id="broken certificate",
        ),
        pytest.param(
            "-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----",
            "cannot read the PEM block PUBLIC KEY",
            id="no base64",
        ),
        pytest.param(
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----",
            "unsupported PEM block EC PARAMETERS; expected PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE",
            id="another block",
        ),
        pytest.param(
            _public_pem(_rsa_of(2047)), "an RSA key of 2047 bits; expected 2048 to 16384", id="one bit too small"
        ),
        pytest.param(
            _public_pem(_rsa_of(16385)), "an RSA key of 16385 bits; expected 2048 to 16384", id="one bit too large"
        ),
        pytest.param(
            keys.pem(keys.ec_key("secp256k1")), "an EC key on secp256k1; expected P-256, P-384 or P-521", id="curve"
        ),
        pytest.param(
            _public_pem(ed25519.Ed25519PrivateKey.generate().public_key()),
            "a key that is neither RSA nor EC",
            id="Ed25519",
        ),
    ],
)
def test_pem_rejects(data: bytes | str, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        keys_from_pem(data, "-auth.publicKeyFiles[0] public_key.pem")
    assert str(error.value) == f"-auth.publicKeyFiles[0] public_key.pem: {message}"


@each(
    ("data", "message"),
    [
        pytest.param(
            _RSA_PEM + keys.private_pem(keys.ec_key()), "this is a private key; configure its public key", id="private"
        ),
        pytest.param(_RSA_PEM + _broken(_EC_PEM), "cannot read the PEM block PUBLIC KEY", id="broken"),
    ],
)
def test_the_line_of_a_second_block_is_named(data: str, message: str) -> None:
    line = _RSA_PEM.count("\n") + 1
    for before in ("", "\n\n"):
        with pytest.raises(ConfigurationError) as error:
            keys_from_pem(before + data, "k.pem")
        assert str(error.value) == f"k.pem, line {line + len(before)}: {message}"


# --- JWK Set -------------------------------------------------------------------------------------------------------


@each(
    ("jwk", "algorithms"),
    [
        pytest.param(keys.jwk(keys.rsa_key()), _ALL_RSA, id="RSA"),
        pytest.param(keys.jwk(keys.rsa_key(), alg="PS384"), {"PS384"}, id="RSA with alg"),
        pytest.param(keys.jwk(keys.rsa_key(), use="sig", key_ops=["sign", "verify"]), _ALL_RSA, id="use and key_ops"),
        pytest.param(keys.jwk(keys.rsa_key(), d="c2VjcmV0", p="x"), _ALL_RSA, id="private members are not looked at"),
        pytest.param(keys.jwk(keys.rsa_key(), x5c=["MII"], foo=None), _ALL_RSA, id="nor others"),
        pytest.param(keys.jwk(keys.ec_key("P-256")), {"ES256"}, id="P-256"),
        pytest.param(keys.jwk(keys.ec_key("P-384"), alg="ES384"), {"ES384"}, id="P-384 with alg"),
        pytest.param(keys.jwk(keys.ec_key("P-521")), {"ES512"}, id="P-521"),
        pytest.param(_rsa_jwk(2048), _ALL_RSA, id="smallest RSA"),
        pytest.param(_rsa_jwk(16384), _ALL_RSA, id="largest RSA"),
    ],
)
def test_jwk_accepts(jwk: dict[str, object], algorithms: set[str]) -> None:
    issuer = IssuerPattern(keys.ISSUER)
    result = keys_from_jwks(keys.jwks({**jwk, "kid": "k1"}), "endpoint", issuer)
    assert result.skipped == ()
    (key,) = result.keys
    assert key.algorithms == algorithms
    assert (key.kty, key.kid, key.issuer, key.source) == (jwk["kty"], "k1", issuer, "endpoint")
    assert isinstance(key.key, RSAPublicKey | EllipticCurvePublicKey)


_NO_RSA_KEY = "its n and e are not a valid RSA public key"
_NO_EC_KEY = "its x and y are not a valid EC public key"


@each(
    ("jwk", "reason"),
    [
        pytest.param(None, "key: expected an object, got null", id="null"),
        pytest.param("key", "key: expected an object, got a string", id="a string"),
        pytest.param({}, "kty: missing", id="empty"),
        pytest.param({"kty": 1}, "kty: expected a string, got an integer", id="kty no text"),
        pytest.param({"kty": "oct", "k": "c2VjcmV0"}, "its kty is neither RSA nor EC", id="oct"),
        pytest.param({"kty": "OKP", "crv": "Ed25519", "x": "AA"}, "its kty is neither RSA nor EC", id="OKP"),
        pytest.param({"kty": "AKP", "pub": "AA"}, "its kty is neither RSA nor EC", id="a type of the future"),
        pytest.param(keys.jwk(keys.rsa_key(), use="enc"), "its use is not sig", id="use enc"),
        pytest.param(keys.jwk(keys.rsa_key(), use=None), "its use is not sig", id="use null"),
        pytest.param(keys.jwk(keys.rsa_key(), key_ops=["encrypt"]), "its key_ops do not include verify", id="key_ops"),
        pytest.param(keys.jwk(keys.rsa_key(), key_ops=[]), "its key_ops do not include verify", id="no key_ops"),
        pytest.param(
            keys.jwk(keys.rsa_key(), key_ops="verify"), "key_ops: expected a list, got a string", id="ops text"
        ),
        pytest.param(keys.jwk(keys.rsa_key(), alg="RSA-OAEP"), "its alg does not fit its type", id="RSA-OAEP"),
        pytest.param(keys.jwk(keys.rsa_key(), alg="HS256"), "its alg does not fit its type", id="HS256"),
        pytest.param(keys.jwk(keys.rsa_key(), alg="none"), "its alg does not fit its type", id="none"),
        pytest.param(keys.jwk(keys.rsa_key(), alg="ES256"), "its alg does not fit its type", id="ES256 for RSA"),
        pytest.param(
            keys.jwk(keys.ec_key("P-384"), alg="ES256"), "its alg does not fit its type", id="another curve's"
        ),
        pytest.param(keys.jwk(keys.rsa_key(), alg=256), "alg: expected a string, got an integer", id="alg no text"),
        pytest.param(_rsa_jwk(2047), "an RSA key of 2047 bits; expected 2048 to 16384", id="one bit too small"),
        pytest.param(_rsa_jwk(16385), "an RSA key of 16385 bits; expected 2048 to 16384", id="one bit too large"),
        pytest.param({**_rsa_jwk(2048), "e": "AA"}, _NO_RSA_KEY, id="exponent 0"),
        pytest.param({**_rsa_jwk(2048), "e": ""}, _NO_RSA_KEY, id="no exponent"),
        pytest.param({**_rsa_jwk(2048), "n": "!"}, _NO_RSA_KEY, id="no base64url"),
        pytest.param({"kty": "RSA", "e": "AQAB"}, "n: missing", id="no modulus"),
        pytest.param(keys.jwk(keys.ec_key(), crv="secp256k1"), "its curve is not P-256, P-384 or P-521", id="curve"),
        pytest.param(keys.jwk(keys.ec_key(), crv="P-384"), _NO_EC_KEY, id="a point of another curve"),
        pytest.param(keys.jwk(keys.ec_key(), x=keys.number(1)), _NO_EC_KEY, id="no point"),
        pytest.param(keys.jwk(keys.ec_key(), y=None), "y: expected a string, got null", id="null coordinate"),
    ],
)
def test_jwk_skips_one_and_keeps_the_others(jwk: object, reason: str) -> None:
    good = keys.jwk(keys.ec_key(), kid="good")
    result = keys_from_jwks(keys.jwks(jwk, good), "endpoint")
    assert [key.kid for key in result.keys] == ["good"]
    (line,) = result.skipped
    assert re.fullmatch(r"keys\[0\](?: \([a-z]+ \".*\"\))?: " + re.escape(reason), line)


def test_a_kid_has_to_be_text() -> None:
    result = keys_from_jwks(keys.jwks(keys.jwk(keys.ec_key(), kid=7), keys.jwk(keys.ec_key(), kid=None)), "endpoint")
    assert result.keys == ()
    assert result.skipped == (
        'keys[0] (kty "EC", crv "P-256"): kid: expected a string, got an integer',
        'keys[1] (kty "EC", crv "P-256"): kid: expected a string, got null',
    )


def test_a_set_without_a_usable_key_says_why_for_each_in_bounds() -> None:
    symmetric = {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256", "use": "sig"}
    result = keys_from_jwks(keys.jwks(symmetric, keys.jwk(keys.rsa_key(), use="enc", alg="RSA-OAEP")), "endpoint")
    assert result.why_none() == (
        'no usable key: keys[0] (kid "s", kty "oct", alg "HS256", use "sig"): its kty is neither RSA nor EC; '
        'keys[1] (kty "RSA", alg "RSA-OAEP", use "enc"): its use is not sig'
    )
    assert "c2VjcmV0" not in result.why_none()
    assert keys_from_jwks(keys.jwks(), "endpoint").why_none() == "no usable key: the set is empty"
    many = keys_from_jwks(keys.jwks(*[{"kty": "x" * 900, "alg": "y" * 900}] * 300), "endpoint")
    assert many.why_none().endswith("; and 249 more")
    assert many.why_none().count("its kty is neither RSA nor EC") == 8
    assert len(many.why_none()) < 2000


def test_what_is_skipped_is_named_by_its_kid_in_one_line() -> None:
    jwk = keys.jwk(keys.rsa_key(), use="enc", kid="line\nbreak ä" + "x" * 100)
    (line,) = keys_from_jwks(keys.jwks(jwk), "endpoint").skipped
    assert line == r'keys[0] (kid "line\nbreak \u00e4' + "x" * 46 + '...", kty "RSA", use "enc"): its use is not sig'


@each(
    ("document", "message"),
    [
        pytest.param(b"", "JWK Set: not valid JSON (line 1, column 1)", id="empty"),
        pytest.param(b"<html>", "JWK Set: not valid JSON (line 1, column 1)", id="HTML"),
        pytest.param(b"[]", "JWK Set: expected an object, got a list", id="list"),
        pytest.param(b"{}", "keys: missing", id="no keys"),
        pytest.param(b'{"keys":null}', "keys: expected a list, got null", id="null"),
        pytest.param(b'{"keys":{}}', "keys: expected a list, got an object", id="object"),
        pytest.param(b'{"keys":[],"keys":[]}', "JWK Set: a name occurs twice in one object", id="duplicate"),
        pytest.param(b" " * (MAX_DOCUMENT_BYTES + 1), "the JWK Set is larger than 1048576 bytes", id="too long"),
    ],
)
def test_jwks_rejects(document: bytes, message: str) -> None:
    with pytest.raises(KeyDocumentError) as error:
        keys_from_jwks(document, "endpoint")
    assert str(error.value) == message


def test_jwks_bounds() -> None:
    document = keys.jwks(keys.jwk(keys.ec_key(), kid="k"))
    assert len(keys_from_jwks(document.ljust(MAX_DOCUMENT_BYTES), "endpoint").keys) == 1
    assert keys_from_jwks(b'{"keys":[]}', "endpoint").keys == ()
    # None is a key, so that this takes no time; the last one would be.
    members = [None] * (MAX_KEYS - 1) + [keys.jwk(keys.ec_key(), kid="k")]
    result = keys_from_jwks(keys.jwks(*members), "endpoint")
    assert (len(result.keys), len(result.skipped)) == (1, MAX_KEYS - 1)
    result = keys_from_jwks(keys.jwks(None, *members), "endpoint")
    assert (len(result.keys), len(result.skipped)) == (0, MAX_KEYS + 1)
    assert result.skipped[-1] == "keys[256] and all after it: more than 256 keys"


# --- keys ----------------------------------------------------------------------------------------------------------


def test_thumbprint_of_rfc7638() -> None:
    """RFC 7638, section 3.1."""
    jwk = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"
        "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
        "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"
        "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    }
    (key,) = keys_from_jwks(keys.jwks(jwk), "endpoint").keys
    assert key.thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
def test_thumbprint_is_of_the_key_and_not_of_its_spelling(curve: str) -> None:
    # A scalar whose public x begins with a zero byte, so a spelling without it differs from the canonical one.
    for scalar in range(1, 5000):
        private = ec.derive_private_key(scalar, keys.ec_key(curve).curve)
        size = (private.key_size + 7) // 8
        x = private.public_key().public_numbers().x
        if x.bit_length() <= 8 * (size - 1):
            break
    else:
        pytest.fail("no such scalar")
    full, short = keys.jwk(private), keys.jwk(private, x=keys.number(x))
    assert full["x"] != short["x"]
    result = keys_from_jwks(keys.jwks(full, short), "endpoint")
    prints = {key.thumbprint for key in (*result.keys, *keys_from_pem(keys.pem(private), "pem"))}
    assert len(result.keys) == 2
    # RFC 7638, section 3.2: the required members in their order, and the coordinates in full length.
    canonical = f'{{"crv":"{curve}","kty":"EC","x":"{full["x"]}","y":"{full["y"]}"}}'
    assert prints == {keys.b64(hashlib.sha256(canonical.encode()).digest())}


def test_repr_holds_no_key_material() -> None:
    jwk = keys.jwk(keys.rsa_key(), kid="k", d="c2VjcmV0")
    shown = repr(keys_from_jwks(keys.jwks(jwk), "endpoint"))
    assert "thumbprint" in shown
    assert jwk["n"] not in shown
    assert "c2VjcmV0" not in shown
    modulus = keys.rsa_key().public_key().public_numbers().n
    assert str(modulus) not in shown


def test_a_key_is_a_value() -> None:
    document = keys.jwks(keys.jwk(keys.rsa_key(), kid="k"))
    first, second = (keys_from_jwks(document, "endpoint").keys[0] for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first.key is not second.key


# --- which key for which token -------------------------------------------------------------------------------------


def _jwks_key(kid: str | None, issuer: str | None = None, name: str = "first") -> VerificationKey:
    jwk = keys.jwk(keys.ec_key("P-256", name)) if kid is None else keys.jwk(keys.ec_key("P-256", name), kid=kid)
    (key,) = keys_from_jwks(keys.jwks(jwk), "endpoint", None if issuer is None else IssuerPattern(issuer)).keys
    return key


def test_candidates() -> None:
    (pem,) = keys_from_pem(_EC_PEM, "pem")
    (rsa_pem,) = keys_from_pem(_RSA_PEM, "pem")
    k1, k2, no_kid = _jwks_key("k1"), _jwks_key("k2"), _jwks_key(None)
    of_issuer = _jwks_key("k1", keys.ISSUER)
    keyset = KeySet((pem, rsa_pem, k1, k2, no_kid, of_issuer))
    assert len(keyset) == 6
    assert keyset.candidates("ES256", "k1", None) == [pem, k1, no_kid]
    assert keyset.candidates("ES256", "k2", keys.ISSUER) == [pem, k2, no_kid]
    assert keyset.candidates("ES256", "k3", None) == [pem, no_kid]
    assert keyset.candidates("ES256", "", None) == [pem, no_kid]
    assert keyset.candidates("ES256", None, None) == [pem, k1, k2, no_kid]
    assert keyset.candidates("ES256", "k1", keys.ISSUER) == [pem, k1, no_kid, of_issuer]
    assert keyset.candidates("RS256", "k1", keys.ISSUER) == [rsa_pem]
    assert keyset.candidates("ES384", None, keys.ISSUER) == []
    assert keyset.candidates("HS256", None, keys.ISSUER) == []


def test_an_empty_set_is_false() -> None:
    assert not KeySet(())
    assert KeySet((_jwks_key("k"),))


_AZURE = "https://login.microsoftonline.com/{tenantid}/v2.0"


@each(
    ("template", "iss", "matches"),
    [
        pytest.param(keys.ISSUER, keys.ISSUER, True, id="equal"),
        pytest.param(keys.ISSUER, keys.ISSUER + "/", False, id="slash added"),
        pytest.param(keys.ISSUER, keys.ISSUER + "\n", False, id="line break added"),
        pytest.param(keys.ISSUER, keys.ISSUER + ".evil.example", False, id="as a prefix"),
        pytest.param(keys.ISSUER, "x" + keys.ISSUER, False, id="as a suffix"),
        pytest.param(keys.ISSUER, keys.ISSUER.upper(), False, id="other case"),
        pytest.param(keys.ISSUER, keys.ISSUER.replace(".", "x"), False, id="a dot is a dot"),
        pytest.param(keys.ISSUER, "", False, id="empty"),
        pytest.param(keys.ISSUER, None, False, id="absent"),
        pytest.param(keys.ISSUER, [keys.ISSUER], False, id="a list"),
        pytest.param(_AZURE, "https://login.microsoftonline.com/7f/v2.0", True, id="template"),
        pytest.param(_AZURE, "https://login.microsoftonline.com//v2.0", False, id="template, empty segment"),
        pytest.param(_AZURE, "https://login.microsoftonline.com/a/b/v2.0", False, id="template, two segments"),
        pytest.param(_AZURE, "https://login.microsoftonline.com/7f/v2.0/x", False, id="template, more after it"),
        pytest.param(_AZURE, "https://login.microsoftonline.com/7f/v2x0", False, id="template, a dot is a dot"),
        pytest.param(
            _AZURE, "https://login.microsoftonline.com.evil.example/7f/v2.0", False, id="template, other host"
        ),
        pytest.param(_AZURE, "evil https://login.microsoftonline.com/7f/v2.0", False, id="template, more before it"),
        pytest.param("https://a.example/{t}", "https://a.example/x", True, id="placeholder at the end"),
        pytest.param("https://a.example/{t}", "https://a.example/x/y", False, id="placeholder at the end, two"),
        pytest.param("https://a.example/{t}/{u}", "https://a.example/x/y", True, id="two placeholders"),
        pytest.param("https://{host}/x", "https://evil.example/x", False, id="no placeholder for a host"),
        pytest.param("https://{host}/x", "https://{host}/x", True, id="where braces are braces"),
        pytest.param("https://{a}.example/x", "https://evil.example/x", False, id="nor for a part of a host"),
        pytest.param("https://a.example/t-{t}", "https://a.example/t-x", False, id="nor for a part of a segment"),
        pytest.param("https://a.example/.*", "https://a.example/xx", False, id="no regular expression"),
    ],
)
def test_issuer(template: str, iss: object, matches: bool) -> None:
    assert IssuerPattern(template).matches(iss) is matches


def test_issuer_is_a_value_and_not_empty() -> None:
    assert IssuerPattern("a") == IssuerPattern("a") != IssuerPattern("b")
    assert len({IssuerPattern("a"), IssuerPattern("a")}) == 1
    with pytest.raises(ValueError):
        IssuerPattern("")


def test_a_document_with_any_byte_broken_gives_a_result_or_an_error_of_ours() -> None:
    document = keys.jwks(keys.jwk(keys.ec_key(), kid="k", use="sig"))
    outcomes: set[object] = set()
    for position in range(len(document)):
        for byte in (0, 34, 123, 255):
            try:
                result = keys_from_jwks(document[:position] + bytes([byte]) + document[position + 1 :], "endpoint")
            except KeyDocumentError:
                outcomes.add("refused")
            else:
                outcomes.add(len(result.keys))
    assert outcomes == {"refused", 0, 1}
