"""gateway: the decision on a head, and what the backend receives. Policies are real, tokens as clients send them."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.core import go_query, keys
from tests.support.each import each
from vmgw_core import errors
from vmgw_core.access import read_access_policy
from vmgw_core.backends.backend import Backend
from vmgw_core.backends.balancer import BackendGroup
from vmgw_core.base.tenants import Access, Subject, TenantID
from vmgw_core.credentials import read_credentials
from vmgw_core.enforcement.admission import (
    Body,
    Policy,
    access_of,
    admit,
    authenticate,
    identify,
    route_of,
    tenants_page,
    too_large,
)
from vmgw_core.enforcement.rewriting import UpstreamRequest, moved, rewrite
from vmgw_core.errors import Refusal
from vmgw_core.http import Headers, RequestHead
from vmgw_core.routing.routes import ROUTES, Answer, Filters, Restriction, Route
from vmgw_core.tokens.keys import KeySet, keys_from_pem
from vmgw_core.tokens.rules import TokenRules
from vmgw_core.tokens.source import TokenSource
from vmgw_core.tokens.verifier import TokenVerifier

NOW: Final = float(keys.NOW)
READ: Final = Backend.parse("http://reader:secret@vmselect:8481/base/", "read.url")
WRITE: Final = Backend.parse("https://vminsert", "write.url")
FORM: Final = b"application/x-www-form-urlencoded"

SINGLE: Final = Policy(
    verifier=TokenVerifier(None),
    cluster=False,
    read=BackendGroup((READ,)),
    write=BackendGroup((WRITE,)),
    filters_responses=True,
    max_form_size=1000,
    tell_why=False,
)
CLUSTER: Final = replace(SINGLE, cluster=True)

READ_ONLY, WRITE_ONLY, FULL = 1, 2, 3


@functools.cache
def _signed(alg: str) -> str:
    return keys.sign(keys.claims(), keys.key_for(alg), {"alg": alg, "typ": "JWT"})


def _token(**vm_access: object) -> str:
    """A token of the right form that nobody signed: enough where no keys are configured."""
    return keys.compact({"alg": "RS256", "typ": "JWT"}, keys.claims(vm_access=vm_access))


ANYBODY: Final = _token()
BROKEN: Final = "a.b"
UMLAUT: Final = "\u00fc"
DEV: Final = _token(extra_labels={"team": "dev"})
DEV_FILTER: Final = _token(extra_filters=['{team="dev"}'])
TENANT: Final = _token(tenant_id={"account_id": 1, "project_id": 5})


def _head(
    method: str, target: str, *headers: tuple[bytes, bytes], token: str | None = ANYBODY, client: str = "192.0.2.1"
) -> RequestHead:
    own: Headers = ((b"Host", b"gateway"),)
    if token is not None:
        own += ((b"Authorization", b"Bearer " + token.encode()),)
    return RequestHead(method=method, target=target, headers=own + headers, client=client)


def _with_form(
    target: str, form: bytes, *headers: tuple[bytes, bytes], token: str = ANYBODY, method: str = "POST"
) -> tuple[RequestHead, bytes]:
    length = (b"Content-Length", str(len(form)).encode())
    return _head(method, target, (b"Content-Type", FORM), length, *headers, token=token), form


def _send(policy: Policy, head: RequestHead, form: bytes | None = None) -> UpstreamRequest:
    grant = admit(policy, head, NOW)
    assert (grant.body is Body.HOLD) is (form is not None)
    return rewrite(policy, grant, head, form)


def _example(route: Route, path: str | None = None) -> str:
    parts = {
        "<name...>": "a/b",
        "<asset...>": "a/b",
        "<tag_name>": "a",
        "<func_name>": "a",
        "<grouping...>": "a",
        "<any...>": "a",
    }
    path = path or route.path
    for parameter, value in parts.items():
        path = path.replace(parameter, value)
    return path


# --- who may pass --------------------------------------------------------------------------------------------------

every_route = each("route", ROUTES, ids=lambda route: route.path)


def _policies(route: Route) -> tuple[Policy, ...]:
    """Where the route is served: not in a cluster where it shows all tenants."""
    cluster = () if Restriction.TENANT in route.ignored else (CLUSTER,)
    return (*cluster, SINGLE) if route.single else cluster


@every_route
def test_every_route_needs_a_token(route: Route) -> None:
    for method in route.methods:
        for policy in (CLUSTER, SINGLE) if route.single else (CLUSTER,):
            with pytest.raises(errors.MissingToken):
                admit(policy, _head(method, _example(route), token=None), NOW)
            with pytest.raises(errors.MalformedToken):
                admit(policy, _head(method, _example(route), token=BROKEN), NOW)
        for policy in _policies(route):
            assert admit(policy, _head(method, _example(route)), NOW).route == route


@every_route
def test_every_route_needs_its_mode(route: Route) -> None:
    allowed = {Access.READ: {READ_ONLY, FULL}, Access.WRITE: {WRITE_ONLY, FULL}, Access.DELETE: {FULL}}[route.access]
    for mode, policy in itertools.product((READ_ONLY, WRITE_ONLY, FULL), _policies(route)):
        head = _head(route.methods[0], _example(route), token=_token(mode=mode))
        if mode in allowed:
            assert admit(policy, head, NOW).claim.mode == mode
        else:
            with pytest.raises(errors.AccessDenied, match=f"no {route.access} access"):
                admit(policy, head, NOW)


@every_route
def test_a_route_that_ignores_filters_is_closed_to_a_token_that_has_some(route: Route) -> None:
    restricted = ((DEV, Restriction.LABELS), (DEV_FILTER, Restriction.FILTERS))
    for (token, restriction), method, policy in itertools.product(restricted, route.methods, _policies(route)):
        head = _head(method, _example(route), token=token)
        if restriction in route.ignored and route.answer is None:
            with pytest.raises(errors.FiltersIgnored):
                admit(policy, head, NOW)
        else:
            assert (admit(policy, head, NOW).filter is not None) is (restriction in route.ignored)


@every_route
def test_a_route_that_ignores_tenants_is_closed_in_a_cluster(route: Route) -> None:
    """Whatever the spelling of the path; without tokens, too."""
    spelled = [
        (token, path)
        for token, tenant in ((ANYBODY, "0:0"), (TENANT, "1:5"), (DEV, "0:0"))
        for path in (_example(route), _example(route, route.cluster_path).replace("<tenant>", tenant))
    ]
    for method, (token, path) in itertools.product(route.methods, spelled):
        head = _head(method, path, token=token)
        if Restriction.TENANT in route.ignored and route.answer is None:
            with pytest.raises(errors.TenantIgnored):
                admit(CLUSTER, head, NOW)
            if path.startswith("/select/"):
                with pytest.raises(errors.TenantIgnored):
                    admit(replace(CLUSTER, auth=False), head, NOW)
        elif Restriction.TENANT in route.ignored:
            assert admit(CLUSTER, head, NOW).filter is not None
            if path.startswith("/select/"):
                assert admit(replace(CLUSTER, auth=False), head, NOW).filter is not None
        elif not (token is DEV and route.ignored):
            assert admit(CLUSTER, head, NOW).route.filters is route.filters


@every_route
def test_every_route_needs_its_backend(route: Route) -> None:
    head = _head(route.methods[0], _example(route))
    backend, flag = (WRITE, "write") if route.inserts else (READ, "read")
    for policy in _policies(route):
        assert admit(policy, head, NOW).backend is backend
        for absent in ({"read"}, {"write"}, {"read", "write"}):
            missing = replace(
                policy,
                read=None if "read" in absent else policy.read,
                write=None if "write" in absent else policy.write,
            )
            if flag in absent:
                with pytest.raises(errors.NotServed, match=f"no -{flag}.url is configured"):
                    admit(missing, head, NOW)
            else:
                admit(missing, head, NOW)


QUERY = "/api/v1/query"
FOREIGN = "/select/1:6/prometheus/api/v1/query"
LEAKING = "/vmalert/groups"


@each(
    ("policy", "head", "error"),
    [
        # In this order: what is wrong first is what the client is told.
        pytest.param(SINGLE, _head("GET", "/api//v1/query", token=None), errors.AmbiguousPath, id="path before token"),
        pytest.param(SINGLE, _head("GET", "/a#b"), errors.AmbiguousPath, id="a fragment"),
        pytest.param(SINGLE, _head("GET", "http://vm/api/v1/query"), errors.AmbiguousPath, id="absolute-form"),
        pytest.param(SINGLE, _head("OPTIONS", "*"), errors.AmbiguousPath, id="asterisk-form"),
        pytest.param(SINGLE, _head("GET", ""), errors.AmbiguousPath, id="no target"),
        pytest.param(SINGLE, _head("GET", "?query=m"), errors.AmbiguousPath, id="no path"),
        pytest.param(SINGLE, _head("GET", "/config", token=None), errors.UnknownRoute, id="route before token"),
        pytest.param(SINGLE, _head("GET", "/config?/api/v1/query"), errors.UnknownRoute, id="a route in the query"),
        pytest.param(SINGLE, _head("GET", "/api/v1/query%3Fa"), errors.UnknownRoute, id="an encoded question mark"),
        pytest.param(SINGLE, _head("GET", FOREIGN), errors.UnknownRoute, id="a cluster path in single-node"),
        pytest.param(SINGLE, _head("PUT", QUERY, token=None), errors.MethodNotAllowed, id="method before token"),
        pytest.param(SINGLE, _head("get", QUERY), errors.MethodNotAllowed, id="get in lower case"),
        pytest.param(SINGLE, _head("HEAD", "/api/v1/import"), errors.MethodNotAllowed, id="HEAD on a write"),
        pytest.param(
            SINGLE, _head("GET", "/api/v1/admin/tsdb/delete_series"), errors.MethodNotAllowed, id="GET deletes"
        ),
        pytest.param(SINGLE, _head("GET", QUERY, token=None), errors.MissingToken, id="no token"),
        pytest.param(
            SINGLE, _head("GET", QUERY + "?token=" + ANYBODY, token=None), errors.MissingToken, id="in the URL"
        ),
        pytest.param(SINGLE, _head("GET", QUERY, token=""), errors.MissingToken, id="an empty token"),
        pytest.param(
            SINGLE, _head("GET", QUERY, (b"Authorization", b"Basic YTpi"), token=None), errors.MissingToken, id="Basic"
        ),
        pytest.param(
            SINGLE,
            _head("GET", QUERY, (b"Authorization", ANYBODY.encode()), token=None),
            errors.MissingToken,
            id="bare",
        ),
        pytest.param(
            SINGLE,
            _head("GET", QUERY, (b"X-Token", b"Bearer " + ANYBODY.encode()), token=None),
            errors.MissingToken,
            id="X",
        ),
        pytest.param(
            SINGLE,
            _head("GET", QUERY, (b"authorization", b"Bearer " + DEV.encode())),
            errors.MalformedToken,
            id="two tokens",
        ),
        pytest.param(SINGLE, _head("GET", QUERY, token=UMLAUT), errors.MalformedToken, id="bytes for a token"),
        pytest.param(
            SINGLE,
            _head("GET", QUERY, token=keys.compact({"alg": "none"}, keys.claims())),
            errors.UnsupportedAlgorithm,
            id="none",
        ),
        pytest.param(
            SINGLE,
            _head("GET", QUERY, token=keys.compact({"alg": "RS256"}, keys.claims(exp=keys.NOW))),
            errors.TokenExpired,
            id="expired",
        ),
        pytest.param(
            SINGLE,
            _head("GET", QUERY, token=keys.compact({"alg": "RS256"}, keys.claims(nbf=keys.NOW + 1))),
            errors.TokenNotYetValid,
            id="not yet valid",
        ),
        pytest.param(SINGLE, _head("GET", QUERY, token=_token(mode=4)), errors.InvalidClaims, id="an unknown mode"),
        pytest.param(
            SINGLE,
            _head("GET", QUERY, token=_token(extra_labels={"a": ""})),
            errors.InvalidClaims,
            id="empty label value",
        ),
        pytest.param(
            CLUSTER, _head("GET", FOREIGN, token=_token(mode=WRITE_ONLY)), errors.AccessDenied, id="mode before tenant"
        ),
        pytest.param(
            SINGLE, _head("GET", LEAKING, token=_token(mode=WRITE_ONLY)), errors.AccessDenied, id="mode, then leak"
        ),
        pytest.param(SINGLE, _head("GET", LEAKING, token=DEV), errors.FiltersIgnored, id="filters are ignored"),
        pytest.param(CLUSTER, _head("GET", FOREIGN, token=TENANT), errors.ForeignTenant, id="another project"),
        pytest.param(
            CLUSTER,
            _head("POST", "/insert/0/influx/write", token=TENANT),
            errors.ForeignTenant,
            id="another tenant's write",
        ),
        pytest.param(
            CLUSTER,
            _head("POST", "/delete/7/prometheus/api/v1/admin/tsdb/delete_series", token=TENANT),
            errors.ForeignTenant,
            id="another tenant's series",
        ),
        pytest.param(
            CLUSTER, _head("GET", "/select/multitenant/graphite/render"), errors.TenantIgnored, id="all of Graphite"
        ),
        pytest.param(
            CLUSTER,
            _head("GET", "/select/multitenant/prometheus/api/v1/status/top_queries"),
            errors.TenantIgnored,
            id="the queries of all tenants",
        ),
        pytest.param(
            CLUSTER,
            _head("POST", "/delete/multitenant/prometheus/api/v1/admin/tsdb/delete_series"),
            errors.UnknownRoute,
            id="deleting from all tenants",
        ),
        pytest.param(CLUSTER, _head("GET", "/vmalert/groups"), errors.TenantIgnored, id="the rules of all tenants"),
        pytest.param(
            CLUSTER,
            _head("GET", "/select/multitenant/prometheus/api/v1/status/metric_names_stats", token=TENANT),
            errors.TenantIgnored,
            id="statistics of all tenants",
        ),
        *(
            pytest.param(
                policy,
                _head("POST", path, token=_token(extra_labels={"__name__": "m"})),
                errors.FiltersIgnored,
                id=f"a metric name that InfluxDB ignores: {path}",
            )
            for policy, path in (
                (SINGLE, "/write"),
                (SINGLE, "/api/v2/write"),
                (SINGLE, "/influx/write"),
                (CLUSTER, "/influx/api/v2/write"),
                (CLUSTER, "/insert/0/influx/write"),
                (CLUSTER, "/insert/0:0/influx/api/v2/write"),
            )
        ),
        pytest.param(
            CLUSTER,
            _head("GET", "/select/prometheus/api/v1/query", (b"AccountID", b"7")),
            errors.UnknownRoute,
            id="a tenant by header",
        ),
    ],
)
def test_a_request_is_refused(policy: Policy, head: RequestHead, error: type[Refusal]) -> None:
    with pytest.raises(error) as refusal:
        admit(policy, head, NOW)
    assert type(refusal.value) is error


# --- signatures ----------------------------------------------------------------------------------------------------


@functools.cache
def _verifying(*algs: str) -> Policy:
    keyset = KeySet(tuple(key for alg in algs for key in keys_from_pem(keys.pem(keys.key_for(alg)), alg)))
    return replace(SINGLE, verifier=TokenVerifier(keyset))


def test_with_keys_a_token_must_be_signed() -> None:
    token = admit(_verifying("ES256"), _head("GET", QUERY, token=_signed("ES256")), NOW).token
    assert token is not None
    assert token.key is not None
    with pytest.raises(errors.BadSignature):
        admit(_verifying("ES256"), _head("GET", QUERY, token=keys.compact({"alg": "ES256"}, keys.claims())), NOW)
    other = keys.sign(keys.claims(), keys.ec_key("P-256", "other"))
    with pytest.raises(errors.BadSignature):
        admit(_verifying("ES256"), _head("GET", QUERY, token=other), NOW)
    with pytest.raises(errors.UnknownKey):
        admit(_verifying("ES256"), _head("GET", QUERY, token=_signed("ES384")), NOW)
    with pytest.raises(errors.UnsupportedAlgorithm):
        admit(_verifying("ES256"), _head("GET", QUERY, token=keys.sign(keys.claims(), b"secret")), NOW)


def test_while_keys_are_awaited_an_unknown_key_is_no_fault_of_the_client() -> None:
    waiting = replace(_verifying(), keys_awaited=True)
    with pytest.raises(errors.KeysUnavailable):
        admit(waiting, _head("GET", QUERY, token=_signed("ES256")), NOW)
    with pytest.raises(errors.UnknownKey):
        admit(replace(waiting, keys_awaited=False), _head("GET", QUERY, token=_signed("ES256")), NOW)
    # What is wrong with the token itself stays wrong.
    with pytest.raises(errors.MalformedToken):
        admit(waiting, _head("GET", QUERY, token=BROKEN), NOW)
    with pytest.raises(errors.UnsupportedAlgorithm):
        admit(waiting, _head("GET", QUERY, token=keys.sign(keys.claims(), b"secret")), NOW)
    other = keys.sign(keys.claims(), keys.ec_key("P-256", "other"))
    with pytest.raises(errors.BadSignature):
        admit(replace(_verifying("ES256"), keys_awaited=True), _head("GET", QUERY, token=other), NOW)


def test_the_token_may_come_in_another_header_and_without_its_prefix() -> None:
    bare = _head("GET", QUERY, (b"X-Token", TENANT.encode()), token=None)
    policy = replace(CLUSTER, token_source=TokenSource(headers=(b"x-token",), allow_without_prefix=True))
    assert admit(policy, bare, NOW).claim.tenant == TenantID(1, 5)
    # The usual header is then nobody's token, and is no match for the other.
    assert admit(policy, _head("GET", QUERY, (b"X-Token", TENANT.encode())), NOW).claim.tenant == TenantID(1, 5)
    with pytest.raises(errors.MissingToken):
        admit(replace(policy, token_source=TokenSource(headers=(b"x-token",))), bare, NOW)
    with pytest.raises(errors.MissingToken):
        admit(policy, _head("GET", QUERY), NOW)


# --- what the route is for, to word an answer ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "access"),
    [
        pytest.param(_head("GET", QUERY, token=None), Access.READ, id="read"),
        pytest.param(_head("POST", "/api/v1/write?a", token=None), Access.WRITE, id="write"),
        pytest.param(_head("POST", "/tags/delSeries", token=None), Access.DELETE, id="delete"),
        pytest.param(_head("GET", "/config"), None, id="no route"),
        pytest.param(_head("GET", "/api/v1/import"), None, id="no method"),
        pytest.param(_head("GET", "///"), None, id="no path"),
        pytest.param(_head("GET", "\udc80"), None, id="no text"),
    ],
)
def test_what_a_route_is_for(head: RequestHead, access: Access | None) -> None:
    assert access_of(SINGLE, head) is access


# --- bodies --------------------------------------------------------------------------------------------------------

LENGTH = (b"Content-Length", b"7")
CHUNKED = (b"Transfer-Encoding", b"chunked")
TYPE = (b"Content-Type", FORM)


def _typed(content_type: bytes) -> Headers:
    return ((b"Content-Type", content_type), LENGTH)


@each(
    ("method", "target", "headers", "body"),
    [
        pytest.param("GET", QUERY, (), Body.NONE, id="GET"),
        pytest.param("POST", QUERY, (), Body.NONE, id="POST without a body"),
        pytest.param("POST", QUERY, ((b"Content-Length", b"0"),), Body.NONE, id="POST with an empty body"),
        pytest.param(
            "POST", QUERY, ((b"Content-Length", b"0"), (b"Content-Type", b"text/plain")), Body.NONE, id="empty text"
        ),
        pytest.param("POST", QUERY, (TYPE, LENGTH), Body.HOLD, id="a form"),
        pytest.param("POST", QUERY, (TYPE, CHUNKED), Body.HOLD, id="a chunked form"),
        pytest.param("GET", QUERY, (TYPE, LENGTH), Body.HOLD, id="GET with a form"),
        pytest.param("GET", QUERY, (TYPE, CHUNKED), Body.HOLD, id="GET with a chunked form"),
        pytest.param("GET", "/vmui/", (TYPE, LENGTH), Body.HOLD, id="a static page with a form"),
        pytest.param("POST", "/tags/tagSeries", (TYPE, LENGTH), Body.HOLD, id="a write that vmselect takes"),
        pytest.param("POST", "/tags/delSeries", (TYPE, LENGTH), Body.HOLD, id="deleting"),
        pytest.param("POST", QUERY, _typed(b"Application/X-WWW-Form-URLencoded"), Body.HOLD, id="capitals"),
        pytest.param("POST", QUERY, _typed(FORM + b"; charset=utf-8"), Body.HOLD, id="a charset"),
        pytest.param("POST", QUERY, _typed(FORM + b"; foo"), Body.HOLD, id="a malformed parameter"),
        pytest.param("POST", QUERY, _typed(b" " + FORM + b" ;"), Body.HOLD, id="blanks and a semicolon"),
        pytest.param("POST", QUERY, _typed(b"MULTIPART/form-data; boundary=b"), Body.HOLD, id="multipart"),
        pytest.param("POST", QUERY, (TYPE, LENGTH, (b"Content-Encoding", b"Identity")), Body.HOLD, id="identity"),
        pytest.param("POST", QUERY, (TYPE, (b"Content-Length", b"1000")), Body.HOLD, id="as large as allowed"),
        pytest.param("POST", "/api/v1/write", (LENGTH,), Body.STREAM, id="a write"),
        pytest.param("POST", "/api/v1/write", (CHUNKED,), Body.STREAM, id="a chunked write"),
        pytest.param("POST", "/api/v1/write", (), Body.NONE, id="an empty write"),
        pytest.param(
            "PUT", "/write", (TYPE, (b"Content-Length", b"1001")), Body.STREAM, id="a large form that is a payload"
        ),
        pytest.param("POST", "/api/v1/write", ((b"Content-Encoding", b"snappy"), LENGTH), Body.STREAM, id="compressed"),
        pytest.param("POST", "/api/v1/write", (TYPE, TYPE, LENGTH), Body.STREAM, id="a write of two types"),
        pytest.param("GET", "/influx/query", (LENGTH,), Body.STREAM, id="GET with a body at vminsert"),
    ],
)
def test_what_becomes_of_a_body(method: str, target: str, headers: Headers, body: Body) -> None:
    assert admit(SINGLE, _head(method, target, *headers), NOW).body is body


@each(
    "headers",
    [
        pytest.param((LENGTH,), id="no type"),
        pytest.param((CHUNKED,), id="no type, chunked"),
        pytest.param(_typed(b""), id="an empty type"),
        pytest.param(_typed(b"text/plain"), id="text"),
        pytest.param(_typed(b"application/json"), id="JSON"),
        pytest.param(_typed(b"multipart/mixed; boundary=b"), id="another multipart"),
        pytest.param(_typed(FORM + b", text/plain"), id="a list"),
        pytest.param(_typed(b"text/plain; " + FORM), id="a form as a parameter"),
        pytest.param(_typed(b"\xff"), id="bytes"),
        pytest.param((TYPE, TYPE, LENGTH), id="two types, the same"),
        pytest.param((TYPE, (b"content-type", b"text/plain"), LENGTH), id="two types"),
        pytest.param((TYPE, LENGTH, (b"Content-Encoding", b"gzip")), id="compressed"),
        pytest.param((TYPE, LENGTH, (b"content-encoding", b"identity, gzip")), id="compressed, a list"),
        pytest.param(
            (TYPE, LENGTH, (b"Content-Encoding", b"identity"), (b"Content-Encoding", b"br")), id="two codings"
        ),
        pytest.param((TYPE, LENGTH, (b"Content-Encoding", b"")), id="an empty coding"),
    ],
)
@each(("method", "target"), [("POST", QUERY), ("GET", QUERY), ("POST", "/tags/delSeries")])
def test_a_body_that_cannot_be_inspected_is_refused(method: str, target: str, headers: Headers) -> None:
    with pytest.raises(errors.UnsupportedBody):
        admit(SINGLE, _head(method, target, *headers), NOW)


@pytest.mark.parametrize("length", [b"1001", b"01001", b"999999999999999999"])
def test_a_form_that_says_it_is_too_large_is_refused(length: bytes) -> None:
    with pytest.raises(errors.BodyTooLarge, match="larger than 1000 bytes"):
        admit(SINGLE, _head("POST", QUERY, TYPE, (b"Content-Length", length)), NOW)
    assert str(too_large(SINGLE)) == "the form is larger than 1000 bytes (-maxFormSize)"


# --- the request the backend gets: where and what ------------------------------------------------------------------


@each(
    ("policy", "method", "target", "token", "expected"),
    [
        pytest.param(SINGLE, "GET", QUERY, ANYBODY, "/base/api/v1/query", id="single"),
        pytest.param(SINGLE, "GET", QUERY + "?", ANYBODY, "/base/api/v1/query", id="an empty query"),
        pytest.param(
            SINGLE, "GET", QUERY + "?a=b?c=d", ANYBODY, "/base/api/v1/query?a=b?c=d", id="a second question mark"
        ),
        pytest.param(
            SINGLE, "GET", "/%61pi/v1/query?%61=%62", ANYBODY, "/base/api/v1/query?%61=%62", id="an encoded letter"
        ),
        pytest.param(
            SINGLE, "GET", QUERY + "?query=m", DEV, "/base/api/v1/query?query=m&extra_label=team%3Ddev", id="label"
        ),
        pytest.param(
            SINGLE, "GET", QUERY + "?extra_label=a=b", DEV, "/base/api/v1/query?extra_label=team%3Ddev", id="removed"
        ),
        pytest.param(
            SINGLE, "GET", QUERY, DEV_FILTER, "/base/api/v1/query?extra_filters[]=%7Bteam%3D%22dev%22%7D", id="filter"
        ),
        pytest.param(SINGLE, "GET", QUERY, TENANT, "/base/api/v1/query", id="a tenant in single-node"),
        pytest.param(
            CLUSTER, "GET", QUERY, ANYBODY, "/base/select/0:0/prometheus/api/v1/query", id="cluster, tenant 0:0"
        ),
        pytest.param(CLUSTER, "GET", QUERY, TENANT, "/base/select/1:5/prometheus/api/v1/query", id="cluster"),
        pytest.param(
            CLUSTER, "GET", "/prometheus/federate", TENANT, "/base/select/1:5/prometheus/federate", id="prefix"
        ),
        pytest.param(
            CLUSTER,
            "GET",
            "/select/1:5/prometheus/federate",
            TENANT,
            "/base/select/1:5/prometheus/federate",
            id="native",
        ),
        pytest.param(
            CLUSTER,
            "GET",
            "/select/7/prometheus/federate",
            _token(tenant_id={"account_id": 7}),
            "/base/select/7:0/prometheus/federate",
            id="native, without the project",
        ),
        pytest.param(CLUSTER, "POST", "/influx/write?db=a", TENANT, "/insert/1:5/influx/write?db=a", id="a write"),
        pytest.param(
            SINGLE, "POST", "/write?db=a", DEV, "/write?db=a&extra_label=team%3Ddev", id="a write in single-node"
        ),
        pytest.param(
            CLUSTER,
            "POST",
            "/api/v1/admin/tsdb/delete_series?match[]=m",
            DEV,
            "/base/delete/0:0/prometheus/api/v1/admin/tsdb/delete_series?match[]=m&extra_label=team%3Ddev",
            id="deleting",
        ),
        pytest.param(
            SINGLE,
            "GET",
            "/api/v1/labels",
            DEV,
            "/base/api/v1/labels?extra_label=team%3Ddev&match[]=%7Bteam%3D%22dev%22%7D",
            id="a label listing",
        ),
        pytest.param(
            CLUSTER,
            "GET",
            "/select/0/prometheus/api/v1/label/a/values",
            DEV_FILTER,
            "/base/select/0:0/prometheus/api/v1/label/a/values"
            "?extra_filters[]=%7Bteam%3D%22dev%22%7D&match[]=%7Bteam%3D%22dev%22%7D",
            id="a listing of label values, native",
        ),
        pytest.param(
            SINGLE,
            "GET",
            "/api/v1/label/a/values?match[]=m",
            DEV,
            "/base/api/v1/label/a/values?match[]=m&extra_label=team%3Ddev",
            id="a listing with a match",
        ),
        pytest.param(
            CLUSTER,
            "GET",
            "/select/0:0/prometheus/metric-relabel-debug?id=1&metric=m",
            ANYBODY,
            "/base/select/0:0/prometheus/metric-relabel-debug?metric=m",
            id="a relabel tool",
        ),
        pytest.param(SINGLE, "GET", "/vmui/?extra_label=a=b", DEV, "/base/vmui/", id="a static page"),
        pytest.param(CLUSTER, "GET", "/a/favicon.ico", DEV, "/base/a/favicon.ico", id="an icon"),
    ],
)
def test_the_target(policy: Policy, method: str, target: str, token: str, expected: str) -> None:
    sent = _send(policy, _head(method, target, token=token))
    assert (sent.method, sent.target, sent.body) == (method, expected, None)
    assert sent.backend is (WRITE if method == "POST" and "write" in target else READ)


def test_a_form_is_written_anew() -> None:
    form = b"query=m&&extra_filters[]=%7Bteam%3D%22ops%22%7D&%65xtra_filters=m&start=1"
    sent = _send(SINGLE, *_with_form(QUERY + "?extra_filters=m", form, token=DEV_FILTER, method="POST"))
    assert sent.body == b"query=m&start=1"
    assert sent.target == "/base/api/v1/query?extra_filters[]=%7Bteam%3D%22dev%22%7D"
    assert dict(sent.headers)[b"Content-Type"] == FORM
    assert dict(sent.headers)[b"Content-Length"] == b"15"


def test_what_people_type_into_a_form_is_encoded() -> None:
    sent = _send(SINGLE, *_with_form(QUERY, 'query=sum(m{a="é"}) by (b)\n'.encode(), token=DEV, method="POST"))
    assert sent.body == b'query=sum(m{a="%C3%A9"})%20by%20(b)%0A'


def test_the_form_of_a_get_is_not_sent_on() -> None:
    sent = _send(SINGLE, *_with_form(QUERY, b"query=m&extra_filters=m", token=DEV_FILTER, method="GET"))
    assert sent.body == b""
    assert dict(sent.headers)[b"Content-Length"] == b"0"


def test_a_chunked_form_gets_a_length() -> None:
    sent = _send(SINGLE, _head("POST", QUERY, TYPE, CHUNKED), b"query=m")
    assert sent.body == b"query=m"
    assert (b"Content-Length", b"7") in sent.headers
    assert b"transfer-encoding" not in [name.lower() for name, _ in sent.headers]


def test_a_form_that_came_empty_stays_empty() -> None:
    grant = admit(SINGLE, _head("POST", QUERY, TYPE, CHUNKED), NOW)
    for form in (b"", None):
        sent = rewrite(SINGLE, grant, _head("POST", QUERY, TYPE, CHUNKED), form)
        assert sent.body == b""
        assert (b"Content-Length", b"0") in sent.headers


def test_a_multipart_form_becomes_urlencoded() -> None:
    fields = [("query", '{a="b"}'), ("extra_filters", '{team="ops"}'), ("extra_label", "team=ops"), ("a&b", "\u00e9;")]
    form, content_type = urllib3.encode_multipart_formdata(fields, boundary="b")
    headers = ((b"Content-Type", content_type.replace("m", "M").encode()), CHUNKED)
    sent = _send(SINGLE, _head("POST", QUERY, *headers, token=DEV_FILTER), form)
    assert sent.body is not None
    assert go_query.parse_query(sent.body.decode()) == [
        ("query", '{a="b"}'),
        ("extra_label", "team=ops"),
        ("a&b", "\u00e9;"),
    ]
    assert [value for name, value in sent.headers if name.lower() == b"content-type"] == [FORM]
    sent = _send(SINGLE, _head("POST", QUERY, *headers, token=DEV), form)
    assert sent.body is not None
    assert [key for key, _ in go_query.parse_query(sent.body.decode())] == ["query", "extra_filters", "a&b"]


@each(
    ("target", "form"),
    [
        pytest.param(QUERY + "?a=b;c", b"", id="a semicolon in the URL"),
        pytest.param(QUERY + "?a=%zz", b"", id="a bad escape in the URL"),
        pytest.param(QUERY + "?a=\u00e9", b"", id="a raw character in the URL"),
        pytest.param(QUERY, b"a=b;c", id="a semicolon in the form"),
        pytest.param(QUERY, b"a=%zz", id="a bad escape in the form"),
    ],
)
@each("token", [ANYBODY, DEV], ids=["anybody", "dev"])
def test_an_argument_that_go_would_drop_is_refused(target: str, form: bytes, token: str) -> None:
    with pytest.raises(errors.BadRequest):
        _send(SINGLE, *_with_form(target, form + b"&a=b", token=token))


def test_a_form_in_a_write_is_its_payload() -> None:
    head = _head("POST", "/api/v1/import", TYPE, LENGTH, token=DEV)
    sent = _send(SINGLE, head)
    assert sent.body is None
    assert sent.target == "/api/v1/import?extra_label=team%3Ddev"
    assert TYPE in sent.headers
    assert LENGTH in sent.headers


# --- the request the backend gets: headers -------------------------------------------------------------------------


def _forwarded(*headers: tuple[bytes, bytes], target: str = QUERY, policy: Policy = SINGLE) -> Headers:
    """What becomes of ``headers`` beside Host and X-Forwarded-For."""
    method = "POST" if "write" in target else "GET"
    sent = _send(policy, _head(method, target, *headers))
    assert sent.headers[0][0] == b"Host"
    assert sent.headers[-1][0] == b"X-Forwarded-For"
    return sent.headers[1:-1]


def test_all_else_is_forwarded_as_it_came() -> None:
    headers = (
        (b"User-Agent", b"vmagent"),
        (b"x-lower", b" a "),
        (b"X-Twice", b"1"),
        (b"X-Twice", b"2"),
        (b"X-Bytes", b"\xff\t"),
        (b"Accept-Encoding", b"gzip"),
        (b"X-Account-ID", b"8"),
        (b"X-Empty", b""),
    )
    assert _forwarded(*headers) == headers


@each(
    "name",
    [
        *("Authorization", "Cookie", "AccountID", "ProjectID", "Connection", "Keep-Alive", "Proxy-Connection", "TE"),
        *("Proxy-Authenticate", "Proxy-Authorization", "Trailer", "Upgrade", "Expect", "X-Token"),
    ],
)
@each("spell", [str, str.lower, str.upper, str.swapcase], ids=["as is", "lower", "upper", "swapped"])
def test_a_header_never_leaves_the_gateway(name: str, spell: Callable[[str], str]) -> None:
    policy = replace(SINGLE, token_source=TokenSource(headers=(b"x-token",), allow_without_prefix=True))
    if name != "X-Token":
        headers = [(b"X-Token", ANYBODY.encode()), (spell(name).encode(), b"secret"), (spell(name).encode(), b"other")]
    else:
        headers = [(spell(name).encode(), ANYBODY.encode())]
    assert _forwarded(*headers, (b"X-Kept", b"a"), policy=policy) == ((b"X-Kept", b"a"),)


def test_host_is_the_backends() -> None:
    for head, host in (
        (_head("GET", QUERY, (b"host", b"evil"), (b"HOST", b"evil")), b"vmselect:8481"),
        (_head("POST", "/write", (b"Connection", b"host")), b"vminsert"),
    ):
        sent = _send(SINGLE, head)
        assert [value for name, value in sent.headers if name.lower() == b"host"] == [host]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param([], b"192.0.2.1", id="none"),
        pytest.param([b"198.51.100.1"], b"198.51.100.1, 192.0.2.1", id="one"),
        pytest.param([b"a, b", b" c "], b"a, b, c, 192.0.2.1", id="several, in two headers"),
        pytest.param([b"\xff"], b"\xff, 192.0.2.1", id="bytes"),
    ],
)
def test_the_client_is_appended_to_those_before_it(sent: list[bytes], expected: bytes) -> None:
    request = _send(SINGLE, _head("GET", QUERY, *((b"x-FORWARDED-for", value) for value in sent)))
    assert [value for name, value in request.headers if name.lower() == b"x-forwarded-for"] == [expected]


def test_an_ipv6_client_is_appended_as_it_is() -> None:
    sent = _send(SINGLE, _head("GET", QUERY, client="2001:db8::1"))
    assert sent.headers[-1] == (b"X-Forwarded-For", b"2001:db8::1")


@pytest.mark.parametrize(
    "connection",
    [
        pytest.param([b"X-One"], id="one"),
        pytest.param([b"close, X-ONE"], id="in a list, in capitals"),
        pytest.param([b"close", b" x-one\t,keep-alive"], id="in the second header"),
        pytest.param([b",,x-one,"], id="beside empty items"),
    ],
)
def test_what_connection_names_is_dropped(connection: list[bytes]) -> None:
    headers = [(b"X-One", b"1"), *((b"Connection", value) for value in connection), (b"x-one", b"2"), (b"X-Two", b"3")]
    assert _forwarded(*headers) == ((b"X-Two", b"3"),)


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED], ids=["length", "chunked"])
def test_connection_cannot_name_the_framing_away(framing: tuple[bytes, bytes]) -> None:
    """Without it the backend would take the body for the next request."""
    named = b"content-length, Transfer-Encoding, content-type, content-encoding"
    kept = (framing, (b"Content-Type", b"a"), (b"Content-Encoding", b"snappy"))
    assert _forwarded(*kept, (b"Connection", named), target="/api/v1/write") == kept


def test_a_held_form_has_framing_of_its_own_alone() -> None:
    head, form = _with_form(
        QUERY, b"query=m", (b"content-ENCODING", b"identity"), (b"Connection", b"content-length, content-type")
    )
    sent = _send(SINGLE, head, form)
    framing = [(name, value) for name, value in sent.headers if name.lower().startswith((b"content", b"transfer"))]
    assert framing == [(b"Content-Type", FORM), (b"Content-Length", b"7")]


def test_no_credentials_are_in_the_request_itself() -> None:
    """They are added where the request leaves, so that no log or capture of it has them."""
    sent = _send(SINGLE, _head("GET", QUERY))
    assert sent.backend.authorization == b"Basic cmVhZGVyOnNlY3JldA=="
    assert "secret" not in repr(sent)
    assert b"cmVhZGVyOnNlY3JldA" not in b"".join(value for _, value in sent.headers)
    assert b"Authorization" not in dict(sent.headers)


# --- the laws ------------------------------------------------------------------------------------------------------

header_names = st.sampled_from(
    b"Host Authorization Cookie AccountID projectid ACCOUNTID X-Forwarded-For Connection X-One "
    b"Content-Type Transfer-Encoding Content-Encoding TE Expect Upgrade".split()
)
header_values = st.sampled_from(
    [
        *(b"", b"close", b"x-one, content-length", b"chunked", b"0", b"7", b"gzip", b"identity", b"\xff", b"all"),
        *(FORM, b"multipart/form-data; boundary=b", b"Bearer " + DEV.encode(), b"Bearer x", b"application/json"),
    ]
)
heads = st.builds(
    RequestHead,
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "get", ""]),
    target=st.builds(
        lambda path, query: path + query,
        st.sampled_from([_example(route) for route in ROUTES])
        | st.sampled_from([f"/select/{t}/prometheus/api/v1/query" for t in ("1:5", "7", "07", "multitenant")])
        | st.text(max_size=12),
        st.sampled_from(
            ["", "?", "?a=b", "?extra_label=team=ops", "?extra_filters[]=m", "?%65xtra_label=a", "?a;b", "?\u00e9"]
        )
        | st.text(max_size=12).map(lambda text: "?" + text),
    ),
    headers=st.lists(
        st.tuples(header_names, header_values)
        | st.sampled_from([TYPE, LENGTH, CHUNKED, (b"content-length", b"0"), (b"CONTENT-LENGTH", b"1001")]),
        max_size=5,
    ).map(tuple),
    client=st.sampled_from(["192.0.2.1", "2001:db8::1", "unknown"]),
)
tokens = st.sampled_from(
    [ANYBODY, DEV, DEV_FILTER, TENANT, _token(extra_labels={"a": "b"}, extra_filters=["m"], mode=3)]
)
forms = st.binary(max_size=20) | st.sampled_from(
    [
        *(b"query=m", b"extra_label=team=ops&a=b", b"extra%5Ffilters=m&a", b"--b\r\n", b"a;b"),
        b'--b\r\nContent-Disposition: form-data; name="extra_label"\r\n\r\nteam=ops\r\n--b--\r\n',
    ]
)


@given(heads, tokens, forms, st.sampled_from([SINGLE, CLUSTER]))
@example(_head("POST", QUERY, TYPE, LENGTH), DEV, b"extra_label=team=ops&a=b", SINGLE)
def test_any_request_is_refused_or_bound_to_its_token(
    head: RequestHead, token: str, form: bytes, policy: Policy
) -> None:
    bearer = (b"Authorization", b"Bearer " + token.encode())
    if not head.values(b"authorization"):
        head = head.with_headers((bearer, *head.headers))
    results: list[UpstreamRequest | type[Refusal]] = []
    for _ in range(2):
        try:
            grant = admit(policy, head, NOW)
            results.append(rewrite(policy, grant, head, form if grant.body is Body.HOLD else None))
        except Refusal as refusal:
            results.append(type(refusal))
    assert results[0] == results[1], "the same input gives the same output"
    sent = results[0]
    if not isinstance(sent, UpstreamRequest):
        return
    claim = grant.claim
    path, _, query = sent.target.partition("?")
    if policy.cluster and not path.endswith("/favicon.ico"):
        where = path.removeprefix(sent.backend.base).split("/")[2]
        forced = (("vm_account_id", str(claim.tenant.account_id)), ("vm_project_id", str(claim.tenant.project_id)))
        assert where == str(claim.tenant) or (where == "multitenant" and claim.labels[-2:] == forced)
    assert sent.target.isascii()
    assert " " not in sent.target
    values = go_query.arguments(head.method, query, None if sent.body is None else sent.body.decode("ascii"))
    binds = grant.route.filters is Filters.BIND
    if claim.labels:
        expected = [f"{name}={value}" for name, value in claim.labels] if binds else []
        assert go_query.named(values, "extra_label") == expected
    if claim.filters:
        sent_as = {"m": '{__name__=~"m(?:\\\\b|\\\\B)"}'}
        written = [sent_as.get(text, text) for text in claim.filters]
        expected = written if binds and grant.route.access != "write" else []
        assert go_query.named(values, "extra_filters", "extra_filters[]") == expected
    received = [name.lower() for name, _ in sent.headers]
    assert received.count(b"host") == received.count(b"x-forwarded-for") == 1
    assert not {b"authorization", b"cookie", b"accountid", b"projectid", b"connection", b"te", b"expect"} & set(
        received
    )
    if sent.body is not None:
        assert received.count(b"content-length") == received.count(b"content-type") == 1
        assert b"transfer-encoding" not in received


def test_a_grant_says_whose_request_it_is() -> None:
    grant = admit(CLUSTER, _head("GET", "/select/1:5/prometheus/api/v1/query", token=TENANT), NOW)
    assert grant.claim.tenant == grant.match.tenant == TenantID(1, 5)
    assert grant.subject == Subject(TenantID(1, 5))
    assert grant.route is grant.match.route
    assert grant.route.path == QUERY
    assert grant.backend is READ
    assert grant.body is Body.NONE


# --- without -enable.auth -------------------------------------------------------------------------------------------

OPEN: Final = replace(CLUSTER, auth=False)


@each(
    ("method", "target", "sent", "subject"),
    [
        ("GET", "/select/0/prometheus/api/v1/query?query=up", "/select/0:0/prometheus/api/v1/query?query=up", "0"),
        ("GET", "/select/7/graphite/render", "/select/7:0/graphite/render", "7"),
        ("POST", "/insert/1:5/prometheus/api/v1/write", "/insert/1:5/prometheus/api/v1/write", "1:5"),
        ("POST", "/insert/1:5/prometheus/", "/insert/1:5/prometheus/", "1:5"),
        ("POST", "/delete/15/prometheus/api/v1/admin/tsdb/delete_series", None, "15"),
        ("GET", "/select/multitenant/prometheus/api/v1/labels", None, None),
        ("POST", "/insert/multitenant/influx/write", None, None),
        ("GET", "/select/0/prometheus/api/v1/series/count", "/select/0:0/prometheus/api/v1/series/count", "0"),
        ("GET", "/select/0/prometheus/api/v1/query?extra_label=a=b&extra_filters[]={c}", None, "0"),
    ],
)
def test_without_auth_the_path_names_the_tenant(
    method: str, target: str, sent: str | None, subject: str | None
) -> None:
    for token in (None, DEV, BROKEN):  # nobody looks at it
        head = _head(method, target, token=token)
        grant = admit(OPEN, head, NOW)
        assert grant.subject == Subject(None if subject is None else TenantID.parse(subject))
        assert grant.token is None
        upstream = rewrite(OPEN, grant, head, None)
        expected = sent or target.replace("/15/", "/15:0/").replace("/0/", "/0:0/")
        assert upstream.target.removeprefix("/base") == expected
        assert not any(name.lower() == b"authorization" for name, _ in upstream.headers)


@each(
    "target",
    [
        "/api/v1/query",
        "/prometheus/api/v1/query",
        "/favicon.ico",
        "/select/0/favicon.ico",
        "/datadog/api/v1/validate",
        "/influx/health",
        "/vmui/",
        "/select/all/prometheus/api/v1/query",
        "/select/Multitenant/prometheus/api/v1/query",
        "/delete/multitenant/prometheus/api/v1/admin/tsdb/delete_series",
        "/select/multitenant:0/prometheus/api/v1/query",
        "/select/%6dultitenant0/prometheus/api/v1/query",
        "/select/4294967296/prometheus/api/v1/query",
        "/select/0/prometheus/admin/tenants",
        "/admin/tenants",
        "/internal/force_flush",
    ],
)
def test_without_auth_a_path_without_a_tenant_is_refused(target: str) -> None:
    with pytest.raises(errors.UnknownRoute):
        admit(OPEN, _head("GET", target, token=DEV), NOW)


@pytest.mark.parametrize("kind", ["select", "insert", "delete"])
def test_single_node_has_no_path_for_all_tenants(kind: str) -> None:
    for method in ("GET", "POST"):
        with pytest.raises(errors.UnknownRoute):
            admit(SINGLE, _head(method, f"/{kind}/multitenant/prometheus/api/v1/query"), NOW)


# --- with -enable.auth, a path for all tenants ----------------------------------------------------------------------

FORCED: Final = ["vm_account_id=1", "vm_project_id=5"]


@each(
    "route",
    [route for route in ROUTES if route.cluster_prefix and route.access is not Access.DELETE],
    ids=lambda route: route.path,
)
def test_a_path_for_all_tenants_is_held_to_the_tokens_or_refused(route: Route) -> None:
    path = _example(route, route.cluster_path).replace("<tenant>", "multitenant")
    own = 'extra_label=vm_account_id=7&extra_label=vm_project_id=0&extra_filters[]={vm_account_id="7"}'
    for method in {"GET", "HEAD", "POST"} & set(route.methods):
        head = _head(method, f"{path}?{own}", token=TENANT)
        if route.inserts:
            grant = admit(CLUSTER, head, NOW)
            assert grant.path.startswith("/insert/multitenant/")
            assert grant.tenants == frozenset({TenantID(1, 5)})
            continue
        shown = route.answer is not None and (route.answer.lists_rules or route.answer is Answer.NOTIFIERS)
        if shown:
            assert admit(CLUSTER, head, NOW).filter is not None
            assert _send(CLUSTER, head).target.startswith("/base/select/1:5/prometheus/api/v1/")
            with pytest.raises(errors.TenantIgnored):
                admit(replace(CLUSTER, auth=False), head, NOW)
            continue
        if route.filters in (Filters.LEAK, Filters.OPEN) or "/graphite" in path:
            with pytest.raises((errors.TenantIgnored, errors.FiltersIgnored)):
                admit(CLUSTER, head, NOW)
            continue
        sent = _send(CLUSTER, head)
        assert sent.target.startswith("/base/select/multitenant/")
        assert admit(CLUSTER, head, NOW).tenants is None
        labels = go_query.named(go_query.parse_query(sent.target.partition("?")[2]), "extra_label")
        assert labels == (FORCED if route.filters is Filters.BIND else [])


def test_the_labels_of_the_token_bind_on_a_path_for_all_tenants() -> None:
    token = _token(
        tenant_id={"account_id": 1, "project_id": 5}, extra_labels={"team": "dev"}, extra_filters=['{env="a"}']
    )
    own = b"extra_label=vm_account_id=7&extra_filters={vm_account_id=%227%22}&query=m"
    head, form = _with_form("/select/multitenant/prometheus/api/v1/query", own, token=token)
    grant = admit(CLUSTER, head, NOW)
    sent = rewrite(CLUSTER, grant, head, form)
    assert sent.body == b"query=m"
    values = go_query.parse_query(sent.target.partition("?")[2])
    assert go_query.named(values, "extra_label") == ["team=dev", *FORCED]
    assert go_query.named(values, "extra_filters[]") == ['{env="a"}']
    # It counts for the tenant, and not for labels that the token does not have.
    assert grant.subject == Subject(TenantID(1, 5), (("team", "dev"),))


def test_label_names_of_all_tenants_get_a_match_of_the_tokens_tenant() -> None:
    sent = _send(CLUSTER, _head("GET", "/select/multitenant/prometheus/api/v1/labels", token=TENANT))
    values = go_query.parse_query(sent.target.partition("?")[2])
    assert go_query.named(values, "match[]") == ['{vm_account_id="1",vm_project_id="5"}']


# --- pages of the gateway itself ------------------------------------------------------------------------------------


def test_a_page_gets_the_token_and_its_text() -> None:
    token, text = authenticate(CLUSTER, _head("GET", "/-/me", token=TENANT), NOW)
    assert (token.grants.tenants, text) == ((TenantID(1, 5),), TENANT)
    with pytest.raises(errors.MissingToken):
        authenticate(CLUSTER, _head("GET", "/-/me", token=None), NOW)


# --- /admin/tenants -------------------------------------------------------------------------------------------------


def _page(policy: Policy, head: RequestHead) -> tuple[int, object]:
    page = tenants_page(policy, head, NOW)
    assert page is not None
    headers = dict(page.headers)
    assert headers[b"Content-Length"] == str(len(page.body)).encode()
    assert headers[b"Access-Control-Allow-Origin"] == b"*"
    assert headers[b"Cache-Control"] == b"no-store"
    return page.status, json.loads(page.body)


def test_the_tenants_of_a_cluster_are_the_tokens_own() -> None:
    head = _head("GET", "/admin/tenants", token=TENANT)
    assert _page(CLUSTER, head) == (200, {"status": "success", "data": ["1:5"]})
    assert _page(CLUSTER, _head("HEAD", "/admin/tenants?trace=1", token=DEV))[1] == {
        "status": "success",
        "data": ["0:0"],
    }


@pytest.mark.parametrize(
    ("token", "status"),
    [(None, 401), (BROKEN, 401), (_token(mode=WRITE_ONLY), 403)],
    ids=["no token", "a broken one", "a writer's"],
)
def test_the_tenants_are_not_told_without_a_token_to_read(token: str | None, status: int) -> None:
    told = _page(CLUSTER, _head("GET", "/admin/tenants", token=token))
    assert told[0] == status
    assert "data" not in json.dumps(told[1])


@pytest.mark.parametrize("policy", [SINGLE, replace(CLUSTER, auth=False)], ids=["single-node", "without auth"])
def test_where_there_are_no_tenants_or_tokens_nobody_is_told(policy: Policy) -> None:
    assert tenants_page(policy, _head("GET", "/admin/tenants"), NOW) is None
    with pytest.raises(errors.UnknownRoute):
        admit(policy, _head("GET", "/admin/tenants"), NOW)


# --- HEAD, and the handshake of vmagent -----------------------------------------------------------------------------


@each(
    ("policy", "path", "token", "error"),
    [
        (SINGLE, "/vmalert/groups", DEV, errors.FiltersIgnored),
        (SINGLE, "/prometheus/vmalert/", DEV, errors.FiltersIgnored),
        (CLUSTER, "/select/1:5/prometheus/vmalert/rule", TENANT, errors.TenantIgnored),
    ],
)
def test_a_page_of_vmalert_says_where_the_own_rules_are(
    policy: Policy, path: str, token: str, error: type[errors.Refusal]
) -> None:
    with pytest.raises(error, match="vmui shows your own rules at /vmui/#/rules"):
        admit(policy, _head("GET", path, token=token), NOW)


def test_head_is_bound_as_get_is() -> None:
    head = _head("HEAD", f"{QUERY}?query=m&trace=1&extra_label=team=ops", token=DEV)
    sent = _send(SINGLE, head)
    assert (sent.method, sent.target) == ("HEAD", "/base/api/v1/query?query=m&extra_label=team%3Ddev")
    with pytest.raises(errors.FiltersIgnored):
        admit(SINGLE, _head("HEAD", LEAKING, token=DEV), NOW)


def test_a_reader_may_not_ask_which_protocol_a_writer_may_use() -> None:
    target = "/api/v1/write?get_vm_proto_version=1"
    assert _send(SINGLE, _head("GET", target, token=DEV)).target == f"{target}&extra_label=team%3Ddev"
    with pytest.raises(errors.AccessDenied):
        admit(SINGLE, _head("GET", target, token=_token(mode=READ_ONLY)), NOW)


def test_the_labels_of_a_token_are_part_of_whom_it_counts_for() -> None:
    grant = admit(CLUSTER, _head("GET", QUERY, token=DEV), NOW)
    assert grant.subject == Subject(TenantID(), (("team", "dev"),))


def test_the_classes_of_the_grants_for_the_tenant_are_part_of_whom_it_counts_for() -> None:
    text = "".join(
        f"- {{when: {{vm_access: {{exists: true}}}}, grant: {{tenant: {tenant}, mode: {mode}, limits: {name}}}}}\n"
        for tenant, mode, name in ((1, "read", "a"), (1, "write", "b"), (2, "read", "c"))
    )
    read = read_access_policy(f"vm_access: ignore\nmatch:\n{text}", "policy.yaml")
    rules = TokenRules(grants=read.grants, limit_classes=read.limit_classes)
    policy = replace(CLUSTER, verifier=TokenVerifier(None, rules=rules))

    assert list(policy.limit_classes) == ["a", "b", "c"]
    given = read_credentials("users: []", "credentials.yaml", grants=rules.grants, seed=bytes(32))
    given.limit_classes = {"d": "credentials.yaml, line 3", "a": "credentials.yaml, line 4"}
    assert list(replace(policy, credentials=given).limit_classes) == ["d", "a", "b", "c"]

    def counted(tenant: str) -> Subject:
        return admit(policy, _head("GET", f"/select/{tenant}/prometheus/api/v1/query", token=DEV), NOW).subject

    assert counted("1") == Subject(TenantID(1), (), frozenset({"a", "b"}))
    assert counted("2") == Subject(TenantID(2), (), frozenset({"c"}))
    assert counted("multitenant") == Subject(TenantID(1), (), frozenset({"a", "b", "c"}))


# --- what Go does not read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "form"),
    [
        pytest.param("GET", b"match[]=m", id="the form of a GET"),
        pytest.param("POST", b"match[]=m" + b"&a" * go_query.MAX_PARAMETERS, id="too many arguments"),
        pytest.param("POST", b"match[]=m&a=" + b"a" * go_query.MAX_FORM_SIZE, id="too large a form"),
    ],
)
def test_a_match_that_go_does_not_read_is_none(method: str, form: bytes) -> None:
    """Else -search.ignoreExtraFiltersAtLabelsAPI shows the labels of everybody."""
    policy = replace(SINGLE, max_form_size=16 * 1024 * 1024)
    head, form = _with_form("/api/v1/labels", form, token=DEV, method=method)
    try:
        sent = _send(policy, head, form)
    except (errors.BodyTooLarge, errors.BadRequest):
        return
    assert sent.body is not None
    values = go_query.arguments(method, sent.target.partition("?")[2], sent.body.decode())
    assert go_query.named(values, "match[]", "match")


@pytest.mark.parametrize("length", [b"abc", b"+7", b"-7", b"1_0", b"9" * 5000])
def test_a_length_that_is_none_is_refused_even_if_the_head_was_not_checked(length: bytes) -> None:
    with pytest.raises(Refusal):
        admit(SINGLE, _head("POST", QUERY, TYPE, (b"Content-Length", length)), NOW)


# --- the prefix of all paths ---------------------------------------------------------------------------------------

PREFIXED: Final = replace(CLUSTER, path_prefix="/a/b")


def test_a_prefix_is_taken_off_before_a_request_is_judged() -> None:
    sent = _send(PREFIXED, _head("GET", f"/a/b{QUERY}", token=TENANT))
    assert sent.target.startswith("/base/select/1:5/prometheus/api/v1/query")
    assert _send(PREFIXED, _head("GET", f"/a/%62{QUERY}", token=TENANT)).target == sent.target


@pytest.mark.parametrize("target", [QUERY, f"/a{QUERY}", f"/a/bc{QUERY}", "/a/b", f"/b/a/b{QUERY}"])
def test_a_path_without_the_prefix_is_not_served(target: str) -> None:
    with pytest.raises(errors.UnknownRoute):
        admit(PREFIXED, _head("GET", target), NOW)
    assert access_of(PREFIXED, _head("GET", target)) is None


def test_behind_the_prefix_the_same_paths_are_refused() -> None:
    with pytest.raises(errors.UnknownRoute):
        admit(PREFIXED, _head("GET", "/a/b/metrics"), NOW)
    with pytest.raises(errors.ForeignTenant):
        admit(PREFIXED, _head("GET", "/a/b/select/7/prometheus/api/v1/query"), NOW)


# --- telling of a request ------------------------------------------------------------------------------------------


def test_whose_request_it_is_and_what_for() -> None:
    head = _head("GET", QUERY, token=TENANT)
    token = identify(SINGLE, head, NOW)
    assert token is not None
    assert token.grants.tenants == (TenantID(1, 5),)
    route = route_of(SINGLE, head)
    assert route is not None
    assert route.path == "/api/v1/query"
    assert identify(SINGLE, _head("GET", QUERY, token=BROKEN), NOW) is None
    assert route_of(SINGLE, _head("GET", "/config")) is None


# --- another backend of the group ----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [SINGLE, CLUSTER], ids=["single", "cluster"])
@pytest.mark.parametrize("url", ["https://other:8443", "http://other/a/b/", "http://u:p@other:8481/base"])
def test_a_request_that_is_moved_is_what_it_would_have_been_there(policy: Policy, url: str) -> None:
    other = Backend.parse(url, "read.url")
    there = replace(policy, read=BackendGroup((other,)))
    head, form = _with_form("/api/v1/query?a=b", b"query=up")
    here = rewrite(policy, admit(policy, head, NOW), head, form)
    assert moved(here, other) == rewrite(there, admit(there, head, NOW), head, form)


def test_the_first_of_several_backends_is_granted() -> None:
    other = Backend.parse("http://other", "read.url")
    policy = replace(SINGLE, read=BackendGroup((READ, other)))
    assert policy.read is not None
    policy.read.members[0].up = False
    assert admit(policy, _head("GET", "/api/v1/labels"), NOW).backend is READ


# --- compression ---------------------------------------------------------------------------------------------------


def test_compressed_answers_are_asked_for_only_where_they_may_be() -> None:
    head = _head("GET", "/api/v1/labels", (b"Accept-Encoding", b"gzip"))
    for policy, expected in ((SINGLE, [b"gzip"]), (replace(SINGLE, compression=False), [])):
        sent = rewrite(policy, admit(policy, head, NOW), head, None)
        assert [value for name, value in sent.headers if name.lower() == b"accept-encoding"] == expected


@pytest.mark.parametrize("name", ["query", "query_range"])
@pytest.mark.parametrize("own", ["", "&nocache=0", "&no%63ache=0"], ids=["none", "plain", "encoded"])
def test_a_tokens_query_of_all_tenants_never_meets_the_backends_cache(name: str, own: str) -> None:
    """The cache of instant queries of VictoriaMetrics v1.150 ignores the tenant on this path."""
    target = f"/select/multitenant/prometheus/api/v1/{name}?query=up{own}"
    arguments = _send(CLUSTER, _head("GET", target, token=TENANT)).target.partition("?")[2].split("&")
    assert [pair for pair in arguments if "nocache" in pair] == ["nocache=1"]
    without_tokens = _send(replace(CLUSTER, auth=False), _head("GET", target, token=None))
    assert "nocache=1" not in without_tokens.target
