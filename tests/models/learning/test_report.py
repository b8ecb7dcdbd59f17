"""The report of a training: position flatters no figure but the one that says so; its numbers are right."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from report_logs import DECIDES, SLOTS, slots, trained

from headrace.models.features.spec import GROUPS, POSITION, SPEC
from headrace.models.learning import report_page
from headrace.models.learning.evaluation import auc
from headrace.models.learning.report import VIEWS
from headrace.models.learning.training import TrainResult

Views = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], TrainResult]:
    known: dict[str, TrainResult] = {}

    def of(kind: Any) -> TrainResult:
        if kind not in known:
            folder = tmp_path_factory.mktemp(kind)
            ablation, both = kind == "feature", {"click": 0.6, "like": 0.4}
            more = {"objectives": both} if ablation else {}
            seed = (
                0 if ablation else 2
            )  # one whose features foresee the clicks of the rest neither way by chance
            known[kind] = trained(folder, slots(20_000, kind, seed), ablation=ablation, **more)
        return known[kind]

    return of


def views(result: TrainResult, name: str = "click") -> Views:
    return result.report["objectives"][name]["views"]  # type: ignore[no-any-return]


def figure(view: dict[str, Any], name: str) -> float:
    return view["figures"][name]["value"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["position", "order"])
def test_where_position_explains_all_no_fair_figure_is_above_chance(
    made: Callable[[Any], TrainResult], kind: str
) -> None:
    found = views(made(kind))
    assert figure(found["as_logged"], "auc") > 0.7, "position flatters this"
    for name in ("position_fixed", "inverse_propensity", "explored"):
        told = found[name]["figures"]["auc"]
        assert told["low"] - 0.01 < 0.5 < told["high"] + 0.01, name
        assert abs(told["value"] - 0.5) < 0.06, name


def test_where_a_feature_decides_every_view_sees_it(made: Callable[[Any], TrainResult]) -> None:
    found = views(made("feature"))
    assert list(found) == list(VIEWS)
    for name in VIEWS:
        told = found[name]["figures"]["auc"]
        assert told["low"] < told["value"] < told["high"]
        assert told["low"] > 0.75, name
    assert found["explored"]["slots"] < found["position_fixed"]["slots"] / 5
    width = {n: found[n]["figures"]["auc"]["high"] - found[n]["figures"]["auc"]["low"] for n in VIEWS}
    assert width["explored"] > 1.5 * width["position_fixed"], "it is of fewer slots"


def test_the_numbers_are_those_of_the_log(made: Callable[[Any], TrainResult]) -> None:
    result, examples = made("feature"), slots(20_000, "feature")
    told, newest = result.report, examples[-4000:]
    clicked = np.array([e.clicked for e in newest])
    explored = np.array([e.explored for e in newest])
    assert (told["rows"], told["held_out"]) == (20_000, 4000)
    assert told["positives"]["click"] == sum(e.clicked for e in examples)
    found = views(result)
    assert (found["position_fixed"]["positives"], found["position_fixed"]["lists"]) == (clicked.sum(), 400)
    assert (found["explored"]["slots"], found["explored"]["positives"]) == (
        explored.sum(),
        clicked[explored].sum(),
    )
    for k, row in enumerate(told["objectives"]["click"]["by_position"]):
        here = np.arange(4000) % SLOTS == k
        assert (row["n"], row["actual"]) == (400, pytest.approx(clicked[here].mean()))
        assert (row["explored_n"], row["explored_actual"]) == (
            (here & explored).sum(),
            pytest.approx(clicked[here & explored].mean()),
        )
    points = told["objectives"]["click"]["reliability"]
    assert sum(p["n"] * p["actual"] for p in points) == pytest.approx(clicked.sum())
    assert all(abs(p["predicted"] - p["actual"]) < 0.12 for p in points)
    likes = views(result, "like")["position_fixed"]["positives"]
    assert likes == sum(e.liked for e in newest)
    assert next(iter(told["importance"])) == DECIDES
    assert told["weights"] == {"click": 0.6, "like": 0.4}
    assert told["parameters"]["leaves"] == 7
    assert {"headrace", "lightgbm", "python"} <= told["versions"].keys()


def test_as_logged_and_explored_are_plain_figures_of_a_ranker_without_the_newest(tmp_path: Path) -> None:
    examples = slots(6000, "feature", 3)
    older = trained(tmp_path / "older", examples[:4800])
    found = views(trained(tmp_path / "all", examples))
    from headrace.models.learning.ranker import Ranker

    x = np.stack([np.frombuffer(e.features, "<f4") for e in examples[4800:]])
    clicked, free = (np.array([getattr(e, n) for e in examples[4800:]]) for n in ("clicked", "explored"))
    probe = Ranker(older.text, SPEC.names, "older")
    assert figure(found["as_logged"], "auc") == pytest.approx(auc(probe.predict(x), clicked))
    fixed = x.copy()
    fixed[:, POSITION] = 0
    score = probe.predict(fixed)
    assert figure(found["explored"], "auc") == pytest.approx(auc(score[free], clicked[free]))


def test_the_ablation_names_the_group_that_matters(made: Callable[[Any], TrainResult]) -> None:
    whole, *rows = made("feature").report["ablation"]
    assert [row["without"] for row in rows] == list(GROUPS)
    assert whole["figures"]["auc"] == views(made("feature"))["position_fixed"]["figures"]["auc"]
    lost = {row["without"]: row["lost"] for row in rows}
    assert DECIDES in GROUPS["windows"]
    assert lost["windows"]["low"] > 0.2
    assert all(told["value"] < 0.03 and told["low"] < 0.01 for n, told in lost.items() if n != "windows")
    assert [row["features"] for row in rows] == [len(SPEC) - len(names) for names in GROUPS.values()]


def test_groups_are_of_features_that_exist() -> None:
    assert all(names and set(names) <= set(SPEC.names) for names in GROUPS.values())
    left = set(SPEC.names).difference(*GROUPS.values())
    of_request = {"surface", "hour", "local_hour", "weekday", "device", "age_group"}
    assert left == {"item_age_h", "seen_before"} | of_request


def test_distributions_are_of_the_shown_slots(made: Callable[[Any], TrainResult]) -> None:
    found = made("position").features
    assert found is not None
    assert found.rows == 20_000
    assert found.features["position"].shares[1:-1] == pytest.approx([0.1] * SLOTS)


def full(result: TrainResult, **more: Any) -> dict[str, Any]:
    told = {"version": "0123456789ab", "created_ts": 1_790_000_000_000, "refused": ""}
    return {**told, "objectives": {}, "ablation": None, **result.report, **more}


def test_the_page_is_one_file_and_says_what_the_json_says(
    made: Callable[[Any], TrainResult], tmp_path: Path
) -> None:
    assert report_page.can_be_made()
    told = full(made("feature"), refused="<b>auc</b> is low")
    files = report_page.write(tmp_path, told)
    assert [f.name for f in files] == ["report.json", "report.html"]
    assert msgspec.json.decode(files[0].read_bytes())["objectives"]["click"]["views"].keys() == VIEWS.keys()
    page = files[1].read_text("utf-8")
    assert re.findall(r"""(?:src|href)=["'](?!#)[^"']*|url\((?!#)[^)]*\)|@import|<script""", page) == []
    assert "&lt;b&gt;auc&lt;/b&gt; is low" in page
    for name in ("click", "like"):
        for view in views(made("feature"), name).values():
            told_auc = view["figures"]["auc"]
            assert f"<b>{told_auc['value']:.3f}</b>" in page
            assert f"{told_auc['low']:.3f} to {told_auc['high']:.3f}" in page
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(charts) == 2 + 2 * 2
    for chart in charts:
        ElementTree.fromstring(chart)  # noqa: S314 - our own page
        assert "currentColor" in chart
    assert "2026-09-21 14:13" in page


def test_a_log_that_cannot_be_measured_has_a_page_too(tmp_path: Path) -> None:
    examples = slots(2000, "feature")
    for e in examples[-400:]:
        e.clicked = False
    result = trained(tmp_path, examples)
    assert "objectives" not in result.report
    assert "Nothing could be measured" in report_page.page(full(result))


def test_without_the_extra_there_is_json_only(
    made: Callable[[Any], TrainResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_page, "NEEDED", ("a_module_that_is_not_there",))
    assert [f.name for f in report_page.write(tmp_path, full(made("position")))] == ["report.json"]
