"""The manifests of ops/kubernetes, built by kustomize: that of kubectl, or one that Go installs."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from project import ROOT

from headrace.streams.errors import UnavailableError
from ops.kafka.run import cached

FOLDER = ROOT / "ops" / "kubernetes"
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
    command = [*builder(), str(FOLDER / "overlays" / overlay)]
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
