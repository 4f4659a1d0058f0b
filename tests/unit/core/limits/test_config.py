"""limitfile: the specification's samples, every wrong file with its line, and any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.core.limiters import limit
from tests.support.each import each
from vmgw_core.base.tenants import TenantID
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits.config import MAX_BYTES, MAX_LABELLED, LimitFile, check_classes, check_measurable, read_limits
from vmgw_core.limits.guards import span_text
from vmgw_core.limits.model import MAX_VALUE, Limit

NAME = "limit.yaml"

# The specification, "Rate Limiter" and "QuickStart", to the letter: YAML lets a list stand at its key's column.
SPEC_TYPES = """\
limits:
- type: queries
  value: 1000
  resolution: minute
- type: queries
  value: 10000
  resolution: hour
- type: queries
  value: 10
  resolution: minute
  project_id: 5
  account_id: 1
"""
SPEC_QUICK_START = """\
limits:
- type: queries
  value: 100
- type: rows_inserted
  value: 100000
- type: new_series
  value: 1000
- type: active_series
  value: 100000
- type: queries
  value: 1
  account_id: 15
"""


@each(
    ("text", "limits"),
    [
        pytest.param(
            SPEC_TYPES,
            (
                limit("queries", 1000),
                limit("queries", 10000, "hour"),
                limit("queries", 10, tenant=TenantID(1, 5)),
            ),
            id="the specification, example of a configuration file",
        ),
        pytest.param(
            SPEC_QUICK_START,
            (
                limit("queries", 100),
                limit("rows_inserted", 100000),
                limit("new_series", 1000),
                limit("active_series", 100000),
                limit("queries", 1, tenant=TenantID(15, 0)),
            ),
            id="the specification, quick start",
        ),
        pytest.param("limits: []", (), id="no limit"),
        pytest.param(
            "limits: [{type: queries, value: 1, project_id: 5}]",
            (limit("queries", 1, tenant=TenantID(0, 5)),),
            id="a project alone",
        ),
        pytest.param(
            "limits: [{type: queries, value: 1, account_id: 0}]",
            (limit("queries", 1, tenant=TenantID(0, 0)),),
            id="tenant 0 is a tenant",
        ),
        pytest.param(
            "limits: [{type: queries, value: 1, account_id: 4294967295, project_id: 4294967295}]",
            (limit("queries", 1, tenant=TenantID(2**32 - 1, 2**32 - 1)),),
            id="the largest tenant",
        ),
        pytest.param(f"limits: [{{type: queries, value: {MAX_VALUE}}}]", (limit("queries", MAX_VALUE),), id="the most"),
        pytest.param(
            '{"limits": [{"type": "queries", "value": 1}]}', (limit("queries", 1),), id="JSON, which is YAML too"
        ),
        pytest.param(
            "limits: [{type: active_series, value: 1, scope: total}, {type: active_series, value: 1, scope: tenant}]",
            (limit("active_series", 1, total=True), limit("active_series", 1)),
            id="a total beside the same for each tenant",
        ),
        pytest.param(
            "limits: [{type: queries, value: 1, labels: {team: dev, env: 'no'}}, {type: queries, value: 2}]",
            (limit("queries", 1, labels=(("env", "no"), ("team", "dev"))), limit("queries", 2)),
            id="labels, sorted",
        ),
        pytest.param(
            "limits: [{type: queries, value: 1, mode: observe}, "
            "{type: queries, value: 1, account_id: 1, mode: enforce}]",
            (limit("queries", 1, observe=True), limit("queries", 1, tenant=TenantID(1, 0))),
            id="modes",
        ),
        pytest.param(
            "limits: [{type: queries, value: 1, class: bronze}, "
            "{type: queries, value: 2, class: gold.1, scope: total}]",
            (limit("queries", 1, limit_class="bronze"), limit("queries", 2, limit_class="gold.1", total=True)),
            id="classes",
        ),
        pytest.param(
            "limits: [{type: queries, value: 9, resolution: hour, burst: 9, account_id: 1, class: a, mode: observe}]",
            tuple(
                limit("queries", 9, window, tenant=TenantID(1, 0), limit_class="a", observe=True)
                for window in ("hour", "second")
            ),
            id="a burst",
        ),
        pytest.param(
            "limits: [{type: queries, value: 9, resolution: day, burst: 2}, "
            "{type: bytes_read, value: 1, resolution: month, scope: total}]",
            (
                limit("queries", 9, "day"),
                limit("queries", 2, "second"),
                limit("bytes_read", 1, "month", total=True),
            ),
            id="days and months of UTC",
        ),
        pytest.param(
            "limits: [{type: queries, value: 9, resolution: day, burst: 2}, {type: queries, value: 1}]\n"
            "zone: Europe/Berlin",
            (
                limit("queries", 9, "day", zone="Europe/Berlin"),
                limit("queries", 2, "second"),
                limit("queries", 1),
            ),
            id="days of a zone",
        ),
        pytest.param(
            "limits: [{type: bytes_written, value: 1, labels: {a: b}}, {type: bytes_read, value: 2, class: c}, "
            "{type: series_fetched, value: 3, resolution: hour, account_id: 1}]",
            (
                limit("bytes_written", 1, labels=(("a", "b"),)),
                limit("bytes_read", 2, limit_class="c"),
                limit("series_fetched", 3, "hour", tenant=TenantID(1, 0)),
            ),
            id="bytes and fetched series",
        ),
        pytest.param("\ufefflimits: []", (), id="a byte order mark"),
        pytest.param("--- # first\nlimits: []\n...\n", (), id="one document, marked"),
    ],
)
def test_a_file_gives_its_limits(text: str, limits: tuple[Limit, ...]) -> None:
    assert read_limits(text, NAME).limits == limits
    assert read_limits(text.encode(), NAME).limits == limits


_A = "- {type: queries, value: 1}"


@each(
    ("text", "error"),
    [
        pytest.param("", ": the file is empty", id="empty"),
        pytest.param("# nothing\n", ": the file is empty", id="a comment alone"),
        pytest.param("limits", ", line 1: the file: expected keys and values, got text", id="a word"),
        pytest.param("- limits", ", line 1: the file: expected keys and values, got a list", id="a list"),
        pytest.param("{}", ", line 1: limits: missing; expected a list of limits", id="no key"),
        pytest.param("limits:", ", line 1: limits: expected a list of limits, got nothing", id="nothing"),
        pytest.param("limits: {}", ", line 1: limits: expected a list of limits, got keys and values", id="an object"),
        pytest.param(
            "limits: !!set []",
            ", line 1: limits: expected a list of limits, got something of YAML's type set",
            id="a type of its own",
        ),
        pytest.param(
            "limits: []\nlimit: []", ", line 2: limit: unknown key; known are limits, guards, zone", id="another key"
        ),
        pytest.param("limits: []\nlimits: []", ", line 2: limits: the key is already in line 1", id="a key twice"),
        pytest.param("limits: []\n1: 2", ", line 2: the file: a key: expected text, got an integer", id="a number key"),
        pytest.param("limits: []\n? [a]\n: b", ", line 2: the file: a key: expected text, got a list", id="a list key"),
        pytest.param(
            "limits: []\n<<: {}",
            ', line 2: the file: a key: expected text, got "<<" of YAML\'s type merge',
            id="a merge",
        ),
        pytest.param("limits:\n- queries", ", line 2: limits[0]: expected keys and values, got text", id="a text"),
        pytest.param("limits:\n- value: 1", ", line 2: limits[0].type: missing", id="no type"),
        pytest.param("limits:\n- type: queries", ", line 2: limits[0].value: missing", id="no value"),
        pytest.param(
            "limits:\n- type: queries\n  value: 1\n  mode: watch",
            ', line 4: limits[0].mode: expected enforce or observe, got "watch"',
            id="another mode",
        ),
        pytest.param(
            "limits:\n- {type: queries, value: 1}\n- {type: queries, value: 2, mode: observe}",
            ", line 3: limits[1]: this limit repeats the one in line 2",
            id="the same limit in another mode",
        ),
        pytest.param(
            "limits:\n- type: queries\n  value: 1\n  values: 1",
            ", line 4: limits[0].values: unknown key; known are type, value, resolution, account_id, project_id, "
            "scope, labels, class, mode, burst",
            id="an unknown key",
        ),
        pytest.param(
            "limits:\n- type: queries\n  value: 1\n  value: 1",
            ", line 4: limits[0].value: the key is already in line 3",
            id="a value twice",
        ),
        pytest.param(
            "limits:\n- type: query\n  value: 1",
            ", line 2: limits[0].type: expected queries or rows_inserted or new_series or active_series "
            'or bytes_written or bytes_read or series_fetched or concurrency, got "query"',
            id="an unknown type",
        ),
        pytest.param(
            "limits:\n- type: Queries\n  value: 1",
            ", line 2: limits[0].type: expected queries or rows_inserted or new_series or active_series "
            'or bytes_written or bytes_read or series_fetched or concurrency, got "Queries"',
            id="another case",
        ),
        pytest.param(
            "limits:\n- type: 1\n  value: 1",
            ", line 2: limits[0].type: expected text, got an integer",
            id="a type that is a number",
        ),
        pytest.param(
            "limits:\n- type: queries\n  value: 1\n  resolution: second",
            ', line 4: limits[0].resolution: expected minute or hour or day or month, got "second"',
            id="an unknown resolution",
        ),
        pytest.param(
            "limits:\n- type: queries\n  value: 1\n  resolution: ''",
            ', line 4: limits[0].resolution: expected minute or hour or day or month, got ""',
            id="an empty resolution",
        ),
        pytest.param(
            "limits:\n- type: new_series\n  value: 1\n  resolution: day",
            ", line 4: limits[0].resolution: nothing can measure new_series by day",
            id="new series of a day",
        ),
        *(
            pytest.param(
                f"limits: []\nzone: {name}",
                f", line 2: zone: this system has no time zone {shown}; expected one like Europe/Berlin",
                id=f"the zone {name}",
            )
            for name, shown in [
                ("Europe/Bonn", '"Europe/Bonn"'),
                ("''", '""'),
                ("Europe", '"Europe"'),
                ("../../etc/passwd", '"../../etc/passwd"'),
                ("/etc/passwd", '"/etc/passwd"'),
                ("zone.tab", '"zone.tab"'),
                ('"a\\0b"', '"a\\u0000b"'),
                (f"'{'x' * 300}'", f'"{"x" * 60}..."'),
            ]
        ),
        pytest.param("limits: []\nzone: 1", ", line 2: zone: expected text, got an integer", id="a zone as a number"),
        pytest.param(
            "limits:\n- type: bytes_read\n  value: 2\n  burst: 1",
            ", line 4: limits[0].burst: only queries have a burst",
            id="a burst of bytes",
        ),
        pytest.param(
            "limits:\n- type: queries\n  value: 1\n  scope: all",
            ', line 4: limits[0].scope: expected tenant or total, got "all"',
            id="an unknown scope",
        ),
        pytest.param(
            "limits:\n- type: queries\n  value: 1\n  project_id: 5\n  scope: total",
            ", line 5: limits[0].scope: total is for all tenants, but this limit names one",
            id="the total of one tenant",
        ),
        pytest.param(f"limits:\n{_A}\n{_A}", ", line 3: limits[1]: this limit repeats the one in line 2", id="twice"),
        pytest.param(
            "limits:\n- {type: queries, value: 1, account_id: 5}\n- {type: queries, value: 2, account_id: 5, "
            "project_id: 0, resolution: minute, scope: tenant}",
            ", line 3: limits[1]: this limit repeats the one in line 2",
            id="twice in other words",
        ),
        pytest.param(
            "limits:\n- {type: queries, value: 1, labels: {a: b, c: d}}\n- {type: queries, value: 1, labels: "
            "{c: d, a: b}}",
            ", line 3: limits[1]: this limit repeats the one in line 2",
            id="twice, the labels in another order",
        ),
        pytest.param(
            f"limits: &all\n{_A}",
            ", line 1: anchors and aliases are not supported: write the value out",
            id="an anchor",
        ),
        pytest.param(
            "limits:\n- *all",
            ", line 2: anchors and aliases are not supported: write the value out",
            id="an alias of nothing",
        ),
        pytest.param("limits: []\n---\nlimits: []", ", line 2: a second document begins here; expected one", id="two"),
        pytest.param("a: [[[[[[[[[[[[[[", ", line 1: it is nested too deeply", id="deep"),
        pytest.param("{" * 900, ", line 1: it is nested too deeply", id="very deep"),
        pytest.param("limits: [\n", ", line 2: not valid YAML: ", id="no YAML"),
        pytest.param("limits:\n\t- a", ", line 2: not valid YAML: ", id="a tab"),
        pytest.param("limits: \x00", ": not valid YAML: it has a character that YAML does not allow", id="NUL"),
        pytest.param("limits: \ud800", ": the file is not UTF-8", id="a lone surrogate"),
        pytest.param("#" * (MAX_BYTES + 1), f": the file is larger than {MAX_BYTES} bytes", id="too large"),
        pytest.param(
            "limits:\n- type: queries\n  value: 1\n  labels: {}",
            ", line 4: limits[0].labels: expected 1 to 16 labels",
            id="no label",
        ),
        pytest.param(
            "limits:\n- type: queries\n  value: 1\n  labels: {" + ",".join(f"l{n}: v" for n in range(17)) + "}",
            ", line 4: limits[0].labels: expected 1 to 16 labels",
            id="many labels",
        ),
        pytest.param(
            "limits:\n- type: queries\n  value: 1\n  labels: [team]",
            ", line 4: limits[0].labels: expected keys and values, got a list",
            id="a list of labels",
        ),
        pytest.param(
            "limits:\n- type: queries\n  value: 1\n  labels: {env: no}",
            ', line 4: limits[0].labels.env: expected text, got "no" of YAML\'s type bool',
            id="a label value that YAML takes for a bool",
        ),
        *(
            pytest.param(
                f"limits:\n- type: queries\n  value: 1\n  class: {name}",
                ", line 4: limits[0].class: expected the name of a class: 1 to 64 letters, digits, dots, _ or -",
                id=f"the class {name[:10]}",
            )
            for name in ("''", "'a b'", "'{plan}'", "brönze", "a" * 65)
        ),
        pytest.param(
            "limits:\n- type: queries\n  value: 5\n  burst: 6",
            ', line 4: limits[0].burst: expected an integer of 1 to 5 in decimal notation, got "6"',
            id="a burst beyond its limit",
        ),
        pytest.param(
            "limits:\n- type: rows_inserted\n  value: 5\n  burst: 1",
            ", line 4: limits[0].burst: only queries have a burst",
            id="a burst of rows",
        ),
        pytest.param(
            "limits:\n- {type: queries, value: 5, burst: 1}\n- {type: queries, value: 5, resolution: hour, burst: 2}",
            ", line 3: limits[1]: this burst repeats the one in line 2",
            id="two bursts",
        ),
        pytest.param(
            "limits:\n- {type: queries, value: 1, class: a}\n- {type: queries, value: 2, class: a}",
            ", line 3: limits[1]: this limit repeats the one in line 2",
            id="a class twice",
        ),
        *(
            pytest.param(
                f"limits:\n- type: queries\n  value: 1\n  labels: {{{label}}}",
                f", line 4: limits[0].labels.{path}: expected a label that a token can carry, neither part empty",
                id=f"the label {label}",
            )
            for label, path in [("a: ''", "a"), ("'': b", ""), ("'a=b': c", "a=b"), ('a: "\\n"', "a")]
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(text: str, error: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_limits(text, NAME)
    assert str(caught.value).startswith(NAME + error)
    assert "\n" not in str(caught.value)


@each(
    ("value", "got"),
    [
        ("0", '"0"'),
        ("-1", '"-1"'),
        ("+1", '"+1"'),
        (str(MAX_VALUE + 1), f'"{MAX_VALUE + 1}"'),
        ("9" * 5000, '"' + "9" * 40 + '..."'),
        ("010", '"010"'),
        ("0x10", '"0x10"'),
        ("1_000", '"1_000"'),
        ("1:30", '"1:30"'),
        ("1.5", '"1.5" of YAML\'s type float'),
        ("1e3", "text"),
        (".inf", '".inf" of YAML\'s type float'),
        ("'1'", "text"),
        ("yes", '"yes" of YAML\'s type bool'),
        ("null", "nothing"),
        ("", "nothing"),
        ("[1]", "a list"),
        ("{}", "keys and values"),
        ("1k", "text"),
    ],
)
def test_a_value_is_a_decimal_integer_above_zero(value: str, got: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_limits(f"limits:\n- type: queries\n  value: {value}\n", NAME)
    expected = f"expected an integer of 1 to {MAX_VALUE} in decimal notation"
    assert str(caught.value) == f"{NAME}, line 3: limits[0].value: {expected}, got {got}"


@each("value", ["-1", "4294967296", "'1'", "1.0"])
@each("key", ["account_id", "project_id"])
def test_a_tenant_is_two_numbers_of_32_bits(key: str, value: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"line 4: limits\[0\]\.{key}: expected an integer of 0 to 4294967295"
    ):
        read_limits(f"limits:\n- type: queries\n  value: 1\n  {key}: {value}\n", NAME)


def test_the_number_of_limits_with_labels_is_bounded() -> None:
    def text(number: int) -> str:
        return "limits:\n" + "".join(f"- {{type: queries, value: 1, labels: {{l: v{n}}}}}\n" for n in range(number))

    assert len(read_limits(text(MAX_LABELLED), NAME).limits) == MAX_LABELLED
    with pytest.raises(ConfigurationError, match=rf"line {MAX_LABELLED + 2}: .*more than {MAX_LABELLED} limits with"):
        read_limits(text(MAX_LABELLED + 1), NAME)


def test_not_even_the_error_of_a_wrong_byte_shows_it() -> None:
    with pytest.raises(ConfigurationError, match=f"^{NAME}: the file is not UTF-8$"):
        read_limits(b"limits: \xff", NAME)


_FRAGMENTS = st.sampled_from(
    ["limits:", "\n- ", "\n  ", "type: ", "queries", "value: ", "1", "{", "}", "[", "]", ",", ": ", "&a", "*a", "<<",
     "!", "!!int ", "---", "\n", "'", '"', "#", "|", ">", "?", "%", "@", "`", "scope: total", "labels: ", "\t",
     "\u2028", "\x85", "0o7"]
)  # fmt: skip


@given(st.one_of(st.binary(), st.text(), st.lists(_FRAGMENTS).map("".join)))
@example("!<tag:yaml.org,2002:str> {a: b}")
@example("limits: ! [a]")
@example("? ? ? a")
@example("[" * 100_000)
def test_anything_gives_limits_or_our_error(text: str | bytes) -> None:
    said = ""
    limits: tuple[Limit, ...] = ()
    try:
        limits = read_limits(text, NAME).limits
    except ConfigurationError as error:
        said = str(error)
    assert said.startswith(NAME) or not said
    assert "\n" not in said
    assert all(1 <= limit.value <= MAX_VALUE for limit in limits)


@pytest.mark.parametrize("limit_type", ["new_series", "active_series"])
def test_a_datasource_or_the_gateway_must_be_able_to_measure_series(limit_type: str) -> None:
    plain, counted = limit(limit_type, 1), limit("queries", 1, labels=(("a", "b"),))
    by_label, by_class = limit(limit_type, 1, labels=(("a", "b"),)), limit(limit_type, 1, limit_class="c")
    check_measurable([counted, plain], NAME, datasource=True)
    check_measurable([counted, plain, by_label, by_class], NAME, datasource=False)
    for wrong in (by_label, by_class):
        with pytest.raises(ConfigurationError, match=f"^{NAME}: a datasource cannot measure {limit_type} by the "):
            check_measurable([counted, plain, wrong], NAME, datasource=True)


def test_a_class_that_a_grant_names_must_have_a_limit() -> None:
    limits = LimitFile(limits=(limit("queries", 1, limit_class="bronze"), limit("queries", 1)))
    check_classes({"bronze": "policy.yaml, line 3: match[0].grant.limits"}, limits)
    with pytest.raises(ConfigurationError) as caught:
        check_classes({"bronze": "x", "gold": "policy.yaml, line 7: match[1].grant.limits"}, limits)
    error = "policy.yaml, line 7: match[1].grant.limits: no limit of -ratelimit.config has the class gold"
    assert str(caught.value) == error


def test_limits_of_concurrent_requests() -> None:
    text = """\
