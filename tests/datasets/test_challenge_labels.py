"""Labels and masks of the RSNA and SIIM challenges, on files of the published form that are made here."""

import io
import random

import numpy as np
import pytest

from medground import run_lengths
from medground.datasets import challenge_labels
from medground.errors import BadRecord

RSNA = "patientId,x,y,width,height,Target\n"
SIIM = "ImageId, EncodedPixels\n"


def table(text):
    stream = io.BytesIO(text.encode())
    stream.name = "table.csv"
    return stream


def mask_of(record):
    return run_lengths.mask_of((record.height, record.width), record.counts)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_packed_run_lengths_lead_back_to_the_mask(share):
    made = np.random.default_rng(0)
    for _ in range(20):
        height, width = made.integers(1, 60, size=2).tolist()
        mask = made.random((height, width)) < share
        assert np.array_equal(run_lengths.mask_of((height, width), run_lengths.packed(mask)), mask)


def test_packed_run_lengths_are_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    made = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.5, 1.0):
        mask = made.random((90, 70)) < share
        packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert run_lengths.packed(mask) == packed


def slow_gaps(rows):
    """Column by column, a gap counted from the end of the last run."""
    flat = [False] * (1024 * 1024)
    for text in rows:
        place, numbers = 0, [int(each) for each in text.split()]
        for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
            place += gap
            for _ in range(length):
                flat[place] = True
                place += 1
    return np.array(flat).reshape(1024, 1024).T


def test_siim_masks_are_the_union_of_their_rows():
    made = random.Random(0)
    text = [" ".join(f"{made.randint(1, 2000)} {made.randint(1, 300)}" for _ in range(40)) for _ in range(3)]
    given = SIIM + f"a, {text[0]}\nb, -1\na, {text[1]}\nc, {text[2]}\n"
    found = {each.image_id: each for each in challenge_labels.read_siim_masks(table(given))}
    assert list(found) == ["a", "b", "c"]
    assert np.array_equal(mask_of(found["a"]), slow_gaps(text[:2]))
    assert not mask_of(found["b"]).any()
    assert np.array_equal(mask_of(found["c"]), slow_gaps(text[2:]))
    assert found["a"].split_by == "images 70:15:15, seed 0"


def test_siim_of_stage_2_has_no_blanks():
    found = list(challenge_labels.read_siim_masks(table("ImageId,EncodedPixels\na,-1\nb,5 6\n")))
    assert [mask_of(each).sum() for each in found] == [0, 6]


def test_rsna_masks_are_filled_boxes_and_labels_are_their_presence():
    text = RSNA + "a,10,20,30,40,1\nb,,,,,0\na,35,50,20,20,1\n"
    masks = {each.image_id: each for each in challenge_labels.read_rsna_masks(table(text))}
    expected = np.zeros((1024, 1024), bool)
    for y in range(1024):
        for x in range(80):
            expected[y, x] = (10 <= x < 40 and 20 <= y < 60) or (35 <= x < 55 and 50 <= y < 70)
    assert np.array_equal(mask_of(masks["a"]), expected) and not mask_of(masks["b"]).any()
    labels = list(challenge_labels.read_rsna_labels(table(text)))
    assert [(e.image_id, e.subject_id, e.labels) for e in labels] == [
        ("a", "a", {"Pneumonia": 1}),
        ("b", "b", {"Pneumonia": 0}),
    ]
    assert {each.split_by for each in labels} == {"patients 70:15:15, seed 0"}
    assert masks["a"].split_by == "patients 60:20:20, seed 0"


@pytest.mark.parametrize(
    "rows, problem",
    [
        ("a,1,2,3,4,1\na,,,,,0\n", "table.csv:3: Target: another row of this image states the opposite"),
        ("a,,,,,0\na,1,2,3,4,1\n", "table.csv:3: Target: another row of this image states the opposite"),
        ("a,1,2,3,4,0\n", "table.csv:2: Target: a box of an image without pneumonia"),
        ("a,1,2,3,4,2\n", "table.csv:2: Target: expected 0 or 1"),
        ("a,1,2,0,4,1\n", "table.csv:2: x: expected a box inside 1024 x 1024 pixels"),
        ("a,1,2,,4,1\n", "table.csv:2: width: expected a number"),
    ],
)
def test_a_row_of_rsna_that_cannot_be_is_named(rows, problem):
    with pytest.raises(BadRecord, match=problem):
        list(challenge_labels.read_rsna_labels(table(RSNA + rows)))


@pytest.mark.parametrize(
    "rows, problem",
    [
        ("a, 5 6\na, -1\n", "table.csv:3: EncodedPixels: another row of this image states the opposite"),
        ("a, 5\n", "table.csv:2: EncodedPixels: expected pairs of a gap and a length"),
        ("a, 1048570 90\n", "table.csv:2: EncodedPixels: expected pairs of a gap and a length"),
        ("a, 5 0\n", "table.csv:2: EncodedPixels: an empty mask"),
    ],
)
def test_a_row_of_siim_that_cannot_be_is_named(rows, problem):
    with pytest.raises(BadRecord, match=problem):
        list(challenge_labels.read_siim_masks(table(SIIM + rows)))
