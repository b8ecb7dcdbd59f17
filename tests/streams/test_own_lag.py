from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.own_lag import MOST_ENDS, OwnLag


def test_what_is_not_known_is_none() -> None:
    lag = OwnLag()
    assert (lag.records(), lag.seconds(5)) == (None, None)
    lag.ends(10, 1)
    assert (lag.records(), lag.seconds(5)) == (None, None)  # the position is not known
    lag.start(4)
    assert lag.records() == 6
    assert lag.seconds(5) is None  # nobody knows when record 4 was written
    lag.processed(7, 0.5)
    assert (lag.records(), lag.seconds(5)) == (3, 4.5)


def test_a_partition_without_data_has_no_lag_not_even_none_of_it() -> None:
    lag = OwnLag()
    lag.start(0)
    lag.ends(0, 1)
    assert lag.records() is None


def test_the_age_is_the_time_since_the_end_was_at_the_position() -> None:
    lag = OwnLag()
    lag.processed(10, 100.0)
    for at in range(200, 300):
        lag.ends(10, at)
    assert (lag.records(), lag.seconds(299)) == (0, 0)
    lag.ends(
        11, 300
    )  # after a quiet time, one record: it is young, although the last one was processed long ago
    assert (lag.records(), lag.seconds(300)) == (1, 1)
    lag.ends(15, 330)
    assert (lag.records(), lag.seconds(330)) == (5, 31)
    lag.processed(12, 301.5)
    assert (lag.records(), lag.seconds(330)) == (3, 28.5)


def test_another_log_begins_anew() -> None:
    lag = OwnLag()
    lag.processed(100, 1.0)
    lag.ends(100, 2)
    lag.ends(3, 3)  # the topic was made again
    assert lag.records() == 0
    lag.processed(1, 2.5)
    assert (lag.records(), lag.seconds(4)) == (2, 1.5)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60))
def test_the_age_is_right_to_the_time_between_two_looks(steps: list[tuple[int, int]]) -> None:
    """One look a second, records written between; the reference remembers when each record was written."""
    lag, written = OwnLag(), list[float]()
    done = 0
    lag.start(0)
    lag.ends(0, 0.0)
    for second, (more, processed) in enumerate(steps, 1):
        written += [second - 0.5] * more
        done = min(len(written), done + processed)
        if done:
            lag.processed(done, written[done - 1])
        lag.ends(len(written), second)
        age, left = lag.seconds(second), lag.records()
        if not written:
            assert left is None
        elif done == len(written):
            assert (left, age) == (0, 0)
        else:
            assert left == len(written) - done
            assert age is not None
            assert 0 <= age - (second - written[done]) <= 1


def test_few_ends_are_kept() -> None:
    lag = OwnLag()
    lag.start(0)
    for second in range(20 * MOST_ENDS):
        lag.ends(second + 1, second)
    assert len(lag._ends) <= MOST_ENDS
    lag.start(0)
    assert lag.records() == 20 * MOST_ENDS
    quiet = OwnLag()
    quiet.start(0)
    for second in range(1000):
        quiet.ends(1, second)
    assert len(quiet._ends) == 2
