"""The texts of rows: as a dict of rows would hold them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.row_texts import RowTexts

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.integers(0, 5) | st.sampled_from([65_535, 65_536, 200_000])
PUTS = st.lists(st.tuples(ROWS, TEXTS, TEXTS), max_size=4)
STEPS = st.lists(st.one_of(st.tuples(st.just("put"), PUTS), st.tuples(st.just("drop"), PUTS)), max_size=12)


def places(of: list[int]) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(of, np.int64)


@given(STEPS, st.lists(st.tuples(ROWS | st.just(-1), TEXTS), max_size=6))
def test_they_are_a_dict(
    steps: list[tuple[str, list[tuple[int, str, str]]]], asked: list[tuple[int, str]]
) -> None:
    found, plain = RowTexts(), dict[int, tuple[str, str]]()
    for what, given_ in steps:
        rows = [row for row, _, _ in given_]
        if what == "put":
            found.put(places(rows), [id_ for _, id_, _ in given_], [title for _, _, title in given_])
            plain.update({row: (id_, title) for row, id_, title in given_})
        else:
            found.drop(places(rows))
            for row in rows:
                plain.pop(row, None)
        for row in (0, 1, 2, 3, 4, 5, 65_535, 65_536, 200_000):
            if row in plain:
                assert (found.id_of(row), found.title_of(row)) == plain[row]
            else:
                for read in (found.id_of, found.title_of):
                    with pytest.raises(KeyError):
                        read(row)
    known = sorted(plain)
    assert found.ids_of(places(known)) == [plain[row][0] for row in known]
    with pytest.raises(KeyError):
        found.ids_of(places([*known, 4_000_000]))
    other = [at for at, (row, id_) in enumerate(asked) if row in plain and plain[row][0] != id_]
    assert found.other(places([row for row, _ in asked]), [id_ for _, id_ in asked]) == min(other, default=-1)


def test_what_is_dropped_or_replaced_takes_no_room() -> None:
    texts, rows = RowTexts(), places(list(range(100)))
    texts.put(rows, ["äa"] * 100, [""] * 100)
    first = texts.nbytes
    texts.put(rows, ["bb"] * 100, ["title"] * 100)
    assert texts.nbytes == first + 400
    texts.drop(rows[:40])
    texts.drop(rows[:40])
    texts.put(rows, ["äa"] * 100, [""] * 100)
    assert texts.nbytes == first


def test_texts_that_do_not_fit_to_the_rows() -> None:
    texts = RowTexts()
    for ids, titles in ((["a"], []), ([], ["t"])):
        with pytest.raises(ValueError, match="for 1 rows"):
            texts.put(places([0]), ids, titles)
    with pytest.raises(IndexError):
        texts.put(places([-1]), ["a"], ["t"])
    with pytest.raises(ValueError, match="0 ids for 1 rows"):
        texts.other(places([0]), [])
    with pytest.raises(UnicodeEncodeError):
        texts.put(places([0]), ["\ud800"], ["t"])
    for row in (-1, 0, 10**9):
        with pytest.raises(KeyError):
            texts.id_of(row)
    texts.drop(places([-1, 0, 10**9]))
    assert texts.nbytes == 65_536 * 8  # room for the rows, and no text
