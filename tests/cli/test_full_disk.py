"""A full disk, in every command that writes: one message, exit code 1, and what was there before intact.

The disk is a small tmpfs, which only root may mount; the first test, on /dev/full, needs nobody.
"""

import json
import os
import subprocess
from pathlib import Path

import box_files
import dicom_files
import downstream_files
import labeled
import numpy as np
import published_networks
import pytest
import torch
import toy
from click.testing import CliRunner
from commands import COMMANDS
from samples import REPORT, SENTENCE

from medground import checkpoints, images, run_lengths
from medground.anatomy import region_query, regions
from medground.cli.main import cli
from medground.grounding import exporting
from medground.models import grounder
from medground.objectives import saved_heads
from medground.objectives.learner import Learner

BEFORE = "from an earlier run\n"
IMAGES = "--images images"
DRAWS = "--bootstrap-samples 100"
SHORT = "--steps 2 --batch-size 2 --device cpu"
COHORT = "cohort/mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv"
IN_A_FILE = {  # the words of each command that writes FULL/out
    "parse-reports": "reports.jsonl -o FULL/out",
    "parse-reports --html": "reports.jsonl --html FULL/out",
    "parse-reports --resume": "reports.jsonl --resume -o FULL/new",
    "align": "sentences.jsonl --anatomy images/anatomy.jsonl -o FULL/out",
    "align --resume": "sentences.jsonl --anatomy images/anatomy.jsonl --resume -o FULL/new",
    "detect-anatomy": f"images/anatomy.jsonl {IMAGES} --model detector/model.safetensors -o FULL/out",
    "detect-anatomy --resume": f"images/anatomy.jsonl {IMAGES} --model detector/model.safetensors --resume "
    "-o FULL/new",
    "ground": f"--model model {IMAGES} --phrases images/phrases.jsonl -o FULL/out",
    "ground --resume": f"--model model {IMAGES} --phrases images/phrases.jsonl --resume -o FULL/new",
    "ground --html": f"--model model {IMAGES} --phrases images/phrases.jsonl --html FULL/out",
    "ground --overlay": f"--model model {IMAGES} --phrases images/phrases.jsonl --overlay FULL/new",
    "render": f"found.jsonl {IMAGES} --output-format radfact -o FULL/out",
    "render --html": f"found.jsonl {IMAGES} --html FULL/out",
    "render --png": f"found.jsonl {IMAGES} --png FULL/new",
    "evaluate": f"found.jsonl --truth images/phrases.jsonl {DRAWS} -o FULL/out",
    "evaluate --html": f"found.jsonl --truth images/phrases.jsonl {IMAGES} {DRAWS} --html FULL/out",
    "probe": f"labels.jsonl {IMAGES} --encoder model -o FULL/out",
    "segment": f"masks.jsonl {IMAGES} --encoder model --epochs 1 -o FULL/out",
    "answer": f"questions.jsonl {IMAGES} --model model --freeze all --epochs 1 -o FULL/out",
    "write": f"images/anatomy.jsonl {IMAGES} --model writer --max-tokens 2 -o FULL/out",
    "write --resume": f"images/anatomy.jsonl {IMAGES} --model writer --max-tokens 2 --resume -o FULL/new",
    "convert predictions": "found.jsonl --phrases images/phrases.jsonl --input-format jsonl -o FULL/out",
    "compare": f"found.jsonl found.jsonl --name a --name b --truth images/phrases.jsonl {DRAWS} -o FULL/out",
    "join-shards": "sentences.jsonl --like sentences.jsonl -o FULL/out",
    "convert mimic-reports": "cohort/mimic-cxr -o FULL/out",
    "convert mimic-jpg": f"{COHORT} -o FULL/out",
    "convert imagenome": f"cohort/chest-imagenome --metadata {COHORT} -o FULL/out",
    "convert ms-cxr": "cohort/ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv -o FULL/out",
    "convert mimic-sectioned": "sectioned.csv -o FULL/out",
    "convert imagenome-gold": f"gold.csv --metadata {COHORT} -o FULL/out",
    **{f"convert {name}": f"{args} -o FULL/out" for name, args in box_files.CONVERT.items()},
    **{f"convert {name}": f"{args} -o FULL/out" for name, (args, *_) in downstream_files.CONVERT.items()},
    "convert dicom-sr": "reports -o FULL/out",
    "convert dicom-seg": "segmentations -o FULL/out",
    "convert dicom-seg-masks": "segmentations -o FULL/out",
    "convert mimic-vqa": f"vqa.csv --metadata {COHORT} -o FULL/out",
}
IN_A_FOLDER = {  # the words of each command that writes into FULL/new
    "phantom": "FULL/new --patients 2 --image-size 64",
    "cache": f"images/anatomy.jsonl {IMAGES} --image-size 160 -o FULL/new",
    "train-detector": f"images/anatomy.jsonl {IMAGES} --image-size 64 {SHORT} -o FULL/new",
    "pretrain": f"images/pairs.jsonl {IMAGES} {SHORT} -o FULL/new",
    "finetune": f"images/phrases.jsonl {IMAGES} {SHORT} -o FULL/new",
    "export": "--model model -o FULL/new",
    "convert weights": f"detr.pth --from detr --heads {published_networks.HEADS} --trust-pickle -o FULL/new",
}
IN_THE_MODEL = {"calibrate"}  # this writes beside the model that it reads
SILENT = {"convert", "doctor"}  # these write nothing


