"""jws: the syntax of a token, the attacks that are made with its header, and which key verifies it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core import keys
from tests.support.each import each
from vmgw_core.errors import MalformedToken, SignatureNotChecked, TokenRefused, UnknownKey, UnsupportedAlgorithm
from vmgw_core.tokens import signature as jws
from vmgw_core.tokens.algorithms import ALGORITHMS, verifies
from vmgw_core.tokens.keys import IssuerPattern, KeySet, VerificationKey, keys_from_jwks, keys_from_pem

_HEADER = {"alg": "RS256"}


def _pem_keys(*private: keys.PrivateKey) -> KeySet:
    return KeySet(tuple(key for each in private for key in keys_from_pem(keys.pem(each), "pem")))


def _jwks_keys(*members: object, issuer: str | None = None) -> KeySet:
    pattern = None if issuer is None else IssuerPattern(issuer)
    return KeySet(keys_from_jwks(keys.jwks(*members), "endpoint", pattern).keys)


def _verify(token: str, keyset: KeySet) -> VerificationKey:
    parsed = jws.parse_compact(token)
    return jws.verify(parsed, keyset, parsed.payload.get("iss"))


def _code(token: str, keyset: KeySet) -> str:
    with pytest.raises(TokenRefused) as error:
        _verify(token, keyset)
    assert token not in str(error.value)
    return error.value.code


# --- syntax --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        pytest.param({"alg": "RS256"}, {}, id="least"),
        pytest.param({"alg": "RS256", "typ": "JWT", "kid": "k", "cty": "x"}, {"exp": 1}, id="typ, kid, cty"),
        pytest.param({"alg": "RS256", "typ": "", "kid": "", "x5t": "t", "zz": None}, {}, id="empty and unknown"),
        pytest.param({"alg": "HS256"}, {}, id="any algorithm: it is judged later"),
        pytest.param(b' {"alg" : "RS256"} ', b'{\n"exp": 1}\n', id="white space in the JSON"),
    ],
)
def test_parse_accepts(header: object, payload: object) -> None:
    token = keys.compact(header, payload, b"\x00sig")
    parsed = jws.parse_compact(token)
    assert parsed.header == (json.loads(header) if isinstance(header, bytes) else header)
    assert parsed.payload == (json.loads(payload) if isinstance(payload, bytes) else payload)
    assert parsed.signature == b"\x00sig"
    assert parsed.signing_input.decode() == token.rpartition(".")[0]


def test_the_standard_alphabet_is_accepted() -> None:
    for signature in (b"\xfb\xff\xfe", b"\xff\xff\xff", b"\xfb\xef\xbe"):
        token = keys.compact(_HEADER, {"x": "???>>>"}, signature)
        standard = token.replace("-", "+").replace("_", "/")
        assert standard != token
        assert jws.parse_compact(standard).signature == signature
        assert jws.parse_compact(standard).signing_input.decode() == standard.rpartition(".")[0]


def _segments(header: str | None = None, payload: str = "e30", signature: str = "AAAA") -> str:
    return f"{keys.b64(json.dumps(_HEADER).encode()) if header is None else header}.{payload}.{signature}"


@each(
    ("token", "message"),
    [
        pytest.param("", "expected three segments between dots, got 1", id="empty"),
        pytest.param("incorrect-token", "expected three segments between dots, got 1", id="the specification's"),
        pytest.param("e30.e30", "expected three segments between dots, got 2", id="two segments"),
        pytest.param("e30.e30.e30.e30", "expected three segments between dots, got 4", id="four segments"),
        pytest.param("a.b.c.d.e", "expected three segments between dots, got 5", id="five: a JWE"),
        pytest.param("..", "header: not valid JSON (line 1, column 1)", id="dots only"),
        pytest.param(_segments(payload=""), "payload: not valid JSON (line 1, column 1)", id="no payload"),
        pytest.param(_segments(signature=""), "signature: empty", id="no signature"),
        pytest.param(_segments(signature="AAA="), "signature: not base64url without padding", id="padding"),
        pytest.param(_segments(signature="AAAAA"), "signature: not base64url without padding", id="length of 1 mod 4"),
        pytest.param(_segments(signature="AA A"), "signature: not base64url without padding", id="space"),
        pytest.param(_segments(signature="AAAA\n"), "signature: not base64url without padding", id="line break"),
        pytest.param(_segments(signature="-_+/"), "signature: not base64url without padding", id="mixed alphabets"),
        pytest.param(_segments(signature="AAÄA"), "signature: not base64url without padding", id="not ASCII"),
        pytest.param(_segments(signature="\ud800AAA"), "signature: not base64url without padding", id="a surrogate"),
        pytest.param(_segments(payload="e30\x00"), "payload: not base64url without padding", id="NUL"),
        pytest.param(_segments(signature="AB"), "signature: not canonical base64url: unused bits are set", id="4 bits"),
        pytest.param(
            _segments(signature="AAB"), "signature: not canonical base64url: unused bits are set", id="2 bits"
        ),
        pytest.param(
            _segments(payload="e31"), "payload: not canonical base64url: unused bits are set", id="of payload"
        ),
        pytest.param(keys.compact([], {}), "header: expected an object, got a list", id="header is a list"),
        pytest.param(keys.compact(b"\xff", {}), "header: not valid UTF-8", id="header is no UTF-8"),
        pytest.param(
            keys.compact(b'{"alg":"RS256","alg":"RS256"}', {}),
            "header: a name occurs twice in one object",
            id="alg twice",
        ),
        pytest.param(
            keys.compact(b'{"alg":"none","\\u0061lg":"RS256"}', {}),
            "header: a name occurs twice in one object",
            id="alg twice, once escaped",
        ),
        pytest.param(keys.compact({}, {}), "header.alg: missing", id="no alg"),
        pytest.param(keys.compact({"ALG": "RS256"}, {}), "header.alg: missing", id="other case"),
        pytest.param(keys.compact({"alg": None}, {}), "header.alg: expected a string, got null", id="alg null"),
        pytest.param(keys.compact({"alg": ["RS256"]}, {}), "header.alg: expected a string, got a list", id="alg list"),
        pytest.param(
            keys.compact({**_HEADER, "typ": 1}, {}), "header.typ: expected a string, got an integer", id="typ"
        ),
        pytest.param(keys.compact({**_HEADER, "kid": None}, {}), "header.kid: expected a string, got null", id="kid"),
        pytest.param(
            keys.compact({**_HEADER, "cty": {}}, {}), "header.cty: expected a string, got an object", id="cty"
        ),
        pytest.param(keys.compact({**_HEADER, "crit": ["x"]}, {}), "header.crit: not accepted", id="crit"),
        pytest.param(keys.compact({**_HEADER, "crit": []}, {}), "header.crit: not accepted", id="crit, empty"),
        pytest.param(keys.compact({**_HEADER, "crit": None}, {}), "header.crit: not accepted", id="crit, null"),
        pytest.param(keys.compact({**_HEADER, "b64": True}, {}), "header.b64: not accepted", id="b64"),
        pytest.param(
            keys.compact(_HEADER, "{}"), "payload: expected an object, got a string", id="payload is a string"
        ),
        pytest.param(keys.compact(_HEADER, b'{"a":NaN}'), "payload: NaN is not a JSON number", id="NaN"),
        pytest.param(keys.compact(_HEADER, b"[" * 9000), "payload: nested deeper than 32 levels", id="deep"),
        pytest.param("." * (32 * 1024 + 1), "the token is longer than 32768 characters", id="too long"),
    ],
)
def test_parse_rejects(token: str, message: str) -> None:
    with pytest.raises(MalformedToken) as error:
        jws.parse_compact(token)
    assert str(error.value) == message


@each("alg", ["none", "None", "NONE", "nOnE", " none", "none ", "", " "])
def test_none_is_refused_before_anything_else(alg: str) -> None:
    token = keys.compact({"alg": alg, "crit": []}, b"no JSON", b"")
    assert token.endswith(".")
    with pytest.raises(UnsupportedAlgorithm, match=r"^`alg` is none$"):
        jws.parse_compact(token)


def test_the_longest_token() -> None:
    token = keys.sign({"exp": 1}, keys.ec_key())
    limit = 20_000
    room = limit - len(token)
    for filler in range(room * 3 // 4 - 10, room * 3 // 4):
        token = keys.sign({"exp": 1, "x": "y" * filler}, keys.ec_key())
        if len(token) > limit:
            break
        longest = token
    assert limit - 2 <= len(longest) <= limit
    assert jws.parse_compact(longest, limit).payload["exp"] == 1
    with pytest.raises(MalformedToken, match=r"^the token is longer than 20000 characters$"):
        jws.parse_compact(token, limit)


def test_repr_holds_nothing_of_the_token() -> None:
    assert repr(jws.parse_compact(keys.compact(_HEADER, {"sub": "alice"}))) == "CompactJWS()"


# --- signatures ----------------------------------------------------------------------------------------------------


@each("alg", sorted(ALGORITHMS))
@each("source", ["pem", "jwks", "jwks with alg"])
def test_every_algorithm(alg: str, source: str) -> None:
    private = keys.key_for(alg)
    members = {"kid": "k1"} if source == "jwks" else {"kid": "k1", "alg": alg}
    keyset = _pem_keys(private) if source == "pem" else _jwks_keys(keys.jwk(private, **members))
    header = {"alg": alg, "typ": "JWT", "kid": "k1"}
    token = keys.sign(keys.claims(), private, header)
    assert _verify(token, keyset) is keyset.keys[0]
    signature = base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")
    for broken in (signature[:-1], signature + b"\x00", b"\x00" + signature, bytes(len(signature)), b"\x00"):
        assert _code(f"{token.rpartition('.')[0]}.{keys.b64(broken)}", keyset) == "bad_signature"
    assert (
        _code(
            keys.sign(keys.claims(other=1), private, header).rpartition(".")[0] + "." + token.rpartition(".")[2], keyset
        )
        == "bad_signature"
    )


def test_the_algorithms_are_the_specifications() -> None:
    """The specification, "JWT signature verification"."""
    names = "RS256, RS384, RS512, ES256, ES384, ES512, PS256, PS384, PS512"
    assert sorted(ALGORITHMS) == sorted(names.split(", "))


# RFC 7515, appendices A.2.1 and A.3.1.
_RFC_PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
_RFC_RS256 = (
    {
        "kty": "RSA",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR"
        "T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB"
        "dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9ia"
        "GNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
        "e": "AQAB",
    },
    "eyJhbGciOiJSUzI1NiJ9",
    (
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9"
        "uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB"
        "_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rq"
        "Vt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    ),
)
_RFC_ES256 = (
    {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    },
    "eyJhbGciOiJFUzI1NiJ9",
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
)


@pytest.mark.parametrize("vector", [pytest.param(_RFC_RS256, id="A.2"), pytest.param(_RFC_ES256, id="A.3")])
def test_vectors_of_rfc7515(vector: tuple[dict[str, object], str, str]) -> None:
    jwk, header, signature = vector
    assert _verify(f"{header}.{_RFC_PAYLOAD}.{signature}", _jwks_keys(jwk)).algorithms


def test_the_public_key_is_no_shared_secret() -> None:
    """HS256 with the RSA public key's text as the secret, the algorithm confusion of many JWT libraries."""
    keyset = _pem_keys(keys.rsa_key())
    text = keys.pem(keys.rsa_key())
    for secret in (text, text.strip(), text.replace("\n", "")):
        assert _code(keys.sign(keys.claims(), secret.encode(), {"alg": "HS256"}), keyset) == "unsupported_algorithm"
    # The same MAC under the name of an algorithm that is supported.
    signing_input = keys.compact({"alg": "RS256"}, keys.claims()).rpartition(".")[0]
    mac = hmac.new(text.encode(), signing_input.encode(), hashlib.sha256).digest()
    assert _code(f"{signing_input}.{keys.b64(mac)}", keyset) == "bad_signature"


