"""Readers of EB-NeRD and MIND: tiny files with known answers, and files with broken rows."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run_headrace

from headrace.serving.prequential.ebnerd import read_ebnerd
from headrace.serving.prequential.given import GivenList
from headrace.serving.prequential.mind import read_mind
from headrace.streams.errors import ConfigError
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import DAY_MS, MINUTE_MS

#: 11/9/2019 00:00:00 UTC, ms.
NOV_9 = 1_573_257_600_000
LATER = "7\tU2\t11/9/2019 1:00:00 PM\tN9\tN1-0 N2-1 N3-0"
EARLIER = "8\tU1\t11/9/2019 12:00:00 AM\tN5 N6\tN1-1 N2-0"
NEWS = "N1\tsports\tgolf\tA putt\tabstract\turl\t[]\t[]\nN2\tnews\t\tA vote\tabstract\turl\t[]\t[]\n"


def mind_folder(folder: Path, *lines: str, news: str = NEWS) -> Path:
    with gzip.open(folder / "behaviors.tsv.gz", "wt") as file:
        file.writelines(f"{line}\n" for line in lines)
    (folder / "news.tsv").write_text(news)
    return folder


def test_mind_is_read_in_order_of_time(tmp_path: Path) -> None:
    found = read_mind(mind_folder(tmp_path, LATER, EARLIER))
    assert found.lists == [
        GivenList("8", "U1", NOV_9, ("N1", "N2"), frozenset({"N1"})),
        GivenList("7", "U2", NOV_9 + 13 * 60 * MINUTE_MS, ("N1", "N2", "N3"), frozenset({"N2"})),
    ]
    end = NOV_9 - DAY_MS
    assert found.past == {
        "U1": [("N5", end - 2 * MINUTE_MS), ("N6", end - MINUTE_MS)],
        "U2": [("N9", end - MINUTE_MS)],
    }
    golf = Item("N1", 0, title="A putt", category="sports", tags=["golf"])
    assert found.content == {"N1": golf, "N2": Item("N2", 0, title="A vote", category="news")}
    assert [one.number for one in read_mind(tmp_path, 1).lists] == ["8"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1\tU1\t11/9/2019 1:00:00 PM", "line 2: 3 fields"),
        ("1\t\t11/9/2019 1:00:00 PM\t\tN1-0", "line 2: 5 fields"),
        ("1\tU1\t2019-11-09\t\tN1-0", "line 2: time data"),
        ("1\tU1\t11/9/2019 1:00:00 PM\t\tN1", "line 2: a slot is like"),
        ("1\tU1\t11/9/2019 1:00:00 PM\t\tN1-2", "got 'N1-2'"),
        ("1\tU1\t11/9/2019 1:00:00 PM\t\t", "line 2: the list is empty"),
    ],
)
def test_a_broken_line_of_mind_is_named(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        read_mind(mind_folder(tmp_path, EARLIER, line))
    assert "behaviors.tsv.gz" in str(raised.value)


def test_broken_files_of_mind_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no lists"):
        read_mind(mind_folder(tmp_path))
    with pytest.raises(ConfigError, match=r"news.tsv, line 1: 2 fields"):
        read_mind(mind_folder(tmp_path, EARLIER, news="N1\tsports\n"))
    (tmp_path / "behaviors.tsv.gz").write_bytes(b"no gzip")
    with pytest.raises(ConfigError, match=r"behaviors.tsv.gz: cannot be read"):
        read_mind(tmp_path)


AT = datetime(2023, 2, 27, 3, 23, 27)
#: The same, ms.
FEB_27 = 1_677_468_207_000
ROW: dict[str, Any] = {
    "impression_id": 9,
    "article_id": None,
    "impression_time": AT,
    "device_type": 2,
    "article_ids_inview": [11, 12, 13],
    "article_ids_clicked": [12],
    "user_id": 5,
    "read_time": 17.0,
}
READING = {**ROW, "impression_id": 10, "article_id": 12, "user_id": 6, "device_type": None}


def ebnerd_folder(folder: Path, *rows: dict[str, Any], history: list[Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "behaviors.parquet")
    early, late = AT.replace(day=20), AT.replace(day=28)
    told = [{"user_id": 5, "impression_time_fixed": [late, early], "article_id_fixed": [98, 97]}]
    pq.write_table(pa.Table.from_pylist(history or told), folder / "history.parquet")
    return folder


def test_ebnerd_is_read(tmp_path: Path) -> None:
    found = read_ebnerd(ebnerd_folder(tmp_path, {**READING, "impression_time": AT.replace(hour=4)}, ROW))
    assert found.lists == [
        GivenList("9", "5", FEB_27, ("11", "12", "13"), frozenset({"12"}), "2"),
        GivenList("10", "6", FEB_27 + 60 * MINUTE_MS, ("11", "12", "13"), frozenset({"12"}), "", "12"),
    ]
    assert found.past == {"5": [("97", FEB_27 - 7 * DAY_MS)]}, "what comes after the first list is left out"
    assert found.content == {}
    assert len(read_ebnerd(tmp_path, 1).lists) == 1


def test_articles_may_be_beside_or_above(tmp_path: Path) -> None:
    folder = ebnerd_folder(tmp_path / "train", ROW)
    article = {
        "article_id": 11,
        "title": "A title",
        "category_str": "sport",
        "topics": ["Golf"],
        "published_time": AT.replace(day=20),
    }
    bare = {**article, "article_id": 12, "title": None, "category_str": None, "topics": None}
    bare["published_time"] = None
    pq.write_table(pa.Table.from_pylist([article, bare]), tmp_path / "articles.parquet")
    assert read_ebnerd(folder).content == {
        "11": Item("11", FEB_27 - 7 * DAY_MS, title="A title", category="sport", tags=["Golf"]),
        "12": Item("12", 0),
    }


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"article_ids_inview": []}, "row 1: article_ids_inview has no article"),
        ({"article_ids_clicked": [99]}, "row 1: an article was clicked that is not in view"),
        ({"user_id": None}, "row 1: user_id is empty"),
        (
            {"impression_time": None, "article_ids_clicked": None},
            "row 1: impression_time, article_ids_clicked",
        ),
    ],
)
def test_a_broken_row_of_ebnerd_is_named(tmp_path: Path, broken: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_ebnerd(ebnerd_folder(tmp_path, ROW, {**ROW, **broken}))


def test_broken_files_of_ebnerd_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"behaviors.parquet: no such file"):
        read_ebnerd(tmp_path)
    without = {k: v for k, v in ROW.items() if k != "device_type"}
    with pytest.raises(ConfigError, match=r"lacks .*device_type"):
        read_ebnerd(ebnerd_folder(tmp_path, without))
    (tmp_path / "behaviors.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_ebnerd(tmp_path)


def test_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mind_folder(tmp_path, LATER, EARLIER)
    ebnerd_folder(tmp_path, ROW, READING)
    for name, auc in (("mind", (1 + 0.5) / 2), ("ebnerd", 0.5)):
        out = tmp_path / f"{name}.json"
        assert run_headrace(monkeypatch, "eval", name, str(tmp_path), "--json", str(out)) == 0
        figures = json.loads(out.read_text())
        assert figures["methods"]["given order"]["auc"]["mean"] == auc
        assert figures["scored"] == 2
        said = capsys.readouterr().out
        assert "NDCG@10" in said
        assert "click rate so far" in said
        assert "2 lists" in said
