"""The real servers around the gateway: VictoriaMetrics, a cluster's URL scheme, its agents, an OpenID provider."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import redis

from tests.support.wire.client import Client
from tests.support.wire.processes import Process, find_program, free_port

OIDC_DIRECTORY: Final = Path(__file__).resolve().parents[2] / "wire" / "oidc"


class Server(Process):
    """A process that answers HTTP on a port of its own, and says on ``health`` that it does."""

    health = "/health"

    def __init__(self, *flags: str) -> None:
        self.port = free_port()
        self.flags = flags
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> Client:
        return Client(self.port)

    def is_ready(self) -> bool:
        return self.client.get(self.health).status == 200


class VictoriaMetrics(Server):
    """Single-node VictoriaMetrics with an empty data directory.

    It is asked as of a few seconds ahead: a sample written without a timestamp does not show in the second it was
    written in.
    """

    name = "victoria-metrics"

    def __init__(self, *flags: str, cached: bool = False) -> None:
        self.cached = cached
        """Whether it keeps the results of queries, as it does in production."""
        super().__init__(*flags)

    def command(self) -> list[str]:
        return [
            find_program("victoria-metrics"),
            f"-httpListenAddr=127.0.0.1:{self.port}",
            f"-storageDataPath={self.directory / 'data'}",
            "-retentionPeriod=100y",
            "-search.latencyOffset=0s",
            *(() if self.cached else ("-search.disableCache",)),
            "-memory.allowedBytes=128MB",
            *self.flags,
        ]

    def import_prometheus(self, text: str) -> None:
        """Write samples in the text format, past the gateway."""
        assert self.client.post("/api/v1/import/prometheus", body=text).status == 204
        self.force_flush()

    def force_flush(self) -> None:
        assert self.client.get("/internal/force_flush").status == 200

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression: items with ``metric`` and ``value``."""
        result: list[dict[str, Any]] = self._data("/api/v1/query", query=expression, time=_ahead())["result"]
        return result

    def series(self, selector: str) -> list[dict[str, str]]:
        """The label sets that match, of any time."""
        series: list[dict[str, str]] = self._data("/api/v1/series", **{"match[]": selector, "start": "1"})
        return series

    def export(self, selector: str) -> list[dict[str, Any]]:
        """The series that match with all their samples: items with ``metric``, ``values`` and ``timestamps``."""
        self.force_flush()
        answer = self.client.get("/api/v1/export", {"match[]": selector, "start": "1", "end": _ahead()})
        assert answer.status == 200, answer
        # 1.79.5 writes infinity as Go does, which is not JSON.
        return [
            json.loads(re.sub(r"(?<=[\[,])\+Inf(?=[,\]])", "Infinity", line))
            for line in answer.text.split("\n")
            if line
        ]

    def _data(self, target: str, **arguments: str) -> Any:  # noqa: ANN401
        self.force_flush()
        answer = self.client.get(target, arguments)
        assert answer.status == 200, answer
        return answer.json()["data"]


def _ahead() -> str:
    return str(int(time.time()) + 5)


