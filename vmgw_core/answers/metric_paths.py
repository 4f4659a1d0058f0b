"""Graphite's ``/metrics/find`` and ``/metrics/expand``, made of the values of a label that the token can see.

The answers are those of VictoriaMetrics, whose handlers know no labels and filters. Each part of a query between two
delimiters may have ``*``, ``{a,b}`` and ``[a-z]``; ``?`` is a letter as any other. The values are sorted, so that each
part is looked up by its beginning.

https://graphite-api.readthedocs.io/en/latest/api.html#metrics-find, and ``app/vmselect/graphite/metrics_api.go``.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote

from vmgw_core.access import Expression, compile_expression
from vmgw_core.errors import AnswerTooLarge, BadRequest

Arguments = Mapping[str, Sequence[str]]

NAMES: Final = "/api/v1/label/__name__/values"
_FALSE: Final = ("", "0", "f", "false", "no")
_WILDCARD: Final = re.compile(r"[*{\[]")
_SPECIAL: Final = re.compile(r"[*{\[,}]")
_LONGEST: Final = 4096  # characters of all queries of a request
_MOST_PARTS: Final = 100  # parts with wildcards, of all queries of a request
_MOST_LOOKS: Final = 1_000_000  # a look takes about a microsecond
_STEPS_OF_LOOK: Final = 400  # steps of an expression that take as long as a look
_DEEPEST: Final = 10  # braces inside of each other
_PATH_BYTES: Final = 100  # what a path takes in an answer besides its text


def path_of(path: str, arguments: Arguments) -> str:
    """Return ``path``, which asks for metric names, for the label that the client asks for.

    Raises:
        BadRequest: no label has this name, or a proxy could read another path in it.
    """
    label = _first(arguments, "label") or "__name__"
    if not label.isprintable() or not {"", ".", ".."}.isdisjoint(label.split("/")):
        raise BadRequest("label: expected the name of a label")
    return path.removesuffix(NAMES) + NAMES.replace("__name__", quote(label, safe=""))


def time_range(arguments: Arguments) -> list[str]:
    """Return the client's times, under the names that they have for values of labels."""
    until = _first(arguments, "until")
    times = [f"start={quote(_first(arguments, 'from') or '0')}"]
    return [*times, f"end={quote(until)}"] if until else times


def found(names: Iterable[str], arguments: Arguments, largest: int) -> object:
    """Return the answer of ``/metrics/find``.

    Raises:
        BadRequest: an argument cannot be applied.
        AnswerTooLarge: the paths take more than ``largest`` bytes.
    """
    form = _first(arguments, "format") or "treejson"
    if form not in ("treejson", "completer"):
        raise BadRequest("format: expected treejson or completer")
    query, delimiter = _first(arguments, "query"), _delimiter(arguments)
    if not query:
        raise BadRequest("query: expected a pattern")
    if _is_set(arguments, "automatic_variants"):
        parts = query.split(delimiter)
        query = delimiter.join(f"{{{part}}}" if "," in part and "{" not in part else part for part in parts)
    if form == "completer":
        query = query.replace("..", ".*")
        query += "" if query.endswith("*") else "*"
    (paths,) = _search(names, (query,), arguments, expand=False, largest=largest).values()
    wildcards = _is_set(arguments, "wildcards")
    return (_tree if form == "treejson" else _completer)(paths, delimiter, wildcards=wildcards)


def expanded(names: Iterable[str], arguments: Arguments, largest: int) -> object:
    """Return the answer of ``/metrics/expand``. Raises as :func:`found`."""
    queries = arguments.get("query", ())
    if not queries:
        raise BadRequest("query: expected a pattern")
    by_query = _search(names, queries, arguments, expand=True, largest=largest)
    if _is_set(arguments, "groupByExpr"):
        return {"results": by_query}
    every = dict.fromkeys(path for paths in by_query.values() for path in paths)
    return _nodes_first(every, _delimiter(arguments))


