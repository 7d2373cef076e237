"""Error paths over files whose every value is a marker: no message, log or run file quotes one."""

import gzip
import itertools
import json
import logging
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from dicom_files import dicom
from PIL import Image

from medground import jsonl, shipped
from medground.cli import messages
from medground.cli.main import cli
from medground.errors import BadRecord
from medground.records import Anatomy, Grounding, Pair, Phrase, Report, Sentence

MARKER = "Zqmark"
BAD = ("Zqmark", {"Zqmark": "Zqmark"}, None, 1e308, "Zqmark\0\u202e")
OWN = {"study_id": "ZqmarkStudy", "subject_id": "ZqmarkPatient"}
IMAGE = {"image_id": "ZqmarkImage", "path": "a.png", "width": 64, "height": 64} | OWN
TRIPLET = {
    "region": "Zqmark", "finding": "Zqmark", "existence": "present", "finding_span": [0, 6],
    "region_span": [7, 9], "cue": "Zqmark", "cue_span": [1, 2], "region_source": "none", "rule": "Zqmark",
}  # fmt: skip
SENTENCE = OWN | {
    "sentence_id": "ZqmarkSentence", "section": "findings", "text": "Zqmark effusion",
    "start": 0, "end": 15,
    "triplets": [TRIPLET],
}  # fmt: skip
ANATOMY = IMAGE | {"model": "Zqmark", "regions": [{"name": "left lung", "box": [1, 1, 30, 30], "score": 0.9}]}
PAIR = IMAGE | {
    "sentence_id": "Zqmark", "text": "Zqmark", "box": [1, 1, 20, 20], "regions": ["left lung"],
    "region_boxes": [[1, 1, 20, 20]], "triplets": [TRIPLET], "rule": "Zqmark",
}  # fmt: skip
PHRASE = IMAGE | {"phrase_id": "ZqmarkPhrase", "text": "Zqmark", "boxes": [[1, 1, 20, 20]], "split": "Zqmark"}
GROUNDING = {
    "image_id": "ZqmarkImage", "phrase_id": "ZqmarkPhrase", "text": "Zqmark", "present": 0.5,
    "boxes": [{"box": [1, 1, 9, 9], "score": 0.5}], "model": "Zqmark",
}  # fmt: skip
REPORT = OWN | {"text": "Zqmark effusion", "findings": "Zqmark"}
GOOD = {"sentence": SENTENCE, "anatomy": ANATOMY, "pair": PAIR, "phrase": PHRASE, "grounding": GROUNDING}
FEW = ("--bootstrap-samples", "100")
COMMANDS = [  # `in` is the file with invalid lines
    (REPORT, "parse-reports in"),
    (REPORT, "parse-reports in --output-format chexpert"),
    (SENTENCE, "align in --anatomy anatomy.jsonl"),
    (ANATOMY, "align sentence.jsonl --anatomy in"),
    (ANATOMY, "evaluate in --truth anatomy.jsonl --protocol anatomy"),
    (ANATOMY, "evaluate anatomy.jsonl --truth in --protocol anatomy"),
    (ANATOMY, "cache in --images empty -o run"),
    (ANATOMY, "detect-anatomy in --images . --masks masks.json --mask-format coco"),
    (PAIR, "pretrain in --images empty -o run"),
    (PHRASE, "finetune in --images empty -o run --negative-prob 0"),
    (PHRASE, "evaluate grounding.jsonl --truth in"),
    (PHRASE, "evaluate grounding.jsonl --truth in --split test"),
    (GROUNDING, "evaluate in --truth phrase.jsonl"),
]
ROWS = "Zqmark,Zqmark\nZqmark,Zqmark\n"
TABLES = {
    "headerless.csv": 'ZqmarkA,ZqmarkB,"No Zqmark effusion."\nZqmark,Zqmark,x\n',
    "known.csv": f"id,ZqmarkName\n{ROWS}",
    "cells.csv": "id,text\nZqmark,Zqmark,Zqmark\nZqmark\n",
    "quote.csv": 'id,text\nZqmark,"Zqmark\nZqmark,ok\n',
    "binary.csv": "id,text\nZqmark,Zqmark\0\n",
    "latin.csv": b"id,text\nZqmark,Zqmark\xe9\n",
    "header.csv": b"id,Zqmark\xe9\nZqmark,x\n",
    "utf16.csv": f"id,text\n{ROWS}".encode("utf-16"),
    "cr.csv": "id,text\rZqmark,Zqmark\r",
    "tab.tsv": "Zqmark\tZqmark\nZqmark\tZqmark\n",
    "one.txt": "FINDINGS: Zqmark\0 Zqmark",
    "list.json": '["Zqmark",',
    "object.json": '{"Zqmark": {"text": "Zqmark", "entities": {"Zqmark": {"tokens": "Zqmark"}}}}',
    "coco.json": json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.png", "width": "Zqmark", "height": 64}],
            "annotations": [{"id": 1, "image_id": "Zqmark", "category_id": 1, "bbox": ["Zqmark"] * 4}],
            "categories": [{"id": "Zqmark", "name": "Zqmark"}],
        }
    ),
    "jpg.csv": "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns\n" + "Zqmark," * 5 + "Zqmark\n",
    "ms.csv": "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split\n"
    + "Zqmark," * 10 + "Zqmark\n",
}  # fmt: skip
READERS = [
    "parse-reports in", "parse-reports in --text-column foo",
    "parse-reports in --section-columns findings=foo",
    "parse-reports in --input-format radgraph", "parse-reports in --input-format chest-imagenome",
    "convert mimic-sectioned in", "convert mimic-jpg in", "convert mimic-jpg in --split-table in",
    "convert imagenome in", "convert imagenome-gold in", "convert ms-cxr in",
    "convert ms-cxr in --split test",
    "convert imagenome z.zip", "convert mimic-reports z.zip",
    "align in --anatomy in",
    "detect-anatomy in --images . --masks masks.json --mask-format coco",
    "detect-anatomy a.png --images . --masks in --mask-format coco",
    "evaluate grounding.jsonl --truth in", "evaluate in --truth phrase.jsonl --input-format csv",
    "evaluate in --truth phrase.jsonl --input-format coco",
    "evaluate in --truth phrase.jsonl --input-format maira-2",
    "evaluate in --truth phrase.jsonl --input-format radvlm", "render in --output-format csv",
    "evaluate in --truth phrase.jsonl --input-format qwen-vl",
    "evaluate in --truth phrase.jsonl --input-format grounding-dino",
    "evaluate in --truth phrase.jsonl --input-format radfact",
    "evaluate in --truth phrase.jsonl --input-format chexbench",
    "convert predictions in --phrases phrase.jsonl --input-format florence-2",
    "convert predictions in --phrases phrase.jsonl --input-format coco --coco-images in",
    "render grounding.jsonl --phrases in --output-format csv", "join-shards in in -o out",
    "join-shards sentence.jsonl --like in -o out", "finetune in --images empty -o run --negative-prob 0",
    "train-detector in --images empty -o run",
    "finetune phrase.jsonl --images empty -o run --val-subjects in --test-subjects in",
    "parse-reports phrase.jsonl --config in.toml",
]  # fmt: skip


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """A folder with an image, masks and a valid file of each kind of record."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save("a.png")
    Path("empty").mkdir()
    Path("masks.json").write_text('{"images": [], "annotations": [], "categories": []}')
    for name, record in GOOD.items():
        write(f"{name}.jsonl", record)


def write(name: str, *records: object) -> str:
    lines = (each if isinstance(each, str) else json.dumps(each) for each in records)
    Path(name).write_text("".join(f"{line}\n" for line in lines))
    return name


def changed(record: dict):
    """Yield the record without each of its keys, and with each wrong value in each of them.

    So do the first of the records in its lists.
    """
    for key in sorted(record.keys() - {"path"}):  # messages name files
        yield {name: value for name, value in record.items() if name != key}
        yield from (record | {key: value} for value in BAD)
        if isinstance(record[key], list) and isinstance(record[key][0], dict):
            yield from (record | {key: [each]} for each in changed(record[key][0]))
    for boxes in ([[1, 2, 3]], [[5, 5, 1, 1]], [["Zqmark"] * 4], [[900, 900, 999, 999]]):
        yield record | {"boxes": boxes, "regions": [{"name": "Zqmark", "box": boxes[0], "score": "Zqmark"}]}


def check(*args: str, given: str | None = None) -> str:
    """Run the command and return its messages, which quote no value; a crash is shown as by the program."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = CliRunner().invoke(cli, ["-vv", *args], input=given)
    crash = result.exception
    more = messages.trace(crash) if crash and not isinstance(crash, SystemExit) else ""
    shown = result.stderr + more
    assert MARKER.lower() not in shown.lower(), (args, shown[:2000])
    return shown


