"""Settings that are tried on some users, as an artefact: names and values that are not the installation's.

The body is a JSON object of texts with its keys sorted, so the same settings have the same version. Which
names and values there may be is known in serving (``serving/varied.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headrace.models.learning import artefact
from headrace.models.learning.kinds import SETTINGS
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.codec import UNDECODABLE

#: Kind of the artefact.
KIND = "changes"


def encode(changes: Mapping[str, str], created_ts: int) -> tuple[bytes, str]:
    """Return the record of `models`, and the version.

    Parameters
    ----------
    changes
        Name -> value; empty: the settings of the installation.
    created_ts
        When they were made, ms.
    """
    body = msgspec.json.encode(dict(sorted(changes.items())))
    return artefact.encode(SETTINGS.name, KIND, body, (), created_ts, {})


def decode(value: bytes) -> dict[str, str]:
    """Return the changes in a record; raise ``ArtefactError`` when there are none in it."""
    document = artefact.decode(value)
    if (document["name"], document["kind"]) != (SETTINGS.name, KIND):
        raise ArtefactError(f"{document['name']} {document['version']} is no artefact of settings")
    try:
        return msgspec.json.decode(document["body"], type=dict[str, str])
    except UNDECODABLE as exc:
        raise ArtefactError(f"settings {document['version']}: {exc}") from exc


def told(changes: Mapping[str, str]) -> str:
    """Return changes in one line."""
    return ", ".join(f"{name}={value}" for name, value in changes.items()) or "those of the installation"
