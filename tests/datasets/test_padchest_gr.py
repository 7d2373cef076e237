import io
import json

import pytest
from taken import Taken

from medground.datasets import padchest_gr

SIZES = {"a": (1000, 500)}
FINDING = {
    "sentence_en": "Right pleural  effusion.",
    "sentence_es": "Derrame derecho.",
    "boxes": [[0.1, 0.2, 0.3, 0.4]],
}


def read(*findings, take=None, **options):
    content = json.dumps([{"ImageID": "a.png", "findings": list(findings)}]).encode()
    more = {"take": take} if take is not None else {}
    return list(padchest_gr.read(io.BytesIO(content), sizes=SIZES, **more, **options))


def test_shares_become_pixels_and_absent_findings_have_no_boxes():
    present, absent = read(FINDING, {"sentence_en": "No pneumothorax.", "boxes": []})
    assert (present.image_id, present.path, present.text) == ("a", "a.png", "Right pleural effusion.")
    assert (present.boxes, present.width, present.height) == ([(100.0, 100.0, 300.0, 200.0)], 1000, 500)
    assert absent.boxes == []


def test_the_second_reader_can_be_kept():
    both = FINDING | {"extra_boxes": [[0.5, 0.5, 0.75, 1]]}
    first, second = read(both, readers="keep")
    assert (first.extra, second.extra) == ({"reader": "1"}, {"reader": "2"})
    assert second.boxes == [(500.0, 250.0, 750.0, 500.0)]
    [joined] = read(both)
    assert joined.boxes == first.boxes


def test_an_abnormal_sentence_without_boxes_is_not_absent():
    said = {"abnormal": True, "labels": ["copd signs"], "locations": ["chest"], "progression": None}
    normal = {"sentence_en": "No pneumothorax.", "abnormal": False}
    diffuse, absent = read({"sentence_en": "Signs of COPD."} | said, normal)
    assert diffuse.boxes is None and absent.boxes == []
    assert diffuse.extra == {"abnormal": True, "labels": ["copd signs"], "locations": ["chest"]}
    content = [{"StudyID": "7", "ImageID": "a.png", "findings": [normal]}]
    [phrase] = padchest_gr.read(io.BytesIO(json.dumps(content).encode()), sizes=SIZES)
    assert phrase.extra == {"study_id": "7", "abnormal": False}


def test_sentences_in_spanish_can_be_read():
    assert read(FINDING, language="es")[0].text == "Derrame derecho."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [[10, 20, 30, 40]]}, "findings[0].boxes: expected shares of the image"),
        ({"boxes": [[0.1, 0.2, 0.3]]}, "findings[0].boxes: expected an array of arrays of 4"),
        ({"boxes": [[0.3, 0.2, 0.1, 0.4]]}, "findings[0].boxes: a box without area"),
        ({"boxes": [[0.3, 0.2, "x", 0.4]]}, "findings[0].boxes: expected a number"),
        ({"sentence_en": " "}, "findings[0].sentence_en: expected a text"),
    ],
)
def test_a_bad_finding_is_named(change, message):
    content = [
        {"ImageID": "a.png", "findings": [FINDING | change]},
        {"ImageID": "a", "findings": [FINDING]},
        {"ImageID": "unknown.png", "findings": []},
    ]
    taken = Taken()
    found = list(padchest_gr.read(io.BytesIO(json.dumps(content).encode()), taken, sizes=SIZES))
    assert len(found) == 1
    assert message in taken[0][1]
    assert "[2]: ImageID: no size of this image in --image-sizes" in taken[1][1]
