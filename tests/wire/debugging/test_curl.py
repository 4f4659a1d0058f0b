"""Command lines of curl: what ``explain`` reads, against what the real curl, started by a real bash, sends.

Compared are method, target, headers and body of each request. The case of percent-encoding, curl's version and the
content codings that it was built with may differ.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS
from vmgw_core.explain import CurlError, CurlRequest, ShellError, parse_curl, split_words

pytestmark = pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="curl or bash is missing")

URL = "http://GATEWAY"
FILES = {"form": b"query=up\r\n&x=1\n", "bin": b"x y\n\0z=1&\xff", "heads": b"X-A: 1\r\n\r\nX-B: 2 3\n"}
ENVIRON = {"TOKEN": "a.b.c", "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}

SAME = r"""
curl 'http://GATEWAY/{a,b}/[1-3]'
curl 'http://GATEWAY/[008-12:2]' "http://GATEWAY/[a-e:2]" 'http://GATEWAY/[1- 3]'
curl 'http://GATEWAY/?match[]=up&a=\[b\]\{c,d\}\x'
curl 'http://GATEWAY/\[1-2\]/{a\,b,c}/{,x}/{a\\,b,}'
curl 'http://GATEWAY/?query={x="a,b"}'
curl -g 'http://GATEWAY/?query={x="a,b"}[5m]'
curl GATEWAY
curl http://GATEWAY?x=1
curl HTTP://GATEWAY/?
curl 'http://GATEWAY/a/../b/./c/%2e%2e/d'
curl --path-as-is 'http://GATEWAY/a/../b' 'http://GATEWAY//c'
curl 'http://GATEWAY/é?é=è'
curl 'http://GATEWAY/a?b=http://c/@d#e?f'
curl 'http://GATEWAY/a\b?q=a"b<c>|^`'
curl -b a=1 -b 'b=2; c=3' -b '' http://GATEWAY/
curl -b a=1 -H 'Cookie: c=2' -H 'Cookie: d=3' http://GATEWAY/
curl --compressed http://GATEWAY/
curl -G -d a=1 -d b=2 http://GATEWAY/?x=1
curl -G --data-urlencode 'query=sum(a b+c)' GATEWAY
curl -G -d '' http://GATEWAY/? ;
curl -G -d é http://GATEWAY/
curl -G http://GATEWAY/
curl -G -d '' 'http://GATEWAY/?a=1'
curl --data-urlencode q@bin --data-urlencode q@bin=x --data-urlencode 'q=a@b c' http://GATEWAY/
curl --data-urlencode '=a b' --data-urlencode 'a b~*()!' --data-urlencode @bin --data-urlencode 'é=é' http://GATEWAY/
curl -d '' -d a=1 http://GATEWAY/
curl -d '' http://GATEWAY/
curl -d @form -d @heads --data-ascii @form http://GATEWAY/
curl --data-raw @form --data-binary @bin http://GATEWAY/
curl --json {} --json [] -d a=1 http://GATEWAY/
curl -d a=1 --json @bin http://GATEWAY/
curl -G --json {} http://GATEWAY/
curl --json {} -H 'accept: x' -H 'Content-Type:' http://GATEWAY/
curl -u a:b --oauth2-bearer $TOKEN http://GATEWAY/
curl -u a: -u b:c http://d:e@GATEWAY/
curl http://c:d%41@GATEWAY/ http://c@GATEWAY/ http://:d@GATEWAY/
curl --oauth2-bearer T http://a:b@GATEWAY/
curl -H 'Authorization: x' --oauth2-bearer T http://GATEWAY/
curl -H 'Authorization:' -u a:b http://GATEWAY/
curl -H @heads -H 'X-C: 1' http://GATEWAY/
curl -H 'X;' -H 'Y:' -H 'Z' -H 'V : 1' -H 'U: a;' -H 'T;x' -H 'S; ' -H 'R;;' -H '' -H ':x: y' http://GATEWAY/
curl -H 'Host: a' -H 'host: b' http://GATEWAY/
curl -H 'Host:' -H 'User-Agent:' -H 'Accept;' http://GATEWAY/
curl -H 'Host;' -H 'Accept ;' http://GATEWAY/
curl -A '' -e ';auto' http://GATEWAY/
curl -A x -A y -e 'r;auto' http://GATEWAY/
curl -A x -H 'User-Agent: z' -e r -H 'Referer: z' http://GATEWAY/
curl --url-query 'a=b c' --url-query +d=%20 --url-query @bin http://GATEWAY/?x
curl --url-query a=1 -d b=2 http://GATEWAY/
curl --url-query a=1 -G -d b=2 http://GATEWAY/
curl --url-query '' 'http://GATEWAY/?a=1'
curl -X FOO -X BAR http://GATEWAY/
curl -X GET -d a http://GATEWAY/
curl -Xput http://GATEWAY/
curl -I http://GATEWAY/
curl -I -G -d a http://GATEWAY/
curl -T bin http://GATEWAY/
curl -T bin 'http://GATEWAY/?x=/'
curl -T bin -X POST http://GATEWAY/x
curl -T - http://GATEWAY/
curl -T . http://GATEWAY/x
curl --data-binary @- http://GATEWAY/
curl http://GATEWAY/a --next -d b http://GATEWAY/b -: -X PUT -H 'A: 1' http://GATEWAY/c
curl -d x --next http://GATEWAY/b
curl --next http://GATEWAY/b
curl -d x http://GATEWAY/a --url http://GATEWAY/b
curl -sSd a http://GATEWAY/
curl --get --no-get -d a -- http://GATEWAY/
curl -r 0-5 http://GATEWAY/
curl -r 5 -H 'X: 1' http://GATEWAY/
curl -r 0-5 -H 'Range: x' http://GATEWAY/
curl --request-target '/x?y#z' http://GATEWAY/
curl -H 'Transfer-Encoding: chunked' -d abc http://GATEWAY/
curl -H 'Content-Length: 3' -d abc http://GATEWAY/
curl -H 'Content-Type;' -d abc http://GATEWAY/
curl -H 'Content-Type:' -d abc http://GATEWAY/
curl -L -k -s -S -v -i -f -N -4 --tcp-nodelay --retry 1 -m 9 -o /dev/null http://GATEWAY/ 2>/dev/null
curl -H "Authorization: Bearer $TOKEN" http://GATEWAY/${TOKEN}x 2>&1 | cat
"""

REFUSED = r"""
curl 'http://GATEWAY/{}'
curl 'http://GATEWAY/[3-1]'
curl 'http://GATEWAY/[1-3'
curl 'http://GATEWAY/a}'
curl 'http://GATEWAY/a]'
curl 'http://GATEWAY/[1-9:20]'
curl 'http://GATEWAY/[A-z]'
curl 'http://GATEWAY/{a{b}}'
curl 'http://GATEWAY/{a]b}'
curl 'http://GATEWAY/{ab'
curl 'http://GATEWAY/?a[0]=1'
curl 'http://GATEWAY/a b'
curl -G -d 'a b' http://GATEWAY/
curl -I -d a http://GATEWAY/
curl -T bin -d a http://GATEWAY/x
curl --request=PUT http://GATEWAY/
curl --nothing http://GATEWAY/
curl - http://GATEWAY/
curl -H
curl
"""

# As the developer tools write them: Chromium escapes control characters and "!" with \u, and both escape []{} in URLs.
COPIED = {
    "chromium": r"""curl 'http://GATEWAY/api/v1/series?match\[\]=\{job=~%22a|b%22\}' \
  -H 'Accept: application/json, text/plain, */*' \
  -H 'Accept-Language: de-DE,de;q=0.9' \
  -H 'Authorization: Bearer a.b.c' \
  -b 'session=1; theme="dark"' \
  -H 'User-Agent: Mozilla/5.0 (X11; Linux x86_64)' \
  -H 'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24"' \
  --insecure