limits:
- {type: concurrency, value: 4}
- {type: concurrency, value: 8, account_id: 1, mode: observe}
- {type: concurrency, value: 20, scope: total}
- {type: concurrency, value: 2, labels: {team: dev}, class: bronze}
- {type: queries, value: 1}
"""
    file = read_limits(text, NAME)
    assert file.concurrency == (
        limit("concurrency", 4, ""),
        limit("concurrency", 8, "", tenant=TenantID(1), observe=True),
        limit("concurrency", 20, "", total=True),
        limit("concurrency", 2, "", labels=(("team", "dev"),), limit_class="bronze"),
    )
    assert file.limits == (limit("queries", 1),)
    assert str(file) == "5 limits, 0 guards"
    check_classes({"bronze": "policy.yaml, line 3"}, file)
    check_measurable(file.concurrency, NAME, datasource=True)


@each(
    ("more", "reason"),
    [
        pytest.param("resolution: minute", "resolution: concurrent requests have no window", id="a window"),
        pytest.param("burst: 1", "burst: only queries have a burst", id="a burst"),
    ],
)
def test_concurrent_requests_have_no_window(more: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_limits(f"limits:\n- type: concurrency\n  value: 1\n  {more}", NAME)
    assert str(caught.value) == f"{NAME}, line 4: limits[0].{reason}"


# --- guards --------------------------------------------------------------------------------------------------------


def _expected(member: str, text: str) -> str:
    return f'guards[0].{member}: expected a duration such as 15s or 30d, of 1ms to 100y, got "{text}"'


GUARDS = """\
guards:
- max_range: 30d
  min_step: 15s
  max_points: 11000
  max_lookback: 1d12h
  timeout: 1500ms
