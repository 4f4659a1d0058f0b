"""Replay: the same policy changes nothing, another one changes what it should, at the time of the capture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core import keys
from tests.support.core.captured import FIRST, SECOND, captured, head, policy, posted
from tests.support.core.keys import NOW
from vmgw_core.backends.backend import Backend
from vmgw_core.backends.balancer import BackendGroup
from vmgw_core.enforcement.admission import Policy
from vmgw_core.enforcement.cycle import Cycle, Gateway
from vmgw_core.limits.config import read_limits
from vmgw_core.limits.guards import Guards
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import Limit, LimitType, Resolution
from vmgw_core.replay.judge import Difference, Judge, Verdict, compare
from vmgw_core.replay.record import Captured, Outcome
from vmgw_core.replay.recorder import record

TEAM = {"tenant_id": {"account_id": 3}, "extra_labels": {"team": "dev"}}


def judged(made: Captured, by: Policy, **options: Any) -> Verdict:  # noqa: ANN401
    return Judge(by, **options).judge(made)


def difference(made: Captured, by: Policy) -> Difference | None:
    assert made.outcome is not None
    return compare(made.outcome, judged(made, by).outcome)


# --- the law -------------------------------------------------------------------------------------------------------

TARGETS = st.sampled_from(
    ["/api/v1/query", "/api/v1/labels", "/api/v1/write", "/api/v1/admin/tsdb/delete_series", "/api/v1/series/count",
     "/select/3:0/prometheus/api/v1/query", "/nope", "/a//b", "/vmui/",
     f"/api/v1/import/prometheus/metrics/job/{quote('a b')}"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["query=up", "authKey=x", "extra_label=team%3Dqa", "match[]=up", "a=%zz",
     "token=" + keys.sign(keys.claims(), FIRST),
     "url=http%3A%2F%2Fu%3Ap%40h%2F", "password=%2525", "x=a;b", "extra_filters[]={a=%22b%22}", "p=1", "q=%20+%20"]
)  # fmt: skip
TOKENS = st.sampled_from(
    [
        keys.sign(keys.claims(), FIRST),
        keys.sign(keys.claims(vm_access=TEAM), FIRST),
        keys.sign(keys.claims(vm_access={"mode": 1}), FIRST),
        keys.sign(keys.claims(exp=NOW - 5), FIRST),
        keys.sign(keys.claims(nbf=NOW + 5), FIRST),
        keys.sign({"exp": NOW + 5}, FIRST),
        keys.sign(keys.claims(), SECOND),
        keys.sign(keys.claims(), b"hmac"),
        keys.sign(keys.claims(), FIRST) + "=",
        keys.sign(keys.claims(), FIRST) + " and more",
        keys.compact({"alg": "none"}, keys.claims()),
        keys.compact(b'{"alg":"ES256","alg":"ES256"}', keys.claims()),
        "opaque", "", "a.b.c", "eyJ.eyJ.x",
    ]
)  # fmt: skip
FORMS = st.sampled_from(
    [b"", b"query=up", b"query=up&password=x", b"a=%zz", b"query=sum by (a) (up)", b"x=" + b"y" * 2000, b"\xff\x00;",
     b'--b\r\nContent-Disposition: form-data; name="password"\r\n\r\nhush\r\n--b--\r\n', b"--b\r\nnonsense"]
)  # fmt: skip
TYPES = st.sampled_from(
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "text/plain",
        "APPLICATION/x-www-form-urlencoded;q",
    ]
)
HEADERS = st.lists(
    st.sampled_from(
        [("Cookie", "a=b"), ("X-Auth-Token", "x"), ("Authorization", "Basic YTpi"), ("Connection", "X-Auth-Token"),
         ("X-Forwarded-For", "1.2.3.4"), ("Content-Encoding", "gzip"), ("AccountID", "7"),
         ("X-A", "Bearer " + "a" * 20)]
    ),
    max_size=3,
)  # fmt: skip


@given(
    TARGETS,
    st.lists(WORDS, max_size=4),
    TOKENS,
    HEADERS,
    st.none() | st.tuples(FORMS, TYPES),
    st.booleans(),
    st.booleans(),
)
def test_the_same_policy_changes_nothing(
    path: str,
    words: list[str],
    token: str,
    headers: list[tuple[str, str]],
    form: tuple[bytes, str] | None,
    cluster: bool,
    verifying: bool,
) -> None:
    # What a write's headers say of its body is judged by the lanes, and not when a record is made.
    by = replace(policy(*([FIRST] if verifying else []), cluster=cluster), check_label_names=False)
    target = path + ("?" + "&".join(words) if words else "")
    if form is None:
        made = captured(head(target, *headers, token=token), by)
    else:
        fields = [("Content-Type", form[1]), ("Content-Length", str(len(form[0]))), *headers]
        made = captured(head(target, *fields, method="POST", token=token), by, form=form[0])
    verdict = judged(made, by)
    assert made.outcome is not None
    if not verdict.doubt:
        assert compare(made.outcome, verdict.outcome) is None
    else:  # a form that was not kept: it could not be read
        assert form is not None
        assert verdict.doubt == "the form is not in the file"


# --- limits --------------------------------------------------------------------------------------------------------


def limiter(limit_type: LimitType, value: int) -> Limiter:
    one = Limit(type=limit_type, resolution=Resolution.MINUTE, value=value, tenant=None, total=False, labels=())
    return Limiter([one])


def verdicts(judge: Judge, *made: Captured) -> list[str]:
    return [str(verdict.outcome) + verdict.doubt for verdict in map(judge.judge, made)]


def test_limits_hold_at_the_times_of_the_capture() -> None:
    judge = Judge(policy(FIRST), limiter(LimitType.QUERIES, 2))
    times = (NOW, NOW + 1, NOW + 2, NOW + 59)
    assert verdicts(judge, *(replace(captured(head()), at=at) for at in times)) == [
        "admitted", "admitted", "429 rate_limited", "429 rate_limited"
    ]  # fmt: skip
    token = keys.sign(keys.claims(exp=NOW + 1000), FIRST)
    assert verdicts(judge, replace(captured(head(token=token)), at=NOW + 62)) == ["admitted"]


def test_guards_hold_at_the_time_of_the_capture() -> None:
    guards = Guards(read_limits("guards: [{max_range: 1d}]", "x").guards)
    made = captured(head(f"/api/v1/query_range?start={NOW - 100_000}"))
    for later, found in ((-20_000, "admitted"), (0, "422 query_guarded")):
        assert verdicts(Judge(policy(FIRST), guards=guards), replace(made, at=NOW + later)) == [found]


def test_the_same_guards_change_nothing() -> None:
    by, guards = policy(FIRST), Guards(read_limits("guards: [{timeout: 30s, max_range: 1d}]", "x").guards)
    form = b"query=up&timeout=40s"
    for one, kept in ((head(), None), (posted(form), form)):
        cycle = Cycle(one, at=NOW, started=0)
        cycle.authorize(Gateway(policy=by, clock=lambda: 0.0, guards=guards))
        made = record(by, one, at=NOW, grant=cycle.grant, refusal=None, form=kept, guards=cycle.guards)
        verdict = Judge(by, guards=guards).judge(made)
        assert made.outcome is not None
        assert made.outcome.sent == verdict.outcome.sent
        assert compare(made.outcome, verdict.outcome) is None
        assert difference(made, by) is Difference.OTHER_UPSTREAM


def test_each_tenant_has_its_own_limit_and_a_refused_request_counts_nowhere() -> None:
    judge = Judge(policy(FIRST), limiter(LimitType.QUERIES, 1))
    bad = captured(head(token=keys.sign(keys.claims(), SECOND)))
    assert verdicts(judge, bad, captured(head(vm_access=TEAM)), captured(head())) == [
        "401 bad_signature", "admitted", "admitted"
    ]  # fmt: skip


def write(rows: int | None) -> Captured:
    return replace(captured(head("/api/v1/import/prometheus", ("Content-Length", "9"), method="POST")), rows=rows)


def test_rows_are_those_of_the_record() -> None:
    judge = Judge(policy(FIRST), limiter(LimitType.ROWS_INSERTED, 10))
    assert verdicts(judge, write(10), write(1), write(11)) == ["admitted", "429 rate_limited", "429 rate_limited"]
    judge = Judge(policy(FIRST), limiter(LimitType.ROWS_INSERTED, 10))
    assert verdicts(judge, write(11), write(1)) == ["admitted", "429 rate_limited"]
    judge = Judge(policy(FIRST), limiter(LimitType.ROWS_INSERTED, 10))
    assert verdicts(judge, write(None), captured(head())) == [
        "admittedthe number of rows of the body is not in the file", "admitted"
    ]  # fmt: skip


def test_writes_without_rows_and_limits_of_reads() -> None:
    judge = Judge(policy(FIRST), limiter(LimitType.ROWS_INSERTED, 10))
    made = captured(head("/datadog/api/v1/validate", method="POST"))
    assert verdicts(judge, made) == ["admitted"]
    assert verdicts(Judge(policy(FIRST), limiter(LimitType.QUERIES, 1)), write(5), write(None)) == ["admitted"] * 2


def test_without_authentication_the_path_names_the_tenant() -> None:
    by = policy(cluster=True, auth=False)
    request = head("/select/3/prometheus/api/v1/query").with_headers(((b"Host", b"g"),))
    made = captured(request, by)
    assert made.evidence is None
    assert difference(made, by) is None
    assert difference(made, policy(FIRST, cluster=True)) is Difference.NEWLY_REFUSED


# --- other policies ------------------------------------------------------------------------------------------------


def test_a_token_is_judged_as_of_its_capture() -> None:
    made = captured(head())
    assert judged(replace(made, at=NOW + 59.5), policy(FIRST)).outcome.admitted
    assert str(judged(replace(made, at=NOW + 60), policy(FIRST)).outcome) == "401 expired"


def test_other_keys() -> None:
    assert difference(captured(head()), policy(SECOND)) is Difference.NEWLY_REFUSED
    assert difference(captured(head()), policy(SECOND, FIRST)) is None
    assert difference(captured(head()), policy()) is None
    assert difference(captured(head(token=keys.sign(keys.claims(), SECOND))), policy()) is Difference.NEWLY_ADMITTED


def test_other_backends() -> None:
    other = Backend.parse("http://other:1/base", "read.url")
    assert difference(captured(head()), policy(FIRST, read=BackendGroup((other,)))) is Difference.OTHER_UPSTREAM
    made, verdict = captured(head()), judged(captured(head()), policy(FIRST, read=BackendGroup((other,))))
    assert made.outcome is not None
    assert compare(made.outcome, verdict.outcome, any_backend=True) is Difference.OTHER_UPSTREAM  # the base path
    other = Backend.parse("https://other:1", "read.url")
    verdict = judged(captured(head()), policy(FIRST, read=BackendGroup((other,))))
    assert compare(made.outcome, verdict.outcome) is Difference.OTHER_UPSTREAM
    assert compare(made.outcome, verdict.outcome, any_backend=True) is None
    assert difference(captured(head()), policy(FIRST, read=None)) is Difference.NEWLY_REFUSED


def test_another_tenant() -> None:
    """A policy cannot change a tenant as things are; two records can differ."""
    one, other = (captured(head(vm_access={"tenant_id": {"account_id": number}})).outcome for number in (1, 2))
    assert one is not None
    assert other is not None
    assert compare(one, other) is Difference.OTHER_TENANT


def test_another_refusal() -> None:
    made = captured(head("/select/4:0/prometheus/api/v1/query", vm_access=TEAM))
    assert str(made.outcome) == "404 unknown_route"
    assert difference(made, policy(FIRST, cluster=True)) is Difference.OTHER_REFUSAL


def test_forms_count() -> None:
    made = captured(posted(b"query=up"), form=b"query=up")
    assert difference(made, policy(FIRST)) is None
    assert difference(replace(made, form=b"query=down"), policy(FIRST)) is Difference.OTHER_UPSTREAM
    assert difference(made, policy(FIRST, max_form_size=7)) is Difference.NEWLY_REFUSED


def test_a_form_that_was_not_kept_is_in_doubt() -> None:
    verdict = judged(captured(posted(b"query=up")), policy(FIRST))
    assert verdict.outcome.admitted
    assert verdict.outcome.sent is None
    assert verdict.doubt == "the form is not in the file"


def test_a_signature_that_is_not_there_is_in_doubt_where_it_matters() -> None:
    made = replace(captured(head()), evidence=None)
    assert judged(made, policy(FIRST)).doubt == "the signature of the token is not in the file"
    assert judged(made, policy()).doubt == ""
    refused = judged(replace(captured(head(vm_access={"mode": 2})), evidence=None), policy(FIRST))
    assert str(refused.outcome) == "403 access_denied"
    assert refused.doubt == ""
    assert judged(captured(head()), policy(FIRST), trusting=False).doubt


def test_a_request_that_nobody_has_recorded() -> None:
    verdict = judged(Captured(head=head(), at=NOW), policy(FIRST))
    assert verdict.outcome.admitted
    assert not verdict.doubt


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (Outcome(code="admitted", status=0), Outcome(code="admitted", status=0), None),
        (Outcome(code="expired", status=401), Outcome(code="expired", status=401, reason="x"), None),
        (Outcome(code="bad_request", status=400), Outcome(code="bad_request", status=403), Difference.OTHER_REFUSAL),
    ],
)
def test_comparing(before: Outcome, after: Outcome, expected: Difference | None) -> None:
    assert compare(before, after) is expected