def invoke(words, folder):
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(cli, words.split())
    finally:
        os.chdir(before)


def make_models(folder):
    """Networks of the default shape that have learned nothing."""
    torch.manual_seed(0)
    config = region_query.Config(names=tuple(regions.NAMES), size=64)
    network = region_query.RegionQuery(config)
    (folder / "detector").mkdir()
    made = folder / "detector/model.safetensors"
    checkpoints.save(made, network.state_dict(), region_query.to_json(config))
    (folder / "model").mkdir()
    grounder.save(folder / "model", grounder.build("small", ["bright spot", "left lung"]))
    (folder / "writer").mkdir()
    saved = grounder.save(folder / "writer", grounder.load(folder / "model"))
    saved_heads.save(folder / "writer", Learner(saved, ["writer"]).objectives, saved.name)


def make_masks_and_questions(folder):
    """A mask of each image in labels.jsonl, its left half, and a question about it."""
    masks, questions = [], []
    for number, line in enumerate((folder / "labels.jsonl").read_text().splitlines()):
        image = json.loads(line)
        del image["labels"]
        width, height = images.size(folder / "images" / image["path"])
        counts = run_lengths.packed(np.arange(width)[None].repeat(height, 0) < width // 2)
        masks.append(image | {"width": width, "height": height, "category": "Side", "counts": counts})
        question = {"question_id": str(number), "text": "Is it bright?", "answer": "yes"}
        questions.append(image | question)
    for name, records in (("masks", masks), ("questions", questions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with everything that the commands read."""
    here = tmp_path_factory.mktemp("given")
    (here / "images").mkdir()
    toy.make(here / "images", count=4)
    for name, record in (("reports", REPORT), ("sentences", SENTENCE)):
        lines = (json.dumps(record | {"study_id": f"s{n // 50}"}) + "\n" for n in range(200))
        (here / f"{name}.jsonl").write_text("".join(lines))
    labeled.write(here / "images", here / "labels.jsonl")
    make_masks_and_questions(here)
    box_files.write(here)
    downstream_files.write(here)
    dicom_files.objects(here, here / "objects")
    make_models(here)
    torch.save({"model": published_networks.DETR().state_dict()}, here / "detr.pth")
    for line in ("phantom cohort --patients 2 --image-size 64 --seed 3", f"ground {IN_A_FILE['ground']}"):
        result = invoke(line.replace("FULL/out", "found.jsonl"), here)
        assert result.exit_code == 0, result.stderr
    (here / "vqa.csv").write_text(downstream_files.about_a_study_of(here / COHORT))
    image = json.loads((here / "cohort/truth/regions.jsonl").read_text().splitlines()[0])["image_id"]
    numbers = "x1,y1,x2,y2,width,height,bbox_name,annot_id,original_x1,original_x2,original_y1,original_y2"
    (here / "gold.csv").write_text(
        f"image_id,{numbers}\n{image},10,10,90,200,80,190,right lung,1,3,30,3,60\n"
    )
    (here / "sectioned.csv").write_text(
        "study,impression,findings\ns50000000,No pneumothorax.,Clear lungs.\n"
    )
    return here


@pytest.fixture(scope="module", autouse=True)
def graphs():
    """Convert the model for its exports once: that takes seconds, and the writing is what is tried."""
    with pytest.MonkeyPatch.context() as patch:
        convert, made = exporting._graphs, []
        patch.setattr(
            exporting, "_graphs", lambda model: made[0] if made else made.append(convert(model)) or made[0]
        )
        yield


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A folder that is a disk of its own, of 4 MB."""
    place = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount here, for a disk that is full")
    if done.returncode:
        pytest.skip("only root may mount a tmpfs for a disk that is full")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def full(disk):
    """The disk with an earlier output on it, and so many bytes free."""
    for path in sorted(disk.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (disk / "out").write_text(BEFORE)

    def fill(free):
        (disk / "rest").write_bytes(b"\0" * free)
        with pytest.raises(OSError), open(disk / "filler", "wb", buffering=0) as stream:
            while True:
                stream.write(b"\0" * 65536)
        while True:
            try:
                with open(disk / "filler", "ab", buffering=0) as stream:
                    stream.write(b"\0" * 4096)
            except OSError:
                break
        (disk / "rest").unlink()
        return disk

    return fill


def is_one_message(result):
    """Whether the run ended with one line that says what the matter is."""
    assert result.exit_code == 1, (result.exit_code, result.exception, result.stderr)
    last = result.stderr.splitlines()[-1]
    assert result.stderr.count("Error: ") == 1 and last.startswith("Error: "), result.stderr
    assert "No space left on device" in last
    return True


def test_every_command_that_writes_is_tried():
    tried = {name.split(" --")[0] for name in (*IN_A_FILE, *IN_A_FOLDER)}
    assert tried | IN_THE_MODEL | SILENT == {" ".join(path) for path in COMMANDS}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to play a full disk")
@pytest.mark.parametrize("name", [name for name, words in IN_A_FILE.items() if "-o FULL/out" in words])
def test_an_output_that_takes_nothing_is_one_message(name, given):
    assert is_one_message(invoke(f"{name} {IN_A_FILE[name].replace('FULL/out', '/dev/full')}", given))


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_A_FILE)
def test_a_full_disk_leaves_the_earlier_output_alone(name, given, full):
    disk = full(free=0)
    words = name.split(" --")[0]
    assert is_one_message(invoke(f"{words} {IN_A_FILE[name].replace('FULL', str(disk))}", given))
    assert (disk / "out").read_text() == BEFORE
    assert not (disk / "new").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 16384])
@pytest.mark.parametrize("name", IN_A_FOLDER)
def test_a_disk_that_fills_ends_what_fills_a_folder(name, free, given, full):
    disk = full(free)
    assert is_one_message(invoke(f"{name} {IN_A_FOLDER[name].replace('FULL', str(disk))}", given))
    assert (disk / "out").read_text() == BEFORE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parse-reports", "align", "detect-anatomy", "ground"])
def test_with_room_again_resume_goes_on(name, given, full, tmp_path):
    words = f"{name} {IN_A_FILE[f'{name} --resume']}"
    disk = full(free=4096 if name in ("parse-reports", "align") else 0)
    assert is_one_message(invoke(words.replace("FULL", str(disk)), given))
    (disk / "filler").unlink()
    assert invoke(words.replace("FULL", str(disk)), given).exit_code == 0
    assert invoke(words.replace("FULL", str(tmp_path)), given).exit_code == 0
    assert (disk / "new").read_bytes() == (tmp_path / "new").read_bytes()


@pytest.fixture
def model(given, disk, full):
    """A model folder on the disk: its calibration is an earlier one, its other files lie elsewhere."""
    folder = disk / "model"
    folder.mkdir()
    for path in (given / "model").iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "calibration.json").write_text(BEFORE)
    return folder


@pytest.mark.slow
def test_a_full_disk_leaves_the_earlier_calibration_alone(given, model, full):
    full(free=0)
    assert is_one_message(invoke(f"calibrate images/phrases.jsonl {IMAGES} --model {model}", given))
    assert (model / "calibration.json").read_text() == BEFORE
    assert not list(model.glob("*partial*"))


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 65536])
def test_a_full_disk_leaves_the_earlier_export_alone(free, given, model, full):
    (model / "calibration.json").unlink()
    about = {"engine.json": "{}\n", "image.xml": "<net/>\n"}
    for name, text in about.items():
        (model / name).write_text(text)
    full(free)
    assert is_one_message(invoke(f"export --model model -o {model}", given))
    assert all((model / name).read_text() == text for name, text in about.items())
    assert not list(model.glob("*partial*"))
