"""Refuses Avro schemas with which a few bytes may stand for any amount of memory, stack or time. Pure."""

from __future__ import annotations

from typing import Any, Final

from headrace.streams.errors import RejectedError

#: Most values that a record of a schema has without counting those of arrays and maps, and deepest nesting.
MOST_FIELDS, DEEPEST = 10_000, 64
PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
#: Largest fixed value, bytes: no record is larger.
_LARGEST: Final = 1 << 31


def unusable(why: object) -> RejectedError:
    """Return why nothing that was written with a schema can be read."""
    return RejectedError("unusable_schema", "", str(why))


class Bounds:
    """Looks at a schema that fastavro has parsed.

    Parameters
    ----------
    named
        Its named types.
    """

    def __init__(self, named: dict[str, Any]) -> None:
        self._named = named
        self._known: dict[str, tuple[int, int]] = {}
        self._open: set[str] = set()

    def check(self, schema: Any, depth: int = 0) -> tuple[int, int]:
        """Return the smallest size of a value, bytes, and how many values it has at most, without arrays.

        Raises
        ------
        RejectedError
            ``unusable_schema``.
        """
        if depth > DEEPEST:
            raise unusable(f"it is nested more than {DEEPEST} deep")
        if isinstance(schema, str):
            return self._of_name(schema, depth)
        if isinstance(schema, list):
            each = [self.check(part, depth + 1) for part in schema]
            return 1, 1 + max((count for _, count in each), default=0)
        kind = schema["type"]
        if kind in ("record", "error"):
            return self._of_record(schema, depth)
        if kind in ("array", "map"):
            least, count = self.check(schema["items" if kind == "array" else "values"], depth + 1)
            if kind == "array" and least == 0:
                raise unusable(
                    "an array has items of no bytes: a few bytes could stand for any number of them"
                )
            return 1, 1 + count
        if kind == "fixed":
            size = int(schema["size"])
            if not 0 <= size < _LARGEST:
                raise unusable(f"a fixed value has {size} bytes")
            return size, 1
        return (1, 1) if kind == "enum" else self.check(kind, depth + 1)

    def _of_name(self, name: str, depth: int) -> tuple[int, int]:
        if name in PRIMITIVES:
            return int(name != "null"), 1
        if name in self._open:
            raise unusable(f"{name} has itself in it")
        if name not in self._known:
            self._known[name] = self.check(self._named[name], depth + 1)
        return self._known[name]

    def _of_record(self, schema: dict[str, Any], depth: int) -> tuple[int, int]:
        name = schema["name"]
        if name in self._known:
            return self._known[name]
        self._open.add(name)
        each = [self.check(one["type"], depth + 1) for one in schema["fields"]]
        self._open.discard(name)
        least, count = sum(size for size, _ in each), 1 + sum(count for _, count in each)
        if count > MOST_FIELDS:
            raise unusable(f"a record has more than {MOST_FIELDS} values")
        self._known[name] = least, count
        return least, count
