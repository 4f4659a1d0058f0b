"""mitmweb with the gateway in it, asked through the interface that its page uses."""

from __future__ import annotations

import json
import urllib.request
from http.cookiejar import CookieJar
from typing import Any

from mitmproxy.version import VERSION

from tests.support.wire.processes import Gateway, free_port, mitmproxy_command, mitmproxy_option
from tests.support.wire.waiting import HANGS

OLD = VERSION.startswith("11.")
_PASSWORD = "of-the-test"  # noqa: S105


class MitmWeb(Gateway):
    """``mitmweb -s addons/vmgateway.py``, without a browser."""

    name = "mitmweb"

    def __init__(self, *flags: str) -> None:
        self.web_port = free_port()
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies)
        super().__init__(*flags)

    def command(self) -> list[str]:
        command = mitmproxy_command("mitmweb", self.directory)
        command += ["--no-web-open-browser", "--web-port", str(self.web_port)]
        if not OLD:
            command += ["--set", f"web_password={_PASSWORD}"]
        for flag in self.flags:
            name, given, value = flag.lstrip("-").partition("=")
            command += ["--set", f"{mitmproxy_option(name)}={value if given else 'true'}"]
        return command

    def _open(self, path: str, data: bytes | None = None) -> Any:  # noqa: ANN401
        # Tornado compares a cookie with a header: whoever can set both is no page of another site.
        headers = {"Content-Type": "application/json", "X-XSRFToken": "abcd"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.web_port}{path}", data, headers)
        request.add_header("Cookie", "_xsrf=abcd; _mitmproxy_xsrf=abcd")
        if not OLD:
            request.add_header("Authorization", f"Bearer {_PASSWORD}")
        with self.opener.open(request, timeout=HANGS) as answer:
            return json.loads(answer.read())

    def flows(self, path: str = "") -> list[dict[str, Any]]:
        """The flows of the list, or those whose path begins with ``path``, as mitmweb shows them."""
        flows: list[dict[str, Any]] = self._open("/flows")
        return [flow for flow in flows if flow["request"]["path"].startswith(path)]

    def run(self, name: str, *arguments: str) -> list[str]:
        """What a command answers. Raises AssertionError with its error."""
        answer = self._open(f"/commands/{name}", json.dumps({"arguments": arguments}).encode())
        assert "value" in answer, answer
        value: list[str] = answer["value"]
        return value

    def commands(self) -> dict[str, dict[str, Any]]:
        """All commands with their help and parameters."""
        commands: dict[str, dict[str, Any]] = self._open("/commands")
        return commands

    def options(self) -> dict[str, dict[str, Any]]:
        """All options with their values."""
        options: dict[str, dict[str, Any]] = self._open("/options")
        return options

    def view(self, flow: dict[str, Any], side: str, view: str = "Auto") -> tuple[str, str]:
        """The name of the view that shows a body, and what it shows."""
        shown = self._open(f"/flows/{flow['id']}/{side}/content/{view.replace(' ', '%20')}.json")
        if OLD:
            lines = ["".join(text for _, text in line) for line in shown["lines"]]
            return shown["description"].rpartition("] ")[2], "\n".join(lines)
        return shown["view_name"], shown["text"]