KINDS = [
    (Report, REPORT), (Sentence, SENTENCE), (Anatomy, ANATOMY), (Pair, PAIR), (Phrase, PHRASE),
    (Grounding, GROUNDING),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "record"), KINDS, ids=[kind.__name__ for kind, _ in KINDS])
def test_each_wrong_value_is_the_only_fault_of_its_record(kind, record):
    jsonl.record_of(record, kind)
    for bad in changed(record):
        try:
            jsonl.record_of(bad, kind)
        except BadRecord as error:
            assert MARKER not in str(error)


@pytest.mark.slow
@pytest.mark.parametrize(("record", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_invalid_records_are_not_quoted(record, command):
    words = ["in.jsonl" if word == "in" else word for word in command.split()]
    words += FEW if words[0] == "evaluate" else ()
    junk = ('{"a": "Zqmark"', '"Zqmark"', "Zqmark", '["Zqmark"]', '{"Zqmark": "Zqmark"}')
    for number, bad in enumerate((*list(changed(record))[::5], *junk)):
        write("in.jsonl", *((bad, record) if number % 2 else (bad,)))
        check(*words)
    write("in.jsonl", *changed(record), *junk)
    check(*words, "--rejects", "rejected")
    for path in Path().rglob("*"):
        if path.name in ("metrics.jsonl", "config.toml", "config.json", "tokenizer.json"):
            assert MARKER.lower() not in path.read_text().lower(), path


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_cells_of_tables_are_not_quoted(name):
    text = TABLES[name]
    content = text if isinstance(text, bytes) else text.encode()
    Path(name).write_bytes(content)
    Path("in.toml").write_bytes(content)
    with zipfile.ZipFile("z.zip", "w") as archive:
        archive.writestr("a_SceneGraph.json", content)
        archive.writestr("files/p10/p10000032/s50414267.txt", content)
    for command in READERS:
        words = [name if word == "in" else word for word in command.split()]
        check(*words, *(FEW if words[0] == "evaluate" else ()))
        if words[0] in ("parse-reports", "convert"):
            check(*words, "--rejects", "rejected")
    for packed in (content, gzip.compress(content)):
        Path(f"{name}.gz").write_bytes(packed)
        check("convert", "mimic-jpg", f"{name}.gz")


TAGS = {
    "PatientName": "Zqmark^Zqmark", "PatientID": "Zqmark", "PatientBirthDate": "Zqmark",
    "StudyDate": "Zqmark",
    "StudyTime": "Zqmark", "AccessionNumber": "ZqmarkZqmarkZqmark", "StudyInstanceUID": "1.Zqmark",
    "SeriesInstanceUID": "Zqmark.2", "StudyID": "Zqmark", "ReferringPhysicianName": "Zqmark=Zqmark=a=b=c",
    "ViewPosition": "Zqmark", "StudyDescription": "Zqmark", "SpecificCharacterSet": "Zqmark",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tag", ["StudyInstanceUID", "all", "window", "cut"])
def test_header_values_of_dicom_files_are_not_quoted(tag):
    pytest.importorskip("pydicom")
    import pydicom.config

    monkey = pydicom.config.settings
    before, monkey.writing_validation_mode = monkey.writing_validation_mode, pydicom.config.IGNORE
    try:
        tags = TAGS if tag in ("all", "window", "cut") else {tag: TAGS[tag]}
        path = dicom("image.dcm", np.arange(4096, dtype=np.uint16).reshape(64, 64), **tags)
        content = Path(path).read_bytes()
    finally:
        monkey.writing_validation_mode = before
    if tag == "cut":
        Path(path).write_bytes(content[:-5000])
    if tag == "window":
        data = pydicom.dcmread(path)
        for name in ("WindowCenter", "WindowWidth"):
            data.add_new(name, "LO", "Zqmark")
        data.save_as(path)
    shown = check("ground", "--model", "example", "image.dcm", "effusion", "-o", "found.jsonl")
    check("ground", "--model", "example", "image.dcm", "effusion", "--output-format", "dicom-sr", "-o", "sr")
    check("ground", "--model", "example", "image.dcm", "effusion", "--html", "page.html", "-o", "found.jsonl")
    model = ("--model", str(shipped.DETECTOR))
    check("detect-anatomy", "image.dcm", "--images", ".", *model, "-o", "regions.jsonl", "--rejects", "bad")
    for name in ("page.html", "found.jsonl", "regions.jsonl"):
        if Path(name).exists():
            assert MARKER not in Path(name).read_text().replace('"view":"Zqmark"', ""), (name, shown)


def test_a_traceback_shows_places_and_no_value():
    def fail():
        try:
            int("Zqmark")
        except ValueError as error:
            raise KeyError("Zqmark") from error

    with pytest.raises(KeyError) as caught:
        fail()
    shown = messages.trace(caught.value)
    assert MARKER not in shown.replace('int("Zqmark")', "").replace('KeyError("Zqmark")', "")
    assert "ValueError: (not shown" in shown and "KeyError: (not shown" in shown and "line " in shown


def test_a_crash_of_the_program_quotes_no_value():
    code = (
        "import sys, click\nfrom medground import __main__\nfrom medground.cli.main import cli\n"
        "import threading, warnings\n"
        "@cli.command()\n@click.argument('word')\ndef fail(word):\n"
        "    thread = threading.Thread(target=int, args=(word,)); thread.start(); thread.join()\n"
        "    warnings.warn(word); raise ValueError(word)\n"
        "sys.argv = ['medground', '-vv', 'fail', 'Zq' + 'mark']\n__main__.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "ValueError: (not shown" in done.stderr
    assert "UserWarning at " in done.stderr and MARKER not in done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "def fail():\n    try: yield\n    finally: int('Zq' + 'mark')\nnext(fail())",
        "class A:\n    def __del__(self): int('Zq' + 'mark')\nA()",
        "import atexit\natexit.register(int, 'Zq' + 'mark')",
    ],
    ids=["a generator", "a finalizer", "at exit"],
)
def test_an_error_that_python_ignores_quotes_no_value(code):
    hook = "from medground.cli import messages\nmessages.hide_values_of_crashes()\n"
    done = subprocess.run([sys.executable, "-c", hook + code], capture_output=True, text=True)
    assert "Ignored: Traceback" in done.stderr and "ValueError: (not shown" in done.stderr
    assert MARKER not in done.stderr


@pytest.mark.slow
def test_an_image_of_another_size_is_refused_without_its_id():
    write("in.jsonl", PHRASE | {"width": 640, "height": 9})
    said = check("ground", "--phrases", "in.jsonl", "--model", "example")
    assert "a.png: is 64 x 64 pixels, its phrase says 640 x 9" in said


@pytest.mark.parametrize("name", ["pydicom", "PIL.TiffImagePlugin", "highdicom.sr", "urllib3.connectionpool"])
def test_logs_of_libraries_are_not_shown_with_vv(name, capsys):
    CliRunner().invoke(cli, ["-vv", "doctor", "--help"])
    messages.configure()
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger(name).debug("Zqmark")
    if not name.startswith("urllib3"):
        logging.getLogger(name).warning("Zqmark")
    logging.getLogger("medground.x").debug("shown")
    assert "shown" in (err := capsys.readouterr().err) and MARKER not in err


def test_every_marker_is_found_by_the_check():
    with pytest.raises(AssertionError):
        check("parse-reports", "ZqmarkMissing.csv")


def test_the_list_of_commands_covers_all_readers_of_records():
    assert {command.split()[0] for _, command in COMMANDS} >= {"align", "evaluate", "finetune", "pretrain"}
    assert len(list(itertools.chain(COMMANDS, READERS))) > 40
