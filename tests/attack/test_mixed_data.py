"""What a conversion or a pairing leaves out or takes twice is counted, said or refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from dicom_files import dicom
from samples import IMAGE, SENTENCE

from medground import images
from medground.cli.main import cli

HEADER = "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns,ViewCodeSequence_CodeMeaning\n"
ROWS = ["PA,9,9,postero-anterior", ",9,9,lateral", ",9,9,antero-posterior", ",9,9,", "LL,9,9,left lateral"]


@pytest.fixture
def metadata(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_text(HEADER + "".join(f"a{n},9000000{n},6000000{n},{row}\n" for n, row in enumerate(ROWS)))
    return path


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def views(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line).get("view") for line in result.stdout.splitlines()]


def test_a_view_stated_only_by_its_code_is_taken(metadata):
    result = run("convert", "mimic-jpg", metadata)
    assert views(result) == ["PA", "lateral", "antero-posterior", None, "LL"]
    assert "1 images have no view and are taken as frontal" in result.stderr


def test_frontal_only_means_known_frontal_views(metadata):
    result = run("convert", "mimic-jpg", metadata, "--frontal-only")
    assert views(result) == ["PA", "antero-posterior"]
    assert "1 images have no view and are left out by --frontal-only" in result.stderr


def test_a_split_that_nothing_is_of_is_refused(metadata, tmp_path):
    result = run("convert", "mimic-jpg", metadata, "--split", "vla", "-o", tmp_path / "out.jsonl")
    assert (result.exit_code, "no record is in split 'vla'" in result.stderr) == (1, True)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("code", "view"),
    [
        ({"CodeMeaning": "postero-anterior"}, "postero-anterior"),
        ({"CodeValue": "R-10236", "CodeMeaning": "links"}, "LATERAL"),
        ({"CodeValue": "272479007"}, "PA"),
        ({}, None),
    ],
)
def test_a_dicom_view_is_read_from_its_code(code, view, tmp_path):
    from pydicom.dataset import Dataset

    item = Dataset()
    for name, value in code.items():
        setattr(item, name, value)
    path = dicom(tmp_path / "image.dcm", np.zeros((8, 8), np.uint8), ViewCodeSequence=[item])
    assert images.describe(path).view == view


@pytest.mark.parametrize(
    ("change", "copies"), [({"path": "i1.png", "regions": []}, 1), ({}, 1), ({"width": 99}, 0)]
)
def test_copies_of_an_image_in_a_study_are_counted(change, copies, tmp_path):
    other = IMAGE | {"image_id": "i2", "path": "i2.png"} | change
    (tmp_path / "boxes").write_text("".join(json.dumps(each) + "\n" for each in (IMAGE, other)))
    (tmp_path / "sentences").write_text(json.dumps(SENTENCE) + "\n")
    result = run("align", tmp_path / "sentences", "--anatomy", tmp_path / "boxes")
    assert result.exit_code == 0
    assert ("boxes: 1 images have the path or all boxes" in result.stderr) == bool(copies)


def test_a_link_to_a_folder_above_gives_no_report_twice(tmp_path):
    folder = tmp_path / "tree/a"
    folder.mkdir(parents=True)
    (folder / "s1.txt").write_text("FINDINGS: Small effusion.")
    (folder / "loop").symlink_to(".")
    (folder / "up").symlink_to("..")
    result = run("parse-reports", tmp_path / "tree")
    assert result.exit_code == 0 and result.stdout.count('"s1"') == 1
    assert result.stderr.count("leads back to a folder that contains it") == 2


def test_an_image_in_two_rows_is_refused(metadata):
    metadata.write_text(metadata.read_text() + "a0,90000009,60000009,AP,5,5,\n")
    result = run("convert", "mimic-jpg", metadata)
    assert result.exit_code == 1 and "metadata.csv:7: dicom_id: the second row of this image" in result.stderr


@pytest.mark.parametrize(
    ("split", "message"), [("test", "csv:3: split: another split"), ("train", "5 records")]
)
def test_a_table_of_splits_that_does_not_fit_is_said(split, message, metadata, tmp_path):
    rows = ["x,1,2,train", f"x,1,2,{split}"]
    (tmp_path / "split.csv").write_text("\n".join(["dicom_id,subject_id,study_id,split", *rows, ""]))
    result = run("convert", "mimic-jpg", metadata, "--split-table", tmp_path / "split.csv")
    assert (result.exit_code, message in result.stderr) == (int(split == "test"), True)


def test_an_image_with_two_sizes_is_refused(tmp_path):
    sizes = [{"image_id": "1", "path": "x", "width": side, "height": 9} for side in (9, 9, 10)]
    (tmp_path / "sizes").write_text("".join(json.dumps(each) + "\n" for each in sizes))
    table = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n1,R1,Cardiomegaly,1,1,5,5\n"
    (tmp_path / "boxes.csv").write_text(table)
    result = run("convert", "vindr-cxr", tmp_path / "boxes.csv", "--image-sizes", tmp_path / "sizes")
    assert result.exit_code == 1 and "sizes:3: width: another size than in an earlier line" in result.stderr


@pytest.mark.parametrize(
    ("own", "other", "pairs"),
    [("10", "11", 0), ("10", "p10", 1), ("p10", "10", 1), (None, "11", 1), ("10", None, 1)],
)
def test_images_of_another_patient_are_left_out(own, other, pairs, tmp_path):
    (tmp_path / "boxes").write_text(json.dumps(IMAGE | {"subject_id": other}) + "\n")
    (tmp_path / "sentences").write_text(json.dumps(SENTENCE | {"subject_id": own}) + "\n")
    result = run("align", tmp_path / "sentences", "--anatomy", tmp_path / "boxes")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, pairs)
    assert ("1 images are of another patient than the report of their study" in result.stderr) == (not pairs)


def test_shards_of_two_kinds_of_records_are_refused(tmp_path):
    for name, record in (("one", IMAGE), ("two", SENTENCE)):
        (tmp_path / name).write_text(json.dumps(record) + "\n")
    result = run("join-shards", tmp_path / "one", tmp_path / "two", "-o", tmp_path / "out")
    assert result.exit_code == 1 and "two:1: another kind of record than in " in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("header", "code"), [("study_id,text,text", 1), ("study_id,text,note,note", 0)])
def test_a_column_of_reports_that_is_there_twice_is_refused(header, code, tmp_path):
    cells = ["s1", *["Small effusion"] * header.count(",")]
    (tmp_path / "r.csv").write_text(f"{header}\n{','.join(cells)}\n")
    result = run("parse-reports", tmp_path / "r.csv")
    assert (result.exit_code, "columns 2 and 3 have the same name" in result.stderr) == (code, bool(code))


def reports(tmp_path, *subjects, **more):
    lines = [{"study_id": "s1", "subject_id": each, "text": "Mass."} | more for each in subjects]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    return tmp_path / "r.jsonl"


@pytest.mark.parametrize("subjects", [("p1", "p1"), ("p1", "1"), (None, "p1"), ("p1", None)])
def test_a_second_report_of_a_study_is_said(subjects, tmp_path):
    result = run("parse-reports", reports(tmp_path, *subjects))
    assert result.exit_code == 0 and result.stdout.count("\n") == 2
    assert "report 2: a second one of its study; 1 such in all" in result.stderr


@pytest.mark.parametrize(("one", "other"), [("p1", "p2"), ("x", "px")])
def test_a_second_report_of_a_study_and_of_another_patient_is_refused(one, other, tmp_path):
    path = reports(tmp_path, one, None, other)
    result = run("parse-reports", path)
    assert result.exit_code == 1
    assert "report 3: subject_id: another patient than in an earlier report of this study" in result.stderr
    result = run("parse-reports", path, "--rejects", tmp_path / "bad")
    assert result.exit_code == 0 and result.stdout.count("\n") == 2
    assert json.loads((tmp_path / "bad").read_text())["subject_id"] == other


def test_reports_of_different_studies_give_no_warning(tmp_path):
    path = reports(tmp_path, "p1")
    path.write_text(path.read_text() + path.read_text().replace("s1", "s2"))
    assert run("parse-reports", path).stderr == ""
