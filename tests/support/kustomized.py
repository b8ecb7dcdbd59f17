"""The manifests of ops/kubernetes, built by kustomize: that of kubectl, or one that Go installs."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml  # type: ignore[import-untyped]
from project import ROOT

from headrace.streams.errors import UnavailableError
from ops.kafka.run import cached

FOLDER = ROOT / "ops" / "kubernetes"
SCHEMAS: dict[str, Any] = json.loads((FOLDER / "schemas.json").read_text("utf-8"))
MODULE = "sigs.k8s.io/kustomize/kustomize/v5@v5.0.3"


@functools.cache
def builder() -> tuple[str, ...]:
    """Return the command that builds a folder; skip the test where there is none (fail in CI)."""
    for command in (("kubectl", "kustomize"), ("kustomize", "build")):
        if shutil.which(command[0]) and _builds(command):
            return command
    try:
        folder = cached("kustomize", MODULE.encode(), _installed)
    except UnavailableError as exc:
        if os.environ.get("HEADRACE_TEST_REQUIRE"):
            raise
        pytest.skip(str(exc))
    return (str(folder / "kustomize"), "build")


def _builds(command: tuple[str, ...]) -> bool:
    """Return whether a program is new enough for components and replacements."""
    return subprocess.run([*command, str(FOLDER / "overlays" / "small")], capture_output=True).returncode == 0


def _installed(folder: Path) -> None:
    if shutil.which("go") is None:
        raise UnavailableError("no kubectl, kustomize or Go 1.19 or newer here; on Debian: golang-go")
    env = os.environ | {"GOBIN": str(folder.absolute())}
    done = subprocess.run(["go", "install", MODULE], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"kustomize could not be installed with Go:\n{done.stderr[-500:]}")


@functools.cache
def built(overlay: str) -> tuple[dict[str, Any], ...]:
    """Return the objects of an overlay."""
    return _objects(FOLDER / "overlays" / overlay)


def built_beside(folder: Path, text: str) -> tuple[dict[str, Any], ...]:
    """Return the objects of an overlay that stands beside ours, in a copy in a new folder."""
    shutil.copytree(FOLDER, folder)
    own = folder / "overlays" / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text(text, "utf-8")
    return _objects(own)


def _objects(folder: Path) -> tuple[dict[str, Any], ...]:
    command = [*builder(), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, *kinds: str) -> list[dict[str, Any]]:
    """Return the objects of some kinds."""
    return [one for one in built(overlay) if one["kind"] in kinds]


def containers(overlay: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return every object that has pods, with each of its containers."""
    return [
        (one, container)
        for one in of_kind(overlay, "Deployment", "StatefulSet", "Job")
        for container in one["spec"]["template"]["spec"]["containers"]
    ]


def roles_of(container: dict[str, Any]) -> list[str]:
    """Return the roles that a container runs; none when it is no worker."""
    arguments = container["args"]
    return arguments[2].split(",") if arguments[:2] == ["headrace", "worker"] else []


def pods_of(one: dict[str, Any]) -> int:
    """Return how many pods an object of `full` has at least."""
    for scaled in of_kind("full", "ScaledObject"):
        if scaled["spec"]["scaleTargetRef"] == {"kind": one["kind"], "name": one["metadata"]["name"]}:
            return scaled["spec"]["minReplicaCount"]
    return one["spec"]["replicas"]


def faults(one: dict[str, Any]) -> list[str]:
    """Return what the schema of an object says of it."""
    schema = SCHEMAS["kinds"][f"{one['apiVersion']} {one['kind']}"] | {"$defs": SCHEMAS["definitions"]}
    found = jsonschema_rs.validator_for(schema).iter_errors(one)
    return [f"{'/'.join(map(str, e.instance_path))}: {e.message}" for e in found]
