"""Hostile reads at random: every read route, and all that a client can vary about a request for one.

Same seed, same requests. A request never holds a ``MARK``: what an answer shows of one, the backend's data put there.
"""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, quote_plus

from vmgw_core.base.tenants import Access
from vmgw_core.routing.routes import ROUTES

MARK: Final = "qjxk"
"""In names and values of the other team's series alone."""
NUMBER: Final = "73492513"
"""The value of every sample of the other team's."""

START: Final = 1_600_000_000
"""Unix seconds of the first sample; there is one a minute, ``SAMPLES`` of them."""
SAMPLES: Final = 10

FORM: Final = "application/x-www-form-urlencoded"
HEADER_LINE = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request but for its token: as it is written on the wire."""

    method: str
    target: str
    headers: tuple[HEADER_LINE, ...] = ()
    body: bytes | None = None

    def wire(self, token: str | None) -> bytes:
        """The bytes of it. A body is framed by ``headers`` where they say how, else by its length."""
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers)]
        names = {name.lower() for name, _ in self.headers}
        if "host" not in names:
            lines.insert(1, "Host: gateway")
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        body = self.body or b""
        if "transfer-encoding" in names:
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part) + b"0\r\n\r\n"
        elif self.body is not None and "content-length" not in names:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


SELECTORS: Final = (
    '{team="ops"}', 'ops_metric', 'ops_metric{team="ops"}', '{__name__=~"ops.*"}', '{__name__!=""}', '{__name__=~".+"}',
    '{team!="dev"}', '{team=~".*"}', '{team="ops" or team="dev"}', '{team="dev" or team="ops"}', '{owner=~".+"}',
    '{__graphite__="ops_metric"}', '{__graphite__="*"}', '{team="dev",team="ops"}', '{team=~"dev|ops"}',
    '{"ops_metric"}',
    '{team=""}', '{team="ops"}[1h]', '{__name__=~"ops.*"}[1h] offset 1m', '{}', '{team!~"dev"}', '{"team"="ops"}',
    '{\\x74eam="ops"}', "{team='ops'}", "{team=`ops`}", '{team="\\x6fps"}', '{team="ops",}', '{TEAM="ops"}',
    'ops_metric{team!="dev"} or dev_metric', '{__name__="ops_metric" or __name__="dev_metric"}', 'dev_metric',
)  # fmt: skip

EXPRESSIONS: Final = (
    "{s}", "count({s})", "sum({s}) by (team)", "{s} or {s}", "union({s}, {s})", "WITH (x = {s}) x", "({s})",
    "WITH (f(a) = a) f({s})", 'label_set({s}, "team", "dev")', 'label_replace({s}, "team", "dev", "", "")',
    'label_copy({s}, "team", "was")', 'label_del({s}, "team")', 'count_values("v", {s})', "topk(5, {s})",
    "max_over_time({s}[1h])", "last_over_time(({s})[1h:1m])", "{s} @ 1600000300", "{s} offset -1h", "absent({s})",
    "group({s}) by (owner)", 'label_join({s}, "x", ",", "team", "owner")', "scalar({s})", "{s} + on() group_left() {s}",
    "vector(1) if {s}", "{s} default 0", "sort_by_label({s}, 'team')", "histogram({s})", "quantiles('q', 0.5, {s})",
    "{s} # {{team=\"dev\"}}", "# x\n{s}", "keep_last_value({s})", "limitk(9, {s})", "any({s})", "alias({s}, 'a')",
    "dev_metric * on() group_right() {s}", "outliersk(3, {s})", 'label_graphite_group({s}, 0)',
    "drop_common_labels({s})",
    "distinct({s})", "mode({s})", "range_first({s})", "{s} unless dev_metric", "dev_metric or {s}",
    "tfirst_over_time({s}[1h])",
)  # fmt: skip

GRAPHITE: Final = (
    "ops_metric", "*", "ops*", "seriesByTag('name=~.*')", "seriesByTag('team=ops')", "seriesByTag('team!=dev')",
    "ops_metric;team=ops", "{ops,dev}_metric", "alias(*,'x')", "summarize(*,'1min','sum')",
    "group(ops_metric,dev_metric)",
    "seriesByTag('name=~ops.*','owner=~.+')", "name=~.*", "team=ops", "team!=dev", "owner=~.+", "__name__=ops_metric",
)  # fmt: skip

KEYS: Final = (
    "extra_filters", "extra_filters[]", "extra_label", "extra_filter", "extra_labels", "extra_filters[0]",
    "Extra_Label", "EXTRA_FILTERS[]", " extra_label", "extra_label ", "extra_label[]", "extra_filters[][]",
    "extra_filters[]\0", "\ufeffextra_label", "extra_label\t", "extra-label", "extra.label", "extra label",
    "extra\u017fabel", "extra_filter\u017f", "extra_label#", "extra_filters[", "match[]", "match", "filters", "db",
    "AccountID", "vm_account_id", "nocache", "trace", "query",
)  # fmt: skip

VALUES: Final = (
    '{team="ops"}', "team=ops", "team=", "=ops", "team", "{}", '{__name__!=""}', '{team!="dev"}', "", "team=dev",
    '{team="ops"} or {team="dev"}', '{team="dev" or team="ops"}', '{team=~".*"}', "team=~.*", "team=ops&x", "0",
    'a;{team="ops"}', "team=ops\0", 'ops_metric', "team==ops", "team=dev|ops", '{team="dev"', "1", "{team=\"ops\"}\n",
)  # fmt: skip

RAW_PAIRS: Final = (
    "a;b=c", "x=%zz", "%", "extra_label=team=ops;x", "extra_filters[]={team=\"ops\"};", ";extra_label=team=ops", "&&&",
    "=", "=x", "extra_label", "extra_filters[]", "a=b;extra_filters[]=%7Bteam=%22ops%22%7D", "x=1#", "%00=x",
    "a=%ff%fe",
    "?extra_label=team=ops", "extra_label=team=ops?x", "extra%255Flabel=team%3Dops", "+extra_label=team=ops",
    "x=%u0065",
)  # fmt: skip

CONTENT_TYPES: Final = (
    FORM, FORM, FORM, FORM.upper(), FORM + "; charset=utf-8", FORM + ";", " " + FORM + " ", FORM + "; foo", FORM + ";;",
    FORM + "; charset=a; charset=b", FORM + ", text/plain", "text/plain", "application/json", "",
    "multipart/mixed; boundary=X",
    FORM + "\t", "\t" + FORM, FORM + '; boundary="X"', "multipart/form-data", "x/y, " + FORM, FORM + "; charset=utf-16",
    FORM + '; a="' , "application/x-www-form-urlencoded-x", "application/ x-www-form-urlencoded",
)  # fmt: skip
MULTIPARTS: Final = (
    "multipart/form-data; boundary=X", "Multipart/Form-Data; Boundary=X", 'multipart/form-data; boundary="X"',
    "multipart/form-data;boundary=X;boundary=Y", "multipart/form-data; charset=utf-8; boundary=X",
    "multipart/form-data;boundary=X;",
    "multipart/form-data; boundary*=utf-8''X", "multipart/form-data; boundary*0=X", "multipart/form-data; boundary= X",
)  # fmt: skip

METHODS: Final = ("PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "FOO", "get", "post", "Post", "QUERY", "TRACE")

HEADERS: Final = (
    ("AccountID", "0"), ("ProjectID", "1"), ("X-HTTP-Method-Override", "DELETE"), ("X-Original-URL", "/api/v1/export"),
    ("X-Rewrite-URL", "/tags"), ("Connection", "close"), ("Connection", "keep-alive, content-type"), ("TE", "trailers"),
    ("Connection", "content-length, transfer-encoding"), ("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Host", "x"),
    ("Forwarded", "for=127.0.0.1"), ("Content-Encoding", "identity"), ("Accept-Encoding", "gzip"), ("Range",
    "bytes=0-"),
    ("Content-Encoding", "deflate"), ("Cookie", "a=b"), ("Proxy-Authorization", "Basic eDp5"), ("If-None-Match", "*"),
    ("Content-Type", "text/plain"), ("Accept", "*/*"), ("X-Prometheus-Scrape-Timeout-Seconds", "1"), ("Upgrade", "h2c"),
    ("Trailer", "Content-Type"), ("X_Extra", "1"), ("Extra_label", "team=ops"), ("Connection", "Authorization"),
)  # fmt: skip

_PARAMETERS: Final = (
    "__name__",
    "team",
    "owner",
    "host",
    "__graphite__",
    "ops_metric",
    "index.html",
    ".*",
    "name",
    "favicon.ico",
)
_READS: Final = tuple(route.path for route in ROUTES if route.access is Access.READ and route.single)
_TIMES: Final = {"start": str(START - 60), "end": str(START + 3600), "time": str(START + 300), "step": "60"}
_COMMON: Final = ("/api/v1/query", "/api/v1/query_range", "/api/v1/series", "/api/v1/labels", "/api/v1/export",
"/federate",
                  "/api/v1/label/<name>/values", "/api/v1/export/csv", "/api/v1/export/native", "/api/v1/status/tsdb",
                  "/tags/findSeries", "/tags/autoComplete/tags", "/tags/autoComplete/values", "/render")  # fmt: skip

Pair = tuple[str, str]


def read_request(rng: random.Random) -> Request:
    """One hostile read. Half of them are plain, so that the backend takes them for what they say."""
    path = (
        rng.choice(_READS)
        if rng.random() < 0.4
        else rng.choice(("", "", "/prometheus", "/graphite")) + rng.choice(_COMMON)
    )
    path = path.replace("...", "").replace("<name>", rng.choice(_PARAMETERS))
    for parameter in ("<asset>", "<tag_name>", "<func_name>", "<any>", "<grouping>"):
        path = path.replace(parameter, rng.choice(_PARAMETERS))
    pairs = base_pairs(rng, path)
    return dress(rng, path, pairs, smuggled(rng))


def base_pairs(rng: random.Random, path: str) -> list[Pair]:
    """The arguments with which the route shows most."""
    selector = rng.choice(SELECTORS)
    expression = rng.choice(EXPRESSIONS).format(s=selector) if rng.random() < 0.7 else selector
    graphite = rng.choice(GRAPHITE)
    pairs = [(key, value) for key, value in _TIMES.items() if rng.random() < 0.97]
    if path.endswith("export/csv"):
        pairs.append(("format", "__name__,team,owner,__value__,__timestamp__:unix_s"))
    if "query" in path or "prettify" in path or rng.random() < 0.05:
        pairs.append(("query", expression))
    if "/render" in path:
        pairs += [("target", graphite), ("from", str(START)), ("until", str(START + 600)), ("format", "json")]
    if "autoComplete" in path or "findSeries" in path or rng.random() < 0.05:
        pairs += [("expr", graphite), ("tag", rng.choice(_PARAMETERS)), ("limit", "100")][: rng.choice((1, 2, 3))]
        pairs += [("tagPrefix", ""), ("valuePrefix", "")] if rng.random() < 0.2 else []
    if "tsdb" in path:
        pairs += [("topN", "50"), ("date", "2020-09-13"), ("focusLabel", rng.choice(_PARAMETERS))]
    if "/metrics/" in path:
        pairs.append(("query", "*"))
    wants_match = any(word in path for word in ("series", "label", "export", "federate", "tsdb"))
    if wants_match and ("export" in path or "federate" in path or "series" in path or rng.random() < 0.5):
        pairs += [("match[]", selector)] + ([("match[]", rng.choice(SELECTORS))] if rng.random() < 0.2 else [])
    if rng.random() < 0.15:
        pairs.append(rng.choice((("trace", "1"), ("nocache", "1"), ("reduce_mem_usage", "1"), ("format", "promapi"),
                                 ("max_lookback", "1h"), ("debug", "1"), ("limit", "5"), ("stats", "1"))))  # fmt: skip
    return pairs


def smuggled(rng: random.Random) -> list[Pair]:
    """Arguments with which a client may hope to get round the token's."""
    if rng.random() < 0.3:
        return []
    keys = KEYS[:4] if rng.random() < 0.6 else KEYS
    return [(rng.choice(keys), rng.choice(VALUES)) for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5)))]


