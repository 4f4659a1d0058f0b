"""Where a token is found: headers, schemes, and what is refused because two readers could differ."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.errors import BadRequest, MalformedToken, MissingToken
from vmgw_core.tokens.source import TokenSource, as_bearer

BARE = TokenSource(allow_without_prefix=True)
TWO = TokenSource(headers=(b"authorization", b"dd-api-key"), allow_without_prefix=True)


def header(value: str, name: bytes = b"Authorization") -> tuple[bytes, bytes]:
    return name, value.encode("latin-1")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("value", "token"),
    [
        pytest.param("Bearer a.b.c", "a.b.c", id="as written"),
        pytest.param("bearer a.b.c", "a.b.c", id="lower case"),
        pytest.param("BEARER a.b.c", "a.b.c", id="upper case"),
        pytest.param(" \tBearer   a.b.c \t", "a.b.c", id="space around and between"),
        pytest.param("Bearer a b", "a b", id="what follows is not judged here"),
        pytest.param("Token a.b.c", "a.b.c", id="as InfluxDB's clients send it"),
        pytest.param(basic("me", "a.b.c"), "a.b.c", id="as a password"),
        pytest.param(basic("", "a.b.c").replace("Basic", "basic"), "a.b.c", id="without a user"),
    ],
)
@pytest.mark.parametrize("source", [TokenSource(), BARE], ids=["prefix", "no prefix"])
def test_a_token(value: str, token: str, source: TokenSource) -> None:
    assert source.find([header("x", b"Accept"), header(value)]) == token


@pytest.mark.parametrize(
    "value",
    [
        "a.b.c",
        " a.b.c ",
        "Bearera.b.c",
        "Bearer\ta.b.c",
        "Basic",
    ],
)
def test_without_a_prefix(value: str) -> None:
    assert BARE.find([header(value)]) == value.strip()
    with pytest.raises(MissingToken, match=r"^missing `Bearer ` prefix of the token$"):
        TokenSource().find([header(value)])


@pytest.mark.parametrize(
    "value", [basic("me", "pass"), basic("a.b.c", ""), "Basic a.b.c", "Basic YS5iLmM=", "Digest a.b.c"]
)
@pytest.mark.parametrize("source", [TokenSource(), BARE], ids=["prefix", "no prefix"])
def test_other_credentials_are_no_token(value: str, source: TokenSource) -> None:
    with pytest.raises(MissingToken, match=r"^missing `Bearer ` prefix of the token$"):
        source.find([header(value)])
    assert TWO.find([header(value), header("a.b.c", b"dd-api-key")]) == "a.b.c"


@pytest.mark.parametrize(
    "values", [[], [""], [" "], ["\t"], ["Bearer"], ["bearer  "], [" BEARER "], ["Token"]], ids=repr
)
@pytest.mark.parametrize("source", [TokenSource(), BARE, TWO], ids=["prefix", "no prefix", "two headers"])
def test_no_token(values: list[str], source: TokenSource) -> None:
    with pytest.raises(MissingToken, match=r"^missing token$"):
        source.find([header(value) for value in values])


@pytest.mark.parametrize("values", [["Bearer a", "Bearer b"], ["Bearer a", "Bearer a"], ["", "Bearer a"]], ids=repr)
def test_a_header_that_is_there_twice(values: list[str]) -> None:
    with pytest.raises(MalformedToken, match="more than one header with a token"):
        BARE.find([header(value) for value in values])


def test_headers_that_were_joined_hold_no_good_token() -> None:
    assert TokenSource().find([header("Bearer a.b.c, Bearer d.e.f")]).count(".") != 2


# --- several headers ----------------------------------------------------------------------------------------------


def test_any_of_the_headers_may_hold_the_token() -> None:
    assert TWO.find([header("a.b.c", b"DD-Api-Key")]) == "a.b.c"
    assert TWO.find([header("Bearer a.b.c")]) == "a.b.c"
    assert TWO.find([header("Bearer a.b.c", b"dd-api-key"), header("Token a.b.c")]) == "a.b.c"
    strict = TokenSource(headers=TWO.headers)
    assert strict.find([header(basic("grafana", "secret")), header("Bearer a.b.c", b"dd-api-key")]) == "a.b.c"
    with pytest.raises(MissingToken, match="missing `Bearer ` prefix"):
        strict.find([header("x", b"dd-api-key")])


def test_two_tokens_are_refused() -> None:
    with pytest.raises(BadRequest, match="different tokens in two headers"):
        TWO.find([header("Bearer a.b.c"), header("d.e.f", b"dd-api-key")])


def test_the_user_of_basic_credentials() -> None:
    source = TokenSource(basic_user="vm")
    assert source.find([header(basic("vm", "a.b.c"))]) == "a.b.c"
    for user in ("", "VM", "vm2"):
        with pytest.raises(MissingToken):
            source.find([header(basic(user, "a.b.c"))])


@given(st.lists(st.text(max_size=20).map(lambda text: text.encode("utf-8")), max_size=3), st.booleans())
def test_any_header_is_a_text_of_it_or_refused(values: list[bytes], allow: bool) -> None:
    try:
        token = TokenSource(allow_without_prefix=allow).find([(b"authorization", value) for value in values])
    except (MissingToken, MalformedToken):
        return
    assert token
    [value] = values
    assert isinstance(token, str)
    assert token in value.decode("latin-1") or value[:5].lower() == b"basic"


def test_as_bearer() -> None:
    assert as_bearer(basic("me", "a.b.c").encode()) == b"Bearer a.b.c"
    for value in (b"Bearer a.b.c", b"Basic bWU6cGFzcw==", b"", b"a.b.c", b"Basic \xff"):
        assert as_bearer(value) == value


# --- the cookie of a login -------------------------------------------------------------------------------------------

COOKIE = TokenSource(
    headers=(b"authorization", b"dd-api-key"),
    session=lambda headers: dict(headers).get(b"cookie", b"").decode() or None,
)


def test_a_login_is_asked_where_there_is_no_header() -> None:
    assert COOKIE.find([header("a.b.c", b"cookie")]) == "a.b.c"
    assert COOKIE.may_be_cookie([header("a.b.c", b"cookie")])
    with pytest.raises(MissingToken, match=r"^missing token$"):
        COOKIE.find([header("x", b"Accept")])
    for value in ("Bearer d.e.f", "", "bad"):
        assert not COOKIE.may_be_cookie([header("a.b.c", b"cookie"), header(value, b"DD-API-KEY")])
        assert not TokenSource().may_be_cookie([header("a.b.c", b"cookie")])
    assert COOKIE.find([header("a.b.c", b"cookie"), header("Bearer d.e.f")]) == "d.e.f"
    with pytest.raises(MissingToken):
        COOKIE.find([header("a.b.c", b"cookie"), header("")])


def test_a_login_as_a_bearer_token() -> None:
    accept = header("x", b"Accept")
    found = COOKIE.in_header((header("a.b.c", b"cookie"), accept, header("other", b"Cookie")))
    assert found == (accept, header("Bearer a.b.c", b"authorization"))
    for headers in ((accept,), (accept, header("a.b.c", b"cookie"), header("Bearer d.e.f"))):
        assert COOKIE.in_header(headers) == headers
    assert TokenSource().in_header((header("a.b.c", b"cookie"),)) == (header("a.b.c", b"cookie"),)


def test_a_login_is_a_credential_and_an_empty_header_is_none() -> None:
    login = header("a.b.c", b"cookie")
    assert not COOKIE.has_none((login,))
    assert COOKIE.has_none((header(" "), header("x", b"Accept")))
    assert not COOKIE.has_none((header("Bearer a.b.c"),))
    assert TokenSource().has_none((login,))
