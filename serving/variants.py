"""The settings that this process has read from `models`, and those that make a user's lists. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.models.learning import tried_settings
from headrace.models.learning.arms import CANDIDATE, arm_of
from headrace.models.learning.kinds import SETTINGS
from headrace.models.learning.pointers import stage_name
from headrace.models.learning.shelf import Shelf
from headrace.serving.policy import Policy
from headrace.streams.errors import ArtefactError, ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Variant:
    """A version of the settings, ready for use."""

    version: str
    policy: Policy


class Variants:
    """The live settings and the candidate, as the newest pointers say.

    They are made when the pointers change. A request only picks one of the two.

    Parameters
    ----------
    resolve
        Makes the policy of changed settings; raises ``ConfigError`` for those that do not fit. None: no
        settings are tried in this process.

    Attributes
    ----------
    live, candidate
        None: those of the installation. Settings that do not fit are logged, and used for nobody.
    """

    def __init__(self, resolve: Callable[[Mapping[str, str]], Policy] | None = None) -> None:
        self.shelf = Shelf(SETTINGS)
        self.live: Variant | None = None
        self.candidate: Variant | None = None
        self._resolve = resolve
        self._made: dict[str, Variant | None] = {}

    def apply(self, records: Iterable[Any]) -> None:
        """Take records of `models`."""
        if self._resolve is None or not self.shelf.apply(records):
            return
        before, p = (self.live, self.candidate), self.shelf.pointers
        self._made = {v: self._variant(v) for v in {p.live, p.candidate} & self.shelf.texts.keys()}
        self.live, self.candidate = self._made.get(p.live), self._made.get(p.candidate)
        if (self.live, self.candidate) != before:
            log.info(
                "settings %s are in use, %s are tried: %s",
                self.live.version if self.live else "of the installation",
                self.candidate.version if self.candidate else "none",
                stage_name(p.share),
            )

    def of(self, user_id: str) -> Variant | None:
        """Return the settings for a user's lists; None: those of the installation."""
        p = self.shelf.pointers
        if self.candidate is not None and p.share and arm_of(user_id, p.rollout, p.share) == CANDIDATE:
            return self.candidate
        return self.live

    def _variant(self, version: str) -> Variant | None:
        """Return a version that is on the shelf; None when it does not fit."""
        if version in self._made:
            return self._made[version]
        try:
            changes = tried_settings.decode(self.shelf.texts[version])
            return Variant(version, self._resolve(changes)) if self._resolve else None
        except (ArtefactError, ConfigError) as exc:
            log.error("settings %s are refused: %s", version, exc, extra={"action": "settings_refused"})  # noqa: TRY400
            return None
