"""Writes ``schemas.json``: what the manifests here are checked against, without a cluster.

    pip download --no-deps kubernetes-validate     # has the schemas of Kubernetes, Apache-2.0
    git clone https://github.com/kedacore/keda     # has the CRD of a ScaledObject, Apache-2.0
    python ops/kubernetes/make_schemas.py kubernetes_validate-*.whl keda/config/crd/bases

Of the schemas only the kinds of ``KINDS`` are kept, without descriptions: strict, so that a field
that does not exist is an error. Needs PyYAML.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

#: The version whose fields are allowed. Newer clusters take these manifests, too.
VERSION = "v1.33.0"
FOLDER = f"kubernetes_validate/kubernetes-json-schema/{VERSION}-local-strict"
KINDS = {
    "apps/v1 Deployment": "deployment-apps-v1",
    "apps/v1 StatefulSet": "statefulset-apps-v1",
    "batch/v1 Job": "job-batch-v1",
    "networking.k8s.io/v1 NetworkPolicy": "networkpolicy-networking-v1",
    "policy/v1 PodDisruptionBudget": "poddisruptionbudget-policy-v1",
    "v1 ConfigMap": "configmap-v1",
    "v1 Service": "service-v1",
    "v1 ServiceAccount": "serviceaccount-v1",
}
CRDS = {
    "keda.sh/v1alpha1 ScaledObject": "keda.sh_scaledobjects.yaml",
    "keda.sh/v1alpha1 TriggerAuthentication": "keda.sh_triggerauthentications.yaml",
}
_DROPPED = {"description", "x-kubernetes-group-version-kind", "x-kubernetes-list-map-keys", "default"}
_DROPPED |= {"x-kubernetes-list-type", "x-kubernetes-map-type", "x-kubernetes-patch-strategy"}
_DROPPED |= {"x-kubernetes-patch-merge-key", "x-kubernetes-unions", "format"}


def bare(schema: Any, *, names: bool = False) -> Any:
    """Return a schema without descriptions; ``names``: its keys are names of fields."""
    if isinstance(schema, list):
        return [bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if names:
            out[key] = bare(value)
        elif key == "$ref":
            out[key] = "#/$defs/" + value.rpartition("/")[2]
        elif key not in _DROPPED:
            out[key] = bare(value, names=key in {"properties", "$defs"})
    return out


def used(schema: Any) -> set[str]:
    """Return the definitions that a schema refers to."""
    if isinstance(schema, list):
        return set().union(*map(used, schema)) if schema else set()
    if not isinstance(schema, dict):
        return set()
    found = {schema["$ref"].rpartition("/")[2]} if isinstance(schema.get("$ref"), str) else set()
    return found.union(*map(used, schema.values())) if schema else found


def strict(schema: Any) -> Any:
    """Return the schema of a CRD in which fields that it does not name are errors."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: strict(value) for key, value in schema.items()}
    named = isinstance(out.get("properties"), dict) and out.get("type") == "object"
    if named and "additionalProperties" not in out and not out.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = False
    return out


def main() -> None:
    """Write the file."""
    wheel, crds = Path(sys.argv[1]), Path(sys.argv[2])
    with zipfile.ZipFile(wheel) as archive:
        every = json.loads(archive.read(f"{FOLDER}/_definitions.json"))["$defs"]
        kinds = {kind: bare(json.loads(archive.read(f"{FOLDER}/{n}.json"))) for kind, n in KINDS.items()}
    definitions: dict[str, Any] = {}
    todo = used(kinds)
    while todo:
        name = todo.pop()
        definitions[name] = bare(every[name])
        todo |= used(definitions[name]) - set(definitions)
    for kind, name in CRDS.items():
        crd = yaml.safe_load((crds / name).read_text("utf-8"))
        (version,) = (v for v in crd["spec"]["versions"] if v["name"] == kind.split()[0].rpartition("/")[2])
        schema = bare(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
        kinds[kind] = strict(schema)
    out = {
        "from": f"Kubernetes {VERSION} (wheel {wheel.name}) and KEDA, both Apache-2.0; see make_schemas.py",
        "kinds": kinds,
        "definitions": dict(sorted(definitions.items())),
    }
    target = Path(__file__).with_name("schemas.json")
    target.write_text(json.dumps(out, separators=(",", ":"), sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