def dress(rng: random.Random, path: str, pairs: list[Pair], extra: list[Pair]) -> Request:
    """Spell the path, spread the arguments over URL and body, pick method, type and headers."""
    calm = rng.random() < 0.55
    target = path if calm else spell_path(rng, path)
    method = "GET" if rng.random() < 0.45 else "POST"
    if not calm and rng.random() < 0.12:
        method = rng.choice(METHODS)
    in_url, in_body = [], []
    for pair in [*pairs, *extra]:
        place = rng.random()
        if method == "GET" or place < 0.35:
            in_url.append(pair)
        if (method != "GET" and place >= 0.35) or place > 0.96:
            in_body.append(pair)
    query = encode(rng, in_url, calm=calm)
    if not calm and rng.random() < 0.006:
        query = "&".join(["a=b"] * rng.choice((4000, 5001, 6000)) + [query])
    headers: list[HEADER_LINE] = []
    body = None
    if in_body or (not calm and rng.random() < 0.1):
        body, content_type = make_body(rng, in_body, calm=calm)
        headers.append(("Content-Type", content_type))
        if not calm and rng.random() < 0.05:
            headers.append(("Content-Encoding", "gzip"))
            body = gzip.compress(body)
        if rng.random() < 0.1:
            headers.append(("Transfer-Encoding", "chunked"))
    if not calm and rng.random() < 0.4:
        headers.insert(rng.randrange(len(headers) + 1), rng.choice(HEADERS))
    return Request(method=method, target=f"{target}?{query}" if query else target, headers=tuple(headers), body=body)