@each("alg", ["HS256", "HS384", "HS512", "EdDSA", "Ed25519", "ES256K", "RS1", "rs256", "RS256 ", "dir"])
def test_other_algorithms(alg: str) -> None:
    keyset = _pem_keys(keys.rsa_key(), keys.ec_key())
    assert _code(keys.compact({"alg": alg}, keys.claims()), keyset) == "unsupported_algorithm"


def test_an_oct_key_in_a_jwks_verifies_nothing() -> None:
    keyset = _jwks_keys({"kty": "oct", "k": keys.b64(b"secret"), "kid": "k1"}, keys.jwk(keys.rsa_key(), kid="k1"))
    assert len(keyset) == 1
    assert _code(keys.sign(keys.claims(), b"secret", {"alg": "HS256", "kid": "k1"}), keyset) == "unsupported_algorithm"


def test_the_key_decides_about_the_algorithm() -> None:
    rsa, p256, p384 = keys.rsa_key(), keys.ec_key("P-256"), keys.ec_key("P-384")
    only_ps = _jwks_keys(keys.jwk(rsa, alg="PS256"))
    assert _verify(keys.sign(keys.claims(), rsa, {"alg": "PS256"}), only_ps)
    assert _code(keys.sign(keys.claims(), rsa, {"alg": "RS256"}), only_ps) == "unknown_key"
    assert _code(keys.sign(keys.claims(), rsa, {"alg": "PS384"}), only_ps) == "unknown_key"
    # A good signature by a key of another curve, under this curve's name and under its own.
    assert _code(keys.sign(keys.claims(), p384, {"alg": "ES256"}), _pem_keys(p384)) == "unknown_key"
    assert _code(keys.sign(keys.claims(), p384, {"alg": "ES256"}), _pem_keys(p256)) == "bad_signature"
    assert _code(keys.sign(keys.claims(), p256, {"alg": "ES384"}), _pem_keys(p256, p384)) == "bad_signature"
    assert _code(keys.sign(keys.claims(), rsa, {"alg": "RS256"}), _pem_keys(p256, p384)) == "unknown_key"
    assert _code(keys.sign(keys.claims(), rsa, {"alg": "RS256"}), KeySet(())) == "unknown_key"
    # PKCS #1 v1.5 under the name of PSS.
    signing_input = keys.compact({"alg": "PS256"}, keys.claims()).rpartition(".")[0]
    signature = keys.raw_signature(signing_input.encode(), rsa, "RS256")
    assert _code(f"{signing_input}.{keys.b64(signature)}", _pem_keys(rsa)) == "bad_signature"


