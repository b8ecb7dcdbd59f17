"""The errors of Headrace."""

from __future__ import annotations


class HeadraceError(Exception):
    """Base of all errors of Headrace."""


class ConfigError(HeadraceError):
    """A setting or an argument is wrong; the message names it."""


class RejectedError(HeadraceError):
    """A message is rejected; it becomes a dead letter.

    Parameters
    ----------
    reason
        Stable code for programs, e.g. ``"invalid_field"``.
    field
        Name of the wrong field, "" when the message as a whole is wrong.
    detail
        A sentence for people.
    """

    def __init__(self, reason: str, field: str = "", detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.field = field
        self.detail = detail or reason


class ArtefactError(HeadraceError):
    """A model artefact does not fit this code; the message names both feature lists."""


class TraceError(HeadraceError):
    """A trace cannot be read, or no list can be made from it."""


class NoTraceError(TraceError):
    """There is no trace of a request."""


class UnavailableError(HeadraceError):
    """A dependency (broker, Redis) cannot be reached."""


class NotYetError(UnavailableError):
    """A dependency answers, and does not have what it is asked for yet: asked again, it may have it."""


class NoTopicError(UnavailableError):
    """A topic or a partition of it does not exist."""


class FencedError(HeadraceError):
    """This worker may not write the state of a partition: another worker owns it, or may own it."""


class LayoutError(HeadraceError):
    """Kept rows have a layout that this version cannot read; the message says what to do."""


class PutOffError(HeadraceError):
    """A flush cannot write now. Nothing of it is acknowledged, and it is tried again."""