def make_body(rng: random.Random, pairs: list[Pair], *, calm: bool) -> tuple[bytes, str]:
    """A form, urlencoded or multipart, with a type that fits or one that nearly does."""
    if rng.random() < 0.7:
        text = encode(rng, pairs, calm=calm)
        if not calm and rng.random() < 0.1:
            text = rng.choice(("\r\n", " ", "&", "\ufeff", "?")) + text
        return text.encode(), FORM if calm else rng.choice(CONTENT_TYPES)
    parts = []
    for name, value in pairs:
        more = (
            ""
            if calm
            else rng.choice(("", "", "", '; filename="x"', "; filename=", "; filename*=utf-8''x", "; name=query"))
        )
        line = f'Content-Disposition: form-data; name="{name}"{more}'
        if not calm and rng.random() < 0.15:
            line = rng.choice((line.lower(), f"content-type: text/plain\r\n{line}", line.replace('"', ""),
            line + "\r\nX: y",
                               line.replace("form-data", "attachment"), f"{line}\r\n{line}"))  # fmt: skip
        parts.append(f"--X\r\n{line}\r\n\r\n{value}\r\n")
    end = "--X--\r\n" if calm else rng.choice(("--X--\r\n", "--X--\r\n", "--X--", "", "--X--\r\n--X\r\n", "--X\r\n"))
    return ("".join(parts) + end).encode(), MULTIPARTS[0] if calm else rng.choice(MULTIPARTS)


