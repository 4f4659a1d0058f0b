"""tenancy: the backend's address from its flag, and the path a tenant has there."""

from __future__ import annotations

from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.backends.backend import Backend
from vmgw_core.base.tenants import TenantID
from vmgw_core.errors import ConfigurationError, ForeignTenant
from vmgw_core.routing.routes import match_route
from vmgw_core.routing.tenant_paths import check_tenant, upstream_path

# --- Backend -------------------------------------------------------------------------------------------------------


@each(
    ("url", "scheme", "address", "base", "host_header"),
    [
        pytest.param("http://vm", "http", ("vm", 80), "", "vm", id="the port of http"),
        pytest.param("https://vm", "https", ("vm", 443), "", "vm", id="the port of https"),
        pytest.param("http://vm:80", "http", ("vm", 80), "", "vm", id="the port of http, given"),
        pytest.param("https://vm:443/", "https", ("vm", 443), "", "vm", id="the port of https, given"),
        pytest.param("https://vm:80", "https", ("vm", 80), "", "vm:80", id="the port of the other scheme"),
        pytest.param("http://vm:8428", "http", ("vm", 8428), "", "vm:8428", id="a port"),
        pytest.param("http://vm:8428/", "http", ("vm", 8428), "", "vm:8428", id="a slash"),
        pytest.param("http://vm:65535/a/b/", "http", ("vm", 65535), "/a/b", "vm:65535", id="the last port, a base"),
        pytest.param("http://vm:1//a//", "http", ("vm", 1), "//a", "vm:1", id="the first port, slashes"),
        pytest.param("http://vm/%7e;a", "http", ("vm", 80), "/%7e;a", "vm", id="a base is taken as it is"),
        pytest.param("HTTP://VM.Example", "http", ("vm.example", 80), "", "vm.example", id="capitals"),
        pytest.param("http://192.0.2.1:8428", "http", ("192.0.2.1", 8428), "", "192.0.2.1:8428", id="IPv4"),
        pytest.param("http://[2001:db8::1]:8428", "http", ("2001:db8::1", 8428), "", "[2001:db8::1]:8428", id="IPv6"),
        pytest.param("http://[::1]", "http", ("::1", 80), "", "[::1]", id="IPv6 without a port"),
        pytest.param("http://user:secret@vm:8428/b", "http", ("vm", 8428), "/b", "vm:8428", id="credentials"),
        pytest.param("http://vm:8428/?", "http", ("vm", 8428), "", "vm:8428", id="an empty query"),
    ],
)
def test_a_url_is_accepted(url: str, scheme: str, address: tuple[str, int], base: str, host_header: str) -> None:
    backend = Backend.parse(url, "read.url")
    assert (backend.flag, backend.scheme, backend.address, backend.base) == ("read.url", scheme, address, base)
    assert backend.host_header == host_header
    assert str(backend) == f"{scheme}://{host_header}{base}"


