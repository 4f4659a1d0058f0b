"""rules: what a token gets of an answer of ``/api/v1/rules``, member by member."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from tests.support.each import each
from tests.unit.core.answers.test_ownership import ONE, TWO, claim
from vmgw_core.answers import Filter, RulesTenant, rule_filter
from vmgw_core.errors import BadAnswer, BadRequest
from vmgw_core.http import encode_pair
from vmgw_core.routing import Answer
from vmgw_core.tokens import VMAccessClaim

FOREIGN: Final = "secret"


def alert(team: str, *, state: str = "firing", **more: object) -> dict[str, object]:
    return {
        "state": state,
        "name": "A",
        "value": "1",
        "labels": {"alertname": "A", "team": team, "severity": "page"},
        "annotations": {"summary": f"of {team}"},
        "activeAt": "2026-01-01T00:00:00Z",
        "id": f"{team}1",
        "rule_id": "r",
        "group_id": "g",
        "expression": "up == 0",
        "source": "http://vmalert/x",
        "restored": False,
        "stabilizing": True,
        "unknown": FOREIGN,
        **more,
    }


def rule(*alerts: object, labels: object = None, **more: object) -> dict[str, object]:
    """A rule as vmalert v1.150 tells of it, with a member that nobody knows."""
    return {
        "state": "firing",
        "name": "A",
        "query": "up == 0",
        "duration": 60,
        "keep_firing_for": 5,
        "labels": {"severity": "page"} if labels is None else labels,
        "annotations": {"summary": "of {{ $labels.team }}"},
        "lastError": "timeout",
        "evaluationTime": 0.5,
        "lastEvaluation": "2026-01-01T00:00:00Z",
        "alerts": list(alerts),
        "health": "ok",
        "type": "alerting",
        "datasourceType": "prometheus",
        "lastSamples": 7,
        "lastSeriesFetched": 9,
        "id": "r",
        "group_id": "g",
        "group_name": "group",
        "file": "/rules/all.yml",
        "debug": True,
        "max_updates_entries": 20,
        "updates": [{"curl": FOREIGN}],
        "unknown": FOREIGN,
        **more,
    }


def group(*rules: object, **more: object) -> dict[str, object]:
    return {
        "name": "group",
        "rules": list(rules),
        "interval": 30,
        "lastEvaluation": "2026-01-01T00:00:00Z",
        "type": "prometheus",
        "id": "g",
        "file": "/rules/all.yml",
        "concurrency": 1,
        "params": [FOREIGN],
        "headers": [FOREIGN],
        "notifier_headers": [FOREIGN],
        "labels": {"all": FOREIGN},
        "states": {"firing": 10},
        "unknown": FOREIGN,
        **more,
    }


def answered(*groups: object) -> bytes:
    return json.dumps({"status": "success", "data": {"groups": list(groups)}}).encode()


DEV: Final = claim({"team": "dev"})


def asked(
    body: bytes,
    *claims: VMAccessClaim,
    answer: Answer = Answer.RULES,
    tenants: RulesTenant | None = None,
    arguments: Mapping[str, str | Sequence[str]] | None = None,
) -> tuple[int, Any, str]:
    """Return the status, the document and the note."""
    answer_filter = Filter(
        answer=answer, path="/", names_path=None, tenant=None, rules=rule_filter(claims or (DEV,), tenants)
    )
    pairs = [
        encode_pair(name, value)
        for name, values in (arguments or {}).items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    found = answer_filter.apply(200, (), body, pairs, largest=1 << 20, names=None)
    assert FOREIGN not in found.body.decode()
    return found.status, json.loads(found.body), found.note


def rules_in(document: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    return [rule for group in document["data"]["groups"] for rule in group["rules"]]


def test_an_own_rule_is_shown_with_every_known_member() -> None:
    own = rule(alert("dev"), labels={"team": "dev", "severity": "page"})
    _, document, note = asked(answered(group(own)))
    (shown,) = document["data"]["groups"]
    expected_alert = {name: value for name, value in alert("dev").items() if name != "unknown"}
    expected = {name: value for name, value in own.items() if name not in ("unknown", "updates")}
    assert shown == {
        "name": "group",
        "interval": 30,
        "lastEvaluation": "2026-01-01T00:00:00Z",
        "type": "prometheus",
        "id": "g",
        "file": "/rules/all.yml",
        "concurrency": 1,
        "states": {"firing": 1},
        "rules": [{**expected, "alerts": [expected_alert]}],
    }
    assert note == "1 of 1 rules shown"


def test_of_a_rule_of_all_only_the_own_alerts_are_shown() -> None:
    shared = rule(alert("dev", state="pending"), alert(FOREIGN), query=FOREIGN, lastError=FOREIGN, file=FOREIGN)
    _, document, note = asked(answered(group(shared, file=FOREIGN)))
    (shown,) = document["data"]["groups"]
    assert (shown["file"], shown["states"], note) == ("", {"pending": 1}, "1 of 1 rules shown")
    (found,) = shown["rules"]
    (own,) = found.pop("alerts")
    assert found == {
        "state": "pending",
        "name": "A",
        "query": "",
        "duration": 0,
        "keep_firing_for": 0,
        "labels": {"severity": "page"},
        "annotations": {},
        "lastError": "",
        "evaluationTime": 0,
        "lastEvaluation": "2026-01-01T00:00:00Z",
        "health": "ok",
        "type": "alerting",
        "datasourceType": "prometheus",
        "lastSamples": 0,
        "lastSeriesFetched": 0,
        "id": "r",
        "group_id": "g",
        "group_name": "group",
        "file": "",
        "debug": False,
        "max_updates_entries": 0,
    }
    assert (own["labels"]["team"], own["value"], own["annotations"]) == ("dev", "1", {})
    assert (own["expression"], own["source"]) == ("", "")


def test_of_a_rule_of_all_only_labels_that_the_own_alerts_have_are_shown() -> None:
    shared = rule(alert("dev"), labels={"severity": "page", "team": "{{ secret }}", "owner": FOREIGN})
    (found,) = rules_in(asked(answered(group(shared)))[1])
    assert found["labels"] == {"severity": "page"}


def test_a_rule_that_lacks_the_label_is_shown_without_the_numbers_of_its_evaluation() -> None:
    unlabelled = rule(alert("dev"), lastError=FOREIGN)
    (found,) = rules_in(asked(answered(group(unlabelled)), claim(None, '{team!="secret"}'))[1])
    assert (found["query"], found["annotations"]) == ("up == 0", {"summary": "of {{ $labels.team }}"})
    assert (found["lastError"], found["lastSamples"], found["lastSeriesFetched"], found["evaluationTime"]) == (
        "",
        0,
        0,
        0,
    )


def test_an_own_rule_with_an_alert_of_another_team_hides_its_numbers() -> None:
    odd = rule(alert(FOREIGN), labels={"team": "dev"}, lastError=FOREIGN)
    (found,) = rules_in(asked(answered(group(odd)))[1])
    assert (found["state"], found["alerts"], found["lastError"]) == ("inactive", [], "")


@each(
    ("state", "alerts", "expected"),
    [
        ("firing", [], "inactive"),
        ("pending", [], "inactive"),
        ("inactive", [], "inactive"),
        ("nomatch", [], "nomatch"),
        ("unhealthy", [], "unhealthy"),
        ("", [], ""),
        ("secret", [], "unknown"),
        ("firing", ["pending"], "pending"),
        ("inactive", ["pending", "firing"], "firing"),
        ("unhealthy", ["odd"], "unhealthy"),
    ],
)
def test_the_state_is_that_of_the_own_alerts(state: str, alerts: list[str], expected: str) -> None:
    own = [alert("dev", state=each) for each in alerts]
    foreign = alert(FOREIGN)
    (found,) = rules_in(asked(answered(group(rule(*own, foreign, labels={"team": "dev"}, state=state))))[1])
    assert found["state"] == expected


def test_recording_rules_and_members_of_older_releases() -> None:
    old = {"name": "a:b", "type": "recording", "labels": {"team": "dev"}, "query": "1", "health": "ok"}
    _, document, _ = asked(answered({"name": "g", "rules": [old, {"name": FOREIGN, "type": "recording"}]}))
    assert document["data"]["groups"] == [{"name": "g", "rules": [{"state": "", **old}]}]


def test_members_that_an_older_release_does_not_have_are_not_made_up() -> None:
    _, document, _ = asked(answered({"rules": [{"alerts": [{"labels": {"team": "dev"}}]}]}))
    own = {"labels": {"team": "dev"}, "annotations": {}}
    assert document["data"]["groups"] == [{"rules": [{"state": "", "alerts": [own]}]}]


def test_nothing_remains_of_groups_without_own_rules() -> None:
    nothing = {"status": "success", "data": {"groups": []}}
    for groups in ((), (group(),), (group(rule(alert(FOREIGN))),), ({"name": FOREIGN, "rules": None},)):
        assert asked(answered(*groups))[1] == nothing
    assert asked(b'{"data":{"groups":null}}')[1] == nothing


def test_the_tenant_of_the_group() -> None:
    body = answered(
        group(rule(), tenant="1:5"), group(rule(name=FOREIGN), tenant="1:6"), group(rule(name=FOREIGN)),
        group(rule(name=FOREIGN), tenant="x"),
    )  # fmt: skip
    _, document, _ = asked(body, claim(), tenants=RulesTenant())
    assert [each["tenant"] for each in document["data"]["groups"]] == ["1:5"]
    body = answered(group(rule(), tenant="1:6"))
    assert len(rules_in(asked(body, claim(tenant=TWO), claim(tenant=ONE), tenants=RulesTenant())[1])) == 1
    assert len(rules_in(asked(answered(group(rule())), claim(), tenants=RulesTenant(always=ONE))[1])) == 1


# --- the client's arguments -----------------------------------------------------------------------------------------

MANY: Final = answered(
    group(
        rule(alert("dev"), labels={"team": "dev", "a": "1"}, name="First", id="r1"),
        rule(labels={"team": "dev"}, name="Second", id="r2", type="recording", state="ok"),
        id="g1",
        name="one",
        file="/rules/one.yml",
    ),
    group(rule(alert("dev", id="a2"), name="Shared", id="r3"), id="g2", name="two", file=f"/{FOREIGN}.yml"),
    group(rule(labels={"team": "dev"}, name="Third", id="r4", state="unhealthy"), id="g3", name="three"),
)


@each(
    ("arguments", "names"),
    [
        ({}, ["First", "Second", "Shared", "Third"]),
        ({"rule_name[]": ["First", "Third", "x"]}, ["First", "Third"]),
        ({"rule_group[]": "two"}, ["Shared"]),
        ({"file[]": "/rules/one.yml"}, ["First", "Second"]),
        ({"file[]": "/secret.yml"}, []),
        ({"file[]": ""}, ["Shared"]),
        ({"search": "SEC"}, ["Second"]),
        ({"search": "one"}, ["First", "Second"]),
        ({"search": "secret"}, []),
        ({"type": "record"}, ["Second"]),
        ({"type": "alert"}, ["First", "Shared", "Third"]),
        ({"type": "x"}, []),
        ({"state": "firing"}, ["First", "Shared"]),
        ({"state": "ok,error"}, ["Second", "Third"]),
        ({"filter": ["ok", "firing"]}, ["First", "Second", "Shared"]),
        ({"match[]": '{a="1"}'}, ["First"]),
        ({"match[]": ['{a="1"}', '{severity="page"}']}, ["First", "Shared"]),
        ({"group_limit": "1"}, ["First", "Second", "Shared", "Third"]),
        ({"group_limit": "1", "page_num": "2"}, ["Shared"]),
        ({"group_limit": "2", "page_num": "2"}, ["Third"]),
        ({"group_limit": "2", "page_num": "3"}, []),
        ({"group_limit": "x", "page_num": "-1"}, ["First", "Second", "Shared", "Third"]),
        ({"group_limit": "9" * 30, "page_num": "1"}, ["First", "Second", "Shared", "Third"]),
    ],
)
def test_arguments_choose_among_own_rules(arguments: dict[str, str | list[str]], names: list[str]) -> None:
    _, document, _ = asked(MANY, arguments=arguments)
    assert [rule["name"] for rule in rules_in(document)] == names


def test_a_page_counts_own_groups_and_rules() -> None:
    _, document, _ = asked(MANY, arguments={"group_limit": "2", "page_num": "1", "type": "alert"})
    del document["data"]
    assert document == {"status": "success", "page": 1, "total_pages": 2, "total_groups": 3, "total_rules": 3}


def test_alerts_are_left_out_if_the_client_does_not_want_them() -> None:
    _, document, _ = asked(MANY, arguments={"exclude_alerts": "true"})
    assert [rule["state"] for rule in rules_in(document)] == ["firing", "ok", "firing", "unhealthy"]
    assert not any("alerts" in rule for rule in rules_in(document))


def test_a_choice_that_cannot_be_read_is_an_error_of_the_client() -> None:
    with pytest.raises(BadRequest, match=r"^match\[\]: column 4"):
        asked(MANY, arguments={"match[]": "sum(a)"})


# --- alerts, and single rules ----------------------------------------------------------------------------------------


def test_alerts_in_the_order_of_their_ids() -> None:
    _, document, note = asked(MANY, answer=Answer.ALERTS)
    assert [each["id"] for each in document["data"]["alerts"]] == ["a2", "dev1"]
    assert note == "4 of 4 rules shown"
    _, document, _ = asked(MANY, answer=Answer.ALERTS, arguments={"match[]": '{team="dev"}', "rule_group[]": "one"})
    assert [each["id"] for each in document["data"]["alerts"]] == ["dev1"]
    _, document, _ = asked(MANY, answer=Answer.ALERTS, arguments={"match[]": '{team="x"}'})
    assert document == {"status": "success", "data": {"alerts": []}}


@each(
    ("answer", "arguments", "expected"),
    [
        (Answer.GROUP, {"group_id": "g1"}, ("name", "one")),
        (Answer.RULE, {"group_id": "g1", "rule_id": "r2"}, ("name", "Second")),
        (Answer.ALERT, {"group_id": "g2", "alert_id": "a2"}, ("id", "a2")),
    ],
)
def test_one_by_its_id(answer: Answer, arguments: dict[str, str], expected: tuple[str, str]) -> None:
    status, document, _ = asked(MANY, answer=answer, arguments=arguments)
    assert (status, document[expected[0]]) == (200, expected[1])
    missing = asked(MANY, answer=answer, arguments=dict.fromkeys(arguments, "x"))
    assert (
        missing == asked(MANY, answer=answer) == asked(MANY, claim({"team": "x"}), answer=answer, arguments=arguments)
    )
    assert (missing[0], missing[1]["error"]) == (404, "not found")


def test_notifiers_without_addresses() -> None:
    targets = [{"address": FOREIGN, "labels": {"a": FOREIGN}, "lastError": FOREIGN}]
    body = json.dumps({"data": {"notifiers": [{"kind": "static", "targets": targets, "x": FOREIGN}]}}).encode()
    assert _notifiers(body) == {
        "status": "success",
        "data": {
            "notifiers": [{"kind": "static", "targets": [{"address": "", "labels": {}, "lastError": ""}]}],
        },
    }


def _notifiers(body: bytes) -> object:
    answer_filter = Filter(answer=Answer.NOTIFIERS, path="/", names_path=None, tenant=None, rules=None)
    return json.loads(answer_filter.apply(200, (), body, (), largest=1 << 20, names=None).body)


@each(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'{"data":[]}', b'{"data":{"groups":{}}}', b'{"data":{"groups":[1]}}',
        b'{"data":{"groups":[{"rules":[1]}]}}', b'{"data":{"groups":[{"rules":[{"labels":[]}]}]}}',
        b'{"data":{"groups":[{"rules":[{"labels":{"team":"dev"},"alerts":[{"labels":{"a":1}}]}]}]}}',
        b'{"data":{"groups":[{"rules":[{"type":"recording","name":1,"labels":{"team":"dev"}}]}]}}',
        b'{"data":{"groups":[{"rules":[{"labels":{"team":"dev"},"annotations":{"a":1}}]}]}}',
        b'{"data":{"groups":[{"rules":[{"labels":{"team":"dev"},"duration":NaN}]}]}}',
        b'{"data":{"groups":[{"rules":[{"labels":{"team":"dev"},"duration":1e999}]}]}}',
        b'{"data":{"groups":[]}}\xff', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_does_not_have_the_form_is_refused(body: bytes) -> None:
    with pytest.raises(BadAnswer) as refusal:
        asked(body)
    assert (refusal.value.status, refusal.value.code) == (502, "bad_answer")
