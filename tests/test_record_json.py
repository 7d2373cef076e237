import random
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from medground import jsonl
from medground.errors import BadRecord
from medground.record_files import KINDS
from medground.record_json import to_json

DIRT = (None, True, -1, 1 << 63, 0.1, -1e300, "", 'é \u2028 \\ "', "\0", [], [None], {}, {"box": 1})


def made(hint: Any, chance: random.Random) -> Any:
    """Return a value of a field's type."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return made(chance.choice(inside), chance)
    if origin is Literal:
        return chance.choice(inside)
    if origin is list:
        return [made(inside[0], chance) for _ in range(chance.randrange(3))]
    if origin is dict:
        return {
            f"k{n}": chance.choice(DIRT) if inside[1] is Any else made(inside[1], chance) for n in range(2)
        }
    if origin is tuple:
        return tuple(
            number + chance.random() if inside[0] is float else number for number in range(len(inside))
        )
    if hasattr(hint, "__dataclass_fields__"):
        return record(hint, chance)
    return {str: "a\nb é", int: chance.randrange(1, 9), float: chance.random(), type(None): None}[hint]


def record(kind: type, chance: random.Random) -> Any:
    hints = get_type_hints(kind)
    given = [each for each in fields(kind) if each.default is MISSING or chance.random() < 0.7]
    values = {each.name: made(hints[each.name], chance) for each in given}
    if "region_boxes" in values:
        values["region_boxes"] = [made(hints["box"], chance) for _ in values["regions"]]
    return kind(**values)


def one_by_one(value: Any) -> dict[str, Any]:
    """Return what `to_json` promises, field by field."""
    line = {}
    for each in fields(value):
        held = getattr(value, each.name)
        if each.name == "extra" or (held is None and each.default is None):
            continue
        nested = isinstance(held, list) and held and hasattr(held[0], "__dataclass_fields__")
        line[each.name] = [one_by_one(part) for part in held] if nested else held
    return line | {key: held for key, held in getattr(value, "extra", {}).items() if key not in line}


@pytest.mark.parametrize("kind", KINDS.values())
def test_an_object_has_the_fields_in_order_then_the_passed_through_keys(kind):
    chance = random.Random(kind.__name__)
    for _ in range(40):
        value = record(kind, chance)
        found = to_json(value)
        assert list(found.items()) == list(one_by_one(value).items())


@pytest.mark.parametrize("kind", KINDS.values())
def test_reading_gives_the_record_that_was_written_and_unknown_keys(kind):
    chance = random.Random(kind.__name__)
    for number in range(40):
        line = one_by_one(record(kind, chance)) | {"unknown": number}
        found = jsonl.record_of(msgspec.json.decode(jsonl.line_of(line)), kind)
        assert jsonl.dumps(found) == jsonl.line_of(line)


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_wrong_value_is_refused_or_kept_but_never_changed(kind):
    chance = random.Random(kind.__name__)
    for _ in range(100):
        line = to_json(record(kind, chance))
        line[chance.choice(list(line))] = wrong = chance.choice(DIRT)
        try:
            found = to_json(jsonl.record_of(line, kind))
        except BadRecord as bad:
            assert "\0" not in str(bad)
            continue
        assert {key: found.get(key) for key in line} == line, wrong
