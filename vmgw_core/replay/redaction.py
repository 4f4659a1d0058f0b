"""Redaction of signatures, cookies, credentials and passwords in records.

The rules:

- A token keeps header and payload, and ``MARKER`` replaces its signature: its claims can be checked, but it cannot be
  used. The marker is base64url, so the result still reads as a token.
- The values of arguments, headers and JSON members are kept only if :mod:`.kept` lists their name. From those, and from
  texts without names, credentials are removed entirely, in any percent-encoding.
- Unreadable bodies are not kept: those that cannot be decoded within bounds, and binary ones with a secret.
- Redacting twice is redacting once.

Text is handled as Latin-1, so all other bytes survive.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection
from typing import Final
from urllib.parse import quote, unquote, unquote_plus

from vmgw_core.base import is_secret_name
from vmgw_core.errors import BodyTooLarge, Refusal
from vmgw_core.http import MULTIPART, URLENCODED, Headers, decoder, read_form
from vmgw_core.tokens import as_bearer, without_api_keys

from .kept import KEPT_ARGUMENTS, KEPT_HEADERS, KEPT_MEMBERS, LABELS

MARKER: Final = "REDACTED"
"""Replaces a secret. It is valid base64url, but not a valid signature."""

MAX_BODY: Final = 1 << 20
"""Bytes of the largest decoded body that is searched and kept."""

_LAYERS: Final = 3  # of percent-encoding that are searched

# Text that may contain a token, percent-encoded or not, and its dots in any number of layers of encoding.
_RUN: Final = re.compile(r"[A-Za-z0-9_+/=.%~-]++")
_DOT: Final = re.compile(r"(\.|%(?:25)*+2[eE])")
_PLAIN_DOT: Final = re.compile(r"(\.)")
_HEADER_START: Final = re.compile(r"(?=e[w-z0-9_+/-]|[ICD][A-P0-9])")  # base64 of a brace, or of a blank before one
_LEAST_HEADER: Final = 14  # characters of {"alg":""} in base64
_MAX_STARTS: Final = 16
_TO_URL_ALPHABET: Final = str.maketrans("+/", "-_")

_PASSWORD_IN_URL: Final = re.compile(r"(:/{2}[^/\s:@?#]*+:)[^/\s@]++(?=@)")
_ARGUMENT: Final = re.compile(r"([?&;])([A-Za-z0-9_.-]{1,64}+)=([^&;\s#\"']++)")  # of a URL within a text
_URL_ARGUMENT: Final = re.compile(r"([?&])([^=?&;\s#\"']{1,200}+)=([^&;\s#\"']++)")
_MEMBER: Final = re.compile(r'"([A-Za-z0-9_. -]{1,64}+)"(\s{0,8}+:\s{0,8}+)"((?:[^"\\]|\\.)++)"')
_CREDENTIAL: Final = re.compile(r"\b((?i:bearer)[ \t]++)([\w.~+/=-]{16,}+)|\b((?i:basic)[ \t]++)([\w+/=-]{6,}+)")
_CHALLENGES: Final = frozenset((b"www-authenticate", b"proxy-authenticate"))
_SCHEME: Final = re.compile(r"[ \t]*+(?i:bearer|basic|digest|token|negotiate|apikey|aws4-hmac-sha256)(?:[ \t]++|\Z)")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BLANKS: Final = " \t\r\n\xef\xbb\xbf"
_BINARY: Final = re.compile(r"[\x00-\x08\x0e-\x1f]")


def redact_text(text: str) -> str:
    """Redact a text: signatures of tokens, API keys, credentials after a scheme, passwords in URLs, named members."""
    # Most texts are short and have no secret: ask for the least that each pattern needs before it is tried.
    text = without_api_keys(text, MARKER)
    if "%" in text or text.count(".") > 1:
        text = _RUN.sub(lambda match: _without_signatures(match[0]), text)
    if "@" in text and ":" in text:
        text = _PASSWORD_IN_URL.sub(lambda match: match[1] + MARKER, text)
    if '"' in text and ":" in text:
        text = _MEMBER.sub(_member, text)
    if "=" in text:
        text = _ARGUMENT.sub(_argument, text)
    return _CREDENTIAL.sub(_credential, text) if " " in text or "\t" in text else text


def _redact_urls(text: str) -> str:
    """Redact a text that may repeat the URL of a request: what :func:`redact_text` does, and arguments that are not
    kept."""
    return _URL_ARGUMENT.sub(_url_argument, redact_text(text)) if "=" in text else redact_text(text)


def _url_argument(match: re.Match[str]) -> str:
    known = unquote_plus(match[2], "latin-1") in KEPT_ARGUMENTS
    return match[0] if known else f"{match[1]}{match[2]}={_secret(match[3])}"


def _member(match: re.Match[str]) -> str:
    return f'"{match[1]}"{match[2]}"{_secret(match[3])}"' if is_secret_name(match[1]) else match[0]


def _argument(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}={_secret(match[3])}" if is_secret_name(match[2]) else match[0]


def _credential(match: re.Match[str]) -> str:
    return match[1] + _secret(match[2]) if match[1] else match[3] + MARKER


def _without_signatures(run: str) -> str:
    """Redact the signature of the first token in ``run``, and what follows it."""
    for dot in (_DOT, _PLAIN_DOT):  # "%2" before a token would make a dot of its first letter
        pieces = dot.split(run)  # segments at even places, the dots between them at odd ones
        for index in range(0, len(pieces) - 4, 2):
            if len(pieces[index]) >= _LEAST_HEADER and _has_header(pieces[index]):
                run = "".join(pieces[: index + 4]) + MARKER
                break
    return run


def _has_header(segment: str) -> bool:
    """Return whether ``segment`` ends in the JOSE header of a token, after any other text."""
    for _ in range(_LAYERS + 1):
        for number, start in enumerate(_HEADER_START.finditer(segment)):
            # With so many beginnings, better redact too much than too little.
            if number == _MAX_STARTS or _is_header(segment[start.start() :]):
                return True
        decoded = unquote(segment, "latin-1")
        if decoded == segment:
            return False
        segment = decoded
    return False


def _is_header(segment: str) -> bool:
    """Return whether ``segment`` is a JSON object with members, in base64url (RFC 7515, section 4)."""
    text = segment.rstrip("=").translate(_TO_URL_ALPHABET)
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return data.lstrip().startswith(b"{") and bool(json.loads(data))
    except (ValueError, RecursionError):
        return False


def _secret(value: str) -> str:
    """Return what is kept of a secret: a token without its signature, or only the marker."""
    segments = value.strip(" \t").split(".")
    if len(segments) > 2 and _is_header(segments[0]) and _RUN.fullmatch(segments[1]):
        return f"{segments[0]}.{segments[1]}.{MARKER}"
    return MARKER


def redact_headers(headers: Headers, token_headers: Collection[bytes]) -> Headers:
    """Redact headers. ``token_headers``: the headers that may hold the token, in lower case."""
    return tuple((name, _redact_header(name, value, token_headers)) for name, value in headers)


def _redact_header(name: bytes, value: bytes, token_headers: Collection[bytes]) -> bytes:
    if name.lower() in token_headers:
        value = as_bearer(value)
    if name.lower() in _CHALLENGES:
        return value  # a challenge has no secret, and clients need it unchanged
    text = value.decode("latin-1")
    if name.lower() not in KEPT_HEADERS or name.lower() in token_headers:
        scheme = _SCHEME.match(text)
        kept = scheme[0] if scheme else ""
        rest = text[len(kept) :]
        text = kept + _secret(rest) if rest.strip() else text
    else:
        text = _redact_urls(text)
    return text.encode("latin-1")


def redact_target(target: str) -> str:
    path, mark, query = target.encode("utf-8", "surrogateescape").decode("latin-1").partition("?")
    path = "/".join(_redact_encoded(segment) for segment in path.split("/"))
    redacted = path + mark + redact_arguments(query)
    return redacted.encode("latin-1").decode("utf-8", "surrogateescape")


def redact_arguments(arguments: str) -> str:
    """Redact urlencoded arguments. Pairs of a kept name without secrets stay as they are."""
    return "&".join(_redact_pair(pair) for pair in arguments.split("&"))


def _redact_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if unquote_plus(name[:1000], "latin-1") in KEPT_ARGUMENTS:
        return name + equals + _redact_encoded(value)
    if not equals:
        return _replaced(name)
    return _redact_encoded(name) + equals + _replaced(value)


def _replaced(raw: str) -> str:
    """Replace a value. What makes the gateway refuse arguments stays: a semicolon, and an invalid escape."""
    if not raw:
        return raw
    kept = _secret(unquote_plus(raw, "latin-1"))
    kept = raw if raw == kept else quote(kept)
    return kept + (";" if ";" in raw else "") + ("%" if _BAD_ESCAPE.search(raw) else "")


def _redact_encoded(raw: str) -> str:
    """Redact percent-encoded text, in as many layers as it has, or return it unchanged."""
    text = raw = redact_text(raw) if _DOT.search(raw) else raw
    for layer in range(_LAYERS):
        decoded = unquote_plus(text, "latin-1")
        redacted = redact_text(decoded)
        if redacted != decoded:
            for _ in range(layer + 1):
                redacted = quote(redacted, safe="", encoding="latin-1")
            return redacted
        if decoded == text:
            break
        text = decoded
    return raw


def redact_form(content_type: str, form: bytes) -> tuple[str, bytes] | None:
    """Redact a form, and return its type too: a multipart form with secrets becomes urlencoded.

    An unreadable form is not kept: then return None.
    """
    main = content_type.partition(";")[0].strip().lower()
    if main == URLENCODED:
        return content_type, redact_arguments(form.decode("latin-1")).encode("latin-1")
    try:
        arguments = read_form(content_type, form)
    except Refusal:
        return None
    redacted = redact_arguments(arguments)
    if redacted == arguments and redact_text(form.decode("latin-1")).encode("latin-1") == form:
        return content_type, form
    return URLENCODED, redacted.encode("latin-1")


def redact_body(body: bytes, content_type: str, coding: str) -> bytes | None:
    """Redact a body; return None if it may still have secrets. ``coding`` is the value of ``Content-Encoding``."""
    decoded = _decoded(body, coding.strip().lower())
    if decoded is None:
        return None
    text = decoded.decode("latin-1")
    main = content_type.partition(";")[0].strip().lower()
    if main == MULTIPART:
        return body if redact_form(content_type, decoded) == (content_type, decoded) else None
    redacted = redact_arguments(text) if main == URLENCODED else _redact_content(text)
    if redacted == text:
        return body
    if redacted is None or coding.strip().lower() not in ("", "identity") or _BINARY.search(text):
        return None  # it cannot be encoded again as the sender did
    return redacted.encode("latin-1")


# --- JSON ----------------------------------------------------------------------------------------------------------


def _redact_content(text: str) -> str | None:
    """Redact JSON, lines of JSON, or any other text. Return None for what looks like JSON and cannot be read."""
    if not text.lstrip(_BLANKS).startswith(("{", "[")):
        return _redact_urls(text)
    lines = text.split("\n")
    for parts in ([text], lines):
        try:
            redacted = [_redact_json(part) if part.strip() else part for part in parts]
        except (ValueError, RecursionError):
            continue
        return "\n".join(redacted)
    return None


def _redact_json(text: str) -> str:
    value = json.loads(text.encode("latin-1"), object_pairs_hook=_members)
    kept = _kept(value, labels=False)
    return text if kept == value else json.dumps(kept, separators=(",", ":"))


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object's members. Raises ``ValueError`` if two have one name: only one would be seen."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("two members have one name")
    return found


def _kept(value: object, *, labels: bool) -> object:
    """Return what is kept of a JSON value. ``labels``: whether the members of objects in it are labels."""
    if isinstance(value, dict):
        return {name: _kept_member(name, member, labels=labels) for name, member in value.items()}
    if isinstance(value, list):
        return [_kept(item, labels=labels) for item in value]
    return _redact_urls(value) if isinstance(value, str) else value


def _kept_member(name: str, value: object, *, labels: bool) -> object:
    if name in LABELS:
        return _kept(value, labels=True)
    known = not is_secret_name(name) if labels else name in KEPT_MEMBERS
    return _kept(value, labels=labels) if known or value in ("", None) else MARKER


def _decoded(body: bytes, coding: str) -> bytes | None:
    """Decode the body; return None if that fails or exceeds the bound."""
    if coding not in ("", "identity", "gzip", "deflate", "zstd", "snappy"):
        return None
    decoded = bytearray()

    def take(piece: bytes) -> None:
        if len(decoded) + len(piece) > MAX_BODY:
            raise BodyTooLarge(f"the body is larger than {MAX_BODY} bytes decoded")
        decoded.extend(piece)

    try:
        undo = decoder(coding, take, max_decoded=MAX_BODY)
        undo.feed(body)
        undo.finish()
    except Refusal:
        return None
    return bytes(decoded)
