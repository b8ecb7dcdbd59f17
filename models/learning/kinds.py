"""The kinds of artefacts that are tried on a share of the users: rankers, and settings. Pure.

Both have the same records on `models`, under keys of their own, and so the same stages, counts and tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from headrace.models.learning.leaves import RANKER as RANKER_NAME


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of artefact.

    Attributes
    ----------
    name
        Name in artefacts; the key of an artefact on `models` is ``name/version``. The field of an example
        that has the version, too.
    pointers, counts
        Keys of the record with the pointers, and of the one with the counts of the present stage.
    file
        Name of the file that holds the body in the registry.
    """

    name: str
    pointers: bytes
    counts: bytes
    file: str

    @property
    def prefix(self) -> bytes:
        """What the key of an artefact begins with; the version follows."""
        return f"{self.name}/".encode()

    def key(self, version: str) -> bytes:
        """Return the key of an artefact on `models`."""
        return self.prefix + version.encode()


RANKER: Final = Kind(RANKER_NAME, b"pointers", b"rollout", "model.txt")
SETTINGS: Final = Kind("settings", b"settings-pointers", b"settings-rollout", "settings.json")
#: Every kind.
KINDS: Final = (RANKER, SETTINGS)
