"""Labels of NIH ChestX-ray14, CheXpert and COVIDx, on files of the published form that are made here."""

import csv
import io
import random

import pytest
from downstream_files import CHEXPERT, NIH
from hypothesis import given
from hypothesis import strategies as st
from taken import Taken

from medground.datasets import chexpert, covidx, nih_labels
from medground.datasets.drawn_splits import Drawn
from medground.errors import BadRecord, MedgroundError


def table(text, name="table.csv"):
    stream = io.BytesIO(text.encode())
    stream.name = name
    return stream


def nih_row(image, labels, patient, end="2682,2749,0.143,0.143,"):
    return f"{image},{labels},0,{patient},058Y,M,PA,{end}\n"


# Splits


@given(st.text(min_size=1), st.integers(0, 5))
def test_a_patient_has_one_split_whatever_else_is_in_the_file(patient, seed):
    assert Drawn((0.7, 0.1, 0.2), seed).of(patient) == Drawn((0.7, 0.1, 0.2), seed).of(patient)
    assert Drawn((0.0, 1.0, 0.0), seed).of(patient) == "val"


def test_shares_are_met_up_to_chance_and_seeds_differ():
    drawn = [Drawn((0.7, 0.1, 0.2), seed) for seed in (0, 1)]
    parts = [[each.of(str(n)) for n in range(4000)] for each in drawn]
    for found in parts:
        counts = [found.count(part) / 4000 for part in ("train", "val", "test")]
        assert counts == pytest.approx([0.7, 0.1, 0.2], abs=0.03)
    assert parts[0] != parts[1]