_KEYS_IN_HEADERS: dict[str, object] = {
    "jwk": keys.jwk(keys.rsa_key("attacker")),
    "jku": "https://evil.example/keys",
    "x5u": "https://evil.example/chain.pem",
    "x5c": [keys.certificate(keys.rsa_key("attacker"))],
    "x5t": "Zm9v",
    "x5t#S256": "Zm9v",
}


@each("name", _KEYS_IN_HEADERS)
@each("value", ["what it is for", None, 1, [], {}], ids=repr)
def test_a_key_in_the_header_is_ignored(name: str, value: object) -> None:
    """A configured key verifies as ever, and the key that comes along verifies nothing."""
    keyset = _pem_keys(keys.rsa_key())
    header = {"alg": "RS256", name: _KEYS_IN_HEADERS[name] if value == "what it is for" else value}
    assert _verify(keys.sign(keys.claims(), keys.rsa_key(), header), keyset) is keyset.keys[0]
    assert _code(keys.sign(keys.claims(), keys.rsa_key("attacker"), header), keyset) == "bad_signature"


@pytest.mark.parametrize("size", [64, 96, 132])
def test_the_psychic_signature(size: int) -> None:
    """r = s = 0, which verified everything with some implementations of ECDSA (CVE-2022-21449)."""
    alg, curve = {64: ("ES256", "P-256"), 96: ("ES384", "P-384"), 132: ("ES512", "P-521")}[size]
    assert (
        _code(keys.compact({"alg": alg}, keys.claims(), bytes(size)), _pem_keys(keys.ec_key(curve))) == "bad_signature"
    )


