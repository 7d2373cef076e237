"""The label files of `phantom --layouts`: the readers of `convert` read back the truth."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medground import images, run_lengths
from medground.cli.main import cli
from medground.datasets import challenge_labels, iu_xray, nih_boxes, nih_labels, questions
from medground.phantom import cohort, layouts
from medground.phantom.questions import NAMES

PATIENTS = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("layouts") / "cohort"
    flags = ["--patients", str(PATIENTS), "--image-size", "64", "--seed", "7", "--lateral-fraction", "0"]
    result = CliRunner().invoke(cli, ["phantom", str(folder), *flags, "--layouts", ",".join(layouts.NAMES)])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def truth(made) -> dict[str, list[dict]]:
    """The visible findings by patient, as `p90000000`; patients without a finding have none."""
    found: dict[str, list[dict]] = defaultdict(list)
    for line in (made / "truth" / "findings.jsonl").read_text().splitlines():
        if (each := json.loads(line))["box"]:
            found[each["subject_id"]].append(each)
    return found


@pytest.fixture(scope="module")
def studies(made) -> dict[str, dict]:
    """Each image by ID, with its size, patient and split."""
    lines = (made / "truth" / "regions.jsonl").read_text().splitlines()
    return {each["image_id"]: each for each in map(json.loads, lines)}


def read(reader, path, **how):
    with path.open("rb") as stream:
        return list(reader(stream, **how))


@pytest.mark.slow
def test_nih_has_the_classes_and_the_split_of_the_truth(made, truth, studies):
    folder = made / "layouts" / "nih"
    listed = frozenset((folder / "test_list.txt").read_text().split())
    labels = read(nih_labels.read, folder / "Data_Entry_2017.csv", test_list=listed)
    assert len(labels) == PATIENTS
    for label in labels:
        own = truth[f"p{label.subject_id}"]
        names = {layouts.NIH[each["finding"]] for each in own if each["finding"] in layouts.NIH}
        have = {"Nodule" if name == "Mass" else name for name, state in label.labels.items() if state}
        assert have == names
    tested = {each.subject_id for each in labels if each.split == "test"}
    assert tested == {each["subject_id"][1:] for each in studies.values() if each["split"] == "test"} != set()


@pytest.mark.slow
def test_nih_boxes_are_those_of_the_truth_in_the_square(made, truth, studies):
    phrases = read(nih_boxes.read_nih, made / "layouts" / "nih" / "BBox_List_2017.csv")
    sizes = {each["subject_id"]: (each["width"], each["height"]) for each in studies.values()}
    assert phrases
    for phrase in phrases:
        width, height = sizes[f"p{phrase.subject_id}"]
        own = [each["box"] for each in truth[f"p{phrase.subject_id}"]]
        scale = np.array([1024 / width, 1024 / height] * 2)
        for box in phrase.boxes:
            assert min(np.abs(np.array(one) * scale - box).max() for one in own) < 0.1


@pytest.mark.slow
def test_images_are_the_same_squares(made, studies):
    folder = made / "layouts"
    assert len([*folder.rglob("*.png"), *folder.rglob("*.dcm")]) == PATIENTS * len(layouts.NAMES)
    for image_id, study in studies.items():
        number = study["subject_id"][1:]
        names = (
            f"*/{number}_000.png",
            f"*/synpic{number}.png",
            f"*/CXR{number}_*/0.png",
            f"*/{image_id}.dcm",
        )
        squares = [images.load(path) for name in names for path in folder.rglob(name)]
        assert [each.shape for each in squares] == [(64, 64)] * len(layouts.NAMES)
        for square in squares:
            np.testing.assert_allclose(square, squares[0], atol=0.01)


@pytest.mark.slow
def test_rsna_has_the_boxes_of_opacities(made, truth, studies):
    path = made / "layouts" / "rsna" / "stage_2_train_labels.csv"
    for label in read(challenge_labels.read_rsna_labels, path):
        own = truth[studies[label.image_id]["subject_id"]]
        has = any(each["finding"] in ("consolidation", "lung opacity", "pneumonia") for each in own)
        assert label.labels == {"Pneumonia": int(has)}


@pytest.mark.slow
def test_siim_masks_lie_in_the_boxes_of_the_pneumothorax(made, truth, studies):
    masks = read(challenge_labels.read_siim_masks, made / "layouts" / "siim" / "train-rle.csv")
    drawn = 0
    for mask in masks:
        study = studies[mask.image_id]
        own = [each["box"] for each in truth[study["subject_id"]] if each["finding"] == "pneumothorax"]
        pixels = run_lengths.mask_of((1024, 1024), mask.counts)
        assert pixels.any() == bool(own)
        if own:
            drawn += 1
            down, across = pixels.nonzero()
            x1, y1, x2, y2 = own[0]
            scale = 1024 / study["width"], 1024 / study["height"]
            found = (
                across.min() / scale[0],
                down.min() / scale[1],
                across.max() / scale[0],
                down.max() / scale[1],
            )
            np.testing.assert_allclose(found, (x1, y1, x2, y2), atol=1.5)
    assert drawn


@pytest.mark.slow
def test_answers_follow_from_the_truth(made, truth):
    read_questions = read(
        questions.read_vqa_rad, made / "layouts" / "vqa-rad" / "VQA_RAD Dataset Public.json"
    )
    named = {text: name for name, text in NAMES.items()}
    kinds = set()
    for each in read_questions:
        own = truth[f"p{each.image_id.removeprefix('synpic')}"]
        kinds.add((each.question_type, each.answer_type))
        if each.question_type == "PRES":
            subject = each.text.removeprefix("Is there evidence of ").removesuffix("?")
            subject = subject.removeprefix("a ").removeprefix("an ")
            assert (each.answer == "Yes") == any(named[subject] == one["finding"] for one in own)
        elif each.question_type == "SIZE":
            assert each.answer in {one["severity"] for one in own}
    assert kinds == {("PRES", "closed"), ("PLANE", "closed"), ("POS", "open"), ("SIZE", "open")}


@pytest.mark.slow
def test_iu_xray_has_the_reports_and_the_images(made):
    folder = made / "layouts" / "iu-xray"
    reports = read(iu_xray.read, folder / "annotation.json")
    assert len(reports) == PATIENTS
    for report in reports:
        assert report.text
        assert all((folder / "images" / path).is_file() for path in report.extra["image_paths"])


@pytest.mark.slow
def test_layouts_change_nothing_else(made):
    study = cohort.render(7, 3, 64)
    assert (
        made / "mimic-cxr" / "files" / "p90" / study.subject_id / f"{study.study_id}.txt"
    ).read_text() == (study.report.text)


def test_an_unknown_layout_is_refused(tmp_path):
    result = CliRunner().invoke(cli, ["phantom", str(tmp_path / "x"), "--layouts", "nih,mnist"])
    assert result.exit_code == 2
    assert "'mnist' is not one of nih, siim, rsna, vqa-rad, iu-xray" in result.output


def test_gaps_of_a_mask_are_read_back():
    mask = np.random.default_rng(0).random((7, 5)) < 0.4
    assert (run_lengths.of_gaps(run_lengths.gaps(mask), 7, 5) == mask).all()
