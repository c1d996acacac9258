"""Every shipped configuration: it parses, and what it names exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import engine
from deploy.settings import LaunchSettings
from deploy.settings_table import rows
from feedback.metrics import SERIES
from serve.settings import GatewaySettings

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
YAMLS = sorted(
    path
    for name in ("compose", "kubernetes", "prometheus", "grafana")
    for path in (DEPLOY / name).rglob("*.yaml")
)
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "heed.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes"
OWN_IMAGES = {"heed-gateway:0.1.0", "heed-worker:0.1.0", "heed-engine-cpu:0.1.0"}
ONLY_COMPOSE = {"HEED_REDIS_PASSWORD"}  # makes the URLs; no process reads it
FOREIGN_LABELS = {"le", "job"}


class Loader(yaml.SafeLoader):
    """YAML with Compose's ``!reset``, which takes a value of another file away."""


Loader.add_constructor("!reset", lambda *_: None)


def documents(path: Path) -> list[Any]:
    return list(yaml.load_all(path.read_text(), Loader=Loader))


def walk(value: Any) -> Iterator[Any]:
    """The value and all inside it."""
    yield value
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inside:
        yield from walk(one)


@cache
def resources() -> list[dict[str, Any]]:
    return [one for path in sorted((KUBERNETES / "base").glob("*.yaml")) for one in documents(path)]


def resource(kind: str, name: str) -> dict[str, Any]:
    return next(one for one in resources() if one["kind"] == kind and one["metadata"]["name"] == name)


def containers() -> list[dict[str, Any]]:
    return [
        container
        for one in resources()
        if one["kind"] in {"Deployment", "StatefulSet"}
        for container in one["spec"]["template"]["spec"]["containers"]
    ]


def queries() -> list[str]:
    found = [
        target["expr"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", ())
    ]
    groups = documents(ALERTS)[0]["groups"]
    return found + [rule["expr"] for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_a_yaml_file_parses_and_says_something(path: Path) -> None:
    assert all(isinstance(document, dict | list) for document in documents(path))


@pytest.mark.parametrize("query", queries())
def test_a_query_uses_only_metrics_that_heed_shows(query: str) -> None:
    names = set(re.findall(r"\bheed_\w+", query))
    assert names <= SERIES
    assert names or "up{" in query


@pytest.mark.parametrize("query", queries())
def test_a_query_uses_only_labels_that_its_metrics_have(query: str) -> None:
    from feedback.metrics import TABLE

    known = {
        label
        for metric in TABLE
        if metric.series & set(re.findall(r"\bheed_\w+", query))
        for label in metric.labels
    }
    used = {
        label
        for group in re.findall(r"\bby \(([^)]*)\)", query)
        for label in group.replace(" ", "").split(",")
    }
    used |= set(re.findall(r'[{,]\s*(\w+)\s*(?:=~|!=|=)\s*"', query))
    assert used <= known | FOREIGN_LABELS


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for query in queries() for name in re.findall(r"\bheed_\w+", query)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in SERIES}
    assert families - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} == set()


def test_panels_have_ids_and_places_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    assert all(panel["title"] and (panel["type"] == "row" or panel["description"]) for panel in panels)


