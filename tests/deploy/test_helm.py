"""The Helm chart: what it renders is valid Kubernetes, what it starts exists, and its schema refuses what cannot be."""

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cluster.cli import cli
from router.gateway.settings import Settings
from tests.deploy.helm import binary

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "ossia"
KUBERNETES = "1.33"
VARIANTS = {
    "defaults": [],
    "gpu": ["--set", "worker.gpus=2,worker.dtype=bfloat16,model.source=openai/gpt-oss-20b,model.hubTokenSecret=hub"],
    "deterministic": ["--set", "worker.deterministic=true,worker.drafts=false,worker.collectiveTimeoutSeconds=90"],
    "simulated": ["--set", "worker.engine=simulated,worker.device=B200,model.source=gpt-oss-120b"],
    "storage": [
        "--set",
        "worker.storage.cacheSize=100Gi,worker.storage.cacheStorageClass=fast,worker.storage.modelsClaim=weights",
    ],
    "database": ["--set", "gateway.database.existingSecret=pg,gateway.database.encryptionKeysSecret=keys"],
    "access": ["--set", "gateway.accessSecret=doors,gateway.toolsSecret=kit"],
    "ingress": ["--set", "ingress.enabled=true,ingress.className=nginx,ingress.hosts={llm.example.com},ingress.tlsSecret=cert"],
    "names": ["--set", "fullnameOverride=llm,token.existingSecret=mine,image.pullSecrets={a},model.servedNames={x,y}"],
}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary(), *arguments], capture_output=True, text=True, check=False)


def render(*arguments: str) -> list[dict[str, Any]]:
    result = helm("template", "release", str(CHART), "--namespace", "models", *arguments)
    assert result.returncode == 0, result.stderr
    return [document for document in yaml.safe_load_all(result.stdout) if document]


