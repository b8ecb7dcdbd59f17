"""The metrics, their table in the documentation, and the files for Prometheus belong together."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from pages import OPERATOR
from project import ROOT

from headrace.agents.roles import ROLES
from headrace.streams.metrics import DECLARED

FOLDER = ROOT / "ops" / "prometheus"
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
TESTS = ("alerts_test.yml", "freshness_test.yml")
UNITS = ("_seconds", "_bytes", "_records", "_rows", "_items", "_partitions", "_requests", "_ratio", "_info")


def table(first: str) -> dict[str, list[str]]:
    found = re.search(rf"^\| {first} \|.*\n\|[-| ]+\|\n((?:\|.*\|\n)+)", OPERATOR, re.MULTILINE)
    assert found, f"there is no table with a first column {first!r}"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_table_of_metrics_is_complete_and_right() -> None:
    assert table("metric") == {
        d.name: [
            {"counted": "counter", "spread": "histogram"}.get(d.kind, d.kind),
            ", ".join(f"`{label}`" for label in d.labels) or "-",
            d.text,
        ]
        for d in DECLARED
    }


def test_names_say_the_unit() -> None:
    for declared in DECLARED:
        assert declared.name.startswith("headrace_")
        counter = declared.kind in {"counted", "counter"}
        assert declared.name.endswith("_total") == counter
        assert counter or declared.name.endswith(UNITS), declared.name
        assert bool(declared.buckets) == (declared.kind in {"histogram", "spread"})
    assert len({d.name for d in DECLARED}) == len(DECLARED)


def series() -> dict[str, set[str]]:
    """Return the labels of every time series that a worker has."""
    out: dict[str, set[str]] = {"up": {"job"}}
    for d in DECLARED:
        ends = ("_bucket", "_count", "_sum") if d.kind in {"histogram", "spread"} else ("",)
        out |= {d.name + end: {*d.labels, *(["le"] if end == "_bucket" else [])} for end in ends}
    return out


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_an_alert_asks_for_metrics_and_labels_that_exist(alert: dict[str, Any]) -> None:
    known = series()
    asked = set(re.findall(r"\b(?:headrace_\w+|up)\b", alert["expr"]))
    assert asked
    assert asked <= set(known)
    labels = set().union(*(known[name] for name in asked)) | {"instance"}
    for group in re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", alert["expr"]):
        assert {label.strip() for label in group.split(",")} <= labels
    said = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
    assert said <= labels
    assert alert["labels"]["severity"] in {"page", "warn"}


def anchor(alert: dict[str, Any]) -> str:
    """Return the entry of an alert in the runbook; its heading is the name, its anchor in small letters."""
    page, _, name = alert["annotations"]["runbook"].partition("#")
    assert page == "docs/operator.md"
    assert name == alert["alert"].lower()
    runbook = re.search(r"^## Runbook$.*?(?=^## )", OPERATOR, re.MULTILINE | re.DOTALL)
    assert runbook
    found = re.search(rf"^### {alert['alert']}$(.*?)(?=^#)", runbook[0] + "#", re.MULTILINE | re.DOTALL)
    assert found, f"the runbook has no entry {alert['alert']}"
    return found[1]


def test_every_alert_is_explained() -> None:
    severity = {name: row[0] for name, row in table("alert").items()}
    assert severity == {alert["alert"]: alert["labels"]["severity"] for alert in ALERTS}
    assert list(severity) == [alert["alert"] for alert in ALERTS]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_every_alert_has_an_entry_in_the_runbook(alert: dict[str, Any]) -> None:
    entry = anchor(alert)
    assert "- **Look at**: " in entry
    assert "- **Do**: " in entry


def test_the_runbook_has_no_entry_without_an_alert() -> None:
    assert set(re.findall(r"^### (Headrace\w+)$", OPERATOR, re.MULTILINE)) == {a["alert"] for a in ALERTS}


def test_prometheus_reads_every_role_where_it_serves() -> None:
    (job,) = CONFIG["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert set(found["names"]) == set(ROLES)
    for role in ROLES:
        environment = COMPOSE["services"][role]["environment"]
        assert environment["HEADRACE_METRICS_PORT"] == str(found["port"])
        assert environment["HEADRACE_METRICS_HOST"] == "0.0.0.0"  # noqa: S104 - inside a container
    assert CONFIG["rule_files"] == ["alerts.yml"]


def promtool(*arguments: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return subprocess.run([tool, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_promtool_takes_the_configuration() -> None:
    done = promtool("check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stderr


def test_every_alert_fires_in_trouble_and_none_when_all_is_well() -> None:
    done = promtool("test", "rules", *TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = "".join((FOLDER / name).read_text("utf-8") for name in TESTS)
    named = set(re.findall(r'alertname(?:="|: )(\w+)', tested))
    assert {alert["alert"] for alert in ALERTS} == named


def test_the_test_of_the_alerts_can_fail(tmp_path: Path) -> None:
    rules = (FOLDER / "alerts.yml").read_text("utf-8")
    for name in TESTS:
        (tmp_path / name).write_text((FOLDER / name).read_text("utf-8"))
    for change in (
        ('bulk"}) > 60', 'bulk"}) > 1e9'),
        ("> 0.05", "> 0.001"),
        ("14.4 *", "100 *"),
        ("(probe) 6 *", "(probe) 0.1 *"),
        ("[6h]", "[60h]"),
    ):
        assert change[0] in rules
        (tmp_path / "alerts.yml").write_text(rules.replace(*change))
        assert promtool("test", "rules", *TESTS, folder=tmp_path).returncode != 0, change
