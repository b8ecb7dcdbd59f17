"""Beginning an experiment: whose lists change, and what is refused."""

from __future__ import annotations

import pytest

from headrace.models.learning import pointers
from headrace.models.learning.experiment import started
from headrace.models.learning.pointers import Pointers
from headrace.streams.errors import ConfigError

VERSIONS = ("base", "new")


def test_the_first_one_begins_beside_the_settings_of_the_installation() -> None:
    p = started(Pointers(), "", VERSIONS, 10, 77, "variety")
    assert (p.live, p.candidate, p.share, p.began_ts, p.stage_ts) == ("base", "new", 10, 77, 77)
    assert (p.by, p.reason) == ("operator", "variety")
    over = pointers.rolled_back(p, 80, "rollout", "worse")
    assert (over.live, over.candidate) == ("base", "")
    again = started(over, "base", VERSIONS, 1, 90, "")
    assert (again.candidate, again.share) == ("new", 1)
    assert again.rollout != p.rollout, "other users are asked first"


def test_what_it_has_made_live_is_what_the_next_one_is_compared_with() -> None:
    p = started(Pointers(), "", VERSIONS, 50, 77, "")
    p = pointers.promoted(p, 80, "rollout", "better")
    assert (p.live, p.previous) == ("new", "base")
    assert started(p, "new", ("base", "newer"), 1, 90, "").live == "new"
    back = started(p, "new", ("base", "base"), 1, 90, "")
    assert (back.live, back.candidate) == ("new", "base")


@pytest.mark.parametrize(
    ("p", "seen", "versions", "share", "why"),
    [
        (Pointers(), "", VERSIONS, 0, "--share is one of 1, 10, 50"),
        (Pointers(), "", VERSIONS, 100, "--share"),
        (Pointers(1, "base", candidate="c", share=1), "base", VERSIONS, 1, "settings c are tried now"),
        (Pointers(1, "other"), "base", VERSIONS, 1, "try again"),
        (Pointers(1, "new"), "new", VERSIONS, 1, "in use for all"),
        (Pointers(), "", ("base", "base"), 1, "in use for all"),
    ],
)
def test_what_is_refused(p: Pointers, seen: str, versions: tuple[str, str], share: int, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        started(p, seen, versions, share, 5, "")