def test_an_alert_says_how_bad_it_is_and_where_the_mend_stands() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for group in documents(ALERTS)[0]["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"page", "ticket"}
            assert rule["annotations"]["summary"]
            file, anchor = rule["annotations"]["runbook"].split("#")
            assert (file, anchor in anchors) == ("docs/operations.md", True), rule["alert"]


def named_settings() -> set[str]:
    texts = [path.read_text() for path in [*YAMLS, ROOT / "Dockerfile", DEPLOY / "compose" / ".env.example"]]
    return {name for text in texts for name in re.findall(r"\bHEED_[A-Z_]+\b", text)}


def test_every_setting_in_the_files_exists() -> None:
    assert named_settings() - ONLY_COMPOSE <= {row.name for row in rows()}


def test_compose_asks_for_every_secret_and_holds_none() -> None:
    text = COMPOSE.read_text()
    example = dict(
        line.split("=", 1)
        for line in (DEPLOY / "compose" / ".env.example").read_text().splitlines()
        if "=" in line
    )
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(example)
    assert set(example.values()) == {""}


def images() -> set[str]:
    found = {
        one["image"]
        for path in YAMLS
        for document in documents(path)
        for one in walk(document)
        if isinstance(one, dict) and isinstance(one.get("image"), str)
    }
    return found | set(re.findall(r"^FROM (\S+:\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))


def test_images_are_pinned_to_one_version() -> None:
    assert images() >= OWN_IMAGES
    for image in images():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?[\w.-]*", image), image


def test_the_images_that_compose_builds_are_targets_of_the_dockerfile() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    services = documents(COMPOSE)[0]["services"]
    built = {one["build"]["target"]: one["image"] for one in services.values() if "build" in one}
    assert set(built) <= targets
    assert {f"heed-{target}:0.1.0" for target in built} == set(built.values()) == OWN_IMAGES


def test_ports_agree_everywhere() -> None:
    services = documents(COMPOSE)[0]["services"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    port = GatewaySettings().port
    assert LaunchSettings().port == port == 8080
    assert services["gateway"]["environment"]["HEED_PORT"] == str(port)
    assert services["gateway"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"EXPOSE {port}" in dockerfile
    scraped = {
        job["job_name"]: job["static_configs"][0]["targets"][0]
        for job in documents(DEPLOY / "prometheus" / "prometheus.yaml")[0]["scrape_configs"]
    }
    assert scraped["heed-gateway"] == f"gateway:{port}"
    assert "http://" + scraped["heed-engine"] == services["gateway"]["environment"]["HEED_ENGINE_URLS"]
    pod = resource("StatefulSet", "gateway")["spec"]["template"]
    assert pod["spec"]["containers"][0]["ports"][0]["containerPort"] == port
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(port)


def test_kubernetes_gateways_know_every_engine_by_name() -> None:
    engines = resource("StatefulSet", "engine")["spec"]["replicas"]
    urls = resource("ConfigMap", "heed-settings")["data"]["HEED_ENGINE_URLS"]
    assert urls.split(",") == [f"http://engine-{number}.engine:8000" for number in range(engines)]


def test_gateways_share_data_but_neither_spool_nor_run_folder() -> None:
    gateway = resource("StatefulSet", "gateway")["spec"]
    mounts = gateway["template"]["spec"]["containers"][0]["volumeMounts"]
    own = {mount["mountPath"] for mount in mounts if mount["name"] == "own"}
    settings = GatewaySettings(data_dir=Path("/data"))
    assert own == {str(settings.spool_dir), str(settings.run_dir)}
    assert [claim["metadata"]["name"] for claim in gateway["volumeClaimTemplates"]] == ["own"]


def test_every_store_fsyncs_before_it_answers_and_never_evicts() -> None:
    compose = " ".join(documents(COMPOSE)[0]["services"]["redis"]["command"])
    kubernetes = " ".join(
        resource("StatefulSet", "redis")["spec"]["template"]["spec"]["containers"][0]["command"]
    )
    for command in (compose, kubernetes):
        assert "--appendonly yes --appendfsync always" in command
        assert "--maxmemory-policy noeviction" in command


def test_every_container_runs_without_privileges() -> None:
    for container in containers():
        tight = container["securityContext"]
        assert tight["readOnlyRootFilesystem"] is True
        assert tight["allowPrivilegeEscalation"] is False
        assert tight["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert dockerfile.count("USER heed") == 3


def test_engines_take_what_the_gateway_takes_for_granted() -> None:
    flags = (
        (ROOT / "Dockerfile").read_text().split("AS engine-cpu")[1].replace('"', "").replace(",", "").split()
    )
    settings = GatewaySettings()
    assert flags[flags.index("--max-cpu-loras") + 1] == str(settings.adapter_slots)
    assert flags[flags.index("--max-lora-rank") + 1] == str(settings.adapter_rank_cap)
    assert flags[flags.index("--served-model-name") + 1] == settings.engine_base_name
    gpu = documents(KUBERNETES / "gpu" / "engine.yaml")[0]["spec"]["template"]["spec"]["containers"][0][
        "args"
    ]
    for said in (
        f"--max-cpu-loras={settings.adapter_slots}",
        f"--max-lora-rank={settings.adapter_rank_cap}",
        f"--served-model-name={settings.engine_base_name}",
        "--scheduling-policy=priority",
        "--enable-lora",
    ):
        assert said in gpu
        assert said in documents(DEPLOY / "compose" / "compose.gpu.yaml")[0]["services"]["engine"]["command"]


def flags(words: list[str]) -> dict[str, str]:
    """Flag → its value, empty where it has none; the last one counts, as it does for vLLM."""
    found: dict[str, str] = {}
    newest = ""
    for word in words:
        if word.startswith("--"):
            newest, _, found_value = word.partition("=")
            found[newest] = found_value
        else:
            found[newest] = word
    return found


def shipped_engines() -> dict[str, dict[str, str]]:
    """The engine of each shipped file → what it is started with, as its own settings fill it in."""
    entry = (ROOT / "Dockerfile").read_text().split("AS engine-cpu")[1].split("ENTRYPOINT ")[1]
    image = json.loads(entry.partition("]")[0].replace("\\\n", "") + "]")[3:]
    pod = resource("StatefulSet", "engine")["spec"]["template"]["spec"]["containers"][0]
    gpu = documents(KUBERNETES / "gpu" / "engine.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    compose = documents(COMPOSE)[0]["services"]["engine"]["command"]
    compose_gpu = documents(DEPLOY / "compose" / "compose.gpu.yaml")[0]["services"]["engine"]["command"]
    data = resource("ConfigMap", "heed-settings")["data"]
    named = {f"$({one['name']})": data[one["name"]] for one in pod["env"] if one["name"] in data}

    def filled(words: list[str]) -> dict[str, str]:
        text = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]
        return flags([re.sub(r"\$\(\w+\)", lambda name: named[name.group()], word) for word in text])

    return {
        "compose": filled([*image, *compose]),
        "compose on a GPU": filled(compose_gpu),
        "kubernetes": filled([*image, *pod["args"]]),
        "kubernetes on a GPU": filled(gpu["args"]),
    }


@pytest.mark.parametrize("where", ["compose", "compose on a GPU", "kubernetes", "kubernetes on a GPU"])
def test_a_shipped_engine_is_started_as_heed_up_starts_its_own(where: str) -> None:
    own = flags(engine.arguments(8000, LaunchSettings()))
    elsewhere = {"--model", "--host", "--max-model-len"}  # theirs to say
    ours_alone = {
        "--disable-log-stats",  # Prometheus asks shipped engines for what they measured
        "--enforce-eager",
        "--distributed-executor-backend",  # a faster start on the CPU of a laptop
        "--dtype",  # by the processor of this machine
        "--gpu-memory-utilization",  # a trainer shares the GPU of one machine
    }
    assert {"--enable-auto-tool-choice", "--tool-call-parser"} <= own.keys()
    for flag in own.keys() - elsewhere - ours_alone:
        assert shipped_engines()[where].get(flag) == own[flag], flag
    assert elsewhere - {"--max-model-len"} <= shipped_engines()[where].keys()


def test_only_gateways_reach_the_engines() -> None:
    rules = resource("NetworkPolicy", "engine")["spec"]["ingress"][0]["from"]
    pods = [one["podSelector"]["matchLabels"] for one in rules if "podSelector" in one]
    assert pods == [{"app": "gateway"}]


@pytest.mark.parametrize("layer", ["base", "gpu"])
def test_kustomize_names_files_that_exist(layer: str) -> None:
    folder = KUBERNETES / layer
    stated = documents(folder / "kustomization.yaml")[0]
    named = [*stated["resources"], *(patch["path"] for patch in stated.get("patches", ()))]
    assert all((folder / name).exists() for name in named)
    if shutil.which("kubectl"):
        subprocess.run(["kubectl", "kustomize", str(folder)], check=True, capture_output=True)


def test_the_page_of_metrics_names_every_metric_with_its_labels() -> None:
    from feedback.metrics import TABLE

    text = (ROOT / "docs" / "metrics.md").read_text()
    named = set(re.findall(r"`(heed_\w+)`", text))
    assert named == {metric.full for metric in TABLE}
    implied = {"alias", "experiment"}
    for metric in TABLE:
        line = next(line for line in text.splitlines() if f"`{metric.full}`" in line)
        assert set(metric.labels) - set(line.split("|")[2].replace(",", " ").split()) <= implied, metric.full


def test_the_documents_name_settings_tests_and_files_that_exist() -> None:
    settings = {row.name for row in rows()}
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text()
        assert set(re.findall(r"\bHEED_[A-Z_]+[A-Z]\b", text)) <= settings, page.name
        for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
            assert f"def {test}(" in (ROOT / file).read_text(), f"{page.name}: {file}::{test}"
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
