"""What fuzzing has found, each as it was found; the rest of the inputs is in ``test_fuzz.py``."""

from __future__ import annotations

import pytest
from fuzz_files import MANIFEST_OF_NOTHING, TABLE
from fuzz_models import MODELS, TREE
from fuzz_targets import TARGETS

NESTED = b"[" * 5000
_ROLLOUT = MODELS["rollout"][1][0]

FOUND = {
    **{
        f"nested {name}": (name, NESTED)
        for name in (
            "headers", "beat", "table", "manifest", "online", "leaves", "objectives", "pointers", "rollout"
        )
    },
    "offsets of an online model that is none": ("online-offsets", b"[]"),
    "a count beyond 64 bits": ("rollout", _ROLLOUT.replace(b"[[[0", b"[[[92233720368547758080", 1)),
    "bits of keys below 0": ("manifest", MANIFEST_OF_NOTHING.replace(b'"key_bits": 0', b'"key_bits": -1')),
    "more bits of keys than memory": (
        "manifest",
        MANIFEST_OF_NOTHING.replace(b'"key_bits": 0', b'"key_bits": 99999999999'),
    ),
    "a tree that is a circle": ("trees", TREE.replace(b"left_child=1 -1", b"left_child=1 0")),
    "a node far outside": ("trees", TREE.replace(b"left_child=1 -1", b"left_child=1 -99999999")),
    "an endless position": ("table", TABLE.replace(b'"position": 24', b'"position": 1e999')),
    "a half row": ("table", TABLE.replace(b'"rows": 19', b'"rows": 19.0')),
    "a row without a checksum": ("table", TABLE.replace(b'"last_crc"', b'"lost_crc"')),
}  # fmt: skip


@pytest.mark.parametrize("what", FOUND)
def test_it_is_refused_clearly(what: str) -> None:
    name, data = FOUND[what]
    assert data not in TARGETS[name].seeds, "the input is changed"
    TARGETS[name](data)
