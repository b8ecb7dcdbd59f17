"""The registry: every version of the ranker, or of settings, as text and JSON in its own folder. No pickle.

    <models_dir>/<topic prefix>ranker/<version>/model.txt     LightGBM's text
    <models_dir>/<topic prefix>ranker/<version>/about.json    where it came from, metrics, checksum
    <models_dir>/<topic prefix>ranker/<version>/features.json distributions of the features (`histograms`)
    <models_dir>/<topic prefix>ranker/<version>/report.json   the report of its training, and report.html

Settings that were tried are in `settings/<version>`, in the same way (`kinds.py`).

The version is the start of the text's SHA-256, so one text has one version. Which version is in use is not
written here, but on `models` (`pointers`): the folder may be lost, and serving does not notice.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Container
from pathlib import Path

import msgspec

from headrace.models.learning import artefact, ranker
from headrace.models.learning.kinds import RANKER, Kind
from headrace.models.learning.log_files import durable_file
from headrace.models.learning.places import Place, remove_all, root
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.settings import Settings

_VERSION = re.compile(r"[0-9a-f]{12}")
_ABOUT = "about.json"


class About(msgspec.Struct, frozen=True):
    """What is known of a version.

    Attributes
    ----------
    checksum
        SHA-256 of the text, hexadecimal.
    created_ts
        When it was registered, ms.
    origin
        "trained" or "imported"; "experiment" for settings.
    refused
        Why it never reached anybody, or was taken back; empty when it was neither.
    """

    version: str
    checksum: str
    created_ts: int
    origin: str
    features: tuple[str, ...]
    metrics: dict[str, float]
    refused: str = ""
    kind: str = ranker.KIND


def folder_of(settings: Settings, kind: Kind = RANKER) -> Place:
    """Return the folder of an installation's rankers, or settings."""
    folder = Path(settings.models_dir) if settings.models_dir else root(settings) / "models"
    return folder / settings.name(kind.name)


class Registry:
    """The versions in a folder.

    Parameters
    ----------
    folder
        It is made when the first version is added.
    kind
        What is kept there.
    """

    def __init__(self, folder: Place, kind: Kind = RANKER) -> None:
        self.folder, self.kind = folder, kind

    def add(self, value: bytes, origin: str, refused: str = "") -> About:
        """Keep the artefact of a `models` record; return what is written about it.

        Raises
        ------
        ArtefactError
            ``value`` is no artefact.
        OSError
            The disk does not take it.
        """
        document = artefact.decode(value)
        about = About(
            version=document["version"],
            checksum=hashlib.sha256(document["body"]).hexdigest(),
            created_ts=document["created_ts"],
            origin=origin,
            features=document["features"],
            metrics={k: v for k, v in document["metrics"].items() if v is not None},
            refused=refused,
            kind=document["kind"],
        )
        with durable_file(self.model_file(about.version)) as handle:
            handle.write(document["body"])
        self._write(about)  # last: a version without it does not count
        return about

    def note(self, version: str, refused: str) -> None:
        """Note why a version was taken back; of one that is not here, nothing."""
        with contextlib.suppress(ArtefactError):
            self._write(msgspec.structs.replace(self.about(version), refused=refused))

    def _write(self, about: About) -> None:
        with durable_file(self._path(about.version) / _ABOUT) as handle:
            handle.write(msgspec.json.format(msgspec.json.encode(about), indent=1))

    def versions(self) -> list[About]:
        """Return all versions, the newest first; those that cannot be read are left out."""
        found = []
        for path in self.folder.glob(f"*/{_ABOUT}"):
            try:
                found.append(self.about(path.parent.name))
            except ArtefactError:
                continue
        return sorted(found, key=lambda about: (-about.created_ts, about.version))

    def names(self) -> set[str]:
        """Return the names of all versions; raise ``OSError`` when the store does not answer."""
        return {path.parent.name for path in self.folder.glob(f"*/{_ABOUT}")}

    def about(self, version: str) -> About:
        """Return what is known of a version; raise ``ArtefactError`` when there is no such version."""
        try:
            return msgspec.json.decode((self._path(version) / _ABOUT).read_bytes(), type=About)
        except (OSError, *UNDECODABLE) as exc:
            raise ArtefactError(f"{self.kind.name} {version} is not in {self.folder}: {exc}") from exc

    def folder_of_version(self, version: str) -> Place:
        """Return the folder with all that is kept of a version."""
        return self._path(version)

    def model_file(self, version: str) -> Place:
        """Return the file with a version's text."""
        return self._path(version) / self.kind.file

    def record(self, version: str) -> bytes:
        """Return a version as a record of `models`.

        Raises
        ------
        ArtefactError
            There is no such version, or its text is not what it was.
        """
        about = self.about(version)
        try:
            body = self.model_file(version).read_bytes()
        except OSError as exc:
            raise ArtefactError(f"{self.kind.name} {version} cannot be read: {exc}") from exc
        if hashlib.sha256(body).hexdigest() != about.checksum:
            wrong = f"{self.model_file(version)} does not match its checksum"
            raise ArtefactError(f"{self.kind.name} {version}: {wrong}")
        value, _ = artefact.encode(
            self.kind.name, about.kind, body, about.features, about.created_ts, about.metrics
        )
        return value

    def prune(self, keep: int, pointed: Container[str]) -> list[str]:
        """Delete all but the newest ``keep`` versions and those pointed at; return the versions deleted."""
        gone = [about.version for about in self.versions()[keep:] if about.version not in pointed]
        for version in gone:
            # First: a version without it does not count.
            (self._path(version) / _ABOUT).unlink(missing_ok=True)
            remove_all(self._path(version))
        return gone

    def _path(self, version: str) -> Place:
        if not _VERSION.fullmatch(version):
            raise ArtefactError(f"{version!r} is not a version: 12 hexadecimal digits are")
        return self.folder / version
