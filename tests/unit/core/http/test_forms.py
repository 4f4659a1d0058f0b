"""forms: arguments that no parser can lose, and bodies read in one way only."""

from __future__ import annotations

import pytest
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.core import go_query
from tests.support.each import each
from vmgw_core.errors import BadRequest, BodyTooLarge, UnsupportedBody
from vmgw_core.http.forms import MAX_ARGUMENTS, decoded_key, encode_pair, is_form, key_of, read_form, split_pairs

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"

ESCAPE = "raw semicolon or a bad percent escape: percent-encode it"
LIMIT = "^the multipart form has more than 1000 parts, or too large headers$"
ENCODE = "character that must be percent-encoded"


def _part(name: str, value: str, *headers: str, disposition: str = "form-data") -> str:
    lines = [f'Content-Disposition: {disposition}; name="{name}"', *headers, "", value]
    return "--b\r\n" + "\r\n".join(lines) + "\r\n"


def _body(*parts: str, end: str = "--b--\r\n") -> bytes:
    return ("".join(parts) + end).encode()


# --- split_pairs ---------------------------------------------------------------------------------------------------


@each(
    ("arguments", "pairs"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("&", [], id="an ampersand"),
        pytest.param("&&a=1&&&b=2&", ["a=1", "b=2"], id="empty pairs are left out"),
        pytest.param("a=1", ["a=1"], id="one pair"),
        pytest.param("a=1&a=2&a=1", ["a=1", "a=2", "a=1"], id="duplicates in order"),
        pytest.param("a", ["a"], id="no equals sign"),
        pytest.param("=", ["="], id="an equals sign"),
        pytest.param("a==b=", ["a==b="], id="more equals signs"),
        pytest.param("a=%3b%00%ff+", ["a=%3b%00%ff+"], id="escapes stay as they are"),
        pytest.param('query=m{a="b"}[5m]?#!~|\\^`', ['query=m{a="b"}[5m]?#!~|\\^`'], id="raw characters that Go takes"),
        pytest.param("a=!&b=~", ["a=!", "b=~"], id="the first and the last printable character"),
    ],
)
def test_split_accepts(arguments: str, pairs: list[str]) -> None:
    assert split_pairs(arguments, "URL") == pairs


@each(
    ("arguments", "message"),
    [
        pytest.param(";", ESCAPE, id="a semicolon alone"),
        pytest.param("a=1;b=2", ESCAPE, id="a semicolon between pairs"),
        pytest.param("extra_label=team=dev;x", ESCAPE, id="a semicolon in a value"),
        pytest.param("a;b=1", ESCAPE, id="a semicolon in a key"),
        pytest.param("a=%", ESCAPE, id="a percent sign at the end"),
        pytest.param("a=%4", ESCAPE, id="half an escape at the end"),
        pytest.param("a=%zz", ESCAPE, id="an escape that is none"),
        pytest.param("%4&a=1", ESCAPE, id="half an escape in a key"),
        pytest.param("a=foo % 2", ESCAPE, id="a percent sign as an operator"),
        pytest.param("a= b", ENCODE, id="a blank"),
        pytest.param("a=b\n", ENCODE, id="a line feed"),
        pytest.param("a=\0", ENCODE, id="NUL"),
        pytest.param("a=\x7f", ENCODE, id="DEL"),
        pytest.param("a=\u00e9", ENCODE, id="Latin-1"),
        pytest.param("a=\uff1b", ENCODE, id="a full-width semicolon"),
        pytest.param("a=\udc80", ENCODE, id="a lone surrogate"),
    ],
)
@each("place", ["URL", "form"])
def test_split_rejects(arguments: str, message: str, place: str) -> None:
    with pytest.raises(BadRequest, match=f"^the {place} has a {message}$"):
        split_pairs(arguments, place)


@pytest.mark.parametrize("place", ["URL", "form"])
def test_arguments_are_at_most_5000(place: str) -> None:
    """Empty ones count: Go counts ampersands."""
    assert len(split_pairs("&".join(["a"] * MAX_ARGUMENTS), place)) == MAX_ARGUMENTS == 5000
    assert split_pairs("&" * (MAX_ARGUMENTS - 1), place) == []
    for arguments in ("&".join(["a"] * (MAX_ARGUMENTS + 1)), "&" * MAX_ARGUMENTS):
        with pytest.raises(BadRequest, match=f"^the {place} has more than 5000 arguments$"):
            split_pairs(arguments, place)


