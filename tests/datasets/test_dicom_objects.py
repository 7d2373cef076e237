"""DICOM structured reports and segmentations: those of `render` come back, and those of others are read."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from dicom_files import dicom

from medground import run_lengths
from medground.cli.main import cli

pytestmark = pytest.mark.skipif(find_spec("highdicom") is None, reason="highdicom is not installed")
TEXT = "≥ 2 cm – right"
LONG = "small opacity, " * 8 + "left\\right"
WIDTH, HEIGHT = 120, 100
BOXES = [[10.3, 10.0, 50.7, 40.9], [0.0, 3.4, 119.9, 99.2]]
TAGS = {
    "StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.5", "Modality": "CR", "PatientID": "P1",
}  # fmt: skip


def image(path: Path, uid: str) -> None:
    dicom(path, np.zeros((HEIGHT, WIDTH), np.uint8), **TAGS, SOPInstanceUID=uid)


def found(number: int, boxes: list, text: str = TEXT, name: str = "image0") -> dict:
    scored = [{"box": each, "score": 0.5} for each in boxes]
    own = {"image_id": name, "phrase_id": f"{name}|{number}", "text": text, "boxes": scored}
    return own | {"present": 0.25, "model": "theirs,1"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    image(Path("images/image0.dcm"), "1.2.3")
    return tmp_path


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, [*words])
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def convert(*words: str) -> list[dict]:
    return [*map(json.loads, run("convert", *words).splitlines())]


def render(kind: str, *records: dict) -> None:
    Path("found.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    run("render", "found.jsonl", "--images", "images", "--output-format", kind, "-o", "out")


@pytest.mark.parametrize("kind", ["dicom-sr", "dicom-seg"])
@pytest.mark.parametrize("images", [[], ["--images", "images"]])
def test_what_render_writes_comes_back(here, kind, images):
    render(kind, found(1, BOXES), found(2, BOXES[:1], LONG), found(3, [], "no effusion"))
    read = convert(kind, "out", *images)
    assert [each["text"] for each in read] == [TEXT, LONG, "no effusion"][: 3 if kind == "dicom-sr" else 2]
    assert np.abs(np.array(read[0]["boxes"]) - BOXES).max() < 0.1
    assert read[1]["boxes"] == BOXES[:1] and (kind == "dicom-seg" or read[2]["boxes"] == [])
    first = {
        key: read[0].get(key) for key in ("image_id", "phrase_id", "path", "subject_id", "present", "model")
    }
    assert first == {
        "image_id": "image0", "phrase_id": "image0|1", "path": "image0.dcm", "subject_id": "P1",
        "present": 0.25, "model": "theirs,1",
    }  # fmt: skip
    assert read[0].get("width") == (WIDTH if images or kind == "dicom-seg" else None)


def test_masks_of_render_come_back(here):
    render("dicom-seg", found(1, [[10, 10, 50, 40], [60, 10, 80, 40]]), found(2, [[0, 0, 8, 9]], "edema"))
    first, second = convert("dicom-seg-masks", "out", "--images", "images")
    assert (first["category"], second["category"]) == (TEXT, "edema")
    mask = run_lengths.mask_of((HEIGHT, WIDTH), first["counts"])
    true = np.zeros((HEIGHT, WIDTH), bool)
    true[10:40, 10:50] = true[10:40, 60:80] = True
    assert (mask == true).all() and (first["width"], first["height"]) == (WIDTH, HEIGHT)


# --- files of others ---


def code(value: str, scheme: str, meaning: str):
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return [item]


def content(kind: str, name: tuple[str, str, str], *below, **more):
    from pydicom import Dataset

    item = Dataset()
    item.ValueType, item.RelationshipType, item.ConceptNameCodeSequence = kind, "CONTAINS", code(*name)
    for key, value in more.items():
        setattr(item, key, value)
    if below:
        item.ContentSequence = list(below)
    return item


def region(kind: str, data: list[float], frame: int | None = None, uid: str = "1.2.3"):
    from pydicom import Dataset

    source = Dataset()
    source.ReferencedSOPInstanceUID = uid
    if frame:
        source.ReferencedFrameNumber = frame
    picture = content("IMAGE", ("260753009", "SCT", "Source"), ReferencedSOPSequence=[source])
    return content("SCOORD", ("111030", "DCM", "Image Region"), picture, GraphicType=kind, GraphicData=data)


def finding(meaning: str):
    return content("CODE", ("121071", "DCM", "Finding"), ConceptCodeSequence=code("x", "99X", meaning))


def group(*items):
    return content("CONTAINER", ("125007", "DCM", "Measurement Group"), *items)


def report(*groups, name: str = "theirs.dcm") -> None:
    """Write a report of another tool: groups below a container of measurements."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    meta.MediaStorageSOPInstanceUID = "1.2.9"
    data = FileDataset(name, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.9"
    data.SpecificCharacterSet = "ISO_IR 192"
    data.ContentSequence = [content("CONTAINER", ("126010", "DCM", "Imaging Measurements"), *groups)]
    data.save_as(name, enforce_file_format=True)


def test_regions_of_other_tools_are_their_bounding_boxes(here):
    long_axis = content("NUM", ("103339001", "SCT", "Long axis"), region("POLYLINE", [0, 0, 9, 9]))
    tracked = content("TEXT", ("112039", "DCM", "Tracking Identifier"), TextValue="tool:Rectangle")
    report(
        group(tracked, finding("Nodule"), region("POLYLINE", [1, 2, 30, 2, 30, 40, 1, 40])),
        group(finding("Mass"), region("CIRCLE", [50, 50, 60, 50])),
        group(finding("Cyst"), region("ELLIPSE", [20, 50, 80, 50, 50, 40, 50, 60]), long_axis),
        group(tracked, region("POINT", [3, 3])),
        group(finding("Edema"), region("POLYLINE", [1, 2, 30, 2, 30, 40], frame=2), region("POINT", [3, 3])),
    )  # fmt: skip
    result = CliRunner().invoke(cli, ["convert", "dicom-sr", "theirs.dcm", "--images", "images"])
    assert "3 points and lines, which are no regions" in result.stderr
    assert "1 regions on other frames" in result.stderr
    read = [*map(json.loads, result.stdout.splitlines())]
    assert [each["text"] for each in read] == ["Nodule", "Mass", "Cyst", "tool:Rectangle", "Edema"]
    assert [each["boxes"] for each in read[:3]] == [[[1, 2, 30, 40]], [[40, 40, 60, 60]], [[20, 40, 80, 60]]]
    assert "boxes" not in read[3] and read[0]["tracking"] == "tool:Rectangle"
    assert (read[0]["image_id"], read[0]["width"]) == ("image0", WIDTH)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([region("POLYLINE", [1, 2, 3])], "theirs.dcm: GraphicData: expected pairs of finite numbers"),
        ([region("CIRCLE", [1, 2])], "GraphicData: expected 2 points"),
        ([region("POLYLINE", [500, 1, 600, 1, 600, 9])], "GraphicData: lies outside the image"),
        ([region("POLYLINE", [1, 1, 6, 1, 6, 9], uid="7")], "ReferencedSOPInstanceUID: no image of --images"),
        (
            [region("POLYLINE", [1, 1, 6, 1, 6, 9], uid=uid) for uid in ("1.2.3", "7")],
            "ReferencedSOPSequence: a measurement group: regions on several images",
        ),
    ],
)
def test_an_invalid_report_is_one_line_with_its_field(here, items, message):
    report(group(finding("Mass"), *items))
    said = run("convert", "dicom-sr", "theirs.dcm", "--images", "images", code=1)
    assert message in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("kind", ["dicom-sr", "dicom-seg", "dicom-seg-masks"])
