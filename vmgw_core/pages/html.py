"""HTML of few elements, readable without scripts. Text is escaped unless it is ``Html``."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from vmgw_core.base import printable

_LONGEST: Final = 1000  # characters of a cell
_STYLE: Final = """
:root{color-scheme:light dark;--line:#ccc;--bad:#b3261e;--good:#1b6e2d;--soft:#666;--bar:#3b6fb6}
@media (prefers-color-scheme:dark){:root{--line:#444;--bad:#ff8a80;--good:#7bd88f;--soft:#aaa;--bar:#8ab4f8}}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:84rem;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}
th,td{border-bottom:1px solid var(--line);padding:.3rem .6rem .3rem 0;text-align:left;vertical-align:top;
overflow-wrap:anywhere}
th{white-space:nowrap}td{min-width:5.5rem}
figure{display:inline-block;margin:.5rem 2rem .5rem 0;vertical-align:top;width:18rem}figcaption{color:var(--soft)}
svg{border-bottom:1px solid var(--line);display:block;fill:var(--bar);height:4rem;width:100%}
code{font-size:.9em}meter{width:8rem}.bad{color:var(--bad)}.good{color:var(--good)}.soft{color:var(--soft)}
"""
_HASH: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final = (
    (
        b"Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'".encode(),
    ),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),  # the URL may have a key
    (b"Cache-Control", b"no-store"),
)
"""Headers of each such page: it loads nothing, and no other page shows it."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Cell = str | int | float | None
"""``Html`` as it is, other text escaped, None as a dash."""


def element(name: str, content: Cell, css: str = "") -> Html:
    """Return an element, with a class if ``css`` names one."""
    return Html(f"<{name}{f' class={css}' if css else ''}>{_text(content)}</{name}>")


def good(text: str) -> Html:
    """Return ``text`` as good news."""
    return element("span", text, "good")


def bad(text: str) -> Html:
    """Return ``text`` as bad news."""
    return element("span", text, "bad")


def meter(used: int, limit: int) -> Html:
    """Return a bar and the same in words."""
    most = max(limit, 1)
    bar = f"<meter min=0 max={most} low={most * 0.5:g} high={most * 0.8:g} optimum=0 value={min(used, most)}></meter>"
    return Html(f"{bar} {used} of {limit}")


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]], *, empty: str = "none") -> Html:
    """Return a table, or ``empty`` in words if there are no rows."""
    lines = ["<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return element("p", empty, "soft")
    head = "".join(f"<th scope=col>{_text(heading)}</th>" for heading in headings)
    return Html(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>")


def joined(*parts: Html) -> Html:
    """Return the parts one after another."""
    return Html("\n".join(parts))


def document(title: str, *parts: Html) -> bytes:
    """Return a whole page."""
    head = f'<meta charset=utf-8><meta name=viewport content="width=device-width"><title>{_text(title)}</title>'
    text = f"<!DOCTYPE html>\n<html lang=en><head>{head}<style>{_STYLE}</style></head><body>\n"
    return f"{text}{element('h1', title)}\n{joined(*parts)}\n</body></html>\n".encode()


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, Html) else escape(printable(str(cell), _LONGEST))
