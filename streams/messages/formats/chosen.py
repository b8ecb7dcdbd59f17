"""What the settings say about the format of events, as objects. The libraries are imported when needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.streams.errors import ConfigError
from headrace.streams.messages.formats.translator import Translator
from headrace.streams.settings import Settings

if TYPE_CHECKING:
    from headrace.streams.messages.formats.mapping import Mapping
    from headrace.streams.messages.formats.schemas import Schemas

#: Folder in ``data_dir`` for the schemas of the registry.
FOLDER = "schemas"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What reads events of others.

    Attributes
    ----------
    translator
        Turns records into ours. Whatever ``missing`` returns must be loaded before.
    schemas
        Schemas of the registry; None without one.
    """

    translator: Translator
    schemas: Schemas | None

    def missing(self, records: Sequence[Any], now: float) -> set[int]:
        """Return the ids of the schemas to be loaded before ``records`` are read; see ``Schemas.missing``."""
        if self.schemas is None:
            return set()
        return self.schemas.missing(records, self.translator.max_bytes, now)


def chosen(settings: Settings, *, plain: bool = True) -> Chosen | None:
    """Return what reads events of others; None when all are JSON of ours.

    Parameters
    ----------
    plain
        Whether plain paths and Avro are read by compiled code; False: by the libraries alone.

    Raises
    ------
    ConfigError
        The mapping file is wrong, or a library is not installed.
    """
    if settings.events_format == "json" and not settings.events_mapping:
        return None
    try:
        mapping, schemas = _mapping(settings, plain), _schemas(settings, plain)
    except ImportError as exc:
        raise ConfigError(
            f"HEADRACE_EVENTS_...: pip install 'headrace[formats]' (not here: {exc.name})"
        ) from exc
    detect = settings.events_format == "detect"
    return Chosen(
        Translator(settings.max_event_bytes, detect=detect, mapping=mapping, schemas=schemas), schemas
    )


def _mapping(settings: Settings, plain: bool) -> Mapping | None:
    if not settings.events_mapping:
        return None
    from headrace.streams.messages.formats.mapping import read_mapping

    try:
        return read_mapping(settings.events_mapping, plain=plain)
    except ConfigError as exc:
        raise ConfigError(f"HEADRACE_EVENTS_MAPPING: {exc}") from exc


def _schemas(settings: Settings, plain: bool) -> Schemas | None:
    if not settings.registry_url:
        return None
    from headrace.streams.messages.formats.registry import Registry
    from headrace.streams.messages.formats.schemas import Schemas

    return Schemas(Registry(settings, settings.data_dir / FOLDER), plain=plain)