def test_damaged_and_other_files_are_named_or_counted(here, kind):
    assert "images: no s" in run("convert", kind, "images", code=1)
    render(kind.removesuffix("-masks"), found(1, BOXES))
    content = Path("out/image0.dcm").read_bytes()
    Path("out/bad.dcm").write_bytes(content[: len(content) // 2])
    Path("out/text.dcm").write_text("no DICOM")
    image(Path("out/image.dcm"), "1.2.3")
    said = run("convert", kind, "out", code=1)
    assert "out/bad.dcm: " in said and ("ends early" in said or "missing" in said)
    result = CliRunner().invoke(cli, ["convert", kind, "out", "--rejects", "bad.txt"])
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1
    assert Path("bad.txt").read_text() == "out/bad.dcm\nout/text.dcm\n"
    assert "1 DICOM files that are no" in result.stderr


@pytest.mark.parametrize("kind", ["dicom-sr", "dicom-seg"])
def test_a_truncated_file_never_gives_less_in_silence(here, kind):
    render(kind, found(1, BOXES), found(2, BOXES[:1], "edema"))
    content = Path("out/image0.dcm").read_bytes()
    for share in range(20, 100, 9):
        Path("cut.dcm").write_bytes(content[: len(content) * share // 100])
        result = CliRunner().invoke(cli, ["convert", kind, "cut.dcm"])
        assert result.exit_code == 1 and "cut.dcm: " in result.stderr, share


def segmentation(values: np.ndarray, kind: str, name: str = "theirs.dcm") -> None:
    """Write a segmentation by highdicom, without our descriptions."""
    from highdicom import UID, AlgorithmIdentificationSequence, seg
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    source = dcmread("images/image0.dcm")
    for key in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(source, key, None)
    source.AccessionNumber = source.ReferringPhysicianName = None
    algorithm = AlgorithmIdentificationSequence("other", codes.DCM.ArtificialIntelligence, "1")
    made = seg.Segmentation(
        source_images=[source],
        pixel_array=values,
        segmentation_type=kind,
        segment_descriptions=[
            seg.SegmentDescription(n + 1, label, codes.SCT.Tissue, codes.SCT.Tissue, "AUTOMATIC", algorithm)
            for n, label in enumerate(("Mass", "Nodule"))
        ],
        series_instance_uid=UID(),
        series_number=1,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="other",
        manufacturer_model_name="other",
        software_versions="1",
        device_serial_number="1",
    )
    made.save_as(name)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segments_of_other_tools_are_masks_and_their_pieces_boxes(here, kind):
    values = np.zeros((1, HEIGHT, WIDTH, 2), np.float32 if kind == "FRACTIONAL" else np.uint8)
    values[0, 5:20, 7:31, 0] = values[0, 40:50, 60:70, 0] = 1
    values[0, 80:90, 3:33, 1] = 1
    if kind == "FRACTIONAL":
        values[0, 60:99, :, 0], values[0, 80:90, 3:13, 1] = 0.4, 0.6
    segmentation(values, kind)
    mass, nodule = convert("dicom-seg", "theirs.dcm", "--images", "images")
    assert (mass["text"], mass["boxes"]) == ("Mass", [[7, 5, 31, 20], [60, 40, 70, 50]])
    assert (nodule["text"], nodule["boxes"]) == ("Nodule", [[3, 80, 33, 90]])
    masks = convert("dicom-seg-masks", "theirs.dcm")
    for number, each in enumerate(masks):
        mask = run_lengths.mask_of((HEIGHT, WIDTH), each["counts"])
        assert (mask == (values[0, ..., number] >= 0.5)).all()


def test_a_segmentation_of_another_size_is_refused(here):
    segmentation(np.ones((1, HEIGHT, WIDTH, 2), np.uint8), "BINARY")
    dicom(Path("images/image0.dcm"), np.zeros((50, 60), np.uint8), **TAGS)
    said = run("convert", "dicom-seg", "theirs.dcm", "--images", "images", code=1)
    assert "theirs.dcm: Rows: another size than that of its image" in said


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_in_other_bits_is_refused(here, kind):
    segmentation(np.ones((1, HEIGHT, WIDTH, 2), np.uint8) * np.array([1, 0], np.uint8), kind)
    data = pydicom.dcmread("theirs.dcm")
    data.HighBit += 1
    data.save_as("theirs.dcm")
    assert "theirs.dcm: HighBit: expected BitsStored - 1" in run("convert", "dicom-seg", "theirs.dcm", code=1)
