"""JSON from strangers: any text gives a value or BadRecord, never another error.

| limit | reason |
|---|---|
| `MAX_DEPTH` levels of lists and objects | what is read can be written again: orjson writes 254 levels |
| each key once in an object | parsers keep the last one and lose the others in silence |
"""

import json
import re
from pathlib import Path
from typing import Any

import orjson

from medground import limits
from medground.errors import BadRecord, MedgroundError
from medground.published import GZIP, GZIPPED

MAX_DEPTH = 200
_STRING = re.compile(rb'"(?:[^"\\]+|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_FIELD = re.compile(r"[a-z]{1,20}(_[a-z]{1,20}){0,4}")


def parse(data: bytes) -> Any:
    """Return the value of JSON as its standard defines it: no NaN, no half of a surrogate pair."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        problem = "not UTF-8; convert it with iconv" if "UTF-8" in str(error) else "not JSON"
        raise BadRecord(GZIPPED if data.startswith(GZIP) else problem) from None
    _check_depth(data)
    if not has_all_keys(orjson.dumps(value), data):
        json.loads(data, object_pairs_hook=_object, parse_int=str)
    return value


def has_all_keys(written: bytes, data: bytes) -> bool:
    """Return whether JSON as it is written again surely has all keys of the data that it was parsed from.

    Parsers drop a key that is there twice, and its colon with it. Colons in texts stay, unless escaped.
    """
    return written.count(b":") == data.count(b":") and not (b"\\" in data and b"\\u003" in data)


def parse_loose(data: bytes) -> Any:
    """Return the value of JSON as Python writes it: NaN and halves of surrogate pairs are allowed.

    Other tools write such files. The reader checks numbers and texts that it uses.
    """
    try:
        value = json.loads(data, object_pairs_hook=_object)
    except RecursionError:
        raise BadRecord(_too_deep()) from None
    except ValueError:  # not JSON, not UTF-8, or a number of more than 4300 digits
        raise BadRecord(GZIPPED if data.startswith(GZIP) else "not JSON") from None
    _check_depth(data)
    return value


def config(path: Path) -> Any:
    """Return the value of a small JSON file, such as a model's config; it has the limit of one line.

    Raises BadRecord if it is not such JSON, OSError if it cannot be read.
    """
    with path.open("rb") as stream:
        try:
            return parse_loose(limits.whole(stream, path, limits.MAX_LINE))
        except BadRecord:
            raise
        except MedgroundError as error:
            raise BadRecord(str(error).removeprefix(f"{path}: ")) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; raise BadRecord for a key that is there twice, named if it looks like a field."""
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadRecord(
            f"the key {key!r} is there twice" if _FIELD.fullmatch(key) else "a key is there twice"
        )
    return value


def _check_depth(data: bytes) -> None:
    """Raise BadRecord if valid JSON is nested too deeply."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", data).translate(_AS_SQUARE, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")  # removes one level or more, from the inside
    if brackets:
        raise BadRecord(_too_deep())


def _too_deep() -> str:
    return f"nested more than {MAX_DEPTH} levels deep"
