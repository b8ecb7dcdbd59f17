from collections.abc import Callable, Iterable
from typing import Any

#: The time of the record itself, as the default of a rule.
RECORD_TIME: object

class Find:
    """Returns a value of a document, or None when there is none, or null."""

    def __call__(self, doc: Any) -> Any: ...

class Pick:
    """A step to every element whose member ``name`` is the text ``value``."""

    def __init__(self, name: str, value: str) -> None: ...

class Walk(Find):
    """Walks a path: its steps are names, indices, and ``Pick``."""

    def __init__(self, steps: tuple[str | int | Pick, ...]) -> None: ...

class Call(Find):
    """What a function returns for the document."""

    def __init__(self, function: Callable[[Any], Any]) -> None: ...

class First(Find):
    """The first value that one of several finds."""

    def __init__(self, finds: Iterable[Find]) -> None: ...

class Joined(Find):
    """What several finds have found, joined; None when one of them finds nothing.

    ``convert`` makes a text of what is none, or raises ``ValueError``.
    """

    def __init__(self, finds: Iterable[Find], separator: str, convert: Callable[[Any], str]) -> None: ...

class Mapped(Find):
    """The value that a table has for what is found.

    ``otherwise`` is called with a value that it has not, as it is written in the table.
    """

    def __init__(self, inner: Find, table: dict[str, Any], otherwise: Callable[[str], Any]) -> None: ...

class Converted(Find):
    """What a function makes of the value that is found; a value of the type ``is_right`` stays as it is."""

    def __init__(
        self, inner: Find, convert: Callable[[Any], Any], is_right: type[Any] | None = None
    ) -> None: ...

class Number(Find):
    """A whole number that is found, also in digits, times ``times`` / ``by``; a function is for others."""

    def __init__(self, inner: Find, times: int, by: int, convert: Callable[[Any], Any]) -> None: ...

class Time(Find):
    """The milliseconds of a time as ISO 8601 writes it most often; a function is for all others."""

    def __init__(self, inner: Find, convert: Callable[[Any], Any]) -> None: ...

class Rule:
    """How a field of ours gets its value.

    ``field`` is its name for messages, ``name`` that in the object that it is in. ``default`` is the value
    when there is none (None: there is no default).
    """

    field: str
    name: str
    value: Find
    default: Any

    def __init__(self, field: str, value: Find, default: Any = None, *, required: bool = False) -> None: ...

class Rules:
    """Makes events of ours from documents.

    Parameters
    ----------
    only, ignore
        Pairs of a find and a set: a document without such a value, or with one, is ignored.
    fields
        Rules of an event, that of ``type`` first: an event that is ignored needs no other field.
    context
        Rules of its context.
    """

    def __init__(
        self,
        only: list[tuple[Find, frozenset[Any]]],
        ignore: list[tuple[Find, frozenset[Any]]],
        fields: list[Rule],
        context: list[Rule],
    ) -> None: ...
    def event(self, doc: Any, timestamp: int) -> dict[str, Any]:
        """Return a document as an event of ours, with the fields that it has; their values are not checked.

        Parameters
        ----------
        timestamp
            The record's own, ms.

        Raises
        ------
        IgnoredError
            It is not meant to be an event of ours.
        RejectedError
            It is, and cannot become one: ``unmapped``, with the field.
        """
