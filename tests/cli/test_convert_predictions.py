"""medground convert predictions: any format becomes groundings that evaluate scores in the same way."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from medground.cli.main import cli

PHRASE = {
    "image_id": "i0",
    "phrase_id": "p0",
    "path": "i0.png",
    "width": 2000,
    "height": 1000,
    "text": "opacity",
}
OUTPUT = '```json\n[{"bbox_2d": [118, 491, 432, 753]}, {"bbox_2d": [1, 2, 30, 40]}]\n```'


@pytest.fixture
def convert(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    phrases = [PHRASE | {"boxes": [[236, 491, 864, 753]]}, PHRASE | {"phrase_id": "p1", "boxes": None}]
    Path("phrases.jsonl").write_text("".join(json.dumps(each) + "\n" for each in phrases))

    def run(text: str, kind: str, *flags: str):
        args = ["convert", "predictions", "-", "--phrases", "phrases.jsonl", "--input-format", kind, *flags]
        return CliRunner().invoke(cli, args, input=text)

    return run


def test_text_of_a_model_becomes_groundings_in_pixels(convert):
    result = convert(json.dumps({"phrase_id": "p0", "output": OUTPUT}), "qwen-vl", "-o", "out.jsonl")
    assert result.exit_code == 0 and "no prediction for 1 of 2 phrases" in result.stderr
    (line,) = map(json.loads, Path("out.jsonl").read_text().splitlines())
    assert (line["image_id"], line["phrase_id"], line["text"]) == ("i0", "p0", "opacity")
    assert [each["box"] for each in line["boxes"]] == [[236, 491, 864, 753], [2, 2, 60, 40]]
    assert (line["present"], line["model"]) == (1, "qwen-vl")
    args = ["evaluate", "out.jsonl", "--truth", "phrases.jsonl", "--bootstrap-samples", "100"]
    assert json.loads(CliRunner().invoke(cli, args).stdout.splitlines()[0])["value"] == 1


def test_the_best_box_comes_first_and_a_phrase_may_have_none(convert):
    rows = "phrase_id,x1,y1,x2,y2,score\np0,.1,.1,.2,.2,.3\np0,.118,.491,.432,.753,.9\np1,,,,,\n"
    lines = [*map(json.loads, convert(rows, "csv", "--coordinates", "normalised").stdout.splitlines())]
    assert [each["score"] for each in lines[0]["boxes"]] == [0.9, 0.3]
    assert lines[1]["boxes"] == [] and lines[1]["present"] == 0


def test_groundings_keep_what_they_have(convert):
    own = {
        "image_id": "i0",
        "phrase_id": "p0",
        "text": "x",
        "boxes": [],
        "present": 0.3,
        "model": "m",
        "coverage": 0.9,
    }
    assert json.loads(convert(json.dumps(own), "jsonl").stdout) == own


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("phrase_id,x1,y1,x2,y2,score\np0,1,2,30,40,7.5\n", (), "score: expected numbers from 0 to 1"),
        ("phrase_id,x1,y1,x2,y2\np0,1,2,30,40\n", ("--coordinates", "x"), "x: not a frame"),
        ("phrase_id,x1,y1,x2,y2\np7,1,2,30,40\n", (), "<stdin>:2: phrase_id: the truth has no such phrase"),
    ],
)
def test_faults_leave_no_file(convert, text, flags, message):
    result = convert(text, "csv", *flags, "-o", "out.jsonl")
    assert result.exit_code == 1 and message in result.stderr and not Path("out.jsonl").exists()


def test_bad_lines_go_to_rejects(convert):
    rows = "phrase_id,x1,y1,x2,y2\np0,1,2,30,40\np1,9,9,1,1\n"
    result = convert(rows, "csv", "--rejects", "bad.csv", "-o", "out.jsonl")
    assert result.exit_code == 0 and Path("bad.csv").read_text() == "p1,9,9,1,1\n"
