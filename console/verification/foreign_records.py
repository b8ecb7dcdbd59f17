"""Events of others for the oracle: as ours, by the same settings, but with every path read by the library."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from headrace.streams.errors import NotYetError
from headrace.streams.messages.formats.chosen import chosen
from headrace.streams.settings import Settings

#: Pause before the registry is asked again for what it does not have, s.
RETRY_S = 0.25


class ForeignRecords:
    """Translates records of `events`. The workers walk plain paths of a mapping file; here none is walked.

    Parameters
    ----------
    settings
        What events look like.
    """

    def __init__(self, settings: Settings) -> None:
        self._chosen = chosen(settings, plain=False)

    async def read(self, records: Sequence[Any]) -> Sequence[Any]:
        """Return records of `events`, those of others as ours; those that are ignored are left out.

        Raises
        ------
        UnavailableError
            A schema is not on disk, and the registry does not answer.
        """
        if self._chosen is None:
            return records
        schemas = self._chosen.schemas
        if schemas is not None:
            missing = self._chosen.missing(records, time.monotonic())
            while missing:
                try:
                    await asyncio.to_thread(schemas.load, missing, time.monotonic())
                except NotYetError:  # as long as the workers, who refuse such a record then
                    await asyncio.sleep(RETRY_S)
        return self._chosen.translator.read(records).records