# --- the search -------------------------------------------------------------------------------------------------------


def _search(
    names: Iterable[str], queries: Sequence[str], arguments: Arguments, *, expand: bool, largest: int
) -> dict[str, list[str]]:
    """Return the paths that each query matches, nodes first. A node ends with the delimiter."""
    if sum(map(len, queries)) > _LONGEST:
        raise BadRequest(f"query: longer than {_LONGEST} characters")
    delimiter, leaves = _delimiter(arguments), _is_set(arguments, "leavesOnly")
    if sum(len(_WILDCARD.findall(query)) for query in queries) > _MOST_PARTS:
        raise BadRequest(f"query: more than {_MOST_PARTS} wildcards")
    by_query: dict[str, list[str]] = {}
    known, room = _Names(names, delimiter), largest
    for query in dict.fromkeys(queries):
        paths: dict[str, None] = {}  # in the order of the names, so that sorting is cheap
        for path in _matched(known, query, expand=expand):
            if path in paths or (leaves and path.endswith(delimiter)):
                continue
            room -= len(path) + _PATH_BYTES
            if room < 0:
                raise AnswerTooLarge(f"the paths take more than {largest} bytes (-response.maxFilterBytes)")
            paths[path] = None
        by_query[query] = _nodes_first(paths, delimiter)
    return by_query


class _Names:
    """The names that the token can see, looked up by how they begin."""

    def __init__(self, names: Iterable[str], delimiter: str) -> None:
        self.names = sorted(names)
        self.delimiter = delimiter
        self.looks = _MOST_LOOKS

    def suffixes(self, prefix: str, steps: int = 0) -> Iterator[str]:
        """Yield what follows ``prefix`` in the names that begin with it, up to the next delimiter, each once.

        ``steps``: what an expression that is matched against them may take for each character.

        Raises:
            BadRequest: the request has taken too many looks.
        """
        names, following, at = self.names, chr(ord(self.delimiter) + 1), bisect_left(self.names, prefix)
        while at < len(names) and names[at].startswith(prefix):
            self.looks -= 1
            if self.looks < 0:
                raise BadRequest("query: its patterns take too long for so many names: use fewer or simpler ones")
            suffix, mark, _ = names[at][len(prefix) :].partition(self.delimiter)
            self.looks -= len(suffix) * steps // _STEPS_OF_LOOK
            yield suffix + mark
            at = bisect_left(names, prefix + suffix + following, at + 1) if mark else at + 1


def _matched(names: _Names, query: str, *, expand: bool) -> Iterator[str]:
    """Yield the paths that match. Without ``expand``, all parts but the last are as the query has them."""
    delimiter, shown, heads, tail = names.delimiter, "", [""], query
    while True:
        wildcard = _WILDCARD.search(tail)
        if wildcard is None:
            for head in heads:
                path = head + tail
                for suffix in names.suffixes(path):
                    if path.endswith(delimiter):
                        yield (head if expand else shown) + tail
                        break
                    if suffix in ("", delimiter):
                        yield (head if expand else shown) + tail + suffix
            return
        literal, rest = tail[: wildcard.start()], tail[wildcard.start() :]
        part, mark, tail = rest.partition(delimiter)
        expression = None if rest == "*" else _expression(part + mark, delimiter)
        # RE2 keeps a state for each character of an expression, at worst. With one wildcard it needs few of them.
        steps = len(part) if len(_WILDCARD.findall(part)) > 1 else 0
        matched = (
            (head, suffix)
            for head in heads
            for suffix in names.suffixes(head + literal, steps)
            if expression is None or expression.fullmatch(suffix)
        )
        if not tail:
            for head, suffix in matched:
                yield (head if expand else shown) + literal + suffix
            return
        shown += literal + part + mark
        heads = [head + literal + suffix for head, suffix in matched]  # all are nodes, so none is in another


