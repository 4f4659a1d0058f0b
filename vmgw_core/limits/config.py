"""The file of ``-ratelimit.config``: YAML text -> limits, limits of concurrent requests, and guards.

The specification, "Rate Limiter", defines the form. Unknown keys are refused, and the error names the file, the line
and the key. Beyond the specification are ``scope: total``, for the sum over all tenants, ``labels``, for tokens that
carry those ``extra_labels``, ``class``, for tokens whose grant names it, and ``mode: observe``, for a limit that
refuses nothing. ``zone`` says where days and months begin. ``burst`` makes a second limit: the most in any second::

    zone: Europe/Berlin          # UTC is the default
    limits:
      - type: queries            # or another LimitType
        value: 1000
        resolution: minute       # minute (the default), hour, day or month
        burst: 50
        account_id: 1            # either makes it the tenant's own limit; the other is then 0
        project_id: 5
      - {type: rows_inserted, value: 1000000, scope: total}
      - {type: queries, value: 100, labels: {team: dev}}
      - {type: queries, value: 50, class: bronze}
      - {type: queries, value: 500, resolution: hour, mode: observe}
      - {type: concurrency, value: 4}

    guards:                      # what a single query may ask for
      - {max_range: 30d, min_step: 15s, max_points: 11000, max_lookback: 7d, timeout: 30s}
      - {max_range: 90d, account_id: 1}
      - {deny_pattern: '__name__=~"[.][*]"', mode: observe}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

import yaml

from vmgw_core.access.expressions import Expression, compile_expression
from vmgw_core.base import CONTROL, MAX_NUMBER, Labels, TenantID, YamlFile, printable, quoted, scope_of
from vmgw_core.base.yaml_nodes import child, line_of
from vmgw_core.configuration.values import parse_duration
from vmgw_core.errors import ConfigurationError

from .guards import Guard, Member
from .model import MAX_VALUE, MEASURED, Limit, LimitType, Resolution

MAX_BYTES: Final = 1 << 20
MAX_LABELLED: Final = 1000
"""The most limits with labels or a class: each is compared with every token."""
MAX_LABELS: Final = 16
_SHORTEST: Final = 0.001
_LONGEST: Final = 100 * 365 * 86400.0

_UTC: Final = "UTC"
_GUARD_KEYS: Final = ("account_id", "project_id", "labels", "class", "mode")
_KEYS: Final = ("type", "value", "resolution", "account_id", "project_id", "scope", "labels", "class", "mode", "burst")


class _Scope(StrEnum):
    TENANT = "tenant"
    TOTAL = "total"


class _Resolution(StrEnum):
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class _Mode(StrEnum):
    ENFORCE = "enforce"
    OBSERVE = "observe"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFile:
    """What a file says."""

    limits: tuple[Limit, ...] = ()
    """Those that the ``Limiter`` counts."""
    concurrency: tuple[Limit, ...] = ()
    """Those of concurrent requests."""
    guards: tuple[Guard, ...] = ()

    def __str__(self) -> str:
        """Tell how many there are, a burst and each member of a guard counted by themselves."""
        return f"{len(self.limits) + len(self.concurrency)} limits, {len(self.guards)} guards"

    @property
    def classes(self) -> frozenset[str]:
        """The classes that something in the file is for."""
        return frozenset(rule.limit_class for rules in (self.limits, self.concurrency, self.guards) for rule in rules)


def read_limits(text: str | bytes, name: str) -> LimitFile:
    """Read the whole text of a file; ``name`` has no credentials.

    Raises ``ConfigurationError``, which names the file, the line, the key and what was expected there.
    """
    return _File(name).read(text)


def check_measurable(limits: Iterable[Limit], name: str, *, datasource: bool) -> None:
    """Raise ``ConfigurationError`` for a limit that nothing can measure.

    ``datasource``: whether there is a ``-datasource.url``, which measures series.
    """
    for limit in limits:
        if datasource and limit.tokens and not limit.type.counted:
            raise ConfigurationError(
                f"{name}: a datasource cannot measure {limit.type} by the labels or the class of tokens: leave out "
                "-datasource.url, so that the gateway counts series itself"
            )


def check_classes(named: Mapping[str, str], file: LimitFile) -> None:
    """Raise ``ConfigurationError`` if a grant names a class that no limit has: its token would not be limited.

    ``named``: where the first grant with each class is.
    """
    for name, place in named.items():
        if name not in file.classes:
            raise ConfigurationError(f"{place}: no limit of -ratelimit.config has the class {name}")


class _File(YamlFile):
    def read(self, text: str | bytes) -> LimitFile:
        root = self.compose(self.decoded(text, MAX_BYTES))
        fields = dict(self.members(root, "", ("limits", "guards", "zone")))
        if not {"limits", "guards"} & fields.keys():
            self.refuse("limits: missing; expected a list of limits", root)
        zone = self.zone(fields["zone"]) if "zone" in fields else _UTC
        limits = self.limits(fields["limits"], zone) if "limits" in fields else ()
        return LimitFile(
            limits=tuple(limit for limit in limits if limit.type is not LimitType.CONCURRENCY),
            concurrency=tuple(limit for limit in limits if limit.type is LimitType.CONCURRENCY),
            guards=self.guards(fields["guards"]) if "guards" in fields else (),
        )

    def limits(self, node: yaml.Node, zone: str) -> tuple[Limit, ...]:
        limits: dict[tuple[object, ...], tuple[Limit, int]] = {}
        by_token = 0
        for index, item in enumerate(self.items(node, "limits", "a list of limits")):
            path = f"limits[{index}]"
            for limit in self.limit(item, path, zone):
                by_token += bool(limit.tokens)
                if by_token > MAX_LABELLED:
                    self.refuse(f"{path}: more than {MAX_LABELLED} limits with labels or a class", item)
                first = limits.setdefault((limit.tenant, limit.total, limit.slot), (limit, line_of(item)))
                if first[0] is not limit:
                    what = "this burst" if limit.is_burst else "this limit"
                    self.refuse(f"{path}: {what} repeats the one in line {first[1]}", item)
        return tuple(limit for limit, _ in limits.values())

    def zone(self, node: yaml.Node) -> str:
        """Return the name of a time zone of the system."""
        name = self.text(node, "zone")
        try:
            ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            self.refuse(f"zone: this system has no time zone {quoted(name, 60)}; expected one like Europe/Berlin", node)
        return name

    def limit(self, node: yaml.Node, path: str, zone: str) -> Iterator[Limit]:
        """Yield the limit, and that of its burst. ``zone`` is for days and months."""
        fields = dict(self.members(node, path, _KEYS))
        for key in ("type", "value"):
            if key not in fields:
                self.refuse(f"{path}.{key}: missing", node)
        limit_type = self.choice(fields["type"], f"{path}.type", LimitType)
        value = self.integer(fields["value"], f"{path}.value", 1, MAX_VALUE)
        resolution, scope, mode = Resolution.MINUTE, _Scope.TENANT, _Mode.ENFORCE
        labels: Labels = ()
        limit_class = ""
        if limit_type is LimitType.CONCURRENCY:
            if "resolution" in fields:
                self.refuse(f"{path}.resolution: concurrent requests have no window", fields["resolution"])
            resolution = Resolution.MOMENT
        if "resolution" in fields:
            resolution = Resolution(self.choice(fields["resolution"], f"{path}.resolution", _Resolution))
            if not limit_type.counted and resolution not in MEASURED:
                self.refuse(
                    f"{path}.resolution: nothing can measure {limit_type} by {resolution}", fields["resolution"]
                )
        if "scope" in fields:
            scope = self.choice(fields["scope"], f"{path}.scope", _Scope)
        if "mode" in fields:
            mode = self.choice(fields["mode"], f"{path}.mode", _Mode)
        if "labels" in fields:
            labels = self.labels(fields["labels"], f"{path}.labels")
        if "class" in fields:
            limit_class = self.limit_class(fields["class"], f"{path}.class")
        tenant = self.tenant(fields, path)
        if scope is _Scope.TOTAL and tenant is not None:
            self.refuse(f"{path}.scope: total is for all tenants, but this limit names one", fields["scope"])
        limit = Limit(
            type=limit_type,
            resolution=resolution,
            value=value,
            tenant=tenant,
            total=scope is _Scope.TOTAL,
            labels=labels,
            limit_class=limit_class,
            observe=mode is _Mode.OBSERVE,
        )
        if limit.is_calendar:
            limit = replace(limit, zone=zone)
        yield limit
        if "burst" in fields:
            if limit_type is not LimitType.QUERIES:
                self.refuse(f"{path}.burst: only queries have a burst", fields["burst"])
            burst = self.integer(fields["burst"], f"{path}.burst", 1, value)
            yield replace(limit, resolution=Resolution.SECOND, value=burst, zone=_UTC)

    def guards(self, node: yaml.Node) -> tuple[Guard, ...]:
        guards: dict[tuple[object, ...], tuple[Guard, int]] = {}
        by_token = 0
        for index, item in enumerate(self.items(node, "guards", "a list of guards")):
            path = f"guards[{index}]"
            for guard in self.guard(item, path):
                by_token += bool(guard.labels or guard.limit_class)
                if by_token > MAX_LABELLED:
                    self.refuse(f"{path}: more than {MAX_LABELLED} guards with labels or a class", item)
                first = guards.setdefault(scope_of(guard), (guard, line_of(item)))
                if first[0] is not guard:
                    self.refuse(f"{path}.{guard.member}: this guard repeats the one in line {first[1]}", item)
        return tuple(guard for guard, _ in guards.values())

    def guard(self, node: yaml.Node, path: str) -> Iterator[Guard]:
        """Yield the members of a guard, with its scope."""
        fields = dict(self.members(node, path, (*Member, *_GUARD_KEYS)))
        observe = "mode" in fields and self.choice(fields["mode"], f"{path}.mode", _Mode) is _Mode.OBSERVE
        scope = Guard(
            member=Member.MAX_RANGE,
            tenant=self.tenant(fields, path),
            labels=self.labels(fields["labels"], f"{path}.labels") if "labels" in fields else (),
            limit_class=self.limit_class(fields["class"], f"{path}.class") if "class" in fields else "",
            observe=observe,
        )
        found = [member for member in Member if member in fields]
        if not found:
            self.refuse(f"{path}: guards nothing; expected one of {', '.join(Member)}", node)
        for member in found:
            value, place = fields[member], f"{path}.{member}"
            if member is Member.DENY_PATTERN:
                pattern, expression = self.pattern(value, place)
                yield replace(scope, member=member, pattern=pattern, expression=expression)
            elif member is Member.MAX_POINTS:
                yield replace(scope, member=member, value=self.integer(value, place, 1, MAX_VALUE))
            elif member is Member.TIMEOUT and observe:
                self.refuse(f"{place}: a timeout refuses nothing, so it cannot be observed", value)
            else:
                yield replace(scope, member=member, value=self.duration(value, place))

    def duration(self, node: yaml.Node, path: str) -> float:
        text = self.scalar(node, path)
        try:
            seconds = parse_duration(text)
        except ValueError:
            seconds = 0.0
        if text[-1].isdigit() or not _SHORTEST <= seconds <= _LONGEST:
            self.refuse(f"{path}: expected a duration such as 15s or 30d, of 1ms to 100y, got {quoted(text, 40)}", node)
        return seconds

    def pattern(self, node: yaml.Node, path: str) -> tuple[str, Expression]:
        text = self.text(node, path)
        try:
            expression, _ = compile_expression(text)
        except ValueError as error:
            self.refuse(f"{path}: not a regular expression of RE2: {printable(str(error))}", node)
        if expression.search("") is not None:
            self.refuse(f"{path}: the pattern matches every query", node)
        return text, expression

    def tenant(self, fields: dict[str, yaml.Node], path: str) -> TenantID | None:
        numbers = [
            self.integer(fields[key], f"{path}.{key}", 0, MAX_NUMBER) if key in fields else None
            for key in ("account_id", "project_id")
        ]
        if numbers == [None, None]:
            return None
        return TenantID(numbers[0] or 0, numbers[1] or 0)

    def labels(self, node: yaml.Node, path: str) -> Labels:
        """Return the labels, sorted, so that one set of labels is one limit."""
        labels = []
        for name, value in self.members(node, path, None):
            text = self.text(value, child(path, name))
            if not name or "=" in name or CONTROL.search(name + text) or not text:
                self.refuse(f"{child(path, name)}: expected a label that a token can carry, neither part empty", value)
            labels.append((name, text))
        if not 0 < len(labels) <= MAX_LABELS:
            self.refuse(f"{path}: expected 1 to {MAX_LABELS} labels", node)
        return tuple(sorted(labels))
