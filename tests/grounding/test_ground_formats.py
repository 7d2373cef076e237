"""What ground makes of its answers: reports answered, tables, pages, maps, structured reports."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from toy_runs import run

from medground import registry
from medground.grounding import heatmaps, phrases
from medground.models import grounder
from medground.records import Grounding, Phrase, Report, ScoredBox
from medground.reports import input_kind
from medground.reports.parser import Parser

REPORT = """FINDINGS: There is a small left pleural effusion and right lower lobe atelectasis.
No pneumothorax. Possible pneumonia in the left lower lobe.
IMPRESSION: Cardiomegaly.
"""


@pytest.fixture
def answered(cohort, model, tmp_path):
    """The records of the report's phrases on one image."""
    (tmp_path / "s1.txt").write_text(REPORT)
    result = run("ground", "--model", model, cohort.folder / "image0.png", "--report", tmp_path / "s1.txt")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_a_report_is_answered_finding_by_finding(answered):
    assert [(each["text"], each["finding"], each["existence"]) for each in answered] == [
        ("There is a small left pleural effusion", "pleural effusion", "present"),
        ("right lower lobe atelectasis.", "atelectasis", "present"),
        ("No pneumothorax.", "pneumothorax", "absent"),
        ("Possible pneumonia in the left lower lobe.", "pneumonia", "uncertain"),
        ("Cardiomegaly.", "enlarged cardiac silhouette", "present"),
    ]
    assert [each["sentence_id"] for each in answered] == ["s1|1", "s1|1", "s1|2", "s1|3", "s1|4"]
    assert len({each["phrase_id"] for each in answered}) == 5
    for each in answered:
        sentence = REPORT[each["start"] : each["end"]]
        assert " ".join(sentence.split()).find(each["text"]) >= 0


def test_what_the_report_calls_absent_is_not_looked_for(answered):
    for each in answered:
        if each["existence"] == "absent":
            assert (each["boxes"], each["present"]) == ([], 0.0)
        else:
            assert each["boxes"] and each["present"] > 0


@pytest.mark.parametrize(
    "text, parts",
    [
        ("Possible left basilar consolidation versus atelectasis.",
         ["Possible left basilar consolidation", "Possible left basilar atelectasis."]),
        ("Left effusion and/or right atelectasis.", ["Left effusion", "right atelectasis."]),
    ],
)  # fmt: skip
def test_the_parts_of_a_sentence_do_not_end_in_what_joined_them(text, parts):
    sentences = Parser().parse_report(Report(study_id="s1", text=f"FINDINGS: {text}"))
    assert [each.text for each in phrases.phrases_of_report(Path("a.png"), sentences)] == parts


@pytest.mark.parametrize(
    "name, text, problem",
    [
        ("r.csv", "study_id,text\n1,Clear lungs.\n", "r.csv: a table, where the text of one report"),
        ("r", "study_id,text\n1,Clear lungs.\n", "r: a table, where"),
        ("r.jsonl", '{"study_id": "1", "text": "Clear."}\n', "r.jsonl: JSON lines, where"),
    ],
)
def test_many_reports_are_not_taken_for_one(cohort, model, tmp_path, name, text, problem):
    (tmp_path / name).write_text(text)
    result = run("ground", "--model", model, cohort.folder / "image0.png", "--report", tmp_path / name)
    assert (result.exit_code, problem in result.stderr) == (1, True), result.stderr
    input_kind.refuse_many(b"FINDINGS\nClear.", "<stdin>")


def test_a_report_needs_its_image_and_nothing_else(cohort, model, tmp_path):
    (tmp_path / "r.txt").write_text(REPORT)
    report_flags = ("--report", tmp_path / "r.txt")
    assert run("ground", "--model", model, *report_flags).exit_code == 2
    assert (
        run("ground", "--model", model, cohort.folder / "image0.png", "words", *report_flags).exit_code == 2
    )


@pytest.mark.slow
def test_further_boxes_need_a_score_and_absent_phrases_lose_theirs(ground):
    def boxes(*flags):
        return [json.loads(line)["boxes"] for line in ground(*flags).stdout.splitlines()]

    assert {len(each) for each in boxes()} == {1}  # an untrained network is sure of none
    every = boxes("--min-score", 0)
    assert all(1 < len(each) <= 8 for each in every)  # of 8 queries' boxes those that show the same are one
    assert all(list(each) == sorted(each, key=lambda box: -box["score"]) for each in every)
    assert [each[0] for each in every] == [each[0] for each in boxes()]
    assert boxes("--min-present", 1) == [[]] * 4


def test_the_csv_has_a_row_a_box_and_one_for_a_phrase_without(cohort, model, tmp_path):
    records = [json.loads(line) for line in Path(cohort.phrases).read_text().splitlines()]
    records[1] |= {"existence": "absent", "text": 'no "spot", none'}
    given = "".join(json.dumps(each) + "\n" for each in records)
    flags = ("--images", cohort.folder, "--output-format", "csv", "--min-score", 0)
    result = run("ground", "--model", model, *flags, input=given)
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["box"] for row in rows] == [*"12345678", "", *"12345678", *"12345678"]
    assert (rows[8]["existence"], rows[8]["x1"], rows[8]["present"], rows[8]["text"]) == (
        *("absent", "", "0.0"),
        'no "spot", none',
    )
    assert {(row["width"], row["height"]) for row in rows} == {(str(toy.WIDTH), str(toy.HEIGHT))}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "coco"])