@given(st.text(max_size=60) | st.text(alphabet="a=&;%4f+ ~", max_size=30))
@example("a=%4f&b")
def test_any_text_is_split_as_go_splits_it_or_refused(arguments: str) -> None:
    try:
        pairs = split_pairs(arguments, "URL")
    except BadRequest:
        return
    # No pair was refused, so Go must not drop one either, and reads the same with and without empty pairs.
    assert len(go_query.parse_query(arguments)) == len(pairs)
    assert go_query.parse_query("&".join(pairs)) == go_query.parse_query(arguments)


# --- keys ----------------------------------------------------------------------------------------------------------


@each(
    ("pair", "decoded", "folded"),
    [
        pytest.param("extra_label=team=dev", "extra_label", "extra_label", id="plain"),
        pytest.param("extra_label", "extra_label", "extra_label", id="no value"),
        pytest.param("=extra_label", "", "", id="no key"),
        pytest.param("extra%5Flabel=x", "extra_label", "extra_label", id="encoded"),
        pytest.param("%65%78tra_label=x", "extra_label", "extra_label", id="letters encoded"),
        pytest.param("extra_filters%5b%5D=x", "extra_filters[]", "extra_filters[]", id="brackets encoded"),
        pytest.param("Extra_LABEL=x", "Extra_LABEL", "extra_label", id="capitals"),
        pytest.param("+extra_label%20=x", " extra_label ", "extra_label", id="blanks around"),
        pytest.param("%09extra_label%0a=x", "\textra_label\n", "extra_label", id="white space around"),
        pytest.param("extra_label%3Dx", "extra_label=x", "extra_label=x", id="an equals sign encoded"),
        pytest.param("extra%255Flabel=x", "extra%5Flabel", "extra%5flabel", id="encoded twice is another key"),
        pytest.param("%ff=x", "\ufffd", "\ufffd", id="no UTF-8"),
        pytest.param("%e2%84%aa=x", "\u212a", "k", id="a character that folds to a letter"),
    ],
)
def test_keys(pair: str, decoded: str, folded: str) -> None:
    assert decoded_key(pair) == decoded
    assert key_of(pair) == folded


@given(st.text(max_size=20), st.text(max_size=40))
@example("extra_filters[]", '{a="b;c&d=e%zz f+g\u00e9\0"}')
@example("", "")
def test_an_encoded_pair_is_read_as_it_was_meant(key: str, value: str) -> None:
    try:
        f"{key}{value}".encode()
    except UnicodeEncodeError:
        return
    pair = encode_pair(key, value)
    assert go_query.parse_query(pair) == [(key, value)]
    assert split_pairs(pair, "URL") == [pair]
    assert decoded_key(pair) == key


def test_an_encoded_pair_has_unreserved_characters_and_brackets_alone() -> None:
    assert encode_pair("extra_filters[]", '{a=~"b|c"} d-e_f.g~') == (
        "extra_filters[]=%7Ba%3D~%22b%7Cc%22%7D%20d-e_f.g~"
    )
    assert encode_pair("a/b", "c/d") == "a%2Fb=c%2Fd"


# --- content types -------------------------------------------------------------------------------------------------


@each(
    "content_type",
    [
        FORM,
        "multipart/form-data; boundary=b",
        "multipart/form-data",
        "Application/X-WWW-Form-URLEncoded",
        "MULTIPART/FORM-DATA; boundary=b",
        FORM + "; charset=utf-8",
        FORM + ";charset=utf-8",
        FORM + ";",
        FORM + " ; ",
        "  " + FORM + "\t",
        FORM + "; foo",
        FORM + "; charset=utf-8; charset=latin-1",
        FORM + ";;;=",
    ],
)
def test_is_form_accepts(content_type: str) -> None:
    """What Go takes for a form, and some that it does not: the body is written anew, so that is no matter."""
    assert is_form(content_type)


@each(
    "content_type",
    [
        "",
        ";",
        "text/plain",
        "application/json",
        "application/x-www-form-urlencoded2",
        "application/x-www-form-urlencoded, text/plain",
        "text/plain; " + FORM,
        "application/x-www-form-urlencoded charset=utf-8",
        "application / x-www-form-urlencoded",
        "multipart/mixed; boundary=b",
        "multipart/form-data2",
        "multipart/",
        "form-data",
        "application/x-protobuf",
    ],
)
def test_is_form_rejects(content_type: str) -> None:
    assert not is_form(content_type)
    with pytest.raises(UnsupportedBody, match=f"^a body here must be {FORM} or multipart/form-data$"):
        read_form(content_type, b"")


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=40))
@example(FORM + "\xa0")
@example("\x85" + FORM)
def test_both_readings_of_a_content_type_agree(content_type: str) -> None:
    """What ``is_form`` lets in, ``read_form`` takes, and the other way round."""
    try:
        read_form(content_type, b"")
        taken = True
    except UnsupportedBody:
        taken = False
    except BadRequest:
        taken = True  # a multipart body that does not parse
    assert taken is is_form(content_type)