@each(
    "url",
    [
        pytest.param("", id="nothing"),
        pytest.param("vm", id="a name"),
        pytest.param("vm:8428", id="no scheme"),
        pytest.param("//vm:8428", id="no scheme, slashes"),
        pytest.param("ftp://vm", id="another scheme"),
        pytest.param("http+unix://vm", id="a scheme that begins like one"),
        pytest.param("http://", id="no host"),
        pytest.param("http:///path", id="no host, a path"),
        pytest.param("http://:8428", id="no host, a port"),
        pytest.param("http://user:secret@", id="no host, credentials"),
        pytest.param("http://vm:0", id="port 0"),
        pytest.param("http://vm:65536", id="a port too large"),
        pytest.param("http://vm:-1", id="a negative port"),
        pytest.param("http://vm:http", id="a port by name"),
        pytest.param("http://vm:84 28", id="a blank in the port"),
        pytest.param("http://[::1", id="half a bracket"),
        pytest.param("http://[vm]", id="a name in brackets"),
        pytest.param("http://vm/?a=b", id="a query"),
        pytest.param("http://vm/#a", id="a fragment"),
        pytest.param("http://vm /", id="a blank"),
        pytest.param(" http://vm/", id="a blank before"),
        pytest.param("http://vm/\n", id="a line feed"),
        pytest.param("http://v\tm/", id="a tab, which urlsplit drops"),
        pytest.param("http://vm/\x7f", id="DEL"),
        pytest.param("http://vm/\u00e9", id="a base beyond ASCII"),
        pytest.param("http://b\u00fccher.example/", id="a host beyond ASCII"),
        pytest.param("http://secret\udc80:x@vm/", id="credentials with a lone surrogate"),
        pytest.param("http://vm\uff0fsecret/", id="a full-width slash in the host"),
    ],
)
def test_a_url_is_rejected_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^-write\.url: ") as error:
        Backend.parse(url, "write.url")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://[vm", "the URL cannot be read; expected http://host:port"),
        ("vm", "expected a URL such as http://host:8428"),
        ("http://vm/?a", "the URL must be ASCII, without a query, a fragment or a blank"),
    ],
)
def test_a_rejection_says_what_is_wrong(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^-read.url: {reason}$"):
        Backend.parse(url, "read.url")


@each(
    ("userinfo", "pair"),
    [
        pytest.param("user:secret", "user:secret", id="both"),
        pytest.param("user", "user:", id="no password"),
        pytest.param("user:", "user:", id="an empty password"),
        pytest.param(":secret", ":secret", id="no user"),
        pytest.param("", ":", id="empty"),
        pytest.param("user:a:b", "user:a:b", id="a colon in the password"),
        pytest.param("us%65r:%40%2F%25%C3%A9", "user:@/%\u00e9", id="encoded"),
        pytest.param("a@b:c", "a@b:c", id="a raw at sign"),
        pytest.param("!:~", "!:~", id="the first and the last printable character"),
    ],
)
def test_credentials_become_basic_authentication(userinfo: str, pair: str) -> None:
    authorization = Backend.parse(f"http://{userinfo}@vm:8428", "read.url").authorization
    assert authorization is not None
    scheme, _, encoded = authorization.partition(b" ")
    assert scheme == b"Basic"
    assert b64decode(encoded, validate=True).decode() == pair


def test_credentials_are_nowhere_to_be_seen() -> None:
    backend = Backend.parse("http://user:secret@vm:8428/base", "read.url")
    assert backend.authorization == b"Basic dXNlcjpzZWNyZXQ="
    for shown in (str(backend), repr(backend), backend.host_header):
        assert "secret" not in shown
        assert "dXNlcjpzZWNyZXQ" not in shown
    assert Backend.parse("http://vm:8428", "read.url").authorization is None


@given(
    st.text(max_size=30)
    | st.text(alphabet="htp:/[]@vm.0123456789%#?\\ ", max_size=20).map(lambda text: "http://" + text)
)
def test_any_text_is_a_backend_or_a_configuration_error(url: str) -> None:
    try:
        backend = Backend.parse(url, "read.url")
    except ConfigurationError:
        return
    assert backend.scheme in ("http", "https")
    assert backend.host
    assert 0 < backend.port < 65536
    assert (backend.host_header + backend.base).isascii()
    assert not backend.base.endswith("/")
    assert not set(backend.host_header + backend.base) & set(" ?#\r\n")


# --- tenants -------------------------------------------------------------------------------------------------------

OWN = TenantID(7)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/api/v1/query", id="no tenant"),
        pytest.param("/select/7/prometheus/api/v1/query", id="its own"),
        pytest.param("/select/7:0/prometheus/api/v1/query", id="its own, with the project"),
    ],
)
def test_the_own_tenant_is_accepted(path: str) -> None:
    check_tenant(match_route(path, "GET", cluster=True), OWN)


@pytest.mark.parametrize("tenant", ["8", "7:1", "0", "0:7", "70", "4294967295"])
def test_another_tenant_is_refused(tenant: str) -> None:
    match = match_route(f"/select/{tenant}/prometheus/api/v1/query", "GET", cluster=True)
    with pytest.raises(ForeignTenant, match=r"^the token gives no access to the tenant in the path$"):
        check_tenant(match, OWN)


# --- paths ---------------------------------------------------------------------------------------------------------


@each(
    ("path", "method", "single", "cluster"),
    [
        ("/api/v1/query", "GET", "/base/api/v1/query", "/base/select/1:5/prometheus/api/v1/query"),
        (
            "/prometheus/api/v1/query",
            "GET",
            "/base/prometheus/api/v1/query",
            "/base/select/1:5/prometheus/api/v1/query",
        ),
        ("/render", "GET", "/base/render", "/base/select/1:5/graphite/render"),
        ("/graphite/render", "GET", "/base/graphite/render", "/base/select/1:5/graphite/render"),
        ("/vmui/", "GET", "/base/vmui/", "/base/select/1:5/vmui/"),
        ("/prometheus/vmui/", "GET", "/base/prometheus/vmui/", "/base/select/1:5/prometheus/vmui/"),
        ("/write", "POST", "/base/write", "/base/insert/1:5/influx/write"),
        ("/influx/write", "POST", "/base/influx/write", "/base/insert/1:5/influx/write"),
        ("/datadog/api/v1/series", "POST", "/base/datadog/api/v1/series", "/base/insert/1:5/datadog/api/v1/series"),
        ("/favicon.ico", "GET", "/base/favicon.ico", "/base/favicon.ico"),
        (
            "/api/v1/label/a b;?<tenant>\u00e9/values",
            "GET",
            "/base/api/v1/label/a%20b%3B%3F%3Ctenant%3E%C3%A9/values",
            "/base/select/1:5/prometheus/api/v1/label/a%20b%3B%3F%3Ctenant%3E%C3%A9/values",
        ),
        (
            "/api/v1/admin/tsdb/delete_series",
            "POST",
            "/base/api/v1/admin/tsdb/delete_series",
            "/base/delete/1:5/prometheus/api/v1/admin/tsdb/delete_series",
        ),
    ],
)
def test_the_path_at_the_backend(path: str, method: str, single: str, cluster: str) -> None:
    backend = Backend.parse("http://vm/base/", "read.url")
    tenant = TenantID(1, 5)
    assert backend.base + upstream_path(match_route(path, method, cluster=False), tenant, cluster=False) == single
    assert backend.base + upstream_path(match_route(path, method, cluster=True), tenant, cluster=True) == cluster
