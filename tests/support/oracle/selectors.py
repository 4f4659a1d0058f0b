"""A model of which series a selector matches, and random selectors: what a token lets through is known beforehand.

The model knows nothing of VictoriaMetrics' indexes. A series matches if it matches all matchers of one alternative;
a label that it has not is the empty text; a regular expression matches the whole value.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any, Final

from tests.support.oracle.requests import SAMPLES, START
from vmgw_core.tokens.selector import Matcher, Selector, parse_selector

Labels = dict[str, str]

NAMES: Final = ("total", "secret_total", "total_secret", "tot", "other", "x_total", "totaltotal")
TEAMS: Final = ("dev", "ops", "devops", "")
JOBS: Final = ("j", "k", "")

TOKENS: Final[dict[str, dict[str, Any]]] = {
    "label": {"extra_labels": {"team": "dev"}},
    "filter": {"extra_filters": ['{team="dev"}']},
    "regex": {"extra_filters": ['{team=~"dev|x"}']},
    "negative": {"extra_filters": ['{team!="ops",team!=""}']},
    "negative regex": {"extra_filters": ['{team!~"ops|devops|"}']},
    "empty": {"extra_filters": ['{team=""}']},
    "two filters": {"extra_filters": ['{team="dev",job="j"}', '{team="devops"}']},
    "or": {"extra_filters": ['{team="dev",job="j" or team="devops"}']},
    "label and filter": {"extra_labels": {"job": "j"}, "extra_filters": ['{team=~"dev|ops"}']},
    "name label": {"extra_labels": {"__name__": "total"}},
    "name filter": {"extra_filters": ['{__name__="total"}']},
    "bare name": {"extra_filters": ["total"]},
    "name regex": {"extra_filters": ['{__name__=~"total|other"}']},
    "name prefix": {"extra_filters": ['{__name__=~"tot.*"}']},
    "name negative": {"extra_filters": ['{__name__!~"secret.*|x_total"}']},
    "name and team": {"extra_labels": {"team": "dev"}, "extra_filters": ['{__name__="total"}']},
    "name and label": {"extra_filters": ['total{team="dev"}', 'other{job="k"}']},
}

_OPERATORS: Final = ("=", "=", "!=", "=~", "=~", "=~", "!~")
_PLAIN: Final[dict[str, tuple[str, ...]]] = {
    "__name__": (*NAMES, "absent"),
    "team": TEAMS,
    "job": JOBS,
    "host": ("h_a", "h_b", "h_ab", ""),
    "absent": ("", "x"),
}
_PATTERNS: Final[dict[str, tuple[str, ...]]] = {
    "__name__": (
        "secret_(total|x)", "t(otal|x)", "total", "tot", "tot.*", "tot.+", ".*total", ".+total", "(secret_)?total",
        "secret_total|total", "total|", "|secret_total", "(total|other|x_total)", "secret_tot(al|)", "(|secret_)total",
        "x?_?total", "total(total|x)", "totaltotal|x", ".*", ".+", "", "sec.+", "total.*total", "(total)", "(?:total)",
        "s|secret_total", "secret_(total)", "[st].*", "tota[l]", "secret_tota[l]", "secret_t(otal|ot)", "(?i)TOTAL",
        "secret_total|secret_x", "total|secret_total|other|x_total|tot", "^total$", "secret_.*", "to(tal|taltotal)",
    ),
    "team": ("dev|ops", "d.*", ".*", ".+", "", "ops", "o(ps|x)", "dev|", "|ops", "(dev|)ops", "de(v|vops)", ".*ops"),
    "job": ("j|k", ".*", ".+", "j", "k|", "", "[jk]"),
    "host": ("h_.*", "h_b.*", "h_(a|b)", ".*b", ".+", ".*", "h_a|", ""),
    "absent": (".*", ".+", "", "x|", "|x"),
}  # fmt: skip


def all_series() -> list[Labels]:
    """Every combination of name, team and job, hosts among them; no two alike."""
    combinations = [(name, team, job) for name in NAMES for team in TEAMS for job in JOBS]
    hosts = ("h_a", "h_b", "h_ab", "")
    series = []
    for number, (name, team, job) in enumerate(combinations):
        labels = {"__name__": name, "team": team, "job": job, "host": hosts[number % 4], "n": str(number)}
        series.append({key: value for key, value in labels.items() if value})
    return series


def rows(series: list[Labels]) -> Iterator[str]:
    """The series in the text format, with their samples; all have the value 1."""
    for labels in series:
        inner = ",".join(f'{key}="{value}"' for key, value in labels.items() if key != "__name__")
        for number in range(SAMPLES):
            yield f"{labels['__name__']}{{{inner}}} 1 {(START + 60 * number) * 1000}\n"


def matches(selector: Selector, labels: Labels) -> bool:
    """Whether a series is among those that the selector means."""
    return any(all(_fits(matcher, labels) for matcher in matchers) for matchers in selector.alternatives)


def grants(vm_access: dict[str, Any], labels: Labels) -> bool:
    """Whether a token with this ``vm_access`` lets a series through."""
    filters = [parse_selector(text) for text in vm_access.get("extra_filters", ())]
    named = vm_access.get("extra_labels", {}).items()
    return all(labels.get(name) == value for name, value in named) and (
        not filters or any(matches(each, labels) for each in filters)
    )


def _fits(matcher: Matcher, labels: Labels) -> bool:
    value = labels.get(matcher.name, "")
    if matcher.operator in ("=", "!="):
        return (value == matcher.value) == (matcher.operator == "=")
    return (re.fullmatch(matcher.value, value) is not None) == (matcher.operator == "=~")


def random_selector(rng: random.Random) -> Selector:
    """A selector; half of them have a regular expression on the metric name."""
    while True:
        selector = Selector(alternatives=(tuple(_matchers(rng)),))
        if _means_the_same(selector):
            return selector


def _means_the_same(selector: Selector) -> bool:
    """Whether VictoriaMetrics and the model agree on what it means.

    VictoriaMetrics reads ``!~".*"`` as "has not this label", and refuses two different metric names in one selector.
    """
    (matchers,) = selector.alternatives
    names = [matcher for matcher in matchers if matcher.name == "__name__" and matcher.operator == "="]
    return len(names) <= 1 and not any(each.operator == "!~" and each.value == ".*" for each in matchers)


def _matchers(rng: random.Random) -> Iterator[Matcher]:
    if rng.random() < 0.6:
        yield _matcher(rng, "__name__")
    for _ in range(rng.choice((1, 1, 2, 3))):
        yield _matcher(rng, rng.choice(("__name__", "team", "team", "job", "job", "host", "absent")))


def _matcher(rng: random.Random, name: str) -> Matcher:
    operator = rng.choice(_OPERATORS)
    pool = _PLAIN if operator in ("=", "!=") else _PATTERNS
    return Matcher(name=name, operator=operator, value=rng.choice(pool[name]))
