"""The answers of the routes for rules, alerts, groups and notifiers, with the client's arguments applied.

The arguments are those of vmalert v1.150 and of Prometheus. The backend does not see them: it would apply them to what
the token may not see, and so tell of it. ``group_limit`` without ``page_num`` is ignored, so that no rule is missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .document import Document, an_object, objects_of, scalars, text_of
from .ownership import LabelChoice
from .rules import Shown, ShownGroup, chosen, rule_fields

Arguments = Mapping[str, Sequence[str]]

FORWARDED: Final = frozenset(("datasource_type", "extended_states"))
"""Arguments that choose by what the token may see of each of its rules, or that only change how a state is told."""
_TYPES: Final = {"alert": "alerting", "record": "recording"}
_STATE_NAMES: Final = {"noData": "nomatch", "normal": "inactive", "error": "unhealthy"}
_TRUE: Final = ("1", "t", "T", "TRUE", "true", "True", "y", "yes")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChoice:
    """Which rules the client asked for."""

    groups: frozenset[str]
    files: frozenset[str]
    names: frozenset[str]
    states: frozenset[str]
    type: str
    search: str
    labels: LabelChoice

    def __call__(self, group: ShownGroup, rule: Shown) -> bool:
        name, group_name = text_of(rule.fields, "name", "rule"), text_of(group.source, "name", "group")
        file = group.file if rule.defined else ""
        if self.search and not any(self.search in text.lower() for text in (name, group_name, file)):
            return False
        return (
            (not self.groups or group_name in self.groups)
            and (not self.files or file in self.files)
            and (not self.names or name in self.names)
            and (not self.type or rule.fields.get("type") == self.type)
            and (not self.states or rule.state in self.states)
            and self.labels.matches(rule.labels)
        )


def choice_of(arguments: Arguments, *, rules: bool) -> RuleChoice:
    """Read the client's choice. ``rules``: it chooses rules, and not alerts of rules.

    Raises:
        SelectorError: a ``match[]`` cannot be read.
        FiltersIgnored: a ``match[]`` cannot be applied.
    """
    states = arguments.get("state") or arguments.get("filter") or ()
    wanted = first(arguments, "type")
    named = {name for text in states for name in text.split(",") if name}
    return RuleChoice(
        groups=frozenset(arguments.get("rule_group[]", ())),
        files=frozenset(arguments.get("file[]", ())),
        names=frozenset(arguments.get("rule_name[]", ())) if rules else frozenset(),
        states=frozenset(_STATE_NAMES.get(name, name) for name in named) if rules else frozenset(),
        type=_TYPES.get(wanted, wanted) if rules else "",
        search=first(arguments, "search").lower() if rules else "",
        labels=LabelChoice(arguments.get("match[]", ()) if rules else ()),
    )


def first(arguments: Arguments, name: str) -> str:
    """Return the first value of an argument, or ""."""
    return next(iter(arguments.get(name, ())), "")


def rules_answer(groups: Sequence[ShownGroup], arguments: Arguments) -> dict[str, object]:
    """Return the answer of ``/api/v1/rules``, with vmalert's pages if the client asks for one."""
    found = chosen(groups, choice_of(arguments, rules=True))
    alerts = first(arguments, "exclude_alerts") not in _TRUE
    answer: dict[str, object] = {"status": "success"}
    page, size = _number(first(arguments, "page_num")), _number(first(arguments, "group_limit"))
    if page and size:
        total = len(found)
        answer |= {
            "page": page,
            "total_pages": max(-(-total // size), 1),
            "total_groups": total,
            "total_rules": sum(len(group.rules) for group in found),
        }
        found = found[(page - 1) * size : page * size]
    return answer | {"data": {"groups": [_group(group, alerts=alerts) for group in found]}}


def alerts_answer(groups: Sequence[ShownGroup], arguments: Arguments) -> dict[str, object]:
    """Return the answer of ``/api/v1/alerts``."""
    found = chosen(groups, choice_of(arguments, rules=False))
    labels = LabelChoice(arguments.get("match[]", ()))
    alerts = [alert for group in found for rule in group.rules for alert, own in rule.alerts if labels.matches(own)]
    return {"status": "success", "data": {"alerts": sorted(alerts, key=lambda alert: str(alert.get("id", "")))}}


def group_answer(groups: Sequence[ShownGroup], arguments: Arguments) -> dict[str, object] | None:
    """Return the group that the client asks for by its ID, or None if the token has none with it."""
    wanted = first(arguments, "group_id")
    return next((_group(group, alerts=True) for group in groups if wanted and group.source.get("id") == wanted), None)


def rule_answer(groups: Sequence[ShownGroup], arguments: Arguments) -> dict[str, object] | None:
    """Return one rule, without its last evaluations: each holds a request with the datasource's address."""
    wanted = first(arguments, "group_id"), first(arguments, "rule_id")
    for group in groups:
        for rule in group.rules:
            if all(wanted) and (group.source.get("id"), rule.fields.get("id")) == wanted:
                return rule_fields(rule)
    return None


def alert_answer(groups: Sequence[ShownGroup], arguments: Arguments) -> dict[str, object] | None:
    """Return one alert."""
    wanted = first(arguments, "group_id"), first(arguments, "alert_id")
    for group in groups:
        for rule in group.rules:
            for alert, _ in rule.alerts:
                if all(wanted) and (group.source.get("id"), alert.get("id")) == wanted:
                    return alert
    return None


def notifiers_answer(document: Document) -> dict[str, object]:
    """Return the notifiers without addresses, labels and errors. Raises ``FieldError``."""
    notifiers = objects_of(an_object(document.get("data"), "data"), "notifiers", "data.notifiers")
    hidden = [
        scalars(notifier, ("kind",))
        | {
            "targets": [
                {"address": "", "labels": {}, "lastError": ""} for _ in objects_of(notifier, "targets", "targets")
            ]
        }
        for notifier in notifiers
    ]
    return {"status": "success", "data": {"notifiers": hidden}}


def _group(group: ShownGroup, *, alerts: bool) -> dict[str, object]:
    return group.fields([rule_fields(rule, alerts=alerts) for rule in group.rules])


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
