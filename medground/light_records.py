"""Records as structs: the attributes of a record, decoded from a line in a third of the time.

A line that is decoded here gives what the strict way gives: parsing with orjson, then `msgspec.convert`. All
other lines, valid or not, raise one of `FAILURES`, and the strict way decides. So no structure allows a
key that it does not know or lacks a field whose default is not None, a line has as many keys as its structure
has values, and integers are limited to those that orjson reads as integers.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from medground import record_json, strict_json
from medground.records import Region, check_box

Int = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Passed = str | bool | Int | float | list[str] | None  # values of unknown keys that are read here
ENCODE = msgspec.json.Encoder().encode
FAILURES = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
MOST_KEYS = 8  # unknown keys; each new one compiles a structure


class Reader:
    """Decodes lines as structures of a record class; unknown keys too, once `learn` has met them."""

    def __init__(self, kind: type):
        self._kind = kind
        self._keys: tuple[str, ...] = ()
        self.decode = _decoder(kind)

    def learn(self, extra: Mapping[str, Any]) -> None:
        """Decode these unknown keys from now on, if their values are simple."""
        new = tuple(key for key in extra if key not in self._keys)
        if not new or len(self._keys) + len(new) > MOST_KEYS or not all(map(_is_simple, extra.items())):
            return
        self._keys += new
        decode = _decoder(self._kind, self._keys)

        def in_order(line: bytes) -> Any:
            record = decode(line)
            if len(record.extra) > 1 and not _are_in_order(record.extra, line):
                raise msgspec.DecodeError("the keys have another order, or an unknown one")
            return record

        self.decode = in_order if len(self._keys) > 1 else decode


def _decoder(kind: type, keys: tuple[str, ...] = ()) -> Callable[[bytes], Any]:
    """Return a function that decodes a line; it raises DecodeError if a key may be there twice."""
    made = struct_of(kind, keys)
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(made).decode
    count = _count_keys(kind, len(keys))

    def once(line: bytes) -> Any:
        record = decode(line)
        if line.count(b":") != count(record) and not strict_json.has_all_keys(ENCODE(record), line):
            raise msgspec.DecodeError("a key may be there twice")
        return record

    return once


@cache
def _count_keys(kind: type, unknown: int = 0) -> Callable[[Any], int]:
    """Return a function that counts the keys in the line of a structure, nested ones too.

    It is compiled from the fields: a loop over them takes longer than decoding.
    """
    names: dict[str, Any] = {"unset": msgspec.UNSET}
    hints, terms, always = get_type_hints(kind), [], 0
    for each in [each for each in fields(kind) if each.name != "extra"]:
        value = f"record.{each.name}"
        always += each.default is not None
        if each.default is None:
            terms.append(f"({value} is not None)")
        if get_origin(hints[each.name]) is dict:
            terms.append(f"len({value})")
        elif nested := record_json.records_in(hints[each.name]):
            names[each.name] = _count_keys(nested)
            terms.append(f"sum(map({each.name}, {value}))")
    terms += [f"(record.unknown_{number} is not unset)" for number in range(unknown)]
    return eval(f"lambda record: {' + '.join([str(always), *terms])}", names)  # type: ignore[no-any-return]


def _is_simple(item: tuple[str, Any]) -> bool:
    key, value = item
    if not key.isidentifier() or key == "extra":
        return False
    try:
        msgspec.convert(value, Passed)
    except msgspec.ValidationError:
        return False
    return True


def _are_in_order(keys: Iterable[str], line: bytes) -> bool:
    """Return whether the line surely has these keys in this order; without escapes, quotes end strings."""
    marks = [b'"%b":' % key.encode() for key in keys]
    places = [line.find(mark) for mark in marks]
    return b"\\" not in line and all(line.count(each) == 1 for each in marks) and places == sorted(places)


@cache
def struct_of(kind: type, keys: tuple[str, ...] = (), inside: bool = False) -> type[msgspec.Struct]:
    """Return the structure of a record class; its `extra` has the unknown keys among `keys`.

    inside: for a record in a list of another one, which checks the boxes of all regions at once.
    """
    hints = get_type_hints(kind)
    own: list[Any] = []
    for each in fields(kind):
        hint = _strict(hints[each.name])
        if each.name != "extra":
            own.append((each.name, hint, None) if each.default is None else (each.name, hint))
    names = {f"unknown_{number}": key for number, key in enumerate(keys)}
    unknown = [(name, Passed | msgspec.UnsetType, msgspec.UNSET) for name in names]  # type: ignore[operator]
    made = msgspec.defstruct(
        kind.__name__,
        [*own, *unknown],
        namespace=_methods(kind, hints, names, inside),
        rename=names,
        kw_only=True,
        forbid_unknown_fields=True,
        gc=False,
        omit_defaults=True,
    )
    record_json.write_as(made, kind, ENCODE if not names and _is_written_alike(kind) else None)
    return made


def _is_written_alike(hint: Any) -> bool:
    """Return whether msgspec writes a value of this type as orjson does: any without a float.

    It omits fields with their default; records omit only None.
    """
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        own = [each for each in fields(hint) if each.name != "extra"]
        return all(each.default in (None, MISSING) and _is_written_alike(hints[each.name]) for each in own)
    if get_origin(hint) is Literal:
        return True
    return hint in (str, int, bool, NoneType) or (
        get_origin(hint) is not None and all(map(_is_written_alike, get_args(hint)))
    )


def _methods(kind: type, hints: Mapping[str, Any], names: Mapping[str, str], inside: bool) -> dict[str, Any]:
    """Return the properties and the check of a structure."""
    found: dict[str, Any] = {name: each for name, each in vars(kind).items() if isinstance(each, property)}
    if "extra" in hints:
        found["extra"] = property((lambda record: _extra(record, names)) if names else lambda record: {})
    own = getattr(kind, "__post_init__", None)
    checks = [own] if own and not (inside and kind is Region) else []
    for name in [name for name, hint in hints.items() if hint == list[Region]]:
        checks.append(lambda record, name=name: _check_boxes(getattr(record, name)))
    if checks:
        found["__post_init__"] = checks[0] if len(checks) == 1 else lambda record: [f(record) for f in checks]
    return found


def _extra(record: Any, names: Mapping[str, str]) -> dict[str, Any]:
    values = ((key, getattr(record, name)) for name, key in names.items())
    return {key: value for key, value in values if value is not msgspec.UNSET}


def _strict(hint: Any) -> Any:
    """Return the type with structures for record classes, and integers with limits."""
    if hint is int:
        return Int
    if is_dataclass(hint):
        return struct_of(hint, inside=True)  # type: ignore[arg-type]
    origin, inside = get_origin(hint), tuple(map(_strict, get_args(hint)))
    if origin in (Union, UnionType):
        return reduce(or_, inside)
    return origin[inside] if origin in (list, tuple, dict) else hint


def _check_boxes(regions: Iterable[Region]) -> None:
    """Raise ValueError unless the boxes of all regions are finite and have an area."""
    for each in regions:
        x1, y1, x2, y2 = each.box
        if not (-math.inf < x1 < x2 < math.inf and -math.inf < y1 < y2 < math.inf):
            check_box(each.box)
