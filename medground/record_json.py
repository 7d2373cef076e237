"""Records as JSON objects: their own keys in order, then the keys that are passed through."""

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any

_OPTIONAL: dict[type, tuple[tuple[str, bool], ...]] = {}
_VALUES: dict[type, Callable[[Any], tuple[Any, ...]]] = {}


def _keys(kind: type) -> tuple[tuple[str, bool], ...]:
    """Return (name, omitted if None) of each field of a record except `extra`."""
    if kind not in _OPTIONAL:
        own = [each for each in fields(kind) if each.name != "extra"]
        _OPTIONAL[kind] = tuple((each.name, each.default is None) for each in own)
    return _OPTIONAL[kind]


def known_keys(kind: type) -> frozenset[str]:
    """Return the keys of a record's own fields."""
    return frozenset(name for name, _ in _keys(kind))


def to_json(record: Any) -> dict[str, Any]:
    """Return the record as one JSON object: its own keys in their order, then the passed-through ones."""
    kind = type(record)
    keys = _keys(kind)
    if kind not in _VALUES:
        _VALUES[kind] = attrgetter(*(name for name, _ in keys))
    line = {}
    for (name, optional), value in zip(keys, _VALUES[kind](record), strict=True):
        if value is None and optional:
            continue
        if type(value) is list and value and hasattr(value[0], "__dataclass_fields__"):
            value = [to_json(each) for each in value]
        line[name] = value
    for name, value in getattr(record, "extra", {}).items():
        line.setdefault(name, value)
    return line