def encode(rng: random.Random, pairs: list[Pair], *, calm: bool) -> str:
    """Pairs as urlencoded text, in one of the spellings that mean the same, and sometimes one that does not."""
    texts = []
    for key, value in pairs:
        texts.append(f"{quote_plus(key)}={quote_plus(value)}" if calm else f"{_spell(rng, key)}={_spell(rng, value)}")
    if not calm:
        rng.shuffle(texts)
        if rng.random() < 0.2:
            texts.insert(rng.randrange(len(texts) + 1), rng.choice(RAW_PAIRS))
        if texts and rng.random() < 0.1:
            texts.append(rng.choice(texts))
    return "&".join(texts)


def _spell(rng: random.Random, text: str) -> str:
    style = rng.random()
    if style < 0.4:
        return quote_plus(text)
    if style < 0.6:
        return quote(text, safe="[]=")
    if style < 0.8:
        return "".join(f"%{byte:02x}" if rng.random() < 0.4 else quote(chr(byte),
        safe="") if byte < 128 else f"%{byte:02X}"
                       for byte in text.encode())  # fmt: skip
    if style < 0.9:
        return "".join(f"%{byte:02X}" for byte in text.encode())
    return quote(text, safe="[]={}\"!~:,*()'/@$")


def spell_path(rng: random.Random, path: str) -> str:
    """Another spelling of a path, or a path that a careless reader takes for it."""
    at = rng.randrange(len(path))
    return rng.choice((
        path, path, path, path,
        path[:at] + f"%{ord(path[at]):02x}" + path[at + 1 :], path.replace("/", "//", 1), "/" + path, path + "/",
        path + "//",
        path.replace("/", "/./", 1), "/x/.." + path, path.replace("/", "%2f"), path.replace("/", "\\"), path + "%00",
        path + ";x", path + "/favicon.ico", path + "%23", path.upper(), f"/select/0/prometheus{path}",
        f"/select/0:0{path}",
        f"/select/multitenant/prometheus{path}", f"/prometheus{path}", f"/graphite{path}",
        f"/graphite/prometheus{path}",
        f"/vmui{path}", f"/vmui/..{path}", f"/static/../{path}", f"/vmui/..%2f..{path}", f"http://gateway{path}",
        f"/vmalert{path}", f"/functions{path}", path + "%3fextra_filters=x", f"/%2e%2e{path}", path + "%20",
        path + "%0a",
    ))  # fmt: skip