def test_kid() -> None:
    first, second = keys.ec_key(), keys.ec_key("P-256", "second")
    keyset = _jwks_keys(keys.jwk(first, kid="k1"), keys.jwk(second, kid="k2"))
    for private, kid, index in ((first, "k1", 0), (second, "k2", 1)):
        assert _verify(keys.sign(keys.claims(), private, {"alg": "ES256", "kid": kid}), keyset) is keyset.keys[index]
        assert _verify(keys.sign(keys.claims(), private, {"alg": "ES256"}), keyset) is keyset.keys[index]
    assert _code(keys.sign(keys.claims(), first, {"alg": "ES256", "kid": "k2"}), keyset) == "bad_signature"
    assert _code(keys.sign(keys.claims(), first, {"alg": "ES256", "kid": "k3"}), keyset) == "unknown_key"
    # A PEM key has no kid to compare.
    assert _verify(keys.sign(keys.claims(), first, {"alg": "ES256", "kid": "k3"}), _pem_keys(second, first))


@pytest.mark.parametrize(
    ("iss", "code"),
    [
        pytest.param(keys.ISSUER, None, id="the issuer"),
        pytest.param(keys.ISSUER + ".evil.example", "wrong_issuer", id="the issuer as a prefix"),
        pytest.param(None, "wrong_issuer", id="null"),
        pytest.param([keys.ISSUER], "wrong_issuer", id="a list with the issuer"),
    ],
)
def test_issuer(iss: object, code: str | None) -> None:
    keyset = _jwks_keys(keys.jwk(keys.ec_key()), issuer=keys.ISSUER)
    token = keys.sign(keys.claims(iss=iss), keys.ec_key())
    if code is None:
        assert _verify(token, keyset)
    else:
        assert _code(token, keyset) == code


