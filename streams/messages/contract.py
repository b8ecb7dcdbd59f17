"""JSON Schemas of the public messages, for the documents of the contract (AsyncAPI, OpenAPI).

They are generated from the types. What a type cannot say is added here: names of enums, so that generated
code has names for them, too; the format of integers of 64 bits; and which field needs which other one (the
checks in ``schemas.py``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from headrace.streams.messages.schemas import LONGEST_OF_PAGE, EventType, Scope, Surface

#: Generated code takes 32 bits for an integer without a format.
_LONG = 2**31
_ENUMS: dict[str, Any] = {"EventType": EventType, "Scope": Scope, "Surface": Surface}
_NEEDS_ITEM = {"required": ["item_id"], "properties": {"item_id": {"type": "string", "minLength": 1}}}
_RELATED = {"surface": {"const": "related"}}
#: Message -> rules ``if`` ... ``then``. Null is as no field, so a field that is needed must have a type, too.
_RULES: dict[str, list[dict[str, Any]]] = {
    "Event": [
        {
            "if": {"required": ["type"], "properties": {"type": {"const": "dwell"}}},
            "then": {"required": ["dwell_ms"], "properties": {"dwell_ms": {"type": "integer"}}},
        }
    ],
    "ListRequest": [{"if": {"required": ["surface"], "properties": _RELATED}, "then": _NEEDS_ITEM}],
    "RecRequest": [
        {
            "if": {"required": ["surface"], "properties": {**_RELATED, "lists": {"maxItems": 0}}},
            "then": _NEEDS_ITEM,
        },
        {
            "if": {"required": ["lists"], "properties": {"lists": {"type": "array", "minItems": 1}}},
            "then": {
                "properties": {"candidates": {"maxItems": 0}, "request_id": {"maxLength": LONGEST_OF_PAGE}}
            },
        },
    ],
}


def json_schemas(types: Sequence[type[msgspec.Struct]], ref_template: str) -> dict[str, Any]:
    """Return the schemas of messages and of all that they consist of, by name.

    Parameters
    ----------
    types
        The message types.
    ref_template
        How a schema refers to another one; ``{name}`` stands for its name.
    """
    _, found = msgspec.json.schema_components(types, ref_template=ref_template)
    by_values = {tuple(sorted(get_args(type_))): name for name, type_ in _ENUMS.items()}
    used: set[str] = set()

    def named(node: Any) -> Any:
        if isinstance(node, list):
            return [named(one) for one in node]
        if not isinstance(node, dict):
            return node
        if set(node) == {"enum"} and (name := by_values.get(tuple(sorted(node["enum"])))):
            used.add(name)
            return {"$ref": ref_template.format(name=name)}
        out = {key: named(value) for key, value in node.items()}
        if node.get("type") == "integer" and node.get("maximum", 0) >= _LONG:
            out["format"] = "int64"
        return out

    out: dict[str, Any] = named(found)
    for name, rules in _RULES.items():
        if name in out:
            out[name]["allOf"] = copy.deepcopy(rules)
    for name in sorted(used):
        out[name] = {"title": name, "type": "string", "enum": list(get_args(_ENUMS[name]))}
    return out
