import csv
import gzip
import json

import box_files
import dicom_files
import downstream_files
import pytest
from click.testing import CliRunner
from imagenome_files import GOLD, IMAGE, LUNG, METADATA, drawn, graph
from mimic_files import SPLIT
from ms_cxr_files import ROWS, coco, table

from medground import jsonl, registry
from medground.cli.main import cli
from medground.records import Anatomy, Mask, Phrase, Question, Report


@pytest.fixture
def folder(tmp_path):
    """A little of each data set, as published."""
    reports = tmp_path / "files" / "p10" / "p10000032"
    reports.mkdir(parents=True)
    (reports / "s50414267.txt").write_text("FINDINGS: Clear.")
    graphs = tmp_path / "silver_dataset" / "scene_graph"
    graphs.mkdir(parents=True)
    own = graph(drawn("spine", 1, 2, 3, 4)) | {"attributes": [LUNG]}
    (graphs / f"{IMAGE}_SceneGraph.json").write_text(json.dumps(own))
    (graphs.parent / "splits").mkdir()
    (graphs.parent / "splits" / "train.csv").write_text(f",dicom_id\n0,{IMAGE}\n")
    for name, text in {
        "sectioned.csv": "study,impression,findings,last_paragraph,comparison\ns50414267,a,b,,\n",
        "metadata.csv": METADATA,
        "split.csv": SPLIT,
        "gold.csv": GOLD + f"{IMAGE}.dcm,1,2,3,4,2,2,spine,A,5,50,6,60\n",
        "ms.json": json.dumps(coco()),
    }.items():
        (tmp_path / name).write_text(text)
    box_files.write(tmp_path)
    downstream_files.write(tmp_path)
    (tmp_path / "ms.csv").write_bytes(table().getvalue())
    return tmp_path


def run(*args, **more):
    return CliRunner().invoke(cli, ["convert", *map(str, args)], **more)


COMMANDS = [
    (["mimic-reports", "{}/files"], Report, 1),
    (["mimic-sectioned", "{}/sectioned.csv"], Report, 1),
    (["mimic-jpg", "{}/metadata.csv", "--frontal-only"], Anatomy, 2),
    (["imagenome", "{}", "--metadata", "{}/metadata.csv", "--split", "train"], Anatomy, 1),
    (["imagenome-gold", "{}/gold.csv", "--metadata", "{}/metadata.csv"], Anatomy, 1),
    (["ms-cxr", "{}/ms.csv"], Phrase, 3),
    (["ms-cxr", "{}/ms.json", "--split", "test"], Phrase, 1),
]
COMMANDS += [
    (
        [name, *(f"{{}}/{each}" if "." in each else each for each in args.split())],
        Phrase,
        3 if name == "coco" else 1,
    )
    for name, args in box_files.CONVERT.items()
]
COMMANDS += [
    ([name, *(each if each.startswith("--") else f"{{}}/{each}" for each in args.split())], kind, count)
    for name, (args, kind, count) in downstream_files.CONVERT.items()
]
COMMANDS += [
    (["dicom-sr", "{}/reports"], Phrase, 1),
    (["dicom-seg", "{}/segmentations"], Phrase, 1),
    (["dicom-seg-masks", "{}/segmentations"], Mask, 1),
]
COMMANDS += [(["mimic-vqa", "{}/mimic_pair_questions.csv", "--metadata", "{}/metadata.csv"], Question, 1)]


@pytest.mark.parametrize(
    "args, kind, count", COMMANDS, ids=lambda each: each[0] if type(each) is list else ""
)
def test_each_kind_of_file_gives_records_that_we_can_read(args, kind, count, folder):
    if args[0].startswith("dicom"):
        dicom_files.objects(folder, folder / "objects")
    args = [each.format(folder) for each in args]
    written = folder / "out.jsonl"
    assert run(*args, "-o", written).exit_code == 0
    with written.open("rb") as stream:
        assert len(list(jsonl.read(stream, kind, jsonl.BadLines()))) == count
    shown = run(*args)
    assert (shown.exit_code, shown.stdout) == (0, written.read_text())


def test_every_kind_of_file_is_tested():
    assert {args[0] for args, _, _ in COMMANDS} == {*registry.DATASETS}


@pytest.mark.parametrize("name", ["ms.csv", "ms.json"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_table_is_read_from_stdin(name, pack, folder):
    result = run("ms-cxr", input=pack((folder / name).read_bytes()))
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 3)


def test_records_carry_their_split(folder):
    result = run("mimic-reports", folder / "files", "--split-table", folder / "split.csv", "--split", "train")
    assert json.loads(result.stdout)["split"] == "train"


def test_a_bad_row_ends_the_run_and_names_its_place(folder):
    bad = folder / "bad.csv"
    bad.write_bytes(table().getvalue().replace(b",300,", b",secret,", 1))
    result = run("ms-cxr", bad, "-o", folder / "out.jsonl")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {bad}:2: w: expected a number\n"
    assert not (folder / "out.jsonl").exists()


def test_with_rejects_the_run_goes_on_and_the_rows_are_kept_as_they_were(folder):
    bad = table().getvalue().replace(b",20,30,", b",20,secret,")
    result = run("ms-cxr", "--rejects", folder / "rejects.csv", input=bad)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    kept = (folder / "rejects.csv").read_text()
    assert next(csv.reader([kept]))[2] == ROWS[1][2]


def test_a_wrong_table_is_a_message(folder):
    result = run("ms-cxr", folder / "split.csv")
    assert result.exit_code == 1
    assert "no column 'category_name'" in result.stderr


def test_a_file_that_is_not_there_is_a_usage_error(folder):
    assert run("ms-cxr", folder / "nothing.csv").exit_code == 2