def test_the_number_of_candidates_is_bounded() -> None:
    other, right = keys.jwk(keys.ec_key("P-256", "second")), keys.jwk(keys.ec_key())
    token = keys.sign(keys.claims(), keys.ec_key())
    assert _verify(token, _jwks_keys(*[other] * (jws.MAX_CANDIDATES - 1), right))
    assert _code(token, _jwks_keys(*[other] * jws.MAX_CANDIDATES, right)) == "bad_signature"


def test_a_failure_of_the_library_is_no_bad_signature() -> None:
    (good,) = _pem_keys(keys.ec_key()).keys
    (rsa,) = _pem_keys(keys.rsa_key()).keys
    # What cannot be built from any PEM or JWK: an RSA key that says it were an ES256 key.
    lying = VerificationKey(
        kty="EC",
        algorithms=frozenset(("ES256",)),
        kid=None,
        issuer=None,
        source="test",
        thumbprint="",
        key=rsa.key,
    )
    token = keys.sign(keys.claims(), keys.ec_key())
    assert _verify(token, KeySet((good, lying))) is good
    for keyset in (KeySet((lying, good)), KeySet((lying,))):
        with pytest.raises(SignatureNotChecked, match=r"^the signature of the token could not be checked$") as error:
            _verify(token, keyset)
        assert isinstance(error.value.__cause__, KeyError)


# --- which key -----------------------------------------------------------------------------------------------------


def _told(keyset: KeySet, header: Mapping[str, object], **claims: object) -> tuple[str, str]:
    parsed = jws.parse_compact(keys.compact(header, claims))
    with pytest.raises(TokenRefused) as error:
        jws.verify(parsed, keyset, parsed.payload.get("iss"))
    return error.value.code, str(error.value)


def test_what_does_not_match_is_named_with_what_was_expected() -> None:
    keyset = KeySet(
        (
            *_jwks_keys(keys.jwk(keys.ec_key(), kid="k1"), issuer="https://a.example/{tenantid}/v2.0").keys,
            *_jwks_keys(keys.jwk(keys.ec_key("P-384"), kid="k2"), issuer="https://b.example").keys,
        )
    )
    good = {"alg": "ES256", "kid": "k1"}
    iss = "https://a.example/x/v2.0"
    expected = 'expected one of "https://a.example/{tenantid}/v2.0", "https://b.example"'
    assert _told(keyset, good, iss="https://sts.example/x/") == (
        "wrong_issuer",
        f'`iss` is "https://sts.example/x/"; {expected}',
    )
    assert _told(keyset, good) == ("wrong_issuer", f"`iss` is missing; {expected}")
    assert _told(keyset, good | {"kid": "k3"}, iss=iss) == ("unknown_key", '`kid` is "k3"; expected one of "k1", "k2"')
    assert _told(keyset, good | {"alg": "RS256"}, iss=iss) == (
        "unknown_key",
        '`alg` is "RS256"; expected one of "ES256", "ES384"',
    )
    wrong_alg = '`alg` is "PS256"; expected one of "ES256", "ES384"'
    wrong_kid = '`kid` is "x"; expected one of "k1", "k2"'
    told = f"{wrong_alg}; {wrong_kid}; `iss` is 7; {expected}"
    assert _told(keyset, {"alg": "PS256", "kid": "x"}, iss=7) == ("unknown_key", told)
    assert _told(keyset, good | {"kid": "k2"}, iss=iss) == (
        "unknown_key",
        f'no single key is for `alg` "ES256", `kid` "k2" and `iss` "{iss}" together',
    )
    assert _told(KeySet(()), good) == ("unknown_key", "there is no key to verify tokens with")
    assert _told(keyset, {"alg": "HS256"})[1].startswith('`alg` is "HS256"; expected one of "ES256", "ES384", "ES512"')


