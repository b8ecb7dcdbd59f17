"""Which records an answer has: by the user's row, by the beat of its partition, by the catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.models.state import users as user_state
from headrace.serving.requests.state import lacks_state, state_behind
from headrace.serving.store.applied import PLAIN, Applied, Known, Reached, decode, encode
from headrace.streams.messages.schemas import ModelInfo, RecRequest
from headrace.streams.messages.state import Mark, marks_of, token_of

OWN = 3


def row(offset: int, profile: int = -1) -> Any:
    out = np.full(1, user_state.BLANK, user_state.ROW)
    out["offset"], out["profile_offset"] = offset, profile
    return out


def lacks(token: str, user: Any, known: Known) -> bool:
    asked = RecRequest("r", "u", "home", at_least=token)
    return lacks_state(asked, user, OWN, known, known.users.get(OWN))


def beat(**events: Any) -> Known:
    return Known({OWN: Applied(Reached(**events), Reached(8, 0, {})), 1: Applied(Reached(50, 0, {}))})


@pytest.mark.parametrize(
    ("token", "user", "known", "lacking"),
    [
        ("", None, Known(), False),
        ("1", None, Known(), False),
        ("1.m9f", None, Known(), False),
        # Before the first beat of the partition, nobody knows how its log is numbered.
        ("1.e3-17", row(17), Known(), True),
        ("1.e3-17", row(1000), Known({1: Applied(Reached(50))}), True),
        ("1.e1-17", row(900), Known({OWN: Applied(Reached(900, 0, {1: 900}))}), True),
        ("1.e3-17", row(17), beat(last=5), False),
        ("1.e3-17", row(16), beat(last=5), True),
        ("1.e3-17", None, beat(last=5), True),
        # A retry changes no row: the beat says that it was applied.
        ("1.e3-17", row(5), beat(last=17), False),
        ("1.e3-17", None, beat(last=17), False),
        ("1.e3-17", row(5), beat(last=16), True),
        # The topic was made again: its offsets begin at 0, those of the rows go on.
        ("1.e3-17", row(1000), beat(last=1000, base=1000), True),
        ("1.e3-17", row(1017), beat(last=1000, base=1000), False),
        # In the wrong partition: what this partition got from there counts, not how far that one was read.
        ("1.e1-17", row(900), beat(last=900), True),
        ("1.e1-17", row(5), beat(last=5, elsewhere={1: 16}), True),
        ("1.e1-17", row(5), beat(last=5, elsewhere={1: 17}), False),
        ("1.e1-17", row(5), Known(), True),
        # Profiles, and several at once.
        ("1.u3-8", row(-1, 8), beat(), False),
        ("1.u3-9", row(99, 8), beat(), True),
        ("1.u3-8", None, beat(last=0), False),
        ("1.e3-17.u3-9", row(17, 8), beat(), True),
        ("1.e3-17.u3-8", row(17, 8), beat(), False),
        ("1.i0-4", None, Known(items=lambda partition: 5), False),
        ("1.i0-5", None, Known(items=lambda partition: 5), True),
    ],
)
def test_what_an_answer_lacks(token: str, user: Any, known: Known, lacking: bool) -> None:
    assert lacks(token, user, known) == lacking


def test_a_reply_has_what_its_token_says() -> None:
    """And its token in a later request asks for no less."""
    known = beat(last=1040, base=1000)
    token = state_behind(row(1017, 8), OWN, known, ModelInfo(ranker="a"), "")
    assert marks_of(token) == [Mark("events", OWN, 17), Mark("users", OWN, 8)]
    assert not lacks(token, row(1017, 8), known)
    assert not lacks(token, row(1030, 9), beat(last=1040, base=1000))
    asked = RecRequest("s", "u", "home", at_least=token)
    assert lacks_state(asked, row(1016, 8), OWN, known), "an older row, whatever an old beat said"


def test_a_token_tells_models_and_indexes_apart() -> None:
    known, user = beat(last=17), row(17)
    tokens = {
        state_behind(user, OWN, known, ModelInfo(ranker=ranker), index)
        for ranker in ("", "a", "b")
        for index in ("", "one")
    }
    assert len(tokens) == 6
    assert {token.rpartition(".m")[0] for token in tokens} == {"1.e3-17"}


def test_without_a_row_or_a_beat_a_reply_names_no_record() -> None:
    """The base of the offsets is not known then, and a wrong number could be asked for in vain."""
    for user, known in ((None, beat(last=17)), (row(17), Known())):
        assert marks_of(state_behind(user, OWN, known, ModelInfo(), "")) == []


def test_a_beat_says_what_was_put_into_it() -> None:
    applied = Applied(Reached(17, 1000, {2: 5, 11: 0}), Reached())
    assert decode(encode(applied)) == applied
    assert decode(encode(Applied())) == Applied()


@pytest.mark.parametrize("text", [PLAIN, b"", b"\xff", b"[]", b'{"events": 3}', b'{"events": {"last": "x"}}'])
def test_a_beat_that_says_nothing_more_is_no_error(text: bytes) -> None:
    assert decode(text) is None


def test_tokens_are_short() -> None:
    assert len(token_of([Mark("events", 9999, 10**12), Mark("users", 9999, 10**9)], "9f9f9f9f")) < 64
