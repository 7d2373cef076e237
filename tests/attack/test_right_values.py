"""Values that would be wrong in silence: training records that do not fit their image, cells that run."""

import csv
import io
import json
import struct

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medground import images, jsonl, spreadsheet
from medground.cli.main import cli
from medground.errors import BadRecord
from medground.evaluation.inputs import readers
from medground.grounding import formats
from medground.records import Anatomy, Grounding, Pair, Phrase, ScoredBox
from medground.reports import chexpert

PHRASE = {
    "image_id": "i1", "phrase_id": "p1", "path": "i1.png", "width": 100, "height": 80, "text": "opacity",
    "boxes": [[1, 2, 30, 40]], "subject_id": "s1", "split": "train",
}  # fmt: skip
PAIR = {
    "image_id": "i1", "study_id": "s1", "sentence_id": "s1|1", "path": "i1.png", "width": 100, "height": 80,
    "text": "opacity", "regions": ["left lung"], "region_boxes": [[1, 2, 30, 40]], "box": [1, 2, 30, 40],
    "triplets": [], "rule": "S1",
}  # fmt: skip
REGION = {"name": "left lung", "box": [1, 2, 30, 40]}
ANATOMY = {"image_id": "i1", "path": "i1.png", "width": 100, "height": 80, "regions": [REGION]}
OUTSIDE = [200, 2, 300, 40]


@pytest.mark.parametrize("kind, record", [(Phrase, PHRASE), (Pair, PAIR), (Anatomy, ANATOMY)])
@pytest.mark.parametrize("name", ["width", "height"])
@pytest.mark.parametrize("size", [0, -5])
def test_an_image_without_pixels_is_refused(kind, record, name, size):
    jsonl.record_of(record, kind)
    with pytest.raises(BadRecord, match="width and height: expected 1 or more"):
        jsonl.record_of(record | {name: size}, kind)


@pytest.mark.parametrize(
    "change", [{"regions": []}, {"region_boxes": []}, {"regions": ["left lung", "spine"]}]
)
def test_lists_of_different_lengths_are_refused(change):
    with pytest.raises(BadRecord, match="expected as many boxes as names"):
        jsonl.record_of(PAIR | change, Pair)


@pytest.mark.parametrize(
    "command, good, bad, message",
    [
        ("finetune", PHRASE, {"boxes": [[1, 2, 30, 40], OUTSIDE]}, "boxes[1]: lies outside the image"),
        ("finetune", PHRASE, {"boxes": [[1, 2, 30, 1e400]]}, "not JSON"),
        ("finetune", PHRASE, {"width": 0}, "width and height: expected 1 or more"),
        ("pretrain", PAIR, {"box": OUTSIDE}, "box: lies outside the image"),
        ("pretrain", PAIR, {"region_boxes": [OUTSIDE]}, "region_boxes[0]: lies outside the image"),
        ("pretrain", PAIR, {"regions": []}, "regions and region_boxes: expected as many boxes"),
        (
            "train-detector",
            ANATOMY,
            {"regions": [REGION, REGION | {"box": OUTSIDE}]},
            "regions[1]: lies outside",
        ),
        ("train-detector", ANATOMY, {"height": 0}, "width and height: expected 1 or more"),
        ("calibrate", PHRASE, {"boxes": [OUTSIDE]}, "boxes[0]: lies outside the image"),
    ],
)
def test_training_refuses_the_line(command, good, bad, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps(good), json.dumps(good | bad).replace("Infinity", "1e400")]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    args = ["--model", "example"] if command == "calibrate" else ["-o", "run"]
    if command == "calibrate":
        from medground import shipped

        monkeypatch.setattr(shipped, "FOLDER", tmp_path / "elsewhere")
    result = CliRunner().invoke(cli, [command, "a.jsonl", *args])
    assert (result.exit_code, f"a.jsonl:2: {message}" in result.stderr) == (1, True), result.stderr


FORMULAS = [
    "=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("http://x")', "'=1",
    "''=1", "＝1", "=", "-", "+1-1", "-1a", "+49 170 1",
]  # fmt: skip
PLAIN = ["", "a", "a=b", "1", "-1", "+1.5", "-1e-3", ".5", "left effusion", "'", "'a", "p10000032", " =1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_text(text):
    assert spreadsheet.cell(text) == "'" + text and spreadsheet.plain(spreadsheet.cell(text)) == text


@pytest.mark.parametrize("value", [*PLAIN, 1, -1, 0.5, -0.5, None])
def test_other_cells_are_unchanged(value):
    assert spreadsheet.cell(value) == value


@given(st.text("'=+-@\t\r\n1.e a"))
def test_a_cell_is_read_as_it_was(text):
    assert spreadsheet.plain(spreadsheet.cell(text)) == text


def test_a_table_of_predictions_runs_nothing_and_is_read_as_it_was():
    names = [*FORMULAS, *PLAIN[1:]]
    out = io.BytesIO()
    boxes = [ScoredBox(box=(1, 2, 3, 4), score=0.5)]
    phrases = [Phrase(image_id=n, phrase_id=n, path="a.png", text=n, width=9, height=9) for n in names]
    pairs = [
        (
            each,
            Grounding(
                image_id=n, phrase_id=n, text=n, boxes=boxes, present=0.5, model=n, extra={"category": n}
            ),
        )
        for n, each in zip(names, phrases, strict=True)
    ]
    formats.write_csv(out, pairs)
    for row in list(csv.reader(io.StringIO(out.getvalue().decode(), newline="")))[1:]:
        assert not any(
            each[:1] in "=@\t\r\n" or (each[:1] in "+-" and not _is_number(each)) for each in row if each
        )
    found = []
    lines = io.BytesIO(out.getvalue())
    lines.name = "a.csv"
    readers.read_csv(readers.files.Hashed(lines), jsonl.BadLines(), found.append)
    assert [each.phrase_id for each in found] == [each.image_id for each in found] == names


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_a_table_of_labels_runs_nothing():
    from medground.cli.report_modes import build_table
    from medground.records import Report

    content, *_ = build_table(None, "rules", "present", False, True)(
        [Report(study_id="=1", subject_id="@a", text="-")]
    )
    assert content.startswith(b"'=1,'@a,") and len(chexpert.HEADER) == content.count(b",") + 1


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_tiff_whose_low_values_are_white_is_inverted(kind, tmp_path):
    values = (np.arange(300).reshape(15, 20) % 200).astype(kind)
    path = tmp_path / "film.tif"
    Image.fromarray(values).save(path)
    before, content = images.load(path), bytearray(path.read_bytes())
    place = content.index(struct.pack("<HHI", 262, 3, 1)) + 8  # the tag PhotometricInterpretation
    content[place : place + 2] = b"\0\0"
    path.write_bytes(content)
    assert np.allclose(images.load(path), 1 - before, atol=1e-6)
