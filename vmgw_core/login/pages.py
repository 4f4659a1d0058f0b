"""The pages of the login: what people read, and the redirects between the gateway, the provider and the browser.

None may be cached or shown in a frame, and none loads anything.
"""

from __future__ import annotations

from html import escape
from typing import Final

from vmgw_core.http import Headers, Response

_HEADERS: Final = (
    (b"Cache-Control", b"no-store"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
)
_POLICY: Final = (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
_PAGE: Final = """<!DOCTYPE html>
<meta charset="utf-8">
<title>{title}</title>
<h1>{title}</h1>
<p>{text}</p>
{more}
"""


def login_page(status: int, title: str, text: str, more: str = "", cookies: Headers = ()) -> Response:
    """Return a page. ``title`` and ``text`` are plain text; ``more`` is HTML. ``cookies`` are set."""
    body = _PAGE.format(title=escape(title), text=escape(text), more=more).encode()
    own = ((b"Content-Type", b"text/html; charset=utf-8"), (b"Content-Length", str(len(body)).encode()), _POLICY)
    return Response(status=status, headers=(*own, *_HEADERS), body=body, private=cookies)


def link(path: str, text: str) -> str:
    """Return a link as HTML."""
    return f'<p><a href="{escape(path)}">{escape(text)}</a></p>'


def button(path: str, text: str) -> str:
    """Return a button that posts, as HTML."""
    return f'<form method="post" action="{escape(path)}"><button>{escape(text)}</button></form>'


def redirect(status: int, location: str, cookies: Headers = (), *, secret: bool = False) -> Response:
    """Return a redirect. 303 makes a GET of it; 307 repeats the request (RFC 9110, section 15.4).

    ``secret``: the location holds a token.
    """
    place = ((b"Location", location.encode("ascii")),)
    own = ((b"Content-Length", b"0"), *_HEADERS)
    if secret:
        return Response(status=status, headers=own, body=b"", private=(*place, *cookies))
    return Response(status=status, headers=(*place, *own), body=b"", private=cookies)
