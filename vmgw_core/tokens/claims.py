"""The ``vm_access`` claim, with the specification's names and with vmauth's.

The specification, "Access Control": ``tenant_id``, ``extra_labels``, ``extra_filters`` and ``mode``. The newer names
(https://docs.victoriametrics.com/victoriametrics/vmauth/, "JWT") are ``metrics_account_id``,
``metrics_project_id``, ``metrics_extra_labels`` and ``metrics_extra_filters``. Tokens for either program work.

The rules:

- Unknown fields are ignored: the specification's first sample token has ``role``.
- A known field of the wrong type refuses the token. Null is not a default: an identity provider whose mapping failed
  must not issue a token without filters.
- If both names are given, they must mean the same: otherwise two programs would each enforce another half.
- A label or filter that VictoriaMetrics would ignore is refused: it could not be enforced.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from vmgw_core.base import CONTROL, MAX_NUMBER, Access, TenantID, text_bytes
from vmgw_core.base.strict_json import FieldError, as_integer, as_list, as_object, as_text, child, load_object, optional
from vmgw_core.errors import InvalidClaims

from .selector import Matcher, Selector, SelectorError, parse_selector

MAX_LABELS: Final = 64
MAX_FILTERS: Final = 64
MAX_TEXT_BYTES: Final = 32 * 1024
_CLAIM_BYTES: Final = 370
"""The memory of a claim without labels and filters."""
_PAIR_BYTES: Final = 80
VM_ACCESS: Final = "vm_access"
_ONLY_WILDCARDS: Final = re.compile(r"[.*+?:|()^$]*")


class AccessMode(enum.IntFlag):
    """``vm_access.mode``: a bit mask."""

    READ = 1
    WRITE = 2
    FULL = 3

    @classmethod
    def from_claim(cls, value: object, path: str) -> Self:
        """Return the mode for the claim's 0 to 3; 0 is the default, full. Raises ``FieldError``."""
        return cls(as_integer(value, path, minimum=0, maximum=3) or 3)

    def allows(self, access: Access) -> bool:
        """Return whether this mode allows ``access``. A delete needs full access, not only the write bit."""
        return _NEEDED[access] in self


_NEEDED: Final = {Access.READ: AccessMode.READ, Access.WRITE: AccessMode.WRITE, Access.DELETE: AccessMode.FULL}


@dataclass(frozen=True, slots=True, kw_only=True)
class VMAccessClaim:
    tenant: TenantID
    labels: tuple[tuple[str, str], ...]
    """Unique names and their values, in the claim's order."""
    filters: tuple[str, ...]
    """Series selectors, as written in the token."""
    mode: AccessMode
    limit_class: str = ""
    """The class of limits that the grant names. A token cannot name one itself."""
    restricted: bool = field(init=False, repr=False, compare=False)
    """Whether the token is limited to a part of its tenant."""
    memory: int = field(init=False, repr=False, compare=False)
    """The approximate bytes of memory that it takes."""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        labels = sum(_PAIR_BYTES + text_bytes(*pair) for pair in self.labels)
        object.__setattr__(self, "restricted", bool(self.labels or self.filters))
        object.__setattr__(self, "memory", _CLAIM_BYTES + labels + text_bytes(*self.filters))
        object.__setattr__(self, "_hash", hash((self.tenant, self.labels, self.filters, self.mode, self.limit_class)))

    def __hash__(self) -> int:
        return self._hash  # its arguments are looked up for every request

    @classmethod
    def from_claims(cls, claims: Mapping[str, object]) -> Self:
        """Read the access from a token's claims. Raises ``InvalidClaims``, which names the field."""
        value = claims.get(VM_ACCESS)
        if value is None:
            raise InvalidClaims("missing `vm_access` claim")
        return cls.from_value(value)

    @classmethod
    def from_value(cls, value: object, path: str = VM_ACCESS) -> Self:
        """Read the access from the value at ``path``. Raises ``InvalidClaims``, which names the field."""
        try:
            # Some identity providers emit only strings: then the string holds the object.
            fields = load_object(value, path) if isinstance(value, str) else as_object(value, path)
            labels = _labels(fields, path)
            filters = _filters(fields, path)
            _check_size(labels, filters, path)
            return cls(
                tenant=_tenant(fields, path),
                labels=labels,
                filters=filters,
                mode=optional(fields, "mode", AccessMode.from_claim, path) or AccessMode.FULL,
            )
        except FieldError as error:
            raise InvalidClaims(str(error)) from None


