from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.captured import captured, head, policy, posted
from tests.unit.core.replay.test_flow_file import dumped, read
from vmgw_core.base.strict_json import FieldError
from vmgw_core.replay.record import OWN_PAGE, Captured, from_metadata, to_metadata

CAPTURED = [
    captured(head()),
    captured(head(vm_access={"tenant_id": {"account_id": 5}, "extra_labels": {"a": "b"}})),
    captured(head("/nowhere\udcff")),
    captured(head(token="")),
    captured(posted(b"query=up"), form=b"query=up", sample=0.5),
    replace(captured(head()), rows=7),
    captured(head(), policy()),
    captured(head(token=".".join("xyz"))),
]


@pytest.mark.parametrize("made", CAPTURED, ids=lambda made: str(made.outcome))
def test_writing_and_reading_is_identity(made: Captured) -> None:
    data = to_metadata(made)
    assert from_metadata(data) == made
    assert from_metadata(read(dumped(data))) == made


def test_own_pages_are_no_requests() -> None:
    assert from_metadata(dict(OWN_PAGE)) is None


def broken(**changes: object) -> dict[str, object]:
    return {**to_metadata(CAPTURED[0]), **changes}


OUTCOME: dict[str, Any] = to_metadata(CAPTURED[0])["outcome"]  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (None, "vmgateway"),
        ({}, "version"),
        (broken(version=2), "version"),
        (broken(version=True), "version"),
        (broken(method=b"GET"), "method"),
        (broken(target="/"), "target"),
        (broken(headers={}), "headers"),
        (broken(headers=[[b"a"]]), "headers"),
        (broken(headers=[[b"a", "b"]]), "headers"),
        (broken(headers=[[b"a", b"b"]] * 10_001), "headers"),
        (broken(at="now"), "at"),
        (broken(at=True), "at"),
        (broken(form="text"), "form"),
        (broken(evidence=[]), "evidence"),
        (broken(evidence={"signature": "good", "token": ""}), "evidence.signature"),
        (broken(evidence={"signature": "bad", "token": "", "thumbprints": [1]}), "evidence.thumbprints"),
        (broken(outcome="admitted"), "outcome"),
        (broken(outcome={**OUTCOME, "sent": {"method": "GET"}}), "outcome.sent"),
        (broken(sample=None), "sample"),
        (broken(rows=-1), "rows"),
    ],
)
def test_rejects(data: object, path: str) -> None:
    with pytest.raises(FieldError, match=path):
        from_metadata(data)


@given(
    st.dictionaries(
        st.sampled_from([*to_metadata(CAPTURED[0])]),
        st.none()
        | st.integers()
        | st.text()
        | st.binary()
        | st.lists(st.binary())
        | st.dictionaries(st.text(), st.text()),
    )
)
def test_any_data_gives_a_record_or_an_error(changes: dict[str, object]) -> None:
    try:
        from_metadata(broken(**changes))
    except FieldError:
        return
