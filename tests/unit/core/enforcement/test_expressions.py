"""expressions: every argument that is parsed as a query is looked at, wherever and however it is written."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.support.each import each
from vmgw_core.base.tenants import TenantID
from vmgw_core.enforcement.arguments import enforce
from vmgw_core.enforcement.expressions import MAX_LENGTH
from vmgw_core.errors import CostlyQuery
from vmgw_core.routing.routes import Route, match_route
from vmgw_core.tokens.claims import AccessMode, VMAccessClaim

NOBODY = VMAccessClaim(tenant=TenantID(), labels=(), filters=(), mode=AccessMode.FULL)
BOMB = "WITH (x0 = a + b, " + ", ".join(f"x{i} = x{i - 1} + x{i - 1}" for i in range(1, 31)) + ") x30"


def _route(path: str, method: str = "POST") -> Route:
    return match_route(path, method, cluster=True).route


def _every_byte(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


QUERIES = [
    ("/api/v1/query", "query"),
    ("/api/v1/query_range", "query"),
    ("/api/v1/query_range", "extra_filters[]"),
    ("/api/v1/query_range", "extra_filters"),
    ("/api/v1/series", "match[]"),
    ("/api/v1/labels", "match"),
    ("/api/v1/export", "match[]"),
    ("/federate", "match[]"),
    ("/api/v1/status/tsdb", "match[]"),
    ("/expand-with-exprs", "query"),
    ("/prettify-query", "query"),
    ("/render", "extra_filters[]"),
    ("/api/v1/admin/tsdb/delete_series", "match[]"),
    ("/metric-relabel-debug", "relabel_configs"),
]


@each(("path", "key"), QUERIES)
@each("encoded", [quote, _every_byte], ids=["plain", "every byte"])
@each("place", ["URL", "form"])
def test_every_query_is_looked_at(path: str, key: str, encoded: object, place: str) -> None:
    assert callable(encoded)
    pair = f"a=1&{encoded(key)}={encoded(BOMB)}"
    query, form = (pair, None) if place == "URL" else ("", pair)
    with pytest.raises(CostlyQuery):
        enforce(_route(path), NOBODY, query, form, cluster=False)
    long = f"{encoded(key)}=" + encoded("(" * (MAX_LENGTH + 1))
    with pytest.raises(CostlyQuery, match="longer than 32768 characters"):
        enforce(_route(path), NOBODY, "", long, cluster=False)


@pytest.mark.parametrize("path", ["/render", "/graphite/render"])
def test_every_target_is_looked_at(path: str) -> None:
    for query, form in (("target=a&target=highest(a,0)", None), ("target=a", "target=a&%74arget=highest(a,0)")):
        with pytest.raises(CostlyQuery, match="highest"):
            enforce(_route(path), NOBODY, query, form, cluster=False)
    with pytest.raises(CostlyQuery, match="storage_step"):
        enforce(_route(path), NOBODY, "target=a&storage_step=1ms", None, cluster=False)
    assert enforce(_route(path), NOBODY, "target=highest(a,1)&from=-1h", None, cluster=False)[0].endswith("from=-1h")


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("(" * MAX_LENGTH, id="at the bound"),
        pytest.param('{a=~"' + "b|" * MAX_LENGTH + '"}', id="a long string"),
        pytest.param("{a=~'" + "b|" * MAX_LENGTH + "',b=~`" + "c" * MAX_LENGTH + "`}", id="long strings"),
    ],
)
def test_a_long_string_is_no_long_query(query: str) -> None:
    form = "match[]=" + quote(query)
    assert enforce(_route("/api/v1/series"), NOBODY, "", form, cluster=False) == ("", form)


@pytest.mark.parametrize("hidden", ['#"\n', '\\"', "#'\n"], ids=["a comment", "an escape", "a comment's apostrophe"])
def test_what_looks_like_a_string_hides_nothing(hidden: str) -> None:
    form = "match[]=" + quote(hidden + "(" * (MAX_LENGTH + 1) + hidden[:2] + '"')
    with pytest.raises(CostlyQuery):
        enforce(_route("/api/v1/series"), NOBODY, "", form, cluster=False)


@pytest.mark.parametrize("power", ["^", "%5E", "%5e"])
def test_powers_are_counted(power: str) -> None:
    """VictoriaMetrics takes the square of their number to parse them."""
    enforce(_route("/api/v1/query"), NOBODY, "query=a" + f"{power}a" * 1000, None, cluster=False)
    enforce(_route("/api/v1/query"), NOBODY, "query='" + f"{power}a" * 1001 + "'", None, cluster=False)
    with pytest.raises(CostlyQuery, match="more than 1000 powers"):
        enforce(_route("/api/v1/query"), NOBODY, "query=a" + f"{power}a" * 1001, None, cluster=False)


def test_a_write_has_no_queries() -> None:
    pair = "query=" + quote(BOMB)
    assert enforce(_route("/api/v1/import"), NOBODY, pair, None, cluster=False) == (pair, None)


def test_other_arguments_are_no_queries() -> None:
    pair = "format=" + quote(BOMB)
    assert enforce(_route("/api/v1/query"), NOBODY, pair, None, cluster=False) == (pair, None)
    rule = "relabel_configs=" + quote("- if: 'without'\n  regex: a\\d")
    assert enforce(_route("/metric-relabel-debug"), NOBODY, rule, None, cluster=False) == (rule, None)