def _tenant(fields: Mapping[str, object], path: str) -> TenantID:
    old = optional(fields, "tenant_id", as_object, path)
    old_tenant = None if old is None else _tenant_of(old, child(path, "tenant_id"), "account_id", "project_id")
    new_tenant = None
    if "metrics_account_id" in fields or "metrics_project_id" in fields:
        new_tenant = _tenant_of(fields, path, "metrics_account_id", "metrics_project_id")
    if old_tenant is not None and new_tenant is not None and old_tenant != new_tenant:
        raise FieldError(child(path, "tenant_id"), "differs from metrics_account_id and metrics_project_id")
    return old_tenant or new_tenant or TenantID()


def _tenant_of(fields: Mapping[str, object], path: str, account: str, project: str) -> TenantID:
    return TenantID(optional(fields, account, _number, path) or 0, optional(fields, project, _number, path) or 0)


def _number(value: object, path: str) -> int:
    return as_integer(value, path, minimum=0, maximum=MAX_NUMBER)


def _labels(fields: Mapping[str, object], path: str) -> tuple[tuple[str, str], ...]:
    old = optional(fields, "extra_labels", as_object, path)
    new = optional(fields, "metrics_extra_labels", as_list, path)
    old_labels: dict[str, str] = {}
    for name, value in (old or {}).items():
        place = child(child(path, "extra_labels"), name)
        _add_label(old_labels, place, name, as_text(value, place))
    new_labels: dict[str, str] = {}
    for index, item in enumerate(new or ()):
        place = child(child(path, "metrics_extra_labels"), index)
        name, equals, text = as_text(item, place).partition("=")
        if not equals:
            raise FieldError(place, 'expected "name=value"')
        _add_label(new_labels, place, name, text)
    if old is not None and new is not None and old_labels != new_labels:
        raise FieldError(child(path, "extra_labels"), "differs from metrics_extra_labels")
    return tuple((old_labels or new_labels).items())


def _add_label(labels: dict[str, str], path: str, name: str, value: str) -> None:
    # The claim travels as extra_label=name=value, which is split at the first "=".
    if not as_text(name, path) or "=" in name or CONTROL.search(name):
        raise FieldError(path, 'a label name must not be empty, and has no "=" and no control characters')
    if not value:
        raise FieldError(path, "a label value must not be empty: VictoriaMetrics ignores an empty one on writes")
    if CONTROL.search(value):
        raise FieldError(path, "a label value must not have control characters")
    if labels.setdefault(name, value) != value:
        raise FieldError(path, "the same label with two values")
    if len(labels) > MAX_LABELS:
        raise FieldError(path, f"more than {MAX_LABELS} labels")


def _filters(fields: Mapping[str, object], path: str) -> tuple[str, ...]:
    old = optional(fields, "extra_filters", as_list, path)
    new = optional(fields, "metrics_extra_filters", as_list, path)
    old_filters = _parsed(old or (), child(path, "extra_filters"))
    new_filters = _parsed(new or (), child(path, "metrics_extra_filters"))
    # Filters are ORed, so their order does not matter.
    if old is not None and new is not None and set(old_filters.values()) != set(new_filters.values()):
        raise FieldError(child(path, "extra_filters"), "differs from metrics_extra_filters")
    return tuple(old_filters or new_filters)


def _parsed(items: Sequence[object], path: str) -> dict[str, Selector]:
    if len(items) > MAX_FILTERS:
        raise FieldError(path, f"more than {MAX_FILTERS} filters")
    parsed: dict[str, Selector] = {}
    for index, item in enumerate(items):
        text = as_text(item, child(path, index))
        try:
            parsed[text] = parse_selector(text)
        except SelectorError as error:
            raise FieldError(child(path, index), f"not a series selector: {error}") from None
        if any(_excludes_everything(matcher) for matchers in parsed[text].alternatives for matcher in matchers):
            raise FieldError(
                child(path, index),
                "no series matches this filter, but VictoriaMetrics would return the series without the label",
            )
    return parsed


def _excludes_everything(matcher: Matcher) -> bool:
    """Whether it is ``!~".*"`` or ``!~"|.+"``, in any spelling that has nothing but such parts."""
    if matcher.operator != "!~" or not _ONLY_WILDCARDS.fullmatch(matcher.value):
        return False
    bare = re.sub(r"\?:|[()^$]", "", matcher.value).split("|")
    return ".*" in bare or {"", ".+"} <= set(bare)


def _check_size(labels: tuple[tuple[str, str], ...], filters: tuple[str, ...], path: str) -> None:
    size = sum(len(name.encode()) + len(value.encode()) for name, value in labels)
    size += sum(len(text.encode()) for text in filters)
    if size > MAX_TEXT_BYTES:
        # They go into every upstream URL.
        raise FieldError(path, f"labels and filters of more than {MAX_TEXT_BYTES} bytes")