def _expression(part: str, delimiter: str) -> Expression:
    quoted = re.escape(delimiter)
    text, _ = _translated(part, f"[^{quoted}]*", 0)
    if not text.endswith(quoted):
        text += f"{quoted}?"
    try:
        return compile_expression(text, max_bytes=8 * _LONGEST)[0]
    except ValueError:
        raise BadRequest("query: it has brackets that RE2 does not read") from None


def _translated(query: str, star: str, depth: int) -> tuple[str, str]:
    """Return the expression for ``query``, and within braces (``depth``) what follows the comma or the closing one."""
    if depth > _DEEPEST:
        raise BadRequest(f"query: more than {_DEEPEST} braces inside of each other")
    text = ""
    while special := _SPECIAL.search(query):
        text += re.escape(query[: special.start()])
        query = query[special.start() :]
        sign = query[0]
        if sign in ",}" and depth:
            return text, query
        if sign == "*":
            text, query = text + star, query[1:]
        elif sign == "[" and "]" in query:
            end = query.index("]") + 1
            text, query = text + query[:end], query[end:]
        elif sign == "[":
            return text + re.escape(query), ""
        elif sign == "{":
            options: list[str] = []
            while not options or query.startswith(","):
                option, query = _translated(query[1:], star, depth + 1)
                options.append(option)
            if not query:  # there is no closing brace
                return text + r"\{" + ",".join(options), ""
            text, query = f"{text}(?:{'|'.join(options)})", query[1:]
        else:
            text, query = text + re.escape(sign), query[1:]
    return text + re.escape(query), ""


# --- the answers ------------------------------------------------------------------------------------------------------


def _nodes_first(paths: Iterable[str], delimiter: str) -> list[str]:
    ordered = sorted(paths)
    return [path for path in ordered if path.endswith(delimiter)] + [
        path for path in ordered if not path.endswith(delimiter)
    ]


def _tree(paths: Iterable[str], delimiter: str, *, wildcards: bool) -> object:
    merged: list[str] = []
    for path in sorted(paths):
        if merged and path == merged[-1] + delimiter:  # it is both a leaf and a node
            merged[-1] = path + delimiter
        else:
            merged.append(path)
    entries = [
        _entry(path.removesuffix(delimiter * 2), _name(path, delimiter), node=path.endswith(delimiter))
        for path in merged
    ]
    if wildcards and len(merged) > 1:
        head, mark, _ = merged[0].rstrip(delimiter).rpartition(delimiter)
        entries.append(_entry(f"{head}{mark}*", "*", node=any(path.endswith(delimiter) for path in merged)))
    return entries


def _entry(path: str, text: str, *, node: bool) -> dict[str, object]:
    return {"id": path, "text": text, "allowChildren": int(node), "expandable": int(node), "leaf": int(not node)}


def _completer(paths: Sequence[str], delimiter: str, *, wildcards: bool) -> object:
    metrics: list[dict[str, object]] = [
        {"path": path, "name": _name(path, delimiter), "is_leaf": int(not path.endswith(delimiter))} for path in paths
    ]
    if wildcards and len(metrics) > 1:
        metrics.append({"name": "*"})
    return {"metrics": metrics}


def _name(path: str, delimiter: str) -> str:
    return path.rstrip(delimiter).rpartition(delimiter)[2]


# --- arguments --------------------------------------------------------------------------------------------------------


def _delimiter(arguments: Arguments) -> str:
    delimiter = _first(arguments, "delimiter") or "."
    if len(delimiter) > 1 or not delimiter.isascii() or delimiter in "*{[,]}":
        raise BadRequest("delimiter: expected one character, and none that a pattern has")
    return delimiter


def _is_set(arguments: Arguments, name: str) -> bool:
    return _first(arguments, name).lower() not in _FALSE


def _first(arguments: Arguments, name: str) -> str:
    return next(iter(arguments.get(name, ())), "")
