"""Refuses Avro schemas with which a few bytes may stand for any amount of memory, stack or time. Pure."""

from __future__ import annotations

from typing import Any, Final

from headrace.streams.errors import RejectedError

#: Most values that a schema stands for when every name is written out and arrays have one item, and deepest
#: nesting.
MOST_FIELDS, DEEPEST = 10_000, 64
#: Most values for which a byte of an array or a map may stand.
MOST_A_BYTE: Final = 16
PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
#: Largest fixed value, bytes: no record is larger.
_LARGEST: Final = 1 << 31


def unusable(why: object) -> RejectedError:
    """Return why nothing that was written with a schema can be read."""
    return RejectedError("unusable_schema", "", str(why))


class Bounds:
    """Looks at a schema that fastavro has parsed.

    Of every type it computes two numbers. The first is how many values its plan has, which is the schema with
    all names written out. The second is the most by which the values of a message exceed ``MOST_A_BYTE`` for
    each byte, whatever the message says; as both add up, so does the excess. Where it is not above zero, any
    number of items is safe.

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
        """Return how many values a plan has, and their excess.

        Raises
        ------
        RejectedError
            ``unusable_schema``.
        """
        if depth > DEEPEST:
            raise unusable(f"it is nested more than {DEEPEST} deep")
        count, excess = self._of(schema, depth)
        if count > MOST_FIELDS:
            raise unusable(f"it stands for more than {MOST_FIELDS} values")
        return count, excess

    def _of(self, schema: Any, depth: int) -> tuple[int, int]:
        if isinstance(schema, str):
            return self._of_name(schema, depth)
        if isinstance(schema, list):
            each = [self.check(part, depth + 1) for part in schema]
            most = max((excess for _, excess in each), default=0)
            return 1 + sum(count for count, _ in each), most - MOST_A_BYTE
        kind = schema["type"]
        if kind in ("record", "error"):
            return self._of_record(schema, depth)
        if kind in ("array", "map"):
            count, excess = self.check(schema["items" if kind == "array" else "values"], depth + 1)
            if kind == "map":
                excess += _of_bytes(1)  # of the key
            if excess > 0:
                raise unusable(
                    "items in an array or a map take no bytes, or nearly: a few could stand for any memory"
                )
            return 1 + count, _of_bytes(1)
        if kind == "fixed":
            size = int(schema["size"])
            if not 0 <= size < _LARGEST:
                raise unusable(f"a fixed value has {size} bytes")
            return 1, _of_bytes(size)
        return (1, _of_bytes(1)) if kind == "enum" else self.check(kind, depth + 1)

    def _of_name(self, name: str, depth: int) -> tuple[int, int]:
        if name in PRIMITIVES:
            return 1, _of_bytes(int(name != "null"))
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
        self._known[name] = 1 + sum(count for count, _ in each), 1 + sum(excess for _, excess in each)
        return self._known[name]


def _of_bytes(count: int) -> int:
    """Return the excess of one value that takes so many bytes, or more."""
    return 1 - MOST_A_BYTE * count
