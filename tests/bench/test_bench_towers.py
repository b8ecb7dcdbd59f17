from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import bench_towers
import numpy as np
import pytest

CLICKS = 900


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write a small log of each sort: readers stay with even or with odd items."""
    rng = np.random.default_rng(1)
    columns = (
        "user_id,session_id,click_article_id,click_timestamp,click_country,click_region,click_deviceGroup"
    )
    lines, ratings = [columns], ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for n in range(CLICKS):
        user, item = rng.integers(20), int(rng.integers(15))
        item = 2 * item + user % 2
        lines.append(f"{user},{user}{n // 200},{item},{1_500_000_000_000 + 1000 * n},1,21,{user % 3}")
        ratings.append(f"{user}\t{item}\t4\t{880_000_000 + n}")
    movies = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    movies += [f"{item}\tMovie number{item}\t1995\tGenre{item % 2} Drama" for item in range(30)]
    for name, rows in (("clicks.csv", lines), ("ml-100k.inter", ratings), ("ml-100k.item", movies)):
        with gzip.open(tmp_path / f"{name}.gz", "wt") as file:
            file.write("\n".join(rows) + "\n")
    return tmp_path


def test_every_method_is_measured_on_every_log(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--globo", str(data / "clicks.csv.gz"), "--movies", str(data), "--plan", '{"sightings": 1}']
    monkeypatch.setattr(sys, "argv", ["bench_towers.py", *options])
    bench_towers.main()
    out = json.loads(capsys.readouterr().out)
    assert out["plan"]["sightings"] == 1
    for log in ("globo", "ml-100k"):
        assert out[log]["predictions"] > CLICKS / 2
        methods = {"popular", "version_0", "learnt", "learnt_several_interests", "learnt_without_log_q"}
        assert methods < out[log].keys()
        for method in methods:
            assert 0 <= out[log][method]["recall@20"] <= out[log][method]["recall@100"] <= 1
    assert out["globo"]["learnt"]["rows"] > 30
    assert out["globo"]["version_0"]["recall@100"] == 0  # without content there is nothing to hash


def test_the_cost_of_a_catalogue_is_measured() -> None:
    figures = bench_towers.embedding(items=300, batch=64)
    assert figures["rows"] > 300
    assert all(figures[f"{name}_us_per_item"] > 0 for name in ("version_0", "learnt"))