def only(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def container(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return found


def test_gateways_share_a_database_where_there_is_one() -> None:
    def database(*arguments: str) -> dict[str, Any]:
        environment = container(only(render(*arguments), "Deployment"))["env"]
        return next(variable for variable in environment if variable["name"] == "OSSIA_DATABASE")

    assert database()["value"] == "sqlite:////tmp/gateway.db"
    assert database(*VARIANTS["database"])["valueFrom"] == {"secretKeyRef": {"name": "pg", "key": "url"}}


def test_files_of_access_and_tools_are_where_the_gateway_looks_for_them() -> None:
    deployment = only(render(*VARIANTS["access"]), "Deployment")
    volumes = {
        each["name"]: each.get("secret", {}).get("secretName") for each in deployment["spec"]["template"]["spec"]["volumes"]
    }
    mounts = {each["name"]: each["mountPath"] for each in container(deployment)["volumeMounts"]}
    arguments = container(deployment)["args"]
    for flag, secret in (("access", "doors"), ("tools", "kit")):
        assert volumes[flag] == secret
        assert f"--{flag}={mounts[flag]}/{flag}.yaml" in arguments
    assert not any(each.startswith(("--access", "--tools")) for each in container(only(render(), "Deployment"))["args"])


def test_lint() -> None:
    result = helm("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_is_valid_kubernetes(variant: str) -> None:
    documents = render(*VARIANTS[variant])
    assert {document["kind"] for document in documents} >= {"Deployment", "StatefulSet", "Service", "Role", "RoleBinding"}
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_the_cli_accepts_what_pods_run(variant: str, kind: str) -> None:
    name, *arguments = container(only(render(*VARIANTS[variant]), kind))["args"]
    command = cli.commands[name]
    command.make_context(name, list(arguments)).close()


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_pods_meet_the_restricted_pod_security_standard(kind: str) -> None:
    workload = only(render(), kind)
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(workload)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_probes_ask_the_process_and_the_model() -> None:
    documents = render()
    gateway, worker = container(only(documents, "Deployment")), container(only(documents, "StatefulSet"))
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/health"
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/ready"
    port = worker["ports"][0]["containerPort"]
    assert all(worker[probe]["grpc"] == {"port": port} for probe in ("startupProbe", "readinessProbe", "livenessProbe"))
    assert f"--port={port}" in worker["args"]


def test_the_gateway_watches_the_service_that_the_workers_are_in() -> None:
    documents = render()
    (service,) = (d for d in documents if d["kind"] == "Service" and d["spec"].get("clusterIP") == "None")
    port = service["spec"]["ports"][0]["port"]
    assert f"--fleet=kubernetes:models/{service['metadata']['name']}:{port}" in container(only(documents, "Deployment"))["args"]
    assert only(documents, "Role")["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}
    ]


def test_workers_draft_and_compute_as_asked() -> None:
    (plain, slow, simulated) = (
        set(container(only(render(*VARIANTS[name]), "StatefulSet"))["args"])
        for name in ("defaults", "deterministic", "simulated")
    )
    assert not plain & {"--no-drafts", "--deterministic"} and not any(flag.startswith("--engine") for flag in plain)
    assert "--collective-timeout=30" in plain
    assert slow >= {"--no-drafts", "--deterministic", "--collective-timeout=90"}
    assert simulated >= {"gpt-oss-120b", "--engine=simulated", "--device=B200"}


def test_both_sides_share_one_token_that_is_made_or_given() -> None:
    def secret(workload: dict[str, Any]) -> str:
        (variable,) = (v for v in container(workload)["env"] if v["name"] == "OSSIA_TOKEN")
        return str(variable["valueFrom"]["secretKeyRef"]["name"])

    made, given = render(), render("--set", "token.existingSecret=mine")
    assert {secret(only(made, kind)) for kind in ("Deployment", "StatefulSet")} == {only(made, "Secret")["metadata"]["name"]}
    assert {secret(only(given, kind)) for kind in ("Deployment", "StatefulSet")} == {"mine"}
    assert not any(document["kind"] == "Secret" for document in given)


def test_an_ingress_lets_streams_large_files_and_long_answers_through() -> None:
    documents = render(*VARIANTS["ingress"])
    ingress = only(documents, "Ingress")
    annotations = ingress["metadata"]["annotations"]
    for prefix, off, seconds in (("nginx.ingress.kubernetes.io", "off", "3600"), ("nginx.org", "false", "3600s")):
        assert annotations[f"{prefix}/proxy-buffering"] == off
        assert annotations[f"{prefix}/proxy-read-timeout"] == seconds
    most = int(annotations["nginx.ingress.kubernetes.io/proxy-body-size"].removesuffix("m")) << 20
    assert most > Settings().max_file_bytes
    assert ingress["spec"]["tls"] == [{"secretName": "cert", "hosts": ["llm.example.com"]}]
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "llm.example.com"
    assert rule["http"]["paths"][0]["backend"]["service"] == gateway_service(documents)
    (anywhere,) = only(render("--set", "ingress.enabled=true"), "Ingress")["spec"]["rules"]
    assert "host" not in anywhere
    assert not {"Ingress", "HTTPRoute"} & {document["kind"] for document in render()}


def test_a_route_of_the_gateway_api_has_no_limit_of_time() -> None:
    documents = render("--set", "httpRoute.parentRefs[0].name=public,httpRoute.hostnames={llm.example.com}")
    service = gateway_service(documents)
    backend = {"name": service["name"], "port": service["port"]["number"]}
    assert only(documents, "HTTPRoute")["spec"] == {
        "parentRefs": [{"name": "public"}],
        "hostnames": ["llm.example.com"],
        "rules": [{"backendRefs": [backend], "timeouts": {"request": "0s"}}],
    }


def gateway_service(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """As an Ingress names the service of the gateways."""
    (service,) = (d for d in documents if d["kind"] == "Service" and d["spec"].get("clusterIP") != "None")
    return {"name": service["metadata"]["name"], "port": {"number": service["spec"]["ports"][0]["port"]}}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ("worker.ranks=3", "worker/ranks"),
        ("wrker.ranks=2", "wrker"),
        ("worker.storage.cacheSize=lots", "cacheSize"),
        ("gateway.service.port=70000", "service/port"),
        ("worker.gpus=1", "a rank needs a GPU of its own"),
        ("ingress.enabled=true,ingress.tlsSecret=cert", "ingress/hosts"),
        ("httpRoute.parentRefs[0].namespace=infra", "parentRefs"),
    ],
)
def test_values_that_cannot_be_are_refused(values: str, complaint: str) -> None:
    result = helm("template", "release", str(CHART), "--set", values)
    assert result.returncode != 0
    assert complaint in result.stderr
