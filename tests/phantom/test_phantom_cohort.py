"""The phantom's files: the same bytes for any number of workers, in the layouts that the readers know."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from processes import gone, workers_of

from medground.cli.main import cli
from medground.phantom import cohort, layout, tables
from medground.phantom.language import words

PATIENTS, SIZE = 14, 96


def make(folder: Path, *flags: str):
    arguments = [
        "phantom",
        str(folder),
        "--patients",
        str(PATIENTS),
        "--image-size",
        str(SIZE),
        "--seed",
        "5",
    ]
    arguments += ["--lateral-fraction", "0.3"]
    return CliRunner().invoke(cli, [*arguments, *flags])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("phantom") / "cohort"
    result = make(target)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    return target


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def reports(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in (folder / "mimic-cxr").rglob("s*.txt")}


@pytest.mark.slow
def test_two_workers_write_the_same_bytes(folder, tmp_path):
    assert make(tmp_path / "again", "--workers", "2").exit_code == 0
    assert content(tmp_path / "again") == content(folder)


@pytest.mark.slow
def test_a_patient_does_not_depend_on_the_others(folder):
    study = cohort.render(5, 9, SIZE)
    assert (folder / "mimic-cxr-jpg" / tables.image_path(study, study.image_id)).exists()
    assert reports(folder)[study.study_id] == study.report.text


def test_another_seed_is_another_cohort():
    assert (cohort.render(5, 1, SIZE).image_id) != cohort.render(6, 1, SIZE).image_id


def test_a_folder_of_other_things_is_refused_in_one_line(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    result = make(tmp_path)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "not empty" in result.stderr
    assert content(tmp_path) == {"mine.txt": b"precious"}


@pytest.mark.slow
def test_other_settings_are_refused_and_the_same_ones_are_done_already(folder):
    before = content(folder)
    assert make(folder).exit_code == 0
    assert make(folder, "--seed", "6").exit_code == 1
    assert content(folder) == before


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(folder, tmp_path, monkeypatch):
    target = tmp_path / "cohort"
    whole = os.replace

    def full(partial: Path, path: Path) -> None:
        if "00007" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        whole(partial, path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        result = make(target)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "No space left" in result.stderr
    good = content(folder)
    for name, data in content(target).items():
        if not name.endswith((".partial", layout.STARTED)):
            assert data == good[name]
    assert make(target).exit_code == 0
    assert {n: d for n, d in content(target).items() if not n.endswith(".partial")} == good


@pytest.mark.slow
def test_spans_round_trip_into_the_reports(folder):
    texts = reports(folder)
    sentences = lines(folder / "truth/triplets.jsonl")
    assert {each["study_id"] for each in sentences} == texts.keys()
    for each in sentences:
        assert texts[each["study_id"]][each["start"] : each["end"]] == each["text"]


@pytest.mark.slow
def test_reports_wrap_like_the_hospitals(folder):
    texts = reports(folder).values()
    assert max(len(line) for text in texts for line in text.splitlines()) <= 80
    assert any("\n " in each["text"] for each in lines(folder / "truth/triplets.jsonl"))
    assert all("IMPRESSION:" in text or "FINDINGS:" in text for text in texts)


@pytest.mark.slow
def test_triplets_use_the_words_of_the_field(folder):
    names = {"right lung", "left lung", "carina", "svc", "cavoatrial junction", "abdomen", "left chest wall"}
    names |= {"cardiac silhouette", "right costophrenic angle", "left costophrenic angle"}
    names |= {
        f"{s} {z}" for s in ("right", "left") for z in ("apical zone", "upper lung zone", "mid lung zone")
    }
    names |= {f"{s} {entry}" for s in ("right", "left") for entry in ("arm", "clavicle")}
    names |= {"right lower lung zone", "left lower lung zone", None}
    for sentence in lines(folder / "truth/triplets.jsonl"):
        for triplet in sentence["triplets"]:
            assert triplet["region"] in names
            assert triplet["existence"] in ("present", "absent", "uncertain")


@pytest.mark.slow
def test_a_report_never_denies_what_the_image_shows():
    for patient in range(70):
        study = cohort.render(1, patient, 64)
        shown = {each.name for each in study.findings if each.box}
        for said in study.report.said:
            denied = {finding for _, finding, existence in said.means if existence == "absent"}
            assert not denied & shown


@pytest.mark.slow
def test_each_mentioned_finding_is_said_and_no_other():
    for patient in range(70):
        study = cohort.render(2, patient, 64)
        mentioned = {group for said in study.report.said for group in said.groups}
        assert mentioned == {each.group for each in study.findings if each.mentioned and each.box}


@pytest.mark.slow
def test_subjects_are_in_one_split_and_all_data_sets_agree(folder):
    split_of = {
        row["dicom_id"]: row["split"] for row in table(folder / "mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv")
    }
    splits = defaultdict(set)
    for row in table(folder / "mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv"):
        splits[row["subject_id"]].add(row["split"])
    assert all(len(each) == 1 for each in splits.values())
    silver = folder / "chest-imagenome/silver_dataset/splits"
    for ours, theirs in tables.IMAGENOME.items():
        assert {split_of[row["dicom_id"]] for row in table(silver / f"{theirs}.csv")} <= {ours}
    for row in table(folder / "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv"):
        assert row["split"] == tables.MS_CXR[split_of[row["dicom_id"]]]


@pytest.mark.slow
def test_no_phantom_has_the_id_of_a_patient_or_study_of_mimic(folder):
    for row in table(folder / "mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv"):
        assert not 10_000_000 <= int(row["subject_id"]) < 20_000_000
        assert not 50_000_000 <= int(row["study_id"]) < 60_000_000


def test_a_cohort_is_split_about_70_10_20():
    drawn = [cohort._split(float(cohort.generator(0, patient).random())) for patient in range(2000)]
    for name, share in cohort.SPLITS:
        assert drawn.count(name) / 2000 == pytest.approx(share, abs=0.03)


@pytest.mark.slow
def test_images_have_the_size_that_the_tables_say(folder):
    for row in table(folder / "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv"):
        subject = f"p{row['subject_id']}"
        path = (
            folder / f"mimic-cxr-jpg/files/{subject[:3]}/{subject}/s{row['study_id']}/{row['dicom_id']}.jpg"
        )
        with Image.open(path) as image:
            assert image.mode == "L"
            assert image.size == (int(row["Columns"]), int(row["Rows"]))


@pytest.mark.slow
def test_lateral_images_are_listed_as_such_and_have_no_boxes(folder):
    rows = table(folder / "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv")
    laterals = {row["dicom_id"] for row in rows if row["ViewPosition"] == "LATERAL"}
    frontals = {row["dicom_id"] for row in rows} - laterals
    assert 0 < len(laterals) < len(frontals) == PATIENTS
    assert {each["image_id"] for each in lines(folder / "truth/regions.jsonl")} == frontals


def test_a_lateral_image_changes_nothing_else():
    alone, both = cohort.render(5, 3, SIZE), cohort.render(5, 3, SIZE, laterals=1.0)
    assert alone.lateral is None and both.lateral is not None
    assert max(both.lateral.image.shape) == SIZE
    assert (alone.image == both.image).all() and alone.report.text == both.report.text


@pytest.mark.slow
def test_scene_graphs_hold_both_kinds_of_boxes(folder):
    graphs = sorted((folder / "chest-imagenome/silver_dataset/scene_graph").glob("*_SceneGraph.json"))
    assert len(graphs) == PATIENTS
    for path in graphs:
        graph = json.loads(path.read_bytes())
        for each in graph["objects"]:
            assert each["object_id"] == f"{graph['image_id']}_{each['bbox_name']}"
            assert 0 <= each["x1"] <= each["x2"] <= 224
            assert each["original_x2"] - each["original_x1"] == each["original_width"] > 0
        for each in graph["attributes"]:
            assert len(each["phrases"]) == len(each["attributes"]) == len(each["sections"])


@pytest.mark.slow
def test_ms_cxr_csv_and_json_hold_the_same_boxes(folder):
    rows = table(folder / "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv")
    coco = json.loads((folder / "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.json").read_text())
    names = {each["id"]: each["name"] for each in coco["categories"]}
    assert len(rows) == len(coco["annotations"]) > 0
    for row, each in zip(rows, coco["annotations"], strict=True):
        assert [int(row[name]) for name in "xywh"] == each["bbox"]
        assert (row["category_name"], row["label_text"]) == (names[each["category_id"]], each["label_text"])
        assert int(row["x"]) + int(row["w"]) <= int(row["image_width"])


@pytest.mark.slow
def test_some_phrases_have_two_boxes():
    rows = [tables.row(cohort.render(0, patient, 64)) for patient in range(60)]
    counts = [len(phrase["boxes"]) for row in rows for phrase in row["phrases"]]
    assert set(counts) == {1, 2}


@pytest.mark.slow
def test_the_readers_read_what_was_written(folder):
    mimic_cxr = pytest.importorskip("medground.datasets.mimic_cxr")
    ms_cxr = pytest.importorskip("medground.datasets.ms_cxr")
    assert {each.study_id for each in mimic_cxr.read_reports(folder / "mimic-cxr")} == reports(folder).keys()
    phrases = list(ms_cxr.read(folder / "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv"))
    assert phrases and all(phrase.boxes for phrase in phrases)


def test_every_finding_can_be_said():
    table_ = words()
    for name in table_["finding"]:
        assert {"small", "moderate", "large"} == table_["finding"][name]["size"].keys()
    for block in table_["absent"]:
        assert block["text"] and block["means"]


def test_the_help_has_an_example():
    result = CliRunner().invoke(cli, ["phantom", "--help"])
    assert "$ medground phantom" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_worker_processes_end_with_a_parent_that_is_killed(tmp_path):
    command = ["phantom", str(tmp_path / "cohort"), "--patients", "500", "--workers", "2"]
    with subprocess.Popen([sys.executable, "-m", "medground", *command]) as process:
        workers = workers_of(process, 2)
        process.kill()
        assert process.wait(timeout=30) == -signal.SIGKILL and gone(workers)
