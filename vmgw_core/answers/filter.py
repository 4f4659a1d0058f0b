"""What to ask a backend in place of a client's request, and the client's answer made of the backend's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

from vmgw_core.base import FieldError, TenantID, text_bytes
from vmgw_core.errors import AnswerTooLarge, BadAnswer, BadBody, BadRequest
from vmgw_core.http import Headers, decoded_key, decoder, encode_pair, values_of
from vmgw_core.routing import Answer
from vmgw_core.tokens import SelectorError

from . import metric_paths, rule_answers, statistics
from .document import names_of, parse, written
from .rules import RuleFilter, ShownGroup

Arguments = Mapping[str, Sequence[str]]

DROPPED_HEADERS: Final = frozenset(
    b"accept-encoding accept-ranges if-match if-modified-since if-none-match if-range if-unmodified-since range".split()
)
"""Headers of a request that could make the backend answer with a part, or with nothing."""
HEADER: Final = b"X-VMGateway-Answer"
"""Tells the client that an answer is ``filtered`` or ``empty``: other answers are what the backend sent."""
_MAX_TARGET: Final = 16 * 1024
_GROUPS: Final[dict[Answer, Callable[[Sequence[ShownGroup], Arguments], dict[str, object] | None]]] = {
    Answer.RULES: rule_answers.rules_answer,
    Answer.ALERTS: rule_answers.alerts_answer,
    Answer.GROUP: rule_answers.group_answer,
    Answer.RULE: rule_answers.rule_answer,
    Answer.ALERT: rule_answers.alert_answer,
}
_FORWARDED: Final[dict[Answer, frozenset[str]]] = {
    Answer.TSDB: frozenset(("topN", "date", "focusLabel", "match[]")),
    Answer.METADATA: frozenset(("metric",)),
    Answer.TOP_QUERIES: frozenset(("topN", "maxLifetime")),
} | dict.fromkeys(_GROUPS, rule_answers.FORWARDED)
_PATHS: Final = {Answer.FIND: metric_paths.found, Answer.EXPAND: metric_paths.expanded}
_ADDED: Final[dict[Answer, tuple[str, ...]]] = {
    Answer.SERIES_COUNT: ("topN=1",),
    Answer.INDEX: ("start=0",),  # names of all time, as the page has
    Answer.TAGS: ("start=0",),
    Answer.TAG_VALUES: ("start=0",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """An answer for the client."""

    status: int
    body: bytes
    kind: str
    """``filtered`` or ``empty``, or "" for an error."""
    note: str
    """What was left out, for the operator alone."""

    @property
    def headers(self) -> Headers:
        length = (b"Content-Length", str(len(self.body)).encode())
        headers = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"), length)
        return (*headers, (HEADER, self.kind.encode())) if self.kind else headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """The filter of one route for one token.

    ``path`` is what to ask below the backend's URL; ``names_path`` leads to the metric names that the token can see, if
    the answer depends on them. ``tenant`` is what limits the token, if it has no labels or filters; else None.
    ``rules`` is for the routes of rules.
    """

    answer: Answer
    path: str
    names_path: str | None
    tenant: TenantID | None
    rules: RuleFilter | None
    tag: str = ""
    """The tag whose values Graphite's client asks for."""

    @property
    def binds(self) -> bool:
        """Whether the backend honours labels and filters at ``path``."""
        return self.lists_labels or self.answer in (Answer.TSDB, Answer.SERIES_COUNT)

    @property
    def lists_labels(self) -> bool:
        """Whether it asks for names or values of labels."""
        return self.answer in (Answer.INDEX, Answer.TAGS, Answer.TAG_VALUES, *_PATHS)

    @property
    def searches(self) -> bool:
        """Whether the client may send patterns for what is in the answer, which can take long, however small it is."""
        return self.answer in (Answer.TAGS, Answer.TAG_VALUES, *_PATHS, *_GROUPS)

    def target(self, pairs: Sequence[str], enforced: Sequence[str]) -> str:
        """Return the path and the query to send: the client's raw ``pairs`` that may be sent, and ``enforced`` ones.

        Raises:
            BadRequest: they are too long for a URL, or name no label.
        """
        names = _FORWARDED.get(self.answer, frozenset())
        path, kept = self.path, [encode_pair(name, value) for name, value in map(_decoded, pairs) if name in names]
        if self.answer in _PATHS:
            arguments = _arguments(pairs)
            path, kept = metric_paths.path_of(path, arguments), metric_paths.time_range(arguments)
        query = "&".join((*kept, *_ADDED.get(self.answer, ()), *enforced))
        if sum(map(len, (path, *kept))) > _MAX_TARGET:
            raise BadRequest("the arguments are too long for this page")
        return f"{path}?{query}" if query else path

    def apply(
        self,
        status: int,
        headers: Headers,
        body: bytes,
        pairs: Sequence[str],
        *,
        largest: int,
        names: frozenset[str] | None,
    ) -> Filtered:
        """Return the client's answer.

        Args:
            status: of the backend's answer, whose ``body`` is as it was sent.
            pairs: the client's raw arguments.
            largest: the bytes that the decoded body may have.
            names: the metric names that the token can see, or None if nobody asked for them.

        Raises:
            Refusal: the answer cannot be limited to the token, or the client's arguments cannot be applied.
        """
        if status != 200:
            return error_answer(status)
        if self.names_path is not None and names is None:
            raise BadAnswer("the metric names that the token can see are not known")
        arguments = _arguments(pairs)
        arguments["<tag>"] = [self.tag]
        content = body_of(headers, body, largest)
        try:
            if self.answer in _PATHS:
                return self._paths(content, arguments, largest)
            return self._made(content, arguments, names or frozenset())
        except SelectorError as error:
            raise BadRequest(f"match[]: {error}") from None
        except FieldError:  # its path and type could tell of what is left out
            raise BadAnswer("the backend's answer does not have the form that is expected here") from None

    def _paths(self, content: bytes, arguments: Arguments, largest: int) -> Filtered:
        visible = list(names_of(parse(content)))
        made = _PATHS[self.answer](visible, arguments, largest)
        return Filtered(status=200, body=written(made), kind="filtered", note=f"of {len(visible)} names")

    def _made(self, content: bytes, arguments: Arguments, names: frozenset[str]) -> Filtered:
        if self.answer is Answer.ACTIVE_QUERIES and (self.tenant is None or not content.startswith(b"{")):
            content = b'{"data":[]}'  # it may be text, as in 1.79.5
        document = parse(content)
        if self.rules is not None:
            groups, total = self.rules.groups(document)
            answer = _GROUPS[self.answer](groups, arguments)
            shown = sum(len(group.rules) for group in groups)
            if answer is None:
                return error_answer(404)
            return Filtered(status=200, body=written(answer), kind="filtered", note=f"{shown} of {total} rules shown")
        if self.answer is Answer.NOTIFIERS:
            made = rule_answers.notifiers_answer(document)
            return Filtered(status=200, body=written(made), kind="filtered", note="addresses hidden")
        found, note = statistics.made(self.answer, document, arguments, names, self.tenant)
        kind = "empty" if note == statistics.EMPTY else "filtered"
        return Filtered(status=200, body=written(found), kind=kind, note=note)


