"""Null for an optional field is absent: many JSON writers (Jackson, Gson) write every field.

A copy of a message type takes null for each of its optional fields, also in nested messages. Its values are
then turned into values of the type itself. The copy is used only for records that the type itself refuses, so
that other records cost no more.

The rule: a field with a default is optional, and null gives its default. Null stays an error for a required
field, for an element of a list, and for the message as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo, astuple, fields

T = TypeVar("T")


class NullTolerant(Generic[T]):
    """Decodes messages whose optional fields may be null.

    Parameters
    ----------
    type_
        The msgspec Struct of a message.
    """

    def __init__(self, type_: type[T]) -> None:
        struct: Any = type_
        shape, self._fill = _tolerant(struct)
        self._decode = msgspec.json.Decoder(shape).decode

    def decode(self, body: bytes | str) -> T:
        """Return the value of one message; raise as msgspec's decoder."""
        value: T = self._fill(self._decode(body))
        return value


def nullable(type_: type[Struct]) -> type[Struct]:
    """Return a copy of a message type whose optional fields take null, too; nested ones as well."""
    return _tolerant(type_)[0]


@cache
def _tolerant(type_: Any) -> tuple[type[Struct], Callable[[Any], Any]]:
    """Return the copy of a type, and the function that makes a value of the type from one of the copy."""
    columns = fields(type_)
    nested = {i: _nested(field.type) for i, field in enumerate(columns) if _structs_in(field.type)}
    shape = msgspec.defstruct(
        type_.__name__,
        [_field(field, nested[i][1] if i in nested else field.type) for i, field in enumerate(columns)],
        module=type_.__module__,
    )
    shape.__doc__ = type_.__doc__
    missing = [(i, _default(field)) for i, field in enumerate(columns) if _has_default_other_than_null(field)]
    inner = [(i, copy, fill_inner) for i, (copy, _, fill_inner) in nested.items()]

    def fill(value: Any) -> Any:
        values = list(astuple(value))
        for i, default in missing:
            if values[i] is None:
                values[i] = default()
        for i, copy, fill_inner in inner:
            value = values[i]
            if type(value) is copy:  # not a default: that has the type itself
                values[i] = fill_inner(value)
            elif type(value) is list:
                values[i] = [fill_inner(one) for one in value]
        return type_(*values)

    return shape, fill


def _nested(type_: Any) -> tuple[type[Struct], Any, Callable[[Any], Any]]:
    """Return the copy of a message type, the field's type with the copy in it, and what fills a value."""
    copy, fill = _tolerant(_structs_in(type_))
    if _is_struct(type_):
        return copy, copy, fill
    if get_origin(type_) is Annotated:
        _, *limits = get_args(type_)
        return copy, Annotated[list[copy], *limits], fill  # type: ignore[valid-type]
    return copy, list[copy], fill  # type: ignore[valid-type]


def _structs_in(type_: Any) -> Any:
    """Return the message type of a field, or of the elements of its list; None for other fields."""
    if get_origin(type_) is Annotated:
        type_ = get_args(type_)[0]
    if get_origin(type_) is list:
        (type_,) = get_args(type_)
    return type_ if _is_struct(type_) else None


def _is_struct(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, Struct)


def _field(field: FieldInfo, type_: Any) -> Any:
    if field.required:
        return field.encode_name, type_
    if field.default is not NODEFAULT:
        return field.encode_name, type_ | None, field.default
    return field.encode_name, type_ | None, msgspec.field(default_factory=field.default_factory)


def _has_default_other_than_null(field: FieldInfo) -> bool:
    return not field.required and field.default is not None


def _default(field: FieldInfo) -> Callable[[], Any]:
    if field.default is NODEFAULT:
        factory: Callable[[], Any] = field.default_factory
        return factory
    return lambda: field.default
