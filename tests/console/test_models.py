"""`headrace models`: what it prints, and what it changes on the broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import plain_console, run_headrace
from fresh_topics import make_topics

from headrace.agents.stage.pointing import read_shelf
from headrace.console.model_pages import comparison, comparison_page, model_rows, model_table, pointer_line
from headrace.console.settings_pages import settings_rows, settings_table
from headrace.models.features.spec import SPEC
from headrace.models.learning import counterfactual, ranker, tried_settings
from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.imported import read_file
from headrace.models.learning.kinds import SETTINGS
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.registry import Registry
from headrace.models.learning.sequential import CLUSTERS
from headrace.models.learning.shelf import Shelf
from headrace.streams.errors import ArtefactError
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

P = Pointers(7, "a" * 12, "b" * 12, "c" * 12, 10, "c-6", 1, 1_790_000_000_000, "", "rollout", "not 20% worse")


def text_of(seed: int, names: tuple[str, ...] = SPEC.names) -> str:
    import lightgbm as lgb

    rng = np.random.default_rng(seed)
    x = rng.normal(size=(300, len(names)))
    data = lgb.Dataset(x, x[:, 0] > 0, feature_name=list(names))
    text: str = lgb.train({"objective": "binary", "verbosity": -1}, data, 2).model_to_string()
    return text


def printed(*pages: Any) -> str:
    console, out = plain_console()
    for page in pages:
        console.print(page)
    return out.getvalue()


def test_the_list_says_what_each_is_used_for(tmp_path: Path) -> None:
    registry, shelf, versions = Registry(tmp_path), Shelf(), []
    for n, refused in enumerate(("", "auc .5 is [too] low", "")):
        value, version = ranker.encode(text_of(n), 1_790_000_000_000 + n, {"auc": 0.7, "rows": 12_345})
        registry.add(value, "trained", refused)
        versions.append(version)
    shelf.pointers = Pointers(1, versions[0], "e" * 12, versions[2], 1)
    shelf.texts = dict.fromkeys([*versions, "e" * 12, "f" * 12], b"")
    rows = model_rows(registry.versions(), shelf)
    assert [(r["version"], r["use"]) for r in rows] == [
        (versions[2], "candidate, 1 %"),
        (versions[1], "refused"),
        (versions[0], "live"),
        ("e" * 12, "previous"),
    ]
    page = printed(model_table(rows))
    assert "auc .5 is [too] low" in page
    assert "0.7000" in page
    assert "12,345" in page
    assert "2026-09-21" in page


def test_the_line_of_what_is_in_use() -> None:
    line = " ".join(printed(pointer_line(P)).split())
    assert line.startswith(f"live {'a' * 12} · candidate {'c' * 12} at 10 % since 2026-09-21 ")
    assert "changed by rollout: not 20% worse" in line
    assert printed(pointer_line(Pointers())) == "no ranker is in use yet\n"


def test_a_comparison_has_intervals_and_estimates() -> None:
    counts, rng = ArmCounts(P, {}), np.random.default_rng(1)
    empty = comparison(counts, 0.05)
    assert json.loads(json.dumps(empty, allow_nan=False))["differences"]["clicks"]["low"] is None
    page = printed(comparison_page(empty))
    assert "not enough users" in page
    assert "no list with a shadow" in page
    for arm, rate in enumerate((0.1, 0.12)):
        n = rng.poisson(900, CLUSTERS)
        counts.totals[arm] = n, rng.binomial(n, rate), rng.poisson(n * 100)
    n = 40 * CLUSTERS
    yes = rng.random((2, n)) < 0.5
    some = np.full(n, 0.5)
    added = counterfactual.slot_totals(yes[0], some, yes[1], some, some)
    for k in range(len(added)):
        counts.shadows[P.candidate][k] = added[k].reshape(CLUSTERS, -1).sum(1)
    page = printed(comparison_page(comparison(counts, 0.05)))
    assert "clicks: +2" in page
    assert ": better" in page
    assert "watch time: " in page
    assert "neither better nor worse yet" in page
    assert "of the slots would be the same" in page
    assert "doubly robust): 5" in page or "doubly robust): 4" in page


def test_a_comparison_of_settings_tells_who_returns_and_has_no_shadow() -> None:
    counts, rng = ArmCounts(P, {}, 1000, SETTINGS), np.random.default_rng(1)
    for arm, rate in enumerate((0.5, 0.4)):
        n = rng.poisson(900, CLUSTERS)
        counts.totals[arm] = n, rng.binomial(n, 0.1), rng.poisson(n * 100)
        counts.returns[arm] = n, rng.binomial(n, rate)
    figures = comparison(counts, 0.05)
    assert (figures["kind"], figures["shadow"]) == ("settings", None)
    page = printed(comparison_page(figures))
    assert "users who return: -20" in page or "users who return: -19" in page
    assert ": worse" in page
    assert "40.0%" in page or "39.9%" in page or "40.1%" in page
    assert "SNIPS" not in page


def test_settings_are_listed_with_what_they_change(tmp_path: Path) -> None:
    registry, shelf = Registry(tmp_path, SETTINGS), Shelf(SETTINGS)
    (one, base), (two, tried), (three, there) = (
        tried_settings.encode(changes, 1_790_000_000_000 + k)
        for k, changes in enumerate(({}, {"strength": "0.3"}, {"epsilon": "0.1"}))
    )
    registry.add(one, "experiment")
    registry.add(two, "experiment", "taken back: worse in returning")
    shelf.pointers, shelf.texts = Pointers(3, base, candidate=there, share=10), {there: three, base: one}
    rows = settings_rows(registry, shelf)
    assert [(r["version"], r["use"], r["changes"]) for r in rows] == [
        (tried, "", {"strength": "0.3"}),
        (base, "live", {}),
        (there, "candidate, 10 %", {"epsilon": "0.1"}),
    ]
    page = " ".join(printed(settings_table(rows), pointer_line(shelf.pointers, SETTINGS)).split())
    for told in ("strength=0.3", "worse in returning", "those of the installation", f"live settings {base}"):
        assert told in page
    assert (tmp_path / tried / "settings.json").read_bytes() == b'{"strength":"0.3"}'
    assert "no settings were tried yet" in printed(pointer_line(Pointers(), SETTINGS))


def test_a_file_of_other_features_or_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.txt"
    file.write_text(text_of(1))
    value, version = read_file(file, 5)
    assert ranker.decode(value).version == version
    for text, why in (
        (text_of(1, SPEC.names[::-1]), "another order"),
        (text_of(1, tuple(f"Column_{n}" for n in range(len(SPEC)))), "retrain"),
        (text_of(1, SPEC.names[:5]), "features"),
        ("hello", "not a text file of LightGBM"),
        ("tree\n", "Model format error|model.txt"),
    ):
        file.write_text(text)
        with pytest.raises(ArtefactError, match=why):
            read_file(file, 5)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_file(file, 5)


@pytest.mark.broker
def test_from_an_import_to_everybody_and_back(
    make_settings_now: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    s, run = make_settings_now, lambda *args: run_headrace(monkeypatch, "models", *args)
    for name in ("brokers", "topic_prefix", "data_dir"):
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", str(getattr(s, name)))

    def now() -> Pointers:
        import asyncio

        return asyncio.run(read_shelf(s, Topics(s).models)).pointers

    assert run("list") == 0
    assert "no ranker is in use yet" in capsys.readouterr().out
    assert run("rollback") == 2
    assert "nothing" in capsys.readouterr().err or now() == Pointers()
    versions = []
    for n in range(2):
        file = tmp_path / f"{n}.txt"
        file.write_text(text_of(n))
        assert run("import", str(file)) == 0
        versions.append(capsys.readouterr().out.split(" is version ")[1].split()[0])
    one, two = versions
    assert (now().live, now().candidate, now().share) == (one, two, 0)
    assert run("promote", "--reason", "looks good") == 0
    assert (now().candidate, now().share, now().reason) == (two, 1, "looks good")
    assert run("compare") == 1
    assert run("rollback") == 0
    assert (now().live, now().candidate) == (one, "")
    assert run("promote", two, "--everybody") == 0
    assert (now().live, now().previous) == (two, one)
    assert run("rollback", "--reason", "complaints") == 0
    assert (now().live, now().previous) == (one, two)
    assert run("promote") == 2
    assert "no candidate" in capsys.readouterr().err
    assert run("promote", "0" * 12) == 2
    capsys.readouterr()
    figures = tmp_path / "list.json"
    assert run("list", "--json", str(figures)) == 0
    assert {r["version"]: r["use"] for r in json.loads(figures.read_text())["models"]} == {
        one: "live",
        two: "previous",
    }
    assert run("show", one) == 0
    page = capsys.readouterr().out
    assert "imported" in page
    assert SPEC.names[0] in page


@pytest.fixture
async def make_settings_now(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    s = make_settings(data_dir=tmp_path / "data")
    await make_topics(s)
    return s