def test_keys_without_an_issuer_of_their_own_are_for_the_configured_ones() -> None:
    own = _jwks_keys(keys.jwk(keys.ec_key("P-256", "second"), kid="k2"), issuer="https://own.example").keys
    issuers = (IssuerPattern(keys.ISSUER), IssuerPattern("https://other.example/{tenant}"))
    keyset = KeySet((*_pem_keys(keys.ec_key()).keys, *own), issuers)
    for iss in (keys.ISSUER, "https://other.example/x"):
        assert _verify(keys.sign(keys.claims(iss=iss), keys.ec_key()), keyset) is keyset.keys[0]
    for members in ({}, {"iss": "https://third.example"}, {"iss": None}, {"iss": [keys.ISSUER]}):
        assert _code(keys.sign(keys.claims(**members), keys.ec_key()), keyset) == "wrong_issuer"
    own_token = keys.sign(keys.claims(iss="https://own.example"), keys.ec_key("P-256", "second"))
    assert _verify(own_token, keyset) is keyset.keys[1], "the keys of a discovery document have their own issuer"
    # An issuer that is right for one key makes the other one no key for it.
    for iss, private in (("https://own.example", keys.ec_key()), (keys.ISSUER, keys.ec_key("P-256", "second"))):
        assert _code(keys.sign(keys.claims(iss=iss), private), keyset) == "bad_signature"


@given(st.text(max_size=300), st.text(max_size=300))
def test_what_is_named_is_short_and_printable(kid: str, iss: str) -> None:
    keyset = _jwks_keys(keys.jwk(keys.ec_key(), kid="k" * 1000), issuer="https://" + "i" * 1000)
    parsed = jws.CompactJWS(header={"alg": "ES256", "kid": kid}, payload={}, signing_input=b"", signature=b"x")
    with pytest.raises(UnknownKey) as error:
        jws.verify(parsed, keyset, iss)
    assert len(str(error.value)) < 600
    assert str(error.value).isascii()
    assert str(error.value).isprintable()


# --- the laws ------------------------------------------------------------------------------------------------------


def _outcome(token: str, keyset: KeySet) -> str:
    try:
        _verify(token, keyset)
    except TokenRefused as error:
        return error.code
    return "verified"


def test_every_single_bit_flip_of_a_token_refuses_it() -> None:
    token, keyset = keys.sign({"exp": 1}, keys.ec_key()), _pem_keys(keys.ec_key())
    assert _outcome(token, keyset) == "verified"
    outcomes = {
        _outcome(token[:position] + chr(ord(character) ^ (1 << bit)) + token[position + 1 :], keyset)
        for position, character in enumerate(token)
        for bit in range(8)
    }
    assert "verified" not in outcomes
    assert {"malformed_token", "bad_signature"} <= outcomes


@given(st.data(), st.sampled_from(sorted(ALGORITHMS)))
def test_a_sampled_bit_flip_refuses_a_token_of_any_algorithm(data: st.DataObject, alg: str) -> None:
    private = keys.key_for(alg)
    token = keys.sign(keys.claims(), private, {"alg": alg, "kid": "k"})
    position = data.draw(st.integers(0, len(token) - 1))
    flipped = chr(ord(token[position]) ^ (1 << data.draw(st.integers(0, 7))))
    assert _outcome(token[:position] + flipped + token[position + 1 :], _pem_keys(private)) != "verified"


@given(st.data())
def test_no_other_text_of_a_token_is_accepted(data: st.DataObject) -> None:
    """Insertions, deletions and swaps, which one bit cannot do."""
    token, keyset = keys.sign(keys.claims(), keys.ec_key()), _pem_keys(keys.ec_key())
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, min(len(token), start + 3)))
    replacement = data.draw(st.text(st.sampled_from("AQgw-_+/=. \n\x00é"), max_size=3))
    changed = token[:start] + replacement + token[end:]
    # The two alphabets spell one signature in two ways; that is the only other text there is.
    same = changed.replace("+", "-").replace("/", "_") == token
    assert (_outcome(changed, keyset) == "verified") <= same


@given(st.text(max_size=40) | st.text(st.sampled_from("eyJ0.AQ-_="), max_size=40))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    assert _outcome(text, KeySet(())) in {"malformed_token", "unsupported_algorithm", "unknown_key"}


@pytest.mark.parametrize("alg", sorted(ALGORITHMS))
@given(st.binary(max_size=300), st.binary(max_size=600))
def test_any_bytes_are_a_bad_signature_and_no_failure(alg: str, data: bytes, signature: bytes) -> None:
    public = keys.key_for(alg).public_key()
    size = (public.key_size + 7) // 8 * (2 if alg.startswith("ES") else 1)
    for candidate in (signature, signature[:size].ljust(size, b"\0"), signature[:size].rjust(size, b"\xff")):
        assert verifies(public, alg, data, candidate) is False
