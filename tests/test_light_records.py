import dataclasses
import io
import random
from pathlib import Path

import fuzz_pictures  # noqa: F401 - registers its targets
import fuzz_texts  # noqa: F401
import orjson
import pytest
from fuzz_registry import EXAMPLES

from medground import jsonl, light_records, record_files
from medground.record_json import known_keys
from medground.records import Anatomy, Label, Pair, Phrase, Region, Sentence

ROOT = Path(__file__).parents[1]
KINDS = record_files.KINDS
REPORT = KINDS["Report"]
REGION = '{"name":"spine","box":[1,2,3.5,4],"score":0.5}'
TRIPLET = (
    '{"region":"spine","finding":"effusion","existence":"absent","finding_span":[0,3],"region_span":null,'
    '"cue":"no","cue_span":[1,2],"region_source":"default","rule":"stated"}'
)
SHAPE = '"path":"i.png","width":9,"height":9'
LINES = [
    '{"study_id":"s","text":"Small left effusion.\\nNo change.","model":"m"}',
    '{"study_id":"s","sentence_id":"s|0","section":"findings","start":0,"end":3,"text":"a","triplets":'
    f'[{TRIPLET}],"subject_id":"p"}}',
    f'{{"image_id":"i","study_id":"s",{SHAPE},"view":"PA","regions":[{REGION},{REGION}],"model":"m"}}',
    f'{{"image_id":"i","study_id":"s","sentence_id":"s|0",{SHAPE},"text":"a","regions":["spine"],'
    f'"region_boxes":[[1,2,3,4]],"box":[1,2,3,4],"triplets":[{TRIPLET}],"rule":"S1","model":"m",'
    '"sentence_ids":["a","b"]}',
    f'{{"image_id":"i","phrase_id":"p",{SHAPE},"text":"x","boxes":[[1,2,3,4]],"a":1,"b":[2.5],"c":null}}',
    '{"image_id":"i","phrase_id":"p","text":"x","boxes":[{"box":[1,2,3,4],"score":1}],"present":1,"model":""}',
    '{"image_id":"i","path":"p","view":"AP","labels":{"edema":1,"mass":null,"nodule":-1}}',
    '{"image_id":"i","scores":{"edema":0.25},"model":"m","share":0.1,"seed":3}',
    f'{{"image_id":"i",{SHAPE},"category":"lung","counts":"0","extra":{{"a":1}}}}',
    '{"image_id":"i","question_id":"q","path":"p","text":"t","answer":"yes"}',
    '{"image_id":"i","question_id":"q","answer":"no","score":0.5,"model":"m","seed":0}',
    '{"protocol":"box","metric":"m","group":"all","value":0.5,"low":null,"high":1e3,"n":2,"draws":10}',
]
VALUES = (ROOT / "tests" / "attack" / "json_values.txt").read_text().splitlines()
VALUES += [
    "[" * 300 + "]" * 300,
    '"\t"',
    "tru",
    "1,",
    '"\x01"',
    '"a","path":"again"',
    '1,"model":2',
    "[" * 9000,
]


class Taken(jsonl.BadLines):
    """Keeps lines and messages."""

    def __init__(self):
        super().__init__(io.BytesIO())
        object.__setattr__(self, "said", [])

    def take(self, line, bad):
        self.said.append((line, str(bad)))


def outcome(read, lines, kind):
    """Return the lines of the records, their own values, and the lines and messages of the rest."""
    taken, found = Taken(), []
    try:
        for each in read(iter(lines), kind, taken):
            found.append((jsonl.dumps(each), [repr(getattr(each, name)) for name in sorted(plain_of(kind))]))
    except jsonl.MedgroundError as error:
        taken.said.append(str(error))
    return found, taken.said


def plain_of(kind):
    """Return the names of the fields that hold no records, which print alike in both classes."""
    nested = ("regions", "triplets", "boxes")
    return [name for name in known_keys(kind) if name not in nested] + ["extra"]


def jsonl_takes(line, kind):
    return bool(outcome(jsonl.read, [line.encode()], kind)[0])