def error_answer(status: int) -> Filtered:
    """Return an answer for the status of a backend's error, without its text, which may quote data of others.

    Raises:
        BadAnswer: the status is not one of an error.
    """
    if status < 400:
        raise BadAnswer(f"the backend answered with status {status}, which cannot be limited to the token")
    text = "not found" if status == 404 else f"the backend answered with status {status}"
    kind = "bad_data" if status < 500 else "unavailable"
    body = written({"status": "error", "errorType": kind, "error": text})
    return Filtered(status=status, body=body, kind="", note=f"status {status}")


def body_of(headers: Headers, body: bytes, largest: int) -> bytes:
    """Return the decoded body.

    Raises:
        AnswerTooLarge: it decodes to more than ``largest`` bytes.
        BadAnswer: it is encoded in an unknown way, or broken.
    """
    encodings = [value.decode("latin-1").lower() for value in values_of(headers, b"content-encoding")]
    if not encodings or encodings == ["identity"]:
        return body
    if len(encodings) > 1 or encodings[0] not in ("gzip", "deflate", "zstd"):
        raise BadAnswer("the backend's answer has an unknown encoding, so it cannot be limited to the token")
    decoded = bytearray()

    def take(piece: bytes) -> None:
        if len(decoded) + len(piece) > largest:
            raise AnswerTooLarge(
                f"the backend's answer decodes to more than {largest} bytes (-response.maxFilterBytes), "
                "so it cannot be limited to the token"
            )
        decoded.extend(piece)

    reader = decoder(encodings[0], take, max_decoded=largest)
    try:
        reader.feed(body)
        reader.finish()
    except BadBody:
        raise BadAnswer("the backend's answer is broken: its encoding cannot be read") from None
    return bytes(decoded)


@dataclass(frozen=True, slots=True)
class VisibleNames:
    """The metric names that a token can see, and the bytes of memory that they take."""

    names: frozenset[str]
    memory: int


def read_names(status: int, headers: Headers, body: bytes, largest: int) -> VisibleNames:
    """Return the names in a response of ``/api/v1/label/__name__/values``. Raises ``BadAnswer``."""
    if status != 200:
        raise BadAnswer(f"the backend answered with status {status} when it was asked for the token's metric names")
    try:
        names = frozenset(names_of(parse(body_of(headers, body, largest))))
    except FieldError:
        raise BadAnswer("the backend's list of metric names does not have the form that is expected") from None
    return VisibleNames(names, text_bytes(*names))


def _arguments(pairs: Sequence[str]) -> dict[str, list[str]]:
    arguments: dict[str, list[str]] = {}
    for name, value in map(_decoded, pairs):
        arguments.setdefault(name, []).append(value)
    return arguments


def _decoded(pair: str) -> tuple[str, str]:
    return decoded_key(pair), unquote_plus(pair.partition("=")[2], errors="replace")
