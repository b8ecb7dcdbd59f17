"""Which rankers and settings are in use, and how the present rollout stands, for the dashboard. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from headrace.models.learning import artefact
from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.kinds import KINDS, RANKER, Kind
from headrace.models.learning.pointers import Pointers, stage_name
from headrace.models.learning.rollout import differences
from headrace.models.learning.shelf import Shelf
from headrace.serving.monitor.figures import rate_interval
from headrace.streams.errors import ArtefactError


def models_table(
    shelves: Mapping[Kind, Shelf], counts: Mapping[Kind, ArmCounts], alphas: Mapping[Kind, float]
) -> list[dict[str, Any]]:
    """Return, for rankers and for settings, the versions that are named, and the rollout.

    Parameters
    ----------
    shelves, counts
        What `models` has, by kind.
    alphas
        Chance of a wrong decision about a candidate, by kind.
    """
    out = []
    for kind in KINDS:
        shelf = shelves[kind]
        p, found = shelf.pointers, counts.get(kind)
        row = {
            "kind": kind.name,
            "versions": [_version(shelf, version) for version in sorted(p.named(), key=_order(p))],
            "by": p.by,
            "reason": p.reason,
            "since": p.stage_ts,
            "stage": stage_name(p.share) if p.candidate else "",
            "arms": [],
            "differences": {},
        }
        if p.candidate and found is not None and found.of_stage(p):
            row["arms"] = [_arm(name, arm) for name, arm in found.figures().items()]
            row["differences"] = {n: asdict(d) for n, d in differences(found, alphas[kind]).items()}
        out.append(row)
    return out


def _order(p: Pointers) -> Any:
    """Return the key that sorts live first, then the candidates, then the others."""
    order = {v: i for i, v in enumerate([p.live, *p.candidates(), p.waiting, p.previous])}
    return lambda version: order.get(version, len(order))


def rankers_table(shelf: Shelf) -> list[dict[str, str]]:
    """Return the versions that are named and on `models`, and what each is used for: the live one first."""
    p = shelf.pointers
    versions = [version for version in sorted(p.named(), key=_order(p)) if version in shelf.texts]
    return [{"version": version, "use": _use(p, version)} for version in versions]


def _use(p: Pointers, version: str) -> str:
    if version in p.candidates():
        return f"candidate, {stage_name(p.share if version == p.candidate else 0)}"
    return {p.previous: "previous", p.waiting: "waiting", p.live: "live"}.get(version, "")


def _version(shelf: Shelf, version: str) -> dict[str, Any]:
    use = _use(shelf.pointers, version)
    auc = created = None
    if shelf.kind is RANKER and version in shelf.texts:
        try:
            auc, created = _about(shelf.texts[version])
        except ArtefactError:
            use += ", cannot be read"
    return {"version": version, "use": use, "auc": auc, "created": created}


@lru_cache(maxsize=8)  # it keeps these texts in memory
def _about(text: bytes) -> tuple[float | None, int | None]:
    """Return the AUC of a ranker, and when it was made. A text has megabytes, and stays the same."""
    document = artefact.decode(text)
    return document.get("metrics", {}).get("auc"), document.get("created_ts")


def _arm(name: str, arm: Mapping[str, Any]) -> dict[str, Any]:
    rate, low, high = rate_interval(arm["clicks"], arm["examples"]) or (None, None, None)
    return {**arm, "arm": name, "rate": rate, "low": low, "high": high}