""",
    "chromium form": r"""curl 'http://GATEWAY/api/v1/query' \
  -H 'content-type: application/x-www-form-urlencoded' \
  -H $'x-note: it\'s \u0021 é' \
  --data-raw $'query=up{job\u0021=\'a\'}\n\\d&start=1' \
  --compressed
""",
    "chromium method": r"""curl 'http://GATEWAY/api/v1/admin/tsdb/delete_series' \
  -X 'DELETE' \
  -H 'accept: */*' \
  --data-raw $'\u0001\u0000' ;
""",
    "firefox": r"""curl 'http://GATEWAY/api/v1/query_range?query=sum\{job%3D%22a%22\}&match\[\]=up' \
  --compressed \
  -H 'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0' \
  -H 'Accept: */*' \
  -H 'Accept-Encoding: gzip, deflate' \
  -H 'Connection: keep-alive' \
  -H 'Cookie: a=1; b=2' \
  -H 'Priority: u=4'""",
    "firefox form": r"""curl 'http://GATEWAY/api/v1/query' \
  -X POST \
  -H 'Content-Type: application/x-www-form-urlencoded' \
  --data-raw $'query=up%7Bjob%3D\'a\'%7D\r\n&x=\u0021'""",
    "grafana": r"""curl "http://GATEWAY/api/v1/query" \
  -H "Authorization: Bearer $TOKEN" -d "query=up{job=\"a\"}&time=\$x" """,
}

ARGUMENTS = [
    r"$'\q\x\u\c\8\?\"\'\\\a\b\e\E\f\n\r\t\v' $'a\0b'c $'\xff\303\251\400' $'\cA\xfg\u00e9\U0001f600\u0080'",
    r"""'a'"b $TOKEN \$x \` \" \\ \q"\ c\