# --- read_form -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"query=m&a=%zz;", "query=m&a=%zz;", id="as it is"),
        pytest.param("a=\u00e9 b\n".encode(), "a=%C3%A9%20b%0A", id="what people type is encoded"),
        pytest.param(
            b"a b" + b"a" * (1 << 20), "a b" + "a" * (1 << 20), id="too large to encode, for split_pairs to refuse"
        ),
    ],
)
def test_an_urlencoded_body_is_its_own_text(body: bytes, text: str) -> None:
    assert read_form(FORM, body) == text


@each(
    ("body", "text"),
    [
        pytest.param(_body(), "", id="no part"),
        pytest.param(_body(_part("query", "m")), "query=m", id="one part"),
        pytest.param(_body(_part("a", "1"), _part("b", "2"), _part("a", "3")), "a=1&b=2&a=3", id="parts in order"),
        pytest.param(_body(_part("a", "")), "a=", id="an empty value"),
        pytest.param(_body(_part("", "x")), "=x", id="an empty name"),
        pytest.param(
            _body(_part("extra_filters[]", '{a="b;c"}')), "extra_filters%5B%5D=%7Ba%3D%22b%3Bc%22%7D", id="filter"
        ),
        pytest.param(_body(_part("a", "b&c=d%zz + \u00e9")), "a=b%26c%3Dd%25zz+%2B+%C3%A9", id="all is encoded"),
        pytest.param(_body(_part("a", "1\r\n2\r\n--c")), "a=1%0D%0A2%0D%0A--c", id="lines in a value"),
        pytest.param(_body(_part("a", "1", "Content-Type: text/plain")), "a=1", id="a part with a type"),
        pytest.param(_body(_part('a"; filename="f', "1"), _part("b", "2")), "b=2", id="a file is no argument"),
        pytest.param(_body(_part('a"; filename="', "1")), "a=1", id="an empty file name"),
        pytest.param(b"\r\n" + _body(_part("a", "1")), "a=1", id="a line before"),
        pytest.param(_body(_part("a", "1"), end="--b--"), "a=1", id="no line end at the end"),
        pytest.param(_body(_part("a", "1")) + _body(_part("b", "2")), "a=1", id="what follows the end is not read"),
        pytest.param(_body(_part("a", "1")).replace(b'"a"', b"a"), "a=1", id="a name without quotes"),
        pytest.param(_body(_part("a", "1")).replace(b"Content-D", b"content-d"), "a=1", id="a header in lower case"),
    ],
)
def test_a_multipart_body_becomes_urlencoded(body: bytes, text: str) -> None:
    assert read_form(MULTIPART, body) == text


def test_the_boundary_may_be_quoted_and_the_type_in_capitals() -> None:
    assert read_form('Multipart/Form-Data; charset=utf-8; Boundary="b"', _body(_part("a", "1"))) == "a=1"


