"""Every example in a command's help, and every pipe in the README, is run as it stands.

A tiny phantom cohort and models of two steps stand in for the files that the examples name; what would take
long gets flags that make it short, and nothing else is changed.
"""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import box_files
import dicom_files
import downstream_files
import numpy as np
import published_networks
import pytest
import tiny_models
import torch
import warm
from click.testing import CliRunner, Result
from commands import COMMANDS, command_of
from paths import ROOT
from PIL import Image

from medground import images, run_lengths
from medground.cli.main import cli

SHORT = {  # the last of two equal flags wins; a run with other settings needs a folder of its own
    "medground phantom": "--patients 3 --image-size 64 --workers 1",
    "medground train-detector": "--steps 2 --batch-size 2 --image-size 64 -o short/detector --overwrite",
    "medground pretrain": "--steps 2 --batch-size 2 -o short/agp --overwrite",
    "medground finetune": "--steps 2 --batch-size 2 -o short/finetuned --overwrite",
    "medground evaluate": "--bootstrap-samples 100",
    "medground compare": "--bootstrap-samples 100",
    "medground segment": "--epochs 1",
    "medground answer": "--epochs 1",
    "medground convert weights": f"--heads {published_networks.HEADS}",
}


def examples_of(path: tuple[str, ...]) -> list[str]:
    """The lines of a command's help that start with `$ medground`, continued lines joined."""
    text = (command_of(path).help or "").replace("\\\n", " ")
    return [re.sub(r"\s+", " ", line) for line in re.findall(r"^\s*\$ (medground .*)$", text, re.MULTILINE)]


EXAMPLES = list(dict.fromkeys(line for path in COMMANDS for line in examples_of(path)))
README = (ROOT / "README.md").read_text().replace("\\\n", " ")
PIPES = [
    line.removesuffix(" | head -1")
    for line in re.findall(r"^(?:\$ )?(medground .* \| .*)$", README, re.MULTILINE)
]


def do(folder: Path, line: str) -> Result:
    """Run a medground command in this process, which has the heavy libraries already."""
    with contextlib.chdir(folder):
        return CliRunner().invoke(cli, shlex.split(line)[1:])


def make(folder: Path, line: str) -> None:
    """Run a medground command that succeeds."""
    result = do(folder, line)
    assert result.exit_code == 0, f"{line}\n{result.stderr}"


def make_all(folder: Path, steps: str) -> None:
    """Run medground commands that succeed, one per line."""
    for line in filter(str.strip, steps.replace("\\\n", " ").splitlines()):
        make(folder, " ".join(line.split()))


GRAPHS = "medground convert imagenome chest-imagenome-1.0.0 --metadata mimic-cxr-2.0.0-metadata.csv"
DRAWN = "medground convert ms-cxr MS_CXR_Local_Alignment_v1.1.0.csv"
SMALL = "--steps 2 --batch-size 2"
RECORDS = f"""
    medground convert mimic-jpg mimic-cxr-2.0.0-metadata.csv --frontal-only -o list.jsonl
    medground cache list.jsonl --images images -o cache --image-size 160
    {GRAPHS} --split train -o anatomy.jsonl
    {GRAPHS} --split valid -o val.jsonl
    {DRAWN} -o ms_cxr.jsonl
    {DRAWN} --split train -o train.jsonl
    {DRAWN} --split test -o test.jsonl
    medground parse-reports reports.csv -o sentences.jsonl
    medground parse-reports reports.csv --shard 1/2 -o part-1-of-2.jsonl
    medground parse-reports reports.csv --shard 2/2 -o part-2-of-2.jsonl
    {GRAPHS} --split train -o seen.jsonl
    medground align sentences.jsonl --anatomy seen.jsonl -o pairs.jsonl
"""
MODELS = f"""
    medground train-detector anatomy.jsonl --images images -o runs/detector {SMALL} --image-size 64
    medground pretrain pairs.jsonl --anatomy seen.jsonl --images images -o runs/agp {SMALL}
    medground pretrain pairs.jsonl --objective gk-mvlp --report-sentences sentences.jsonl \
      --anatomy seen.jsonl --images images -o runs/gk-mvlp {SMALL}
    medground finetune ms_cxr.jsonl --images images --init-from runs/agp -o runs/finetuned {SMALL}
"""
FOUND = "medground ground --model runs/finetuned --images images --phrases test.jsonl"
PREDICTIONS = f"""
    {FOUND} -o groundings.jsonl
    {FOUND} --output-format csv -o theirs.csv
"""
HEADS = """
    medground segment masks.jsonl --encoder runs/asg --images images --save-head head.safetensors \
      -o segmented.jsonl --epochs 1
    medground answer rad.jsonl --model runs/asg --images images --freeze all --save-head rad.safetensors \
      -o answered.jsonl --epochs 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with all files that the examples name."""
    here = tmp_path_factory.mktemp("examples")
    make_cohort(here)
    make_all(here, RECORDS)
    make_models(here)
    make_predictions(here)
    make_heads(here)
    make_inputs(here)
    return here


