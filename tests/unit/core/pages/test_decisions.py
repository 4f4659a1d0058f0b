"""The last refusals: bounded, the newest first, and each holder's alone."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.support.core import keys
from vmgw_core.pages import Decision, Decisions, holder, merged, written
from vmgw_core.pages.decisions import MOST, MOST_HOLDERS, MOST_OF_HOLDER
from vmgw_core.tokens.verifier import Token, TokenVerifier

REFUSED = Decision(
    at=1.0, method="GET", path="/a", status=403, code="c", message="m", client="192.0.2.1", tenant=None, subject=None
)


def at(time: float) -> Decision:
    return dataclasses.replace(REFUSED, at=time)


def test_the_newest_are_kept() -> None:
    decisions = Decisions()
    for number in range(200):
        decisions.note(at(number), b"a" if number % 2 else None)
    assert [each.at for each in decisions.last()] == [float(199 - number) for number in range(MOST)]
    assert [each.at for each in decisions.of(b"a")] == [float(199 - 2 * number) for number in range(MOST_OF_HOLDER)]
    assert decisions.of(b"b") == ()


def test_the_number_of_holders_is_bounded() -> None:
    decisions = Decisions()
    decisions.note(at(1), b"first")
    decisions.note(at(2), b"second")
    for number in range(MOST_HOLDERS - 2):
        decisions.note(at(3), str(number).encode())
    decisions.note(at(4), b"first")  # used again: the second is now the oldest
    decisions.note(at(5), b"new")
    assert [each.at for each in decisions.of(b"first")] == [4.0, 1.0]
    assert decisions.of(b"second") == ()


def test_those_of_several_processes_are_merged() -> None:
    one, other = Decisions(), Decisions()
    for number in range(20):
        (other if number % 3 else one).note(at(number), b"a")
    found = merged(written(one.of(b"a")), written(other.of(b"a")), written(()))
    assert found == [at(19 - number) for number in range(MOST_OF_HOLDER)]
    strange = dataclasses.replace(REFUSED, path="/\udc80\n", tenant="1:5")
    assert merged(written([strange])) == [strange]


def test_texts_are_cut() -> None:
    long = "a" * 100_000
    decisions = Decisions()
    texts = dict.fromkeys(("method", "path", "message", "client", "tenant", "subject"), long)
    decisions.note(dataclasses.replace(REFUSED, **texts), None)  # type: ignore[arg-type]
    assert len(repr(decisions.last()[0])) < 2000


def token(**claims: Any) -> tuple[Token, str]:  # noqa: ANN401
    text = keys.compact({"alg": "RS256"}, keys.claims(**claims))
    return TokenVerifier(None).verify(text, float(keys.NOW)), text


def test_a_holder_is_an_issuer_a_subject_and_what_is_granted() -> None:
    one = {"vm_access": {"tenant_id": {"account_id": 1}}}
    who = {"iss": "https://a.test", "sub": "agent", **one}
    same = holder(*token(**who, jti="1"))
    assert holder(*token(**who, jti="2")) == same  # a token that was issued anew
    others = [
        {**who, "sub": "other"},
        {**who, "iss": "https://b.test"},
        {**who, "vm_access": {"tenant_id": {"account_id": 2}}},
        {**who, "vm_access": {"tenant_id": {"account_id": 1}, "extra_labels": {"team": "a"}}},
        {**who, "vm_access": {"tenant_id": {"account_id": 1}, "mode": 1}},
        {"iss": "https://a.test", **one},
    ]
    found = {holder(*token(**claims)) for claims in others}
    assert len(found) == len(others)
    assert same not in found


def test_a_token_without_a_subject_stands_for_itself() -> None:
    assert holder(*token(jti="1", sub=None)) != holder(*token(jti="2", sub=None))
    assert holder(*token(jti="1", sub=None)) == holder(*token(jti="1", sub=None))
