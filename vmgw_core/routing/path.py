"""Decoding of paths: each has exactly one meaning or is refused.

VictoriaMetrics serves several spellings of a path (``//``, ``%2F``, percent-encoded letters), and a proxy may resolve
others (``..``). Ambiguous paths would bypass the route table, so they are refused, and the upstream path is written
from the decoded one.

Two spellings that clients use are accepted. A path that begins with ``//`` comes from a base URL that ends with a
slash: the first slash is dropped. A label name may hold an encoded slash (``/api/v1/label/a%2Fb/values``), which
VictoriaMetrics reads as a plain one, and so it is sent.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from vmgw_core.errors import AmbiguousPath

# The common case: nothing to decode, nothing ambiguous.
_PLAIN: Final = re.compile(r"/(?:[A-Za-z0-9_\-~@:!$&'()*+,=][A-Za-z0-9_\-.~@:!$&'()*+,=]*+/?+)*+")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_SEPARATOR: Final = re.compile(r"%(?:2[fF]|5[cC])")
_SLASH_IN_LABEL: Final = re.compile(r"(/(?:[^%]*/)?api/v1/label/)([^/]+)(/values)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def decode_path(raw: str) -> str:
    """Decode the path of an origin-form target exactly once.

    Raises ``AmbiguousPath`` if the path is not absolute, has ``//`` other than at its beginning, a dot segment, a
    backslash, a fragment, an encoded slash other than in a label name, an encoded backslash, a control character, a bad
    percent escape, a second layer of encoding, or invalid UTF-8.
    """
    if raw.startswith("//"):
        raw = raw[1:]
    if _PLAIN.fullmatch(raw):
        return raw
    if not raw.startswith("/"):
        raise AmbiguousPath("the path does not begin with a slash")
    if _BAD_ESCAPE.search(raw):
        raise AmbiguousPath("the path has a bad percent escape")
    if label := _SLASH_IN_LABEL.fullmatch(raw):
        raw = label[1] + re.sub("%2[fF]", "/", label[2]) + label[3]
    if _ENCODED_SEPARATOR.search(raw):
        raise AmbiguousPath("the path has an encoded slash or backslash")
    try:
        path = unquote_to_bytes(raw).decode("utf-8")
    except ValueError:  # UnicodeDecodeError, or UnicodeEncodeError for a lone surrogate
        raise AmbiguousPath("the path is not UTF-8") from None
    if "%" in path:
        raise AmbiguousPath("the path is encoded twice")
    if "\\" in path or "#" in path or _CONTROL.search(path):
        raise AmbiguousPath("the path has a backslash, a fragment or a control character")
    segments = path.split("/")[1:]
    if "" in segments[:-1] or "." in segments or ".." in segments:
        raise AmbiguousPath("the path has an empty or a dot segment")
    return path


def encode_path(path: str) -> str:
    """Escape all of a decoded path but unreserved characters and ``/@:!$&'()*+,=``."""
    return quote(path, safe="/@:!$&'()*+,=~")
