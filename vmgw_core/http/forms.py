"""Arguments in a URL query and in the two body types VictoriaMetrics reads arguments from.

Go, and so VictoriaMetrics, drops an argument with a raw ``;`` or a bad escape and goes on without it. A filter that
is lost that way answers with everybody's data, so such arguments are refused here instead.
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
"""Of a URL or of a form. Go reads none at all where there are more than 10,000, enforced ones included."""

_MAX_TYPED: Final = 1 << 20
"""Bytes of a form that is encoded here: encoding costs some 0.3 seconds a mebibyte."""
_MAX_KEY: Final = 1000
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))

_MALFORMED: Final = re.compile(r";|%(?![0-9A-Fa-f]{2})")
_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")


def split_pairs(arguments: str, place: str) -> list[str]:
    """Split urlencoded ``arguments`` into raw ``key=value`` pairs; empty ones are left out.

    Args:
        place: where they stand, for the message: ``URL`` or ``form``.

    Raises:
        BadRequest: a pair that Go would drop without a word, bytes that belong into no urlencoded text, or more
            than ``MAX_ARGUMENTS`` pairs.
    """
    if not arguments:
        return []
    if _MALFORMED.search(arguments):
        raise BadRequest(f"the {place} has a raw semicolon or a percent sign that escapes nothing: encode them")
    if _UNPRINTABLE.search(arguments):
        raise BadRequest(f"the {place} has a character that must be percent-encoded")
    if arguments.count("&") >= MAX_ARGUMENTS:
        raise BadRequest(f"the {place} has more than {MAX_ARGUMENTS} arguments")
    return [pair for pair in arguments.split("&") if pair]


def decoded_key(pair: str) -> str:
    """The key of a raw pair as VictoriaMetrics reads it; of a very long one, which means nothing, the beginning."""
    key = pair.partition("=")[0][:_MAX_KEY]
    if "%" in key or "+" in key:
        key = unquote_plus(key, errors="replace")
    return key


def key_of(pair: str) -> str:
    """The decoded key of a raw pair, folded so that no spelling of it slips through a comparison.

    For what must not be there. Whether something is there is asked of :func:`decoded_key`.
    """
    return decoded_key(pair).strip().lower()


def encode_pair(key: str, value: str) -> str:
    """One ``key=value``, strictly percent-encoded: only RFC 3986 unreserved characters stay as they are."""
    return f"{quote(key, safe='[]')}={quote(value, safe='')}"


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form. Go ignores case, blanks and malformed parameters here; so do we."""
    return content_type.partition(";")[0].strip().lower() in (URLENCODED, MULTIPART)


def read_form(content_type: str, body: bytes) -> str:
    """The arguments of a form body as urlencoded text.

    A multipart body is turned into an urlencoded one, which every release of VictoriaMetrics reads the same way.
    Parts with a file name are no arguments and are left out.

    Raises:
        BadRequest: the multipart body does not parse.
        BodyTooLarge: the multipart body has more than 1,000 parts.
        UnsupportedBody: the type is not a form's.
    """
    main, options = multipart.parse_options_header(content_type)
    if main == URLENCODED:
        text = body.decode("latin-1")
        # What people type behind curl -d: blanks and letters beyond ASCII, which Go takes as they are.
        return quote(body, safe=_PRINTABLE) if len(body) <= _MAX_TYPED and _UNPRINTABLE.search(text) else text
    if main == MULTIPART:
        if len(body) > _MAX_TYPED:
            raise BodyTooLarge(f"a multipart form is larger than {_MAX_TYPED} bytes: send it urlencoded")
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
        raise BodyTooLarge(f"the multipart form has more than {_MAX_PARTS} parts, or headers without end") from None
    except (multipart.MultipartError, ValueError):
        raise BadRequest("the multipart form cannot be read") from None
    return parts
