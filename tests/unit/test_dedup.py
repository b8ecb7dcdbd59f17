from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.dedup import DedupWindow

WINDOW = 1000
T = 1_700_000_000_000


def test_a_retry_within_a_batch_and_across_batches() -> None:
    seen = DedupWindow(WINDOW)
    assert seen.fresh(["a", "b", "a"], T).tolist() == [True, True, False]
    assert seen.fresh(["b", "c"], T + 1).tolist() == [False, True]


def test_an_id_is_known_across_the_turn_of_a_generation() -> None:
    """
    generation |---- 1 ----|---- 2 ----|---- 3 ----|
    id a               x            x?                  known: less than one window apart
    """
    start = T // WINDOW * WINDOW
    seen = DedupWindow(WINDOW)
    assert seen.fresh(["a"], start + 999).all()
    assert not seen.fresh(["a"], start + 1998).any()


def test_memory_is_let_go_after_two_windows() -> None:
    seen = DedupWindow(WINDOW)
    for i in range(100):
        seen.fresh([f"{i}-{k}" for k in range(50)], T + i * WINDOW)
    assert len(seen._now) + len(seen._before) <= 100
    assert seen.fresh(["0-0"], T + 100 * WINDOW).all()


def test_a_long_silence_forgets_everything() -> None:
    seen = DedupWindow(WINDOW)
    seen.fresh(["a"], T)
    assert seen.fresh(["a"], T + 10 * WINDOW).all()


def test_a_batch_from_before_the_turn_is_still_checked() -> None:
    seen = DedupWindow(WINDOW)
    seen.fresh(["a"], T)
    seen.fresh(["b"], T + WINDOW)
    assert seen.fresh(["a", "b", "c"], T).tolist() == [False, False, True]


def test_a_window_of_nothing_lets_everything_pass() -> None:
    seen = DedupWindow(0)
    assert seen.fresh(["a", "a"], T).all()
    assert seen.fresh(["a"], T).all()


def test_an_empty_batch() -> None:
    assert DedupWindow(WINDOW).fresh([], T).shape == (0,)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 400)), max_size=60))
def test_within_a_window_every_id_counts_once(story: list[tuple[str, int]]) -> None:
    seen, at, met = DedupWindow(WINDOW), T, dict[str, int]()
    for name, pause in story:
        at += pause
        fresh = bool(seen.fresh([name], at)[0])
        if name in met and at - met[name] < WINDOW:
            assert not fresh, "a retry within the window passed"
        if name not in met or at - met[name] >= 2 * WINDOW:
            assert fresh, "an id of two windows ago was still held against it"
        if fresh:
            met[name] = at
