"""Two patients or two sizes of one image, and two models in one file: refused, or said."""

import copy
import json

import numpy as np
import pytest
from click.testing import CliRunner

from medground import run_lengths
from medground.cli.main import cli

SHAPE = {"width": 100, "height": 80}
TRUTH = [
    {
        "image_id": image, "phrase_id": f"{image}|{n}", "subject_id": f"p1{image}", "path": f"{image}.png",
        "text": f"mass {n}", "boxes": [[1, 2, 30, 40]], **SHAPE,
    }
    for image in ("5", "6") for n in (0, 1)
]  # fmt: skip
FOUND = [
    {
        "image_id": each["image_id"], "phrase_id": each["phrase_id"], "text": each["text"], "present": 0.5,
        "boxes": [{"box": [1, 2, 30, 40], "score": 0.5}], "model": "m1",
    }
    for each in TRUTH
]  # fmt: skip
PATIENT = "subject_id: the truth has this image or study of another patient"
SIZE = "the truth has this image in another size: are the boxes in its pixels?"


@pytest.fixture
def run(tmp_path):
    def evaluate(found, truth, *words, name="found.jsonl"):
        (tmp_path / "truth.jsonl").write_text(lines(truth))
        (tmp_path / name).write_text(found if isinstance(found, str) else lines(found))
        args = ["evaluate", tmp_path / name, "--truth", tmp_path / "truth.jsonl", *words]
        return CliRunner().invoke(cli, [*map(str, args), "--bootstrap-samples", "100"])

    return evaluate


def lines(records):
    return "".join(json.dumps(each) + "\n" for each in records)


def changed(records, place, **keys):
    records = copy.deepcopy(records)
    records[place] |= keys
    return records


@pytest.mark.parametrize(
    ("place", "keys", "message"),
    [
        (1, {"subject_id": "p2"}, "subject_id: another patient than in an earlier line"),
        (3, {"width": 200}, "width: another size than in an earlier line of this image"),
        (3, {"height": 81}, "height: another size than in an earlier line of this image"),
    ],
)
def test_a_truth_that_contradicts_itself_is_refused(run, place, keys, message):
    truth = changed(TRUTH, place, **keys)
    result = run(FOUND, truth)
    assert result.exit_code == 1 and f"truth.jsonl:{place + 1}: {message}" in result.stderr
    result = run(FOUND[:place] + FOUND[place + 1 :], truth, "--rejects", "/dev/null")
    assert result.exit_code == 0 and f"rejected {place + 1}" not in result.stdout and message in result.stderr


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"subject_id": "p2"}, PATIENT),
        ({"subject_id": 2}, PATIENT),
        ({"width": 50, "height": 40}, f"width: {SIZE}"),
        ({"height": 40.0}, f"height: {SIZE}"),
        ({"subject_id": 16, **SHAPE}, None),
        ({"subject_id": None, "width": "unknown"}, None),
        ({"width": 50, "height": 40, "coordinates": "stretch:50x40", "boxes": []}, None),
    ],
)
def test_predictions_that_contradict_the_truth_are_refused(run, keys, message):
    result = run(changed(FOUND, 2, **keys), TRUTH)
    assert (result.exit_code, "found.jsonl:3: " in result.stderr) == ((1, True) if message else (0, False))
    assert message is None or message in result.stderr


def test_only_the_letter_before_a_number_makes_no_other_patient(run):
    """The IDs px and x are two patients, p16 and 16 are one."""
    result = run(
        changed(FOUND, 0, subject_id="px"), changed(changed(TRUTH, 0, subject_id="x"), 1, subject_id="x")
    )
    assert result.exit_code == 1 and PATIENT in result.stderr


@pytest.mark.parametrize("name", ["subject_id", "width", "height"])
def test_predictions_that_contradict_themselves_are_refused(run, name):
    truth = [{key: value for key, value in each.items() if key != name} for each in TRUTH]
    found = changed(changed(FOUND, 2, **{name: 12}), 3, **{name: 13})
    result = run(found, truth)
    assert result.exit_code == 1 and f"found.jsonl:4: {name}: another" in result.stderr