def test_evaluate_reads_back_what_it_writes_as_if_it_were_lines(ground, cohort, tmp_path, kind):
    for each in (kind, "jsonl"):
        assert ground("--output-format", each, "--min-score", 0, "-o", tmp_path / each).exit_code == 0
    how = ("--truth", cohort.phrases, "--bootstrap-samples", 100, "--protocol", "set")
    scores = [run("evaluate", tmp_path / each, "--input-format", each, *how) for each in (kind, "jsonl")]
    values = [[json.loads(line)["value"] for line in each.stdout.splitlines()] for each in scores]
    assert values[0] == values[1] != []
    assert "no answer" not in scores[0].stderr


def test_tables_say_too_that_a_training_had_patients_of_its_test():
    phrase = Phrase(image_id="i", phrase_id="i|1", path="i.png", text="spot", width=9, height=9)
    found = Grounding(image_id="i", phrase_id="i|1", text="spot", boxes=[], present=0.5, model="m")
    marked = replace(found, extra={"leakage": True, "coverage": 0.9})
    written = {}
    for kind in ("csv", "coco"):
        stream = io.BytesIO()
        registry.OUTPUT_FORMATS[kind].load()(stream, [(phrase, found), (phrase, marked)])
        written[kind] = stream.getvalue().decode()
    rows = list(csv.DictReader(written["csv"].splitlines()))
    assert [(row["coverage"], row["leakage"]) for row in rows] == [("", ""), ("0.9", "true")]
    bare, said = json.loads(written["coco"])["phrases"]
    assert "leakage" not in bare and (said["coverage"], said["leakage"]) == (0.9, True)


@pytest.mark.slow
def test_coco_tools_load_the_coco_file(ground, tmp_path, capfd):
    from pycocotools.coco import COCO

    assert ground("--output-format", "coco", "--min-score", 0, "-o", tmp_path / "found.json").exit_code == 0
    found = COCO(str(tmp_path / "found.json"))
    assert len(found.getAnnIds()) == 32 and len(found.getImgIds()) == 4
    assert [each["name"] for each in found.loadCats(found.getCatIds())] == ["Spot"]
    lines = [json.loads(line) for line in ground("--min-score", 0).stdout.splitlines()]
    first = found.loadAnns([1])[0]
    x, y, w, h = first["bbox"]
    assert np.allclose([x, y, x + w, y + h], lines[0]["boxes"][0]["box"])
    assert found.loadImgs([first["image_id"]])[0]["image_id"] == lines[0]["image_id"]


def test_no_phrases_give_a_file_of_each_kind_without_any(model, tmp_path):
    for kind in ("csv", "coco"):
        result = run("ground", "--model", model, "--output-format", kind)
        assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)


@pytest.mark.slow
def test_maps_are_what_the_protocol_heatmap_reads(ground, cohort, tmp_path):
    path = tmp_path / "maps.safetensors"
    result = ground("--heatmap", path, "--no-calibration")
    assert result.exit_code == 0, result.stderr
    maps = load_file(path)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert set(maps) == {f"{each['image_id']}/{each['phrase_id']}" for each in lines}
    assert {each.shape for each in maps.values()} == {(107, 128)}  # 120 x 100 pixels, the long side 128 cells
    scored = run(
        "evaluate", path, "--truth", cohort.phrases, "--protocol", "heatmap", "--bootstrap-samples", 100
    )
    assert scored.exit_code == 0 and '"metric":"cnr"' in scored.stdout
    assert ground("--heatmap", tmp_path / "maps.npz").exit_code == 2


@given(st.floats(0, 150), st.floats(0, 80), st.floats(5, 50), st.floats(5, 20))
def test_a_map_cut_at_a_half_is_the_box(x, y, w, h):
    heatmap = heatmaps.heatmap([ScoredBox(box=(x, y, x + w, y + h), score=0.3)], 200, 100)
    rows, columns = (np.arange(n) + 0.5 for n in heatmap.shape)
    scale = 200 / heatmap.shape[1]
    across = (columns * scale > x) & (columns * scale < x + w)
    down = (rows * scale > y) & (rows * scale < y + h)
    middle = np.outer(down, across)
    assert heatmap.shape == (64, 128) and heatmap.min() >= 0 and heatmap.max() <= 1
    assert not (heatmap > 0.5)[~middle].any() and (heatmap[middle] > 0.2).all()


def test_of_several_boxes_the_best_weighs_one_and_none_is_empty():
    near, far = (0.0, 0.0, 50.0, 50.0), (100.0, 0.0, 150.0, 50.0)
    both = heatmaps.heatmap([ScoredBox(box=near, score=0.4), ScoredBox(box=far, score=0.1)], 200, 100)
    assert both[:, :64].max() == pytest.approx(1, abs=1e-3)
    assert both[:, 64:].max() == pytest.approx(0.25, abs=1e-3)
    assert not heatmaps.heatmap([], 200, 100).any()


