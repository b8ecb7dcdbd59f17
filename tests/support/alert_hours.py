"""Asks promtool what the alerts of ops/ say to metrics that were read from real code.

A round is what all workers said at one moment: by worker, its samples; None for a worker that did not answer.
The rules are evaluated over all rounds, as often as Prometheus does it, by promtool: nothing here knows what
they mean.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import yaml  # type: ignore[import-untyped]

from headrace.streams.scraping import Samples, read_samples

Round: TypeAlias = "Mapping[str, Samples | None]"

RULES = Path(__file__).parents[2] / "ops" / "prometheus" / "alerts.yml"
#: Between two readings, s, as ops/prometheus/prometheus.yml says.
EVERY_S = 5
#: Between two evaluations of the rules, s, as it says, too.
EVALUATE_S = 15
_COUNTERS = ("_total", "_bucket", "_count", "_sum")
_FOUND = re.compile(r'alertname="(\w+)", alertstate="(\w+)"')


def promtool_is_there() -> bool:
    """Return whether promtool is installed."""
    return shutil.which("promtool") is not None


def asked() -> dict[str, set[str]]:
    """Return the metrics that each alert asks for."""
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return {
        rule["alert"]: set(re.findall(r"\b(?:headrace_\w+|up)\b", rule["expr"])) for rule in group["rules"]
    }


def read(text: str) -> Samples:
    """Return the samples of a page of metrics that alerts ask for."""
    return read_samples(text, tuple(sorted(set().union(*asked().values()) - {"up"})))


def repeated(rounds: Sequence[Round], times: int) -> list[Round]:
    """Return rounds, played so often one after the other: counters go on from where they were."""
    out, grown = list[Round](), dict[str, Samples]()
    for _ in range(times):
        out += [
            {
                worker: None
                if samples is None
                else {key: value + grown.get(worker, {}).get(key, 0.0) for key, value in samples.items()}
                for worker, samples in one.items()
            }
            for one in rounds
        ]
        for worker, last in rounds[-1].items():
            first, so_far = rounds[0].get(worker) or {}, grown.setdefault(worker, {})
            for key, value in (last or {}).items():
                if key[0].endswith(_COUNTERS):
                    so_far[key] = so_far.get(key, 0.0) + value - first.get(key, 0.0)
    return out


def alerts(rounds: Sequence[Round], folder: Path, begin_s: float = 0.0) -> dict[str, str]:
    """Return the alerts that were ever pending or firing, and the farthest that each came.

    What they say in the first ``begin_s`` seconds is left out: a rate needs two readings.
    """
    tool = shutil.which("promtool")
    assert tool is not None, "promtool is not installed (Debian: apt-get install prometheus)"
    length = f"{EVERY_S * (len(rounds) - 1)}s"
    looked_at = f"{EVERY_S * (len(rounds) - 1) - int(begin_s)}s"
    test = {
        "interval": f"{EVERY_S}s",
        "input_series": _series(rounds),
        "promql_expr_test": [
            {"expr": f"count_over_time(ALERTS[{looked_at}])", "eval_time": length, "exp_samples": []}
        ],
    }
    shutil.copy(RULES, folder / RULES.name)
    whole = {"rule_files": [RULES.name], "evaluation_interval": f"{EVALUATE_S}s", "tests": [test]}
    (folder / "hour.yml").write_text(json.dumps(whole))  # JSON is YAML
    done = subprocess.run(
        [tool, "test", "rules", "hour.yml"], cwd=folder, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    found = sorted(set(_FOUND.findall(said)), key=lambda one: one[1], reverse=True)
    assert found or done.returncode == 0, said[-2000:]
    return dict(found)  # "firing" sorts before "pending", and is the last one here


def _series(rounds: Sequence[Round]) -> list[dict[str, str]]:
    """Return all samples as series of promtool: a series that ends is stale at once, as in Prometheus."""
    values: dict[str, list[str]] = {}
    for at, one in enumerate(rounds):
        now: dict[str, float] = {}
        for worker, samples in one.items():
            now[f'up{{job="headrace",instance="{worker}"}}'] = float(samples is not None)
            for (name, labels), value in (samples or {}).items():
                told = ",".join(f"{k}={json.dumps(v)}" for k, v in (*labels, ("instance", worker)))
                now[f"{name}{{{told}}}"] = value
        for series, had in values.items():
            if series not in now:
                had.append("stale" if had[-1] not in ("stale", "_") else "_")
        for series, number in now.items():
            values.setdefault(series, ["_"] * at).append(repr(number))
    return [{"series": series, "values": " ".join(had)} for series, had in values.items()]
