"""graphite: targets that end VictoriaMetrics' process are refused, and those of dashboards are not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.enforcement.graphite import check_target, check_times
from vmgw_core.errors import CostlyQuery


@each(
    "target",
    [
        "servers.web-0.cpu",
        "*",
        "movingAverage(servers.web-0.cpu,10)",
        "movingAverage(servers.web-0.cpu,'31d', 0.5)",
        "movingMedian(a, '1s')",
        "highestMax(group(a, b), 1)",
        "highest(a, n=10000, func='max')",
        "a|lowestAverage(5)|scale(1e9)",
        "stdev(a,5,0.1)",
        "stdev(a,0)",
        "scale(a,-1000000000000)",
        "constantLine(0x10)",
        "constantLine(017)",
        "alias(a, '10000 mb')",
        "alias(a, '1.2.3s')",
        "linearRegression(a)",
        "summarize(a, '1y', 'sum', true)",
        "timeShift(a, '-7d')",
        "timeStack(a, '1d', 0, 31)",
        "randomWalk('a', 60)",
        "delay(a, -3)",
        "seriesByTag('name=~a.*', 'team=b')",
        "substr(a, -2)",
        "a))(5",
    ],
)
def test_what_dashboards_ask_passes(target: str) -> None:
    check_target(target)


@each(
    "target",
    [
        "stdev(*,-1,9223372036854775807)",
        "stdev(x,9223372036854775807,100)",
        "stdev(*, 0x7fffffffffffffff)",
        "stdev(*, points=1e300)",
        'linearRegression(*,"-1h",1e18)',
        'linearRegression(x,"0","1min")',
        "highest(*,0)",
        "highestAverage(*, - 1)",
        "lowestCurrent(*,0.5)",
        "mostDeviant(*,1e5)",
        "group(a, highestMax(*,-Inf))",
        "highestMax(*,+NaN)",
        "highestMax(*,-0x)",
        "highestMax(*,019)",
        "high\\est(*,0)",
        "\\x68ighest(*,0)",
        "highest (*,0)",
        "*|highest(0)",
        "movingAverage(*,1e12)",
        "movingAverage(*,'32d')",
        "movingSum(*,'0s')",
        "movingWindow(*,'-1s')",
        "delay(*,1e300)",
        "exponentialMovingAverage(*,'99999999y')",
        "exponentialMovingAverage(*,-1e18)",
        "integralByInterval(*,'0s')",
        "summarize(*,'99999999y')",
        "hitcount(*,'1ms')",
        "time('a',0)",
        "sin('a',1,-1)",
        "timeStack(*,'1d',-1e12,1e12)",
        "timeStack(timeStack(*,'1d'),'1d')",
        "holtWintersForecast(*)",
        "applyByNode(*,0,'highest(%,0)')",
        "aliasQuery(*,'a','b','c')",
        "useSeriesAbove(*,1,'a','b')",
        "scale(*,1e16)",
        "1e300",
        "timeShift(*,'11y')",
    ],
)
def test_what_ends_the_process_is_refused(target: str) -> None:
    with pytest.raises(CostlyQuery, match="Graphite function"):
        check_target(target)


@each(
    ("key", "value"),
    [("from", "-1h"), ("from", "1600000000"), ("until", "now"), ("until", "20260101"), ("storage_step", "1s"),
     ("until", "12:30_20260101"), ("storage_step", "10s"), ("storage_step", "x"), ("from", "")],
)  # fmt: skip
def test_times_pass(key: str, value: str) -> None:
    check_times(key, value)


@each(
    ("key", "value"),
    [("from", "-5000000000000000"), ("until", "5000000000000000"), ("until", "+200000000000"), ("from", "-99999999y"),
     ("storage_step", "1ms"), ("storage_step", "0s"), ("storage_step", "2y"), ("from", "1" * 101)],
)  # fmt: skip
def test_times_out_of_reason_are_refused(key: str, value: str) -> None:
    with pytest.raises(CostlyQuery, match=f"the argument {key} is out of range"):
        check_times(key, value)


@given(st.text(alphabet="ahighest(),|=-+.0123456789exXoO\\'\"[]{}* \ninfNa", max_size=40))
def test_any_text_is_judged(target: str) -> None:
    with suppress(CostlyQuery):  # and nothing else is raised
        check_target(target)