@pytest.mark.slow
def test_the_page_holds_everything_and_shows_each_phrase(ground, cohort, tmp_path):
    records = Path(cohort.phrases).read_text().replace("bright spot", "<b>spot</b>", 1)
    records = records.replace('"image_id": "image0"', '"image_id": "an image"')
    (tmp_path / "phrases.jsonl").write_text(records)
    result = ground("--phrases", tmp_path / "phrases.jsonl", "--html", tmp_path / "page.html")
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "page.html").read_text()
    assert page.count("<h2>an image</h2>") == 1
    assert page.count("<article>") == 4 == page.count("data:image/jpeg;base64,")
    assert len(re.findall(r'<li data-row="\d+"', page)) == 4 == page.count('class="found"')
    assert "&lt;b&gt;spot" in page and "<b>spot" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "http" not in page.replace("http-equiv", "")


@pytest.mark.slow
def test_the_page_says_what_a_report_calls_absent(cohort, model, tmp_path):
    (tmp_path / "r.txt").write_text(REPORT)
    report_flags = (
        cohort.folder / "image0.png",
        "--report",
        tmp_path / "r.txt",
        "--html",
        tmp_path / "p.html",
    )
    assert run("ground", "--model", model, *report_flags).exit_code == 0
    page = (tmp_path / "p.html").read_text()
    assert page.count("absent according to the report") == 1 == page.count(" disabled>")


@pytest.mark.slow
def test_a_structured_report_holds_boxes_over_its_image(model, tmp_path):
    sr = pytest.importorskip("highdicom.sr")
    (tmp_path / "in").mkdir()
    image = dicom(tmp_path / "in" / "image.dcm")
    result = run("ground", "--model", model, image, "left lung", "bright spot", "--min-score", 0,
                 "--output-format", "dicom-sr", "-o", tmp_path / "out")  # fmt: skip
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", ""), result.stderr
    lines = run("ground", "--model", model, image, "left lung", "bright spot", "--min-score", 0).stdout
    boxes = [box["box"] for line in lines.splitlines() for box in json.loads(line)["boxes"]]
    report = sr.srread(tmp_path / "out" / "image.dcm")
    groups = report.content.get_planar_roi_measurement_groups()
    assert len(groups) == 16
    for group, (x1, y1, x2, y2) in zip(groups, boxes, strict=True):
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
        assert np.allclose(group.roi.value, corners)
        assert group.roi.graphic_type == sr.GraphicTypeValues.POLYLINE
    assert {group.tracking_identifier for group in groups} == {"left lung", "bright spot"}
    sized = {"image_id": "image", "phrase_id": "1", "path": str(image), "text": "left lung"}
    sized |= {"width": 180, "height": 120}  # boxes of the record are those of an image three times as large
    result = run("ground", "--model", model, "--output-format", "dicom-sr", "-o", tmp_path / "copy",
                 input=json.dumps(sized))  # fmt: skip
    assert result.exit_code == 0, result.stderr
    [copied] = sr.srread(tmp_path / "copy" / "image.dcm").content.get_planar_roi_measurement_groups()
    assert np.allclose(copied.roi.value, groups[0].roi.value, atol=0.06)
    long = "left lung " * 9 + "and what the report says of it at the end"
    image_keys = {"image_id": "../esc", "path": str(image)}
    records = [
        image_keys | {"phrase_id": "1", "text": long, "existence": "uncertain"},
        image_keys | {"phrase_id": "2", "text": "spot", "existence": "absent"},
    ]
    result = run("ground", "--model", model, "--output-format", "dicom-sr", "-o", tmp_path / "long",
                 input="".join(json.dumps(each) + "\n" for each in records))  # fmt: skip
    assert result.exit_code == 0, result.stderr
    [path] = (tmp_path / "long").iterdir()  # nothing is written beside the folder
    content = str(sr.srread(path))
    assert long.encode() in path.read_bytes()
    assert "Undetermined" in content and "272519000" in content and "Existence" not in str(report)
    assert report.PatientID == "P1" and report.StudyInstanceUID == "1.2.3"
    assert "medground" in str(report) and grounder.name_of(model) in str(report)


def test_only_dicom_images_have_structured_reports(cohort, model, ground, tmp_path):
    flags = ("--output-format", "dicom-sr", "-o", tmp_path / "out")
    for result in (
        run("ground", "--model", model, cohort.folder / "image0.png", "spot", *flags),
        ground(*flags),
    ):
        assert (result.exit_code, "image0.png: not a DICOM file" in result.stderr) == (1, True)
    assert ground("--output-format", "dicom-sr").exit_code == 2


def dicom(path: Path) -> Path:
    """A small DICOM image of a patient, as anonymisation leaves it: without a date of birth."""
    import pydicom

    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = "1.2.3", "1.2.3.5", "CR"
    data.PatientID, data.PatientName = "P1", "Nobody"
    data.Rows, data.Columns, data.SamplesPerPixel = 40, 60, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit = 7
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60), dtype=np.uint8)
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OB"
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path