def make_cohort(here: Path) -> None:
    """A phantom cohort under the names of the published data sets, and files that it does not have."""
    make(here, "medground phantom cohort --patients 24 --image-size 64 --seed 3")
    cohort = here / "cohort"
    shutil.copytree(cohort / "mimic-cxr-jpg", here / "images")
    shutil.copy(here / "images" / "mimic-cxr-2.0.0-metadata.csv", here)
    shutil.copytree(cohort / "mimic-cxr", here / "mimic-cxr")
    shutil.copytree(cohort / "mimic-cxr" / "files", here / "files")
    shutil.copytree(cohort / "chest-imagenome", here / "chest-imagenome-1.0.0")
    shutil.copy(cohort / "reports.csv", here)
    shutil.copy(cohort / "ms-cxr" / "MS_CXR_Local_Alignment_v1.1.0.csv", here)
    make_foreign_files(here, cohort)
    make_masks(here)


def make_models(here: Path) -> None:
    """A detector, a model of each kind, and weights of other makers."""
    make_all(here, MODELS)
    shutil.copy(here / "runs/detector/model.safetensors", here)
    for name, source in (("asg", "agp"), ("mdetr", "agp"), ("writer", "gk-mvlp")):
        shutil.copytree(here / "runs" / source, here / "runs" / name)
    torch.save({"model": published_networks.DETR().state_dict()}, here / "detr-r50.pth")
    tiny_models.owlv2(here / "models" / "owlv2")


def make_predictions(here: Path) -> None:
    """Predictions of our model and of others, in several formats, and copies of the truth."""
    make_all(here, PREDICTIONS)
    for name in ("agp", "transvg", "ours"):
        shutil.copy(here / "groundings.jsonl", here / f"{name}.jsonl")
    names = [json.loads(line)["phrase_id"] for line in (here / "test.jsonl").read_text().splitlines()]
    boxes = [{"phrase_id": name, "output": '[{"bbox_2d": [100, 200, 300, 400]}]'} for name in names]
    (here / "qwen.jsonl").write_text("".join(json.dumps(each) + "\n" for each in boxes))
    np.savez(here / "biovil.npz", **{name: np.pad(np.ones((4, 4)), 6) for name in names})
    for copy, name in (("boxes", "anatomy"), ("phrases", "test"), ("held_out", "test")):
        shutil.copy(here / f"{name}.jsonl", here / f"{copy}.jsonl")


def make_heads(here: Path) -> None:
    """Records of the downstream tasks, and heads that are trained on them."""
    label_images(here)
    do(here, "medground probe nih.jsonl --encoder runs/asg --images images -o probed.jsonl")
    mask_images(here)
    question_images(here)
    make_all(here, HEADS)


def make_inputs(here: Path) -> None:
    """A report, images, DICOM objects and a mask to predict for."""
    listed = (here / "list.jsonl").read_text().splitlines(keepends=True)
    (here / "images.jsonl").write_text("".join(listed[:3]))  # the images that `write` describes
    (here / "report.txt").write_text("FINDINGS: Right lower lobe opacity. No pneumothorax.\n")
    dicom_files.objects(here, here / "images")
    np.savez_compressed(here / "masks" / "image0.npz", np.ones((159, 64, 64), bool))
    shutil.copy(here / "images" / json.loads(listed[0])["path"], here / "image.png")