d "x\
y" $"e" $ a$ "b$" a#b # comment""",
    "2>&1 a >/dev/null b 2> /dev/null c &>/dev/null 3 {x} {x}y =~",
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def server() -> Iterator[RecordingUpstream]:
    """A server that answers without a body."""
    with RecordingUpstream(lambda request: Reply(body=b"")) as upstream:
        yield upstream


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def read(line: str, directory: Path) -> tuple[CurlRequest, ...]:
    def file(path: str) -> bytes:
        return b"input" if path == "-" else (directory / path).read_bytes()

    return parse_curl(split_words(line, ENVIRON), file)


def run(line: str, directory: Path) -> int:
    """Run the line in bash, with no configuration of curl; return curl's exit code."""
    function = 'curl() { command curl -q -sS --max-time 20 "$@"; }'
    command = ["bash", "-o", "pipefail", "-c", f"{function}\n{line}"]
    environ = ENVIRON | {"no_proxy": "*"}
    ran = subprocess.run(
        command, cwd=directory, env=environ, input=b"input", capture_output=True, timeout=HANGS, check=False
    )
    return ran.returncode


def comparable(target: str, headers: list[tuple[str, str]]) -> tuple[str, list[tuple[str, str]]]:
    kept = sorted((name, re.sub(r"^curl/[\d.]+.*", "curl", value)) for name, value in headers)
    coded = [(name, "any" if name == "Accept-Encoding" and "br" in value else value) for name, value in kept]
    return re.sub("%[0-9a-fA-F]{2}", lambda match: match[0].upper(), target), coded


def assert_same(line: str, directory: Path, server: RecordingUpstream) -> None:
    line = line.replace("GATEWAY", server.url.removeprefix("http://"))
    assert run(line, directory) == 0
    sent = [
        (each.method, *comparable(each.target, list(each.headers)), each.body, each.complete)
        for each in server.requests
    ]
    explained = [
        (
            each.method,
            *comparable(
                each.target.encode("utf-8", "surrogateescape").decode("latin-1"),
                [(name.decode("latin-1"), value.decode("latin-1")) for name, value in each.headers],
            ),
            each.body or b"",
            True,
        )
        for each in read(line, directory)
    ]
    assert sent
    assert explained == sent


@pytest.mark.parametrize("line", lines(SAME))
def test_explain_reads_what_curl_sends(line: str, directory: Path, server: RecordingUpstream) -> None:
    assert_same(line, directory, server)


@pytest.mark.parametrize("line", COPIED.values(), ids=COPIED)
def test_command_lines_that_browsers_copy(line: str, directory: Path, server: RecordingUpstream) -> None:
    assert_same(line, directory, server)


@pytest.mark.parametrize("line", lines(REFUSED))
def test_what_curl_refuses_is_refused(line: str, directory: Path, server: RecordingUpstream) -> None:
    line = line.replace("GATEWAY", server.url.removeprefix("http://"))
    assert run(line, directory) != 0
    assert server.requests == []
    with pytest.raises((CurlError, ShellError)):
        read(line, directory)


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_words_are_those_of_bash(arguments: str, tmp_path: Path) -> None:
    shim = tmp_path / "curl"
    shim.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\" > argv\n")
    shim.chmod(0o700)
    environ = ENVIRON | {"PATH": f"{tmp_path}:{ENVIRON['PATH']}"}
    subprocess.run(["bash", "-c", f"curl {arguments}"], cwd=tmp_path, env=environ, timeout=HANGS, check=True)
    found = [os.fsencode(word) for word in split_words(f"curl {arguments}", ENVIRON)[1:]]
    assert found == (tmp_path / "argv").read_bytes().split(b"\0")[:-1]
