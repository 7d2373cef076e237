"""Groundings -> Label Studio and CVAT -> phrases: the same phrases come back."""

import io
import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taken import Taken

from medground.datasets import annotation_tools as readers
from medground.errors import BadRecord, MedgroundError
from medground.grounding import annotation_tools as writers
from medground.records import Grounding, Phrase, ScoredBox

corner = st.floats(0, 900, allow_nan=False).map(lambda value: round(value, 1))
box = st.tuples(corner, corner, st.floats(1, 90), st.floats(1, 90)).map(
    lambda b: (b[0], b[1], round(b[0] + b[2], 1), round(b[1] + b[3], 1))
)
words = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(str.strip)


def answers(texts_and_boxes):
    for n, (text, boxes) in enumerate(texts_and_boxes):
        phrase = Phrase(
            image_id=f"i{n % 2}", phrase_id=f"p{n}", subject_id="s1", path=f"x/i{n % 2}.dcm", width=1000,
            height=1000, text=text, split="test",
        )  # fmt: skip
        found = [ScoredBox(box=each, score=0.5) for each in boxes]
        yield (
            phrase,
            Grounding(
                image_id=phrase.image_id,
                phrase_id=phrase.phrase_id,
                text=text,
                boxes=found,
                present=0.5,
                model="m",
            ),
        )


def annotated(content):
    """Return the tasks of Label Studio as it exports them: the predictions accepted as annotations."""
    tasks = json.loads(content)
    for task in tasks:
        task["annotations"] = [{"result": task["predictions"][0]["result"], "was_cancelled": False}]
    return json.dumps(tasks).encode()


def round_trip(write, read, given, between=bytes):
    stream = io.BytesIO()
    write(stream, answers(given))
    return list(read(io.BytesIO(between(stream.getvalue()))))


WAYS = {
    "label-studio": (writers.write_label_studio, readers.read_label_studio, annotated),
    "cvat": (writers.write_cvat, readers.read_cvat, bytes),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@given(given=st.lists(st.tuples(words, st.lists(box, max_size=3)), min_size=1, max_size=4))
def test_the_same_phrases_come_back(way, given):
    write, read, between = WAYS[way]
    found = {each.phrase_id: each for each in round_trip(write, read, given, between)}
    assert len(found) == len(given)
    for phrase, grounding in answers(given):
        own = found[phrase.phrase_id]
        for name in ("image_id", "subject_id", "path", "width", "height", "text", "split"):
            assert getattr(own, name) == getattr(phrase, name), name
        assert len(own.boxes) == len(grounding.boxes)
        for a, b in zip(own.boxes, grounding.boxes, strict=True):
            assert a == pytest.approx(b.box, abs=0.1)


def test_label_studios_percentages_are_of_the_whole_image():
    stream = io.BytesIO()
    writers.write_label_studio(stream, answers([("opacity", [(100.0, 200.0, 300.0, 700.0)])]))
    [task] = json.loads(stream.getvalue())
    value = task["predictions"][0]["result"][0]["value"]
    assert [value[key] for key in ("x", "y", "width", "height")] == [10, 20, 20, 50]
    assert task["data"]["phrase_id"] == "p0"


def test_cvats_boxes_are_pixels_and_its_file_is_xml():
    stream = io.BytesIO()
    writers.write_cvat(stream, answers([('a < b & "c"', [(1.0, 2.0, 3.0, 4.0)])]))
    root = ElementTree.fromstring(stream.getvalue())
    [found] = root.iter("box")
    assert [found.get(key) for key in ("xtl", "ytl", "xbr", "ybr")] == ["1.00", "2.00", "3.00", "4.00"]


def task(result, **data):
    return {"data": {"image": "/files/a.png", **data}, "annotations": [{"result": result}]}


def rectangle(**change):
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["Mass"]} | change
    return {"type": "rectanglelabels", "original_width": 200, "original_height": 100, "value": value}


def of_tasks(*tasks, take=None):
    content = io.BytesIO(json.dumps(tasks).encode())
    return list(readers.read_label_studio(content, *([take] if take is not None else [])))


def test_an_export_that_began_in_the_tool_has_a_phrase_per_label(caplog):
    [phrase] = of_tasks(task([rectangle(), rectangle(x=50)]), {"data": {"image": "b.png"}, "annotations": []})
    assert (phrase.image_id, phrase.text, phrase.phrase_id) == ("a", "Mass", "a|Mass")
    assert phrase.boxes == [(20.0, 10.0, 60.0, 30.0), (100.0, 10.0, 140.0, 30.0)]
    assert "1 tasks without an annotation, left out" in caplog.text


def test_the_last_of_several_annotations_counts(caplog):
    several = task([rectangle()])
    several["annotations"] += [{"result": [rectangle(x=50)]}, {"result": [], "was_cancelled": True}]
    [phrase] = of_tasks(several)
    assert phrase.boxes == [(100.0, 10.0, 140.0, 30.0)]
    assert "1 tasks with several annotations" in caplog.text


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (task([rectangle(rotation=30)]), "annotations.result[0].value.rotation: a rotated rectangle"),
        (task([rectangle(width=0)]), "annotations.result[0].value: a box without area"),
        (task([rectangle(x="left")]), "annotations.result[0].value.x: expected a number"),
        (task("none"), "annotations.result: expected an array"),
        (task([], phrase_id="p", image_id=3), "data.image_id: expected a text"),
        (task([], phrase_id="p"), "data.image_id: expected a text"),
        ({"annotations": []}, "data: expected an object"),
        (task([rectangle()], image=""), "data.image: expected the address"),
    ],
)
def test_a_bad_task_is_named(bad, message):
    taken = Taken()
    assert len(of_tasks(bad, task([rectangle()]), take=taken)) == 1
    assert taken[0][1] == f"<stdin>: [0]: {message}" or message in taken[0][1]
    with pytest.raises(BadRecord):
        of_tasks(bad, task([rectangle()]))


IMAGE = '<image id="0" name="a.png" width="100" height="100">{}</image>'
BOX = '<box label="Mass" xtl="{}" ytl="1" xbr="50" ybr="60"{}/>'


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (IMAGE.format(BOX.format("x", "")), "xtl: expected a number"),
        (IMAGE.format(BOX.format("60", "")), "xtl: a box without area"),
        (IMAGE.format(BOX.format("1", ' rotation="20"')), "rotation: a rotated box"),
        (IMAGE.format("").replace('width="100"', 'width=""'), "width: expected a number"),
        (IMAGE.format("").replace("a.png", " "), "name: expected the name"),
    ],
)
def test_a_bad_image_of_cvat_is_named(bad, message):
    taken = Taken()
    content = f"<annotations>{bad}{IMAGE.format(BOX.format('1', ''))}</annotations>".encode()
    [phrase] = readers.read_cvat(io.BytesIO(content), taken)
    assert (phrase.text, phrase.phrase_id) == ("Mass", "a|Mass")
    assert taken[0][1].startswith("<stdin>: image 0: ") and message in taken[0][1]


@pytest.mark.parametrize(
    "content",
    [b"<annotations>", b"<x/>", b"\xff\xfe<", b'<!DOCTYPE x [<!ENTITY a "b">]><annotations/>', b""],
)
def test_a_file_that_is_not_cvats_is_refused(content):
    with pytest.raises(MedgroundError):
        list(readers.read_cvat(io.BytesIO(content)))
