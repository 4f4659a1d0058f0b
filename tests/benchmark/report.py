"""The results as Markdown, beside the goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .cases import CASES, FLOW_GOAL, GOALS, MIB, ROWS_GOAL
from .load import Result, Results


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ratio(results: Results, name: str, base: str) -> float | None:
    """Return how many times as many requests a second ``name`` has as ``base``; None if one was not measured."""
    if name not in results or base not in results:
        return None
    return results[name].rate / results[base].rate


def shown(value: float | None, goal: float = 0.0) -> str:
    """Return a ratio, in bold if it misses its goal."""
    if value is None:
        return ""
    return f"{value:.2f}" if value >= goal else f"**{value:.2f}**"


def beside(results: Results, name: str, base: str, goal: float) -> str:
    """Return the ratio of requests a second, and in parentheses that of processor time."""
    if name not in results or base not in results:
        return ""
    return f"{shown(ratio(results, name, base), goal)} ({results[base].cost / results[name].cost:.2f})"


def proxies(case: str, results: Results) -> str:
    """Return everything about one case."""
    size = CASES[case].size
    header = [case, "MB/s" if size else "req/s", "of nginx", "of vmauth", "of mitmdump", "p50 ms", "p99 ms", "CPU µs"]
    return table(
        header,
        (
            [
                name, f"{result.rate * (size / MIB or 1):,.0f}",
                *(shown(ratio(results, name, base)) for base in ("nginx", "vmauth", "plain mitmdump")),
                f"{result.p50:.2f}", f"{result.p99:.2f}", f"{result.cost:.0f}",
            ]
            for name, result in results.items()
        ),
    )  # fmt: skip


def goals(found: Mapping[str, Results], builds: Sequence[str]) -> str:
    """Return the ratios that have a goal, by requests a second and by processor time. Those that miss it are bold."""
    rows = [
        [goal.title, f"of {goal.base}", f"{goal.factor:g}"]
        + [beside(found[goal.case], f"fast lane, {build}", goal.base, goal.factor) for build in builds]
        for goal in GOALS
        if goal.case in found
    ]
    if "get" in found:
        flow = [beside(found["get"], f"flow lane, {build}", "plain mitmdump", FLOW_GOAL) for build in builds]
        rows.append(["small GETs, flow lane", "of mitmdump", f"{FLOW_GOAL:g}", *flow])
    return table(["requests a second (by CPU time)", "", "goal", *builds], rows)


def writes(found: Mapping[str, tuple[int, Results]], builds: Sequence[str]) -> str:
    """Return the speed of writes, and how much of it is left with rows counted."""
    rows = []
    for protocol, (size, results) in found.items():
        for build in builds:
            rate = {what: results[f"{what}, {build}"].rate for what in _READ}
            counted, both = rate["rows counted"] / rate["no row read"], rate["both"] / rate["names checked"]
            speeds = [f"{each * size / 1e6:.0f}" for each in rate.values()]
            rows.append([protocol, build, *speeds, shown(counted, ROWS_GOAL), shown(both, ROWS_GOAL)])
    return table(["writes of 1 MB, MB/s", "build", *_READ, "counted / not read", "both / names checked"], rows)


_READ = ("no row read", "names checked", "rows counted", "both")


def half_load(found: Mapping[str, Result]) -> str:
    """Return latencies at half of each proxy's highest load."""
    return table(
        ["at half of its highest load", "req/s", "p50 ms", "p99 ms"],
        ([name, f"{each.rate:,.0f}", f"{each.p50:.2f}", f"{each.p99:.2f}"] for name, each in found.items()),
    )


def scale(found: Mapping[str, Mapping[int, float]], build: str) -> str:
    """Return the cost of a request against the numbers of what there is."""
    rows = []
    for name, costs in found.items():
        first = next(iter(costs.values()))
        rows.append([name, ", ".join(f"{n:,}: {cost:.0f} µs ({cost / first:.2f})" for n, cost in costs.items())])
    return table([f"CPU of a small GET, {build}", "number: cost (ratio to the first)"], rows)
