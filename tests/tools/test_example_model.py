"""The tools that make the example model: its data from the published files, its fitted parts, its scores."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import example_findings
import example_places
import numpy as np
import pytest
import torch
from example_data import Nih, Pair
from example_training import alone

from medground import shipped
from medground.models import lite
from medground.models.config import GrounderConfig
from medground.records import Phrase

TOOLS = Path(__file__).resolve().parents[2] / "tools"
ENTRIES = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\n"
LISTED = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_published_files_become_labels_and_phrases(tmp_path):
    nih, out = tmp_path / "nih", tmp_path / "out"
    (nih / "images").mkdir(parents=True)
    (nih / "images" / "00000001_000.png").touch()
    rows = "00000001_000.png,Effusion|Mass,0,1,50,F,PA,\n00000002_000.png,No Finding,0,2,50,F,AP,\n"
    (nih / "Data_Entry_2017.csv").write_text(ENTRIES + rows)
    (nih / "BBox_List_2017.csv").write_text(LISTED + "00000002_000.png,Infiltrate,600,100,200,300,,,\n")
    found = {"file_name": "00000001_000.png", "syms": ["Effusion"], "boxes": [[100, 600, 400, 900]]}
    other = {"file_name": "00000003_000.png", "syms": ["Nodule"], "boxes": [[600, 100, 640, 140]]}
    (nih / "ChestX_Det_train.json").write_text(json.dumps([found, other]))
    (nih / "ChestX_Det_test.json").write_text(json.dumps([found | {"file_name": "00000004_000.png"}]))
    subprocess.run([sys.executable, TOOLS / "example_nih", nih, "-o", out], check=True, capture_output=True)
    assert (out / "labels.csv").read_text().splitlines() == [
        "image,patient,view,nih_labels",
        "00000001_000.png,00000001,PA,Effusion|Mass",
    ]
    (phrase,) = lines(out / "phrases.jsonl")
    assert (phrase["text"], phrase["side"], phrase["path"]) == (
        "right pleural effusion",
        "right",
        "images/00000001_000.png",
    )
    (bare,), (absent,) = lines(out / "bare.jsonl"), lines(out / "absent.jsonl")
    assert (bare["text"], absent["category"], absent["boxes"]) == ("pleural effusion", "Nodule", [])
    assert "side" not in bare
    elsewhere = lines(out / "boxes_without_images.jsonl")
    assert {each["image_id"] for each in elsewhere} == {"00000002_000", "00000003_000", "00000004_000"}


def labels(true):
    known = np.ones(true.shape, dtype=bool)
    return example_findings.Labels(true.astype(float), known * 1.0, known)


def test_the_layer_of_findings_gives_logits_of_what_the_features_tell():
    features = np.random.default_rng(0).normal(size=(300, len(example_findings.FINDINGS))) * 5 + 2
    true = features > np.quantile(features, 0.7)
    layer = example_findings.fit_findings(features, labels(true), np.arange(300) % 5)
    logits = layer(torch.from_numpy(features).float()).detach().numpy()
    assert ((logits > 0) == true).mean() > 0.85
    assert (1 / (1 + np.exp(-logits))).mean() == pytest.approx(true.mean(), abs=0.05)


def boxed(number, finding, *box):
    about = {"image_id": f"{number}", "path": "", "category": finding, "width": 100, "height": 100}
    return Phrase(phrase_id=f"{number}", text=f"right {finding.lower()}", boxes=(box,), **about)


def test_findings_whose_boxes_are_alike_get_a_higher_score():
    same = [boxed(n, "Emphysema", 10.0, 10.0, 90.0, 90.0) for n in range(20)]
    apart = [boxed(n, "Nodule", 5.0 * n, 0.0, 5.0 * n + 4, 4.0) for n in range(20)]
    found = example_findings.score_offsets(same + apart)
    of = dict(zip(example_findings.FINDINGS, found, strict=True))
    assert of["Nodule"] < 0 < of["Emphysema"] and of["Mass"] == pytest.approx(0, abs=1e-3)


def test_the_limit_of_the_distance_is_exceeded_by_few_of_the_same_kind_and_by_others():
    rng = np.random.default_rng(0)
    same, other = rng.normal(size=(500, 40)), rng.normal(size=(50, 40)) + 2
    typical, axes, limit = example_findings.fit_familiar(same, np.arange(500) % 5)
    far = [
        example_findings.outside(each - typical.numpy(), axes.numpy()) > limit.numpy()
        for each in (same, other)
    ]
    assert far[0].mean() <= 0.01 and far[1].mean() > 0.9


@pytest.fixture
def nih(tmp_path):
    """Six images: four with "No Finding", three of them AP, and two with findings, one in each view."""
    rows = [
        "a.png,1,AP,No Finding",
        "b.png,2,AP,No Finding",
        "c.png,3,AP,No Finding",
        "d.png,4,PA,No Finding",
    ]
    rows += ["e.png,5,AP,Infiltration|Mass", "f.png,6,PA,Consolidation"]
    (tmp_path / "labels.csv").write_text("\n".join(["image,patient,view,nih_labels", *rows]) + "\n")
    for name in ("phrases", "bare", "absent"):
        (tmp_path / f"{name}.jsonl").touch()
    return Nih(tmp_path)


def test_images_without_findings_count_the_same_in_each_view(nih):
    counts = {image: nih.said(image, "Mass") for image in nih.labels}
    assert not any(counts[image][0] for image in "abcdf") and counts["e"] == (True, 1.0)
    assert sum(counts[image][1] for image in "abc") == pytest.approx(counts["d"][1]) == pytest.approx(0.5)


def test_infiltration_counts_half_for_consolidation(nih):
    assert [nih.said(image, "Consolidation") for image in "fe"] == [(True, 1.0), (True, 0.5)]
    column = example_findings.FINDINGS.index("Consolidation")
    found = example_findings.labels_of(nih, ["f", "e", "d"])
    assert found.targets[:, column].tolist() == [1, 1, 0]
    assert found.weights[:, column].tolist() == [3, 1.5, 0.5]


@pytest.mark.slow
def test_texts_name_one_finding_and_negated_ones_none():
    texts, numbers = example_findings.named_texts(["right lung"])
    number = dict(zip(texts, numbers, strict=True))
    effusion, none = example_findings.FINDINGS.index("Effusion"), len(example_findings.FINDINGS)
    assert number["left pleural effusion"] == effusion
    assert number["no pleural effusion"] == number["right lung"] == none
    assert set(numbers) == {*range(none + 1)}


def test_places_are_those_where_boxes_of_a_text_overlap_best():
    rng = np.random.default_rng(0)
    tokens = {"right mass": [1.0, 0.0] * 8, "left mass": [0.0, 1.0] * 8}
    centers = {"right mass": 0.25, "left mass": 0.75}
    places = [
        example_places.Place((text,), (x + rng.normal() * 0.03, 0.5, 0.2, 0.3))
        for text, x in centers.items()
        for _ in range(60)
    ]
    layer = example_places.fit_places(lambda texts: torch.tensor([tokens[e] for e in texts]), places, 16)
    for text, x in centers.items():
        found = layer(torch.tensor([tokens[text]]))[0].tolist()
        assert found == pytest.approx([x, 0.5, 0.2, 0.3], abs=0.03)


def test_texts_of_a_small_box_on_one_side_name_its_level_too():
    lungs, low, tall = (0.1, 0.2, 0.9, 0.7), (0.1, 0.6, 0.3, 0.7), (0.1, 0.2, 0.3, 0.7)
    pair = Pair("right effusion", low, True, finding="Effusion", side="right")
    bare, leveled = example_places.places_of(pair, lungs)
    assert bare.box == leveled.box == pytest.approx((0.125, 0.9, 0.25, 0.2))
    assert any("lower lobe" in text for text in leveled.texts)
    assert not any("lower" in text for text in bare.texts)
    assert len(example_places.places_of(replace(pair, box=tall), lungs)) == 1
    assert len(example_places.places_of(replace(pair, side=None), lungs)) == 1


def test_a_training_can_start_from_the_shipped_model_with_its_fitted_parts():
    start = GrounderConfig.from_json(json.loads((shipped.GROUNDER / "config.json").read_text()))
    assert start.members > 1 and start.findings and start.placed
    found = alone(start, lite.MODEL_TYPE)
    assert (found.members, found.findings, found.placed, found.familiar) == (1, None, False, 0)
    assert found.text_encoder == start.text_encoder and found.sides_apart
