"""The Python interface: the same predictions as the command, and records to and from files and tables."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from click.testing import CliRunner
from PIL import Image

import medground
from medground.cli.main import cli
from medground.grounding import backends, exporting
from medground.models import grounder
from medground.record_files import infer_kind
from medground.record_json import to_json

REPORT = "FINDINGS: Small left pleural effusion. No pneumothorax.\nIMPRESSION: Cardiomegaly."
TEXTS = ["bright spot", "opacity in the left lung"]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"), count=12)


def command(*args: object) -> list[dict]:
    """Return the lines that `medground` prints."""
    result = CliRunner().invoke(cli, list(map(str, args)))
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def as_lines(records: list) -> list[dict]:
    """Return the records as a file holds them."""
    return [json.loads(json.dumps(to_json(each))) for each in records]


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory) -> Path:
    """A calibrated model of several boxes, with a flip correction and an export."""
    from medground.grounding import calibration, flip

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    built = grounder.build("small", TEXTS, architecture="mdetr")
    with torch.no_grad():
        built.network.box[-1].weight *= 30  # boxes of an untrained network are all alike
    saved = grounder.save(path, built, {"subjects": [], "leakage": True})
    command("calibrate", images.phrases, "--model", path, "--images", images.folder)
    fitted = calibration.load(path, saved.name)
    assert fitted is not None
    calibration.save(
        path, replace(fitted, score_curve=calibration.Curve(0.5))
    )  # no box of this model is right
    encoded = backends.encode(saved, torch.rand(2, *2 * (saved.config.image_size,)))
    weights = torch.randn(len(flip.features(encoded))).numpy() * 1e3
    flip.save(path, flip.FlipCorrection(saved.name, weights))
    if find_spec("openvino"):
        exporting.export(grounder.load(path), path, path)
    return path


LOADED = {
    "default": ({}, ()),
    "torch": ({"backend": "torch", "device": "cpu"}, ("--backend", "torch", "--device", "cpu")),
    "no flip correction": ({"flip_correction": False}, ("--no-flip-correction",)),
    "uncalibrated": ({"calibration": False}, ("--no-calibration",)),
    "bf16": ({"backend": "bf16"}, ("--backend", "bf16")),
}
PREDICTED = {
    "default": ({}, ()),
    "min_score": ({"min_score": 0.0}, ("--min-score", 0)),
    "min_present": ({"min_present": 0.99}, ("--min-present", 0.99)),
    "coverage": ({"coverage": 0.6}, ("--coverage", 0.6)),
}


CASES = [(loaded, "default") for loaded in LOADED] + [("default", each) for each in list(PREDICTED)[1:]]
CASES += [("bf16", "coverage"), ("uncalibrated", "min_present"), ("no flip correction", "min_score")]


@pytest.mark.slow
@pytest.mark.parametrize(("loaded", "predicted"), CASES)
def test_predict_returns_every_field_that_ground_writes(folder, images, loaded, predicted):
    (load, load_flags), (predict, flags) = LOADED[loaded], PREDICTED[predicted]
    if loaded == "bf16" and not find_spec("openvino"):
        pytest.skip("OpenVINO is not installed")
    model = medground.load(folder, **load)
    ground = ("ground", "--model", folder, *load_flags, *flags)
    phrases = medground.read(images.phrases)
    from_records = command(*ground, "--images", images.folder, "--phrases", images.phrases)
    assert as_lines(model.predict(phrases, folder=images.folder, **predict)) == from_records
    paths = [images.folder / "image0.png", images.folder / "image1.png"]
    each = as_lines(model.predict(paths, TEXTS, **predict))
    assert each[2:] == command(*ground, paths[1], *TEXTS)
    assert len(each) == 4 and all(line["leakage"] for line in each)


@pytest.mark.slow
def test_flipped_images_and_calibration_are_part_of_the_comparison(folder, images):
    found = medground.load(folder).predict(medground.read(images.phrases), folder=images.folder)
    corrected = ["mirrored" in each.extra for each in found]
    assert any(corrected) and not all(corrected)
    assert all(each.extra["calibrated"] for each in found)
    without = medground.load(folder, flip_correction=False, calibration=False)
    plain = without.predict(medground.read(images.phrases), folder=images.folder)
    assert all(each.extra["as_hung"] and "calibrated" not in each.extra for each in plain)
    assert [a.boxes == b.boxes for a, b in zip(found, plain, strict=True)].count(False) > 0


@pytest.mark.slow
def test_a_report_is_a_text_a_file_or_a_record(folder, images, tmp_path):
    path, model = images.folder / "image0.png", medground.load(folder)
    (tmp_path / "report.txt").write_text(REPORT)
    expected = command("ground", "--model", folder, path, "--report", tmp_path / "report.txt")
    record = medground.Report(study_id="report", text=REPORT)
    for report in (REPORT, tmp_path / "report.txt", record):
        assert as_lines(model.predict(path, report=report)) == expected
    assert [each["existence"] for each in expected] == ["present", "absent", "present"]


@pytest.mark.slow
def test_the_example_model_is_the_default(images):
    path = images.folder / "image0.png"
    for model in (medground.load(), medground.load("example")):
        assert as_lines(model.predict(str(path), "left lung")) == command("ground", path, "left lung")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (("image0.png",), {}, "either phrases or a report"),
        (("image0.png", ["spot"]), {"report": REPORT}, "either phrases or a report"),
        (("image0.png", [" "]), {}, "text: is empty"),
        (("image0.png", ["spot"]), {"coverage": 0.5, "min_score": 0.1}, "leave out min_score"),
        (("image0.png", ["spot"]), {"coverage": 0.999}, "support at most"),
        (("missing.png", ["spot"]), {}, "missing.png"),
    ],
)
def test_wrong_calls_are_one_message(folder, images, monkeypatch, inputs, options, message):
    monkeypatch.chdir(images.folder)
    with pytest.raises((medground.MedgroundError, OSError), match=message):
        medground.load(folder).predict(*inputs, **options)


@pytest.mark.slow
def test_coverage_needs_a_calibration(folder, images):
    model = medground.load(folder, calibration=False)
    with pytest.raises(medground.MedgroundError, match="coverage needs a calibration"):
        model.predict(images.folder / "image0.png", "spot", coverage=0.5)


def test_a_folder_without_a_model_and_an_unknown_device_are_one_message(tmp_path):
    with pytest.raises(medground.MedgroundError, match="no such folder"):
        medground.load(tmp_path / "none")
    with pytest.raises(medground.MedgroundError, match="expected cpu, cuda"):
        medground.load(device="no device")


@pytest.mark.slow
def test_parse_detect_and_align_return_what_the_commands_write(images, tmp_path):
    (tmp_path / "s0.txt").write_text(REPORT)
    sentences = medground.parse(medground.Report(study_id="s0", text=REPORT))
    assert as_lines(sentences) == command("parse-reports", tmp_path / "s0.txt")
    path = images.folder / "image0.png"
    assert as_lines(medground.detect(path, folder=images.folder)) == command(
        "detect-anatomy", path, "--images", images.folder
    )
    anatomies = medground.read(images.anatomy)
    medground.write(tmp_path / "sentences.jsonl", sentences)
    flags = ("--anatomy", images.anatomy, "--existence", "present", "--existence", "absent")
    expected = command("align", tmp_path / "sentences.jsonl", *flags)
    assert as_lines(medground.align(sentences, anatomies, existence=["present", "absent"])) == expected
    assert expected


@pytest.mark.slow
def test_parse_takes_texts_and_detect_takes_records(images):
    several = medground.parse([REPORT, REPORT])
    assert {each.study_id for each in several} == {"report", "report-2"}
    record = medground.Image(image_id="a", path="image0.png", study_id="s0")
    (found,) = medground.detect([record], folder=images.folder)
    assert (found.image_id, found.study_id, found.width) == ("a", "s0", toy.WIDTH)
    with pytest.raises(medground.MedgroundError, match="two images have the same image_id"):
        medground.detect([record, record], folder=images.folder)


def test_records_are_written_and_read_with_their_kind_inferred(images, tmp_path):
    kinds = {"anatomy": "Anatomy", "pairs": "Pair", "phrases": "Phrase"}
    for name, kind in kinds.items():
        found = medground.read(getattr(images, name))
        assert type(found[0]).__name__ == kind
        assert medground.write(tmp_path / "copy.jsonl", found) == len(found)
        assert medground.read(tmp_path / "copy.jsonl", kind) == found
    (tmp_path / "other.jsonl").write_text('{"secret": 1}\n')
    with pytest.raises(medground.MedgroundError, match="fit no record; name the kind") as failed:
        medground.read(tmp_path / "other.jsonl")
    assert "secret" not in str(failed.value)
    with pytest.raises(medground.MedgroundError, match=r"other\.jsonl:1"):
        medground.read(tmp_path / "other.jsonl", medground.Phrase)
    with pytest.raises(medground.MedgroundError, match="not a record class"):
        medground.read(tmp_path / "other.jsonl", "Words")


@pytest.mark.slow
def test_every_kind_of_record_is_inferred_from_its_keys(folder, images):
    grounding = medground.load(folder).predict(images.folder / "image0.png", report=REPORT)[0]
    assert infer_kind(to_json(grounding)) is medground.Grounding
    assert infer_kind(to_json(medground.parse(REPORT)[0])) is medground.Sentence
    assert infer_kind({"study_id", "text"}) is medground.Report
    assert infer_kind({"image_id", "path", "split"}) is medground.Image
    assert infer_kind({"study_id"}) is None


@pytest.mark.slow
def test_evaluate_returns_the_scores_that_the_command_writes(folder, images, tmp_path):
    truth = medground.read(images.phrases)
    groundings = medground.load(folder).predict(truth, folder=images.folder)
    medground.write(tmp_path / "found.jsonl", groundings)
    flags = ("--truth", images.phrases, "--bootstrap-samples", 100)
    expected = command("evaluate", tmp_path / "found.jsonl", *flags, "--protocol", "single-box")
    scores = as_lines(medground.evaluate(groundings, truth, ["single-box"], draws=100))
    keys = ("protocol", "metric", "group", "value", "low", "high", "n", "leakage")
    assert [[s.get(k) for k in keys] for s in scores] == [[s.get(k) for k in keys] for s in expected]


class Frame:
    """A stand-in for pandas.DataFrame: columns of numpy arrays, as pandas makes them of rows."""

    def __init__(self, rows: list[dict]):
        self.columns = {key: [row[key] for row in rows] for key in rows[0]}
        for key, values in self.columns.items():
            if all(each is None or isinstance(each, int | float) for each in values):
                self.columns[key] = np.array([np.nan if each is None else each for each in values], float)

    def to_dict(self, orient: str) -> list[dict]:
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


@pytest.mark.slow
def test_records_survive_a_table(folder, images):
    phrases = medground.read(images.phrases)
    bare = medground.Phrase(image_id="x", phrase_id="x|1", path="x.png", text="spot")
    groundings = medground.load(folder).predict(phrases, folder=images.folder)
    for records, kind in (([*phrases, bare], "Phrase"), (groundings, medground.Grounding)):
        rows = medground.rows(records)
        assert len({tuple(row) for row in rows}) == 1, "every row has the same keys"
        assert medground.records_from(rows, kind) == records
        again = medground.records_from(Frame(rows).to_dict("records"), kind)
        assert [each.boxes for each in again] == [each.boxes for each in records]
    assert medground.records_from(Frame(medground.rows([*phrases, bare])).to_dict("records"), "Phrase") == [
        *phrases,
        bare,
    ]
    with pytest.raises(medground.MedgroundError, match="row 0: text: this key is missing"):
        medground.records_from([{"image_id": "a", "phrase_id": "1", "path": "p"}], "Phrase")


def test_rows_make_a_frame_of_pandas(images):
    pandas = pytest.importorskip("pandas")
    phrases = medground.read(images.phrases)
    frame = pandas.DataFrame(medground.rows(phrases))
    assert medground.records_from(frame.to_dict("records"), "Phrase") == phrases


def test_importing_loads_nothing_heavy():
    code = "import sys, medground; medground.Phrase; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "spacy", "transformers", "PIL"} & set(done.stdout.split())


def test_every_public_name_is_there_and_others_are_not():
    assert all(getattr(medground, name).__doc__ for name in medground.__all__)
    assert set(medground.__all__) <= set(dir(medground))
    assert not hasattr(medground, "no_such_name")


@pytest.mark.slow
def test_a_grey_image_of_any_folder_is_named_by_its_stem(folder, tmp_path):
    Image.new("L", (40, 30), 90).save(tmp_path / "chest.png")
    (found,) = medground.load(folder).predict(tmp_path / "chest.png", "spot")
    assert (found.image_id, found.phrase_id) == ("chest", "chest|1")
