"""A ranker of your own: LightGBM's text, from a file."""

from __future__ import annotations

from pathlib import Path

from headrace.models.features.spec import SPEC
from headrace.models.learning import artefact, ranker
from headrace.models.learning.ranker import Ranker
from headrace.streams.errors import ArtefactError


def read_file(path: Path, now: int) -> tuple[bytes, str]:
    """Return a text file of LightGBM as a record of `models`, and its version; ``now`` is the time, ms.

    Raises
    ------
    ArtefactError
        It is no such file, or was trained on other features than ``SPEC``, or in another order.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ArtefactError(f"{path} cannot be read: {exc}") from exc
    if not text.startswith("tree\n"):
        raise ArtefactError(f"{path} is not a text file of LightGBM: its first line is not `tree`")
    artefact.check_features(str(path), Ranker(text, SPEC.names, path.name).names(), SPEC.names)
    return ranker.encode(text, now, {})
