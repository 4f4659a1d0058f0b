"""Laws that hold for any answer: nothing foreign is shown, and filtering twice is filtering once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.answers.test_ownership import claim
from tests.unit.core.answers.test_rules import FOREIGN, alert, answered, group, rule
from vmgw_core.answers import Filter, rule_filter
from vmgw_core.answers.document import parse, written
from vmgw_core.errors import BadAnswer
from vmgw_core.routing import Answer
from vmgw_core.tokens import VMAccessClaim

CLAIMS = st.lists(
    st.sampled_from([claim({"team": "dev"}), claim({"team": "dev"}, '{a!="2"}'), claim(None, '{team="dev",a=~"1?"}')]),
    min_size=1,
    max_size=2,
)


@st.composite
def rules(draw: st.DrawFn) -> Mapping[str, object]:
    """A rule of dev, of another team, or of all teams; the text of one that is not dev's is foreign."""
    team = draw(st.sampled_from(["dev", FOREIGN, None, "{{ $labels.team }}"]))
    extra = draw(st.sampled_from([{}, {"a": "1"}, {"a": "2"}]))
    alerts = [
        alert(draw(st.sampled_from(["dev", FOREIGN])), state=draw(st.sampled_from(["firing", "pending"])))
        for _ in range(draw(st.integers(0, 3)))
    ]
    labels = {**extra, **({} if team is None else {"team": team})}
    text = "up" if team == "dev" else FOREIGN
    error = "timeout" if team == "dev" and all(each["labels"]["team"] == "dev" for each in alerts) else FOREIGN  # type: ignore[index]
    kind = draw(st.sampled_from(["alerting", "recording"]))
    own = team == "dev"
    for each in alerts:
        each["expression"] = each["source"] = text
        each["annotations"] = {"summary": text}
    return rule(*alerts, labels=labels, query=text, lastError=error, type=kind, annotations={"a": text},
                file=text if own else FOREIGN)  # fmt: skip


def shown(answer: Answer, claims: list[VMAccessClaim], body: bytes) -> bytes:
    found = Filter(answer=answer, path="/", names_path=None, tenant=None, rules=rule_filter(claims, None))
    return found.apply(200, (), body, (), largest=1 << 20, names=None).body


@given(claims=CLAIMS, groups=st.lists(st.lists(rules(), max_size=4), max_size=3))
def test_nothing_foreign_is_shown_and_twice_is_once(
    claims: list[VMAccessClaim], groups: list[list[Mapping[str, object]]]
) -> None:
    body = answered(*(group(*each, file=FOREIGN if not each else str(each[0]["file"])) for each in groups))
    once = shown(Answer.RULES, claims, body)
    assert shown(Answer.RULES, claims, once) == once
    for each in (once, shown(Answer.ALERTS, claims, body)):
        alerts = json.loads(each)["data"]
        assert FOREIGN not in json.dumps(alerts).replace(f'"file": "{FOREIGN}"', "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "groups", "rules", "labels", "alerts", "name", "type", "annotations", "state"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(body=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_an_answer_or_a_refusal(body: bytes) -> None:
    for answer in (Answer.RULES, Answer.ALERTS, Answer.GROUP):
        with contextlib.suppress(BadAnswer):
            json.loads(shown(answer, [claim({"team": "dev"})], body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=25) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=60,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_writing_in_pieces_is_writing_at_once(document: dict[str, object]) -> None:
    """Lists of some hundred elements have several pieces."""
    text = written(document)
    assert text == json.dumps(document, separators=(",", ":")).encode()
    assert parse(text) == document
