"""The file of -auth.policy: every wrong file with its line, and any bytes at all."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vmgw_core.access import file, read_access_policy
from vmgw_core.errors import ConfigurationError

GOOD = "match:\n- {when: {a: x}, grant: {tenant: 1}}\n"


def entry(when: str, grant: str = "{tenant: 7}") -> str:
    return f"match:\n- {{when: {when}, grant: {grant}}}\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "policy.yaml: the file is empty"),
        (b"\xff", "policy.yaml: the file is not UTF-8"),
        ("#" * (file.MAX_BYTES + 1), "policy.yaml: the file is larger than 1048576 bytes"),
        ("vm_access: first\n", "policy.yaml, line 1: match: missing; expected a list of entries"),
        ("entries: []\n", "line 1: entries: unknown key; known are match, default, vm_access"),
        ("match: {}\n", "line 1: match: expected a list of entries, got keys and values"),
        (GOOD + "vm_access: last\n", 'line 3: vm_access: expected first or ignore, got "last"'),
        (GOOD + "default: allow\n", "line 3: default: expected deny or a grant"),
        (GOOD + "default: {labels: {a: '{b}'}}\n", "line 3: default: no condition captures {b}; write (?P<b>...) in"),
        ("match:\n- {when: {a: x}}\n", "line 2: match[0].grant: missing"),
        ("match:\n- {grant: {}}\n", "line 2: match[0].when: missing"),
        (entry("{}"), "line 2: match[0].when: expected at least one condition; use default for every other token"),
        (entry("{'': x}"), "line 2: match[0].when.: expected a name, with a dot between the names of a path"),
        (entry("{a=b: x}"), "match[0].when.a=b: expected a name"),
        (entry("{a: {}}"), "match[0].when.a: expected one of contains, matches, exists"),
        (entry("{a: {contains: x, exists: true}}"), "match[0].when.a: expected one of contains, matches, exists"),
        (entry("{a: {is: x}}"), "match[0].when.a.is: unknown key; known are contains, matches, exists"),
        (entry("{a: {exists: yes}}"), "match[0].when.a.exists: expected true or false"),
        (entry("{a: []}"), "match[0].when.a: the list is empty"),
        (entry("{a: [[x]]}"), "match[0].when.a[0]: expected a value, got a list"),
        (entry("{a: null}"), "match[0].when.a: expected a value, got nothing"),
        (entry("{a: {matches: '('}}"), "match[0].when.a.matches: not a regular expression: missing ): ("),
        (entry("{a: {matches: '(?=x)'}}"), "match[0].when.a.matches: not a regular expression: invalid perl operator"),
        (entry(f"{{a: {{matches: {'x' * 1001}}}}}"), "match[0].when.a.matches: not a regular expression: longer than"),
        (
            entry("{a: {matches: '(?P<v>x)'}, b: {matches: '(?P<v>x)'}}"),
            "b.matches: another condition captures v already",
        ),
        (entry("{a: x}", "{labels: {team: '{v}'}}"), "match[0].grant: no condition captures {v}"),
        (entry("{a: x}", "{filters: ['{a=\"{v}\"}']}"), "match[0].grant: no condition captures {v}"),
        (entry("{a: x}", "{labels: {'{v}': x}}"), "match[0].grant.labels.{v}: the name of a label has no placeholders"),
        (entry("{a: x}", "{labels: {a: 1}}"), "match[0].grant.labels.a: expected text, got an integer"),
        (entry("{a: x}", "{labels: {a: ''}}"), "match[0].grant.extra_labels.a: a label value must not be empty"),
        (entry("{a: x}", "{filters: ['{']}"), "match[0].grant.filters[0]: not a series selector: column 2: expected"),
        (entry("{a: x}", "{filters: {}}"), "match[0].grant.filters: expected a list of series selectors"),
        (entry("{a: x}", "{tenant: x}"), "match[0].grant.tenant: a tenant is written accountID"),
        (entry("{a: x}", "{mode: all}"), 'match[0].grant.mode: expected full or read or write, got "all"'),
        (
            entry("{a: x}", "{role: x}"),
            "match[0].grant.role: unknown key; known are claim, tenant, labels, filters, mode, limits",
        ),
        (entry("{a: x}", "{claim: a, mode: read}"), "match[0].grant.claim: that claim says everything but limits"),
        (entry("{a: x}", "{limits: 1}"), "line 2: match[0].grant.limits: expected text, got an integer"),
        (entry("{a: x}", "{limits: '{a}'}"), "line 2: match[0].grant.limits: expected the name of a class"),
        (entry("{a: x}", "{claim: ''}"), "match[0].grant.claim: expected a name"),
        ("match:\n- {name: '', when: {a: x}, grant: {}}\n", "match[0].name: expected 1 to 100 printable characters"),
        (
            'match:\n- {name: "a\\nb", when: {a: x}, grant: {}}\n',
            "match[0].name: expected 1 to 100 printable characters",
        ),
        (
            "match:\n" + 2 * "- {name: n, when: {a: x}, grant: {}}\n",
            "line 3: match[1].name: the entry in line 2 has this",
        ),
    ],
)
def test_a_wrong_file_is_named_with_its_line(text: str | bytes, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        read_access_policy(text, "policy.yaml")


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "MAX_ENTRIES", 1)
    with pytest.raises(ConfigurationError, match="line 2: match: more than 1 entries"):
        read_access_policy(GOOD + "- {when: {a: y}, grant: {}}\n", "policy.yaml")


def test_the_first_grant_of_each_class_is_known() -> None:
    text = "match:\n" + "".join(
        f"- {{when: {{a: x}}, grant: {{tenant: {number}, limits: {name}}}}}\n" for number, name in enumerate("abab")
    )
    policy = read_access_policy(text + "default:\n  claim: x\n  limits: c\n", "policy.yaml")
    assert policy.limit_classes == {
        "a": "policy.yaml, line 2: match[0].grant.limits",
        "b": "policy.yaml, line 3: match[1].grant.limits",
        "c": "policy.yaml, line 8: default.limits",
    }


def test_a_default_alone_is_a_policy() -> None:
    assert read_access_policy("default: deny\n", "policy.yaml").default is None


@given(st.binary() | st.text())
@example("match: [{when: {a: {matches: '(?P<x>'}}, grant: {}}]")
def test_any_bytes_are_a_policy_or_an_error(data: bytes | str) -> None:
    try:
        read_access_policy(data, "policy.yaml")
    except ConfigurationError as error:
        assert str(error).startswith("policy.yaml")  # noqa: PT017
