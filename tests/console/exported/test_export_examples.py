"""`headrace export examples`: another training finds in the files what ours finds in the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from command_line import run_headrace
from logged_examples import example, write
from object_store import object_store

from headrace.console.exported import examples as exported
from headrace.console.exported import files
from headrace.console.imported.example_job import import_examples
from headrace.console.imported.sources import find, input_file
from headrace.models.features.spec import SPEC
from headrace.models.learning import examples as example_log
from headrace.models.learning.log_files import folder_of
from headrace.models.learning.places import Place, place
from headrace.models.learning.ranker import RankerParams, lightgbm_params
from headrace.models.learning.training import TrainJob, TrainResult, train_from_log
from headrace.streams.errors import ConfigError
from headrace.streams.messages.schemas import Example
from headrace.streams.settings import Settings

PARAMS = RankerParams(trees=20, leaves=7, min_leaf=10)


def logged(settings: Settings, n: int = 3000) -> list[Example]:
    """Write a log of several files, with explored, unseen and unshown examples, a program and repeats."""
    rng = np.random.default_rng(3)
    made = [example(i, rng, user=f"u{i // 5 % 40}") for i in range(n)]
    for i, one in enumerate(made):
        one.explored, one.propensity = i % 7 == 0, 0.1 + (i % 9) / 10
        one.label = ("touched" if one.clicked else "unseen") if i % 3 == 0 else ""
        one.liked, one.dwell_ms = i % 11 == 0, 1000 * (i % 50)
        if i % 13 == 0:
            one.unshown, one.position = True, 100 + i % 5
        if i % 4 == 0:
            one.user_id = "a program"
    folder = Path(str(folder_of(settings)))
    for start in range(0, n, 700):
        write(folder, made[start : start + 700], first=start, partition=start // 700 % 2, ts=1000 + start)
    write(folder, made[:100], first=50_000, ts=99_000)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data", train_user_slots=600, train_unseen_weight=0.5, train_weight_clip=5.0
    )


def ours(settings: Settings) -> TrainResult:
    weighting = exported.weighting_of(settings)
    job = TrainJob(
        folder_of(settings),
        PARAMS,
        min_rows=10,
        min_clicks=1,
        max_rows=10**6,
        sample_rows=10**6,
        unseen_weight=weighting.unseen,
        unshown_weight=weighting.unshown,
        weight_clip=weighting.clip,
        user_slots=weighting.user_slots,
        user_clicks=weighting.user_clicks,
        objectives={"click": 1.0, "like": 0.5},
    )
    result = train_from_log(job)
    assert result is not None
    return result


def export(settings: Settings, folder: Place, **time: Any) -> tuple[int, int]:
    return exported.export(settings, folder, time.get("since"), time.get("until"), lambda done, text: None)


def test_a_plain_training_on_the_files_gives_our_ranker(settings: Settings, tmp_path: Path) -> None:
    logged(settings)
    assert export(settings, tmp_path / "out") == (3000, 1)
    table = ds.dataset(tmp_path / "out").to_table().filter(ds.field("weight") > 0)
    x = np.stack([table.column(name).to_numpy() for name in table.column_names if name.startswith("f.")], 1)
    result = ours(settings)
    assert len({round(weight, 3) for weight in table.column("weight").to_pylist()}) > 5
    for objective in result.objectives:
        y = table.column(f"label.{objective.name}").to_numpy().astype(np.float32)
        names = [name[2:] for name in table.column_names if name.startswith("f.")]
        data = lgb.Dataset(x, y, weight=table.column("weight").to_numpy(), feature_name=names)
        text = lgb.train(lightgbm_params(PARAMS), data, num_boost_round=PARAMS.trees).model_to_string()
        assert text == objective.text


def test_the_files_have_what_is_documented(settings: Settings, tmp_path: Path) -> None:
    made = logged(settings)
    export(settings, tmp_path / "out")
    (path,) = (tmp_path / "out").iterdir()
    schema = pq.read_schema(path)
    assert schema.metadata[b"headrace.export"] == b"examples"
    assert schema.metadata[b"headrace.layout"] == b"1"
    assert schema.metadata[b"spec"].decode() == SPEC.version
    rows = {(r["user_id"], r["request_id"], r["position"]): r for r in pq.read_table(path).to_pylist()}
    one = made[21]
    row = rows[one.user_id, one.request_id, one.position]
    x = np.frombuffer(one.features, "<f4")
    assert [row[f"f.{name}"] for name in SPEC.names] == x.tolist()
    assert (row["propensity"], row["ts"], row["explored"]) == (one.propensity, one.ts, True)
    assert (row["outcome"], row["label.click"], row["label.long_view"]) == (one.label, one.clicked, False)
    assert row["weight"] == pytest.approx(
        min(5.0, 1 / one.propensity) * (0.5 if one.label == "unseen" else 1)
    )
    assert {r["weight"] for r in rows.values() if r["user_id"] == "a program"} == {0.0}


def test_a_time_is_chosen_and_files_are_bounded(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = logged(settings)
    monkeypatch.setattr(files, "FILE_ROWS", 500)
    wanted = sum(1100 <= one.ts < 1400 for one in made)
    rows, n = export(settings, tmp_path / "out", since=1100, until=1400)
    assert rows == wanted == ds.dataset(tmp_path / "out").count_rows()
    assert n == len(list((tmp_path / "out").iterdir())) > 1
    with pytest.raises(ConfigError, match="earlier export"):
        export(settings, tmp_path / "out")


def test_an_empty_log_is_a_file_with_columns(settings: Settings, tmp_path: Path) -> None:
    assert export(settings, tmp_path / "out") == (0, 1)
    assert ds.dataset(tmp_path / "out").schema.names == exported.SCHEMA.names


def test_exported_examples_come_back_through_a_store_once(settings: Settings, tmp_path: Path) -> None:
    logged(settings)
    other = settings.model_copy(update={"data_dir": tmp_path / "other", "partitions": 1})
    with object_store() as store:
        export(settings, place(store.url) / "out")
        assert store.names() == ["some/where/out/examples-00000.parquet"]
        given = [input_file(at) for at in find([store.url])]
        for _ in range(2):
            assert import_examples(other, given, lambda done, text: None) == 3000
    assert ours(other).rows == ours(settings).rows
    columns = [name for name in example_log.SCHEMA.names if not name.startswith("log_")]
    order = [("user_id", "ascending"), ("request_id", "ascending"), ("position", "ascending")]
    before, after = (
        example_log.read(folder_of(s)).select(columns).sort_by(order).to_pylist() for s in (settings, other)
    )
    seen = {(row["user_id"], row["request_id"], row["position"]): row for row in before}
    assert after == list(seen.values())


def test_partitions_that_become_one_lose_no_example(settings: Settings, tmp_path: Path) -> None:
    rng, folder = np.random.default_rng(5), Path(str(folder_of(settings)))
    for partition in range(3):  # the same offsets at the same time
        write(folder, [example(i, rng, user=f"u{partition}") for i in range(50)], partition=partition)
    export(settings, tmp_path / "out")
    for partitions, there in ((2, {0, 1}), (1, {0})):
        other = settings.model_copy(update={"data_dir": tmp_path / str(partitions), "partitions": partitions})
        for _ in range(2):
            files_given = [input_file(at) for at in find([str(tmp_path / "out")])]
            assert import_examples(other, files_given, lambda done, text: None) == 150
        log = example_log.read(folder_of(other))
        assert (len(log), set(log.column("log_partition").to_pylist())) == (150, there)


def test_files_of_other_features_are_refused(settings: Settings, tmp_path: Path) -> None:
    logged(settings)
    export(settings, tmp_path / "out")
    (path,) = (tmp_path / "out").iterdir()
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"spec": b"old"}), path)
    with pytest.raises(ConfigError, match="features of version old"):
        import_examples(settings, [input_file(path)], lambda done, text: None)
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(ConfigError, match="was not written by"):
        import_examples(settings, [input_file(path)], lambda done, text: None)


def test_the_commands(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    logged(settings)
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(settings.data_dir))
    assert run_headrace(monkeypatch, "export", "examples", str(tmp_path / "out")) == 0
    assert "3,000 examples in 1 files" in capsys.readouterr().out
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(tmp_path / "other"))
    assert run_headrace(monkeypatch, "import", "examples", str(tmp_path / "out")) == 0
    assert "3,000 examples are in the log" in capsys.readouterr().out
