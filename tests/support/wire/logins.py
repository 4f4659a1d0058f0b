"""A browser without a screen or scripts: it follows redirects and keeps cookies, as far as a login needs that."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from tests.support.wire.client import Answer, Client

PAGE = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
"""Headers of a browser that opens a page."""
FETCH = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Accept": "*/*"}
"""Headers of a request of that page's script."""


def cookie_key() -> str:
    """A line for the file of -login.cookieKeyFile."""
    return base64.b64encode(os.urandom(32)).decode()


def key_file(path: Path, *keys: str) -> Path:
    """Write the file of -login.cookieKeyFile."""
    path.write_text("".join(f"{key}\n" for key in keys))
    return path


class Browser:
    """Cookies, by the port of the server that set them."""

    def __init__(self) -> None:
        self.cookies: dict[int, dict[str, str]] = {}
        self.visited: list[str] = []
        """The URLs of all requests."""

    def ask(
        self, url: str, method: str = "GET", *, headers: dict[str, str] | None = None, body: str | None = None
    ) -> Answer:
        """One request, with the cookies for its server; those of the answer are kept."""
        self.visited.append(url)
        parts = urlsplit(url)
        assert parts.port is not None
        jar = self.cookies.setdefault(parts.port, {})
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())} if jar else {}
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        answer = Client(parts.port).ask(method, target, body=body, headers={**(headers or PAGE), **sent})
        for name, value in answer.headers:
            if name.lower() == "set-cookie":
                pair, *attributes = value.split("; ")
                key, _, content = pair.partition("=")
                if "Max-Age=0" in attributes or "expires=Thu, 01 Jan 1970 00:00:00 GMT" in attributes:
                    jar.pop(key, None)
                else:
                    jar[key] = content
        return answer

    def open(
        self, url: str, method: str = "GET", *, headers: dict[str, str] | None = None, body: str | None = None
    ) -> Answer:
        """Follow redirects from ``url`` to the page at their end."""
        for _ in range(15):
            answer = self.ask(url, method, headers=headers, body=body)
            location = answer.header("location")
            if answer.status not in (301, 302, 303, 307) or location is None:
                return answer
            if answer.status != 307:
                method, body = "GET", None
            url = urljoin(url, location)
        raise AssertionError(f"redirects without an end: {self.visited}")