# The tenant's part of a cluster path is cut off, and what is behind it goes to the tenant's own single-node server.
# $request_uri is the target as the client sent it: nothing is decoded or merged on the way.
NGINX_CONFIGURATION: Final = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 0;
    log_format request escape=json '{{"method":"$request_method","target":"$request_uri","host":"$http_host",'
        '"authorization":"$http_authorization","account":"$http_accountid","status":$status,"port":$server_port}}';
    access_log {directory}/access.log request;
    map $request_uri $node {{
        default "";
{nodes}
    }}
    map $request_uri $behind_tenant {{
        default "";
        "~^/insert/[0-9:]+(?<insert>/(?:prometheus|influx|datadog|opentelemetry|newrelic|zabbixconnector).*)$" $insert;
        "~^/select/[0-9:]+(?<select>/(?:prometheus|graphite|vmui|graph|static).*)$" $select;
        "~^/delete/[0-9:]+(?<delete>/prometheus/.*)$" $delete;
    }}
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{unwatched_port};
        merge_slashes off;
        location = /health {{ access_log off; return 200 OK; }}
        location / {{
            if ($node = "") {{ return 404; }}
            if ($behind_tenant = "") {{ return 404; }}
            proxy_http_version 1.1;
            proxy_pass http://$node$behind_tenant;
        }}
    }}
}}
"""


class Cluster(Server):
    """The URL scheme of a VictoriaMetrics cluster: nginx in front of one single-node server per tenant.

    A stand-in: it shows which tenant a path names, not how vminsert and vmselect behave otherwise. ``15`` and
    ``15:0`` are the same tenant; a tenant without a server is 404.
    """

    name = "cluster"

    def __init__(self, tenants: Iterable[tuple[int, int]] = ((0, 0), (1, 5), (15, 0))) -> None:
        self.nodes: dict[tuple[int, int], VictoriaMetrics] = {}
        self.unwatched_port = free_port()
        """The same, but for ``requests``."""
        try:
            for tenant in tenants:
                self.nodes[tenant] = VictoriaMetrics()
            super().__init__()
        except BaseException:
            self._close_nodes()
            raise

    def command(self) -> list[str]:
        configuration = self.directory / "nginx.conf"
        nodes = "\n".join(
            f'"~^/(?:insert|select|delete)/{account}{f"(?::{project})?" if project == 0 else f":{project}"}/" '
            f"127.0.0.1:{node.port};"
            for (account, project), node in self.nodes.items()
        )
        ports = {"port": self.port, "unwatched_port": self.unwatched_port}
        configuration.write_text(NGINX_CONFIGURATION.format(directory=self.directory, nodes=nodes, **ports))
        return [find_program("nginx"), "-p", str(self.directory), "-e", "stderr", "-c", str(configuration)]

    def requests(self) -> list[dict[str, Any]]:
        """What reached it, from its access log: method, target, host, authorization, account, status."""
        self.client.get("/health")  # it is one process: what it has answered before this is in its log by now
        text = (self.directory / "access.log").read_text(errors="replace")
        requests = [json.loads(line) for line in text.split("\n") if line]
        return [request for request in requests if request["port"] == self.port]

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._close_nodes()

    def _close_nodes(self) -> None:
        for node in self.nodes.values():
            node.close()


class Vmagent(Server):
    """vmagent with one remote write: its queue is in its directory and outlives a restart."""

    name = "vmagent"

    def __init__(self, remote_write_url: str, bearer_token: str, *flags: str) -> None:
        self._remote_write = (f"-remoteWrite.url={remote_write_url}", f"-remoteWrite.bearerToken={bearer_token}")
        super().__init__(*flags)

    def command(self) -> list[str]:
        return [
            find_program("vmagent"),
            f"-httpListenAddr=127.0.0.1:{self.port}",
            *self._remote_write,
            f"-remoteWrite.tmpDataPath={self.directory / 'queue'}",
            "-remoteWrite.flushInterval=100ms",
            "-remoteWrite.showURL",
            "-memory.allowedBytes=64MB",
            *self.flags,
        ]

    def push(self, text: str) -> None:
        """Hand it samples in the text format, as a scrape would."""
        assert self.client.post("/api/v1/import/prometheus", body=text).status == 204


class Vmalert(Server):
    """vmalert with one file of rules, read from and written to with a bearer token."""

    name = "vmalert"

    def __init__(self, rules: str, *, datasource_url: str, remote_write_url: str, bearer_token: str) -> None:
        self._rules = rules
        super().__init__(
            f"-datasource.url={datasource_url}",
            f"-datasource.bearerToken={bearer_token}",
            f"-remoteWrite.url={remote_write_url}",
            f"-remoteWrite.bearerToken={bearer_token}",
            "-remoteWrite.flushInterval=200ms",
            "-evaluationInterval=1s",
        )

    def command(self) -> list[str]:
        rules = self.directory / "rules.yaml"
        rules.write_text(self._rules)
        return [find_program("vmalert"), f"-httpListenAddr=127.0.0.1:{self.port}", f"-rule={rules}", *self.flags]


class Alerting(Server):
    """vmalert with one file of rules, whose alerts go nowhere and whose results are not kept."""

    name = "vmalert"

    def __init__(self, rules: str, *, datasource_url: str, flags: Sequence[str] = ()) -> None:
        self._rules = rules
        super().__init__(f"-datasource.url={datasource_url}", "-evaluationInterval=1s", *flags)

    def command(self) -> list[str]:
        rules = self.directory / "rules.yaml"
        rules.write_text(self._rules)
        nowhere = f"-notifier.url=http://127.0.0.1:{self.port}"
        return [
            *(find_program("vmalert"), f"-httpListenAddr=127.0.0.1:{self.port}", f"-rule={rules}", nowhere),
            *self.flags,
        ]


class Redis(Server):
    """redis-server with a password, and nothing kept on disk."""

    name = "redis"
    password = "pass word"  # noqa: S105

    def command(self) -> list[str]:
        return [
            find_program("redis-server"),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "no", "--requirepass", self.password, "--enable-debug-command", "yes"),
            *self.flags,
        ]

    @property
    def url(self) -> str:
        return f"redis://:{quote(self.password)}@127.0.0.1:{self.port}/0"

    def is_ready(self) -> bool:
        return self.connect().ping() is True

    @cached_property
    def _client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self.password, socket_timeout=5, decode_responses=True)

    def connect(self) -> redis.Redis:
        """The client of all tests, which is closed with the server."""
        return self._client

    def close(self) -> None:
        self._client.close()
        super().close()


class OidcProvider(Server):
    """node-oidc-provider. ``clients`` maps a name to its ``vm_access`` claim, for the client credentials grant.

    ``logins`` maps a client for logins to its ``vm_access`` and its ``redirect_uris``, and perhaps the ``lifetime`` of
    ID tokens in seconds.
    """

    name = "oidc"
    health = "/.well-known/openid-configuration"

    def __init__(self, clients: Mapping[str, object], logins: Mapping[str, Mapping[str, object]] | None = None) -> None:
        of_logins = {} if logins is None else logins
        described = {**{name: {"vm_access": claim} for name, claim in clients.items()}, **of_logins}
        self._clients = {name: {"secret": os.urandom(16).hex(), **client} for name, client in described.items()}
        super().__init__()

    def command(self) -> list[str]:
        assert (OIDC_DIRECTORY / "node_modules").is_dir(), f"run scripts/test, or: npm ci --prefix {OIDC_DIRECTORY}"
        configuration = json.dumps({"port": self.port, "clients": self._clients})
        return [find_program("node"), str(OIDC_DIRECTORY / "server.mjs"), configuration]

    @property
    def issuer(self) -> str:
        return self.url

    @property
    def discovery_url(self) -> str:
        return f"{self.url}/.well-known/openid-configuration"

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/jwks"

    def secret(self, client: str) -> str:
        return str(self._clients[client]["secret"])

    def token(self, client: str, *, algorithm: str = "ES256") -> str:
        """An access token of a client, signed with the provider's current key: RS256 or ES256."""
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": self._clients[client]["secret"],
            "scope": "metrics",
            "resource": f"https://metrics.example/{algorithm}",
        }
        answer = self.client.post("/token", form={name: str(value) for name, value in form.items()})
        assert answer.status == 200, answer
        token: str = answer.json()["access_token"]
        return token

    def deny(self) -> None:
        """From now on the user refuses each login."""
        assert self.client.post("/deny").status == 204

    def seen(self) -> list[str]:
        """The requests for tokens, and to end a session."""
        seen: list[str] = self.client.get("/seen").json()
        return seen

    def rotate(self) -> None:
        """Replace its signing keys: the old ones are no longer in its JWKS."""
        assert self.client.post("/rotate").status == 204


def prometheus_lines(name: str, count: int, **labels: str) -> str:
    """``count`` series of one metric in the text format, told apart by a label ``n``; each has the value of its n.

    The samples are half a minute old, so that a query as of now sees them.
    """
    fixed = "".join(f',{key}="{value}"' for key, value in labels.items())
    timestamp = (int(time.time()) - 30) * 1000
    return "".join(f'{name}{{n="{number}"{fixed}}} {number} {timestamp}\n' for number in range(count))