def label_images(here: Path) -> None:
    """Labels of the images in list.jsonl; those that the models were trained on are the training split."""
    seen = {json.loads(line)["subject_id"] for line in (here / "seen.jsonl").read_text().splitlines()}
    lines = []
    for number, line in enumerate((here / "list.jsonl").read_text().splitlines()):
        image = json.loads(line)
        kept = {key: image[key] for key in ("image_id", "subject_id", "path")}
        other = "val" if int(image["subject_id"][1:]) % 2 else "test"
        split = "train" if image["subject_id"] in seen else other
        lines.append(kept | {"labels": {"Edema": number // 2 % 2}, "split": split})
    (here / "nih.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))


def mask_images(here: Path) -> None:
    """A mask of each image in nih.jsonl, its left half; new.jsonl has those of the test split."""
    lines = []
    for line in (here / "nih.jsonl").read_text().splitlines():
        image = json.loads(line)
        del image["labels"]
        width, height = images.size(here / "images" / image["path"])
        counts = run_lengths.packed(np.arange(width)[None].repeat(height, 0) < width // 2)
        lines.append(image | {"width": width, "height": height, "category": "Pneumothorax", "counts": counts})
    (here / "masks.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    new = [each for each in lines if each["split"] == "test"]
    (here / "new.jsonl").write_text("".join(json.dumps(each) + "\n" for each in new))


def question_images(here: Path) -> None:
    """A question about each image in nih.jsonl; new-questions.jsonl has those of the test split."""
    lines = []
    for number, line in enumerate((here / "nih.jsonl").read_text().splitlines()):
        image = json.loads(line)
        question = {"question_id": str(number), "text": "Is there edema?", "answer_type": "closed"}
        answer = "yes" if image.pop("labels")["Edema"] else "no"
        lines.append(image | question | {"answer": answer})
    (here / "rad.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    new = [each for each in lines if each["split"] == "test"]
    (here / "new-questions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in new))


PUBLISHED = {  # names in the examples of the files in box_files
    "MS_CXR_T_temporal_image_classification_v1.0.0.csv": "progress.csv",
    "annotations_train.csv": "vindr.csv",
    "BBox_List_2017.csv": "nih.csv",
    "ChestX_Det_train.json": "det.json",
    "stage_2_train_labels.csv": "rsna.csv",
    "train-rle.csv": "siim.csv",
    "gt_segmentations_val.json": "localize.json",
    "grounded_reports_20240819.json": "grounded.json",
    "sizes.jsonl": "sizes.jsonl",
    "instances.json": "coco.json",
    "project-1.json": "label.json",
    "annotations.xml": "cvat.xml",
}

DOWNSTREAM = {  # those of the files in downstream_files
    "Data_Entry_2017.csv": "nih_labels.csv",
    "train.csv": "chexpert.csv",
    **{name: name for name in ("test_list.txt", "train_COVIDx9A.txt", "vqa_rad.json", "validate.json")},
    **{name: name for name in ("annotation.json", "valset.json")},
}


def make_foreign_files(here: Path, cohort: Path) -> None:
    """Published files that the phantom does not write: made of those that it does."""
    for name, small in PUBLISHED.items():
        (here / name).write_text(box_files.FILES[small])
    for name, small in DOWNSTREAM.items():
        (here / name).write_text(downstream_files.FILES[small])
    metadata = cohort / "mimic-cxr-jpg" / "mimic-cxr-2.0.0-metadata.csv"
    (here / "mimic_pair_questions.csv").write_text(downstream_files.about_a_study_of(metadata))
    with zipfile.ZipFile(here / "mimic-cxr-reports.zip", "w") as archive:
        for path in sorted((cohort / "mimic-cxr").rglob("*.txt")):
            archive.write(path, path.relative_to(cohort / "mimic-cxr"))
    with zipfile.ZipFile(here / "scene_graph.zip", "w") as archive:
        for path in sorted((cohort / "chest-imagenome").rglob("*_SceneGraph.json")):
            archive.write(path, f"scene_graph/{path.name}")
    (here / "mimic_cxr_sectioned.csv").write_text(
        "study,impression,findings,last_paragraph,comparison\ns50000000,No pneumothorax.,Clear lungs.,,\n"
    )
    anatomy = json.loads((cohort / "truth" / "regions.jsonl").read_text().splitlines()[0])
    image = anatomy["image_id"]
    numbers = "x1,y1,x2,y2,width,height,bbox_name,annot_id,original_x1,original_x2,original_y1,original_y2"
    (here / "gold_bbox_coordinate_annotations_1000images.csv").write_text(
        f"image_id,{numbers}\n{image},10,10,90,200,80,190,right lung,1,3,30,3,60\n"
    )


def make_masks(here: Path) -> None:
    """A lung for each image, as CXAS would leave it."""
    (here / "masks").mkdir()
    masks = np.zeros((159, 64, 64), bool)
    masks[135, 10:50, 8:28] = True  # its class "right lung"
    for path in (here / "images").rglob("*.jpg"):
        with Image.open(path) as image:
            drawn = masks[:, : image.height, : image.width]
        np.savez_compressed(here / "masks" / f"{path.stem}.npz", drawn)


def shell(folder: Path, line: str) -> subprocess.CompletedProcess:
    """Run a line of bash in the folder; `medground` is the one under test, in a process that is forked."""
    medground = f'medground() {{ {shlex.join(warm.python())} -m medground "$@"; }}'
    call = ["bash", "-o", "pipefail", "-c", f"{medground}\n{line}"]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("line", EXAMPLES)
def test_the_example_in_the_help_runs(folder, line, tmp_path):
    program = next((name for name in SHORT if line.startswith(name)), None)
    if "-o boxes.jsonl" in line:
        (folder / "boxes.jsonl").unlink(missing_ok=True)
    else:
        shutil.copy(folder / "anatomy.jsonl", folder / "boxes.jsonl")  # other examples write it
    short = f"{line} {SHORT[program]}" if program and " --head " not in line else line  # a head is trained
    if re.search(r"[|<>&;*$]", line):
        result = shell(folder, short)
        assert (result.returncode, "Traceback" in result.stderr) == (0, False), result.stderr
    else:
        make(folder, short)


def test_the_readme_has_pipes():
    assert any("align" in line for line in PIPES)


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in PIPES if "your-" not in line])
def test_a_pipe_in_the_readme_runs_and_stands_a_reader_that_leaves(folder, line):
    whole = shell(folder, line)
    assert whole.returncode == 0, whole.stderr
    left = shell(folder, f"set +o pipefail; {line} | head -1")
    assert (left.returncode, left.stderr) == (0, ""), left.stderr
    assert left.stdout.splitlines() == whole.stdout.splitlines()[:1]
