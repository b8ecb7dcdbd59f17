"""The decoders of what is on the topics of models: artefacts, parts, pointers, counts, settings."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from small_models import online as small_online
from small_models import online_of_all

from headrace.models.embeddings import artefact as towers_file
from headrace.models.embeddings.towers import Towers
from headrace.models.features.spec import ONLINE_NAMES, SPEC
from headrace.models.learning import artefact, leaves, online, parts, pointers, tried_settings
from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.leaves import LeafDeltas
from headrace.models.learning.objectives import from_body
from headrace.models.learning.online_learner import OnlinePart
from headrace.models.learning.parts import Part
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.trees import Trees, UnlikeError
from headrace.serving.varied import parse, varied
from headrace.streams.errors import ArtefactError, ConfigError
from headrace.streams.settings import Settings

Run = Callable[[bytes], object]

#: A tree of three leaves, as LightGBM writes it.
TREE = b"""tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=binary sigmoid:1
feature_names=a b
feature_infos=none none
tree_sizes=300

Tree=0
num_leaves=3
num_cat=0
split_feature=0 1
split_gain=1 1
threshold=0.5 1.5
decision_type=2 2
left_child=1 -1
right_child=-2 -3
leaf_value=0.1 -0.2 0.3
leaf_weight=1 1 1
leaf_count=1 1 1
internal_value=0 0
internal_weight=0 0
internal_count=2 2
is_linear=0
shrinkage=1


end of trees
"""


def in_artefact(decode: Run, name: str, kind: str, features: tuple[str, ...]) -> Run:
    """Return what decodes the record of a body; a body's version is its checksum, so it must be made."""
    return lambda body: decode(artefact.encode(name, kind, body, features, 1, {})[0])


def settings(data: bytes) -> None:
    """Read tried settings, and make the policy of them."""
    changes = tried_settings.decode(artefact.encode("settings", tried_settings.KIND, data, (), 1, {})[0])
    varied(Settings(), changes)


def words(data: bytes) -> None:
    """Read settings as the command line has them."""
    varied(Settings(), parse(data.decode("utf-8", "replace").split()))


def _body(value: bytes) -> bytes:
    body: bytes = artefact.decode(value)["body"]
    return body


_ONLINE = online.encode(small_online(), 1, {})[0]
_LEAVES = leaves.encode(LeafDeltas("r", np.zeros(2, np.float32), np.ones(2, np.float32), True), 1, {})[0]
_PART = parts.encode(Part("a", {"events": {0: 1}}, {"events": {0: 9}}, OnlinePart(), None, {"loss": 0.5}))
_COUNTS = ArmCounts(Pointers(live="a", candidate="b", share=10), {0: 0}).encode()
_TOWERS = towers_file.encode(Towers(16))[0]
_OBJECTIVES = b'{"objectives":[{"name":"click","weight":1.0,"text":"tree"}]}'

#: By name: what is called, good inputs, the errors that are documented.
MODELS: dict[str, tuple[Run, tuple[bytes, ...], tuple[type[Exception], ...]]] = {
    "artefact": (artefact.decode, (_ONLINE,), (ArtefactError,)),
    "online": (
        in_artefact(online.decode, "online", "logistic", ONLINE_NAMES),
        (_body(_ONLINE), _body(online.encode(online_of_all(), 1, {})[0])),
        (ArtefactError,),
    ),
    "online-offsets": (
        in_artefact(online.read_up_to, "online", "logistic", ONLINE_NAMES),
        (_body(_ONLINE),),
        (ArtefactError,),
    ),
    "leaves": (
        in_artefact(leaves.decode, "leaves", leaves.KIND, SPEC.names),
        (_body(_LEAVES),),
        (ArtefactError,),
    ),
    "trees": (lambda data: Trees(data.decode("utf-8", "replace")), (TREE,), (UnlikeError,)),
    "objectives": (from_body, (_OBJECTIVES,), (ArtefactError,)),
    "part": (parts.decode, (_PART,), (ArtefactError,)),
    "pointers": (
        pointers.decode,
        (msgspec.json.encode(Pointers(live="a", candidate="b", share=10)),),
        (ArtefactError,),
    ),
    "rollout": (ArmCounts.decode, (_COUNTS,), (ArtefactError,)),
    "towers": (towers_file.decode, (_TOWERS,), (ArtefactError,)),
    "settings": (settings, (b'{"candidates":"300","source:hot":"100"}',), (ArtefactError, ConfigError)),
    "words": (words, (b"strength=0.5 source:hot=100 HEADRACE_CANDIDATES=300",), (ConfigError,)),
}
