"""The examples of deployment/: what can run here runs, with the addresses of the test in place of the example's."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from tests.support.wire.certificates import Authority
from tests.support.wire.deployment import DEPLOYMENT, run
from tests.support.wire.processes import REPOSITORY, Gateway, find_program, run_vmgateway
from tests.support.wire.servers import OidcProvider, VictoriaMetrics
from vmgw_addons.cli.main import main
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
    limits.write_text("limits: [{type: queries, value: 5}]")
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
        yield gateway.client().get("/metrics").text


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
    assert "21 rules found" in run(find_program("promtool"), "check", "rules", str(RULES))
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


@pytest.mark.parametrize("version", ["1.30", "1.34"])
def test_kubernetes_takes_the_example(version: str) -> None:
    """By its own schemas, in which nothing unknown may stand; the package has them with it."""
    documents = list(yaml.safe_load_all((DEPLOYMENT / "kubernetes" / "vmgateway.yaml").read_text()))
    kinds = ["Deployment", "Service", "PodDisruptionBudget", *["NetworkPolicy"] * 3]
    assert [item["kind"] for item in documents] == kinds
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)
    documents[0]["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinessProb"):
        kubernetes_validate.validate(documents[0], version, strict=True)


def test_the_kubernetes_example_fits_the_gateway(tmp_path: Path) -> None:
    directory = DEPLOYMENT / "kubernetes"
    documents = {item["kind"]: item for item in yaml.safe_load_all((directory / "vmgateway.yaml").read_text())}
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    keys = tmp_path / "etc"
    keys.mkdir()
    for name in ("pprofAuthKey", "flagsAuthKey"):
        (keys / name).write_text("key")
    arguments = [argument.replace("/etc/vmgateway", str(keys)) for argument in container["args"]]
    assert main([*arguments, "-dryRun"], {}) == 0
    settings = parse(arguments, {}).settings
    drain = settings.http_shutdown_delay + settings.http_max_graceful_shutdown_duration
    assert pod["terminationGracePeriodSeconds"] > drain
    probe = container["readinessProbe"]
    assert settings.http_shutdown_delay > 2 * probe["periodSeconds"] * probe["failureThreshold"]
    assert settings.http_listen_addr == f":{container['ports'][0]['containerPort']}"
    assert documents["Service"]["spec"]["ports"][0]["port"] == 8431
    names = [port["name"] for port in container["ports"]]
    assert probe["httpGet"] == {"path": "/-/ready", "port": names[0]}
    assert settings.workers > 1
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert "emptyDir" in volumes[mounts["/tmp"]], "the workers share a directory there"  # noqa: S108


# What each component of a VictoriaMetrics cluster listens on, and who must and must not reach it there.
REACHED: Final = {
    ("vmselect", 8481): {"vmgateway", "vmselect", "vmagent", "prometheus"},
    ("vminsert", 8480): {"vmgateway", "vmagent", "prometheus"},
    ("vmstorage", 8400): {"vminsert"},
    ("vmstorage", 8401): {"vmselect"},
    ("vmstorage", 8482): {"vmagent", "prometheus"},
}


def selects(selector: dict[str, Any], app: str) -> bool:
    """Whether a label selector of Kubernetes picks a pod with this label ``app``."""
    expressions = [*selector.get("matchExpressions", ())]
    expressions += [
        {"key": key, "operator": "In", "values": [value]} for key, value in selector.get("matchLabels", {}).items()
    ]
    assert all((each["key"], each["operator"]) == ("app", "In") for each in expressions)
    return all(app in each["values"] for each in expressions)


def test_the_network_policies_admit_who_they_say_and_nobody_else() -> None:
    """As Kubernetes reads them: a pod that no policy selects is open to all; policies add up."""
    documents = yaml.safe_load_all((DEPLOYMENT / "kubernetes" / "vmgateway.yaml").read_text())
    policies = [item["spec"] for item in documents if item["kind"] == "NetworkPolicy"]
    assert all(policy["policyTypes"] == ["Ingress"] for policy in policies)
    apps = {"vmgateway", "vmselect", "vminsert", "vmstorage", "vmagent", "prometheus", "grafana", "somebody"}

    def admitted(source: str, target: str, port: int) -> bool:
        rules = [rule for policy in policies if selects(policy["podSelector"], target) for rule in policy["ingress"]]
        assert rules, f"{target} is open to everybody"
        return any(
            any(selects(each["podSelector"], source) for each in rule["from"])
            and port in [each["port"] for each in rule["ports"]]
            for rule in rules
        )

    for target, port in REACHED:
        found = {source for source in apps if admitted(source, target, port)}
        assert found == REACHED[target, port], (target, port)
    assert not any(selects(policy["podSelector"], "vmgateway") for policy in policies), "clients are anywhere"


def test_a_bad_configuration_is_not_tried_again_by_systemd() -> None:
    """RestartPreventExitStatus is about the main process alone, so nothing may check the configuration before it."""
    unit = (DEPLOYMENT / "systemd" / "vmgateway.service").read_text()
    assert re.findall(r"(?m)^ExecStartPre=", unit) == []
    assert re.findall(r"(?m)^RestartPreventExitStatus=(.*)$", unit) == ["2"]
    assert run_vmgateway("-enable.auth").returncode == 2
    assert run_vmgateway("-enable.auth", "-read.url=http://vm", "-tlsCertFile=/c").returncode == 2


def instructions(file: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: word and argument, lines that go on joined."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(None, 1)[0], " ".join(line.split(None, 1)[1].split())) for line in joined.splitlines()]


def test_the_image_is_made_of_locked_versions_by_a_user_without_rights() -> None:
    steps = instructions(DEPLOYMENT / "kubernetes" / "Dockerfile")
    bases = [argument for word, argument in steps if word == "FROM"]
    assert len(bases) == 2, "what builds the gateway stays out of the image"
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", bases[1]), "one exact release"
    assert bases[0] == f"{bases[1]} AS build"
    installs = [
        part for word, argument in steps if word == "RUN" for part in argument.split(" && ") if "pip install" in part
    ]
    locked = [part for part in installs if "--require-hashes" in part]
    assert [part.rpartition(" ")[2] for part in locked] == ["constraints.txt", "build.txt"]
    assert [part for part in installs if part not in locked and "--no-deps" not in part] == []
    last = steps[len(steps) - [word for word, _ in steps[::-1]].index("FROM") :]
    assert [word for word, _ in last] == ["COPY", "USER", "EXPOSE", "ENTRYPOINT"]
    assert dict(last)["USER"] == "65534:65534"
    build = (DEPLOYMENT / "kubernetes" / "build.txt").read_text()
    assert re.search(r"(?m)^setuptools==(\d+)\.[\d.]+ \\\n    --hash=sha256:[0-9a-f]{64}$", build)


def test_the_build_gets_what_it_copies_and_nothing_else() -> None:
    steps = instructions(DEPLOYMENT / "kubernetes" / "Dockerfile")
    copied = {
        name
        for word, argument in steps
        if word == "COPY" and "--from" not in argument
        for name in argument.split()[:-1]
    }
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert all((REPOSITORY / name).exists() for name in copied)
