"""Arguments in a URL query and in the two kinds of forms that VictoriaMetrics reads.

Go, and so VictoriaMetrics, silently drops an argument with a raw ``;`` or a bad escape. A request that loses a filter
returns the data of others, so such arguments are refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, quote_plus, unquote_plus

import multipart

from vmgw_core.errors import BadRequest, BodyTooLarge, UnsupportedBody

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
_MAX_PARTS: Final = 1000
MAX_ARGUMENTS: Final = 5000
"""Per URL or form. Go reads none if there are more than 10,000, enforced ones included."""

_MAX_TYPED: Final = 1 << 20
"""Bytes of the largest form that is encoded here: encoding takes some 0.3 seconds per mebibyte."""
_MAX_KEY: Final = 1000
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))

_MALFORMED: Final = re.compile(r";|%(?![0-9A-Fa-f]{2})")
_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")


def split_pairs(arguments: str, place: str) -> list[str]:
    """Split urlencoded ``arguments`` into raw ``key=value`` pairs, without empty ones.

    Args:
        place: ``URL`` or ``form``, for messages.

    Raises:
        BadRequest: there is a pair that Go would silently drop, a byte that must be encoded, or there are more than
            ``MAX_ARGUMENTS`` pairs.
    """
    if not arguments:
        return []
    if _MALFORMED.search(arguments):
        raise BadRequest(f"the {place} has a raw semicolon or a bad percent escape: percent-encode it")
    if _UNPRINTABLE.search(arguments):
        raise BadRequest(f"the {place} has a character that must be percent-encoded")
    if arguments.count("&") >= MAX_ARGUMENTS:
        raise BadRequest(f"the {place} has more than {MAX_ARGUMENTS} arguments")
    return [pair for pair in arguments.split("&") if pair]


def decoded_key(pair: str) -> str:
    """Return the key of a raw pair as VictoriaMetrics reads it, cut after ``_MAX_KEY`` characters."""
    key = pair.partition("=")[0][:_MAX_KEY]
    if "%" in key or "+" in key:
        key = unquote_plus(key, errors="replace")
    return key


def key_of(pair: str) -> str:
    """Return the decoded key of a raw pair, stripped and in lower case: use it to find forbidden keys in any spelling.

    Use :func:`decoded_key` to find out whether a key is present.
    """
    return decoded_key(pair).strip().lower()


def encode_pair(key: str, value: str) -> str:
    """Return ``key=value``, with everything but RFC 3986 unreserved characters percent-encoded."""
    return f"{quote(key, safe='[]')}={quote(value, safe='')}"


def is_form(content_type: str) -> bool:
    """Return whether a body of this type is a form. Like Go, ignore case, blanks and malformed parameters."""
    return content_type.partition(";")[0].strip().lower() in (URLENCODED, MULTIPART)


def read_form(content_type: str, body: bytes) -> str:
    """Return the arguments of a form as urlencoded text.

    A multipart form becomes urlencoded, which all releases of VictoriaMetrics read alike. Parts with a file name are
    left out: they are not arguments.

    Raises:
        BadRequest: the multipart body does not parse.
        BodyTooLarge: the multipart body has more than 1,000 parts.
        UnsupportedBody: the type is not a form's.
    """
    main, options = multipart.parse_options_header(content_type)
    if main == URLENCODED:
        text = body.decode("latin-1")
        # People type blanks and non-ASCII letters after curl -d, and Go accepts them.
        return quote(body, safe=_PRINTABLE) if len(body) <= _MAX_TYPED and _UNPRINTABLE.search(text) else text
    if main == MULTIPART:
        if len(body) > _MAX_TYPED:
            raise BodyTooLarge(f"the multipart form is larger than {_MAX_TYPED} bytes: send it urlencoded")
        return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in _parts(body, options))
    raise UnsupportedBody(f"a body here must be {URLENCODED} or {MULTIPART}")


def _parts(body: bytes, options: Mapping[str, str]) -> list[tuple[str, bytes]]:
    parts: list[tuple[str, bytes]] = []
    segment, value = None, b""
    try:
        with multipart.PushMultipartParser(
            options.get("boundary", ""), max_segment_count=_MAX_PARTS, strict=True
        ) as parser:
            for event in parser.parse(body):
                if isinstance(event, multipart.MultipartSegment):
                    segment, value = event, b""
                elif event:
                    value += event
                elif segment is not None and not segment.filename:
                    parts.append((segment.name, value))
    except multipart.ParserLimitReached:
        raise BodyTooLarge(f"the multipart form has more than {_MAX_PARTS} parts, or too large headers") from None
    except (multipart.MultipartError, ValueError):
        raise BadRequest("the multipart form cannot be read") from None
    return parts
