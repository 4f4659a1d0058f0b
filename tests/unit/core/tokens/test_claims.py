"""access: what a ``vm_access`` claim means, and everything about one that is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.each import each
from vmgw_core.base import FieldError
from vmgw_core.base.tenants import Access, TenantID
from vmgw_core.errors import InvalidClaims
from vmgw_core.tokens.claims import MAX_FILTERS, MAX_LABELS, MAX_TEXT_BYTES, AccessMode, VMAccessClaim

_UINT32_MAX = 4294967295


def _claim(
    tenant: tuple[int, int] = (0, 0),
    labels: tuple[tuple[str, str], ...] = (),
    filters: tuple[str, ...] = (),
    mode: AccessMode = AccessMode.FULL,
) -> VMAccessClaim:
    return VMAccessClaim(tenant=TenantID(*tenant), labels=labels, filters=filters, mode=mode)


# --- TenantID ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tenant"),
    [
        pytest.param("0", TenantID(), id="zero"),
        pytest.param("15", TenantID(15), id="account"),
        pytest.param("15:0", TenantID(15, 0), id="project zero"),
        pytest.param("1:5", TenantID(1, 5), id="both"),
        pytest.param("4294967295:4294967295", TenantID(_UINT32_MAX, _UINT32_MAX), id="largest"),
    ],
)
def test_tenant_accepts(text: str, tenant: TenantID) -> None:
    assert TenantID.parse(text) == tenant
    assert TenantID.parse(str(tenant)) == tenant


@each(
    "text",
    [
        *("", ":", "1:", ":1", "1:2:3", "01", "1:01", "00", "+1", "-1", "1:-1", " 1", "1 ", "1\n", "1_0", "0x1", "1.0"),
        pytest.param("4294967296", id="one too large"),
        pytest.param("1:4294967296", id="project one too large"),
        pytest.param("99999999999", id="eleven digits"),
        pytest.param("\u0661", id="a digit that is not ASCII"),
        pytest.param("\uff11", id="a full-width digit"),
        "multitenant",
    ],
)
def test_tenant_rejects(text: str) -> None:
    with pytest.raises(ValueError):
        TenantID.parse(text)


@pytest.mark.parametrize("numbers", [(-1, 0), (0, -1), (_UINT32_MAX + 1, 0), (0, _UINT32_MAX + 1), (True, 0)], ids=str)
def test_tenant_is_checked_when_built(numbers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="two integers of 0 to 4294967295"):
        TenantID(*numbers)


def test_tenant_spelling() -> None:
    assert str(TenantID()) == "0:0"
    assert str(TenantID(1, 5)) == "1:5"


# --- AccessMode ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "allowed"),
    [
        pytest.param(0, {"read", "write", "delete"}, id="0 is the default: full"),
        pytest.param(1, {"read"}, id="1 reads"),
        pytest.param(2, {"write"}, id="2 writes, and does not delete"),
        pytest.param(3, {"read", "write", "delete"}, id="3 is full"),
    ],
)
def test_mode(number: int, allowed: set[str]) -> None:
    mode = AccessMode.from_claim(number, "mode")
    assert {access.value for access in Access if mode.allows(access)} == allowed


@pytest.mark.parametrize("number", [-1, 4, 5, 7])
def test_mode_rejects(number: int) -> None:
    with pytest.raises(FieldError, match="mode: expected an integer of 0 to 3"):
        AccessMode.from_claim(number, "mode")


def test_no_mode_allows_nothing() -> None:
    assert not any(AccessMode(0).allows(access) for access in Access)


# --- VMAccessClaim -------------------------------------------------------------------------------------------------

_ACCEPTS = [
    pytest.param({}, _claim(), id="empty"),
    pytest.param({"tenant_id": {}}, _claim(), id="the specification's minimum"),
    pytest.param({"tenant_id": {}, "role": 1}, _claim(), id="unknown fields are ignored"),
    pytest.param({"role": None, "": None}, _claim(), id="even when null"),
    pytest.param({"tenant_id": {"account_id": 15}}, _claim((15, 0)), id="account only"),
    pytest.param({"tenant_id": {"project_id": 5}}, _claim((0, 5)), id="project only"),
    pytest.param({"tenant_id": {"account_id": _UINT32_MAX, "project_id": 0}}, _claim((_UINT32_MAX, 0)), id="largest"),
    pytest.param(
        {
            "tenant_id": {"account_id": 1, "project_id": 5},
            "extra_labels": {"team": "dev", "project": "mobile"},
            "extra_filters": ['{env=~"prod|dev",team!="test"}'],
            "mode": 1,
        },
        _claim(
            (1, 5),
            (("team", "dev"), ("project", "mobile")),
            ('{env=~"prod|dev",team!="test"}',),
            AccessMode.READ,
        ),
        id="the specification's",
    ),
    pytest.param({"mode": 0}, _claim(), id="mode 0"),
    pytest.param({"mode": 2}, _claim(mode=AccessMode.WRITE), id="mode 2"),
    pytest.param({"mode": 3}, _claim(), id="mode 3"),
    pytest.param({"extra_labels": {}, "extra_filters": []}, _claim(), id="empty labels and filters"),
    pytest.param({"extra_labels": {"a b-c.ä": " x=y "}}, _claim(labels=(("a b-c.ä", " x=y "),)), id="odd label"),
    pytest.param(
        {
            "metrics_account_id": 1,
            "metrics_project_id": 5,
            "metrics_extra_labels": ["team=dev", "q=a=b"],
            "metrics_extra_filters": ['{a="b"}', "foo"],
        },
        _claim((1, 5), (("team", "dev"), ("q", "a=b")), ('{a="b"}', "foo")),
        id="vmauth's names",
    ),
    pytest.param({"metrics_project_id": 5}, _claim((0, 5)), id="vmauth's project only"),
    pytest.param({"metrics_extra_labels": ["a=b", "a=b"]}, _claim(labels=(("a", "b"),)), id="a label said twice"),
    pytest.param(
        {
            "tenant_id": {"account_id": 1},
            "metrics_account_id": 1,
            "metrics_project_id": 0,
            "extra_labels": {"a": "b", "c": "d"},
            "metrics_extra_labels": ["c=d", "a=b"],
            "extra_filters": ['{a="b"}', "foo"],
            "metrics_extra_filters": ["{__name__='foo'}", "{a=`b`,}"],
        },
        _claim((1, 0), (("a", "b"), ("c", "d")), ('{a="b"}', "foo")),
        id="both names, one meaning",
    ),
    pytest.param({"extra_labels": {f"l{i}": "x" for i in range(MAX_LABELS)}}, None, id="most labels"),
    pytest.param({"extra_filters": [f"m{i}" for i in range(MAX_FILTERS)]}, None, id="most filters"),
    pytest.param({"extra_labels": {"n": "v" * (MAX_TEXT_BYTES - 4)}, "extra_filters": ["foo"]}, None, id="most text"),
]


@each(("claim", "expected"), _ACCEPTS)
def test_accepts(claim: dict[str, Any], expected: VMAccessClaim | None) -> None:
    access = VMAccessClaim.from_claims({"vm_access": claim})
    assert expected is None or access == expected
    assert VMAccessClaim.from_claims({"vm_access": json.dumps(claim)}) == access, "the same in a string"
    assert access.restricted == bool(access.labels or access.filters)


_ACCOUNT = "expected an integer of 0 to 4294967295"
_LABEL_NAME = 'a label name must not be empty, and has no "=" and no control characters'
_LABEL_EMPTY = "a label value must not be empty: VictoriaMetrics ignores an empty one on writes"


@each(
    ("claim", "message"),
    [
        pytest.param([], "vm_access: expected an object, got a list", id="a list"),
        pytest.param(0, "vm_access: expected an object, got an integer", id="a number"),
        pytest.param(False, "vm_access: expected an object, got a boolean", id="false"),
        pytest.param("", "vm_access: not valid JSON (line 1, column 1)", id="an empty string"),
        pytest.param("null", "vm_access: expected an object, got null", id="a string with null"),
        pytest.param('"{}"', "vm_access: expected an object, got a string", id="a string in a string"),
        pytest.param('{"mode":1,"mode":3}', "vm_access: a name occurs twice in one object", id="a duplicate"),
        # Null, wherever a mapping of an identity provider may have failed.
        pytest.param({"tenant_id": None}, "vm_access.tenant_id: expected an object, got null", id="null tenant"),
        pytest.param(
            {"tenant_id": {"account_id": None}},
            f"vm_access.tenant_id.account_id: {_ACCOUNT}, got null",
            id="null account",
        ),
        pytest.param(
            {"tenant_id": {"project_id": None}},
            f"vm_access.tenant_id.project_id: {_ACCOUNT}, got null",
            id="null project",
        ),
        pytest.param({"extra_labels": None}, "vm_access.extra_labels: expected an object, got null", id="null labels"),
        pytest.param(
            {"extra_labels": {"a": None}}, "vm_access.extra_labels.a: expected a string, got null", id="null label"
        ),
        pytest.param({"extra_filters": None}, "vm_access.extra_filters: expected a list, got null", id="null filters"),
        pytest.param(
            {"extra_filters": [None]}, "vm_access.extra_filters[0]: expected a string, got null", id="null filter"
        ),
        pytest.param({"mode": None}, "vm_access.mode: expected an integer of 0 to 3, got null", id="null mode"),
        pytest.param(
            {"metrics_account_id": None}, f"vm_access.metrics_account_id: {_ACCOUNT}, got null", id="null new"
        ),
        pytest.param(
            {"metrics_extra_labels": None},
            "vm_access.metrics_extra_labels: expected a list, got null",
            id="null new labels",
        ),
        pytest.param(
            {"metrics_extra_filters": None},
            "vm_access.metrics_extra_filters: expected a list, got null",
            id="null new filters",
        ),
        # Types and ranges.
        pytest.param({"tenant_id": "1:5"}, "vm_access.tenant_id: expected an object, got a string", id="text tenant"),
        pytest.param(
            {"tenant_id": {"account_id": "1"}},
            f"vm_access.tenant_id.account_id: {_ACCOUNT}, got a string",
            id="text account",
        ),
        pytest.param(
            {"tenant_id": {"account_id": True}}, f"vm_access.tenant_id.account_id: {_ACCOUNT}, got a boolean", id="true"
        ),
        pytest.param(
            {"tenant_id": {"account_id": -1}},
            f"vm_access.tenant_id.account_id: {_ACCOUNT}, got one out of range",
            id="-1",
        ),
        pytest.param(
            {"tenant_id": {"project_id": _UINT32_MAX + 1}},
            f"vm_access.tenant_id.project_id: {_ACCOUNT}, got one out of range",
            id="2**32",
        ),
        pytest.param(
            {"metrics_project_id": 1.0},
            f"vm_access.metrics_project_id: {_ACCOUNT}, got a number with a fraction or an exponent",
            id="1.0",
        ),
        pytest.param({"mode": 4}, "vm_access.mode: expected an integer of 0 to 3, got one out of range", id="mode 4"),
        pytest.param({"mode": -1}, "vm_access.mode: expected an integer of 0 to 3, got one out of range", id="mode -1"),
        pytest.param({"mode": "1"}, "vm_access.mode: expected an integer of 0 to 3, got a string", id="mode as text"),
        pytest.param({"mode": False}, "vm_access.mode: expected an integer of 0 to 3, got a boolean", id="mode false"),
        # Labels.
        pytest.param(
            {"extra_labels": ["a=b"]}, "vm_access.extra_labels: expected an object, got a list", id="labels as a list"
        ),
        pytest.param({"extra_labels": {"a": 1}}, "vm_access.extra_labels.a: expected a string, got an integer", id="1"),
        pytest.param({"extra_labels": {"a": ""}}, f"vm_access.extra_labels.a: {_LABEL_EMPTY}", id="empty value"),
        pytest.param({"extra_labels": {"": "a"}}, f'vm_access.extra_labels[""]: {_LABEL_NAME}', id="empty name"),
        pytest.param({"extra_labels": {"a=b": "c"}}, f'vm_access.extra_labels["a=b"]: {_LABEL_NAME}', id="= in a name"),
        pytest.param(
            {"extra_labels": {"a\n": "c"}}, rf'vm_access.extra_labels["a\n"]: {_LABEL_NAME}', id="\\n in a name"
        ),
        pytest.param(
            {"extra_labels": {"a": "b\x7f"}},
            "vm_access.extra_labels.a: a label value must not have control characters",
            id="DEL in a value",
        ),
        pytest.param(
            {"metrics_extra_labels": {"a": "b"}},
            "vm_access.metrics_extra_labels: expected a list, got an object",
            id="new labels as an object",
        ),
        pytest.param(
            {"metrics_extra_labels": ["a"]},
            'vm_access.metrics_extra_labels[0]: expected "name=value"',
            id="no equals sign",
        ),
        pytest.param(
            {"metrics_extra_labels": ["=b"]}, f"vm_access.metrics_extra_labels[0]: {_LABEL_NAME}", id="no name"
        ),
        pytest.param(
            {"metrics_extra_labels": ["a="]}, f"vm_access.metrics_extra_labels[0]: {_LABEL_EMPTY}", id="no value"
        ),
        pytest.param(
            {"metrics_extra_labels": ["a=b", "a=c"]},
            "vm_access.metrics_extra_labels[1]: the same label with two values",
            id="two values",
        ),
        pytest.param(
            {"extra_labels": {f"l{i}": "x" for i in range(MAX_LABELS + 1)}},
            "vm_access.extra_labels.l64: more than 64 labels",
            id="one label too many",
        ),
        # Filters.
        pytest.param(
            {"extra_filters": '{a="b"}'},
            "vm_access.extra_filters: expected a list, got a string",
            id="a string for a list",
        ),
        pytest.param(
            {"extra_filters": ["foo", ""]},
            "vm_access.extra_filters[1]: not a series selector: column 1: expected a metric name or {",
            id="an empty filter",
        ),
        pytest.param(
            {"extra_filters": ["{}"]},
            "vm_access.extra_filters[0]: not a series selector: column 2: expected a label name",
            id="a filter that lets everything through",
        ),
        pytest.param(
            {"metrics_extra_filters": ["foo} or {bar"]},
            "vm_access.metrics_extra_filters[0]: not a series selector: column 4: expected nothing after the selector",
            id="no selector",
        ),
        *(
            pytest.param(
                {"extra_filters": ["m", f'm{{a="b" or team!~"{expression}"}}']},
                "vm_access.extra_filters[1]: no series matches this filter, but VictoriaMetrics would return the series"
                " without the label",
                id=f"nothing matches !~{expression}",
            )
            for expression in (".*", "(.*)", "^.*$", "(?:.*)", "|.+", ".+|", "(|.+)", "^(?:.+|)$")
        ),
        pytest.param(
            {"extra_filters": ["m"] * (MAX_FILTERS + 1)},
            "vm_access.extra_filters: more than 64 filters",
            id="one too many",
        ),
        pytest.param(
            {"extra_labels": {"n": "v" * (MAX_TEXT_BYTES - 3)}, "extra_filters": ["foo"]},
            "vm_access: labels and filters of more than 32768 bytes",
            id="one byte too much",
        ),
        pytest.param(
            {"extra_labels": {"ä": "ä" * (MAX_TEXT_BYTES // 2)}},
            "vm_access: labels and filters of more than 32768 bytes",
            id="too much in bytes only",
        ),
        # Both names.
        pytest.param(
            {"tenant_id": {"account_id": 1}, "metrics_account_id": 2},
            "vm_access.tenant_id: differs from metrics_account_id and metrics_project_id",
            id="two accounts",
        ),
        pytest.param(
            {"tenant_id": {"account_id": 1}, "metrics_project_id": 5},
            "vm_access.tenant_id: differs from metrics_account_id and metrics_project_id",
            id="half a tenant each",
        ),
        pytest.param(
            {"tenant_id": {}, "metrics_account_id": 5},
            "vm_access.tenant_id: differs from metrics_account_id and metrics_project_id",
            id="the default tenant and another",
        ),
        pytest.param(
            {"extra_labels": {}, "metrics_extra_labels": ["a=b"]},
            "vm_access.extra_labels: differs from metrics_extra_labels",
            id="labels and no labels",
        ),
        pytest.param(
            {"extra_filters": ["foo"], "metrics_extra_filters": ["foo", "bar"]},
            "vm_access.extra_filters: differs from metrics_extra_filters",
            id="more filters",
        ),
        pytest.param(
            {"extra_filters": ["foo"], "metrics_extra_filters": ["bar"]},
            "vm_access.extra_filters: differs from metrics_extra_filters",
            id="other filters",
        ),
        pytest.param(
            {"extra_filters": ["foo"], "metrics_extra_filters": []},
            "vm_access.extra_filters: differs from metrics_extra_filters",
            id="filters and no filters",
        ),
    ],
)
def test_rejects(claim: object, message: str) -> None:
    with pytest.raises(InvalidClaims) as error:
        VMAccessClaim.from_claims({"vm_access": claim})
    assert str(error.value) == message


@pytest.mark.parametrize("claims", [{}, {"vm_access": None}, {"VM_ACCESS": {}}], ids=["absent", "null", "other case"])
def test_missing(claims: dict[str, object]) -> None:
    with pytest.raises(InvalidClaims) as error:
        VMAccessClaim.from_claims(claims)
    assert str(error.value) == "missing `vm_access` claim"


def test_surrogates_in_a_mapping_that_was_never_json() -> None:
    for labels in ({"a": "\ud800"}, {"\ud800": "a"}):
        with pytest.raises(InvalidClaims, match="lone surrogate"):
            VMAccessClaim.from_claims({"vm_access": {"extra_labels": labels}})


def test_no_message_shows_a_value() -> None:
    for claim in ({"extra_labels": {"a": "hunter2\n"}}, {"extra_filters": ["hunter2 }"]}, '{"hunter2'):
        with pytest.raises(InvalidClaims) as error:
            VMAccessClaim.from_claims({"vm_access": claim})
        assert "hunter2" not in str(error.value)


def test_is_a_value() -> None:
    first, second = (VMAccessClaim.from_claims({"vm_access": {"tenant_id": {"account_id": 1}}}) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
