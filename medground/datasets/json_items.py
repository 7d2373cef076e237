"""Items of one JSON file as rows: each has its bytes for --rejects and its place for messages."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from medground import limits, strict_json
from medground.datasets.sources import Source, name_of, opened
from medground.errors import BadRecord, MedgroundError


@dataclass(frozen=True, slots=True)
class JsonItem:
    """One item of an array, or one key and value of an object; `key` is the number or the key."""

    key: int | str
    value: Any
    raw: bytes
    place: str


def read_json(source: Source) -> Any:
    """Return the content of a JSON file; raise MedgroundError if it is none."""
    with opened(source) as stream:
        content = limits.whole(stream, name_of(source))
    try:
        return strict_json.parse(content.removeprefix(b"\xef\xbb\xbf"))
    except BadRecord as bad:
        raise MedgroundError(f"{name_of(source)}: {bad.problem}") from None


def items(source: Source, what: str) -> Iterator[JsonItem]:
    """Yield the items of a file with an array; `what` is the file's name in the message for another value."""
    held = read_json(source)
    if not isinstance(held, list):
        raise MedgroundError(f"{name_of(source)}: expected a JSON array; is this {what}?")
    yield from items_of(held, name_of(source), "")


def items_of(held: list[Any], name: str, under: str) -> Iterator[JsonItem]:
    """Yield the items of an array under a key of the file."""
    for number, each in enumerate(held):
        yield JsonItem(number, each, orjson.dumps(each) + b"\n", f"{name}: {under}[{number}]: ")


def members(source: Source, what: str) -> Iterator[JsonItem]:
    """Yield the keys and values of a file with an object."""
    held = read_json(source)
    if not isinstance(held, dict):
        raise MedgroundError(f"{name_of(source)}: expected a JSON object; is this {what}?")
    for number, (key, each) in enumerate(held.items()):
        yield JsonItem(key, each, orjson.dumps({key: each}) + b"\n", f"{name_of(source)}: [{number}]: ")