@pytest.mark.parametrize("shares", [(0.5, 0.1, 0.1), (1.2, -0.2, 0.0)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(MedgroundError, match="three shares with the sum 1"):
        Drawn(shares)


# NIH


def slow_nih(text):
    """The first seven cells by place, the rest ignored."""
    rows = list(csv.reader(text.splitlines()))[1:]
    return {
        row[0]: (row[3], {name for name in row[1].split("|") if name != "No Finding"}, row[6]) for row in rows
    }


def test_nih_against_a_slow_reader():
    made = random.Random(0)
    text = NIH
    for n in range(200):
        labels = "|".join(made.sample(nih_labels.CLASSES, made.randint(1, 4)))
        labels = made.choice([labels, "No Finding"])
        text += nih_row(f"{n // 3:08}_{n % 3:03}.png", labels, n // 3)
    expected = slow_nih(text)
    found = list(nih_labels.read(table(text)))
    assert {f"{each.image_id}.png" for each in found} == expected.keys()
    for each in found:
        patient, labels, view = expected[each.path]
        assert (each.subject_id, each.view) == (patient, view)
        assert {name for name, value in each.labels.items() if value} == labels
        assert list(each.labels) == list(nih_labels.CLASSES)
    assert len({(each.subject_id, each.split) for each in found}) == len({e.subject_id for e in found})
    assert {each.split_by for each in found} == {"patients 70:10:20, seed 0"}


@pytest.mark.parametrize(
    "header",
    [
        NIH,
        NIH.replace(",\n", "\n"),
        NIH.replace("Gender", "Sex"),
        NIH.replace("OriginalImage[Width,Height]", '"OriginalImage[Width,Height]"'),
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n",
    ],
)
@pytest.mark.parametrize("age, years", [("058Y", 58), ("58", 58), ("", None)])
def test_headers_of_every_copy_are_read(header, age, years):
    text = header + nih_row("00000001_000.png", "Mass", 1).replace("058Y", age)
    [found] = nih_labels.read(table(text))
    assert (found.subject_id, found.view, found.extra.get("age"), found.extra["sex"]) == (
        "1",
        "PA",
        years,
        "M",
    )


def test_the_published_list_is_the_test_part():
    text = NIH + "".join(nih_row(f"{n:08}_000.png", "No Finding", n) for n in range(40))
    listed = frozenset({"00000003_000.png", "00000007_000.png"})
    found = {e.path: e for e in nih_labels.read(table(text), test_list=listed, val_share=0.5)}
    assert {path for path, each in found.items() if each.split == "test"} == listed
    assert {each.split for each in found.values()} == {"train", "val", "test"}
    assert found["00000003_000.png"].split_by == "NIH test list; of the others patients 50:50:0, seed 0"


def test_a_list_that_parts_a_patient_ends_the_run():
    text = NIH + nih_row("00000001_000.png", "Mass", 1) + nih_row("00000001_001.png", "Mass", 1)
    with pytest.raises(MedgroundError, match=r"table.csv:3: this patient is in the training and in the test"):
        list(nih_labels.read(table(text), test_list=frozenset({"00000001_000.png"})))


@pytest.mark.parametrize(
    "old, new, problem",
    [
        ("Mass", "Mess", "Finding Labels: not one of the 14 findings"),
        ("Mass", "Mass|No Finding", "Finding Labels: No Finding together with a finding"),
        ("Mass", "", "Finding Labels: this cell is empty"),
        ("058Y", "old", "Patient Age: expected an age in years"),
        (",0,1,", ",x,1,", "Follow-up #: expected a whole number"),
    ],
)
def test_a_bad_row_is_named_and_left_out(old, new, problem):
    good, taken = nih_row("00000002_000.png", "Hernia", 2), Taken()
    bad = nih_row("00000001_000.png", "Mass", 1).replace(old, new)
    assert len(list(nih_labels.read(table(NIH + bad + good), taken))) == 1
    assert taken == [(bad.encode(), f"table.csv:2: {problem}")]


# CheXpert


def chexpert_row(path, view, *values):
    return f"{path},Male,60,{view}," + ",".join([*values, *[""] * (14 - len(values))]) + "\n"


def test_chexpert_keeps_uncertain_and_blank_labels():
    text = CHEXPERT + chexpert_row(
        "CheXpert-v1.0-small/train/patient00001/study2/view1_frontal.jpg",
        "Frontal,AP",
        "1.0",
        "",
        "-1.0",
        "0.0",
    )
    [found] = chexpert.read(table(text))
    assert (found.image_id, found.subject_id) == ("patient00001_study2_view1_frontal", "patient00001")
    assert (found.path, found.view) == ("train/patient00001/study2/view1_frontal.jpg", "AP")
    assert list(found.labels.values())[:5] == [1, None, -1, 0, None]
    assert list(found.labels) == CHEXPERT.strip().split(",")[5:]


def test_the_competition_counts_uncertain_labels_as_published():
    uncertain = chexpert_row("R/valid/patient1/study1/view1_frontal.jpg", "Frontal,PA", *["-1.0"] * 14)
    blank = chexpert_row("R/train/patient2/study1/view1_frontal.jpg", "Frontal,PA")
    found = list(chexpert.read(table(CHEXPERT + uncertain + blank), competition=True))
    assert found[0].labels == {
        **{"Atelectasis": 1, "Cardiomegaly": 0, "Consolidation": 0, "Edema": 1, "Pleural Effusion": 1}
    }
    assert set(found[1].labels.values()) == {0}
    assert found[0].split == "test" and found[1].split in ("train", "val")


def test_lateral_views_are_left_out_on_demand():
    lateral = chexpert_row("R/train/patient1/study1/view2_lateral.jpg", "Lateral,")
    frontal = chexpert_row("R/train/patient1/study1/view1_frontal.jpg", "Frontal,")
    assert [e.view for e in chexpert.read(table(CHEXPERT + lateral + frontal))] == ["LATERAL", "FRONTAL"]
    assert [e.view for e in chexpert.read(table(CHEXPERT + lateral + frontal), frontal=True)] == ["FRONTAL"]


@pytest.mark.parametrize(
    "path, view, value, problem",
    [
        (
            "R/train/patient1/study1/a.jpg",
            "Frontal,AP",
            "2.0",
            "No Finding: expected 1.0, 0.0, -1.0 or nothing",
        ),
        ("R/other/patient1/study1/a.jpg", "Frontal,AP", "", "Path: expected RELEASE/train or valid/patientN"),
        ("R/train/patient1/study1/a.jpg", "Oblique,", "", "Frontal/Lateral: expected Frontal or Lateral"),
    ],
)
def test_a_bad_row_of_chexpert_is_named(path, view, value, problem):
    with pytest.raises(BadRecord, match=f"table.csv:2: {problem}"):
        list(chexpert.read(table(CHEXPERT + chexpert_row(path, view, value))))


# COVIDx


def slow_covidx(text):
    found = {}
    for line in text.splitlines():
        words = line.split(" ")
        found[" ".join(words[1:-2])] = (words[0], words[-2])
    return found


def test_covidx_against_a_slow_reader_and_without_a_header():
    made = random.Random(1)
    lines = [
        f"{n // 2} {made.choice(['a b', 'c'])}-{n}.png {made.choice(covidx.THREE)} rsna" for n in range(60)
    ]
    text = "\n".join(lines) + "\n"
    found = list(covidx.read(table(text, "lists/train_COVIDx9A.txt")))
    expected = slow_covidx(text)
    assert len(found) == 60
    for each in found:
        patient, kind = expected[each.path.removeprefix("train/")]
        assert (each.subject_id, [name for name, value in each.labels.items() if value]) == (patient, [kind])
    assert len({(each.subject_id, each.split) for each in found}) == 30


def test_later_versions_have_two_classes_and_a_test_file_is_the_test_part():
    text = "1 a.png positive x\n2 b.png negative x\n"
    found = list(covidx.read(table(text, "test.txt")))
    assert [each.labels for each in found] == [{"COVID-19": 1}, {"COVID-19": 0}]
    assert {each.split for each in found} == {"test"}
    assert [each.path for each in covidx.read(table(text, "x.txt"), part="val")] == ["val/a.png", "val/b.png"]


@pytest.mark.parametrize(
    "line, problem",
    [
        ("1 a.png flu x", "class: not one of the classes of COVIDx"),
        ("1 a.png normal", "expected patient, file name, class and source"),
        ("a.png", "expected patient, file name, class and source"),
    ],
)
def test_a_bad_line_of_covidx_is_named(line, problem):
    with pytest.raises(BadRecord, match=f"test.txt:2: {problem}"):
        list(covidx.read(table(f"9 b.png normal x\n{line}\n", "test.txt")))


def test_a_file_of_an_unknown_part_is_refused():
    with pytest.raises(MedgroundError, match="give --part"):
        list(covidx.read(table("1 a.png normal x\n", "list.txt")))
