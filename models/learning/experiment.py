"""Beginning to try settings on some users: the pointers of settings, changed. Pure.

The first settings that are live are those of the installation: an artefact without changes. Settings have no
shadow, so they begin with some users.
"""

from __future__ import annotations

from headrace.models.learning import pointers
from headrace.models.learning.pointers import STAGES, Pointers
from headrace.streams.errors import ConfigError


def started(p: Pointers, seen: str, versions: tuple[str, str], share: int, now: int, reason: str) -> Pointers:
    """Return the pointers of settings with new ones tried on some users.

    Parameters
    ----------
    p
        The present pointers.
    seen
        The live version that the new settings are made from.
    versions
        Of the installation's own settings, and of the new ones.
    share
        Percent of the users.
    now
        Time, ms.

    Raises
    ------
    ConfigError
        There is no such stage, others are tried already, or the new ones are live.
    """
    base, version = versions
    if share not in STAGES[1:]:
        raise ConfigError(f"--share is one of {', '.join(map(str, STAGES[1:]))}, not {share}")
    if p.candidate:
        raise ConfigError(
            f"settings {p.candidate} are tried now: end that with headrace models rollback --settings"
        )
    if p.live != seen:
        raise ConfigError(f"others made settings {p.live} live at the same moment: try again")
    if version == (p.live or base):
        raise ConfigError("these settings are in use for all users")
    if not p.live:
        p = pointers.made_live(p, base, now, "operator", "settings of the installation")
    p = pointers.offered(p, version, now, "operator")
    while p.share < share:
        p = pointers.promoted(p, now, "operator", reason)
    return p
