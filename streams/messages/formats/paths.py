"""JSONPath (RFC 9535) over decoded JSON. The library parses every path, once.

Nearly all paths are names and indices, and perhaps a filter for one name in a list (``[?@.key == 'x']``).
These are then walked (``finds.pyx``), which is many times faster. Others are evaluated by the library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from jsonpath import JSONPath, JSONPathEnvironment
from jsonpath.exceptions import JSONPathError
from jsonpath.filter import InfixExpression, RelativeFilterQuery, StringLiteral
from jsonpath.segments import JSONPathRecursiveDescentSegment
from jsonpath.selectors import Filter, IndexSelector, NameSelector

from headrace.streams.errors import ConfigError
from headrace.streams.messages.formats.finds import Call, Find, Pick, Walk

_ENV: Final = JSONPathEnvironment(strict=True)
#: What the library raises for a document: too deep, or of another shape than a filter expects.
_FAULTS: Final = (JSONPathError, RecursionError, TypeError, ValueError)


def getter(path: str, *, plain: bool = True) -> Find:
    """Return what reads the first value at a path.

    Parameters
    ----------
    path
        A JSONPath that begins with ``$``.
    plain
        Whether a plain path is walked; False: the library evaluates every path.

    Raises
    ------
    ConfigError
        When it is no JSONPath.
    """
    try:
        parsed = _ENV.compile(path)
    except JSONPathError as exc:
        raise ConfigError(f"{path!r} is no JSONPath (RFC 9535): {_first_line(exc)}") from exc
    if not isinstance(parsed, JSONPath):
        raise ConfigError(f"{path!r} is no single JSONPath")
    steps = _steps(parsed) if plain else None
    return Call(_evaluated(parsed)) if steps is None else Walk(steps)


def _first_line(exc: Exception) -> str:
    return str(exc.args[0]).splitlines()[0]  # its text also points into the path, and fails for an empty one


def _steps(path: JSONPath) -> tuple[str | int | Pick, ...] | None:
    """Return the steps of a path that can be walked, else None."""
    steps: list[str | int | Pick] = []
    for segment in path.segments:
        if isinstance(segment, JSONPathRecursiveDescentSegment) or len(segment.selectors) != 1:
            return None
        step = _step(segment.selectors[0])
        if step is None:
            return None
        steps.append(step)
    return tuple(steps)


def _step(selector: Any) -> str | int | Pick | None:
    if isinstance(selector, NameSelector):
        return str(selector.name)
    if isinstance(selector, IndexSelector):
        return int(selector.index)
    test = getattr(selector.expression, "expression", None) if isinstance(selector, Filter) else None
    if not isinstance(test, InfixExpression) or test.operator != "==":
        return None
    query, literal = test.left, test.right
    if not isinstance(query, RelativeFilterQuery) or not isinstance(literal, StringLiteral):
        return None
    inner = _steps(query.path)
    return Pick(inner[0], literal.value) if inner and len(inner) == 1 and isinstance(inner[0], str) else None


def _evaluated(path: JSONPath) -> Callable[[Any], Any]:
    def get(doc: Any) -> Any:
        if type(doc) is not dict and type(doc) is not list:
            return None  # the library would parse a text as JSON
        try:
            return next((match.obj for match in path.finditer(doc)), None)
        except _FAULTS:
            return None

    return get