def assert_same(lines, kind):
    strict, light = (outcome(read, lines, kind) for read in (jsonl.read, jsonl.scan))
    assert strict == light
    return strict


@pytest.mark.parametrize("kind", KINDS.values())
def test_both_readers_agree_on_records_and_messages(kind):
    lines = [line.encode() for line in LINES]
    found, _ = assert_same([*lines, *lines], kind)
    assert found
    again = [line.replace(b":", b" : ").replace(b",", b",\n") + b"\r\n" for line in lines]
    assert_same([*again, b"\xef\xbb\xbf" + lines[0], b" \n", b"", b"[]", b"{}", b"3", b"\xff", *lines], kind)


@pytest.mark.parametrize("kind", KINDS.values())
def test_both_readers_agree_on_any_value_of_any_key(kind):
    for line in [line for line in LINES if jsonl_takes(line, kind)][:1]:
        given = orjson.loads(line)
        lines = [line.encode()]
        for key in (*given, "other", "model", "m\\u006fdel", 'x\\"model', "é"):
            for value in VALUES:
                rest = {name: each for name, each in given.items() if name != key}
                text = orjson.dumps(rest).decode()[:-1] + f',"{key}":{value}}}'
                lines.append(text.encode("utf-8", "surrogatepass"))
        assert_same(lines, kind)


@pytest.mark.parametrize("kind", [Anatomy, Pair, Phrase, Sentence, Label])
def test_both_readers_agree_on_damaged_lines(kind):
    chance, lines = random.Random(0), []
    for line in LINES * 25:
        damaged = bytearray(line.encode())
        for _ in range(chance.randrange(1, 3)):
            place = chance.randrange(len(damaged))
            damaged[place : place + chance.randrange(3)] = chance.choice(
                [
                    b"",
                    b"\xff",
                    b"\x00",
                    b'"',
                    b"\\",
                    b"]",
                    b"{",
                    b"9",
                    b"-",
                    b"\xc3\xa9",
                    b"\xed\xa0\x80",
                    b",",
                    b"e",
                ]
            )
        lines += [bytes(damaged), line.encode()]
    assert_same(lines, kind)


@pytest.mark.parametrize("kind", [Phrase, Anatomy, REPORT])
def test_both_readers_agree_on_the_examples_of_the_fuzzer(kind):
    examples = [line for data in EXAMPLES.values() for each in data for line in each.splitlines(True)]
    assert_same(examples, kind)


def test_unknown_keys_keep_the_order_of_their_line():
    own = b'{"study_id":"s","text":"a"'
    lines = [
        own + b',"a":1,"b":"x"}',
        own + b',"b":2,"a":1}',
        own + b',"a":1,"b":"x"}',
        own + b',"c":[],"b":1}',
    ]
    found = list(jsonl.scan(lines, REPORT, jsonl.BadLines()))
    assert [list(each.extra) for each in found] == [["a", "b"], ["b", "a"], ["a", "b"], ["c", "b"]]
    assert type(found[0]) is not type(found[2])  # the keys were learned


def test_most_lines_are_read_as_structures():
    for line, kind in zip(LINES[1:4], (Sentence, Anatomy, Pair), strict=True):
        first, second = jsonl.scan([line.encode()] * 2, kind, jsonl.BadLines())
        assert type(second) is not kind and type(second).__name__ == kind.__name__
        assert jsonl.dumps(first) == jsonl.dumps(second)


def test_a_record_of_a_class_without_a_line_has_its_own_check():
    reader = light_records.Reader(Region)
    assert reader.decode(REGION.encode()).score == 0.5
    with pytest.raises(Exception, match="x2 > x1"):
        reader.decode(REGION.replace("3.5", "0.5").encode())


def test_many_unknown_keys_are_left_to_the_strict_reader():
    lines = [b'{"study_id":"s","key_%d":1}' % number for number in range(40)]
    found = list(jsonl.scan([*lines, *lines], REPORT, jsonl.BadLines()))
    assert [list(each.extra) for each in found[:40]] == [list(each.extra) for each in found[40:]]
    light = [each for each in found[40:] if not dataclasses.is_dataclass(each)]
    assert len(light) == light_records.MOST_KEYS