- {max_range: 90d, account_id: 1}
- {deny_pattern: '=~"[.][*]"', mode: observe}
- {max_range: 1h, labels: {team: dev}, class: bronze, project_id: 5}
"""


def test_guards() -> None:
    file = read_limits(GUARDS, NAME)
    assert [guard.as_json() for guard in file.guards] == [
        {"guard": "max_range", "value": "30d", "scope": "tenant"},
        {"guard": "min_step", "value": "15s", "scope": "tenant"},
        {"guard": "max_points", "value": "11000", "scope": "tenant"},
        {"guard": "max_lookback", "value": "1d12h", "scope": "tenant"},
        {"guard": "timeout", "value": "1500ms", "scope": "tenant"},
        {"guard": "max_range", "value": "90d", "scope": "1:0"},
        {"guard": "deny_pattern", "value": '=~"[.][*]"', "scope": "tenant", "mode": "observe"},
        {"guard": "max_range", "value": "1h", "scope": '0:5{team="dev"}', "class": "bronze"},
    ]
    assert [guard.value for guard in file.guards] == [2_592_000, 15, 11_000, 129_600, 1.5, 7_776_000, 0, 3600]
    assert (file.limits, str(file)) == ((), "0 limits, 8 guards")
    assert str(file.guards[-2]) == 'deny_pattern =~"[.][*]" (mode: observe)'
    assert str(file.guards[-1]) == "max_range 1h, class bronze"
    check_classes({"bronze": "policy.yaml, line 3"}, file)


@each(
    ("seconds", "text"),
    [
        (0.0015, "2ms"), (0.25, "250ms"), (1.0, "1s"), (1.5, "1500ms"), (59.0, "59s"), (60.0, "1m"), (90.0, "1m30s"),
        (86_400.0, "1d"), (86_400.1, "1d1s"), (90_061.0, "1d1h1m1s"), (31_536_000.0, "365d"),
    ],
)  # fmt: skip
def test_durations_in_words(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


@each(
    ("item", "reason"),
    [
        pytest.param("mode: observe", "guards[0]: guards nothing; expected one of max_range, min_step, max_points, "
                     "max_lookback, deny_pattern, timeout", id="nothing"),
        pytest.param("max_rang: 30d", "guards[0].max_rang: unknown key; known are max_range, min_step, max_points, "
                     "max_lookback, deny_pattern, timeout, account_id, project_id, labels, class, mode", id="a key"),
        pytest.param("max_range: 30", _expected("max_range", "30"), id="no unit"),
        pytest.param("max_range: 1.5", _expected("max_range", "1.5"), id="no unit, fraction"),
        pytest.param("max_range: -5m", _expected("max_range", "-5m"), id="negative"),
        pytest.param("max_range: 0s", _expected("max_range", "0s"), id="zero"),
        pytest.param("min_step: 101y", _expected("min_step", "101y"), id="too long"),
        pytest.param("max_points: 0", "guards[0].max_points: expected an integer of 1 to 9007199254740992 in decimal "
                     'notation, got "0"', id="no points"),
        pytest.param("deny_pattern: 'a('", "guards[0].deny_pattern: not a regular expression of RE2: missing ): a(",
                     id="a bad pattern"),
        pytest.param("deny_pattern: 'a*'", "guards[0].deny_pattern: the pattern matches every query", id="matches all"),
        pytest.param("deny_pattern: " + "a" * 1001, "guards[0].deny_pattern: not a regular expression of RE2: longer "
                     "than 1000 bytes", id="a long pattern"),
        pytest.param("timeout: 5s\n  mode: observe", "guards[0].timeout: a timeout refuses nothing, so it cannot be "
                     "observed", id="an observed timeout"),
        pytest.param("max_range: 1d\n  scope: total", "guards[0].scope: unknown key; known are max_range, min_step, "
                     "max_points, max_lookback, deny_pattern, timeout, account_id, project_id, labels, class, mode",
                     id="a total"),
        pytest.param("max_range: 1d\n- {max_points: 5, max_range: 2d, mode: observe}",
                     "guards[1].max_range: this guard repeats the one in line 2", id="twice"),
    ],
)  # fmt: skip
def test_wrong_guards(item: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_limits(f"guards:\n- {item}", NAME)
    line = 2 + item.count("\n") - ("timeout" in item)
    assert str(caught.value) == f"{NAME}, line {line}: {reason}"


def test_the_number_of_guards_with_labels_is_bounded() -> None:
    guards = "".join(f"- {{max_range: 1d, class: c{number}}}\n" for number in range(MAX_LABELLED + 1))
    with pytest.raises(ConfigurationError, match=rf"guards\[{MAX_LABELLED}\]: more than {MAX_LABELLED} guards with"):
        read_limits(f"guards:\n{guards}", NAME)