@each(
    ("content_type", "body"),
    [
        pytest.param("multipart/form-data", _body(_part("a", "1")), id="no boundary"),
        pytest.param("multipart/form-data; boundary=", _body(_part("a", "1")), id="an empty boundary"),
        pytest.param("multipart/form-data; boundary=\xe9", _body(_part("a", "1")), id="a boundary beyond ASCII"),
        pytest.param("multipart/form-data; boundary=" + "b" * 1025, b"", id="a boundary of 1,025 characters"),
        pytest.param("multipart/form-data; boundary=c", _body(_part("a", "1")), id="another boundary"),
        pytest.param(MULTIPART, b"", id="nothing"),
        pytest.param(MULTIPART, b"query=m", id="an urlencoded body"),
        pytest.param(MULTIPART, _body(_part("a", "1"), end=""), id="no end"),
        pytest.param(MULTIPART, _body(_part("a", "1"), end="--b"), id="half an end"),
        pytest.param(MULTIPART, b"preamble" + _body(_part("a", "1")), id="something before"),
        pytest.param(MULTIPART, _body(_part("a", "1")).replace(b"\r\n", b"\n"), id="lines ended by line feeds"),
        pytest.param(MULTIPART, b"--b\r\n\r\n1\r\n--b--\r\n", id="a part without headers"),
        pytest.param(MULTIPART, b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--\r\n", id="no name"),
        pytest.param(
            MULTIPART, b"--b\r\nContent-Disposition: form-data; name*=utf-8''a\r\n\r\n1\r\n--b--\r\n", id="name*"
        ),
        pytest.param(MULTIPART, _body(_part("a", "1", disposition="attachment")), id="no form-data"),
        pytest.param(MULTIPART, _body(_part("a", "1", " folded")), id="a folded header"),
        pytest.param(MULTIPART, _body(_part("a", "1", "no colon")), id="a header without a colon"),
        pytest.param(MULTIPART, _body(_part("a", "1", "Content-Length: 2")), id="a wrong length"),
        pytest.param(MULTIPART, _body(_part("a", "1")).replace(b'"a"', b'"\xff"'), id="a name that is no UTF-8"),
    ],
)
def test_a_multipart_body_is_rejected(content_type: str, body: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^the multipart form cannot be read$"):
        read_form(content_type, body)


def test_a_multipart_body_has_at_most_1000_parts() -> None:
    assert read_form(MULTIPART, _body(*[_part("a", "1")] * 1000)).count("a=1") == 1000
    with pytest.raises(BodyTooLarge, match=LIMIT):
        read_form(MULTIPART, _body(*[_part("a", "1")] * 1001))


@pytest.mark.parametrize(
    "headers",
    [pytest.param(["X: y"] * 8, id="nine headers"), pytest.param(["X: " + "y" * 5000], id="a header of 5,000 bytes")],
)
def test_a_part_has_headers_with_an_end(headers: list[str]) -> None:
    with pytest.raises(BodyTooLarge, match=LIMIT):
        read_form(MULTIPART, _body(_part("a", "1", *headers)))


names = st.text(alphabet=st.characters(codec="ascii", exclude_characters='"%\\\r\n\0'), max_size=12)


@given(st.lists(st.tuples(names, st.binary(max_size=30)), max_size=5))
def test_go_reads_a_converted_multipart_body_as_the_original(fields: list[tuple[str, bytes]]) -> None:
    body, content_type = urllib3.encode_multipart_formdata(fields, boundary="b0undary")
    expected = [(name, value.decode("utf-8", "surrogateescape")) for name, value in fields]
    assert go_query.parse_query(read_form(content_type, body)) == expected


@given(
    st.sampled_from([FORM, MULTIPART, "multipart/form-data; boundary=\x00", "text/plain"]) | st.text(max_size=30),
    st.binary(max_size=80)
    | st.lists(
        st.sampled_from(
            [
                *(b"--b", b"--b--", b"\r\n", b"\r", b"\n", b"--", b"\xff", b"\x85", b" ", b":", b"\0", b"a=1&b"),
                *(b'Content-Disposition: form-data; name="a"', b"; filename=", b"Content-Length: 1"),
            ]
        ),
        max_size=12,
    ).map(b"".join),
)
def test_any_body_of_any_type_is_a_form_or_a_refusal(content_type: str, body: bytes) -> None:
    try:
        text = read_form(content_type, body)
        split_pairs(text, "form")
    except (BadRequest, BodyTooLarge, UnsupportedBody):
        return
    assert text.isascii()


LONG = 64 * 1024


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param("multipart/form-data" + ";" * LONG, id="semicolons"),
        pytest.param("multipart/form-data" + '; a="' * (LONG // 5), id="open quotes"),
        pytest.param("multipart/form-data" + '; a="\\' * (LONG // 6), id="open quotes and backslashes"),
        pytest.param('multipart/form-data; a="' + "\\x" * (LONG // 2), id="backslashes"),
        pytest.param("multipart/form-data;" + " " * LONG + "a", id="blanks"),
        pytest.param("multipart/form-data; " + "a" * LONG, id="a long name"),
    ],
)
def test_a_hostile_content_type_costs_no_more_than_a_long_one(content_type: str) -> None:
    # A quadratic reading takes minutes here, a linear one milliseconds.
    with pytest.raises(BadRequest):
        read_form(content_type, b"")


def test_a_multipart_body_is_at_most_a_mebibyte() -> None:
    """Encoding it anew costs time, which somebody else waits for."""
    part = _body(_part("a", "x" * (1 << 20)))
    with pytest.raises(BodyTooLarge):
        read_form("multipart/form-data; boundary=b", part)


def test_a_very_long_key_is_read_in_part() -> None:
    assert key_of("extra_label" + "%61" * 100_000 + "=1").startswith("extra_label")
    assert len(key_of("%61" * 100_000)) < 1000
