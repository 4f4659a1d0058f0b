"""Rules and alerts of vmalert and Prometheus, cut down to what belongs to a token.

Everything is made from ``/api/v1/rules``, whose groups and rules tell to whom an alert belongs; ``/api/v1/alerts`` and
vmalert's ``/api/v1/alert`` do not. Of a rule the token gets

- everything, if its static labels match (``Belonging.OWN``) and all of its alerts do;
- what its file says of it, if they match only because a label is missing, or if an alert does not match: no error, no
  numbers of the last evaluation, which count series of others;
- its name and the matching alerts with their labels and values, if its static labels do not match. The expression,
  annotations and the link may name or hold data of others.

https://prometheus.io/docs/prometheus/latest/querying/api/#rules, and ``app/vmalert/rule/web.go`` for vmalert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.base import TenantID
from vmgw_core.tokens import VMAccessClaim

from .document import Document, an_object, labels_of, objects_of, scalars, text_of
from .ownership import Belonging, Ownership, RulesTenant, ownership_of

_GROUP: Final = ("name", "interval", "lastEvaluation", "type", "id", "concurrency", "eval_offset", "eval_delay",
                 "limit", "tenant")  # fmt: skip
_RULE: Final = ("name", "lastEvaluation", "health", "type", "datasourceType", "id", "group_id", "group_name")
_DEFINITION: Final = ("query", "duration", "keep_firing_for", "keepFiringFor", "file", "debug", "max_updates_entries")
_EVALUATION: Final = ("lastError", "evaluationTime", "lastSamples", "lastSeriesFetched")
_ALERT: Final = ("state", "name", "value", "activeAt", "keepFiringSince", "id", "rule_id", "group_id", "restored",
                 "stabilizing")  # fmt: skip
_ALERT_DEFINITION: Final = ("expression", "source")
_ACTIVE: Final = ("firing", "pending")
_STATES: Final = frozenset(("", "ok", "inactive", "nomatch", "unhealthy", "unknown", *_ACTIVE))
_BLANK: Final[dict[type, object]] = {str: "", bool: False, int: 0, float: 0}


@dataclass(slots=True)
class Shown:
    """A rule as the token sees it."""

    fields: dict[str, object]
    labels: dict[str, str]
    """The labels that the token may know of the rule."""
    alerts: list[tuple[dict[str, object], dict[str, str]]]
    """The alerts that belong to the token, each with its labels."""
    defined: bool
    """Whether the token may know how the rule is defined."""

    @property
    def state(self) -> object:
        return self.fields["state"]


@dataclass(slots=True)
class ShownGroup:
    """A group with at least one rule that the token sees."""

    source: Document
    file: str
    """The file, or "" if the token may not know it."""
    rules: list[Shown] = field(default_factory=list)

    def fields(self, rules: Sequence[dict[str, object]]) -> dict[str, object]:
        """Return the group as JSON with ``rules``, and their states counted anew."""
        found = scalars(self.source, _GROUP)
        if "file" in self.source:
            found["file"] = self.file
        found["rules"] = list(rules)
        if "states" in self.source:
            found["states"] = dict(Counter(str(rule["state"]) for rule in rules))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFilter:
    """Finds the groups of a token. ``tenants`` is None on a single node."""

    ownership: Ownership
    tenants: RulesTenant | None

    def groups(self, document: Document) -> tuple[list[ShownGroup], int]:
        """Return the groups of an answer of ``/api/v1/rules`` that have rules of the token, and the sum of all rules.

        Raises:
            FieldError: the answer does not have the expected form.
        """
        groups = objects_of(an_object(document.get("data"), "data"), "groups", "data.groups")
        found = []
        total = 0
        for group in groups:
            rules = objects_of(group, "rules", "rules")
            total += len(rules)
            shown = ShownGroup(group, "")
            tenant = self._tenant(group)
            shown.rules.extend(self._shown(rules, tenant))
            if any(rule.defined for rule in shown.rules):
                shown.file = text_of(group, "file", "group")
            if shown.rules:
                found.append(shown)
        return found, total

    def _tenant(self, group: Document) -> TenantID | None:
        if self.tenants is None or self.tenants.always is not None:
            return None if self.tenants is None else self.tenants.always
        try:
            return TenantID.parse(text_of(group, "tenant", "group"))
        except ValueError:
            return None  # it belongs to nobody

    def _shown(self, rules: Sequence[Document], tenant: TenantID | None) -> Iterator[Shown]:
        for rule in rules:
            labels = labels_of(rule, "rule.labels")
            metric = text_of(rule, "name", "rule") if rule.get("type") == "recording" else ""
            belonging = self.ownership.of_rule(labels, tenant, metric)
            everything = [(alert, labels_of(alert, "alert.labels")) for alert in objects_of(rule, "alerts", "alerts")]
            own = [each for each in everything if self.ownership.has_alert(each[1], tenant)]
            if belonging is Belonging.NONE and not own:
                continue
            if belonging is Belonging.OWN and len(own) < len(everything):
                belonging = Belonging.ABSENT
            yield _rule(rule, labels, own, belonging)


def rule_filter(claims: Sequence[VMAccessClaim], tenants: RulesTenant | None) -> RuleFilter:
    """Return the filter for what belongs to one of ``claims``. Raises ``FiltersIgnored``: see ``ownership_of``."""
    return RuleFilter(ownership=ownership_of(claims, tenants), tenants=tenants)


def _rule(
    rule: Document, labels: dict[str, str], alerts: Sequence[tuple[Document, dict[str, str]]], belonging: Belonging
) -> Shown:
    defined = belonging is not Belonging.NONE
    found: dict[str, object] = {"state": _state(rule, alerts)} | scalars(rule, _RULE)
    found |= _kept_or_blank(rule, _DEFINITION, keep=defined)
    found |= _kept_or_blank(rule, _EVALUATION, keep=belonging is Belonging.OWN)
    if not defined:  # the labels that all of its alerts have
        labels = {name: value for name, value in labels.items() if all(each.get(name) == value for _, each in alerts)}
    if "labels" in rule:
        found["labels"] = labels
    if "annotations" in rule:
        found["annotations"] = _annotations(rule) if defined else {}
    own = [(_alert(alert, each, defined=defined), each) for alert, each in alerts]
    return Shown(found, labels, own, defined)


def _alert(alert: Document, labels: dict[str, str], *, defined: bool) -> dict[str, object]:
    found = scalars(alert, _ALERT) | _kept_or_blank(alert, _ALERT_DEFINITION, keep=defined)
    return found | {"labels": labels, "annotations": _annotations(alert) if defined else {}}


def _annotations(fields: Document) -> dict[str, str]:
    return labels_of(fields, "annotations", "annotations")


def _kept_or_blank(fields: Document, names: Sequence[str], *, keep: bool) -> dict[str, object]:
    """Return those of the members that are there; if they may not be kept, each with the empty value of its type."""
    found = scalars(fields, names)
    return found if keep else {name: _BLANK[type(value)] for name, value in found.items()}


def _state(rule: Document, alerts: Sequence[tuple[Document, dict[str, str]]]) -> str:
    """Return the state of a rule with only these alerts."""
    states = {alert.get("state") for alert, _ in alerts}
    for state in _ACTIVE:
        if state in states:
            return state
    state = text_of(rule, "state", "rule")
    if state in _ACTIVE:
        return "inactive"
    return state if state in _STATES else "unknown"


Choice = Callable[[ShownGroup, Shown], bool]
"""Whether the client asked for a rule."""


def chosen(groups: Sequence[ShownGroup], choice: Choice) -> list[ShownGroup]:
    """Return the groups with the rules that the client asked for, without groups that have none."""
    found = []
    for group in groups:
        rules = [rule for rule in group.rules if choice(group, rule)]
        if rules:
            found.append(ShownGroup(group.source, group.file, rules))
    return found


def rule_fields(rule: Shown, *, alerts: bool = True) -> dict[str, object]:
    """Return a rule as JSON, with its alerts if they are wanted and there are some."""
    if not alerts or not rule.alerts:
        return rule.fields | ({"alerts": []} if rule.fields.get("type") == "alerting" and alerts else {})
    return rule.fields | {"alerts": [alert for alert, _ in rule.alerts]}