def test_the_sizes_of_a_coco_file_are_compared(run):
    coco = {
        "images": [{"id": n, "file_name": f"{n}.png", **SHAPE} for n in (5, 6)],
        "categories": [],
        "annotations": [
            {"image_id": int(each["image_id"]), "phrase_id": each["phrase_id"], "bbox": [1, 2, 29, 38]}
            for each in TRUTH
        ],
    }
    words = ("--input-format", "coco")
    assert run(json.dumps(coco), TRUTH, *words).exit_code == 0
    coco["images"][1] |= {"width": 50, "height": 40}
    result = run(json.dumps(coco), TRUTH, *words)
    assert result.exit_code == 1 and f"found.jsonl: [2]: width: {SIZE}" in result.stderr
    assert run(json.dumps(coco), TRUTH, *words, "--coordinates", "stretch:50x40").exit_code == 0


def test_the_patients_of_a_table_are_compared(run):
    rows = "".join(f"{each['phrase_id']},p1{each['image_id']},1,2,30,40\n" for each in TRUTH)
    header = "phrase_id,subject_id,x1,y1,x2,y2\n"
    words = ("--input-format", "csv")
    assert run(header + rows, TRUTH, *words).exit_code == 0
    result = run(header + rows.replace("p16", "p15"), TRUTH, *words)
    assert result.exit_code == 1 and f"found.jsonl:4: {PATIENT}" in result.stderr


IMAGE = {"image_id": "5", "subject_id": "p1", "path": "5.png", **SHAPE}
ANATOMY = IMAGE | {"regions": [{"name": "left lung", "box": [1, 2, 30, 40]}]}
MASK = IMAGE | {"category": "lung", "counts": run_lengths.packed(np.ones((80, 100), bool))}
LABEL = {"image_id": "5", "subject_id": "p1", "path": "5.png", "labels": {"mass": 1}}
QUESTION = {
    "image_id": "5",
    "question_id": "q",
    "subject_id": "p1",
    "path": "5",
    "text": "?",
    "answer": "yes",
}
REPORT = {"study_id": "5", "subject_id": "p1", "findings": "Small left effusion."}
OTHERS = {
    "anatomy": (ANATOMY, ANATOMY),
    "segmentation": (MASK, MASK),
    "classification": (LABEL, {"image_id": "5", "scores": {"mass": 0.5}, "model": ""}),
    "answers": (QUESTION, {"image_id": "5", "question_id": "q", "answer": "no", "model": ""}),
    "reports": (REPORT, REPORT),
}


@pytest.mark.parametrize("protocol", OTHERS)
def test_every_protocol_compares_patients(run, protocol):
    truth, found = OTHERS[protocol]
    result = run([found | {"subject_id": "2"}], [truth], "--protocol", protocol)
    assert result.exit_code == 1 and f"found.jsonl:1: {PATIENT}" in result.stderr


@pytest.mark.parametrize(("protocol", "key"), [("segmentation", "category"), ("answers", "question_id")])
def test_every_protocol_refuses_two_patients_in_the_truth(run, protocol, key):
    truth, found = OTHERS[protocol]
    result = run([found], [truth, truth | {key: "x", "subject_id": "2"}], "--protocol", protocol)
    assert result.exit_code == 1 and "truth.jsonl:2: subject_id: another patient than" in result.stderr


def test_predictions_of_two_models_are_said(run):
    said = "found.jsonl: predictions of 2 models; the figures are of all together"
    assert "models" not in run(FOUND, TRUTH).stderr
    result = run(changed(FOUND, 1, model="m2"), TRUTH)
    assert result.exit_code == 0 and said in result.stderr and '"model":"m1,m2"' in result.stdout
