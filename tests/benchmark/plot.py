"""A bar chart of ratios as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _LEFT, _BAR, _GAP = 760, 190, 18, 26
_COLOURS = ("#1b7f4d", "#6abf69", "#5470c6", "#9a9a9a")


def bar_chart(title: str, groups: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    """Draw a group of bars for each entry, one bar for each of ``names`` that it has a value for."""
    highest = max((value for bars in groups.values() for value in bars.values()), default=1.0)
    scale = (_WIDTH - _LEFT - 60) / highest
    parts, y = [], 70
    for group, bars in groups.items():
        shown = [(name, bars[name]) for name in names if name in bars]
        parts.append(_text(_LEFT - 10, y + len(shown) * _BAR / 2 + 4, group, "end"))
        for name, value in shown:
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{value * scale:.1f}" height="{_BAR - 3}" fill="{colour}">'
                f"<title>{escape(name)}: {value:.2f}</title></rect>"
            )
            parts.append(_text(_LEFT + value * scale + 6, y + _BAR - 6, f"{value:.2f}"))
            y += _BAR
        y += _GAP
    x = _LEFT
    for number, name in enumerate(names):
        parts.append(f'<rect x="{x}" y="38" width="12" height="12" fill="{_COLOURS[number % len(_COLOURS)]}"/>')
        parts.append(_text(x + 18, 49, name))
        x += 40 + 8 * len(name)
    body = "\n".join([_text(_LEFT, 22, title), *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" font-family="sans-serif" font-size="13">\n'
        f'<rect width="{_WIDTH}" height="{y}" fill="white"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222">{escape(text)}</text>'
