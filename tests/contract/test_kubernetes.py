"""ops/kubernetes: checked against the schemas of Kubernetes and KEDA, and against the code."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from certificates import Authority
from command_line import parse_headrace
from kustomized import FOLDER, built, containers, faults, of_kind, pods_of, roles_of
from project import ROOT

from headrace.agents.roles import ROLES
from headrace.console.sizing.constants import shipped
from headrace.console.sizing.estimate import estimate
from headrace.console.sizing.load import Load
from headrace.streams.settings import Settings
from headrace.streams.topics import acls, flow
from headrace.streams.topics.names import Topics

OVERLAYS = ("small", "full")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
#: Users that are no role: of the Job of the topics.
OTHER_USERS = {"operator"}


def settings_of(overlay: str) -> dict[str, str]:
    (found,) = of_kind(overlay, "ConfigMap")
    return found["data"]


def variables(overlay: str, container: dict[str, Any]) -> dict[str, str]:
    """Return the HEADRACE_ variables of a container."""
    own = {v["name"]: v["value"] for v in container.get("env", []) if v["name"].startswith("HEADRACE_")}
    return settings_of(overlay) | own


def workers(overlay: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(one, container) for one, container in containers(overlay) if roles_of(container)]


# --- schemas ---


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_fits_its_schema(overlay: str) -> None:
    assert len(built(overlay)) >= 6
    assert {one["metadata"]["name"]: faults(one) for one in built(overlay) if faults(one)} == {}


def test_schemas_refuse_what_is_misspelt() -> None:
    """So that the test above can fail: fields deep inside, of Kubernetes and of KEDA."""
    (serve,) = [one for one in of_kind("full", "Deployment") if one["metadata"]["name"] == "serve"]
    wrong = copy.deepcopy(serve)
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    assert "livenessprobe" in "".join(faults(wrong))
    wrong = copy.deepcopy(serve)
    wrong["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = "yes"
    assert faults(wrong)
    wrong = copy.deepcopy(of_kind("full", "ScaledObject")[0])
    wrong["spec"]["maxReplicas"] = 3
    assert "maxReplicas" in "".join(faults(wrong))
    del wrong["spec"]["maxReplicas"], wrong["spec"]["scaleTargetRef"]
    assert "scaleTargetRef" in "".join(faults(wrong))


# --- the code ---


def test_every_role_runs_once_in_full() -> None:
    found = [role for _, container in workers("full") for role in roles_of(container)]
    assert sorted(found) == sorted(ROLES)


def test_small_runs_what_lists_need() -> None:
    found = [role for _, container in workers("small") for role in roles_of(container)]
    assert sorted(found) == sorted(set(ROLES) - {"gateway", "canary", "monitor"})
    assert len(workers("small")) == 3


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_command_parses(overlay: str) -> None:
    for _, container in containers(overlay):
        commands = [container["args"]]
        commands += [p["exec"]["command"] for p in probes(container).values() if "exec" in p]
        for command in commands:
            assert command[0] == "headrace"
            parse_headrace(command[1:])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_exist_and_have_valid_values(overlay: str, tmp_path: Path) -> None:
    authority, secret = Authority(tmp_path), tmp_path / "secret"
    secret.write_text("a secret of more than sixteen characters")
    for one, container in containers(overlay):
        given = variables(overlay, container)
        fields = {name.removeprefix("HEADRACE_").lower(): text for name, text in given.items()}
        assert set(fields) <= set(Settings.model_fields), one["metadata"]["name"]
        for name in (n for n in fields if n.endswith("_file")):
            assert any(
                fields[name].startswith(f"{mount['mountPath']}/") for mount in container["volumeMounts"]
            ), f"{one['metadata']['name']}: nothing is mounted at {fields[name]}"
            fields[name] = str(authority.ca if name.endswith("_ca_file") else secret)
        Settings(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_ports_and_paths_that_are_served(overlay: str) -> None:
    for one, container in workers(overlay):
        given = variables(overlay, container)
        ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        served = {given["HEADRACE_METRICS_PORT"]: {"/metrics"}}
        for role, paths in (("gateway", {"/health", "/ready"}), ("monitor", {"/health"})):
            if role in roles_of(container):
                port = getattr(Settings.model_validate({}), f"{role}_port")
                served[given.get(f"HEADRACE_{role.upper()}_PORT", str(port))] = paths
        assert set(ports.values()) == set(served), one["metadata"]["name"]
        assert {"livenessProbe", "startupProbe"} <= set(probes(container))
        for probe in probes(container).values():
            if get := probe.get("httpGet"):
                assert get["path"] in served[ports[get["port"]]], one["metadata"]["name"]


def test_a_probe_that_a_file_has_is_the_one_that_is_built() -> None:
    """The patch of all workers takes the place of a probe with the same name."""
    compared = 0
    for path in (*FOLDER.glob("base/*.yaml"), *FOLDER.glob("overlays/full/*.yaml")):
        for written in yaml.safe_load_all(path.read_text("utf-8")):
            if written["kind"] not in {"Deployment", "StatefulSet"}:
                continue
            name = written["metadata"]["name"]
            for container in written["spec"]["template"]["spec"]["containers"]:
                (built_one,) = [
                    c
                    for one, c in containers("full")
                    if (one["metadata"]["name"], c["name"]) == (name, container["name"])
                ]
                probed = probes(built_one)
                assert probed | probes(container) == probed, f"{path.name}: {name}"
                compared += len(probes(container))
    assert compared >= len(flow.group_reads())


def probes(container: dict[str, Any]) -> dict[str, Any]:
    return {name: container[name] for name in container if name.endswith("Probe")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_role_is_ready_while_its_group_keeps_up_as_in_compose(overlay: str) -> None:
    for _, container in workers(overlay):
        for role in roles_of(container)[:1]:
            command = container.get("readinessProbe", {}).get("exec", {}).get("command")
            if not ROLES[role]:
                assert command is None, f"{role} has no group"
            else:
                assert command == COMPOSE[role]["healthcheck"]["test"][1:]


def test_ports_of_a_pod_are_its_own() -> None:
    for one in of_kind("full", "Deployment", "StatefulSet"):
        ports = [
            p["containerPort"] for c in one["spec"]["template"]["spec"]["containers"] for p in c["ports"]
        ]
        assert len(ports) == len(set(ports))


# --- security ---


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_containers_are_restricted(overlay: str) -> None:
    """As the Pod Security Standard `restricted` demands, and only mounts can be written."""
    uid = re.search(r"useradd --uid (\d+)", (ROOT / "ops" / "Dockerfile").read_text("utf-8"))
    assert uid
    for one, container in containers(overlay):
        pod, name = one["spec"]["template"]["spec"], one["metadata"]["name"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] == int(uid[1]), name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert container["image"].partition(":")[2] not in {"", "latest"}, name
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name


def test_secrets_are_files_and_each_user_has_its_own() -> None:
    assert not any("secretKeyRef" in json.dumps(container) for _, container in containers("full"))
    for one, container in containers("full"):
        given = variables("full", container)
        who = given["HEADRACE_KAFKA_USER"].removeprefix("headrace-")
        assert who in (roles_of(container) or OTHER_USERS), one["metadata"]["name"]
        assert who in acls.users()
        assert given["HEADRACE_KAFKA_PASSWORD_FILE"] == f"/etc/headrace/kafka/{who}"
        (kafka,) = [v for v in one["spec"]["template"]["spec"]["volumes"] if v["name"] == "kafka"]
        assert {"key": who, "path": who} in kafka["secret"]["items"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_folder_of_the_data_can_be_written(overlay: str) -> None:
    for one, container in workers(overlay):
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        data = mounts[variables(overlay, container)["HEADRACE_DATA_DIR"]]
        assert not data.get("readOnly")
        claims = [c["metadata"]["name"] for c in one["spec"].get("volumeClaimTemplates", [])]
        volumes = [v["name"] for v in one["spec"]["template"]["spec"]["volumes"]]
        assert data["name"] in claims + volumes
        assert "/tmp" in mounts  # noqa: S108 - where it is mounted


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_files_for_events_in_other_forms_may_be_given(overlay: str) -> None:
    """Everybody reads the settings of the registry; mapping files are for who reads `events`."""
    for one, container in containers(overlay):
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        volumes = {v["name"]: v for v in one["spec"]["template"]["spec"]["volumes"]}
        kinds = {"registry": "secret"}
        if {"ingest", "learn"} & set(roles_of(container)):
            kinds["mappings"] = "configMap"
        for name, kind in kinds.items():
            mount = mounts[f"/etc/headrace/{name}"]
            source = volumes[mount["name"]][kind]
            assert (mount["readOnly"], source["optional"]) == (True, True), one["metadata"]["name"]
            assert f"headrace-{name}" in source.values(), one["metadata"]["name"]


# --- services, budgets, scaling ---


def test_services_find_pods_and_their_ports() -> None:
    pods = {one["metadata"]["name"]: one for one in of_kind("full", "Deployment", "StatefulSet")}
    by_label = {
        one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]: one for one in pods.values()
    }
    for service in of_kind("full", "Service"):
        one = by_label[service["spec"]["selector"]["app.kubernetes.io/name"]]
        named = {p["name"] for c in one["spec"]["template"]["spec"]["containers"] for p in c["ports"]}
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= named
    headless = {s["metadata"]["name"] for s in of_kind("full", "Service") if s["spec"].get("clusterIP")}
    assert {one["spec"]["serviceName"] for one in of_kind("full", "StatefulSet")} <= headless


def test_the_dashboard_reads_every_worker() -> None:
    (monitor,) = [c for _, c in workers("full") if roles_of(c) == ["monitor"]]
    targets = set(variables("full", monitor)["HEADRACE_MONITOR_TARGETS"].split(","))
    services = {s["metadata"]["name"]: s for s in of_kind("full", "Service")}
    expected = set()
    for one, container in workers("full"):
        role = one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]
        port = int(variables("full", container)["HEADRACE_METRICS_PORT"])
        if role != "monitor":
            (name,) = [
                name
                for name, service in services.items()
                if service["spec"]["selector"]["app.kubernetes.io/name"] == role
                and service["spec"].get("clusterIP") == "None"
                and port in [p["port"] for p in service["spec"]["ports"]]
            ]
            expected.add(f"{name}:{port}")
    assert targets == expected


def test_a_budget_for_each_role_that_has_several_workers() -> None:
    several = {
        one["metadata"]["name"] for one in of_kind("full", "Deployment", "StatefulSet") if pods_of(one) > 1
    }
    budgets = {
        one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]: one["spec"]
        for one in of_kind("full", "PodDisruptionBudget")
    }
    assert set(budgets) == several >= set(flow.group_reads())
    assert all(spec["maxUnavailable"] == 1 for spec in budgets.values())


def test_one_of_a_kind_is_never_started_beside_itself() -> None:
    for one in of_kind("full", "Deployment"):
        if one["metadata"]["name"] in {"trainer", "canary"}:
            assert (one["spec"]["replicas"], one["spec"]["strategy"]["type"]) == (1, "Recreate")


def test_scaling_names_our_groups_topics_and_brokers() -> None:
    data = settings_of("full")
    topics, reads = Topics(Settings.model_validate({})), flow.group_reads()
    targets = {one["metadata"]["name"]: one["kind"] for one in of_kind("full", "Deployment", "StatefulSet")}
    scaled = {one["metadata"]["name"]: one["spec"] for one in of_kind("full", "ScaledObject")}
    assert set(scaled) == set(reads)
    (login,) = of_kind("full", "TriggerAuthentication")
    for role, spec in scaled.items():
        target = spec["scaleTargetRef"]
        assert target == {"kind": targets[role], "name": role}
        assert spec["maxReplicaCount"] <= int(data["HEADRACE_PARTITIONS"])
        assert spec["minReplicaCount"] == 2
        for trigger in spec["triggers"]:
            if trigger["type"] == "cpu":
                continue
            asked = trigger["metadata"]
            assert asked["bootstrapServers"] == data["HEADRACE_BROKERS"]
            assert asked["consumerGroup"] == f"headrace-{role}"
            assert asked["topic"] in {getattr(topics, name) for name in reads[role]}
            assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
    # Its lag is ten minutes long by design.
    assert [trigger["type"] for trigger in scaled["learn"]["triggers"]] == ["cpu"]


def test_the_policies_open_the_ports_of_the_pods() -> None:
    for overlay in OVERLAYS:
        opened = {
            port["port"]
            for policy in of_kind(overlay, "NetworkPolicy")
            for rule in policy["spec"]["ingress"]
            for port in rule["ports"]
        }
        assert {p["containerPort"] for _, c in workers(overlay) for p in c["ports"]} <= opened


# --- how large ---


def bytes_of(text: str) -> float:
    """Return a quantity of Kubernetes in bytes."""
    return float(text[:-2]) * {"Mi": 2**20, "Gi": 2**30}[text[-2:]]


def cores_of(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def test_full_is_as_large_as_its_comment_says() -> None:
    page = (FOLDER / "overlays" / "full" / "kustomization.yaml").read_text("utf-8")
    told = " ".join(line.removeprefix("#").strip() for line in page.splitlines() if line.startswith("#"))
    numbers = dict(re.findall(r"--(users|items|requests-per-s|events-per-s) (\d+)", told))
    load = Load(**{name.replace("-", "_"): float(text) for name, text in numbers.items()})
    needed = estimate(load, Settings.model_validate({}), shipped())
    assert int(settings_of("full")["HEADRACE_PARTITIONS"]) >= needed.value("kafka", "partitions")
    scaled = {one["metadata"]["name"]: one["spec"] for one in of_kind("full", "ScaledObject")}
    by_role = {role: (one, c) for one, c in workers("full") for role in roles_of(c)}
    for need in needed.roles:
        one, container = by_role[need.role]
        asked, pods = container["resources"]["requests"], pods_of(one)
        assert pods >= min(need.workers, 2), need.role
        if need.role in scaled:
            assert scaled[need.role]["maxReplicaCount"] >= 2 * need.workers, need.role
        assert bytes_of(asked["memory"]) >= needed.value(need.role, "memory of a worker"), need.role
        assert cores_of(asked["cpu"]) >= needed.value(need.role, "cores") / max(need.workers, pods), need.role
        if claims := one["spec"].get("volumeClaimTemplates"):
            disk = bytes_of(claims[0]["spec"]["resources"]["requests"]["storage"])
            if need.role == "ingest":
                assert disk >= needed.value("ingest", "disk of a worker")
