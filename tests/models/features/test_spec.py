from __future__ import annotations

import numpy as np

from headrace.models.features.spec import ONLINE, ONLINE_COLUMNS, ONLINE_NAMES, POSITION, SPEC, FeatureSpec


def test_the_version_follows_the_list() -> None:
    assert len({FeatureSpec(n).version for n in [("a", "b"), ("b", "a"), ("a",), ("a\nb",), ("ab",)]}) >= 4
    assert FeatureSpec(("a", "b")).version == FeatureSpec(("a", "b")).version
    assert FeatureSpec(("a", "b")).version != FeatureSpec(("a", "b", "c")).version


def test_the_list() -> None:
    assert len(set(SPEC.names)) == len(SPEC.names) == len(SPEC)
    assert SPEC.names[POSITION] == "position"
    assert SPEC.names[ONLINE] == "online_score"
    assert len(ONLINE_NAMES) == len(ONLINE_COLUMNS) == len(SPEC) - 2
    assert not {"position", "online_score"} & set(ONLINE_NAMES)
    assert (np.diff(ONLINE_COLUMNS) == 1).all()  # the online model reads them in one piece
